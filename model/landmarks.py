"""Landmarks of face, hands and heels: where they are on a body, and what they show of its rotations.

Landmarks stand still in the axes of a joint: where that joint turns, they turn around it. numpy only: the streamer
imports it, to see how head, hands and feet are turned; the bench makes what a source sees of a body from it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.files.landmarks import plain_name
from model.layouts import Layout, get_layout
from model.skeleton import CHILDREN, FORKS, INDEX, LEAVES, J, rest_directions

Floats = npt.NDArray[np.floating[Any]]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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
# MediaPipe's heel lies right below its ankle: 46 mm, to (-0.01, -0.99, 0.11) on rendered people held out and to (-0.04,
# -1.00, -0.05) on the others, in the axes of the true foot; about the constant of a take 11 degrees in the median.
_MEDIAPIPE_HEEL = (0.0, -0.046, 0.0)
# Of the trunk: in the middle, so that nothing mirrors. T12 is the vertebra below spine2's half of the back.
_TRUNK = {
    "hip": ("pelvis", (0.0, -0.090, 0.040)), "midhip": ("pelvis", (0.0, -0.090, 0.040)),
    "neck": ("spine3", (0.0, 0.105, -0.004)), "spineshoulder": ("spine3", (0.0, 0.105, -0.004)),
    "l3": ("spine1", (0.0, 0.085, -0.005)), "t12": ("spine2", (0.0, 0.045, 0.0)),
    "spine3": ("spine2", (0.0, 0.058, 0.0)),
}  # fmt: skip
_LEVER_M = 0.02  # points that spread less across an axis show no turn about it


class Landmarks(NamedTuple):
    """For each of a layout's J joints: the canonical joint that it is or moves with (J,), -1: nothing is known of it;
    and where it is from there in that joint's axes (J, 3) [m]."""

    host: Ints
    offset_m: F64

    def at(self, positions: Floats, rotations: Floats) -> F64:
        """(T, J, 3) the layout's joints [m] of a body (T, 24, 3) with world rotations (T, 24, 3, 3)."""
        moved = np.einsum("tjab,jb->tja", rotations[:, self.host], self.offset_m)
        return np.where((self.host >= 0)[:, None], positions[:, self.host] + moved, np.nan)


def landmarks(name: str) -> Landmarks:
    """Those of a layout, by the names of its joints."""
    layout = get_layout(name)
    host, offset = _measured(layout), np.zeros((len(layout.joints), 3))
    for n, word in enumerate(layout.joints):
        found = _landmark(layout, word) if host[n] < 0 else None
        if found is not None:
            host[n], offset[n] = found
    return Landmarks(host, offset)


def _measured(layout: Layout) -> Ints:
    """(J,) the canonical joint that each of a layout's joints is, -1: none."""
    host = np.full(len(layout.joints), -1)
    for joint in np.flatnonzero(layout.measured):
        host[layout.weights[joint] != 0] = joint
    return host


def _landmark(layout: Layout, word: str) -> tuple[int, F64] | None:
    """Host and offset of a landmark by its name, if it is one."""
    side, kind = plain_name(word)
    foot = _FOOT | {"heel": _MEDIAPIPE_HEEL} if "left_foot_index" in layout.joints else _FOOT
    if not side and kind in _TRUNK:
        host, offset = _TRUNK[kind]
        return INDEX[host], np.array(offset)
    mirrored = (-1.0 if side == "right" else 1.0, 1.0, 1.0)
    for joint, offsets in (("head", _FACE), (f"{side}_wrist", _HAND), (f"{side}_ankle", foot)):
        if joint in INDEX and kind in offsets:
            return INDEX[joint], np.array(offsets[kind]) * mirrored
    return None


class Shown(NamedTuple):
    """What a layout shows of E joints' rotations, as two vectors in each one's axes that turn with it.

    Attributes:
        joints: (E,) canonical joints.
        combine: (2 E, J) the vectors in the world are ``combine @ positions``, of unit length where nothing is off.
        uses: (E, J) which of the layout's joints they come from: all must be there.
        rest: (E, 2, 3) the vectors in the rest pose; a second one that is not shown is zero. They are orthogonal.
        weight: (E, 2) how well each is shown, the better one 1.
    """

    joints: Ints
    combine: npt.NDArray[np.float32]
    uses: Bools
    rest: F64
    weight: F64


@lru_cache(maxsize=64)
def shown_by(layout: Layout) -> Shown | None:
    """What landmarks around joints show; None where a layout has none.

    The vectors are the least-squares fit of a linear map to the landmarks about their middle, along the two axes in
    which they spread most: the map that turns the rest pose's landmarks into those seen, of which a rotation is made.
    """
    host, offset = _measured(layout), np.zeros((len(layout.joints), 3))
    for n, word in enumerate(layout.joints):
        found = _landmark(layout, word)
        if found is not None:
            host[n], offset[n] = found
    several = [(joint, _axes(host == joint, offset)) for joint in range(J) if (host == joint).sum() > 1]
    known = [(joint, axes) for joint, axes in several if _turns(joint, axes[1], axes[2])]
    if not known:
        return None
    joints, axes = zip(*known)
    combine, rest, weight = (np.array(part) for part in zip(*axes))
    uses = np.array([host == joint for joint in joints])
    return Shown(np.array(joints), combine.reshape(-1, len(host)).astype(np.float32), uses, rest, weight)


def _axes(of: Bools, offset_m: F64) -> tuple[F64, F64, F64]:
    """(2, J) the combinations, (2, 3) the rest vectors and (2,) the weights of some landmarks around one joint."""
    places = offset_m[of] - offset_m[of].mean(0)
    _, spread, axes = np.linalg.svd(places, full_matrices=False)
    combine, rest, weight = np.zeros((2, len(of))), np.zeros((2, 3)), np.zeros(2)
    for k in range(min(2, len(spread))):
        if spread[k] > _LEVER_M:
            combine[k, of], rest[k] = places @ axes[k] / spread[k] ** 2, axes[k]
            weight[k] = (spread[k] / spread[0]) ** 2
    return combine, rest, weight


def _turns(joint: int, rest: F64, weight: F64) -> bool:
    """Whether two vectors show all of a leaf's rotation, or of another joint's what is about its bone."""
    if joint in LEAVES:
        return bool((weight > 0).all())
    if joint in FORKS:
        return False
    along = rest_directions()[CHILDREN[joint][0]]
    return bool(np.linalg.norm(np.cross(rest, along), axis=-1).max() > 0.5)


def shown_by_rotations(layout: Layout) -> tuple[Ints, Ints]:
    """The canonical joints (E,) whose rotation a source may send that sends rotations, and their places in its arrays.

    Where several children place a joint (pelvis, upper spine) they show its rotation, and nothing else is asked.
    """
    host = _measured(layout)
    places = [n for n in range(len(host)) if host[n] >= 0 and host[n] not in FORKS]
    return host[places], np.array(places, np.int64)
