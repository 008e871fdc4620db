"""A body to look at: for each bone a long octahedron from its joint to the next, as animation programs draw bones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.files.tree import Floats
from model.skeleton import JOINTS, PARENTS

_WAIST = 0.15  # of the way along the bone, where it is widest
_WIDTH = 0.12  # of the bone's length, from its middle to an edge
_SMALL_M = 1e-4  # shorter bones are not drawn
_TRIANGLES = ((0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (5, 2, 1), (5, 3, 2), (5, 4, 3), (5, 1, 4))
_HEAD_M = (0.0, 0.18, 0.0)


def octahedra(rest: Floats) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vertices (V, 3) [m] of the bones in the rest pose ``rest`` (24, 3), their joints (V,), and triangles (N, 3).

    A bone goes with the joint it begins at; the head has one of its own, up from its joint. Seen from outside,
    triangles go round against the clock.
    """
    bones = [(p, rest[p], rest[j]) for j, p in enumerate(PARENTS) if p >= 0]
    head = JOINTS.index("head")
    bones.append((head, rest[head], rest[head] + _HEAD_M))
    vertices: list[Floats] = []
    joints, triangles = [], []
    for joint, start, end in bones:
        length = float(np.linalg.norm(end - start))
        if length < _SMALL_M:
            continue
        along = (end - start) / length
        side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
        side /= np.linalg.norm(side)
        other = np.cross(along, side)
        waist, width = start + _WAIST * (end - start), _WIDTH * length
        ring = [waist + width * v for v in (side, -other, -side, other)]
        triangles.append(np.array(_TRIANGLES) + 6 * len(vertices))
        vertices.append(np.stack([start, *ring, end]))
        joints.append(np.full(6, joint))
    return np.concatenate(vertices), np.concatenate(joints), np.concatenate(triangles)
