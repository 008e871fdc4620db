"""How far off the rotations of a pose may be: what follows from its joints' covariance, and what nobody sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import CHILDREN, FORKS, JOINTS, PARENTS, J

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]

# How far the network is off where nothing is seen [rad]: about a bone (on clean test clips, 68 % are within it), of a
# leaf. What several children place turns with them.
_TWIST = {"shoulder": 0.3, "elbow": 0.3, "wrist": 0.38, "ankle": 0.15, "head": 0.62, "hand": 0.75, "foot": 0.68}
_OTHERS = 0.1
UNSEEN_RAD2 = [0.0 if j in FORKS else _TWIST.get(name.split("_")[-1], _OTHERS) ** 2 for j, name in enumerate(JOINTS)]
SWING = 0.5  # part of the variance of a bone's ends that is not of both alike
SHORT_M = 0.03  # a shorter bone has no direction to speak of
_UNSEEN = np.array(UNSEEN_RAD2, np.float32)
_TRACE = np.eye(3, dtype=np.float32).reshape(9)
_ENDS, _OF_BONES = np.eye(J, dtype=np.float32), np.zeros((J, J), np.float32)
for _joint in range(1, J):
    _ENDS[PARENTS[_joint], _joint] = 1.0
    _OF_BONES[_joint, PARENTS[_joint]] = SWING * 2.0 / 3.0 / len(CHILDREN[PARENTS[_joint]])


def doubts(covariance: Floats, lengths_m: Floats) -> F32:
    """(24,) variance of the angles by which rotations may be off [rad^2] of which only the joints are seen.

    Of a bone's direction it follows from the covariance (24, 3, 3) of its two ends [m^2] over its length (24,) [m]; a
    turn about it, and any of a leaf, is not seen.
    """
    traces = covariance.reshape(J, 9) @ _TRACE
    swing = (traces @ _ENDS / np.maximum(lengths_m * lengths_m, SHORT_M**2)) @ _OF_BONES
    return np.asarray(swing + _UNSEEN, np.float32)
