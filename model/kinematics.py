"""Forward kinematics by the ancestor matrix, and the frames of the joints that have several children.

Every function takes numpy arrays or torch tensors alike: one arithmetic for readers, training and tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.skeleton import CHILDREN, FORKS, INDEX, PARENTS, J, ancestor_matrix

_PARENT_OR_ROOT = [max(p, 0) for p in PARENTS]


def _like(constant: np.ndarray, array: Any) -> Any:
    if isinstance(array, np.ndarray):
        return constant.astype(array.dtype)
    return array.new_tensor(constant)


def forward_kinematics(world_rot: Any, offsets_m: Any, root_m: Any) -> Any:
    """Joint positions in the world.

    Args:
        world_rot: (..., J, 3, 3) world_from_joint rotations, orthonormal.
        offsets_m: (..., J, 3) rest direction x bone length, parent to joint, in the rest pose [m]; root's ignored.
        root_m: (..., 3) pelvis in the world [m].
    Returns:
        (..., J, 3) joint positions in the world [m].
    Source: position = root + sum of bone vectors along the chain. Oracle: tests/reference.py.
    """
    bones = (world_rot[..., _PARENT_OR_ROOT, :, :] @ offsets_m[..., None])[..., 0]  # (..., J, 3)
    return root_m[..., None, :] + _like(ancestor_matrix(), world_rot) @ bones


def bone_vectors(positions: Any) -> Any:
    """(..., J, 3) vector from the parent to each joint [m], world axes; the root's is zero."""
    return positions - positions[..., _PARENT_OR_ROOT, :]


