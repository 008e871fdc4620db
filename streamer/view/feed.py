"""What a running server publishes, into an inbox: poses, and the frames as they came in.

One thread empties the socket as fast as it fills, and leaves the rest to whoever draws: nothing gets old.
"""

from __future__ import annotations

from threading import Event, Thread

import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ProtocolError
from streamer.view.inbox import Inbox
from streamer.wire.protocol import decode, topic
from streamer.wire.security import ClientKeys

MOST_ACTORS = 12  # shown at once
GONE_NS = 12 * SECOND_NS  # without a skeleton, which the server repeats every 5 s: another one may take the place
MOST_KNOWN = 10_000  # names


class Feed:
    """Fills ``inbox`` between ``with`` and its end.

    Args:
        endpoint: the server's output.
        actor: only this one; None: the first dozen that appear, the others are counted in ``left_out``.
        frames: the input, too.
    """

    def __init__(
        self,
        endpoint: str,
        inbox: Inbox,
        actor: str | None = None,
        frames: bool = True,
        curve: ClientKeys | None = None,
    ) -> None:
        self._endpoint, self._inbox, self._actor, self._curve = endpoint, inbox, actor, curve
        self._kinds = ("pose", "frame") if frames else ("pose",)
        self._followed: dict[str, int] = {}  # actor -> when a skeleton of it came last
        self._others: dict[str, int] = {}
        self._end = Event()
        self._thread = Thread(target=self._run, name="view-feed", daemon=True)
        self.heard_ns = now_ns()  # the last word of the server's

    @property
    def left_out(self) -> int:
        """How many actors are there that are not shown."""
        now = now_ns()
        return sum(now - heard_ns < GONE_NS for heard_ns in list(self._others.values()))

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
            if self._curve is not None:
                self._curve.apply(socket)
            if self._actor is not None:
                self._follow(socket, self._actor)
            else:
                socket.subscribe(b"skeleton.")  # repeated every 5 s, and at once to who subscribes: names the actors
            socket.connect(self._endpoint)
            while not self._end.is_set():
                if socket.poll(100):
                    self._take(socket, socket.recv())

    def _take(self, socket: zmq.Socket[bytes], message: bytes) -> None:
        self.heard_ns = now_ns()
        if not message.startswith(b"skeleton."):
            self._inbox.put_message(message)
            return
        try:
            actor = getattr(decode(message), "actor", "")
        except ProtocolError:
            return
        if actor not in self._followed:
            for name in [n for n, heard_ns in self._followed.items() if self.heard_ns - heard_ns > GONE_NS]:
                self._leave(socket, name)
        if actor in self._followed or len(self._followed) < MOST_ACTORS:
            self._others.pop(actor, None)
            self._follow(socket, actor)
        elif actor in self._others or len(self._others) < MOST_KNOWN:
            self._others[actor] = self.heard_ns

    def _follow(self, socket: zmq.Socket[bytes], actor: str) -> None:
        if actor not in self._followed:
            for kind in self._kinds:
                socket.subscribe(topic(kind, actor))
        self._followed[actor] = self.heard_ns

    def _leave(self, socket: zmq.Socket[bytes], actor: str) -> None:
        del self._followed[actor]
        for kind in self._kinds:
            socket.unsubscribe(topic(kind, actor))
