"""Two-bone inverse kinematics: a leg of a pose, bent anew so that its ankle moves by a given way.

Plain numbers, as quaternions.py: of two legs that costs a tenth of what numpy's calls cost. The foot stays as it is
turned in the world, both bones keep their length, and the knee stays in the plane that it bends in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from streamer.quaternions import Quaternion, Vector, inverse, product, turned

STRAIGHT_M = 0.02  # a knee nearer to the line from hip to ankle says too little of where it bends to:
PER_WAY = 4.0  # then the front of the thigh has a say, the less, the less far the ankle moves
LONGEST = 1.0 - 1e-6  # of both bones' length: a leg is no longer
TINY_M = 1e-6
DOWN = (0.0, -1.0, 0.0)
FRONT = (0.0, 0.0, 1.0)  # of the thigh in the rest pose


class Bent(NamedTuple):
    """A leg after: its joints, the local rotations of hip and knee, and those of knee and ankle in the world."""

    knee: Vector
    ankle: Vector
    rotations: tuple[Quaternion, Quaternion]
    knee_world: Quaternion
    ankle_world: Quaternion


def bent(
    hip: Sequence[float], knee: Sequence[float], ankle: Sequence[float], way: Vector, pelvis: Quaternion,
    local: Sequence[Quaternion],
) -> Bent:  # fmt: skip
    """The leg whose ankle moves by ``way``, or by less where it is too short; the ankle's turn in the world stays.

    Args:
        hip, knee, ankle: where they are [m]. way: [m].
        pelvis: its rotation in the world. local: those of hip, knee and ankle, parent_from_joint.
    """
    thigh, shin, line = _between(hip, knee), _between(knee, ankle), _between(hip, ankle)
    to = _sum(line, way)
    a, b = _size(thigh), _size(shin)
    before, after = max(_size(line), TINY_M), max(_size(to), TINY_M)
    far = min(max(after, abs(a - b) / LONGEST, TINY_M), max(LONGEST * (a + b), TINY_M))
    u = _scaled(line, 1.0 / before) if before > TINY_M else DOWN
    v = _scaled(to, 1.0 / after) if after > TINY_M else u
    hip_world = product(pelvis, local[0])
    knee_world = product(hip_world, local[1])
    side = turned(arc(u, v), _bends_to(thigh, u, hip_world, PER_WAY * _size(way)))
    along = (a * a + far * far - b * b) / (2.0 * far)
    across = sqrt(max(a * a - along * along, 0.0))
    new_thigh = _sum(_scaled(v, along), _scaled(side, across))
    end = _scaled(v, far)
    new_hip_world = product(_turn(thigh, new_thigh), hip_world)
    new_knee_world = product(_turn(shin, _between(new_thigh, end)), knee_world)
    rotations = product(inverse(pelvis), new_hip_world), product(inverse(new_hip_world), new_knee_world)
    ankle_world = product(knee_world, local[2])
    return Bent(_sum(new_thigh, hip), _sum(end, hip), rotations, new_knee_world, ankle_world)


def arc(a: Vector, b: Vector) -> Quaternion:
    """The shortest turn of a unit vector to another one."""
    x, y, z = _cross(a, b)
    w = 1.0 + _dot(a, b)
    size = sqrt(x * x + y * y + z * z + w * w)
    if size < 1e-6:  # half a turn, about whatever is across
        x, y, z = _cross(a, (1.0, 0.0, 0.0) if abs(a[0]) < 0.7 else (0.0, 1.0, 0.0))
        w, size = 0.0, sqrt(x * x + y * y + z * z)
    return x / size, y / size, z / size, w / size


def _bends_to(thigh: Vector, u: Vector, hip_world: Quaternion, unsure_m: float) -> Vector:
    """The unit vector across the line ``u`` from hip to ankle on which the knee lies."""
    side = _level(thigh, u)
    size = _size(side)
    lacks = min(STRAIGHT_M, unsure_m) - size
    if lacks > 0.0 or size < 1e-6:
        front = _level(turned(hip_world, FRONT), u)
        side = _sum(side, _scaled(front, max(lacks, 1e-6)))
        size = _size(side)
        if size < 1e-9:
            side = _level((1.0, 0.0, 0.0) if abs(u[0]) < 0.7 else (0.0, 1.0, 0.0), u)
            size = _size(side)
    return _scaled(side, 1.0 / size)


def _between(a: Sequence[float], b: Sequence[float]) -> Vector:
    return b[0] - a[0], b[1] - a[1], b[2] - a[2]


def _sum(a: Vector, b: Sequence[float]) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scaled(a: Vector, by: float) -> Vector:
    return a[0] * by, a[1] * by, a[2] * by


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _size(a: Vector) -> float:
    return sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def _level(a: Vector, u: Vector) -> Vector:
    along = _dot(a, u)
    return a[0] - along * u[0], a[1] - along * u[1], a[2] - along * u[2]


def _turn(a: Vector, b: Vector) -> Quaternion:
    """The shortest turn of a vector to the direction of another one; none where they have no direction."""
    p, q = _size(a), _size(b)
    if min(p, q) < TINY_M:
        return 0.0, 0.0, 0.0, 1.0
    return arc(_scaled(a, 1.0 / p), _scaled(b, 1.0 / q))
