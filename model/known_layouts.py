"""The joint orders of the sources that people have, and which canonical joint each of theirs is.

Plain tables; layouts.py makes the weights of them. docs/layouts.md shows each, and is written from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from model.skeleton import JOINTS


class Known(NamedTuple):
    """A layout as its project defines it.

    joints: theirs in the order of the arrays. ours: canonical joint -> one of theirs, the mean of several, or a
    weighted sum, as in a layout file; joints that carry the canonical name need no entry. up_axis, units: of the
    numbers as the project gives them.
    """

    joints: tuple[str, ...]
    ours: Mapping[str, Any] = {}
    up_axis: str = "y"
    units: str = "m"


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def _sided(ours: Mapping[str, str], left: str, right: str) -> dict[str, str]:
    """Entries for both sides; ``{}`` in ``left`` and ``right`` stands for the name without its side."""
    return {f"{side}_{joint}": form.format(theirs)
            for side, form in (("left", left), ("right", right)) for joint, theirs in ours.items()}  # fmt: skip


_H36M = {
    "root": "pelvis", "RHip": "right_hip", "RKnee": "right_knee", "RFoot": "right_ankle", "LHip": "left_hip",
    "LKnee": "left_knee", "LFoot": "left_ankle", "spine": "spine2", "thorax": "neck", "neck_base": "", "head": "head",
    "LSho": "left_shoulder", "LElb": "left_elbow", "LWri": "left_wrist", "RSho": "right_shoulder",
    "RElb": "right_elbow", "RWri": "right_wrist",
}  # fmt: skip
_VRM_TORSO = {
    "hips": "pelvis", "spine": "spine1", "chest": "spine2", "upperChest": "spine3", "neck": "neck", "head": "head",
}  # fmt: skip
_VRM_SIDES = {
    "Shoulder": "collar", "UpperArm": "shoulder", "LowerArm": "elbow", "Hand": "wrist",
    "UpperLeg": "hip", "LowerLeg": "knee", "Foot": "ankle", "Toes": "foot",
}  # fmt: skip
_VRM = _VRM_TORSO | {
    f"{side}{theirs}": f"{side}_{ours}" for theirs, ours in _VRM_SIDES.items() for side in ("left", "right")
}
_COCO = ("nose", *_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
_MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    *_sides("ear"), "mouth_left", "mouth_right",
    *_sides("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index"),
)  # fmt: skip
_MEDIAPIPE_FEET = {"left_foot": "left_foot_index", "right_foot": "right_foot_index"}
# The toes' middle lies nearer to the ball of the foot than either toe does.
_TOES = {f"{side}_foot": [f"{side}_big_toe", f"{side}_small_toe"] for side in ("left", "right")}

_BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel",
)  # fmt: skip
_LIMBS = {name.lower(): name for name in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")}
# OpenPose's Neck and MidHip are trained as the middles of the shoulders and of the hips, which say it already; as our
# neck and pelvis, above those, they would bring the filter twice as far off (20 and 45 mm on a clean body).
_BODY_25_OURS = _sided(_LIMBS, "L{}", "R{}") | {
    "head": ["LEar", "REar"], "left_foot": ["LBigToe", "LSmallToe"], "right_foot": ["RBigToe", "RSmallToe"],
}  # fmt: skip
_HALPE_26 = (
    *_COCO, "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel",
    "right_heel",
)  # fmt: skip


def _coco_hand(side: str) -> tuple[str, ...]:
    fingers = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    return (f"{side}_hand_root", *(f"{side}_{finger}{n}" for finger in fingers for n in (1, 2, 3, 4)))


_WHOLEBODY = (
    *_COCO, *(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
    *(f"face-{n}" for n in range(68)), *_coco_hand("left"), *_coco_hand("right"),
)  # fmt: skip
_KNUCKLES = {f"{side}_hand": [f"{side}_forefinger1", f"{side}_pinky_finger1"] for side in ("left", "right")}

_KINECT = (
    "SpineBase", "SpineMid", "Neck", "Head",
    *(f"{part}{side}" for side in ("Left", "Right") for part in ("Shoulder", "Elbow", "Wrist", "Hand")),
    *(f"{part}{side}" for side in ("Left", "Right") for part in ("Hip", "Knee", "Ankle", "Foot")),
    "SpineShoulder", "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
)  # fmt: skip
_ENDS = {"hand": "Hand", "foot": "Foot"}
_KINECT_OURS = _sided(_LIMBS | _ENDS, "{}Left", "{}Right") | {
    "pelvis": "SpineBase", "spine2": "SpineMid", "neck": "Neck", "head": "Head",
}  # fmt: skip


def _k4a(side: str) -> tuple[str, ...]:
    parts = ("CLAVICLE", "SHOULDER", "ELBOW", "WRIST", "HAND", "HANDTIP", "THUMB")
    return tuple(f"{part}_{side}" for part in parts)


_AZURE = (
    "PELVIS", "SPINE_NAVEL", "SPINE_CHEST", "NECK", *_k4a("LEFT"), *_k4a("RIGHT"),
    *(f"{part}_{side}" for side in ("LEFT", "RIGHT") for part in ("HIP", "KNEE", "ANKLE", "FOOT")),
    "HEAD", "NOSE", "EYE_LEFT", "EAR_LEFT", "EYE_RIGHT", "EAR_RIGHT",
)  # fmt: skip
_AZURE_OURS = _sided(
    {name: name.upper() for name in (*_LIMBS, *_ENDS)} | {"collar": "CLAVICLE"}, "{}_LEFT", "{}_RIGHT"
) | {"pelvis": "PELVIS", "spine2": "SPINE_NAVEL", "spine3": "SPINE_CHEST", "neck": "NECK", "head": "HEAD"}

_XSENS_ARM = ("Shoulder", "UpperArm", "ForeArm", "Hand")
_XSENS_LEG = ("UpperLeg", "LowerLeg", "Foot", "Toe")
_XSENS = (
    "Pelvis", "L5", "L3", "T12", "T8", "Neck", "Head",
    *(f"{side}{part}" for parts in (_XSENS_ARM, _XSENS_LEG) for side in ("Right", "Left") for part in parts),
)  # fmt: skip
_ARM, _LEG = ("collar", "shoulder", "elbow", "wrist"), ("hip", "knee", "ankle", "foot")
# A segment's place is that of the joint it begins with: L5 at jL5S1, T8 at jT9T8, Hand at the wrist.
_XSENS_OURS = _sided(dict(zip(_ARM + _LEG, _XSENS_ARM + _XSENS_LEG)), "Left{}", "Right{}") | {
    "pelvis": "Pelvis", "spine1": "L5", "spine2": ["L3", "T12"], "spine3": "T8", "neck": "Neck", "head": "Head",
}  # fmt: skip

_NEWTON_ARM = ("Shoulder", "Arm", "ForeArm", "Hand")
_NEWTON_LEG = ("Thigh", "Shin", "Foot", "Toe")
_NEWTON = (
    "Hips", *(f"{side}{part}" for side in ("Left", "Right") for part in _NEWTON_LEG),
    "Spine1", "Spine2", "Spine3", "Spine4", *(f"Left{part}" for part in _NEWTON_ARM), "Neck", "Head",
    *(f"Right{part}" for part in _NEWTON_ARM),
)  # fmt: skip
_NEWTON_OURS = _sided(dict(zip(_ARM + _LEG, _NEWTON_ARM + _NEWTON_LEG)), "Left{}", "Right{}") | {
    "pelvis": "Hips", "spine1": "Spine1", "spine2": "Spine2", "spine3": "Spine4", "neck": "Neck", "head": "Head",
}  # fmt: skip

KNOWN: dict[str, Known] = {
    "smpl_24": Known(JOINTS),
    "smpl_22": Known(JOINTS[:22]),
    "h36m_17": Known(tuple(_H36M), {ours: theirs for theirs, ours in _H36M.items() if ours}),
    "coco_17": Known(_COCO),
    "mediapipe_33": Known(_MEDIAPIPE, _MEDIAPIPE_FEET),  # the source turns its axes: x right, y down, z away
    "vrm": Known(tuple(_VRM), {ours: theirs for theirs, ours in _VRM.items()}),
    "body_25": Known(_BODY_25, _BODY_25_OURS),
    "halpe_26": Known(_HALPE_26, {"head": ["left_ear", "right_ear"], **_TOES}),  # its own head is the top of it
    "coco_wholebody_133": Known(_WHOLEBODY, _TOES | _KNUCKLES),
    "kinect_25": Known(_KINECT, _KINECT_OURS),
    "azure_kinect_32": Known(_AZURE, _AZURE_OURS, up_axis="-y", units="mm"),
    "freemocap_33": Known(_MEDIAPIPE, _MEDIAPIPE_FEET, up_axis="z", units="mm"),
    "xsens_23": Known(_XSENS, _XSENS_OURS, up_axis="z"),
    "rokoko_23": Known(_NEWTON, _NEWTON_OURS),
}
