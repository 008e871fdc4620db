"""The control socket: one msgpack map in, one out (REP), whatever comes in. PROTOCOL.md has the commands.

A request is ``{"v": 1, "cmd": ..., "actor": ...}``; reset and calibrate take all actors where none is named. The reply
has ``ok``; when False, ``error`` says reason, field and message.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from streamer.clock import now_ns
from streamer.errors import ConfigError, ProtocolError
from streamer.frames import Array
from streamer.server.kept import check_offsets
from streamer.server.log import Errors
from streamer.standing import check_seconds
from streamer.wire.control import ControlClient
from streamer.wire.fields import shown
from streamer.wire.protocol import J_OUT, Encoder, decode_map, is_actor_name
from streamer.wire.security import ClientKeys

SOME = 20  # actors that an error names
COMMANDS = ("status", "reset", "calibrate", "get_skeleton", "set_skeleton", "set", "clock", "shutdown")
TIMES = ("delay_s", "predict_s", "rate_hz")  # what "set" sets

Fields = dict[str, Any]


class Controlled(Protocol):
    """What the control socket may do to a server."""

    def status(self) -> Fields: ...
    def actor_names(self) -> list[str]: ...
    def reset(self, actor: str) -> None: ...
    def calibrate(self, actor: str, seconds: float | None = None) -> None: ...
    def get_skeleton(self, actor: str) -> Fields | None: ...
    def set_skeleton(self, actor: str, offsets_m: Array) -> None: ...
    def set_times(self, delay_s: float | None, predict_s: float | None, rate_hz: float | None) -> Fields: ...
    def stop(self) -> None: ...


class Control:
    """Answers requests; a bad one gets an error reply that names the field, and changes nothing."""

    def __init__(self, server: Controlled, errors: Errors) -> None:
        self._server, self._errors = server, errors
        self._encode = Encoder().map

    def answer(self, request: bytes) -> tuple[str, bytes]:
        """(command, or "bad" when there was none; the reply's bytes): there is always a reply."""
        try:
            command, fields = self._run(decode_map(request))
            return command, self._encode({"ok": True, **fields})
        except ProtocolError as error:
            said = {"reason": error.reason, "field": error.field, "message": str(error)}
        except Exception as error:  # noqa: BLE001  a bug of ours: whoever asked is told, and the next one is answered
            self._errors.note("answering a request", error)
            said = {"reason": "error", "field": "", "message": f"the server failed at this: {type(error).__name__}"}
        return "bad", self._encode({"ok": False, "error": said})

    def _run(self, request: Fields) -> tuple[str, Fields]:
        command = request.get("cmd")
        if command not in COMMANDS:
            raise ProtocolError("value:cmd", "cmd", f"cmd must be one of {', '.join(COMMANDS)}, not {shown(command)}")
        if command == "status":
            return command, self._server.status()
        if command == "clock":
            return command, {"now_ns": now_ns()}
        if command == "shutdown":
            self._server.stop()
            return command, {}
        if command == "set":
            return command, self._set(request)
        if command == "get_skeleton":
            return command, self._skeleton_of(_actor(request))
        if command == "set_skeleton":
            actor = _actor(request)
            try:
                self._server.set_skeleton(actor, _offsets(request))
            except ConfigError as error:
                raise ProtocolError("value:offsets", "offsets", str(error)) from error
            return command, {"actors": [actor]}
        actors = self._actors(request)
        do: Callable[[str], None] = self._server.reset if command == "reset" else _calibration(self._server, request)
        for actor in actors:
            do(actor)
        return str(command), {"actors": actors}

    def _set(self, request: Fields) -> Fields:
        times = {name: _number(request, name) for name in TIMES}
        given = [name for name, value in times.items() if value is not None]
        if not given:
            raise ProtocolError("missing:delay_s", "delay_s", f"set: give one of {', '.join(TIMES)}")
        try:
            return self._server.set_times(**times)
        except ConfigError as error:
            wrong = next((name for name in given if name in str(error)), given[0])
            raise ProtocolError(f"value:{wrong}", wrong, str(error)) from error

    def _actors(self, request: Fields) -> list[str]:
        actor, known = request.get("actor"), self._server.actor_names()
        if actor is None:
            return known
        if actor not in known:
            raise self._unknown(actor)
        return [actor]

    def _skeleton_of(self, actor: str) -> Fields:
        fields = self._server.get_skeleton(actor)
        if fields is None:
            raise self._unknown(actor)
        return fields

    def _unknown(self, actor: Any) -> ProtocolError:
        some = ", ".join(self._server.actor_names()[:SOME])
        return ProtocolError("unknown_actor", "actor", f"no actor {shown(actor)}; there are: {some}")


def _actor(request: Fields) -> str:
    actor = request.get("actor")
    if type(actor) is not str or not is_actor_name(actor):
        raise ProtocolError("actor_name", "actor", f"not an actor name: {shown(actor)}")
    return actor


def _number(request: Fields, name: str) -> float | None:
    value = request.get(name)
    if value is not None and type(value) not in (int, float):
        raise ProtocolError(f"type:{name}", name, f"{name}: expected a number, got {shown(value)}")
    return value


def _calibration(server: Controlled, request: Fields) -> Callable[[str], None]:
    """In any motion, or of somebody who stands still for ``seconds``."""
    seconds = request.get("seconds")
    if seconds is None:
        return server.calibrate
    try:
        check_seconds(seconds)
    except ConfigError as error:
        raise ProtocolError("value:seconds", "seconds", str(error)) from error
    return partial(server.calibrate, seconds=float(seconds))


def _offsets(request: Fields) -> Array:
    """(24, 3) float32 rest-pose vectors [m]; the root's, which has none, is zero."""
    value = request.get("offsets")
    if type(value) is not bytes or len(value) != 12 * J_OUT:
        raise ProtocolError("type:offsets", "offsets", f"offsets: expected bin, float32 ({J_OUT}, 3)")
    offsets = np.frombuffer(value, "<f4").reshape(J_OUT, 3).astype(np.float32)
    if wrong := check_offsets(offsets):
        raise ProtocolError("value:offsets", "offsets", f"offsets: {wrong}")
    offsets[0] = 0.0
    return offsets


def request(
    endpoint: str, command: str, timeout_s: float = 1.0, curve: ClientKeys | None = None, **fields: Any
) -> dict[str, Any] | None:
    """Send one command; the reply, or None when no server answered in time (or none that lets these keys in)."""
    with ControlClient(endpoint, timeout_s, curve) as client:
        return client.ask(command, **fields)
