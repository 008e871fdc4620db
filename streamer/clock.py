"""The process's clock, and the map from another clock to it.

Times are integer nanoseconds. ``now_ns`` is monotonic and shared by all processes of one machine, so stamps of a local
source, server and subscriber can be subtracted; across machines ClockMap estimates the offset, and ``offset_of`` says
it, with bounds, where the other end answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import NamedTuple

SECOND_NS = 1_000_000_000

# perf_counter, not monotonic: on Windows monotonic ticks in 15 ms steps. On Linux both are CLOCK_MONOTONIC.
now_ns = perf_counter_ns


class ClockMap:
    """Offset from another clock to ours, as the least delay seen: ours ~ theirs + offset_ns.

    A message can be late, never early: the smallest (received - sent) of a window is the offset plus the least
    transport delay. Two windows in turn forget old minima, so slow drift between the clocks is followed.
    """

    def __init__(self, window_ns: int = 30 * SECOND_NS, jump_ns: int = SECOND_NS) -> None:
        self._window_ns = window_ns
        self._jump_ns = jump_ns
        self.reset()

    def reset(self) -> None:
        """Forget everything; as new."""
        self._opened_ns = 0
        self._previous: int | None = None
        self._current: int | None = None

    @property
    def known(self) -> bool:
        return self._current is not None

    @property
    def offset_ns(self) -> int:
        """Our clock minus theirs [ns], least transport delay included; 0 before the first update."""
        if self._current is None:
            return 0
        return self._current if self._previous is None else min(self._previous, self._current)

    def update(self, theirs_ns: int, ours_ns: int) -> int:
        """Take one pair of stamps in; returns how late this one is beyond the least delay [ns]."""
        delay = ours_ns - theirs_ns
        if self._current is None or delay < self.offset_ns - self._jump_ns:  # first pair, or the other clock jumped
            self.reset()
            self._current, self._opened_ns = delay, ours_ns
        elif ours_ns - self._opened_ns > self._window_ns:
            self._previous, self._current, self._opened_ns = self._current, delay, ours_ns
        else:
            self._current = min(self._current, delay)
        return delay - self.offset_ns


class Trip(NamedTuple):
    """A question to another clock: when it was asked and answered, on ours, and what it said in between [ns]."""

    asked_ns: int
    said_ns: int
    answered_ns: int


class Offset(NamedTuple):
    """Another clock minus ours [ns], and how far off that may be at most, while neither is set."""

    ns: int
    within_ns: int

    def __str__(self) -> str:
        size = f"{self.ns / 1e6:+.3f} ms" if abs(self.ns) < SECOND_NS else f"{self.ns / SECOND_NS:+.6f} s"
        return f"{size}, within {self.within_ns / 1e6:.3f} ms"


def offset_of(trips: Sequence[Trip]) -> Offset:
    """What trips, at least one, say together.

    Whatever the way there and back took, the clock said it in between: each trip has an earliest and a latest offset.
    """
    low = max(trip.said_ns - trip.answered_ns for trip in trips)
    high = min(trip.said_ns - trip.asked_ns for trip in trips)
    if low > high:  # one of the clocks was set between them: the newest alone
        low, high = trips[-1].said_ns - trips[-1].answered_ns, trips[-1].said_ns - trips[-1].asked_ns
    return Offset((low + high) // 2, (high - low + 1) // 2)


class Ticker:
    """A steady clock: tick n is at start + n / rate, so that late ticks never add up to drift."""

    def __init__(self, rate_hz: float, start_ns: int) -> None:
        self._rate_hz = rate_hz
        self._start_ns = start_ns
        self._n = 0

    @property
    def next_ns(self) -> int:
        return self._start_ns + round(self._n * SECOND_NS / self._rate_hz)

    def due(self, now: int) -> bool:
        """True once for each tick; ticks missed altogether are not made up for."""
        if now < self.next_ns:
            return False
        self._n = max(self._n + 1, int((now - self._start_ns) * self._rate_hz / SECOND_NS) + 1)
        return True
