"""Send frames to a server: what a capture program uses.

Example:
    with FrameSender("tcp://127.0.0.1:5750") as sender:
        sender.send(Frame(actor="a", seq=n, t_ns=now_ns(), positions=xyz))
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import zmq

from streamer.frames import Frame
from streamer.wire.protocol import Encoder
from streamer.wire.security import ClientKeys

# Frames that ZeroMQ keeps for a server that is away for a moment; beyond that the newest are dropped, and counted.
# Those of many actors come in one burst, so it grows with them.
LEAST_HWM, HWM_AN_ACTOR = 64, 4
MOST_ACTORS = 4096  # that are counted: names may be ever new ones


class FrameSender:
    """A publisher connected to the server's input. Not thread-safe.

    ``sent`` counts the messages that ZeroMQ took, ``dropped`` the others: no server was there, or its queue was full.

    Args:
        wait_s: how long to wait for a server, before which frames would be lost; ``joined`` says whether one was there.
        curve: keys for a server that runs with --curve; one that does not let them in is never ``joined``.
        inside: the context of a server of this process, which is then at INSIDE_IN.
    """

    def __init__(
        self, endpoint: str, wait_s: float = 2.0, curve: ClientKeys | None = None,
        inside: zmq.Context[Any] | None = None,
    ) -> None:  # fmt: skip
        self._encoder = Encoder()
        self._actors: set[str] = set()
        context: zmq.Context[Any] = zmq.Context() if inside is None else inside
        self._own = context if inside is None else None
        self._socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)  # not PUB: it tells us when the server has joined
        self._socket.setsockopt(zmq.SNDHWM, LEAST_HWM)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)  # to be told of a full queue; sending never waits for it
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        if curve is not None:
            curve.apply(self._socket)
        self._socket.connect(endpoint)
        self.joined = bool(self._socket.poll(int(wait_s * 1000)))
        self.sent = self.dropped = 0

    def send(self, frame: Frame) -> None:
        """Send one frame; never blocks, drops and counts when no server listens."""
        if frame.actor not in self._actors and len(self._actors) < MOST_ACTORS:
            self._actors.add(frame.actor)
            self._socket.setsockopt(zmq.SNDHWM, max(LEAST_HWM, HWM_AN_ACTOR * len(self._actors)))
        self.send_bytes(self._encoder.frame(frame))

    def send_bytes(self, message: bytes) -> None:
        """Send one encoded message as it is."""
        if not self.joined:
            self.joined = bool(self._socket.poll(0))
        if self.joined:
            try:
                self._socket.send(message, zmq.NOBLOCK)
                self.sent += 1
                return
            except zmq.Again:
                pass
        self.dropped += 1

    def close(self) -> None:
        self._socket.close(200)
        if self._own is not None:
            self._own.term()

    def __enter__(self) -> FrameSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
