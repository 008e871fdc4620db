"""How a command that runs on is asked to end."""

from __future__ import annotations

import signal


def stop_signals() -> list[int]:
    """A list that is empty until a signal asks to end. Call it before long imports: one while loading counts, too."""
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    return stop
