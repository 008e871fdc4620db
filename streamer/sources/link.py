"""A sender's connection to one server's input, which knows whether the server is there.

One of several is watched: ZeroMQ then gives the connection up at once when it breaks, or when a heartbeat stays
unanswered, and says so as the end of the server's subscription. A single one is not: what it is sent waits for it.
"""

from __future__ import annotations

from typing import Any

import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.wire.security import ClientKeys

LEAST_HWM = 64  # messages that ZeroMQ keeps for a server that is away for a moment
LINGER_MS = 200  # that closing leaves to what is still queued
HEARTBEAT_MS, WATCHED_HEARTBEAT_MS, UNANSWERED_MS = 1000, 150, 450
AGAIN_MS, CONNECT_MS, HANDSHAKE_MS = 100, 2000, 5000  # of a watched one that is away: how it is tried again
SETTLED_NS = SECOND_NS  # one that came back is given its actors after this long: it may go again at once
JOIN = b"\x01"  # how the message of a subscription begins


class Link:
    """A publisher connected to one server. Not thread-safe.

    ``joined``: the server is there; of one that is not watched: it was. ``sent``: messages that ZeroMQ took.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str, curve: ClientKeys | None, watched: bool) -> None:
        self.endpoint, self.joined, self.sent = endpoint, False, 0
        self._watched, self._since_ns = watched, 0
        self._socket = context.socket(zmq.XPUB)  # XPUB, not PUB: it tells us when the server has joined
        self._socket.setsockopt(zmq.SNDHWM, LEAST_HWM)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)  # to be told of a full queue; sending never waits for it
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, WATCHED_HEARTBEAT_MS if watched else HEARTBEAT_MS)
        if watched:
            self._socket.setsockopt(zmq.IMMEDIATE, 1)
            self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, UNANSWERED_MS)
            self._socket.setsockopt(zmq.RECONNECT_IVL, AGAIN_MS)
            self._socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
            self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if curve is not None:
            curve.apply(self._socket)
        self._socket.connect(endpoint)

    def look(self, wait_ms: int = 0, settled: bool = False) -> None:
        """See whether the server has come or gone, waiting for its coming if need be.

        Args:
            settled: one that has come is settled at once: it was there before any actor was.
        """
        if self.joined and not self._watched:
            return
        while self._socket.poll(0 if self.joined else wait_ms):
            joined = self._socket.recv(zmq.NOBLOCK).startswith(JOIN)
            if joined and not self.joined:
                self._since_ns = 0 if settled else now_ns()
            self.joined = joined
            if joined and not self._watched:
                return

    def settled(self, now: int) -> bool:
        """Is the server there, and has it been for a while?"""
        return self.joined and (not self._since_ns or now - self._since_ns >= SETTLED_NS)

    def room_for(self, messages: int) -> None:
        """Have the queue hold as many."""
        self._socket.setsockopt(zmq.SNDHWM, max(LEAST_HWM, messages))

    def send(self, message: bytes) -> bool:
        """Whether ZeroMQ took it: a server is there, and its queue is not full. Never waits."""
        if not self.joined:
            return False
        try:
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self.sent += 1
        return True

    def close(self) -> None:
        """What ZeroMQ took is sent for a moment more."""
        self._socket.close(LINGER_MS)
