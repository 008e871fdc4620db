"""The canonical skeleton: joint names, parents, ancestor matrix, rest pose.

Pure numpy and constant, so that the streamer can import it without torch. Input layouts live in layouts.py,
positions from rotations in kinematics.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

JOINTS: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS: tuple[int, ...] = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
J = len(JOINTS)
INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINTS)}


def _mirror(name: str) -> str:
    return name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_")


MIRROR: tuple[int, ...] = tuple(INDEX[_mirror(name)] for name in JOINTS)
CHILDREN: tuple[tuple[int, ...], ...] = tuple(tuple(c for c in range(J) if PARENTS[c] == j) for j in range(J))
LEAVES: tuple[int, ...] = tuple(j for j in range(J) if not CHILDREN[j])
# Joints with several children carry per-actor rest directions: one rotation must give all of them.
FORKS: tuple[int, ...] = tuple(j for j in range(J) if len(CHILDREN[j]) > 1)  # pelvis, spine3
FORK_CHILDREN: tuple[int, ...] = tuple(c for f in FORKS for c in CHILDREN[f])


def ancestor_matrix() -> Floats:
    """(J, J) 0/1 matrix: row j marks the bones on the chain from the root to joint j.

    Bone j runs from PARENTS[j] to j, so positions = root + ancestor_matrix() @ bone_vectors; column 0 is zero.
    """
    chain = np.zeros((J, J))
    for j in range(1, J):
        chain[j] = chain[PARENTS[j]]
        chain[j, j] = 1.0
    return chain


# Rest pose: T-pose facing +Z, left = +X, Y up, every world rotation the identity. Vector from the parent to each
# joint [m], the mean over the training subjects' skeletons made left/right symmetric (see prepare.measure_rest);
# legs hang straight down and arms point straight out, which defines the T-pose.
_HALF_REST: dict[str, tuple[float, float, float]] = {
    "left_hip": (0.0892, -0.0903, 0.0398),
    "spine1": (0.0, 0.0285, -0.0020),
    "left_knee": (0.0, -0.3954, 0.0),
    "spine2": (0.0, 0.1304, -0.0072),
    "left_ankle": (0.0, -0.4340, 0.0),
    "spine3": (0.0, 0.1160, 0.0012),
    "left_foot": (0.0008, -0.0292, 0.1174),
    "neck": (0.0, 0.1491, 0.0067),
    "left_collar": (0.0620, 0.1054, -0.0043),
    "head": (0.0, 0.1218, -0.0096),
    "left_shoulder": (0.1261, 0.0, 0.0),
    "left_elbow": (0.2919, 0.0, 0.0),
    "left_wrist": (0.1910, 0.0, 0.0),
    "left_hand": (0.1288, 0.0, 0.0),
}


def rest_offsets() -> Floats:
    """(J, 3) vector from the parent to each joint in the rest pose [m]; the root's is zero."""
    out = np.zeros((J, 3))
    for j, name in enumerate(JOINTS):
        if name in _HALF_REST:
            out[j] = _HALF_REST[name]
        elif name.startswith("right_"):
            out[j] = np.array(_HALF_REST[_mirror(name)]) * (-1.0, 1.0, 1.0)
    return out


def rest_directions() -> Floats:
    """(J, 3) unit vector from the parent to each joint in the rest pose; the root's is zero."""
    offsets = rest_offsets()
    offsets[1:] /= np.linalg.norm(offsets[1:], axis=-1, keepdims=True)
    return offsets


def rest_lengths_m() -> Floats:
    """(J,) bone length from the parent of the mean training skeleton [m]; the root's is zero."""
    return np.linalg.norm(rest_offsets(), axis=-1)  # type: ignore[no-any-return]
