"""From a source skeleton (ASF, BVH, SMPL) to the canonical one: every clip ends on a rigid `smpl_24` skeleton.

Holds the clip, its error, the tree that all readers share and the one function that re-gauges it. The file formats are
in asf.py, bvh.py and amass.py; which file goes where is in prepare.py. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.kinematics import fork_frames, forward_kinematics
from model.skeleton import CHILDREN, FORKS, INDEX, JOINTS, PARENTS, J, rest_directions, rest_lengths_m, rest_offsets

Floats = npt.NDArray[np.float64]


class ClipError(ValueError):
    """A motion file that cannot be read: names the file, the line or field, and what to do."""

    def __init__(self, path: str | Path, where: str, message: str) -> None:
        super().__init__(f"{path}: {where}: {message}")
        self.path, self.where = str(path), where


@dataclass(frozen=True)
class Clip:
    """A motion on the canonical skeleton: forward_kinematics(world_rotations, offsets_m, positions[:, 0]) == positions.

    Attributes:
        name: file stem.
        positions: (T, 24, 3) joint positions [m], Y up.
        world_rotations: (T, 24, 3, 3) world_from_joint, or None when the file holds positions only.
        fps: true frames per second.
        offsets_m: (24, 3) the actor's rest direction x length, parent to joint [m].
    """

    name: str
    positions: Floats
    world_rotations: Floats | None
    fps: float
    offsets_m: Floats

    @property
    def lengths_m(self) -> Floats:
        """(24,) bone lengths from the parent [m]; the root's is zero."""
        return np.linalg.norm(self.offsets_m, axis=-1)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Tree:
    """A source's skeleton and motion, in metres; the parent of a node stands before it.

    Attributes:
        names: node names; parents: index of each node's parent, -1 for the root.
        offsets: (n, 3) vector from the parent in the zero pose [m]; the root's is unused.
        world_rot: (T, n, 3, 3) world_from_node; the identity in the zero pose.
        root: (T, 3) root position in the world [m].
        ends: end point of a leaf in the leaf's axes [m], where the file gives one.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Floats
    world_rot: Floats
    root: Floats
    fps: float
    ends: Mapping[str, Floats] = field(default_factory=dict)

    def rot(self, name: str) -> Floats:
        out: Floats = self.world_rot[:, self.names.index(name)]
        return out

    def offset(self, name: str) -> Floats:
        out: Floats = self.offsets[self.names.index(name)]
        return out

    def positions(self) -> Floats:
        """(T, n, 3) node positions in the world [m]."""
        out = np.empty((*self.world_rot.shape[:2], 3))
        for i, p in enumerate(self.parents):
            out[:, i] = self.root if p < 0 else out[:, p] + self.world_rot[:, p] @ self.offsets[i]
        return out


@dataclass
class Recipe:
    """How a tree drives the canonical skeleton, filled by each format's mapping.

    Attributes:
        rot: (T, 24, 3, 3) rotation of the source that drives each canonical joint; the identity in a T-pose.
        bones: (24, 3) vector from the parent to each joint in that T-pose, turned by the parent's ``rot`` [m].
        root: (T, 3) pelvis in the world [m].
        aims: world points (T, 3) that a joint is turned towards by its parent where the source is not rigid there.
    """

    rot: Floats
    bones: Floats
    root: Floats
    aims: dict[str, Floats] = field(default_factory=dict)


def unit(v: Floats) -> Floats:
    """``v`` (..., 3) made unit length."""
    out: Floats = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return out


def align(a: Floats, b: Floats) -> Floats:
    """(..., 3, 3) smallest rotation that turns unit ``a`` onto unit ``b`` (broadcast (..., 3))."""
    a, b = np.broadcast_arrays(a, b)
    v, c = np.cross(a, b), (a * b).sum(-1)
    zero = np.zeros_like(c)
    k = np.stack([zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero], -1)
    k = k.reshape(*c.shape, 3, 3)
    out = np.eye(3) + k + k @ k / np.maximum(1.0 + c, 1e-12)[..., None, None]
    opposite = c < -1.0 + 1e-9
    if opposite.any():  # half a turn: any axis across ``a`` will do
        n = a[opposite]
        helper = np.eye(3)[np.abs(n).argmin(-1)]
        axis = unit(np.cross(n, helper))
        out[opposite] = 2.0 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
    return out  # type: ignore[no-any-return]


def axis_rotation(axis: int, angle: Floats) -> Floats:
    """(..., 3, 3) rotation by ``angle`` [rad] about axis 0, 1 or 2."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((*np.shape(angle), 3, 3))
    i, k = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1.0
    out[..., i, i] = out[..., k, k] = c
    out[..., k, i], out[..., i, k] = s, -s
    return out


