"""What a source of some layout would see of a body: its joints, and the landmarks of face, hands and heels with them.

Landmarks stand still in the axes of a joint: where that joint is seen to turn, they show it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.track import Floats
from model.files.landmarks import plain_name
from model.layouts import get_layout
from model.skeleton import INDEX

# By the name without its side. Of the left side, in the axes of the joint in the rest pose [m]: x to the left, y up, z
# forward. Right ones mirror.
_FACE = {
    "nose": (0.0, 0.045, 0.115), "eyeinner": (0.018, 0.080, 0.095), "eye": (0.032, 0.080, 0.090),
    "eyeouter": (0.046, 0.078, 0.082), "ear": (0.074, 0.070, 0.005), "mouth": (0.024, 0.005, 0.098),
    "head": (0.0, 0.170, 0.010),  # of a source that means the top of it
}  # fmt: skip
_HAND = {
    "index": (0.095, 0.0, 0.022), "pinky": (0.085, 0.0, -0.030), "thumb": (0.050, -0.012, 0.048),
    "forefinger1": (0.095, 0.0, 0.022), "pinkyfinger1": (0.085, 0.0, -0.030), "handroot": (0.0, 0.0, 0.0),
    "handtip": (0.185, -0.004, 0.0),
}  # fmt: skip
_FOOT = {"heel": (0.0, -0.045, -0.055), "bigtoe": (-0.015, -0.050, 0.185), "smalltoe": (0.045, -0.050, 0.130)}
# Of the trunk: in the middle, so that nothing mirrors. T12 is the vertebra below spine2's half of the back.
_TRUNK = {
    "hip": ("pelvis", (0.0, -0.090, 0.040)), "midhip": ("pelvis", (0.0, -0.090, 0.040)),
    "neck": ("spine3", (0.0, 0.105, -0.004)), "spineshoulder": ("spine3", (0.0, 0.105, -0.004)),
    "l3": ("spine1", (0.0, 0.085, -0.005)), "t12": ("spine2", (0.0, 0.045, 0.0)),
    "spine3": ("spine2", (0.0, 0.058, 0.0)),
}  # fmt: skip


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
    side, kind = plain_name(word)
    if not side and kind in _TRUNK:
        host, offset = _TRUNK[kind]
        return INDEX[host], np.array(offset)
    mirrored = (-1.0 if side == "right" else 1.0, 1.0, 1.0)
    for joint, offsets in (("head", _FACE), (f"{side}_wrist", _HAND), (f"{side}_ankle", _FOOT)):
        if joint in INDEX and kind in offsets:
            return INDEX[joint], np.array(offsets[kind]) * mirrored
    return None
