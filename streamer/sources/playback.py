"""A take's frames in their own time: a file as a live source."""

from __future__ import annotations

import time
from dataclasses import replace

from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame
from streamer.server.metrics import Histogram
from streamer.sources.replay import Take


class Playback:
    """Each frame when its time has come, stamped with that time on our clock; what was late then is late again.

    Time begins when the first one is asked for.
    """

    descriptor: int | None = None

    def __init__(self, take: Take) -> None:
        self._frames, self.name = iter(take.frames), take.name
        self._next = next(self._frames, None)
        self._start_ns: int | None = None
        self.latency: dict[str, Histogram] = {}

    @property
    def ended(self) -> bool:
        return self._next is None

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None when none is due within ``timeout_s``, or all have been given."""
        frame = self._next
        if frame is None:
            return None
        if self._start_ns is None:
            self._start_ns = now_ns()
        due_ns = self._start_ns + frame.t_ns
        left_s = (due_ns - now_ns()) / SECOND_NS
        time.sleep(max(0.0, min(left_s, timeout_s)))
        if left_s > timeout_s:
            return None
        self._next = next(self._frames, None)
        return replace(frame, t_ns=due_ns)

    def rehearse(self) -> None:
        """Nothing: it has no descriptor."""

    def lost(self) -> dict[str, int]:
        return {}

    def kinds(self) -> tuple[object, ...]:
        return ()

    def status(self) -> str:
        return self.name

    def close(self) -> None:
        """Nothing is open."""
