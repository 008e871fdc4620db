"""What a source of some layout would see of a body: its joints, and the landmarks of face, hands and heels with them.

Landmarks stand still in the axes of a joint: where that joint is seen to turn, they show it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.track import Floats
from model.layouts import get_layout
from model.skeleton import INDEX

# Of the left side, in the axes of the joint in the rest pose [m]: x to the left, y up, z forward. Right ones mirror.
_FACE = {
    "nose": (0.0, 0.045, 0.115), "eye_inner": (0.018, 0.080, 0.095), "eye": (0.032, 0.080, 0.090),
    "eye_outer": (0.046, 0.078, 0.082), "ear": (0.074, 0.070, 0.005), "mouth": (0.024, 0.005, 0.098),
}  # fmt: skip
_HAND = {"index": (0.095, 0.0, 0.022), "pinky": (0.085, 0.0, -0.030), "thumb": (0.050, -0.012, 0.048)}
_HEEL = (0.0, -0.045, -0.055)


class Landmarks(NamedTuple):
    """For each of a layout's J joints: the canonical joint that it is or moves with (J,), -1: nothing is known of it;
    and where it is from there in that joint's axes (J, 3) [m]."""

    host: npt.NDArray[np.int64]
    offset_m: Floats

    def at(self, positions: Floats, rotations: Floats) -> Floats:
        """(T, J, 3) the layout's joints [m] of a body (T, 24, 3) with world rotations (T, 24, 3, 3)."""
        moved = np.einsum("tjab,jb->tja", rotations[:, self.host], self.offset_m)
        return np.where((self.host >= 0)[:, None], positions[:, self.host] + moved, np.nan)


def landmarks(name: str) -> Landmarks:
    """Those of a layout, by the names of its joints."""
    layout = get_layout(name)
    host, offset = np.full(len(layout.joints), -1), np.zeros((len(layout.joints), 3))
    for joint in np.flatnonzero(layout.measured):
        host[layout.weights[joint] != 0] = joint
    for n, word in enumerate(layout.joints):
        found = _landmark(word) if host[n] < 0 else None
        if found is not None:
            host[n], offset[n] = found
    return Landmarks(host, offset)


def _landmark(word: str) -> tuple[int, Floats] | None:
    """Host and offset of a landmark by its name, if it is one."""
    side = "right" if word.startswith("right") or word.endswith("right") else "left"
    kind = word.replace("left_", "").replace("right_", "").replace("_left", "").replace("_right", "")
    mirrored = (1.0 if side == "left" else -1.0, 1.0, 1.0)
    if kind in _FACE:
        return INDEX["head"], np.array(_FACE[kind]) * mirrored
    if kind in _HAND:
        return INDEX[f"{side}_wrist"], np.array(_HAND[kind]) * mirrored
    if kind == "heel":
        return INDEX[f"{side}_ankle"], np.array(_HEEL) * mirrored
    return None
