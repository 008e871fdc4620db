"""A server without sockets: its turns one at a time, with what comes in and what goes out in lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from streamer.filter import PoseFilter
from streamer.frames import Pose
from streamer.server.config import ServerConfig
from streamer.server.server import Server
from streamer.wire.protocol import Encoder, decode, decode_map

IN, OUT, CONTROL = "in", "out", "control"


class StandInSockets:
    """Looks like ``streamer.server.sockets.Sockets``; ``published`` has what went out."""

    frames_in, poses_out, control = IN, OUT, CONTROL

    def __init__(self) -> None:
        self.waiting: dict[str, list[bytes]] = {IN: [], OUT: []}
        self.published: list[bytes] = []
        self.endpoints: dict[str, str] = {}

    def poll(self, wait_ms: int) -> dict[Any, int]:
        return {name: 1 for name, messages in self.waiting.items() if messages}

    def received(self, socket: str, most: int) -> Iterator[bytes]:
        some = self.waiting[socket][:most]
        self.waiting[socket] = self.waiting[socket][most:]
        yield from some

    def publish(self, message: bytes) -> None:
        self.published.append(message)

    def failed_handshakes(self) -> Counter[str]:
        return Counter()

    def of_kind(self, kind: bytes) -> list[bytes]:
        return [message for message in self.published if message.startswith(kind)]


class TurnByTurn:
    """A server on stand-in sockets."""

    def __init__(self, pose_filter: PoseFilter, **settings: Any) -> None:
        self.sockets = StandInSockets()
        self.server = Server(ServerConfig(rehearse=False, **settings), pose_filter)
        self.server.open_on(self.sockets)  # type: ignore[arg-type]

    def turn(self, messages: Iterable[bytes] = ()) -> None:
        """One turn, guarded as the server's loop does it."""
        self.sockets.waiting[IN] += messages
        self.server.guarded_turn()

    def subscriptions(self, *messages: bytes) -> None:
        self.sockets.waiting[OUT] += messages
        self.server.guarded_turn()

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """A request, and its reply."""
        reply: dict[str, Any] = decode_map(self.server._control.answer(Encoder().map({"cmd": command, **fields}))[1])
        return reply

    def poses(self) -> list[Pose]:
        """What has been published so far, and not been asked for yet."""
        messages, self.sockets.published = self.sockets.of_kind(b"pose."), []
        return [pose for pose in map(decode, messages) if isinstance(pose, Pose)]

    def end(self) -> None:
        """As the server ends: what is kept of the actors is written."""
        self.server.keep_skeletons()

    @property
    def books(self) -> dict[str, int]:
        return self.server.metrics.books()

    def value(self, name: str) -> int:
        return self.server.metrics.value(name)


def balanced(books: dict[str, int]) -> bool:
    return books["messages_in"] == sum(n for name, n in books.items() if name != "messages_in")
