"""What people use today, as streaming filters with one interface: raw, hold, One-Euro, Holt, Savitzky-Golay, Kalman.

``push`` takes one frame at its real time and gives the pose for ``at_s`` from then: 0 is now, negative a fixed lag
(smoothing), positive a prediction. NaN joints are missing: every filter but Raw coasts over them, from the first sight
on. numpy only; joints of any number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Baseline(ABC):
    """One stream's filter: state is made by ``reset``, so a reset filter equals a new one."""

    late_s = 0.0  # how late the output is known to be [s]

    def __init__(self, at_s: float = 0.0) -> None:
        self.at_s = at_s
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._t_s: float | None = None
        self._past: deque[tuple[float, F64]] = deque()  # (time, output) as far back as the lag needs
        self._start()

    def push(self, t_s: float, positions: npt.ArrayLike) -> F64:
        """The pose for ``t_s + at_s``.

        Args:
            t_s: time of the frame [s], later than the one before.
            positions: (J, 3) m; NaN or infinite = missing.
        Returns:
            (J, 3) m; NaN for a joint not seen yet.
        """
        given = np.asarray(positions, np.float64)
        seen: Bools = np.asarray(np.isfinite(given).all(-1))
        given = np.where(seen[:, None], given, np.nan)
        if self._t_s is not None and t_s <= self._t_s:
            raise ValueError(f"times must rise: {t_s} s after {self._t_s} s")
        dt_s = 0.0 if self._t_s is None else t_s - self._t_s
        now = self._step(t_s, dt_s, given, seen)
        self._t_s = t_s
        return self._at(t_s + self.at_s, now)

    def _at(self, target_s: float, now: F64) -> F64:
        """The output at a time: between two past outputs, or beyond the newest."""
        assert self._t_s is not None
        if target_s < self._t_s:
            target_s = min(target_s + self.late_s, self._t_s)
        self._past.append((self._t_s, now))
        while len(self._past) > 1 and self._past[1][0] <= target_s:
            self._past.popleft()
        (t0, first) = self._past[0]
        if target_s >= self._t_s:
            return self._ahead(target_s - self._t_s, now)
        if target_s <= t0:
            return first.copy()  # the stream is younger than the lag
        t1, second = self._past[1]
        part = (target_s - t0) / (t1 - t0)
        return np.asarray(first if part == 0.0 else (1.0 - part) * first + part * second)

    def _ahead(self, ahead_s: float, now: F64) -> F64:
        return now.copy()

    @abstractmethod
    def _start(self) -> None:
        """Make the state of a filter that has seen nothing."""

    @abstractmethod
    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        """The output (J, 3) for the time of this frame."""


class Raw(Baseline):
    """The input as it is; missing stays missing; a prediction is the input."""

    def _start(self) -> None: ...

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        return given


class Hold(Baseline):
    """The last sight of every joint."""

    def _start(self) -> None:
        self._last: F64 | None = None

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        self._last = given if self._last is None else np.where(seen[:, None], given, self._last)
        return self._last


class RunningMedian(Baseline):
    """The median of so many frames in a row, of each coordinate: around the time wanted as far as there are frames,
    else of the newest ones. A missing joint is where it was last seen."""

    def __init__(self, at_s: float = 0.0, frames: int = 5) -> None:
        self.frames = frames
        super().__init__(at_s)

    def _start(self) -> None:
        self._last: F64 | None = None
        self._recent: deque[tuple[float, F64]] = deque()

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        self._last = given if self._last is None else np.where(seen[:, None], given, self._last)
        self._recent.append((t_s, self._last))
        while len(self._recent) > 2 * self.frames and self._recent[self.frames + 1][0] <= t_s + self.at_s:
            self._recent.popleft()
        return self._last

    def _at(self, target_s: float, now: F64) -> F64:
        times = np.array([t_s for t_s, _ in self._recent])
        right = min(int(np.searchsorted(times, target_s - 1e-9)), len(times) - 1)
        left = max(right - 1, 0) if times[right] > target_s + 1e-9 else right
        before, after = self._median(left), self._median(right)
        if left == right:
            return after
        part = np.clip((target_s - times[left]) / (times[right] - times[left]), 0.0, 1.0)
        return np.asarray((1.0 - part) * before + part * after)

    def _median(self, middle: int) -> F64:
        newest = min(middle + self.frames // 2 + 1, len(self._recent))
        window = [self._recent[k][1] for k in range(max(0, newest - self.frames), newest)]
        ordered = np.sort(np.stack(window), axis=0)  # NaN last: joints not seen yet do not count
        count = np.isfinite(ordered).sum(0)[None]
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(window) - 1)
        return np.asarray(0.5 * (np.take_along_axis(ordered, low, 0) + np.take_along_axis(ordered, high, 0))[0])


