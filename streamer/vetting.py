"""What a body can be: whether the joints of a frame can be one at all. Nothing here knows an actor's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.skeleton import INDEX
from streamer.runtimes.block import F32

COLLAPSED = "positions: all joints, or the corners of the torso, lie in one point or on one line: this is no body"
POINT_M = 0.005  # a body that spans less is a point, whatever its units
PLAIN_M4 = 0.01**2  # a torso of this area squared, a tenth of an adult's, needs no second look
FLAT = 0.002  # the torso's area over the square of the body's size: some .05 of a person, less than this of no one
LINE = 0.02  # the farthest joint from a line, in parts of its length
BODILY = 8  # so many joints, hips among them, are a body and not one stretched limb

_HIPS, _SHOULDERS = (slice(INDEX[f"left_{name}"], INDEX[f"right_{name}"] + 1) for name in ("hip", "shoulder"))
_TRUNK = [INDEX[name] for name in ("pelvis", "left_hip", "right_hip")]

# x, y, z and presence of the four corners of a torso. What every frame is looked at by, as plain numbers: on the hot
# path a call of numpy costs as much as twenty products.
Corner = tuple[float, float, float, float]
Torso = tuple[Corner, Corner, Corner, Corner]


def torsos(joints: F32) -> list[Torso]:
    """The left and right hip and shoulder of each of some frames (B, 6, 24)."""
    pairs = zip(joints[:, :4, _HIPS].tolist(), joints[:, :4, _SHOULDERS].tolist())
    out: Any = [(*zip(*hips), *zip(*shoulders)) for hips, shoulders in pairs]
    return out  # type: ignore[no-any-return]


def plainly_a_body(torso: Torso) -> bool:
    """Whether three corners alone say that a frame is not ``collapsed``: they do of nearly all."""
    a, b, c, d = torso
    if not a[3]:
        a = d
    elif not b[3]:
        b = d
    elif not c[3]:
        c = d
    if not (a[3] and b[3] and c[3]):
        return False
    return _area_m4((b[0] - a[0], b[1] - a[1], b[2] - a[2]), (c[0] - a[0], c[1] - a[1], c[2] - a[2])) > PLAIN_M4


def collapsed(joints: F32, torso: Torso) -> bool:
    """Whether the visible joints of a frame (6, 24) coincide, lie on one line, or have no torso between them."""
    visible = joints[3] > 0
    count = np.count_nonzero(visible)
    if count < 3:
        return False
    xyz = joints[:3, visible]
    size = float((xyz.max(1) - xyz.min(1)).max())
    if size < POINT_M:
        return True
    if all(corner[3] for corner in torso):
        (a, b, c, d), axes = torso, range(3)
        across, up = (
            [0.5 * (a[i] - b[i] + c[i] - d[i]) for i in axes],
            [0.5 * (c[i] + d[i] - a[i] - b[i]) for i in axes],
        )
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
