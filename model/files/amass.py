"""Motion in ``.npz`` files: AMASS (SMPL-H poses, Z up) and plain joint positions (smpl_24, Y up).

AMASS gives rotations and a shape vector; lengths need the licensed body model, which is not read here. A file that
carries ``bone_offsets`` or joint ``positions`` gets its true skeleton, any other the mean training skeleton.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.files.retarget import Clip, ClipError, Recipe
from model.files.source import MAX_FPS, MAX_NUMBER, Arrays, check_size
from model.files.tree import Floats
from model.kinematics import bone_vectors, fork_frames, forward_kinematics
from model.skeleton import CHILDREN, FORKS, JOINTS, PARENTS, J, rest_directions, rest_lengths_m, rest_offsets

_BODY = 22  # SMPL-H: the body's joints come first, in the order of smpl_24; fingers follow, and are not used
Y_UP_FROM_Z_UP: Floats = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps")
_POSITIONS = ("positions", "joint_positions", "joints")
_TOLERANCE_M = 1e-3
# Joint 0 of the templates without a shape, as their users print them: SMPL-H (and SMPL, male; the other genders differ
# by 2 cm, a person's shape by as much), and SMPL-X (neutral). The models themselves are licensed, and not read here.
SMPLH_PELVIS = (-0.0018, -0.2233, 0.0282)
_SMPLX_PELVIS = (0.0031, -0.3514, 0.0120)


def read_npz(path: Path, fps: float | None = None) -> tuple[Recipe, float] | Clip:
    """What an ``.npz`` motion holds: a recipe and its rate (AMASS), or a clip without rotations (plain positions).

    Raises:
        ClipError: a key is missing, of the wrong shape or not finite, or the file is of another kind.
    """
    with Arrays(path) as data:
        if "poses" in data:
            return _amass(path, data, fps)
        if "world_m" in data:
            raise ClipError(
                path, "key 'world_m'", "MediaPipe landmarks, an input and no truth: `hpstm replay` reads them"
            )
        if "rotations" in data and "starts" in data:
            raise ClipError(path, "key 'starts'", "a packed split; read it with model.prepare.load_packed")
        if "positions" in data:
            return _plain(path, data, fps)
        keys = ", ".join(data.keys())[:200] or "none"
    raise ClipError(path, "keys", f"neither 'poses' and 'trans' (AMASS) nor 'positions'; the file has: {keys}")


def _array(path: Path, data: Arrays, key: str, shape: tuple[int | None, ...]) -> Floats:
    """``data[key]`` as finite float64 of a shape; None stands for any length."""
    value = data[key]
    wanted = "(" + ", ".join("T" if n is None else str(n) for n in shape) + ")"
    fits = value.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, value.shape, strict=True))
    if not fits or value.dtype.kind not in "fiu":
        raise ClipError(path, f"key '{key}'", f"should be numbers of shape {wanted}, is {value.dtype} {value.shape}")
    return value.astype(np.float64)


def _finite(path: Path, key: str, value: Floats) -> Floats:
    fine = np.abs(value) <= MAX_NUMBER
    if not fine.all():
        at = np.argwhere(~fine)[0]
        joint = f" (joint '{JOINTS[at[1]]}')" if value.ndim > 2 and value.shape[1] == J else ""
        found = f"not finite, or beyond {MAX_NUMBER:g}, first at index {at[0]}{joint}"
        raise ClipError(path, f"key '{key}'", f"{found}; cut the clip there")
    return value


def _rate(path: Path, data: Arrays, fps: float | None) -> float:
    if fps is not None:
        return fps
    for key in _RATES:
        if key in data:
            value = data[key].reshape(-1)[:1]
            rate = float(value[0]) if value.size and value.dtype.kind in "fiu" else 0.0
            if not 0.0 < rate <= MAX_FPS:
                raise ClipError(path, f"key '{key}'", f"{value} is no frame rate; pass fps=")
            return rate
    raise ClipError(path, f"key '{_RATES[0]}'", "missing; pass fps=")


def rotation_from_axis_angle(axis_angle: Floats) -> Floats:
    """(..., 3, 3) rotation matrices of axis-angle vectors (..., 3) [rad] (Rodrigues)."""
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    sine = np.sinc(angle / np.pi)  # sin(a)/a, exact at zero
    cosine = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2  # (1 - cos a)/a^2
    return np.eye(3) + sine * k + cosine * (k @ k)  # type: ignore[no-any-return]


def _world_rotations(path: Path, data: Arrays) -> Floats:
    """(T, 24, 3, 3) world_from_joint in the file's Z-up world.

    A hand turns with its wrist unless SMPL's 72 columns or our own key ``hands`` say.
    """
    poses = data["poses"]
    if poses.ndim == 3 and poses.shape[-1] == 3:
        poses = poses.reshape(len(poses), -1)
    if (
        poses.ndim != 2
        or poses.shape[1] < 3 * _BODY
        or poses.shape[1] % 3
        or not len(poses)
        or poses.dtype.kind not in "fiu"
    ):
        raise ClipError(
            path, "key 'poses'", f"should be (T, 156) axis-angle (or 66, 72, 165 columns), is {poses.shape}"
        )
    check_size(path, len(poses), J)
    poses = _finite(path, "poses", poses.astype(np.float64)).reshape(len(poses), -1, 3)
    joints = J if poses.shape[1] == J else _BODY  # 72 columns: SMPL
    if joints < J and "hands" in data:
        hands = _finite(path, "hands", _array(path, data, "hands", (len(poses), J - joints, 3)))
        poses, joints = np.concatenate([poses[:, :joints], hands], axis=1), J
    local = rotation_from_axis_angle(poses[:, :joints])
    world = np.empty((len(poses), J, 3, 3))
    for j, p in enumerate(PARENTS):
        if p < 0:
            world[:, j] = local[:, j]
        else:
            world[:, j] = world[:, p] @ local[:, j] if j < joints else world[:, p]
    return world


def _amass(path: Path, data: Arrays, fps: float | None) -> tuple[Recipe, float]:
    rate = _rate(path, data, fps)
    rot = _world_rotations(path, data)
    frames = len(rot)
    trans = _finite(path, "trans", _array(path, data, "trans", (None, 3)))
    if len(trans) != frames:
        raise ClipError(path, "key 'trans'", f"{len(trans)} frames, but 'poses' has {frames}")
    key = next((k for k in _POSITIONS if k in data), None)
    positions = None if key is None else _finite(path, key, _array(path, data, key, (frames, J, 3)))
    offsets = rest_offsets()
    if "bone_offsets" in data:
        offsets = _finite(path, "bone_offsets", _array(path, data, "bone_offsets", (J, 3)))
    elif positions is not None:
        parents = [max(p, 0) for p in PARENTS]
        offsets = np.einsum("tjki,tjk->ji", rot[:, parents], bone_vectors(positions)) / frames
    else:
        offsets[0] = _template_pelvis(data, data["poses"].shape[-1])
    root = trans + offsets[0] if positions is None else positions[:, 0]
    if positions is not None:
        error = np.abs(forward_kinematics(rot, offsets, root) - positions).max()
        if error > _TOLERANCE_M:
            raise ClipError(
                path, f"key '{key}'", f"poses on the file's bones miss it by {error * 1e3:.1f} mm; not one body"
            )
    bones = offsets.copy()
    bones[0] = 0.0
    return Recipe(Y_UP_FROM_Z_UP @ rot, bones, root @ Y_UP_FROM_Z_UP.T, world=Y_UP_FROM_Z_UP), rate


def _template_pelvis(data: Arrays, columns: int) -> Floats:
    """(3,) the pelvis of the body model's template in its own axes [m], for the mean shape.

    SMPL turns a body about the template's pelvis, which is not the origin, and only then moves it: the pelvis is at
    ``trans`` plus this, whatever the pose, in the axes of the file's world.
    """
    known = str(data["surface_model_type"]) if "surface_model_type" in data else ""
    return np.array(_SMPLX_PELVIS if "smplx" in known.lower() or columns == 165 else SMPLH_PELVIS)


def _plain(path: Path, data: Arrays, fps: float | None) -> Clip:
    layout = str(data["layout"]) if "layout" in data else "smpl_24"
    if layout != "smpl_24":
        raise ClipError(
            path, "key 'layout'", f"'{layout}' has not all 24 joints: no truth, but `hpstm replay` reads it"
        )
    positions = _array(path, data, "positions", (None, J, 3))
    check_size(path, len(positions), J)
    if not np.isnan(positions).all():
        _finite(path, "positions", np.nan_to_num(positions, posinf=np.inf, neginf=-np.inf))  # NaN: a missing joint
    if not len(positions) or np.isnan(positions).all():
        raise ClipError(path, "key 'positions'", "holds no joint at all")
    rate = _rate(path, data, fps)
    if "offsets_m" in data:
        offsets = _finite(path, "offsets_m", _array(path, data, "offsets_m", (J, 3)))
    else:
        offsets = measured_offsets(positions)
    rot = None
    if "world_rotations" in data:
        rot = _finite(path, "world_rotations", _array(path, data, "world_rotations", (len(positions), J, 3, 3)))
    return Clip(path.name.split(".")[0], positions, rot, rate, offsets)


def measured_offsets(positions: Floats) -> Floats:
    """(24, 3) an actor's offsets [m] from positions (T, 24, 3): the median bone, a fork's in the fork's frame."""
    bones = bone_vectors(positions)
    lengths = np.linalg.norm(bones, axis=-1)
    seen = ~np.isnan(lengths).all(0)
    median = np.where(seen, np.nanmedian(np.where(seen, lengths, 0.0), axis=0), rest_lengths_m())
    out = rest_directions() * median[:, None]
    frames = fork_frames(bones)  # (T, 2, 3, 3)
    for f, fork in enumerate(FORKS):
        canonical = fork_frames(rest_offsets())[f]
        for c in CHILDREN[fork]:
            local = np.einsum("tki,tk->ti", frames[:, f], bones[:, c])
            if not np.isnan(local).all():
                out[c] = canonical @ np.nanmedian(local, axis=0)
    return out
