"""Recordings: the wire messages themselves, appended to a file, so that a replay is the same bytes again.

Layout: the line ``HPSTM-RECORDING 1``, then per message: uint32 length, int64 received_ns (both little-endian), the
message. A recording cut off in the middle (a crash) is read up to its last whole message.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, ProtocolError, RecordingError
from streamer.frames import Frame, Pose
from streamer.wire.protocol import BOOKS, MAX_MESSAGE_BYTES, Books, Skeleton, decode
from streamer.wire.security import ClientKeys

MAGIC = b"HPSTM-RECORDING 1\n"
SUFFIX = ".hpstm"
_HEAD = struct.Struct("<Iq")


class RecordingWriter:
    """Writes messages to a new file ``path``, one after the other, each at once; never overwrites.

    Raises:
        ConfigError: the file exists, or cannot be made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.messages = 0
        try:
            self._file = self.path.open("xb", buffering=0)
        except FileExistsError:
            raise ConfigError(f"{self.path} exists; it is left as it is, give another name") from None
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._append(MAGIC)

    def write(self, message: bytes, received_ns: int) -> None:
        """Appends a message.

        Raises:
            RecordingError: the disk is full, or gone. The file then ends with the last message that is whole.
        """
        self._append(_HEAD.pack(len(message), received_ns) + message)
        self.messages += 1

    def _append(self, data: bytes) -> None:
        start, left = self._file.tell(), memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            said = f"{self.path}: {error.strerror or error}; the first {self.messages} messages are safe in it"
            raise RecordingError(said) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


@dataclass
class Recording:
    """A recording read whole; ``truncated`` says that its tail was cut, ``bad`` counts messages that do not decode."""

    frames: list[Frame] = field(default_factory=list)
    poses: list[Pose] = field(default_factory=list)
    skeletons: list[Skeleton] = field(default_factory=list)
    truncated: bool = False
    bad: int = 0


def is_recording(path: str | Path) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_messages(path: str | Path) -> Iterator[tuple[int, bytes] | None]:
    """(received_ns, message) for each whole message; a final None when the tail was cut off."""
    with Path(path).open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ConfigError(f"{path} is not an HPSTM recording")
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                yield None
                return
            length, received_ns = _HEAD.unpack(head)
            message = file.read(length) if length <= MAX_MESSAGE_BYTES else b""
            if len(message) < length:
                yield None
                return
            yield received_ns, message


def read_recording(path: str | Path) -> Recording:
    """What a recording holds, in the order it came; a frame's ``received_ns`` is the recorder's."""
    recording = Recording()
    for item in read_messages(path):
        if item is None:
            recording.truncated = True
            break
        try:
            message = decode(item[1])
        except ProtocolError:
            recording.bad += 1
            continue
        if isinstance(message, Frame):
            message.received_ns = item[0]
            recording.frames.append(message)
        elif isinstance(message, Pose):
            recording.poses.append(message)
        elif isinstance(message, Skeleton):
            recording.skeletons.append(message)
    return recording


class Gaps:
    """What a server published and this reader did not get, by kind, from the books that the server sends.

    Between two of them it should have seen as many messages of a kind as their difference, if it takes all of the kind.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.lost = dict.fromkeys(kinds, 0)
        self.gaps = 0  # times between two books in which something was lost
        self.restarts = 0  # of the server: what went meanwhile nobody knows
        self._seen = dict.fromkeys(kinds, 0)
        self._last: Books | None = None

    def saw(self, kind: str) -> None:
        self._seen[kind] += 1

    def balance(self, books: Books) -> None:
        """Take in what the server says it has published until now."""
        last, self._last = self._last, books
        if last is not None:
            grown = {kind: getattr(books, f"{kind}s") - getattr(last, f"{kind}s") for kind in self._seen}
            if min(grown.values()) < 0:
                self.restarts += 1
            else:
                missed = {kind: max(0, n - self._seen[kind]) for kind, n in grown.items()}
                self.gaps += any(missed.values())
                for kind, n in missed.items():
                    self.lost[kind] += n
        self._seen = dict.fromkeys(self._seen, 0)


@dataclass(frozen=True)
class Recorded:
    """What ``record`` did: messages written and, as far as the server's books tell, lost on the way, by kind."""

    path: Path
    counts: dict[str, int]
    lost: dict[str, int]
    gaps: int
    restarts: int

    def __str__(self) -> str:
        said = f"{self.path}: " + _counted(self.counts)
        lost = {kind: n for kind, n in self.lost.items() if n}
        said += f"; lost on the way, in {self.gaps} gaps: {_counted(lost)}" if lost else "; no gaps"
        return said + (f"; the server was restarted {self.restarts} times" if self.restarts else "")


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in numbers.items())


def record(
    endpoint: str, path: str | Path, frames: bool, seconds: float | None, stopped: Callable[[], bool],
    curve: ClientKeys | None = None,
) -> Recorded:  # fmt: skip
    """As ``record_into``, a new file that is made here. Raises ConfigError: it exists, or cannot be made."""
    with RecordingWriter(path) as writer:
        return record_into(writer, endpoint, frames, seconds, stopped, curve)


def record_into(
    writer: RecordingWriter, endpoint: str, frames: bool, seconds: float | None, stopped: Callable[[], bool],
    curve: ClientKeys | None = None, inside: zmq.Context[Any] | None = None,
) -> Recorded:  # fmt: skip
    """Write what a server publishes until ``stopped()`` or ``seconds`` are over, and what is there then.

    Args:
        frames: the input frames as well, which the server passes on to whoever subscribes to them.
        inside: the context of a server of this process, which is then at INSIDE_OUT.
    Returns:
        How many messages of each kind were written, and how many were lost until the server's last word on it, which
        it has once a second.
    Raises:
        RecordingError: the file cannot be written to any more.
    """
    kinds = kinds_of(frames)
    counts, gaps = dict.fromkeys(kinds, 0), Gaps(kinds)
    deadline = None if seconds is None else now_ns() + int(seconds * SECOND_NS)
    with contextlib.ExitStack() as stack:
        context: zmq.Context[Any] = stack.enter_context(zmq.Context()) if inside is None else inside
        socket: zmq.Socket[bytes] = stack.enter_context(context.socket(zmq.SUB))
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        if curve is not None:
            curve.apply(socket)
        for kind in kinds:
            socket.subscribe(f"{kind}.")
        socket.subscribe(BOOKS)  # last: when these come, all the others do
        socket.connect(endpoint)
        while True:
            last = stopped() or (deadline is not None and now_ns() >= deadline)
            if not socket.poll(0 if last else 100):
                if last:
                    break
                continue
            message = socket.recv()
            kind = message.partition(b".")[0].decode("ascii", "replace")
            if kind in counts:
                writer.write(message, now_ns())
                counts[kind] += 1
                gaps.saw(kind)
            elif message.startswith(BOOKS):
                with contextlib.suppress(ProtocolError):
                    gaps.balance(cast(Books, decode(message)))
    return Recorded(writer.path, counts, gaps.lost, gaps.gaps, gaps.restarts)


def kinds_of(frames: bool) -> list[str]:
    """The kinds of messages that are recorded."""
    return ["pose", "skeleton", *(["frame"] if frames else [])]
