"""How a heel turns its foot, all of it: the foot's joint goes where the heel says.

Ankle and heel are wrong together, the foot's joint is wrong for itself by half of the foot's length. Measured on the 53
rendered takes (``data/rendered``, MediaPipe) in the axes of the true foot, rms: ankle and heel are 180 mm off, heel
less ankle 9 to 13 mm for a whole take and 14 mm in it, toe less ankle 46 to 64 mm and 57 mm. But MediaPipe's heel lies
9 degrees (median) from where the shin has it and 15 from where the foot does: beside the model's joints it tells a
linear fit .3 degrees of 22. What it tells is which way is down: to MediaPipe's toe that is 16 to 25 degrees too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from model.skeleton import INDEX
from streamer.quaternions import Quaternion, inverse, partly, product, turned

ANKLES = (INDEX["left_ankle"], INDEX["right_ankle"])
HEEL_RAD = 0.2  # by how much a heel seen well is not where the foot has it, about one axis
LEFT_RAD = 0.4  # by how much all of the foot is off then, on rendered people
SHIN_PART = 0.5  # of the way to a foot at rest on its shin, where the heel is all that is believed
LONGER = 2.0  # the line through what is seen of it, than through other landmarks: a heel is near, so it trembles
OPPOSITE = 0.05  # a heel nearer than that to the other way shows no turn


def believed(swing: float, off: float) -> float:
    """The part of the way to the heel that a foot turns, 0 to 1: none where joints are sure, which they are of clean
    input.

    Args:
        swing: variance of the foot's direction by its joints; off: that of the heel's as it was seen [rad^2].
    """
    noise = off + HEEL_RAD**2
    return swing * swing / (swing * swing + noise * noise)


def foot_turn(
    ankle: Quaternion, shin: Quaternion, rest: Sequence[float], heel: Sequence[float], part: float
) -> Quaternion | None:
    """The turn of an ankle in its own axes: ``part`` of the way to where its heel says; None: it does not.

    Args:
        ankle: world_from_joint, as shin's, its parent's. rest: where the heel is from the ankle in its axes, of length
            one; heel: where it is seen in the world.
    """
    x, y, z, w = product(inverse(ankle), shin)
    nearer = partly((x, y, z, w) if w >= 0.0 else (-x, -y, -z, -w), SHIN_PART * part * part)
    p, q, r = turned(inverse(product(ankle, nearer)), heel)
    size = sqrt(p * p + q * q + r * r)
    a, b, c = rest
    one = size + a * p + b * q + c * r
    if not one > OPPOSITE * size:
        return None
    x, y, z = b * r - c * q, c * p - a * r, a * q - b * p
    length = sqrt(x * x + y * y + z * z + one * one)
    return product(nearer, partly((x / length, y / length, z / length, one / length), part))
