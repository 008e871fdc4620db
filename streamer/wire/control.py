"""The client's end of a server's control socket. PROTOCOL.md has the commands; server/control.py answers them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import zmq

from streamer.clock import SECOND_NS, Offset, Trip, now_ns, offset_of
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_CONTROL
from streamer.wire.protocol import Encoder, decode_map
from streamer.wire.security import ClientKeys

# A reply to status tells of every actor: some 100 bytes each.
MAX_REPLY_BYTES, MAX_REPLY_ACTORS = 16 * 1024 * 1024, 65536
AGAIN_NS, UNHEARD_NS = 10 * SECOND_NS, 60 * SECOND_NS  # who asks in vain waits for the time-out: more rarely


class ControlClient:
    """Asks one server. Not thread-safe.

    Args:
        endpoint: the server's control endpoint.
        timeout_s: how long a reply may take.
        curve: keys for a server that runs with --curve.
    """

    def __init__(
        self, endpoint: str = DEFAULT_CONTROL, timeout_s: float = 1.0, curve: ClientKeys | None = None
    ) -> None:
        self.endpoint, self._timeout_ms = endpoint, int(timeout_s * 1000)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.REQ_RELAXED, 1)  # a request that nobody answered does not end it;
        self._socket.setsockopt(zmq.REQ_CORRELATE, 1)  # its reply, should it still come, is no other's
        if curve is not None:
            curve.apply(self._socket)
        self._encode = Encoder().map
        self._socket.connect(endpoint)

    def ask(self, command: str, **fields: Any) -> dict[str, Any] | None:
        """The reply to one command, good or bad; None when no server answered in time (or none lets these keys in)."""
        self._socket.send(self._encode({"cmd": command, **fields}))
        if not self._socket.poll(self._timeout_ms):
            return None
        return decode_map(self._socket.recv(), MAX_REPLY_BYTES, MAX_REPLY_ACTORS)

    def status(self) -> dict[str, Any]:
        """What the server says of itself. Raises ConfigError as ``set_time`` does."""
        return self._do("status")

    def set_time(
        self, delay_s: float | None = None, predict_s: float | None = None, rate_hz: float | None = None
    ) -> dict[str, float]:
        """Have the poses be for another time, or go out at another rate; the server glides there.

        Args:
            delay_s, predict_s: as ``hpstm serve`` takes them; one ends the other. None for both: as it is.
            rate_hz: of the output clock, 0: a pose a frame. None: as it is.
        Returns:
            All three as they are now.
        Raises:
            ConfigError: nobody answers, or the server refuses; says why.
        """
        given = {"delay_s": delay_s, "predict_s": predict_s, "rate_hz": rate_hz}
        reply = self._do("set", **{name: value for name, value in given.items() if value is not None})
        return {name: float(reply[name]) for name in given}

    def clock(self, trips: int = 8) -> Offset | None:
        """The server's clock minus this process's; None when nobody answers in time. Takes so many round trips."""
        made = []
        for _ in range(trips):
            asked_ns = now_ns()
            reply = self.ask("clock")
            answered_ns = now_ns()
            if reply is None or type(reply.get("now_ns")) is not int:  # an older server does not know the question
                return None
            made.append(Trip(asked_ns, reply["now_ns"], answered_ns))
        return offset_of(made)

    def _do(self, command: str, **fields: Any) -> dict[str, Any]:
        reply = self.ask(command, **fields)
        if reply is None:
            raise ConfigError(f"no server answers at {self.endpoint}; say --control, and the keys of one with --curve")
        if not reply.get("ok"):
            raise ConfigError(str(reply.get("error", {}).get("message", "the server refuses")))
        return reply

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class HostClock:
    """How far a server's clock is from ours; measured again every ``AGAIN_NS``, since clocks drift by some 10 us/s."""

    def __init__(self, control: ControlClient) -> None:
        self._control, self._next_ns = control, now_ns()
        self._offset: Offset | None = None

    @property
    def offset(self) -> Offset | None:
        """None: nobody answers there. May take some round trips, or the client's time-out."""
        if now_ns() >= self._next_ns:
            self._offset = self._control.clock()
            self._next_ns = now_ns() + (AGAIN_NS if self._offset is not None else UNHEARD_NS)
        return self._offset