def _fork_gauge(bones: Floats) -> Floats:
    """(2, 3, 3) rotation from the T-pose of the source to canonical axes for pelvis and spine3."""
    return np.swapaxes(fork_frames(bones) @ np.swapaxes(fork_frames(rest_offsets()), -1, -2), -1, -2)


def _gauges(bones: Floats) -> Floats:
    """(24, 3, 3) rotation from the canonical rest pose to the source's T-pose, per joint.

    A joint with one child takes the smallest rotation between the two rest bones; along a limb it starts from its
    parent's, so that a foot follows a splayed leg and a hand an arm that hangs in the source's zero pose.
    """
    directions, out = rest_directions(), np.broadcast_to(np.eye(3), (J, 3, 3)).copy()
    for fork, gauge in zip(FORKS, _fork_gauge(bones), strict=True):
        out[fork] = gauge.T
    for j in range(1, J):
        if j in FORKS:
            continue
        limb = JOINTS[j].startswith(("left_", "right_")) and PARENTS[j] not in FORKS
        start = out[PARENTS[j]] if limb else np.eye(3)
        out[j] = start
        if CHILDREN[j] and np.linalg.norm(bones[CHILDREN[j][0]]) > 1e-6:
            (c,) = CHILDREN[j]
            out[j] = start @ align(directions[c], start.T @ unit(bones[c]))
    return out


def retarget(recipe: Recipe, name: str, fps: float) -> Clip:
    """The clip of a recipe: rotations re-gauged to the canonical rest pose, positions by forward kinematics.

    Bones of a joint with one child keep their length along the canonical direction; a fork's children keep their shape
    in the canonical fork frame, so that positions alone define the rotation of pelvis and spine3.
    """
    bones, length = recipe.bones, np.linalg.norm(recipe.bones, axis=-1)
    offsets = rest_directions() * np.where(length > 1e-6, length, rest_lengths_m())[:, None]
    gauges = _gauges(bones)
    rot = recipe.rot @ gauges
    where = {0: recipe.root}  # joint -> (T, 3)
    for j in range(J):
        for c in CHILDREN[j]:
            if j in FORKS:
                offsets[c] = gauges[j].T @ bones[c]
            elif JOINTS[c] in recipe.aims:
                now = rot[:, j] @ rest_directions()[c]
                rot[:, j] = align(now, unit(recipe.aims[JOINTS[c]] - where[j])) @ rot[:, j]
            where[c] = where[j] + rot[:, j] @ offsets[c]
    positions = forward_kinematics(rot, offsets, recipe.root)
    return Clip(name, positions, rot, fps, offsets)


def new_recipe(frames: int, root: Floats) -> Recipe:
    """An empty recipe; a bone left at zero takes the canonical rest bone."""
    rot = np.broadcast_to(np.eye(3), (frames, J, 3, 3)).copy()
    return Recipe(rot, np.zeros((J, 3)), root)


def set_joint(recipe: Recipe, joint: str, rot: Floats, bone: Floats | None = None) -> None:
    """Fill one canonical joint: the rotation that drives it and the bone from its parent."""
    recipe.rot[:, INDEX[joint]] = rot
    if bone is not None:
        recipe.bones[INDEX[joint]] = bone
