"""A subscriber's connection to one server: its sockets, its clock, and of whom it has heard.

One SUB socket per actor with CONFLATE, whose queue is one message that ZeroMQ's own I/O thread keeps replacing. A
high-water mark would do the opposite, keeping the oldest messages and dropping the newest. What is left is a process
that was stopped altogether: its kernel buffers hold old poses, which are recognised by their age and dropped.
"""

from __future__ import annotations

from typing import Any

import zmq

from streamer.clock import SECOND_NS, ClockMap, Offset, now_ns
from streamer.errors import ProtocolError
from streamer.frames import Pose
from streamer.wire.control import HostClock
from streamer.wire.endpoints import is_local
from streamer.wire.protocol import Skeleton, decode, topic
from streamer.wire.security import ClientKeys

MAX_ACTORS = 256  # one connection each; a newcomer takes the place of one who is quiet
QUIET_NS = SECOND_NS
# An actor of whom nothing came for this long, of the time that somebody was reading, is gone: the server repeats the
# skeleton of each that is there every 5 s.
GONE_NS = 12 * SECOND_NS
MOST_KNOWN = 16 * MAX_ACTORS  # names that are remembered, with their skeletons
RESYNC_NS = SECOND_NS  # a remote clock that makes everything stale for this long has jumped
CONNECT_MS = 2000  # then a host that was away is tried again


class Following:
    """The sockets of one server. Not thread-safe.

    Args:
        endpoint, actor, every, stale_s, curve, clock, inside: as PoseSubscriber has them.
        poller: where its sockets are registered as long as they are open.
        whose: likewise, with this object.
    """

    def __init__(
        self, endpoint: str, actor: str | None, every: bool, stale_s: float, curve: ClientKeys | None,
        clock: HostClock | None, inside: zmq.Context[Any] | None, poller: zmq.Poller, whose: dict[Any, Following],
    ) -> None:  # fmt: skip
        self._endpoint, self._every, self._curve, self._measured = endpoint, every, curve, clock
        self._stale_ns = int(stale_s * SECOND_NS)
        # One machine, one clock: published stamps can be compared as they are. Else the offset is estimated.
        self._clock = None if is_local(endpoint) else ClockMap()
        self._resync_ns: int | None = None
        self._context: zmq.Context[Any] = zmq.Context() if inside is None else inside
        self._own = self._context if inside is None else None
        self._poller, self._whose = poller, whose
        self.pose_sockets: dict[str, zmq.Socket[bytes]] = {}
        self._forgotten: list[str] = []
        self._reads_all = actor is None
        self._read_ns = self._now_ns = now_ns()  # time spent reading, and until when that is counted
        self._heard_ns: dict[str, int] = {}  # of each actor, in time spent reading; in order of it
        prefixes = [b"skeleton."] if actor is None else [topic("skeleton", actor)]
        if every:
            prefixes.append(b"pose." if actor is None else topic("pose", actor))
        self._news = self._open(prefixes)
        if actor is not None and not every:
            self._follow(actor)

    def __contains__(self, actor: str) -> bool:
        """Was it heard of, and not forgotten since?"""
        return actor in self._heard_ns

    def take(self, socket: Any) -> Skeleton | Pose | None:
        """The message that waits on one of the sockets; None: nothing, or nothing that can be used."""
        try:
            message = decode(socket.recv(zmq.NOBLOCK))
        except (zmq.Again, ProtocolError):
            return None
        if not isinstance(message, (Skeleton, Pose)):
            return None
        if self._reads_all:
            self._heard_ns.pop(message.actor, None)
            self._heard_ns[message.actor] = self._read_ns
        if isinstance(message, Skeleton) and not self._every:
            self._follow(message.actor)
        return message

    @property
    def offset(self) -> Offset | None:
        """The server's clock minus ours, and how far off that may be; of one machine 0. None: not known."""
        if self._measured is not None:
            return self._measured.offset
        return Offset(0, 0) if self._clock is None else None

    def age_ns(self, pose: Pose) -> int | None:
        """How long ago a pose was published, as well as ``offset`` says it; None: not known."""
        offset = self.offset
        return None if offset is None else now_ns() + offset.ns - pose.published_ns

    def is_stale(self, pose: Pose) -> bool:
        """Was it published too long ago?"""
        now, measured_ns = now_ns(), self.age_ns(pose) if self._measured is not None else None
        if measured_ns is not None:
            age_ns = measured_ns
        elif self._clock is None:
            age_ns = now - pose.published_ns
        else:
            age_ns = self._clock.update(pose.published_ns, now)
        if age_ns <= self._stale_ns:
            self._resync_ns = None
            return False
        if self._clock is not None and measured_ns is None:
            self._resync_ns = now if self._resync_ns is None else self._resync_ns
            if now - self._resync_ns > RESYNC_NS:
                self._clock.reset()
        return True

    def forget_who_is_gone(self) -> list[str]:
        """To be called while reading. Returns who was forgotten since the last call."""
        now = now_ns()
        self._read_ns += min(now - self._now_ns, SECOND_NS)  # whoever was away for long has not listened meanwhile
        self._now_ns = now
        while self._heard_ns:
            actor, heard_ns = next(iter(self._heard_ns.items()))
            if self._read_ns - heard_ns < GONE_NS and len(self._heard_ns) <= MOST_KNOWN:
                break
            self._forget(actor)
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _follow(self, actor: str) -> None:
        if actor in self.pose_sockets:
            return
        if len(self.pose_sockets) >= MAX_ACTORS:
            oldest = next(name for name in self._heard_ns if name in self.pose_sockets)
            if self._read_ns - self._heard_ns[oldest] < QUIET_NS:
                return  # a crowd that is all there: the first ones stay
            self._forget(oldest)
        self.pose_sockets[actor] = self._open([topic("pose", actor)], conflate=True)

    def _forget(self, actor: str) -> None:
        self._heard_ns.pop(actor, None)
        self._forgotten.append(actor)
        socket = self.pose_sockets.pop(actor, None)
        if socket is not None:
            self._poller.unregister(socket)
            del self._whose[socket]
            socket.close(0)

    def _open(self, prefixes: list[bytes], conflate: bool = False) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        if conflate:
            socket.setsockopt(zmq.CONFLATE, 1)
        elif self._every:
            socket.setsockopt(zmq.RCVHWM, 100_000)
        if self._curve is not None:
            self._curve.apply(socket)
        for prefix in prefixes:
            socket.subscribe(prefix)
        socket.connect(self._endpoint)
        self._poller.register(socket, zmq.POLLIN)
        self._whose[socket] = self
        return socket

    def close(self) -> None:
        for socket in (self._news, *self.pose_sockets.values()):
            socket.close(0)
        if self._own is not None:
            self._own.term()
