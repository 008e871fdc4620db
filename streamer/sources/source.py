"""What every source is that runs beside a server of its own process, or sends to one: frames, one after the other."""

from __future__ import annotations

from typing import Protocol

from streamer.frames import Frame
from streamer.server.metrics import Histogram

MOMENT_S = 0.25  # that one is waited for, before it is asked whether to stop


class Said(Protocol):
    """What says how it goes."""

    def status(self) -> str:
        """In one line: who sends, and what of it cannot be used."""

    def kinds(self) -> tuple[object, ...]:
        """What ``status`` names, without the numbers: while this stays the same there is nothing new to say."""


class Source(Said, Protocol):
    """Where frames come from; for one thread.

    Attributes:
        name: what it is called where it is spoken of.
        latency: by the name of each of its parts (camera, estimator), how long that took.
        descriptor: of a file or socket for whoever waits for several things: readable when there may be a frame, which
            ``receive(0.0)`` then gives at once. None: there is none, it needs a thread of its own.
    """

    name: str
    latency: dict[str, Histogram]
    descriptor: int | None

    @property
    def ended(self) -> bool:
        """Nothing comes any more."""

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame as soon as it is there; None when none came within ``timeout_s``, or it has ended.

        Where reading it blocks (a pipe, an estimator at work), that takes as long as it takes.
        """

    def rehearse(self) -> None:
        """Does for nothing what it does with what comes to its ``descriptor``: just before that, so as to be warm."""

    def lost(self) -> dict[str, int]:
        """How much came and is in no frame, by what was wrong with it."""

    def close(self) -> None: ...
