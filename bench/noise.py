"""A live estimator's error, drawn frame by frame with numpy alone: what the demo adds to its synthetic actor.

The components and their sizes are FIELD.md's (slow whole-body error, white part, one bad axis, bursts, gaps);
model/corruption.py draws the full set for training, over whole clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.skeleton import INDEX, PARENTS, J

Floats = npt.NDArray[np.float64]

LIMBS: dict[str, tuple[str, ...]] = {
    "left arm": ("left_elbow", "left_wrist", "left_hand"),
    "right arm": ("right_elbow", "right_wrist", "right_hand"),
    "left leg": ("left_knee", "left_ankle", "left_foot"),
    "right leg": ("right_knee", "right_ankle", "right_foot"),
    "whole body": tuple(INDEX),
}


@dataclass(frozen=True)
class Event:
    """A limb that an estimator loses (``offset_m`` None) or puts somewhere else, for a while."""

    start_s: float
    end_s: float
    limb: str
    offset_m: tuple[float, float, float] | None = None

    def weight(self, t_s: float) -> float:
        """How far in it is: 0 outside, 1 inside, with ramps of 0.15 s as a tracker's own smoothing makes them."""
        ramp = min(t_s - self.start_s, self.end_s - t_s) / 0.15
        return float(np.clip(ramp, 0.0, 1.0))


@dataclass(frozen=True)
class NoiseLevel:
    """Sizes of the components; standard deviations per axis [m], times [s]."""

    slow_m: float = 0.015
    slow_tau_s: float = 0.6
    modes: int = 6
    white_m: float = 0.004
    depth_factor: float = 2.0
    missing: float = 0.01  # chance that a joint is missing in a frame


def demo_events(seconds: float) -> tuple[Event, ...]:
    """An arm lost, the same arm flipped through depth, a leg lost and a blackout, spread over ``seconds``."""
    at = seconds * np.array([0.30, 0.48, 0.66, 0.82])
    length = np.minimum([0.6, 0.8, 0.5, 0.25], 0.1 * seconds)
    limbs = ("right arm", "right arm", "left leg", "whole body")
    offsets = (None, (0.05, -0.06, -0.20), None, None)
    return tuple(
        Event(float(start), float(start + span), limb, offset)
        for start, span, limb, offset in zip(at, length, limbs, offsets, strict=True)
    )


def _slow_modes(rng: np.random.Generator, modes: int) -> Floats:
    """(modes, J) how far each slow process moves each joint; 1 (root sum square) at the pelvis, more at the hands.

    A random walk along the chains: neighbours err together, so that bones change by a few per cent while a hand may
    be a hand's length off.
    """
    walk = np.empty((modes, J))
    for j, parent in enumerate(PARENTS):
        step = rng.standard_normal(modes)
        step /= np.linalg.norm(step)
        walk[:, j] = step if parent < 0 else walk[:, parent] + 0.35 * step
    return walk


@dataclass
class LiveNoise:
    """Adds an estimator's error to true positions, one frame at a time; the same seed gives the same error."""

    seed: int = 0
    level: NoiseLevel = field(default_factory=NoiseLevel)
    events: Sequence[Event] = ()

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new: the same frames give the same error again."""
        self._rng = np.random.default_rng(self.seed)
        self._modes = _slow_modes(self._rng, self.level.modes)
        self._axes = np.array([1.0, 1.0, self.level.depth_factor])  # the camera looks along z
        self._slow = self._rng.standard_normal((self.level.modes, 3))
        self._last_s: float | None = None

    def corrupt(self, t_s: float, truth_m: Floats) -> tuple[Floats, Floats]:
        """What the estimator would say.

        Args:
            t_s: time of the frame [s], increasing; any steps.
            truth_m: (J, 3) true positions [m], world.
        Returns:
            (J, 3) positions [m] with NaN rows where a joint is missing, and (J,) confidence in [0, 1], 0 where missing.
        """
        self._advance(t_s)
        level, rng = self.level, self._rng
        slow = level.slow_m * (self._modes.T @ self._slow)  # (J, 3)
        # Student-t with 4 degrees of freedom has variance 2: heavy tails at the stated size.
        white = level.white_m / np.sqrt(2.0) * rng.standard_t(4, (J, 3))
        noisy = truth_m + (slow + white) * self._axes
        missing = rng.random(J) < level.missing
        for event in self.events:
            weight = event.weight(t_s)
            if weight == 0.0:
                continue
            joints = [INDEX[name] for name in LIMBS[event.limb]]
            if event.offset_m is None:
                missing[joints] = True
            else:
                reach = np.linspace(0.5, 1.0, len(joints))[:, None]  # the end of the limb is the furthest off
                noisy[joints] += weight * reach * 2.0 * np.array(event.offset_m)
        error_m = np.linalg.norm(noisy - truth_m, axis=-1)
        confidence = np.clip(1.0 - error_m / 0.4 + 0.08 * rng.standard_normal(J), 0.05, 1.0)
        noisy[missing] = np.nan
        confidence[missing] = 0.0
        return noisy, confidence

    def _advance(self, t_s: float) -> None:
        """One exact step of the Ornstein-Uhlenbeck processes, whatever the time since the last frame."""
        if self._last_s is not None:
            keep = np.exp(-(t_s - self._last_s) / self.level.slow_tau_s)
            self._slow = keep * self._slow + np.sqrt(1 - keep**2) * self._rng.standard_normal(self._slow.shape)
        self._last_s = t_s
