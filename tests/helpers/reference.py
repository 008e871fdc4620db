"""Slow, obvious oracles, written with loops and float64: what the fast code must equal."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from model.skeleton import PARENTS, J


def forward_kinematics(world_rot: np.ndarray, offsets_m: np.ndarray, root_m: np.ndarray) -> np.ndarray:
    """(J, 3) joints of one pose, down the chain from parent to child."""
    out = np.zeros((J, 3))
    out[0] = root_m
    for joint in range(1, J):
        parent = PARENTS[joint]
        out[joint] = out[parent] + world_rot[parent] @ offsets_m[joint]
    return out


def mpjpe(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance over frames and joints of (T, J, 3)."""
    return float(np.mean([[np.sqrt(sum((p - q) ** 2)) for p, q in zip(x, y)] for x, y in zip(a, b)]))


def root_relative(positions: np.ndarray) -> np.ndarray:
    return np.stack([[joint - frame[0] for joint in frame] for frame in positions])


def acceleration(a: np.ndarray, b: np.ndarray) -> float:
    """Mean norm of the difference of second differences, per frame^2."""
    sizes = []
    for t in range(1, len(a) - 1):
        for j in range(a.shape[1]):
            first = a[t + 1, j] - 2 * a[t, j] + a[t - 1, j]
            second = b[t + 1, j] - 2 * b[t, j] + b[t - 1, j]
            sizes.append(np.linalg.norm(first - second))
    return float(np.mean(sizes))


def procrustes(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """(J, 3) ``moving`` after the similarity that brings it nearest to ``fixed`` in least squares.

    Rotation by scipy's align_vectors (Kabsch), scale by the projection: s = <fixed, R moving> / |moving|^2.
    """
    x, y = moving - moving.mean(0), fixed - fixed.mean(0)
    rotation = Rotation.align_vectors(y, x)[0]
    turned = rotation.apply(x)
    scale = float((turned * y).sum() / (x * x).sum())
    return scale * turned + fixed.mean(0)


def pa_mpjpe(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([np.linalg.norm(procrustes(x, y) - y, axis=-1).mean() for x, y in zip(a, b)]))


def angle_rad(a: np.ndarray, b: np.ndarray) -> float:
    """Angle of the rotation between two (3, 3)."""
    return float(Rotation.from_matrix(a.T @ b).magnitude())


def swing_twist_rad(between: np.ndarray, axis: np.ndarray) -> tuple[float, float]:
    """Angles of swing and twist about the unit ``axis``: R = swing @ twist. By the quaternion's part along the axis."""
    x, y, z, w = Rotation.from_matrix(between).as_quat()
    along = float(np.dot([x, y, z], axis))
    twist = Rotation.from_quat([*(along * axis), w]) if abs(along) + abs(w) > 1e-12 else Rotation.identity()
    swing = Rotation.from_matrix(between) * twist.inv()
    return float(swing.magnitude()), float(twist.magnitude())