def quaternions_of(rotations: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternions xyzw of rotations (..., 3, 3), the largest of the four numbers positive.

    Source: the largest row of 4 q q^T, as model/rotations.py. Oracle: scipy in tests/model/test_kinematics.py.
    """
    m = np.asarray(rotations, np.float64)
    outer = np.empty((*m.shape[:-2], 4, 4))
    trace = np.trace(m, axis1=-2, axis2=-1)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        outer[..., i, i] = 1.0 + 2.0 * m[..., i, i] - trace
        outer[..., j, k] = outer[..., k, j] = m[..., j, k] + m[..., k, j]
        outer[..., i, 3] = outer[..., 3, i] = m[..., k, j] - m[..., j, k]
    outer[..., 3, 3] = 1.0 + trace
    largest = np.diagonal(outer, axis1=-2, axis2=-1).argmax(-1)
    row = np.take_along_axis(outer, largest[..., None, None], -2)[..., 0, :]
    out: np.ndarray = row / np.linalg.norm(row, axis=-1, keepdims=True)
    return out


def _unit(v: Any) -> Any:
    return v / (v * v).sum(-1)[..., None].clip(1e-20, None) ** 0.5


def _cross(a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray):
        return np.cross(a, b)
    import torch

    return torch.linalg.cross(a, b)


def frame_from_axes(primary: Any, secondary: Any) -> Any:
    """(..., 3, 3) rotation whose first column is ``primary`` made unit, second the rest of ``secondary``.

    Gram-Schmidt (Zhou et al. 2019, the 6D representation); both (..., 3), neither zero nor parallel.
    """
    x = _unit(primary)
    y = _unit(secondary - (x * secondary).sum(-1)[..., None] * x)
    z = _cross(x, y)
    stack = np.stack if isinstance(primary, np.ndarray) else __import__("torch").stack
    return stack([x, y, z], -1)


def frames_of(primary: Any, secondary: Any) -> Any:
    """(B, M, 3, 3) rotations as ``frame_from_axes``, of torch tensors (B, 1, 3, M) with xyz before the points."""
    import torch

    x = primary / torch.sqrt((primary * primary).sum(2, keepdim=True) + 1e-30)
    y = secondary - (x * secondary).sum(2, keepdim=True) * x
    y = y / torch.sqrt((y * y).sum(2, keepdim=True) + 1e-30)
    (x0, x1, x2), (y0, y1, y2) = x.split(1, 2), y.split(1, 2)
    z = torch.cat([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0], 2)
    return torch.cat([x, y, z], 1).permute(0, 3, 2, 1)


# Fork frame: first axis right child -> left child, second from their middle to the third child (pelvis: hips and
# spine1; spine3: collars and neck). The weights turn the three bone vectors into the two axes: (fork, axis, J).
_FORK_CHILDREN = [("left_hip", "right_hip", "spine1"), ("left_collar", "right_collar", "neck")]
# Where a skeleton's children do not span them (collars that start where the neck starts, hips at the pelvis), others
# stand in: the third child, the middle of the two, across the shoulders, up the spine; at last two axes of the world.
_SPINES = (("spine2", "spine3", "neck"), ("spine3", "head"))
WORLD_AXES = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
AXES = 8  # candidates of a fork, in that order
SMALL_M = 0.02  # shorter vectors of a skeleton are none: they turn with every millimetre of noise


def fork_axis_weights() -> np.ndarray:
    """(2, 2, J) weights that turn bone vectors into the two axes of each fork's frame."""
    return fork_candidates()[:, :2]


def fork_candidates() -> np.ndarray:
    """(2, AXES, J) weights that turn bone vectors into what may be an axis of each fork's frame; of those of the world
    zero."""
    weights = np.zeros((len(FORKS), AXES, J))
    for own, (left, right, middle), spine in zip(weights, _FORK_CHILDREN, _SPINES):
        own[0, INDEX[left]], own[0, INDEX[right]] = 1.0, -1.0
        own[1, INDEX[middle]] = 1.0
        own[1, INDEX[left]] = own[1, INDEX[right]] = -0.5
        own[2, INDEX[middle]] = 1.0
        own[3, INDEX[left]] = own[3, INDEX[right]] = 0.5
        for joint in ("collar", "shoulder"):
            own[4, INDEX[f"left_{joint}"]], own[4, INDEX[f"right_{joint}"]] = 1.0, -1.0
        own[5, [INDEX[joint] for joint in spine]] = 1.0
    return weights


def fork_frames(bones: Any, like: Any = None) -> Any:
    """(..., 2, 3, 3) frames of pelvis and spine3 from bone vectors (..., J, 3).

    For bones that come from one rigid rotation R of rest bones, fork_frames(bones) = R @ fork_frames(rest): so
    R = fork_frames(bones) @ fork_frames(rest)^T, exact on rigid input and smooth on noisy.

    Args:
        like: bones (..., J, 3) of the skeleton, which say what the axes are taken from: for R, the same for both. None:
            as on any whole skeleton.
    """
    if like is None:
        axes = _like(fork_axis_weights(), bones)
        return frame_from_axes(axes[:, 0] @ bones, axes[:, 1] @ bones)
    first, second = fork_choice(like)
    mine = _axes(bones)
    return frame_from_axes((first[..., None] * mine).sum(-2), (second[..., None] * mine).sum(-2))


def fork_choice(like: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 2, AXES) each, 1 at the candidate that is the first axis, the second: the first two that are long enough
    in bones (..., J, 3), and span a plane. Oracle of ``chosen_axes``."""
    candidates = _axes(like)
    first = _first(np.linalg.norm(candidates, axis=-1) > SMALL_M)
    x = _unit((first[..., None] * candidates).sum(-2))[..., None, :]
    across = candidates - (candidates * x).sum(-1, keepdims=True) * x
    return first, _first(np.linalg.norm(across, axis=-1) > SMALL_M)


def _axes(bones: Any) -> Any:
    """(..., 2, AXES, 3) the candidates."""
    fixed = np.zeros((len(FORKS), AXES, 3))
    fixed[:, -len(WORLD_AXES) :] = WORLD_AXES
    return _like(fork_candidates(), bones) @ bones[..., None, :, :] + _like(fixed, bones)


def _first(ok: np.ndarray) -> np.ndarray:
    out: np.ndarray = ok & (np.cumsum(ok, -1) == 1)
    return out.astype(np.float64)


def chosen_axes(like: Any, several: list[Any], sums: Any, before: Any) -> list[tuple[Any, Any]]:
    """First and second axes (B, 1, 3, 2) of the forks, of each of ``several`` candidates (B, 1, 3, 2 AXES), chosen by
    ``like``, candidates of the skeleton: as ``fork_choice``, of torch tensors in the form of the graphs.

    Args:
        sums: (2 AXES, 2) adds up each fork's candidates. before: (2 AXES, 2 AXES) counts, of each, those before it.
    """
    import torch

    square = (like * like).sum(2, keepdim=True)  # (B, 1, 1, 2 AXES)
    ok = (square > SMALL_M**2).to(square)
    first = ok * (ok @ before < 0.5).to(square)
    main = (first * like) @ sums
    share = (main / torch.sqrt((main * main).sum(2, keepdim=True) + 1e-30)) @ sums.transpose(0, 1)
    across = like - (like * share).sum(2, keepdim=True) * share
    ok = ((across * across).sum(2, keepdim=True) > SMALL_M**2).to(square)
    second = ok * (ok @ before < 0.5).to(square)
    return [((first * x) @ sums, (second * x) @ sums) for x in several]


assert all(len(CHILDREN[f]) == 3 for f in FORKS)
