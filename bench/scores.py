"""Figures of merit over a stretch of poses: error, jitter, bone-length change. NaN marks what is missing.

All take (T, J, 3) positions in metres, world, and give millimetres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import PARENTS

Floats = npt.NDArray[np.floating[Any]]
_PARENT = list(PARENTS[1:])


def _mean_or_nan(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def position_error_mm(positions: Floats, truth: Floats) -> float:
    """MPJPE in the world [mm]: mean distance to the truth over the joints that are there; NaN if none is."""
    return 1e3 * _mean_or_nan(np.linalg.norm(positions - truth, axis=-1))


def jitter_mm(positions: Floats, t_ns: npt.NDArray[np.int64]) -> float:
    """Mean size of the second difference [mm/frame^2], Accel without a reference; NaN if undefined.

    A frame is the median time step. Uneven steps are taken out by divided differences, or steady walking seen at
    irregular times would look jerky; gaps and missing joints are left out.
    """
    if len(t_ns) < 3:
        return float("nan")
    step = np.diff(t_ns) / np.median(np.diff(t_ns))  # in frames
    velocity = np.diff(positions, axis=0) / step[:, None, None]
    second = 2.0 * np.diff(velocity, axis=0) / (step[1:] + step[:-1])[:, None, None]  # (T-2, J, 3)
    regular = np.maximum(step[1:], step[:-1]) < 1.75  # (T-2,)
    return 1e3 * _mean_or_nan(np.linalg.norm(second[regular], axis=-1))


def bone_length_change_mm(positions: Floats) -> float:
    """Standard deviation of a bone's length over time [mm], mean over the bones; 0 for a rigid skeleton."""
    lengths = np.linalg.norm(positions[:, 1:] - positions[:, _PARENT], axis=-1)  # (T, J-1)
    seen = np.isfinite(lengths)
    enough = seen.sum(axis=0) >= 2
    if not enough.any():
        return float("nan")
    return 1e3 * float(np.nanstd(lengths[:, enough], axis=0).mean())
