"""Which points of a layout are the model's own joints, which joint carries each of the others, and how it is turned.

A nose, a finger or a heel is no joint of the model. It hangs on one that is: the joint that the layout computes from
it, else what its name says, else (``UNKNOWN``) whatever joint it turns out to be near: carried.py finds that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.layouts import Layout
from model.skeleton import INDEX, PARENTS, J
from streamer.runtimes.block import F32

UNKNOWN = -1
Indices = npt.NDArray[np.intp]

# What a word in a point's name says of the joint that it hangs on; the first that fits. Those of limbs need a side.
_LIMBS = {
    "ankle": "ankle heel calcaneus malleolus",
    "foot": "foot toe toes ball hallux",
    "knee": "knee patella shin calf tibia",
    "hip": "hip thigh femur trochanter",
    "hand": "hand handtip forefinger finger fingers thumb index middle ring pinky little palm knuckle metacarpal",
    "wrist": "wrist",
    "elbow": "elbow forearm ulna radius",
    "shoulder": "shoulder upperarm humerus acromion deltoid",
    "collar": "collar clavicle scapula",
}
_MIDDLE = {
    "head": "head nose eye eyes ear ears mouth lip lips jaw chin face cheek brow eyebrow forehead temple skull tongue",
    "neck": "neck throat",
    "spine3": "chest thorax sternum upperchest xiphoid",
    "spine2": "spine back belly stomach",
    "pelvis": "pelvis hip hips sacrum waist root",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_ASIDE = re.compile(r"^(left|right)(?=.)")


class Carriers(NamedTuple):
    """A layout's points, parted."""

    layout: Layout
    whole: bool  # its points are the model's joints, one for one
    own: Indices  # points that are joints of the model,
    joints: Indices  # and which
    others: Indices  # points that are none,
    carriers: Indices  # and the joint that carries each, or UNKNOWN
    measured: npt.NDArray[np.bool_]  # (24,) the layout's


@lru_cache(maxsize=64)
def carriers_of(layout: Layout) -> Carriers:
    """Every point of a layout is one of ``own`` or of ``others``, in the layout's order."""
    joint_of: dict[int, int] = {}
    for joint in np.flatnonzero(layout.measured).tolist():
        joint_of.setdefault(int(layout.weights[joint].argmax()), joint)
    others = [point for point in range(len(layout.joints)) if point not in joint_of]
    own = sorted(joint_of)
    joints = [joint_of[point] for point in own]
    whole = joints == list(range(J)) and not others
    carriers = [_carrier(layout, point) for point in others]
    return Carriers(
        layout, whole, _indices(own), _indices(joints), _indices(others), _indices(carriers), layout.measured
    )


def _indices(numbers: list[int]) -> Indices:
    return np.array(numbers, np.intp)


def _carrier(layout: Layout, point: int) -> int:
    given = layout.measured | layout.derived
    shares = np.where(layout.derived, np.abs(layout.weights[:, point]), 0.0)
    if shares.any():
        return int(shares.argmax())
    name = joint_named(layout.joints[point])
    joint = UNKNOWN if name is None else INDEX[name]
    while joint >= 0 and not given[joint]:
        joint = PARENTS[joint]
    return joint  # -1 above the root: UNKNOWN


def joint_named(point: str) -> str | None:
    """The joint of the model that a point of this name hangs on: ``left_heel`` on left_ankle, ``Nose`` on head."""
    words = [word.lower() for word in _WORD.findall(_ASIDE.sub(r"\1_", point))]
    sides = {_SIDES[word] for word in words if word in _SIDES}
    if len(sides) == 1:
        for part, known in _LIMBS.items():
            if set(words) & set(known.split()):
                return f"{next(iter(sides))}_{part}"
    for part, known in _MIDDLE.items():
        if set(words) & set(known.split()):
            return part
    return None


_LONGEST = 8  # joints from the pelvis to a wrist


def _chain(joint: int) -> list[int]:
    """The joints whose local rotations make the world rotation of a joint, J for none; a hand turns with its wrist."""
    chain: list[int] = []
    while joint >= 0:
        chain.insert(0, joint)
        joint = PARENTS[joint]
    return [*chain[:_LONGEST], *[J] * (_LONGEST - len(chain))]


_CHAINS = np.array([_chain(joint) for joint in range(J)]).T  # (8, 24)
_IDENTITY = np.eye(3, dtype=np.float32)
_OUTER = np.zeros((16, 9), np.float32)  # products of the parts of a quaternion -> its matrix, flat
for _entry, _terms in enumerate(
    [
        {(0, 0): 1, (1, 1): -1, (2, 2): -1, (3, 3): 1}, {(0, 1): 2, (2, 3): -2}, {(0, 2): 2, (1, 3): 2},
        {(0, 1): 2, (2, 3): 2}, {(0, 0): -1, (1, 1): 1, (2, 2): -1, (3, 3): 1}, {(1, 2): 2, (0, 3): -2},
        {(0, 2): 2, (1, 3): -2}, {(1, 2): 2, (0, 3): 2}, {(0, 0): -1, (1, 1): -1, (2, 2): 1, (3, 3): 1},
    ]
):  # fmt: skip
    for (_a, _b), _factor in _terms.items():
        _OUTER[4 * _a + _b, _entry] = _factor


def world_rotations(local: F32, joints: Indices) -> F32:
    """(n, 3, 3) world_from_joint rotations of some joints, of all the local quaternions xyzw (24, 4)."""
    matrices: F32 = np.empty((J + 1, 3, 3), np.float32)
    matrices[:J] = ((local[:, :, None] * local[:, None]).reshape(J, 16) @ _OUTER).reshape(J, 3, 3)
    matrices[J] = _IDENTITY
    world = matrices[_CHAINS[:, joints]]  # (8, n, 3, 3)
    while len(world) > 1:
        world = world[0::2] @ world[1::2]
    first: F32 = world[0]
    return first
