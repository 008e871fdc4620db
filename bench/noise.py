"""What the demo's synthetic estimator gets wrong: the realistic test noise, and some events that everybody can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model.noise.config import REALISTIC
from model.noise.corruption import corrupt
from model.skeleton import INDEX

Floats = npt.NDArray[np.floating[Any]]

SIZE = 0.8  # of the realistic noise, whose test draws .6 to 1.6; smaller ones are the bench's "mild" and "drift"

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


def observed(truth_m: Floats, times_s: Floats, seed: int = 0, events: Sequence[Event] = ()) -> tuple[Floats, Floats]:
    """What an estimator would say of a motion; the same seed gives the same error.

    Args:
        truth_m: (T, J, 3) true positions [m], world.
        times_s: (T,) rising times [s].
    Returns:
        (T, J, 3) positions [m] with NaN where a joint is missing, and (T, J) confidence in [0, 1], 0 where missing.
    """
    drawn = corrupt(
        np.random.default_rng(seed), truth_m[None].astype(np.float32), times_s[None].astype(np.float64),
        replace(REALISTIC, scale=(SIZE, SIZE)),
    )  # fmt: skip
    positions, confidence = drawn.positions[0].astype(np.float64), drawn.confidence[0].astype(np.float64)
    missing = ~drawn.mask[0]
    for event in events:
        joints = [INDEX[name] for name in LIMBS[event.limb]]
        weight = np.array([event.weight(float(t)) for t in times_s])
        if event.offset_m is None:
            missing[:, joints] |= (weight > 0)[:, None]
        else:
            reach = np.linspace(0.5, 1.0, len(joints))[:, None]  # the end of the limb is the furthest off
            positions[:, joints] += weight[:, None, None] * reach * 2.0 * np.array(event.offset_m)
    positions[missing] = np.nan
    confidence[missing] = 0.0
    return positions, confidence
