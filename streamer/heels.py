"""How a heel turns its foot, all of it: the foot's joint, too, goes where the heel says.

A pose's foot points from its ankle to the foot's joint. Real sources' error of that is as large as the foot is long, and
of both joints for itself; ankle and heel are wrong together. Measured on the 53 rendered takes (``data/rendered``,
MediaPipe), in the axes of the true foot, rms: ankle and heel are off by 150 mm each, toe less ankle by 46 to 64 mm for
a whole take and 57 mm in it, heel less ankle by 9 to 13 mm and 14 mm. But MediaPipe's heel follows the shin (9 degrees
median about it) more than the foot (15): beside the model's joints it tells a linear fit 0.3 degrees of 22. So it is
believed within HEEL_RAD, and what it leaves open, a turn about itself, is half the shin's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from model.skeleton import INDEX
from streamer.quaternions import Quaternion, inverse, partly, product, turned

ANKLES = (INDEX["left_ankle"], INDEX["right_ankle"])
HEEL_RAD = 0.3  # by how much a heel seen well is not where the foot has it
SHIN_PART = 0.5  # of the way to a foot at rest on its shin, where the heel is believed
OPPOSITE = 0.05  # a heel nearer than that to the other way shows no turn


def foot_turn(
    ankle: Quaternion, shin: Quaternion, rest: Sequence[float], heel: Sequence[float], part: float
) -> Quaternion | None:
    """The turn of an ankle in its own axes: ``part`` of the way to where its heel says; None: it does not.

    Args:
        ankle: world_from_joint, as shin's, its parent's. rest: where the heel is from the ankle in its axes, of length
            one; heel: where it is seen in the world.
    """
    x, y, z, w = product(inverse(ankle), shin)
    nearer = partly((x, y, z, w) if w >= 0.0 else (-x, -y, -z, -w), SHIN_PART * part)
    p, q, r = turned(inverse(product(ankle, nearer)), heel)
    size = sqrt(p * p + q * q + r * r)
    a, b, c = rest
    one = size + a * p + b * q + c * r
    if not one > OPPOSITE * size:
        return None
    x, y, z = b * r - c * q, c * p - a * r, a * q - b * p
    length = sqrt(x * x + y * y + z * z + one * one)
    return product(nearer, partly((x / length, y / length, z / length, one / length), part))
