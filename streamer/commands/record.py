"""``hpstm record``: what a server publishes, into a file that ``hpstm replay`` plays, or one of animation."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.commands.convert import check_fps
from streamer.commands.options import Key, Out, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_OUT

if TYPE_CHECKING:
    from streamer.wire.security import ClientKeys

_STOP = (signal.SIGINT, signal.SIGTERM)


def record(
    file: Path,
    /,
    *,
    out_endpoint: Out = DEFAULT_OUT,
    key: Key = None,
    server_key: ServerKey = None,
    poses_only: bool = False,
    seconds: float | None = None,
    fps: float | None = None,
    actor: str | None = None,
) -> int:
    """Write what a server publishes to a file: a recording for replay, or the motion alone, by the suffix.

    Args:
        file: The recording to write; or .bvh, .glb, .vrma, .npz, .jsonl: see hpstm convert.
        poses_only: Leave the input out: then no replay.
        seconds: Stop after so long [s]; none: on Ctrl-C.
        fps: Frame rate of a file of motion; none: the usual one next to the poses'.
        actor: The one to write into a file of motion.
    """
    check_fps(fps)
    curve = client_keys(key, server_key, out_endpoint)
    if not _is_motion(file):
        if (fps, actor) != (None, None):
            raise ConfigError("--fps and --actor are for files of motion, such as take.bvh; a recording holds all")
        print(_record(file, out_endpoint, poses_only, seconds, curve))
        return 0
    return _record_motion(file, out_endpoint, poses_only, seconds, curve, fps, actor)


def _is_motion(file: Path) -> bool:
    """Whether a file is to be one of motion; any other name is that of a recording, whatever its suffix.

    Raises:
        ConfigError: of a kind that we do not write, or it exists.
    """
    from model.prepare import BY_BLENDER, SUFFIXES, ClipError, check_out

    if file.suffix.lower() not in (*SUFFIXES, *BY_BLENDER):
        return False
    try:
        check_out(file)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    return True


def _record(file: Path, endpoint: str, poses_only: bool, seconds: float | None, curve: ClientKeys | None) -> str:
    """Records until Ctrl-C; what is to be said of it."""
    from streamer.sinks import recording

    stop: list[int] = []
    before = [signal.signal(number, lambda *_: stop.append(1)) for number in _STOP]
    report = recording.record(endpoint, file, frames=not poses_only, seconds=seconds, stopped=lambda: bool(stop),
                              curve=curve)  # fmt: skip
    for number, handler in zip(_STOP, before, strict=True):
        signal.signal(number, handler)
    return str(report)


def _record_motion(
    file: Path, endpoint: str, poses_only: bool, seconds: float | None, curve: ClientKeys | None, fps: float | None,
    actor: str | None,
) -> int:  # fmt: skip
    """Records beside ``file`` and makes ``file`` of that; the recording is kept where this fails."""
    from streamer.sinks.files import ACTOR, convert_recording
    from streamer.sinks.recording import SUFFIX

    raw = file.with_name(file.name.replace(ACTOR, "actors") + SUFFIX)
    print(_record(raw, endpoint, poses_only, seconds, curve), flush=True)
    kept = f"the recording is kept, for: hpstm convert {shlex.quote(str(raw))} {shlex.quote(str(file))}"
    try:
        said = convert_recording(raw, file, fps, actor)
    except ConfigError as error:
        raise ConfigError(f"{error}; {kept}") from error
    except KeyboardInterrupt:
        print(kept, file=sys.stderr)
        raise
    raw.unlink()
    print("\n".join(said))
    return 0
