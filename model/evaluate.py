"""What is measured on a stream of poses: pure functions of arrays, in millimetres, degrees and seconds.

Every score compares poses with the truth at the time the pose is for, never shifted. Axes: T frames, J joints. A mask
(T, J) says which joints count; without it all do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import CHILDREN, FORKS, INDEX, LEAVES, PARENTS, J, rest_directions

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

MM = 1000.0
FEET = (INDEX["left_foot"], INDEX["right_foot"])
# P(d^2 <= x) of a 3-D Gaussian's squared Mahalanobis distance: what "inside 1, 2 sigma" means for a vector.
CHI2_3 = {0.6827: 3.5267, 0.90: 6.2514, 0.9545: 8.0249}


def _mean(values: F64, mask: Bools | None) -> float:
    if mask is not None:
        values = values[np.broadcast_to(mask, values.shape)]
    return float(values.mean()) if values.size else float("nan")


def _distance(a: Array, b: Array) -> F64:
    return np.asarray(np.linalg.norm(np.asarray(a, np.float64) - b, axis=-1))


def mpjpe_mm(predicted: Array, true: Array, mask: Bools | None = None) -> float:
    """Mean distance to the true joints (T, J, 3) [m] in the world [mm]; NaN when nothing counts."""
    return MM * _mean(_distance(predicted, true), mask)


def root_relative(positions: Array) -> F64:
    """(T, J, 3) joints from their own pelvis."""
    return np.asarray(positions, np.float64) - positions[..., :1, :]


def mpjpe_root_mm(predicted: Array, true: Array, mask: Bools | None = None) -> float:
    """MPJPE after each pose's own pelvis is moved to the origin [mm]: where the body is does not count."""
    return mpjpe_mm(root_relative(predicted), root_relative(true), mask)


def procrustes(moving: Array, fixed: Array) -> F64:
    """``moving`` (..., J, 3) after the similarity that brings it nearest to ``fixed``: rotation, scale and shift.

    Source: Umeyama 1991, without reflections. Oracle: tests/reference.py.
    """
    moving, fixed = np.asarray(moving, np.float64), np.asarray(fixed, np.float64)
    x, y = moving - moving.mean(-2, keepdims=True), fixed - fixed.mean(-2, keepdims=True)
    u, s, vt = np.linalg.svd(x.swapaxes(-1, -2) @ y)
    flip = np.ones_like(s)
    flip[..., 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * flip[..., None, :]) @ vt  # acts on row vectors: x @ rotation
    scale = (s * flip).sum(-1) / np.maximum((x * x).sum((-1, -2)), 1e-12)
    return np.asarray(scale[..., None, None] * (x @ rotation) + fixed.mean(-2, keepdims=True))


def pa_mpjpe_mm(predicted: Array, true: Array) -> float:
    """MPJPE after the best rotation, scale and shift of every frame [mm]."""
    return mpjpe_mm(procrustes(predicted, true), true)


def accel_mm(predicted: Array, true: Array, mask: Bools | None = None) -> float:
    """Mean norm of the acceleration error [mm/frame^2]: depends on the frame rate, so state it.

    With a mask, all three frames of a second difference must count.
    """
    error = np.asarray(predicted, np.float64) - true
    second = error[2:] - 2.0 * error[1:-1] + error[:-2]
    counts = None if mask is None else mask[2:] & mask[1:-1] & mask[:-2]
    return MM * _mean(np.linalg.norm(second, axis=-1), counts)


def jitter_m_s3(positions: Array, fps: float) -> float:
    """Mean jerk [m/s^3], to be read beside the truth's own."""
    third = np.diff(np.asarray(positions, np.float64), 3, axis=0)
    return _mean(np.linalg.norm(third, axis=-1), None) * fps**3


def bone_lengths_m(positions: Array) -> F64:
    """(T, J - 1) length of every bone but the root's [m]."""
    positions = np.asarray(positions, np.float64)
    return np.asarray(np.linalg.norm(positions[:, 1:] - positions[:, list(PARENTS[1:])], axis=-1))


def bone_length_std_mm(positions: Array) -> float:
    """Standard deviation of the bone lengths over time, mean over bones [mm]: 0 for a rigid skeleton."""
    return float(MM * np.nanstd(bone_lengths_m(positions), axis=0).mean())


def _twist_axes() -> F64:
    """(J, 3) the rest direction of the bone that each joint turns; a fork's middle child; a leaf's own bone."""
    rest, axes = rest_directions(), np.zeros((J, 3))
    for joint in range(J):
        turned = CHILDREN[joint]
        axes[joint] = rest[joint] if not turned else rest[turned[-1] if joint == 0 else turned[0]]
    return axes


TWIST_AXES: F64 = _twist_axes()
# Joints whose twist positions cannot show: those with one child, and the leaves, whose whole rotation is a prior.
HIDDEN_TWIST: tuple[int, ...] = tuple(j for j in range(J) if j not in FORKS and j not in LEAVES)


def _angle(matrices: F64) -> F64:
    """Rotation angle [rad]; from sine and cosine, so that small angles keep their digits."""
    skew = matrices - matrices.swapaxes(-1, -2)
    sine = np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    return np.asarray(np.arctan2(sine, np.trace(matrices, axis1=-2, axis2=-1) - 1.0))


def rotation_error_deg(predicted: Array, true: Array) -> F64:
    """(..., J) angle between rotations (..., J, 3, 3) [degrees]."""
    between = np.asarray(true, np.float64).swapaxes(-1, -2) @ predicted
    return np.degrees(_angle(between))


