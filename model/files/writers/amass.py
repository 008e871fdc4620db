"""npz in the form of AMASS: SMPL-H's 52 joints as axis-angle and the body model's translation, Z up; no body shape.

What AMASS has not is added under keys of our own, which its users pass over: the actor's bones, and the hands' turns.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from model.files.amass import SMPLH_PELVIS, Y_UP_FROM_Z_UP
from model.files.animation import Animation
from model.files.quaternions import axis_angles, product, quaternions
from model.skeleton import JOINTS

_JOINTS = 52  # of SMPL-H; of ours the first 22 are its body
_BODY = 22
_BETAS = 16


def write_amass(animation: Animation, file: BinaryIO) -> None:
    """Writes an animation as an ``.npz`` of ``poses`` (T, 156), ``trans`` (T, 3) and ``mocap_framerate``.

    ``trans`` is where the template's origin goes, so that its pelvis, with all betas zero, goes where ours is.
    """
    z_up = Y_UP_FROM_Z_UP.T
    local = animation.local.copy()
    local[:, 0] = product(np.broadcast_to(quaternions(z_up), (len(local), 4)), local[:, 0])
    turns = axis_angles(local)
    poses = np.zeros((len(local), _JOINTS, 3))
    poses[:, :_BODY] = turns[:, :_BODY]
    offsets = animation.offsets_m.copy()
    offsets[0] = SMPLH_PELVIS
    np.savez_compressed(
        file, poses=poses.reshape(len(poses), -1), trans=animation.root @ z_up.T - SMPLH_PELVIS,
        mocap_framerate=np.float64(animation.fps), gender=np.array("neutral"), betas=np.zeros(_BETAS),
        surface_model_type=np.array("smplh"), bone_offsets=offsets, hands=turns[:, _BODY:],
        joint_names=np.array(JOINTS),
    )  # fmt: skip
