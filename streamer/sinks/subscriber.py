"""Read poses from a server, or from several, latest only: however long the reader was away, the next pose is fresh.

How that is: following.py, which has the sockets. Here is what is read from them, and whose word on an actor counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import zmq

from streamer.clock import SECOND_NS, Offset, now_ns
from streamer.errors import ConfigError
from streamer.frames import Pose
from streamer.sinks.following import MAX_ACTORS, Following
from streamer.wire.control import HostClock
from streamer.wire.placement import endpoints_of
from streamer.wire.protocol import Skeleton
from streamer.wire.security import ClientKeys

MOMENT_S = 0.1  # after which it is asked whether to stop
LEFT_NS = SECOND_NS  # a server that says nothing of an actor for this long has it no more, whatever its frames' times


class Held(NamedTuple):
    """Who has an actor: its last pose's server, when that pose's newest frame was captured, when it came."""

    server: Following
    captured_ns: int
    heard_ns: int

    def outdates(self, server: Following, pose: Pose, now: int) -> bool:
        """Is a pose of ``server`` one that rests on older frames than another server has of this actor?"""
        elsewhere = self.server is not server and now - self.heard_ns < LEFT_NS
        return elsewhere and pose.captured_ns <= self.captured_ns


class PoseSubscriber:
    """Poses of one actor, or of all; ``skeletons`` maps an actor to its newest Skeleton. Not thread-safe.

    Of all: who is gone for some time is forgotten, so that ever new names can come and go.

    Args:
        endpoint: the server's output, for example tcp://127.0.0.1:5751.
        actor: only this one; None: all, found by their skeleton messages.
        every: True: every pose in order (to record or to score), bounded by ZeroMQ's queue, age not bounded.
        stale_s: in latest-only mode, poses published longer ago than this are dropped, and counted in ``stale``.
        curve: keys for a server that runs with --curve; one that does not let them in sends nothing. Several servers
            have the same key.
        clock: the server's clock, measured over its control socket; without, one of another machine is estimated by the
            poses' own delays: their age is then that beyond the least.
        inside: the context of a server of this process, which is then at INSIDE_OUT.
        servers: instead of ``endpoint``, the outputs of several servers that share the actors; all are listened to,
            and an actor is read from whichever has it. What one still says of an actor that another has by now is
            dropped, and counted in ``stale``. docs/many-actors.md.
    Raises:
        ConfigError: neither or both of ``endpoint`` and ``servers`` are given, or ``clock`` with ``servers``.
    """

    def __init__(
        self, endpoint: str | None = None, actor: str | None = None, every: bool = False, stale_s: float = 0.1,
        curve: ClientKeys | None = None, clock: HostClock | None = None, inside: zmq.Context[Any] | None = None,
        servers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        if servers and clock is not None:
            raise ConfigError("clock is that of one server: leave it out where servers are given")
        self._every = every
        self.skeletons: dict[str, Skeleton] = {}
        self.stale = 0
        self._poller = zmq.Poller()
        self._whose: dict[Any, Following] = {}
        self._ready: list[Any] = []
        self._held: dict[str, Held] = {}
        self._servers = [
            Following(one, actor, every, stale_s, curve, clock, inside, self._poller, self._whose)
            for one in endpoints_of(endpoint, servers)
        ]

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
        for server in self._servers:
            server.close()

    def __enter__(self) -> PoseSubscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def offset(self) -> Offset | None:
        """The server's clock minus ours, and how far off that may be; of one machine 0. None: not known.

        Of several servers it is known where all are of this machine.
        """
        known = {server.offset for server in self._servers}
        return known.pop() if len(known) == 1 else None

    def age_ns(self, pose: Pose) -> int | None:
        """How long ago a pose was published, as well as its server's clock is known; None: not known."""
        held = self._held.get(pose.actor)
        return (self._servers[0] if held is None else held.server).age_ns(pose)

    def _read(self, socket: Any) -> Pose | None:
        server = self._whose.get(socket)
        message = None if server is None else server.take(socket)  # None: one of somebody who was forgotten just now
        if server is None or message is None:
            return None
        if isinstance(message, Skeleton):
            if not self._is_old_news(server, message):
                self.skeletons[message.actor] = message
            return None
        if (not self._every and server.is_stale(message)) or self._has_left(server, message):
            self.stale += 1
            return None
        return message

    def _has_left(self, server: Following, pose: Pose) -> bool:
        """Does another server have this actor by now? With --rate, the one before goes on coasting for a while."""
        if len(self._servers) == 1:
            return False
        held, now = self._held.get(pose.actor), now_ns()
        if held is not None and held.outdates(server, pose, now):
            return True
        self._held[pose.actor] = Held(server, pose.captured_ns, now)
        return False

    def _is_old_news(self, server: Following, skeleton: Skeleton) -> bool:
        """Is it what a server repeats of an actor that another one has by now?"""
        held, known = self._held.get(skeleton.actor), self.skeletons.get(skeleton.actor)
        elsewhere = held is not None and held.server is not server
        return elsewhere and known is not None and skeleton.version <= known.version

    def _forget_who_is_gone(self) -> None:
        for server in self._servers:
            for actor in server.forget_who_is_gone():
                if not any(actor in other for other in self._servers):
                    self.skeletons.pop(actor, None)
                    self._held.pop(actor, None)
