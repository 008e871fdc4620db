"""What VMC calls things: addresses, Unity's humanoid bones, and its axes against ours.

VMC (https://protocol.vmc.info) sends an avatar's bones as OSC messages. Its axes are Unity's: left-handed, Y up, Z
ahead, metres. Ours are right-handed, left = +X: x changes its sign, and so do y and z of a quaternion. The map is its
own inverse.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.layouts import get_layout
from model.skeleton import PARENTS, ancestor_matrix, rest_offsets

STATE = "/VMC/Ext/OK"  # loaded, calibration state, calibration mode, tracking status
TIME = "/VMC/Ext/T"
ROOT = "/VMC/Ext/Root/Pos"
BONE = "/VMC/Ext/Bone/Pos"
APPLY = "/VMC/Ext/Blend/Apply"
# Of the protocol, but nothing for us: faces, cameras, trackers, keys, settings.
OTHERS = tuple(f"/VMC/{name}" for name in (
    "Ext/Blend/Val", "Ext/Cam", "Ext/Con", "Ext/Hmd", "Ext/Tra", "Ext/Key", "Ext/Midi", "Ext/Rcv", "Ext/Light",
    "Ext/VRM", "Ext/Remote", "Ext/Opt", "Ext/Setting", "Ext/Config", "Ext/Set", "Thru",
))  # fmt: skip

Numbers = tuple[float, ...]
LAYOUT = "vrm"
_VRM = get_layout(LAYOUT)
BONES: tuple[str, ...] = tuple(name[0].upper() + name[1:] for name in _VRM.joints)  # in that layout's order
N = len(BONES)
CANONICAL: npt.NDArray[np.intp] = _VRM.weights.argmax(0)  # (N,) which of our joints each is: its rotation is the bone's
PARENT: tuple[int, ...] = tuple(list(CANONICAL).index(PARENTS[j]) if PARENTS[j] >= 0 else -1 for j in CANONICAL)
# A humanoid may be without these; then their children hang on the next bone up.
MAY_LACK = frozenset(
    n for n, name in enumerate(BONES) if name.removeprefix("Left").removeprefix("Right") in
    ("Chest", "UpperChest", "Neck", "Shoulder", "Toes")
)  # fmt: skip
_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")
SMALL_BONES = frozenset(
    {"jaw", "lefteye", "righteye"}
    | {f"{side}{finger}{part}".lower() for side in ("Left", "Right") for finger in _FINGERS
       for part in ("Proximal", "Intermediate", "Distal")}
)  # fmt: skip
REST_M: npt.NDArray[np.float64] = (ancestor_matrix() @ rest_offsets())[CANONICAL]  # (N, 3) in the rest pose, hips at 0

FLIP_POSITION = np.array([-1.0, 1.0, 1.0], np.float32)
FLIP_QUATERNION = np.array([1.0, -1.0, -1.0, 1.0], np.float32)  # xyzw


def times(a: Numbers, b: Numbers) -> Numbers:
    """Product of two quaternions xyzw."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )
