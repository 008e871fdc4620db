"""What the last moments of an actor were like: jitter of input and output, latency, rate, trails."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamer.clock import SECOND_NS
from streamer.frames import Array, Frame, Pose
from streamer.view.body import TRAILED, joints_of, sigma_m

WINDOW_S = 1.0  # of what is said in numbers
TRAIL_S = 1.2
TRAIL_STEPS = 24


class Numbers(NamedTuple):
    """An actor in numbers; NaN: nothing to say."""

    rate_hz: float = np.nan
    jitter_in_mm: float = np.nan  # mean second difference of the joints, as `hpstm demo` has it
    jitter_out_mm: float = np.nan
    latency_ms: float = np.nan  # of the server, median: frame read to pose sent
    sigma_mm: float = np.nan  # mean over the joints


class _Jitter:
    """Second differences of a steady stream of joints, of the last second of its clock."""

    def __init__(self) -> None:
        self._last: deque[tuple[int, Array]] = deque(maxlen=3)
        self._values: deque[tuple[int, float]] = deque()

    def saw(self, t_ns: int, joints: Array) -> None:
        if self._last and t_ns <= self._last[-1][0]:
            self._last.clear()
        self._last.append((t_ns, joints))
        while self._values and not 0 <= t_ns - self._values[0][0] <= WINDOW_S * SECOND_NS:
            self._values.popleft()
        if len(self._last) < 3:
            return
        (t0, a), (t1, b), (t2, c) = self._last
        if max(t2 - t1, t1 - t0) > 1.5 * min(t2 - t1, t1 - t0):
            return  # a frame is missing between them
        size = np.linalg.norm(a - 2.0 * b + c, axis=-1)
        size = size[np.isfinite(size)]
        if len(size):
            self._values.append((t_ns, 1e3 * float(size.mean())))

    @property
    def mean_mm(self) -> float:
        return float(np.mean([value for _, value in self._values])) if self._values else np.nan


@dataclass
class Seen:
    """An actor: newest pose, newest input ``noisy`` (24, 3) or None, its raw points, and what the last second was."""

    actor: str
    pose: Pose | None = None
    noisy: Array | None = None
    raw: Array | None = None  # (J, 3) of the frame, in its own layout
    heard_ns: int = 0  # on this process's clock, or the player's
    _in: _Jitter = field(default_factory=_Jitter)
    _out: _Jitter = field(default_factory=_Jitter)
    _latencies: deque[tuple[int, float]] = field(default_factory=deque)
    _trail: deque[tuple[int, Array]] = field(default_factory=lambda: deque(maxlen=TRAIL_STEPS))

    def saw(self, item: Pose | Frame, now_ns: int) -> None:
        """Takes in the next pose or frame."""
        self.heard_ns = now_ns
        if isinstance(item, Frame):
            self.noisy, self.raw = joints_of(item), item.positions
            if self.noisy is not None:
                self._in.saw(item.t_ns, self.noisy)
            return
        self.pose = item
        self._out.saw(item.t_ns, item.positions)
        self._latencies.append((item.t_ns, (item.published_ns - item.received_ns) / 1e6))
        while not 0 <= item.t_ns - self._latencies[0][0] <= WINDOW_S * SECOND_NS:
            self._latencies.popleft()
        if self._trail and not 0 <= item.t_ns - self._trail[-1][0] <= SECOND_NS:
            self._trail.clear()
        if not self._trail or item.t_ns - self._trail[-1][0] >= TRAIL_S / TRAIL_STEPS * SECOND_NS:
            self._trail.append((item.t_ns, item.positions[TRAILED]))

    @property
    def trail(self) -> Array:
        """(N, 4, 3) where wrists and feet were, oldest first, the last one now [m]."""
        places = [places for _, places in self._trail]
        return np.array([*places, self.pose.positions[TRAILED]]) if self.pose is not None else np.empty((0, 4, 3))

    @property
    def numbers(self) -> Numbers:
        times = [t for t, _ in self._latencies]
        latencies = [value for _, value in self._latencies]
        span = (times[-1] - times[0]) / SECOND_NS if len(times) > 1 else 0.0
        return Numbers(
            (len(times) - 1) / span if span > 0.0 else np.nan,
            self._in.mean_mm,
            self._out.mean_mm,
            float(np.median(latencies)) if latencies else np.nan,
            1e3 * float(sigma_m(self.pose).mean()) if self.pose is not None else np.nan,
        )


class History:
    """All actors that were seen lately, in the order in which they appeared.

    Args:
        gone_s: after so long without a word an actor is not shown any more.
    """

    def __init__(self, gone_s: float = 2.0) -> None:
        self.actors: dict[str, Seen] = {}
        self._gone_ns = round(gone_s * SECOND_NS)

    def saw(self, items: list[Pose | Frame], now_ns: int) -> None:
        """Takes in what came since the last time, and forgets who is gone."""
        for item in items:
            if item.actor not in self.actors:
                self.actors[item.actor] = Seen(item.actor)
            self.actors[item.actor].saw(item, now_ns)
        for actor in [name for name, seen in self.actors.items() if now_ns - seen.heard_ns > self._gone_ns]:
            del self.actors[actor]

    def clear(self) -> None:
        self.actors.clear()


class Curves:
    """Numbers over time, ``steps`` of them, for a plot: rows of seconds (now is 0), then each of ``Numbers``."""

    def __init__(self, steps: int = 120, every_s: float = 0.5) -> None:
        self._rows: deque[Numbers] = deque(maxlen=steps)
        self._every_s = every_s

    def add(self, numbers: Numbers) -> None:
        self._rows.append(numbers)

    def array(self) -> Array:
        """(1 + 5, N) seconds before now, and the numbers; at least two columns."""
        rows = np.array(self._rows or [Numbers()]).T
        rows = np.repeat(rows, 2, 1) if rows.shape[1] == 1 else rows
        seconds = (np.arange(rows.shape[1]) - rows.shape[1] + 1) * self._every_s
        return np.concatenate([seconds[None], rows])
