"""Send frames to a server, or to several that share the actors: what a capture program uses.

Example:
    with FrameSender("tcp://127.0.0.1:5750") as sender:
        sender.send(Frame(actor="a", seq=n, t_ns=now_ns(), positions=xyz))
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import zmq

from streamer.clock import now_ns
from streamer.frames import Frame
from streamer.sources.link import Link
from streamer.wire.placement import endpoints_of, ranked
from streamer.wire.protocol import Encoder
from streamer.wire.security import ClientKeys

# Many actors' frames come in one burst; so the queue, beyond which the newest are dropped and counted, grows with them.
HWM_AN_ACTOR = 4
MOST_ACTORS = 4096  # that are counted, and whose ranking is remembered: names may be ever new ones
LOOK_NS = 5_000_000  # how often it is seen to who has come or gone


class FrameSender:
    """A publisher connected to the server's input. Not thread-safe.

    ``sent`` counts the messages that ZeroMQ took, ``dropped`` the others: no server was there, or its queue was full.
    What is on its way to a server that dies is lost with it.

    Args:
        endpoint: the server's input.
        wait_s: how long to wait for a server, before which frames would be lost; ``joined`` says whether one was there.
            Of several: for all of them.
        curve: keys for a server that runs with --curve; one that does not let them in is never ``joined``. Several
            servers have the same key.
        inside: the context of a server of this process, which is then at INSIDE_IN.
        servers: instead of ``endpoint``, the inputs of several servers. Each actor goes to one of them, chosen by its
            name; is that one away, to another. The order does not matter. docs/many-actors.md.
    Raises:
        ConfigError: neither or both of ``endpoint`` and ``servers`` are given, or a server twice.
    """

    def __init__(
        self, endpoint: str | None = None, wait_s: float = 2.0, curve: ClientKeys | None = None,
        inside: zmq.Context[Any] | None = None, servers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._servers = endpoints_of(endpoint, servers)
        self._encoder = Encoder()
        self._actors: set[str] = set()
        self._rankings: dict[str, tuple[int, ...]] = {}
        context: zmq.Context[Any] = zmq.Context() if inside is None else inside
        self._own = context if inside is None else None
        self._links = [Link(context, one, curve, watched=endpoint is None) for one in self._servers]
        end_ns = now_ns() + int(wait_s * 1e9)
        for link in self._links:
            link.look(max(0, (end_ns - now_ns()) // 1_000_000), settled=True)
        self._looked_ns = now_ns()
        self.dropped = 0

    @property
    def joined(self) -> bool:
        """Is, or was, a server there?"""
        return any(link.joined for link in self._links)

    @property
    def sent(self) -> int:
        """Messages that ZeroMQ took."""
        return sum(link.sent for link in self._links)

    def server_of(self, actor: str) -> str | None:
        """The endpoint that this actor's frames go to now; None: no server is there."""
        link = self._link_of(actor)
        return None if link is None else link.endpoint

    def send(self, frame: Frame) -> None:
        """Send one frame; never blocks, drops and counts when no server listens."""
        if frame.actor not in self._actors and len(self._actors) < MOST_ACTORS:
            self._actors.add(frame.actor)
            for link in self._links:
                link.room_for(HWM_AN_ACTOR * len(self._actors))
        self._send(frame.actor, self._encoder.frame(frame))

    def send_bytes(self, message: bytes) -> None:
        """Send one encoded message as it is."""
        name = message.partition(b"\0")[0].partition(b".")[2]
        self._send(name.decode("utf-8", "replace"), message)

    def _send(self, actor: str, message: bytes) -> None:
        link = self._link_of(actor)
        if link is None or not link.send(message):
            self.dropped += 1

    def _link_of(self, actor: str) -> Link | None:
        """The first of the actor's ranking that is there for a while already, else the first that is there."""
        if len(self._links) == 1:
            self._links[0].look()
            return self._links[0] if self._links[0].joined else None
        now = now_ns()
        if now - self._looked_ns >= LOOK_NS or not self.joined:
            self._looked_ns = now
            for link in self._links:
                link.look()
        here = [link for n in self._ranking(actor) if (link := self._links[n]).joined]
        return next((link for link in here if link.settled(now)), here[0] if here else None)

    def _ranking(self, actor: str) -> tuple[int, ...]:
        ranking = self._rankings.get(actor)
        if ranking is None:
            ranking = ranked(actor, self._servers)
            if len(self._rankings) < MOST_ACTORS:
                self._rankings[actor] = ranking
        return ranking

    def close(self) -> None:
        for link in self._links:
            link.close()
        if self._own is not None:
            self._own.term()

    def __enter__(self) -> FrameSender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
