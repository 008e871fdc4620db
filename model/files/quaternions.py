"""Rotations as quaternions xyzw, in numpy: what files of animation hold. Oracle: scipy's Rotation, in the tests."""

from __future__ import annotations

import numpy as np

from model.files.tree import Floats
from model.skeleton import PARENTS, J


def matrices(quaternions: Floats) -> Floats:
    """(..., 3, 3) rotation matrices of unit quaternions (..., 4)."""
    x, y, z, w = np.moveaxis(quaternions, -1, 0)
    rows = (
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w),
        2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w),
        2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip
    return np.stack(rows, -1).reshape(*x.shape, 3, 3)


def quaternions(rot: Floats) -> Floats:
    """(..., 4) unit quaternions of rotation matrices (..., 3, 3).

    Of the rows of 4 q q^T the one with the largest diagonal: well conditioned everywhere (Markley 2008).
    """
    (a, b, c), (d, e, f), (g, h, i) = np.moveaxis(rot, (-2, -1), (0, 1))
    rows = np.stack([
        1.0 + a - e - i, b + d, c + g, h - f,
        b + d, 1.0 - a + e - i, f + h, c - g,
        c + g, f + h, 1.0 - a - e + i, d - b,
        h - f, c - g, d - b, 1.0 + a + e + i,
    ], -1).reshape(*a.shape, 4, 4)  # fmt: skip
    best = np.diagonal(rows, axis1=-2, axis2=-1).argmax(-1)
    return unit(np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :])


def unit(quaternions: Floats) -> Floats:
    """(..., 4) made unit length."""
    out: Floats = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return out


def product(a: Floats, b: Floats) -> Floats:
    """(..., 4) the turn ``b``, then the turn ``a``: as the product of their matrices."""
    (ax, ay, az, aw), (bx, by, bz, bw) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    parts = (
        aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz,
    )  # fmt: skip
    return np.stack(parts, -1)


def continuous(quaternions: Floats) -> Floats:
    """(T, ..., 4) the same turns, the sign of each the one nearer to that of the time before."""
    if len(quaternions) < 2:
        return quaternions
    flips = np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0.0, -1.0, 1.0)
    signs = np.concatenate([np.ones((1, *flips.shape[1:])), np.cumprod(flips, axis=0)])
    out: Floats = quaternions * signs[..., None]
    return out


def between(a: Floats, b: Floats, share: Floats) -> Floats:
    """(..., 4) the turns at ``share`` (...) in 0..1 of the shorter way from ``a`` to ``b`` (slerp; Shoemake 1985)."""
    dot = (a * b).sum(-1)
    b = np.where(dot[..., None] < 0.0, -b, b)
    angle = 2.0 * np.arctan2(np.linalg.norm(b - a, axis=-1), np.linalg.norm(b + a, axis=-1))
    small = angle < 1e-6
    sine = np.sin(np.where(small, 1.0, angle))
    first = np.where(small, 1.0 - share, np.sin((1.0 - share) * angle) / sine)
    second = np.where(small, share, np.sin(share * angle) / sine)
    return unit(first[..., None] * a + second[..., None] * b)


def axis_angles(quaternions: Floats) -> Floats:
    """(..., 3) axis times angle [rad], the angle at most pi, of unit quaternions (..., 4)."""
    q = np.where(quaternions[..., 3:] < 0.0, -quaternions, quaternions)
    sine = np.linalg.norm(q[..., :3], axis=-1)
    angle = 2.0 * np.arctan2(sine, q[..., 3])
    ratio = np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-9))
    return q[..., :3] * ratio[..., None]


def world_from_local(local: Floats) -> Floats:
    """(..., 24, 3, 3) world_from_joint of parent_from_joint rotations (..., 24, 3, 3); the root's are in the world."""
    world = local.copy()
    for joint in range(1, J):  # parents stand before their children
        world[..., joint, :, :] = world[..., PARENTS[joint], :, :] @ local[..., joint, :, :]
    return world


def local_from_world(world: Floats) -> Floats:
    """(..., 24, 3, 3) parent_from_joint of world_from_joint rotations (..., 24, 3, 3); the root's in the world."""
    out = world.copy()
    out[..., 1:, :, :] = np.swapaxes(world[..., list(PARENTS[1:]), :, :], -1, -2) @ world[..., 1:, :, :]
    return out
