"""Quaternions as plain numbers x, y, z, w: for a few of them that costs a tenth of what numpy's calls cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Quaternion = tuple[float, float, float, float]  # x, y, z, w
Vector = tuple[float, float, float]

# The turn in a joint's own axes that two vectors show, which turn with it: of the joint's rotation (world_from_joint)
# and of them in the world [about unit length]; None where they do not show it.
Turn = Callable[[Quaternion, Sequence[float], Sequence[float]], Quaternion | None]
PLAIN = 0.2  # of what shows a turn at best, when it shows it at all


def product(p: Quaternion, q: Quaternion) -> Quaternion:
    """First ``q``, then ``p``."""
    a, b, c, d = p
    e, f, g, h = q
    return (d * e + a * h + b * g - c * f, d * f - a * g + b * h + c * e,
            d * g + a * f - b * e + c * h, d * h - a * e - b * f - c * g)  # fmt: skip


def inverse(q: Quaternion) -> Quaternion:
    """Of a unit quaternion."""
    return -q[0], -q[1], -q[2], q[3]


def turned(q: Quaternion, v: Sequence[float]) -> Vector:
    """A vector turned by a unit quaternion."""
    x, y, z, w = q
    a, b, c = v
    d, e, f = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return a + w * d + y * f - z * e, b + w * e + z * d - x * f, c + w * f + x * e - y * d


def partly(q: Quaternion, part: float) -> Quaternion:
    """About ``part`` of the turn by a unit quaternion whose w is positive: on the straight line to it."""
    if part >= 1.0:
        return q
    x, y, z, w = q[0] * part, q[1] * part, q[2] * part, 1.0 + (q[3] - 1.0) * part
    size = sqrt(x * x + y * y + z * z + w * w)
    return x / size, y / size, z / size, w / size


def about(axis: F64, rest: F64, weight: F64) -> Turn:
    """Turns about a unit axis (3,) alone, by vectors whose places in the rest pose are (2, 3), weighted (2,).

    The one that brings the vectors nearest to where they are seen: Wahba's problem, of one angle.
    """
    level = rest - (rest @ axis)[:, None] * axis
    c0, c1, c2, c3, c4, c5 = (weight[:, None] * level).ravel().tolist()
    s0, s1, s2, s3, s4, s5 = (weight[:, None] * np.cross(axis, rest)).ravel().tolist()
    x, y, z = axis.tolist()
    least = PLAIN * float((weight * (level * level).sum(1)).sum())

    def turn(joint: Quaternion, a: Sequence[float], b: Sequence[float]) -> Quaternion | None:
        back = inverse(joint)
        p, q, r = turned(back, a)
        size = sqrt(p * p + q * q + r * r) or 1.0
        p, q, r = p / size, q / size, r / size
        u, v, w = turned(back, b)
        size = sqrt(u * u + v * v + w * w) or 1.0
        u, v, w = u / size, v / size, w / size
        cosine = c0 * p + c1 * q + c2 * r + c3 * u + c4 * v + c5 * w
        sine = s0 * p + s1 * q + s2 * r + s3 * u + s4 * v + s5 * w
        size = hypot(cosine, sine)
        if not size > least:
            return None
        half = sqrt(max(0.0, 0.5 * (1.0 + cosine / size)))
        part = sqrt(max(0.0, 0.5 * (1.0 - cosine / size)))
        part = part if sine >= 0.0 else -part
        return part * x, part * y, part * z, half

    return turn


def freely(first: F64, second: F64) -> Turn:
    """Any turn, by two vectors whose places in the rest pose are orthogonal (3,): the first one decides."""
    rest = np.stack([first, second, np.cross(first, second)])
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = rest.tolist()

    def turn(joint: Quaternion, a: Sequence[float], b: Sequence[float]) -> Quaternion | None:
        back = inverse(joint)
        p, q, r = turned(back, a)
        size = sqrt(p * p + q * q + r * r)
        if not size > PLAIN:
            return None
        p, q, r = p / size, q / size, r / size
        u, v, w = turned(back, b)
        along = p * u + q * v + r * w
        u, v, w = u - along * p, v - along * q, w - along * r
        size = sqrt(u * u + v * v + w * w)
        if not size > PLAIN:
            return None
        u, v, w = u / size, v / size, w / size
        k, m, n = q * w - r * v, r * u - p * w, p * v - q * u
        # A rotation's quaternion from its matrix, here the sum of seen x rest.
        x = y0 * r - z0 * q + y1 * w - z1 * v + y2 * n - z2 * m
        y = z0 * p - x0 * r + z1 * u - x1 * w + z2 * k - x2 * n
        z = x0 * q - y0 * p + x1 * v - y1 * u + x2 * m - y2 * k
        one = 1.0 + x0 * p + y0 * q + z0 * r + x1 * u + y1 * v + z1 * w + x2 * k + y2 * m + z2 * n
        size = sqrt(x * x + y * y + z * z + one * one)
        if not size > 1e-3:  # half a turn: about which axis does not show
            return None
        return x / size, y / size, z / size, one / size

    return turn
