"""How steady an actor's poses are, beside the frames they come from: ``hpstm replay`` has no truth to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.layouts import get_layout
from model.skeleton import PARENTS, J
from streamer.frames import Array, Frame, Pose


def score(rows: list[tuple[Frame, Pose | None]], fps: float) -> dict[str, Any]:
    """Steadiness of one actor's input and output, after calibration if it ended.

    A frame without a pose of its own stays in as NaN: differences are taken between neighbours in the input only.
    """
    settled = [n for n, (_, pose) in enumerate(rows) if pose is not None and pose.status != "calibrating"]
    rows = rows[settled[0] :] if len(settled) >= 4 else rows
    nothing = np.full((J, 3), np.nan)
    raw = np.stack([canonical(frame) if pose is not None else nothing for frame, pose in rows])
    refined = np.stack([pose.positions if pose is not None else nothing for _, pose in rows]).astype(np.float64)
    same = np.where(np.isnan(raw), np.nan, refined)  # the same joints in the same frames
    return {
        "scored": sum(pose is not None for _, pose in rows),
        "joints": int(np.isfinite(raw).all(axis=-1).any(axis=0).sum()),
        "accel_mm": {"in": accel_mm(raw), "out": accel_mm(same)},
        "jitter_m_s3": {"in": jitter_m_s3(raw, fps), "out": jitter_m_s3(same, fps)},
        "bone_std_mm": {"in": bone_std_mm(raw), "out": bone_std_mm(refined)},
    }


def canonical(frame: Frame) -> Array:
    """(24, 3) the joints the layout measures, NaN elsewhere [m]."""
    positions, measured, _, _ = get_layout(frame.layout).to_canonical(frame.positions, frame.confidence)
    return np.where(measured[:, None], positions, np.nan).astype(np.float64)


def accel_mm(positions: Array) -> float:
    """Mean size of the second difference of (T, J, 3) positions [mm/frame^2]; NaN = missing."""
    return 1e3 * _mean_norm(np.diff(positions, n=2, axis=0))


def jitter_m_s3(positions: Array, fps: float) -> float:
    """Mean size of the third derivative of (T, J, 3) positions [m/s^3]."""
    return fps**3 * _mean_norm(np.diff(positions, n=3, axis=0))


def bone_std_mm(positions: Array) -> float:
    """Standard deviation of a bone's length over time [mm], mean over the bones that are measured."""
    bones = np.linalg.norm(positions[:, 1:] - positions[:, list(PARENTS[1:])], axis=-1)  # (T, J-1)
    bones = bones[:, np.isfinite(bones).sum(axis=0) > 1]
    return 1e3 * float(np.nanstd(bones, axis=0).mean()) if bones.size else float("nan")


def _mean_norm(differences: Array) -> float:
    sizes = np.linalg.norm(differences, axis=-1)
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.mean()) if sizes.size else float("nan")
