"""The axes in which a joint's constant offset stands still: those of the bone that ends at it.

From the truth's rotations where they are known; else from true joints alone, without twist, as far as they show it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from model.kinematics import frame_from_axes
from model.skeleton import INDEX, PARENTS, J, rest_directions

Floats = npt.NDArray[np.floating[Any]]
_TORSO = [INDEX[name] for name in ("left_hip", "right_hip", "left_shoulder", "right_shoulder")]


def bone_axes(positions: Floats, rotations: Floats | None = None) -> Floats:
    """(T, 24, 3, 3) for each joint: world_from_joint of its parent (the root's: its own).

    Args:
        positions: (T, 24, 3) true joints [m], NaN where not known.
        rotations: (T, 24, 3, 3) world_from_joint, if they are known.
    """
    world = swung(positions) if rotations is None else np.asarray(rotations, np.float64)
    return np.asarray(world[:, [max(p, 0) for p in PARENTS]])


def swung(positions: Floats) -> Floats:
    """(T, 24, 3, 3) rotations from joints alone: the torso by hips and shoulders, each limb by its bones' swing.

    A bone that is not known turns with its parent; without hips and shoulders all have the world's axes.
    """
    torso = _torso_axes(positions)
    world = np.broadcast_to(torso[:, None], (len(positions), J, 3, 3)).copy()
    rest = rest_directions()
    for side in ("left", "right"):
        for chain in (("hip", "knee", "ankle", "foot"), ("shoulder", "elbow", "wrist", "hand")):
            before = torso
            for name, child in pairwise(chain):
                joint, end = INDEX[f"{side}_{name}"], INDEX[f"{side}_{child}"]
                before = _swing(before @ rest[end], positions[:, end] - positions[:, joint]) @ before
                world[:, joint] = before
    return world


def _torso_axes(positions: Floats) -> Floats:
    """(T, 3, 3) x to the left, y up the trunk; the last one known where a frame does not show it."""
    left_hip, right_hip, left_shoulder, right_shoulder = np.moveaxis(positions[:, _TORSO], 1, 0)
    up = left_shoulder + right_shoulder - left_hip - right_hip
    across = left_hip + left_shoulder - right_hip - right_shoulder
    axes = np.broadcast_to(np.eye(3), (len(positions), 3, 3)).copy()
    known = np.isfinite(up + across).all(-1)
    known[known] &= np.linalg.norm(np.cross(up[known], across[known]), axis=-1) > 1e-4
    axes[known] = frame_from_axes(up[known], across[known])[..., [1, 0, 2]] * (1.0, 1.0, -1.0)
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    return np.asarray(np.where((last >= 0)[:, None, None], axes[last], axes))


def _swing(a: Floats, b: Floats) -> Floats:
    """(T, 3, 3) smallest rotation from the direction ``a`` to ``b``; none where one of them is not known."""
    b = np.where(np.isfinite(b), b, 0.0)
    size = np.linalg.norm(b, axis=-1, keepdims=True)
    b = np.where(size > 1e-6, b / np.maximum(size, 1e-6), a)
    axis, cosine = np.cross(a, b), (a * b).sum(-1)
    skew = np.cross(axis[:, None], -np.eye(3))
    # Opposite directions have no smallest rotation: close to there it is scaled down, still finite.
    return np.asarray(np.eye(3) + skew + skew @ skew / np.maximum(1.0 + cosine, 1e-3)[:, None, None])
