"""Recordings: the wire messages themselves, appended to a file, so that a replay is the same bytes again.

Layout: the line ``HPSTM-RECORDING 1``, then per message: uint32 length, int64 received_ns (both little-endian), the
message. A recording cut off in the middle (a crash, a full disk) is read up to its last whole message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, ProtocolError
from streamer.frames import Frame, Pose
from streamer.wire.protocol import MAX_MESSAGE_BYTES, Skeleton, decode
from streamer.wire.security import ClientKeys

MAGIC = b"HPSTM-RECORDING 1\n"
SUFFIX = ".hpstm"
_HEAD = struct.Struct("<Iq")


class RecordingWriter:
    """Writes messages to a new file ``path``, one after the other; never overwrites."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("xb")
        except FileExistsError:
            raise ConfigError(f"{self.path} exists; it is left as it is, give another name") from None
        self._file.write(MAGIC)
        self.messages = 0

    def write(self, message: bytes, received_ns: int) -> None:
        self._file.write(_HEAD.pack(len(message), received_ns) + message)
        self.messages += 1

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
        else:
            recording.skeletons.append(message)
    return recording


def record(
    endpoint: str, path: str | Path, frames: bool, seconds: float | None, stopped: Callable[[], bool],
    curve: ClientKeys | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write what a server publishes to a new file until ``stopped()`` or ``seconds`` are over.

    Args:
        frames: the input frames as well, which the server passes on to whoever subscribes to them.
    Returns:
        How many messages of each kind were written.
    """
    kinds = ["pose", "skeleton", *(["frame"] if frames else [])]
    counts = dict.fromkeys(kinds, 0)
    deadline = None if seconds is None else now_ns() + int(seconds * SECOND_NS)
    with RecordingWriter(path) as writer, zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        if curve is not None:
            curve.apply(socket)
        for kind in kinds:
            socket.subscribe(f"{kind}.")
        socket.connect(endpoint)
        while not stopped() and (deadline is None or now_ns() < deadline):
            if not socket.poll(100):
                continue
            message = socket.recv()
            kind = message.partition(b".")[0].decode("ascii", "replace")
            if kind in counts:
                writer.write(message, now_ns())
                counts[kind] += 1
    return counts
