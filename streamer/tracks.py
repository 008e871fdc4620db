"""An actor's clock when its stamps are not as they should be: a new clock, one stamp astray, a wrong unit, bunches.

Plain state machines of one actor each, asked only when a stamp is unusual (actors.py), so that they cost nothing else.
Times are the user's stamps, but for what ``Evener`` gives: those are only what the network is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from streamer.clock import SECOND_NS
from streamer.errors import FrameError
from streamer.frames import Frame
from streamer.warnings import Warnings

PAUSE_NS = SECOND_NS // 4  # a shorter gap never begins a new track
AHEAD_NS = 4 * SECOND_NS  # a stamp further ahead is believed when a second one agrees
RISE_NS = SECOND_NS  # frames on another clock follow each other within this
AGREE_NS = SECOND_NS // 4  # frames on another clock that rise among themselves for so long are a new track
LONG_NS = 60 * SECOND_NS  # nobody pauses for longer: the clock is another
SHORT_NS = SECOND_NS // 1000  # no camera is so fast: shorter intervals are no capture times
UNIT_NS = SECOND_NS // 10_000  # nor does anything else produce frames so fast:
FEW = 10  # frames that are all so close have a wrong unit
BETWEEN = 4  # frames of one source between two of the other, at most
ALTERNATED = 6  # times two clocks have taken turns when they are called two sources
NEXT = 8  # a frame counter rises by less than this from frame to frame, unless many are lost
BUNCHED = 2  # short intervals among the recent ones that mean stamps taken at reception
SPAN = 64  # frames that the even rate is taken from
PULL = 0.1  # share by which each frame moves the even clock to the line through the stamps

Verdict = Literal["go on", "begin"] | FrameError


@dataclass
class Clock:
    """What is known of one actor's clock. ``calm``: nothing is going on, and the next usual stamp need not be shown."""

    actor: str
    warnings: Warnings
    calm: bool = True
    heard_ns: int | None = None  # newest stamp of the track, where it is not that of the newest observation
    evener: Evener | None = None
    _other: tuple[int, int, int] | None = None  # first and newest stamp of another clock, and how many
    _since: int = 0  # frames of the track since that
    _turns: int = 0  # times the two have alternated
    _back: tuple[int, int, int] = (0, 0, 0)  # frames, seq when it last did not rise, and times it did so in turns
    _unit_ns: int | None = None  # newest stamp that was refused for its unit

    def judge(self, frame: Frame, before: Frame, last_ns: int, recent_ns: Sequence[int], fresh: bool) -> Verdict:
        """What to do with a frame of an unusual stamp.

        Args:
            before: the actor's newest frame. last_ns: the stamp of its newest observation.
            recent_ns: intervals of the track, oldest first, all of them if it is young.
            fresh: the frame is not bit for bit the newest observation.
        """
        t_ns = int(frame.t_ns)
        if self._unit_ns is not None:
            if 0 <= t_ns - self._unit_ns < UNIT_NS:
                return self._wrong_unit(t_ns, t_ns - self._unit_ns)
            self._unit_ns = None
        gap_ns = t_ns - max(last_ns, last_ns if self.heard_ns is None else self.heard_ns)
        if gap_ns <= 0 or gap_ns > AHEAD_NS:
            return self._elsewhere(t_ns, gap_ns, frame, before, fresh)
        self._since += 1
        if self._since > BETWEEN:
            self._other, self._turns = None, 0
        if gap_ns < SHORT_NS:
            short = sum(x < SHORT_NS for x in recent_ns)
            if short == len(recent_ns):
                if short >= FEW - 1 and max(gap_ns, *recent_ns) < UNIT_NS:
                    return self._wrong_unit(t_ns, sorted(recent_ns)[short // 2])
            elif self.evener is None and short >= BUNCHED - 1:
                self.evener = Evener(last_ns, recent_ns, frame.seq)
                self.warnings.count(
                    "evened_stamps", self.actor,
                    "stamps come in bunches, as if taken at reception: evened out; send the capture time as t_ns",
                )  # fmt: skip
        return "go on"

    def settle(self) -> None:
        """After a frame of the track was taken in: whether all is quiet again."""
        self.heard_ns = None
        if self.evener is not None and self.evener.idle:
            self.evener = None
        self.calm = self.evener is None and self._other is None

    def _elsewhere(self, t_ns: int, gap_ns: int, frame: Frame, before: Frame, fresh: bool) -> Verdict:
        """A frame that does not come after the last, or too far."""
        if gap_ns == 0:
            if fresh and frame.seq - before.seq not in range(1, NEXT):
                self._took_turns(t_ns, t_ns, 0)
            return FrameError("duplicate", f"t_ns {t_ns} is that of the actor's last frame")
        if gap_ns > AHEAD_NS and _paused(gap_ns, frame, before):
            return "begin"
        first_ns, newest_ns, count = self._other or (t_ns, t_ns, 0)
        rises = 0 < t_ns - newest_ns <= RISE_NS
        if rises and self._since:
            self._took_turns(t_ns, t_ns, 1)
            first_ns, count = t_ns, 0
        elif not rises:
            first_ns, count = t_ns, 0
        self._other, self._since = (first_ns, t_ns, count + 1), 0
        span_ns = t_ns - first_ns
        if count + 1 >= FEW and span_ns < count * UNIT_NS:
            return self._wrong_unit(t_ns, span_ns // count)
        if (count and span_ns >= UNIT_NS) if gap_ns > AHEAD_NS else span_ns >= AGREE_NS:
            if gap_ns < 0 or gap_ns > LONG_NS:
                self.warnings.count(
                    "clock_resets", self.actor,
                    f"its clock went {abs(gap_ns) / SECOND_NS:.3g} s {'back' if gap_ns < 0 else 'ahead'}: "
                    "a new track began, on the same skeleton",
                )  # fmt: skip
            return "begin"
        if gap_ns < 0:
            return FrameError(
                "late", f"t_ns {t_ns} is not after the actor's last frame, {-gap_ns / SECOND_NS:.3g} s on"
            )
        return FrameError(
            "ahead", f"t_ns {t_ns} is {gap_ns / SECOND_NS:.3g} s after the actor's last frame: waits for a second one"
        )

    def _took_turns(self, first_ns: int, newest_ns: int, count: int) -> None:
        """A frame of another clock, or of another body at the same time, between those of the track."""
        self._turns += 1
        self._other, self._since = (first_ns, newest_ns, count), 0
        if self._turns == ALTERNATED:
            self.two_sources("two clocks take turns")

    def went_back(self, seq: int, frames: int) -> None:
        """The frame counter did not rise, at so many frames: again and again, it is that of two sources in turn."""
        before, last, turns = self._back
        turns = turns + 1 if frames - before <= BETWEEN and seq - last in range(1, NEXT) else 0
        self._back = frames, seq, turns
        if turns == ALTERNATED:
            self.two_sources("two frame counters take turns")

    def two_sources(self, how: str) -> None:
        self.warnings.count(
            "two_sources", self.actor, f"two sources seem to send under this name ({how}): give each its own"
        )

    def _wrong_unit(self, t_ns: int, interval_ns: int) -> FrameError:
        self._unit_ns = t_ns
        sentence = f"t_ns is in nanoseconds, but frames are {interval_ns} ns apart: {probably(interval_ns)}"
        self.warnings.say("time_unit", self.actor, sentence)
        return FrameError("time_unit", sentence)


def probably(interval_ns: int) -> str:
    """What a source meant whose frames are so many units apart, and what to do."""
    units = {"microseconds": 1_000, "milliseconds": 1_000_000}
    for name, factor in units.items():
        if 3_000_000 <= interval_ns * factor <= 120_000_000:  # 8 to 330 Hz
            return f"probably {name}; multiply by {factor:,}"
    return "probably a frame counter; send the capture time"


def _paused(gap_ns: int, frame: Frame, before: Frame) -> bool:
    """Whether the frames also arrived that far apart, where it is known."""
    if not frame.received_ns or not before.received_ns:
        return False
    arrived_ns = frame.received_ns - before.received_ns
    return abs(arrived_ns - gap_ns) < PAUSE_NS + gap_ns // 8


@dataclass
class Evener:
    """Even times for frames whose stamps are of their reception: a clock that the stamps pull slowly.

    Frames were captured evenly and came later, each by another delay: the line through the last stamps over the
    frames' numbers has their rate, and their place but for the mean delay, which does not matter here.
    """

    last_ns: int
    recent_ns: Sequence[int]
    seq: int
    even_ns: float = field(init=False)
    _rate_ns: float = field(init=False)
    _points: deque[tuple[int, int]] = field(init=False)  # (number, stamp)
    _number: int = 0
    _short: int = 0  # number of the last frame after a short interval

    def __post_init__(self) -> None:
        stamps = [self.last_ns]
        for interval_ns in reversed(self.recent_ns):
            stamps.append(stamps[-1] - interval_ns)
        self._points = deque(((-i, t) for i, t in reversed(list(enumerate(stamps)))), SPAN)
        self.even_ns = float(self.last_ns)
        self._rate_ns = max(sum(self.recent_ns) / max(len(self.recent_ns), 1), float(SHORT_NS))

    @property
    def idle(self) -> bool:
        return self._number - self._short > 2 * SPAN

    def even(self, t_ns: int, seq: int) -> int:
        """The time of the next frame [ns], on a clock that began with the user's."""
        gap_ns = t_ns - self._points[-1][1]
        steps = seq - self.seq if seq - self.seq in range(1, NEXT) else 1
        self.seq = seq
        self._number += steps
        if gap_ns < SHORT_NS:
            self._short = self._number
        if gap_ns > PAUSE_NS:  # nothing is known of the time between
            self.even_ns += gap_ns
            self._points.clear()
            self._points.append((self._number, t_ns))
            return round(self.even_ns)
        self._points.append((self._number, t_ns))
        line_ns = self._line_ns()
        step_ns = self._rate_ns * steps
        ahead_ns = self.even_ns + step_ns
        self.even_ns += min(max(step_ns + PULL * (line_ns - ahead_ns), 0.5 * step_ns), 2.0 * step_ns)
        return round(self.even_ns)

    def _line_ns(self) -> float:
        """The newest frame's time on the line of least squares through the stamps, whose slope is the rate."""
        n, origin = len(self._points), self._points[-1][1]
        x = [number - self._number for number, _ in self._points]
        y = [t - origin for _, t in self._points]
        mx, my = sum(x) / n, sum(y) / n
        if n >= 4:
            slope = sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)
            self._rate_ns = max(slope, float(SHORT_NS))
        return origin + my - self._rate_ns * mx