class OneEuro(Baseline):
    """Low-pass whose cutoff rises with speed (Casiez, Roussel, Vogel 2012), per coordinate, with the true dt.

    Args:
        min_cutoff_hz: cutoff at rest.
        beta: added cutoff per speed [Hz per m/s].
        derivative_hz: cutoff of the speed's own filter.
        in_frames: count time in frames, as SmoothNet's setting does: the settings are then per frame.
        late_s: how late its output is known to be; a delayed answer is read that much later, up to the newest.
    """

    def __init__(
        self,
        at_s: float = 0.0,
        min_cutoff_hz: float = 1.0,
        beta: float = 10.0,
        derivative_hz: float = 1.0,
        in_frames: bool = False,
        late_s: float = 0.0,
    ) -> None:
        self.min_cutoff_hz, self.beta = min_cutoff_hz, beta
        self.derivative_hz, self.in_frames, self.late_s = derivative_hz, in_frames, late_s
        super().__init__(at_s)

    def _start(self) -> None:
        self._x: F64 | None = None

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        if self._x is None:
            self._x, self._speed = given, np.zeros_like(given)
            self._elapsed = np.zeros(len(given))
            return self._x
        self._elapsed = self._elapsed + (1.0 if self.in_frames else dt_s)  # since each joint's last sight
        dt = np.maximum(self._elapsed, 1e-9)[:, None]
        new = np.isnan(self._x)
        speed = self._speed + _share(self.derivative_hz, dt) * ((given - self._x) / dt - self._speed)
        cutoff = self.min_cutoff_hz + self.beta * np.abs(speed)
        x = self._x + _share(cutoff, dt) * (given - self._x)
        visible = seen[:, None]
        self._x = np.where(visible, np.where(new, given, x), self._x)
        self._speed = np.where(visible & ~new, speed, self._speed)
        self._elapsed = np.where(seen, 0.0, self._elapsed)
        return self._x


def _share(cutoff_hz: Any, dt: F64) -> F64:
    """Share of the new value in a first-order low-pass."""
    return np.asarray(1.0 / (1.0 + 1.0 / (2.0 * np.pi * np.maximum(cutoff_hz, 1e-9) * dt)))


class Holt(Baseline):
    """Double exponential smoothing: level and trend, with time constants in seconds; predicts along the trend.

    Args:
        damping: part of the trend that a prediction uses.
        late_s: as One-Euro's.
    """

    def __init__(
        self,
        at_s: float = 0.0,
        level_s: float = 0.03,
        trend_s: float = 0.15,
        damping: float = 1.0,
        late_s: float = 0.0,
    ) -> None:
        self.level_s, self.trend_s, self.damping, self.late_s = level_s, trend_s, damping, late_s
        super().__init__(at_s)

    def _start(self) -> None:
        self._level: F64 | None = None

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        if self._level is None:
            self._level, self._trend = given, np.zeros_like(given)
            return self._level
        expected = self._level + self._trend * dt_s
        level = expected + (1.0 - np.exp(-dt_s / self.level_s)) * (given - expected)
        slope = (level - self._level) / dt_s
        trend = self._trend + (1.0 - np.exp(-dt_s / self.trend_s)) * (slope - self._trend)
        visible, new = seen[:, None], np.isnan(self._level)
        # A lost joint holds: along its trend it would leave the room.
        self._trend = np.where(visible & ~new, trend, np.where(visible, 0.0, self._trend * np.exp(-dt_s / 0.1)))
        self._level = np.where(visible, np.where(new, given, level), self._level)
        return self._level

    def _ahead(self, ahead_s: float, now: F64) -> F64:
        return np.asarray(now + self.damping * ahead_s * self._trend)


class SavitzkyGolay(Baseline):
    """Least-squares polynomial through the last ``window_s`` of frames at their true times, read at the wanted one."""

    def __init__(self, at_s: float = 0.0, window_s: float = 0.2, order: int = 2) -> None:
        self.window_s, self.order = window_s, order
        super().__init__(at_s)

    def _start(self) -> None:
        self._frames: deque[tuple[float, F64, Bools]] = deque()
        self._last: F64 | None = None

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        span_s = self.window_s + max(0.0, -self.at_s)
        self._frames.append((t_s, given, seen))
        while self._frames[0][0] < t_s - span_s:
            self._frames.popleft()
        times = np.array([frame[0] for frame in self._frames])
        good = np.stack([frame[2] for frame in self._frames])  # (W, J)
        values = np.where(good[..., None], np.stack([frame[1] for frame in self._frames]), 0.0)
        powers = ((times - t_s) / span_s)[:, None] ** np.arange(self.order + 1)  # (W, P)
        counted = good[:, :1] if good.all() else good  # nothing missing: one solution serves all joints
        normal = np.einsum("wj,wp,wq->jpq", counted.astype(float), powers, powers)
        # Too few frames for the order: the smallest coefficients that fit.
        normal += 1e-8 * np.diag(np.arange(self.order + 1) > 0) + 1e-12 * np.eye(self.order + 1)
        fitted = np.linalg.solve(normal, np.einsum("wp,wjc->jpc", powers, values))  # (J, P, 3)
        wanted = np.maximum(self.at_s, times[0] - t_s) / span_s
        out = np.einsum("p,jpc->jc", wanted ** np.arange(self.order + 1), fitted)
        before = np.full_like(out, np.nan) if self._last is None else self._last
        covered: Bools = np.asarray(good.any(0))
        self._last = np.where(covered[:, None], out, before)
        return self._last

    def _at(self, target_s: float, now: F64) -> F64:
        return now.copy()  # the polynomial was read there already


