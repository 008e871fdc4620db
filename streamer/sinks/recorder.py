"""What a server publishes, into a file: a recording that ``hpstm replay`` plays, or the motion alone, by the suffix."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from model.prepare import BY_BLENDER, SUFFIXES, ClipError, check_out
from streamer.errors import ConfigError
from streamer.server.metrics import Histogram
from streamer.sinks.files import ACTOR, convert_recording
from streamer.sinks.recording import SUFFIX, Recorded, RecordingWriter, kinds_of, record_into
from streamer.sinks.sink import Inside
from streamer.wire.endpoints import INSIDE_OUT
from streamer.wire.security import ClientKeys


class Recorder:
    """A new file that is being recorded; one of motion is made of a recording beside it, at the end.

    Args:
        frames: the input as well, which a replay needs.
        fps, actor: of a file of motion, see ``convert_recording``.
    Raises:
        ConfigError: the file exists, cannot be made, or is of a kind that we do not write.
    """

    name = "record"

    def __init__(self, file: Path, frames: bool = True, fps: float | None = None, actor: str | None = None) -> None:
        self._file, self._frames, self._fps, self._actor = file, frames, fps, actor
        self._recorded: Recorded | None = None
        self._motion = _is_motion(file)
        if not self._motion and (fps, actor) != (None, None):
            raise ConfigError("--fps and --actor are for files of motion, such as take.bvh; a recording holds all")
        self._writer = RecordingWriter(self._raw if self._motion else file)
        self.latency: Histogram | None = None
        self.subscriptions = len(kinds_of(frames)) + 1  # and the server's books

    @property
    def _raw(self) -> Path:
        return self._file.with_name(self._file.name.replace(ACTOR, "actors") + SUFFIX)

    def record(
        self, endpoint: str, stopped: Callable[[], bool], seconds: float | None = None,
        curve: ClientKeys | None = None, inside: zmq.Context[Any] | None = None,
    ) -> None:  # fmt: skip
        """Records until ``stopped()``. Raises RecordingError: the disk is full, or gone."""
        self._recorded = record_into(self._writer, endpoint, self._frames, seconds, stopped, curve, inside)

    def run(self, server: Inside, stopped: Callable[[], bool]) -> None:
        self.record(INSIDE_OUT, stopped, inside=server.context)

    def lost(self) -> dict[str, int]:
        return {}  # is said at the end

    def finish(self) -> Iterator[str]:
        """Makes the file of motion, if it is to be one; what is to be said, line by line.

        Raises:
            ConfigError: it cannot be made; the recording is kept.
        """
        if self._recorded is None:
            return
        yield str(self._recorded)
        if not self._motion:
            return
        raw = self._raw
        kept = f"the recording is kept, for: hpstm convert {shlex.quote(str(raw))} {shlex.quote(str(self._file))}"
        try:
            said = convert_recording(raw, self._file, self._fps, self._actor)
        except ConfigError as error:
            raise ConfigError(f"{error}; {kept}") from error
        except KeyboardInterrupt:
            yield kept
            raise
        raw.unlink()
        yield from said

    def close(self) -> None:
        """The file is closed; one with nothing in it is taken away again."""
        self._writer.close()
        if not self._writer.messages and self._recorded is None:
            self._writer.path.unlink(missing_ok=True)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _is_motion(file: Path) -> bool:
    """Whether a file is to be one of motion; any other name is that of a recording, whatever its suffix.

    Raises:
        ConfigError: of a kind that we do not write, or it exists.
    """
    if file.suffix.lower() not in (*SUFFIXES, *BY_BLENDER):
        return False
    try:
        check_out(file)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    return True
