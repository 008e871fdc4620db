"""The server that is shown, over its control socket: once a second what it says of itself, and what it is to change.

A thread of its own asks, so that a server that does not answer holds nothing up; of several wishes the last one counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

from streamer.errors import ProtocolError
from streamer.server.control import request
from streamer.wire.security import ClientKeys

EVERY_S = 1.0
ANSWER_WITHIN_S = 1.0
REFUSED_S = 8.0  # so long it is said that a wish was refused, unless there is another one
_EITHER = {"delay_s": "predict_s", "predict_s": "delay_s"}  # a pose is for one time


@dataclass(frozen=True)
class Said:
    """What a server last said of itself; None where it did not say it (an older one, or none)."""

    answers: bool = False
    delay_s: float | None = None
    predict_s: float | None = None
    rate_hz: float | None = None
    trouble: str = ""  # one sentence, or nothing
    warnings: dict[str, list[str]] = field(default_factory=dict)  # of each actor, in words

    @property
    def can_be_set(self) -> bool:
        return self.delay_s is not None


class Remote:
    """Asks a server from its own thread, between ``with`` and its end; ``said`` is the newest answer."""

    def __init__(self, endpoint: str, curve: ClientKeys | None = None) -> None:
        self.said = Said()
        self._endpoint, self._curve = endpoint, curve
        self._wish: dict[str, float] = {}
        self._news = Condition()
        self._ended = False
        self._thread = Thread(target=self._run, name="view-control", daemon=True)

    def __enter__(self) -> Remote:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join(ANSWER_WITHIN_S + 1.0)

    def wish(self, **settings: float) -> None:
        """Has the server change ``delay_s``, ``predict_s`` or ``rate_hz``; returns at once."""
        with self._news:
            for name in settings:
                self._wish.pop(_EITHER.get(name, ""), None)
            self._wish.update(settings)
            self._news.notify()

    def _run(self) -> None:
        refused, refused_s = "", 0.0
        while True:
            with self._news:
                self._news.wait_for(lambda: self._ended or bool(self._wish), EVERY_S)
                if self._ended:
                    return
                wish, self._wish = self._wish, {}
            if wish:
                refused, refused_s = _refusal(self._ask("set", **wish)), time.monotonic()
            elif time.monotonic() - refused_s > REFUSED_S:
                refused = ""
            self.said = _said(self._ask("status"), refused)

    def _ask(self, command: str, **fields: Any) -> dict[str, Any] | None:
        try:
            return request(self._endpoint, command, ANSWER_WITHIN_S, self._curve, **fields)
        except ProtocolError:
            return None


def _refusal(reply: dict[str, Any] | None) -> str:
    """Why a wish was not followed, "" where it was, or where nobody answered, which the status tells."""
    return "" if reply is None or reply.get("ok") else str(reply.get("error", {}).get("message", "refused"))


def _said(status: dict[str, Any] | None, trouble: str) -> Said:
    if status is None or not status.get("ok"):
        return Said(trouble="no answer from the server's control socket: say --control")
    actors = status.get("actor_states", {})
    warnings = {str(name): [str(w) for w in state.get("warnings", [])] for name, state in actors.items()}
    delay_s, predict_s, rate_hz = (_number(status.get(key)) for key in ("delay_s", "predict_s", "rate_hz"))
    return Said(True, delay_s, predict_s, rate_hz, trouble, warnings)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
