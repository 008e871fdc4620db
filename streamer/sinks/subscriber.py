"""Read poses from a server, latest only: however long the reader was away, the next pose it gets is fresh.

How: one SUB socket per actor with CONFLATE, whose queue is one message that ZeroMQ's own I/O thread keeps replacing.
A high-water mark would do the opposite, keeping the oldest messages and dropping the newest. What is left is a process
that was stopped altogether: its kernel buffers hold old poses, which are recognised by their age and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
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
MOMENT_S = 0.1  # after which it is asked whether to stop
# An actor of whom nothing came for this long, of the time that somebody was reading, is gone: the server repeats the
# skeleton of each that is there every 5 s.
GONE_NS = 12 * SECOND_NS
MOST_KNOWN = 16 * MAX_ACTORS  # names that are remembered, with their skeletons
RESYNC_NS = SECOND_NS  # a remote clock that makes everything stale for this long has jumped


class PoseSubscriber:
    """Poses of one actor, or of all; ``skeletons`` maps an actor to its newest Skeleton. Not thread-safe.

    Of all: who is gone for some time is forgotten, so that ever new names can come and go.

    Args:
        endpoint: the server's output, for example tcp://127.0.0.1:5751.
        actor: only this one; None: all, found by their skeleton messages.
        every: True: every pose in order (to record or to score), bounded by ZeroMQ's queue, age not bounded.
        stale_s: in latest-only mode, poses published longer ago than this are dropped, and counted in ``stale``.
        curve: keys for a server that runs with --curve; one that does not let them in sends nothing.
        clock: the server's clock, measured over its control socket; without, one of another machine is estimated by the
            poses' own delays: their age is then that beyond the least.
        inside: the context of a server of this process, which is then at INSIDE_OUT.
    """

    def __init__(
        self, endpoint: str, actor: str | None = None, every: bool = False, stale_s: float = 0.1,
        curve: ClientKeys | None = None, clock: HostClock | None = None, inside: zmq.Context[Any] | None = None,
    ) -> None:  # fmt: skip
        self._endpoint, self._measured = endpoint, clock
        self._curve = curve
        self._every = every
        self._stale_ns = int(stale_s * SECOND_NS)
        # One machine, one clock: published stamps can be compared as they are. Else the offset is estimated.
        self._clock = None if is_local(endpoint) else ClockMap()
        self._resync_ns: int | None = None
        self.skeletons: dict[str, Skeleton] = {}
        self.stale = 0
        self._context: zmq.Context[Any] = zmq.Context() if inside is None else inside
        self._own = self._context if inside is None else None
        self._poller = zmq.Poller()
        self._pose_sockets: dict[str, zmq.Socket[bytes]] = {}
        self._ready: list[zmq.Socket[bytes]] = []
        self._reads_all = actor is None
        self._read_ns = self._now_ns = now_ns()  # time spent reading, and until when that is counted
        self._heard_ns: dict[str, int] = {}  # of each actor, in time spent reading; in order of it
        prefixes = [b"skeleton."] if actor is None else [topic("skeleton", actor)]
        if every:
            prefixes.append(b"pose." if actor is None else topic("pose", actor))
        self._news = self._open(prefixes)
        if actor is not None and not every:
            self._follow(actor)

    def receive(self, timeout_s: float | None = None) -> Pose | None:
        """The next pose; None when none came within ``timeout_s`` (None: wait for ever)."""
        deadline = None if timeout_s is None else now_ns() + int(timeout_s * SECOND_NS)
        while True:
            while self._ready:
                pose = self._read(self._ready.pop())
                if pose is not None:
                    return pose
            self._forget_who_is_gone()
            left_ms = 1000 if deadline is None else max(0, -(-(deadline - now_ns()) // 1_000_000))
            self._ready = [socket for socket, _ in self._poller.poll(min(left_ms, 1000))]
            if not self._ready and deadline is not None and now_ns() >= deadline:
                return None

    def __iter__(self) -> Iterator[Pose]:
        return self.poses(lambda: False)

    def poses(self, stopped: Callable[[], bool]) -> Iterator[Pose]:
        """Poses as they come until ``stopped()``, and those that are there then."""
        while True:
            last = stopped()
            pose = self.receive(0.0 if last else MOMENT_S)
            if pose is not None:
                yield pose
            elif last:
                return

    def newest(self) -> list[Pose]:
        """What is there, at most one pose of each actor; waits a moment when nothing is."""
        first = self.receive(MOMENT_S)
        poses = {} if first is None else {first.actor: first}
        while poses and len(poses) < MAX_ACTORS:
            pose = self.receive(0.0)
            if pose is None:
                break
            poses[pose.actor] = pose
        return list(poses.values())

    def close(self) -> None:
        for socket in (self._news, *self._pose_sockets.values()):
            socket.close(0)
        if self._own is not None:
            self._own.term()

    def __enter__(self) -> PoseSubscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _read(self, socket: Any) -> Pose | None:
        try:
            message = decode(socket.recv(zmq.NOBLOCK))
        except (zmq.Again, ProtocolError):
            return None
        if isinstance(message, (Skeleton, Pose)):
            self._heard(message.actor)
        if isinstance(message, Skeleton):
            self.skeletons[message.actor] = message
            if not self._every:
                self._follow(message.actor)
            return None
        if not isinstance(message, Pose) or (not self._every and self._is_stale(message)):
            return None
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

    def _is_stale(self, pose: Pose) -> bool:
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
        self.stale += 1
        if self._clock is not None and measured_ns is None:
            self._resync_ns = now if self._resync_ns is None else self._resync_ns
            if now - self._resync_ns > RESYNC_NS:
                self._clock.reset()
        return True

    def _follow(self, actor: str) -> None:
        if actor in self._pose_sockets:
            return
        if len(self._pose_sockets) >= MAX_ACTORS:
            oldest = next(name for name in self._heard_ns if name in self._pose_sockets)
            if self._read_ns - self._heard_ns[oldest] < QUIET_NS:
                return  # a crowd that is all there: the first ones stay
            self._forget(oldest)
        self._pose_sockets[actor] = self._open([topic("pose", actor)], conflate=True)

    def _heard(self, actor: str) -> None:
        if self._reads_all:
            self._heard_ns.pop(actor, None)
            self._heard_ns[actor] = self._read_ns

    def _forget_who_is_gone(self) -> None:
        now = now_ns()
        self._read_ns += min(now - self._now_ns, SECOND_NS)  # whoever was away for long has not listened meanwhile
        self._now_ns = now
        while self._heard_ns:
            actor, heard_ns = next(iter(self._heard_ns.items()))
            if self._read_ns - heard_ns < GONE_NS and len(self._heard_ns) <= MOST_KNOWN:
                return
            self._forget(actor)

    def _forget(self, actor: str) -> None:
        self._heard_ns.pop(actor, None)
        self.skeletons.pop(actor, None)
        socket = self._pose_sockets.pop(actor, None)
        if socket is not None:
            if socket in self._ready:
                self._ready.remove(socket)
            self._poller.unregister(socket)
            socket.close(0)

    def _open(self, prefixes: list[bytes], conflate: bool = False) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
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
        return socket
