"""The control socket: one msgpack map in, one out (REP). Commands: status, reset, calibrate, shutdown.

A request is ``{"v": 1, "cmd": ..., "actor": ...}``; ``actor`` is for reset and calibrate, which take all without it.
The reply has ``ok``; when False, ``error`` says reason, field and message.
"""

from __future__ import annotations

from typing import Any, Protocol

import zmq

from streamer.errors import ProtocolError
from streamer.wire.protocol import Encoder, decode_map
from streamer.wire.security import ClientKeys

# A reply to status tells of every actor: some 100 bytes each.
MAX_REPLY_BYTES, MAX_REPLY_ACTORS = 16 * 1024 * 1024, 65536
COMMANDS = ("status", "reset", "calibrate", "shutdown")


class Controlled(Protocol):
    """What the control socket may do to a server."""

    def status(self) -> dict[str, Any]: ...
    def actor_names(self) -> list[str]: ...
    def reset(self, actor: str) -> None: ...
    def calibrate(self, actor: str) -> None: ...
    def stop(self) -> None: ...


class Control:
    """Answers requests; a bad one gets an error reply that names the field, and changes nothing."""

    def __init__(self, server: Controlled) -> None:
        self._server = server
        self._encode = Encoder().map

    def answer(self, request: bytes) -> tuple[str, bytes]:
        """(command, or "bad" when there was none; the reply's bytes)."""
        try:
            command, fields = self._run(decode_map(request))
            return command, self._encode({"ok": True, **fields})
        except ProtocolError as error:
            said = {"reason": error.reason, "field": error.field, "message": str(error)}
            return "bad", self._encode({"ok": False, "error": said})

    def _run(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        command = request.get("cmd")
        if command not in COMMANDS:
            raise ProtocolError("value:cmd", "cmd", f"cmd must be one of {', '.join(COMMANDS)}, not {command!r:.40}")
        if command == "status":
            return command, self._server.status()
        if command == "shutdown":
            self._server.stop()
            return command, {}
        actors = self._actors(request)
        for actor in actors:
            (self._server.reset if command == "reset" else self._server.calibrate)(actor)
        return str(command), {"actors": actors}

    def _actors(self, request: dict[str, Any]) -> list[str]:
        actor, known = request.get("actor"), self._server.actor_names()
        if actor is None:
            return known
        if actor not in known:
            raise ProtocolError("unknown_actor", "actor", f"no actor {actor!r:.80}; there are: {', '.join(known)}")
        return [actor]


def request(
    endpoint: str, command: str, timeout_s: float = 1.0, curve: ClientKeys | None = None, **fields: Any
) -> dict[str, Any] | None:
    """Send one command; the reply, or None when no server answered in time (or none that lets these keys in)."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if curve is not None:
            curve.apply(socket)
        socket.connect(endpoint)
        socket.send(Encoder().map({"cmd": command, **fields}))
        if not socket.poll(int(timeout_s * 1000)):
            return None
        return decode_map(socket.recv(), MAX_REPLY_BYTES, MAX_REPLY_ACTORS)
