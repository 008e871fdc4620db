"""How far off the rotations of a pose may be: what follows from its joints' covariance, and what nobody sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.skeleton import CHILDREN, FORKS, LEAVES, PARENTS, J

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]

TWIST_RAD, LEAF_RAD = 0.45, 0.6  # how far the network is off where nothing is seen: about a bone, of a leaf
UNSEEN_RAD2 = [LEAF_RAD**2 if j in LEAVES else 0.0 if j in FORKS else TWIST_RAD**2 for j in range(J)]
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
