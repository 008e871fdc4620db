"""Skeletons whose forks span no frame: rigs start collars where the neck starts, or hips at the pelvis."""

from __future__ import annotations

import numpy as np

from model.kinematics import forward_kinematics
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX

KINDS = (
    "collars at the neck", "hips at the pelvis", "both", "collars at spine3", "hips together", "spine1 at the pelvis",
    "spine1 between the hips", "all at their parents",
)  # fmt: skip
_HIPS, _COLLARS = [INDEX["left_hip"], INDEX["right_hip"]], [INDEX["left_collar"], INDEX["right_collar"]]


def odd_offsets(kind: str, seed: int = 0) -> np.ndarray:
    """(24, 3) bones of such a body [m]."""
    out = SyntheticActor(seed).offsets_m.copy()
    if kind in ("collars at the neck", "both"):
        out[_COLLARS] = out[INDEX["neck"]]
    if kind in ("hips at the pelvis", "both"):
        out[_HIPS] = 0.0
    if kind == "collars at spine3":
        out[_COLLARS] = 0.0
    if kind == "hips together":
        out[_HIPS] = (0.0, -0.1, 0.0)
    if kind == "spine1 at the pelvis":
        out[INDEX["spine1"]], out[_HIPS] = 0.0, ((0.09, 0.0, 0.0), (-0.09, 0.0, 0.0))
    if kind == "spine1 between the hips":
        out[INDEX["spine1"]] = out[_HIPS].mean(0)
    if kind == "all at their parents":
        out[[*_HIPS, *_COLLARS, INDEX["spine1"], INDEX["neck"]]] = 0.0
    return out


def odd_motion(kind: str, seconds: float, fps: float) -> np.ndarray:
    """(T, 24, 3) such a body in motion [m]."""
    rotations, root = SyntheticActor(0).poses(np.arange(round(seconds * fps)) / fps)
    return np.asarray(forward_kinematics(rotations, odd_offsets(kind), root))