def swing_twist_deg(predicted: Array, true: Array) -> tuple[F64, F64]:
    """Swing and twist of the rotation error about each joint's bone, both (..., J) [degrees], 0 to 180.

    Positions show the swing of a joint with one child and nothing of its twist: so they are scored apart.
    Swing is the angle between the two bones, twist the turn about the bone that is left. Oracle: tests/reference.py.
    """
    between = np.asarray(true, np.float64).swapaxes(-1, -2) @ predicted
    axes = TWIST_AXES
    swing = np.arctan2(
        np.linalg.norm(np.cross(np.broadcast_to(axes, (*between.shape[:-2], 3)), _turned(between, axes)), axis=-1),
        (axes * _turned(between, axes)).sum(-1),
    )
    return np.degrees(swing), np.degrees(_twist(between, axes))


def _twist(between: F64, axes: F64) -> F64:
    """(..., J) angle of the twist about ``axes`` [rad]: 2 atan2(axis . xyz, w) of the quaternion, without its signs."""
    trace = np.trace(between, axis1=-2, axis2=-1)
    w = 0.5 * np.sqrt(np.maximum(trace + 1.0, 0.0))
    skew = between - between.swapaxes(-1, -2)
    sine = np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)  # 4 w xyz: exact for small angles
    # Near a half turn w is 0 and says nothing: there the symmetric part gives (axis . xyz)^2.
    squared = 0.5 * ((axes * _turned(between, axes)).sum(-1) + 0.5 - 0.5 * trace)
    exact = np.abs((sine * axes).sum(-1)) / np.maximum(4.0 * w, 1.0)
    along = np.where(w > 0.25, exact, np.sqrt(np.maximum(squared, 0.0)))
    return np.asarray(2.0 * np.arctan2(along, w))


def _turned(matrices: F64, axes: F64) -> F64:
    return np.asarray((matrices @ axes[..., None])[..., 0])


def foot_contact(positions: Array, fps: float) -> npt.NDArray[np.float32]:
    """(T, 2) 1 where the left/right foot joint is slow (< 0.25 m/s) and low (within 6 cm of the clip's lowest)."""
    feet = positions[:, list(FEET)]
    speed = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * fps
    floor = np.quantile(feet[..., 1], 0.02)
    return ((speed < 0.25) & (feet[..., 1] < floor + 0.06)).astype(np.float32)


def foot_sliding_mm_s(positions: Array, contact: Bools, fps: float) -> float:
    """Mean horizontal speed of the feet while they are on the ground [mm/s]; NaN without contact.

    Args:
        positions: (T, J, 3) m, Y up.
        contact: (T, 2) left, right: the truth's, so that a filter cannot lift a foot to score well.
    """
    feet = np.asarray(positions, np.float64)[:, list(FEET)][..., [0, 2]]
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * fps
    return MM * _mean(speed, contact[1:] & contact[:-1])


def lag_s(predicted: Array, true: Array, fps: float, longest_s: float = 0.5) -> float:
    """How late a stream is [s], by the cross-correlation of velocities; negative when it is early.

    The whole-frame shift of the highest correlation, then the top of a parabola through it and its neighbours.
    """
    moved = np.diff(np.asarray(predicted, np.float64), axis=0).reshape(len(predicted) - 1, -1)
    truth = np.diff(np.asarray(true, np.float64), axis=0).reshape(len(true) - 1, -1)
    most = min(round(longest_s * fps), len(moved) // 2)
    shifts = range(-most, most + 1)
    scores = np.array([_shifted_correlation(moved, truth, k) for k in shifts])
    best = int(scores.argmax())
    part = 0.0
    if 0 < best < len(scores) - 1:
        before, top, after = scores[best - 1 : best + 2]
        curve = before - 2.0 * top + after
        part = 0.5 * (before - after) / curve if curve < 0 else 0.0
    return float((best - most + part) / fps)


def _shifted_correlation(moved: F64, truth: F64, shift: int) -> float:
    late = moved[max(shift, 0) : len(moved) + min(shift, 0)]
    early = truth[max(-shift, 0) : len(truth) - max(shift, 0)]
    scale = np.sqrt((late * late).sum() * (early * early).sum())
    return float((late * early).sum() / scale) if scale > 0 else 0.0


def coverage(error_m: Array, covariance: Array, level: float = 0.6827, mask: Bools | None = None) -> float:
    """Share of errors (..., 3) [m] inside the ellipsoid that should hold ``level`` of them; equal when calibrated.

    Args:
        covariance: (..., 3, 3) [m^2], positive definite.
        level: one of CHI2_3: .6827 is "1 sigma".
    """
    error = np.asarray(error_m, np.float64)
    solved = np.linalg.solve(np.asarray(covariance, np.float64), error[..., None])[..., 0]
    return _mean(((error * solved).sum(-1) <= CHI2_3[level]).astype(np.float64), mask)


def coverage_per_axis(error_m: Array, covariance: Array, sigmas: float = 1.0, mask: Bools | None = None) -> float:
    """Share of single coordinates within ``sigmas`` of their own standard deviation: .6827 when calibrated at 1."""
    spread = np.sqrt(np.diagonal(np.asarray(covariance, np.float64), axis1=-2, axis2=-1))
    inside = (np.abs(error_m) <= sigmas * spread).astype(np.float64).mean(-1)
    return _mean(inside, mask)
