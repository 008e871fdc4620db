"""Our rotations as SONIC takes them: those of its own human, where that one's joints are, what the G1's wrists do.

SONIC's network knows one body, "human_joints_info.pkl", whoever moves it. Our rotations turn our rest pose's bones;
that body's point elsewhere in its rest pose, by up to 30 degrees. So its joints are turned until its bones point where
ours do, without any twist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.kinematics import forward_kinematics, quaternions_of
from model.skeleton import CHILDREN, INDEX, PARENTS, J, ancestor_matrix, rest_offsets
from streamer.carriers import world_rotations
from streamer.errors import ConfigError
from streamer.frames import Array
from streamer.quaternions import inverse, product
from streamer.wire.sonic import G1_JOINTS, PITCH, ROLL, YAW

F64 = npt.NDArray[np.float64]
Fields = dict[str, npt.NDArray[Any]]

N_BODY = 21  # joints whose rotations go along: all but the root and the hands
N_HUMAN = 55  # joints of SMPL-X, as their file has them
_THUMBS = (39, 54)  # where SONIC has "hands": each thumb's last joint, which goes with the wrist
_KNUCKLES = (28, 43)  # of the middle fingers: where our hands are
_WRISTS = (INDEX["left_wrist"], INDEX["right_wrist"])
_HANDS = (INDEX["left_hand"], INDEX["right_hand"])
_ELBOWS = (INDEX["left_elbow"], INDEX["right_elbow"])
_ALL = np.arange(J)  # hands' rotations are not needed
_PARENTS = np.array(PARENTS[1 : N_BODY + 1])
# Joints whose rotation follows from one bone, and the child at its other end.
_SINGLE = [(j, CHILDREN[j][0]) for j in range(J) if len(CHILDREN[j]) == 1]
# Their human in its rest pose has the pelvis here, and leaves it here, whatever the root does: only then are joints
# turned into the root's axes. Their network was trained so.
_PELVIS_M = np.array([0.0, -0.35, 0.01])
_THUMB_M = np.array([0.08, -0.02, 0.07])  # from a left wrist, about

_Z_UP = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))  # xyzw: a quarter turn about x
_BASE = (0.5, 0.5, 0.5, 0.5)  # what SMPL's root is in their robot's axes, X ahead, Z up, at rest


class Human:
    """SONIC's human: where its joints are in the rest pose (a T-pose facing +Z, Y up) [m].

    Args:
        joints_m: (55, 3) the array "J" of their file; None: our mean skeleton stands in, whose joints are up to 11 cm
            elsewhere, 6 on average.
    """

    def __init__(self, joints_m: Array | None = None) -> None:
        if joints_m is None:
            rest = ancestor_matrix() @ rest_offsets() + _PELVIS_M
            ends = rest[list(_HANDS)]
            rest[list(_HANDS)] = rest[list(_WRISTS)] + [_THUMB_M, _THUMB_M * (-1.0, 1.0, 1.0)]
        else:
            rest = np.concatenate([joints_m[: J - 2], joints_m[list(_THUMBS)]]).astype(np.float64)
            ends = joints_m[list(_KNUCKLES)].astype(np.float64)
        self._pelvis_m: F64 = rest[0]
        self._offsets_m: F64 = rest - rest[[max(parent, 0) for parent in PARENTS]]
        along = self._offsets_m.copy()
        along[list(_HANDS)] = ends - rest[list(_WRISTS)]
        self._along: F64 = np.stack([_unit(along[child]) for _, child in _SINGLE])
        self._turned_for: Array | None = None
        self._turns: F64 = np.tile(np.eye(3), (J, 1, 1))  # our joints' axes from this body's

    def fields(self, rotations: Array, offsets_m: Array) -> Fields:
        """What a message says of one frame, without its index.

        Args:
            rotations: (24, 4) quaternions xyzw of a pose, parent_from_joint; the root's: world.
            offsets_m: (24, 3) the actor's rest-pose vectors from the parent to each joint [m].
        """
        if self._turned_for is None or not np.array_equal(offsets_m, self._turned_for):
            self._turned_for = offsets_m.copy()
            for (joint, child), along in zip(_SINGLE, self._along):
                self._turns[joint] = _shortest_turn(along, _unit(offsets_m[child].astype(np.float64)))
        world = world_rotations(rotations.astype(np.float32), _ALL).astype(np.float64) @ self._turns
        local = np.swapaxes(world[_PARENTS], -1, -2) @ world[1 : N_BODY + 1]
        x, y, z, w = (float(number) for number in rotations[0])
        root = product(product(_Z_UP, (x, y, z, w)), inverse(_BASE))
        from_world = _matrix(inverse(root))  # Z up
        joints = forward_kinematics(_matrix(_Z_UP) @ world, self._offsets_m, self._pelvis_m) @ from_world.T
        return {
            "body_quat": np.array([root[3], *root[:3]], np.float32),
            "smpl_joints": joints.astype(np.float32),
            "smpl_pose": _axis_angle(local).astype(np.float32),
            "joint_pos": _g1_wrists(local).astype(np.float32),
            "joint_vel": np.zeros(G1_JOINTS, np.float32),
        }


def read_joints(path: Path) -> Array:
    """(55, 3) the rest-pose joints of their human, from a .npy file.

    Raises:
        ConfigError: there is none, or it holds something else.
    """
    how = (
        "write it with: python -c \"import numpy, torch; numpy.save('human.npy', "
        "torch.load('gear_sonic/data/human/human_joints_info.pkl', weights_only=True)['J'].reshape(55, 3).numpy())\""
    )
    try:
        joints = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"--human {path}: cannot be read ({error}); {how}") from error
    if not isinstance(joints, np.ndarray) or joints.dtype.kind != "f" or joints.shape != (N_HUMAN, 3):
        raise ConfigError(f"--human {path}: 55 x 3 numbers were expected; {how}")
    if not np.isfinite(joints).all() or np.ptp(joints, 0).max() > 3.0:
        raise ConfigError(f"--human {path}: these are no joints of a human, in metres; {how}")
    return joints


def _g1_wrists(local: F64) -> F64:
    """(29,) the G1's joints [rad], from rotations (21, 3, 3): wrists, which also turn as a forearm does; others zero.

    A forearm's turn is parted into one about y, SMPL's bending of the elbow, and the rest, which the G1 has in its
    wrist: roll about x, yaw about z. Source: gear_sonic/scripts/pico_manager_thread_server.py, PoseStreamer.run_once.
    """
    joints = np.zeros(G1_JOINTS)
    for side, (elbow, wrist) in enumerate(zip(_ELBOWS, _WRISTS)):
        hand, forearm = _euler_xyz(local[wrist - 1]), _euler_xyz(_without_bend(local[elbow - 1]))
        sign = 1.0 if side == 0 else -1.0
        joints[ROLL[side]] = sign * (forearm[0] + hand[0])
        joints[PITCH[side]] = sign * hand[1]
        joints[YAW[side]] = forearm[2] + hand[2]
    return joints


def _without_bend(rotation: F64) -> F64:
    """What is left to do after the part of a rotation that is about y."""
    _, y, _, w = quaternions_of(rotation).tolist()
    size = np.hypot(y, w)
    if size < 1e-9:
        return rotation
    bend = _matrix((0.0, y / size, 0.0, w / size))
    return np.asarray(bend.T @ rotation)


def _euler_xyz(rotation: F64) -> tuple[float, float, float]:
    """Angles [rad] about x, then the turned y, then the turned z. Oracle: scipy's "XYZ"."""
    y = np.arcsin(np.clip(rotation[0, 2], -1.0, 1.0))
    if abs(rotation[0, 2]) > 1.0 - 1e-9:  # x and z turn about one axis
        return float(np.arctan2(rotation[1, 0], rotation[1, 1])), float(y), 0.0
    return (
        float(np.arctan2(-rotation[1, 2], rotation[2, 2])), float(y), float(np.arctan2(-rotation[0, 1], rotation[0, 0]))
    )  # fmt: skip


def _axis_angle(rotations: F64) -> F64:
    """(..., 3) axis times angle [rad], of at most half a turn."""
    q = quaternions_of(rotations)
    q = np.where(q[..., 3:] < 0.0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    return np.asarray(q[..., :3] * (2.0 * np.arctan2(sine, q[..., 3:]) / np.maximum(sine, 1e-12)))


def _shortest_turn(a: F64, b: F64) -> F64:
    """The rotation by the least angle that turns a unit vector into another, which is not its opposite."""
    x, y, z = np.cross(a, b)
    across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + across + across @ across / max(1.0 + float(a @ b), 1e-9))


def _matrix(q: tuple[float, float, float, float]) -> F64:
    x, y, z, w = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _unit(vector: F64) -> F64:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
