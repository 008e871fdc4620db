"""Errors of real estimators, cut from recordings with truth and put on other motion.

A recording's few motions would be learned by heart; its errors on motion that the network has never seen cannot be.
What is real in them: how long they last, how joints err together, what is lost, and what the confidence says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.noise.corruption import Corrupted
from model.noise.steady import F32, F64
from model.skeleton import INDEX, MIRROR

_ACROSS = ([INDEX["left_hip"], INDEX["left_shoulder"]], [INDEX["right_hip"], INDEX["right_shoulder"]])


class Recorded(NamedTuple):
    """One recording of a source. The errors are relative to the middle of the hips, in heading axes: x to the left, z
    ahead; zero where a joint is not given."""

    layout: str
    times_s: F64  # (T,)
    error_m: F32  # (T, J, 3)
    present: np.ndarray  # (T, J) bool
    confidence: F32  # (T, J)


def recorded(layout: str, times_s: F64, noisy: F32, truth: F32, present: np.ndarray, confidence: F32) -> Recorded:
    """Of joints (T, J, 3) [m] as they arrived and as they were, by the source's own definition."""
    error = np.einsum("tba,tjb->tja", heading(truth), noisy - truth)
    return Recorded(layout, times_s - times_s[0], np.where(present[..., None], error, 0).astype(np.float32), present,
                    confidence.astype(np.float32))  # fmt: skip


def heading(joints: np.ndarray) -> F32:
    """(..., 3, 3) world_from_heading of joints (..., J, 3)."""
    left, right = (joints[..., side, :].mean(-2) for side in _ACROSS)
    x, z = left[..., 0] - right[..., 0], left[..., 2] - right[..., 2]
    length = np.maximum(np.hypot(x, z), 1e-3)
    c, s, zero, one = x / length, z / length, np.zeros_like(x), np.ones_like(x)
    return np.stack([c, zero, -s, zero, one, zero, s, zero, c], -1).reshape(*x.shape, 3, 3).astype(np.float32)


def chosen(rng: np.random.Generator, sources: Sequence[Recorded], size: int) -> list[Recorded]:
    """Some of the sources; of each layout as many, long ones more often."""
    layouts = [one.layout for one in sources]
    share = np.array([one.times_s[-1] for one in sources])
    for layout in set(layouts):
        of = np.array([name == layout for name in layouts])
        share[of] /= share[of].sum()
    return [sources[k] for k in rng.choice(len(sources), size, p=share / share.sum())]


def put_on(rng: np.random.Generator, sources: Sequence[Recorded], positions: F32, times_s: F64) -> Corrupted:
    """What each source would have made of a motion: positions (B, T, J, 3) [m] at times (B, T) [s]."""
    rows = [_row(rng, source, p, t - t[0]) for source, p, t in zip(sources, positions, times_s)]
    noisy, present, confidence = (np.stack(part) for part in zip(*rows))
    return Corrupted(noisy, present, confidence)


def _row(rng: np.random.Generator, source: Recorded, positions: F32, times_s: F64) -> tuple[F32, np.ndarray, F32]:
    spare = source.times_s[-1] - times_s[-1]
    pace = 1.0 if spare > 0 else 0.999 * source.times_s[-1] / times_s[-1]  # a recording that is too short is stretched
    at = pace * times_s + rng.uniform(0.0, max(spare, 0.0))
    near = np.abs(source.times_s[None] - at[:, None]).argmin(1)
    error, present, confidence = source.error_m[near], source.present[near], source.confidence[near]
    if rng.random() < 0.5:
        side = list(MIRROR)
        error, present, confidence = error[:, side] * (-1, 1, 1), present[:, side], confidence[:, side]
    size = np.exp(rng.normal(0.0, 0.25))
    turned = heading(positions) if rng.random() < 0.5 else heading(positions)[:1]  # it comes from the body, or the view
    error = np.einsum("tab,tjb->tja", np.broadcast_to(turned, (len(at), 3, 3)), error)
    return (positions + size * error).astype(np.float32), present, confidence
