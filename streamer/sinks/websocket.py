"""Poses over WebSocket: every client gets the newest of each actor when it is ready for it, and waits for no other.

A client that reads slowly holds one pose an actor here and a few in its socket, no more: the next one that it is ready
for is the newest there is.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus
from json import dumps
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgpack  # type: ignore[import-untyped]
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from streamer.errors import ConfigError
from streamer.frames import Pose
from streamer.server.metrics import Histogram
from streamer.sinks.following import MAX_ACTORS
from streamer.sinks.sink import Inside
from streamer.sinks.subscriber import PoseSubscriber
from streamer.wire.endpoints import INSIDE_OUT
from streamer.wire.json_lines import pose_fields

MOST_CLIENTS = 64
STALLED_S = 30.0  # a client that takes nothing for so long is let go: others may want its place
_HOLDS_BYTES = 16 * 1024  # of one client, beyond which sending waits: a few poses
_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_FORMATS = ("json", "msgpack")
_QUIET = logging.getLogger("hpstm.websockets")  # what is no WebSocket is answered, and no news
_QUIET.setLevel(logging.CRITICAL)
_ASKS = "/?format=json|msgpack&actor=NAME&full=1"


class Wish(NamedTuple):
    """What a client asked for in its address."""

    format: str = "json"
    actor: str | None = None
    full: bool = False


def wish_of(path: str) -> Wish:
    """What ``/?format=msgpack&actor=NAME&full=1`` asks for, each of it optional. Raises ValueError, naming the key."""
    asked = dict(parse_qsl(urlsplit(path).query, keep_blank_values=True))
    for key in asked.keys() - set(Wish._fields):
        raise ValueError(f"{key}: not known; write {_ASKS}")
    kind, full = asked.get("format", "json"), asked.get("full", "0")
    if kind not in _FORMATS:
        raise ValueError(f"format: {' or '.join(_FORMATS)}")
    if full not in ("0", "1"):
        raise ValueError("full: 0 or 1")
    return Wish(kind, asked.get("actor"), full == "1")


class _Client:
    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.waiting: dict[str, str | bytes] = {}  # actor -> its newest message that was not sent yet
        self.some = asyncio.Event()


class Hub:
    """The clients of one WebSocket server; belongs to one event loop.

    Args:
        origins: web pages from there may connect, beside those of this machine's own web servers ("null": files).
        say: takes one line of text for each origin that is refused.
    """

    def __init__(self, origins: Sequence[str] = (), say: Callable[[str], None] = print) -> None:
        self._origins, self._say = frozenset(origins), say
        self._refused: set[str] = set()
        self._clients: set[_Client] = set()

    @property
    def clients(self) -> int:
        return len(self._clients)

    def publish(self, poses: Sequence[Pose]) -> None:
        """Gives poses, in their order, to every client that wants them; never waits."""
        for pose in poses:
            made: dict[tuple[str, bool], str | bytes] = {}
            for client in self._clients:
                wish = client.wish
                if wish.actor in (None, pose.actor):
                    kind = (wish.format, wish.full)
                    if kind not in made:
                        made[kind] = _message(pose, wish)
                    client.waiting[pose.actor] = made[kind]
                    if len(client.waiting) > MAX_ACTORS:
                        client.waiting.pop(next(iter(client.waiting)))
                    client.some.set()

    async def serve(self, host: str, port: int) -> Server:
        """A server that is open. Raises ConfigError when it cannot be."""
        try:
            server = await serve(
                self._handle, host, port, process_request=self._admit, compression=None, max_size=4096,
                write_limit=_HOLDS_BYTES, close_timeout=1.0, logger=_QUIET,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(
                f"--host {host} --port {port}: cannot listen there ({error.strerror or error})"
            ) from error
        for listener in server.sockets:  # what is accepted inherits it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _HOLDS_BYTES)
        return server

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None: may connect; else the answer that says why not."""
        origin = ", ".join(request.headers.get_all("Origin"))  # one, or none from what is no page
        if origin and origin not in self._origins and not _LOOPBACK.fullmatch(origin):
            if origin not in self._refused and len(self._refused) < 100:
                self._refused.add(origin)
                self._say(f"refused a web page of {origin!r}; to let it in: --origin {origin}")
            return connection.respond(HTTPStatus.FORBIDDEN, f"pages of {origin} may not connect: --origin\n")
        if len(self._clients) >= MOST_CLIENTS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_CLIENTS} clients are the most\n")
        try:
            wish_of(request.path)
        except ValueError as error:
            return connection.respond(HTTPStatus.BAD_REQUEST, f"{error}\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        client = _Client(wish_of(connection.request.path))
        self._clients.add(client)
        sending = asyncio.create_task(_send(connection, client))
        try:
            async for _ in connection:  # what it says means nothing; that it went is heard here
                pass
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(client)
            sending.cancel()


async def _send(connection: ServerConnection, client: _Client) -> None:
    try:
        while True:
            await client.some.wait()
            client.some.clear()
            while client.waiting:
                message = client.waiting.pop(next(iter(client.waiting)))
                await asyncio.wait_for(connection.send(message), STALLED_S)
    except ConnectionClosed:
        return
    except asyncio.TimeoutError:
        connection.transport.abort()


def _message(pose: Pose, wish: Wish) -> str | bytes:
    fields = pose_fields(pose, wish.full)
    packed: bytes | str = dumps(fields) if wish.format == "json" else msgpack.packb(fields, use_single_float=True)
    return packed


async def run(
    hub: Hub, host: str, port: int, take: Callable[[], Sequence[Pose] | None], ready: Callable[[int], None]
) -> None:
    """Serves until there is nothing more to take, or it is cancelled.

    Args:
        take: waits a moment for poses, in a thread of its own; None: that was all.
        ready: called with the port once it is open.
    """
    loop = asyncio.get_running_loop()
    server = await hub.serve(host, port)
    async with server:
        ready(next(iter(server.sockets)).getsockname()[1])
        while (poses := await loop.run_in_executor(None, take)) is not None:
            hub.publish(poses)


class WebSocketSink:
    """The sink of a server of this process.

    Args:
        port: of this machine; 0: any that is free.
        say: takes one line of text: where it is ready, and what is refused.
        origins: web pages from there may connect, too, as to ``Hub``.
    """

    name, subscriptions = "websocket", 1

    def __init__(self, port: int, say: Callable[[str], None], origins: Sequence[str] = ()) -> None:
        self._port, self._say, self._hub = port, say, Hub(origins, say)
        self.latency = Histogram()

    def run(self, server: Inside, stopped: Callable[[], bool]) -> None:
        with PoseSubscriber(INSIDE_OUT, inside=server.context) as subscriber:

            def take() -> list[Pose] | None:
                return None if stopped() else subscriber.newest()

            def ready(on: int) -> None:
                self._say(f"ready websocket=ws://127.0.0.1:{on}")

            asyncio.run(run(self._hub, "127.0.0.1", self._port, take, ready))

    def lost(self) -> dict[str, int]:
        return {}  # a client that is slow gets the newest