class Kalman(Baseline):
    """Constant velocity with white acceleration, per joint, and fixed-lag (Rauch-Tung-Striebel) smoothing at any lag.

    Exact at the true times: the wanted one may fall between frames. A prediction runs along the velocity.

    Args:
        noise_m: standard deviation of a measured coordinate.
        acceleration: spectral density of the acceleration's white noise [m^2/s^3].
        damping: part of the velocity that a prediction uses; all of it overshoots.
    """

    def __init__(
        self, at_s: float = 0.0, noise_m: float = 0.01, acceleration: float = 1.0, damping: float = 0.5
    ) -> None:
        self.noise_m, self.acceleration, self.damping = noise_m, acceleration, damping
        super().__init__(at_s)

    def _start(self) -> None:
        # (time, filtered mean (J, 2, 3), filtered covariance (J, 2, 2), predicted mean, gain of the step before on it)
        self._steps: deque[tuple[float, F64, F64, F64, F64]] = deque()

    def _predict(self, mean: F64, cov: F64, dt_s: float) -> tuple[F64, F64]:
        f = np.array([[1.0, dt_s], [0.0, 1.0]])
        q = self.acceleration * np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]])
        return f @ mean, f @ cov @ f.T + q

    @staticmethod
    def _back(spread: F64, expected: F64, dt_s: float) -> F64:
        """Smoothing gain (J, 2, 2) from a state ``dt_s`` later, whose covariance was expected to be ``expected``."""
        return np.asarray(spread @ np.array([[1.0, 0.0], [dt_s, 1.0]]) @ np.linalg.inv(expected))

    def _step(self, t_s: float, dt_s: float, given: F64, seen: Bools) -> F64:
        fresh = np.zeros((len(given), 2, 3))
        fresh[:, 0] = given  # NaN where not seen yet
        spread = np.broadcast_to(np.diag([self.noise_m**2, 1.0]), (len(given), 2, 2))
        if not self._steps:
            self._steps.append((t_s, fresh, spread.copy(), fresh, np.zeros_like(spread)))
            return given
        mean, cov = self._predict(self._steps[-1][1], self._steps[-1][2], dt_s)
        back = self._back(self._steps[-1][2], cov, dt_s) if self.at_s < 0 else np.zeros_like(cov)
        gain = cov[:, :, :1] / (cov[:, :1, :1] + self.noise_m**2)  # (J, 2, 1)
        better = mean + gain * (given[:, None] - mean[:, :1])
        less = cov - gain * cov[:, :1]
        new = np.isnan(mean[:, :1, :1])
        visible = seen[:, None, None]
        filtered = np.where(visible, np.where(new, fresh, better), mean)
        covariance = np.where(new, spread, np.where(visible, less, cov))
        self._steps.append((t_s, filtered, covariance, mean, back))
        while len(self._steps) > 1 and self._steps[1][0] <= t_s + self.at_s:
            self._steps.popleft()
        return np.asarray(filtered[:, 0])

    def _at(self, target_s: float, now: F64) -> F64:
        last_s, mean = self._steps[-1][:2]
        if target_s >= last_s:
            return np.asarray(mean[:, 0] + self.damping * (target_s - last_s) * mean[:, 1])
        for k in range(len(self._steps) - 2, -1, -1):
            t_s, before, spread = self._steps[k][:3]
            next_s, _, _, expected, gain = self._steps[k + 1]
            if t_s < target_s:  # between two frames: predict to there, then smooth from the later one
                before, spread = self._predict(before, spread, target_s - t_s)
                t_s = target_s
                gain = self._back(spread, self._predict(before, spread, next_s - t_s)[1], next_s - t_s)
            smoothed = before + gain @ (mean - expected)
            mean = np.where(np.isnan(expected), before, smoothed)  # nothing was known of the joint before that
            if t_s <= target_s:
                break
        return np.asarray(mean[:, 0])


BASELINES: dict[str, Callable[[float], Baseline]] = {
    "raw": Raw,
    "hold": Hold,
    "median": RunningMedian,
    "one_euro": OneEuro,
    # SmoothNet's comparison and MediaPipe's world landmarks (value scaling off), as published.
    "one_euro_smoothnet": lambda at_s: OneEuro(at_s, 0.04, 0.7, 1.0, in_frames=True),
    "one_euro_mediapipe": lambda at_s: OneEuro(at_s, 0.1, 40.0, 1.0),
    "holt": Holt,
    "savitzky_golay": SavitzkyGolay,
    "kalman": Kalman,
}


def run(baseline: Baseline, times_s: npt.ArrayLike, positions: npt.ArrayLike) -> F64:
    """(T, J, 3) poses for ``times_s + at_s`` of a whole sequence (T, J, 3): the streaming step in a loop, from new."""
    baseline.reset()
    frames = np.asarray(positions, np.float64)
    return np.stack([baseline.push(float(t), frame) for t, frame in zip(np.asarray(times_s), frames)])
