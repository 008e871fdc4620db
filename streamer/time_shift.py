"""Which time poses are for, after their frames', and how actors glide to another one.

A new time is not jumped to: in the poses time goes on, at half to one and a half times its speed, until it is reached.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

GLIDE_NS = SECOND_NS // 2  # at least; longer where it is far,
STEEPEST = 0.5  # so that time in the poses is never off its speed by more than this part of it: no pose before the last
BACK_NS = SECOND_NS  # a clock that goes back this far is another one


class Glide:
    """An actor's way from one shift to another, from the first time that is asked for on."""

    __slots__ = ("_from_ns", "_span_ns", "_start_ns", "_to_ns", "now_ns")

    def __init__(self, from_ns: int, to_ns: int) -> None:
        self._from_ns, self._to_ns, self.now_ns = from_ns, to_ns, from_ns
        self._span_ns = max(GLIDE_NS, round(1.5 * abs(to_ns - from_ns) / STEEPEST))  # 1.5: of a smooth step's middle
        self._start_ns: int | None = None

    def at(self, t_ns: int) -> int | None:
        """The shift for a time of the actor's; None: it is there."""
        if self._start_ns is None:
            self._start_ns = t_ns
        part = (t_ns - self._start_ns) / self._span_ns
        if part >= 1.0 or t_ns < self._start_ns - BACK_NS:
            return None
        part = max(part, 0.0)
        self.now_ns = self._from_ns + round((self._to_ns - self._from_ns) * part * part * (3.0 - 2.0 * part))
        return self.now_ns


class TimeShift:
    """The shift of all actors, and by rows the glides of those who are on their way to it.

    Args:
        reach_s: the earliest and the latest time after a frame that the model answers for.

    Attributes:
        delay_s, predict_s: what is set; one of them is 0.
    """

    def __init__(self, reach_s: tuple[float, float], delay_s: float, predict_s: float) -> None:
        self._reach_s = reach_s
        self._glides: dict[int, Glide] = {}
        self._ns = 0
        self.set(delay_s, predict_s, ())

    def set(self, delay_s: float, predict_s: float, rows: Iterable[int]) -> None:
        """Another shift; the actors of these rows glide to it.

        Raises:
            ConfigError: it is out of reach, or two are given.
        """
        low, high = self._reach_s
        if not 0 <= delay_s <= -low:
            raise ConfigError(f"delay_s must lie in 0..{-low:g} s, not {delay_s:g}")
        if not 0 <= predict_s <= high:
            raise ConfigError(f"predict_s must lie in 0..{high:g} s, not {predict_s:g}")
        if delay_s and predict_s:
            raise ConfigError("give delay_s or predict_s, not both: a pose is for one time")
        self.delay_s, self.predict_s = float(delay_s), float(predict_s)
        before_ns, self._ns = self._ns, round((predict_s - delay_s) * SECOND_NS)
        now_ns = {row: self._glides[row].now_ns if row in self._glides else before_ns for row in rows}
        self._glides = {row: Glide(at, self._ns) for row, at in now_ns.items() if at != self._ns}

    def wanted(self, rows: Iterable[int], t_ns: Iterable[int]) -> list[int]:
        """The times that poses of frames at ``t_ns`` are for."""
        if not self._glides:
            return [t + self._ns for t in t_ns]
        return [t + self._shift(row, t) for row, t in zip(rows, t_ns)]

    def _shift(self, row: int, t_ns: int) -> int:
        glide = self._glides.get(row)
        shift_ns = self._ns if glide is None else glide.at(t_ns)
        if shift_ns is None:
            del self._glides[row]
            return self._ns
        return shift_ns

    def forget(self, row: int) -> None:
        """Who had this row is gone, or begins anew."""
        self._glides.pop(row, None)
