"""What a body can be: whether the joints of a frame can be one at all. Nothing here knows an actor's history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.skeleton import INDEX
from streamer.runtimes.block import F32

COLLAPSED = "positions: all joints, or the corners of the torso, lie in one point or on one line: this is no body"
POINT_M = 0.005  # a body that spans less is a point, whatever its units
PLAIN_M4 = 0.01**2  # a torso of this area squared, a tenth of an adult's, needs no second look
FLAT = 0.002  # the torso's area over the square of the body's size: some .05 of a person, less than this of no one
LINE = 0.02  # the farthest joint from a line, in parts of its length
BODILY = 8  # so many joints, hips among them, are a body and not one stretched limb

CORNERS = [INDEX[f"{side}_{name}"] for name in ("hip", "shoulder") for side in ("left", "right")]
_LEFT, _RIGHT, _TOP, _ = CORNERS
_TRUNK = [INDEX[name] for name in ("pelvis", "left_hip", "right_hip")]
_NECK, _PELVIS = INDEX["neck"], INDEX["pelvis"]

# x, y, z and presence of a frame's joints as plain numbers: what every frame is looked at by, for on the hot path a
# call of numpy costs as much as twenty products.
Shown = list[list[float]]
Corner = tuple[float, ...]


def corners(shown: Shown) -> list[Corner]:
    """x, y, z and presence of the left and right hip, left and right shoulder."""
    return [tuple(row[joint] for row in shown) for joint in CORNERS]


def plainly_a_body(shown: Shown) -> bool:
    """Whether three corners alone say that a frame is not ``collapsed``: they do of nearly all."""
    xs, ys, zs, there = shown
    if there[_LEFT] and there[_RIGHT] and there[_TOP]:
        x, y, z = xs[_LEFT], ys[_LEFT], zs[_LEFT]
        across = xs[_RIGHT] - x, ys[_RIGHT] - y, zs[_RIGHT] - z
        return _area_m4(across, (xs[_TOP] - x, ys[_TOP] - y, zs[_TOP] - z)) > PLAIN_M4
    seen = [corner for corner in corners(shown) if corner[3]]
    if len(seen) < 3:
        return False
    a, b, c = seen
    return _area_m4([b[i] - a[i] for i in range(3)], [c[i] - a[i] for i in range(3)]) > PLAIN_M4


def collapsed(joints: F32, shown: Shown) -> bool:
    """Whether the visible joints of a frame (6, 24) coincide, lie on one line, or have no torso between them."""
    visible = joints[3] > 0
    count = np.count_nonzero(visible)
    if count < 3:
        return False
    xyz = joints[:3, visible]
    size = float((xyz.max(1) - xyz.min(1)).max())
    if size < POINT_M:
        return True
    trunk = joints[:3, _NECK] - joints[:3, _PELVIS]
    if visible[_NECK] and visible[_PELVIS] and float(trunk @ trunk) < (LINE * size) ** 2:
        return True
    *axes, there = zip(*corners(shown))
    if all(there):
        across, up = [0.5 * (a - b + c - d) for a, b, c, d in axes], [0.5 * (c + d - a - b) for a, b, c, d in axes]
        return _area_m4(across, up) < (FLAT * size * size) ** 2
    if count < BODILY or not visible[_TRUNK].any():
        return False
    away = xyz - xyz[:, :1]
    far = np.sqrt((away * away).sum(0))
    along = away[:, far.argmax()] / far.max()
    across_m = away - along[:, None] * (along @ away)
    return bool(np.sqrt((across_m * across_m).sum(0).max()) < LINE * far.max())


def _area_m4(a: Sequence[float], b: Sequence[float]) -> float:
    """Square of the area between two vectors."""
    x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    return x * x + y * y + z * z
