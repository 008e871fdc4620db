"""From a source skeleton (ASF, BVH, SMPL) to the canonical one: every clip ends on a rigid `smpl_24` skeleton.

Holds the clip, its error, the recipe that every mapping fills and the one function that re-gauges it. The formats are
in asf.py, bvh.py and amass.py, their common tree in tree.py; which file goes where is in read.py. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from model.files.tree import Floats, Tree
from model.kinematics import fork_axis_weights, fork_frames, forward_kinematics
from model.skeleton import CHILDREN, FORKS, INDEX, JOINTS, PARENTS, J, rest_directions, rest_lengths_m, rest_offsets

_LONGEST = 400  # characters of what a broken file puts into an error
_SAME_DIRECTION = 1e-4  # between unit vectors, 0.006 degrees: the canonical rest pose, through a file with few digits
_FLAT_M2 = 1e-5  # area between the two axes of a fork, below which they define no frame: 1 cm by 1 mm


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


class ClipError(ValueError):
    """A motion file that cannot be read or written: names the file, the line or field, and what to do."""

    def __init__(self, path: str | Path, where: str, message: str) -> None:
        super().__init__(f"{path}: {_short(where)}: {_short(message)}")
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
        notes: what the reader had to decide or to leave out, one sentence each.
    """

    name: str
    positions: Floats
    world_rotations: Floats | None
    fps: float
    offsets_m: Floats
    notes: tuple[str, ...] = ()

    @property
    def lengths_m(self) -> Floats:
        """(24,) bone lengths from the parent [m]; the root's is zero."""
        return np.linalg.norm(self.offsets_m, axis=-1)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass
class Recipe:
    """How a tree drives the canonical skeleton, filled by each format's mapping.

    Attributes:
        rot: (T, 24, 3, 3) rotation of the source that drives each canonical joint; the identity in a T-pose.
        bones: (24, 3) vector from the parent to each joint in that T-pose, turned by the parent's ``rot`` [m]; NaN:
            the source has none.
        root: (T, 3) pelvis in the world [m].
        aims: world points (T, 3) that a joint is turned towards by its parent where the source is not rigid there.
        nodes: the source's name of what drives each joint.
        points: where the source has a joint itself (T, 3), for those that must come out there.
        world: (3, 3) turn from the file's world to the one of ``rot`` and ``root``.
        notes: what the mapping had to decide, one sentence each.
    """

    rot: Floats
    bones: Floats
    root: Floats
    aims: dict[str, Floats] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    points: dict[str, Floats] = field(default_factory=dict)
    world: Floats = field(default_factory=lambda: np.eye(3))
    notes: tuple[str, ...] = ()


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
    """(2, 3, 3) rotation from the T-pose of the source to canonical axes for pelvis and spine3.

    Where the children of a fork span no plane (collars that start where the neck starts), the T-pose's axes stand.
    """
    bones = np.nan_to_num(bones)  # a hand's, that no fork looks at
    first, second = np.moveaxis(fork_axis_weights() @ bones, 1, 0)  # (2, 3) each
    spread = np.linalg.norm(np.cross(first, second), axis=-1)
    out = np.swapaxes(fork_frames(bones) @ np.swapaxes(fork_frames(rest_offsets()), -1, -2), -1, -2)
    out[spread < _FLAT_M2] = np.eye(3)
    return out  # type: ignore[no-any-return]


def in_our_rest_pose(bones: Floats) -> bool:
    """Whether a T-pose is the canonical one: every bone but a fork's children, whose shape is a person's own.

    Trunk and feet lean in it as those of our mean skeleton do, so it is a skeleton of ours, and its axes are right.
    """
    single = [c for j in range(J) if len(CHILDREN[j]) == 1 for c in CHILDREN[j]]
    length = np.linalg.norm(bones[single], axis=-1)
    off = np.linalg.norm(bones[single] - length[:, None] * rest_directions()[single], axis=-1)
    return bool((off < _SAME_DIRECTION * length).all())  # NaN, a bone that the source has not, is no skeleton of ours


def _gauges(bones: Floats) -> Floats:
    """(24, 3, 3) rotation from the canonical rest pose to the source's T-pose, per joint.

    A joint with one child takes the smallest rotation between the two rest bones; along a limb it starts from its
    parent's, so that a foot follows a splayed leg and a hand an arm that hangs in the source's zero pose.
    """
    directions, out = rest_directions(), np.broadcast_to(np.eye(3), (J, 3, 3)).copy()
    if in_our_rest_pose(bones):
        return out
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
    offsets = rest_directions() * np.where(np.isnan(length), rest_lengths_m(), length)[:, None]
    gauges = _gauges(bones)
    rot = recipe.rot @ gauges
    where = {0: recipe.root}  # joint -> (T, 3)
    for j in range(J):
        for c in CHILDREN[j]:
            if j in FORKS:
                offsets[c] = gauges[j].T @ bones[c]
            elif JOINTS[c] in recipe.aims:
                now, to = rot[:, j] @ rest_directions()[c], recipe.aims[JOINTS[c]] - where[j]
                far = np.linalg.norm(to, axis=-1, keepdims=True) > 1e-9
                rot[:, j] = align(now, unit(np.where(far, to, now))) @ rot[:, j]
            where[c] = where[j] + rot[:, j] @ offsets[c]
    positions = forward_kinematics(rot, offsets, recipe.root)
    return Clip(name, positions, rot, fps, offsets, recipe.notes)


def new_recipe(tree: Tree) -> Recipe:
    """A recipe for the tree's frames, its pelvis at the root; a bone left at NaN takes the canonical rest bone."""
    rot = np.broadcast_to(np.eye(3), (len(tree.root), J, 3, 3)).copy()
    bones = np.full((J, 3), np.nan)
    bones[0] = 0.0
    return Recipe(rot, bones, tree.root, notes=tree.notes)


def set_joint(recipe: Recipe, joint: str, tree: Tree, node: str, bone: Floats | None = None) -> None:
    """Fill one canonical joint: the node whose rotation drives it, and the bone from its parent (None: unknown)."""
    recipe.rot[:, INDEX[joint]] = tree.rot(node)
    recipe.nodes[joint] = node
    if bone is not None:
        recipe.bones[INDEX[joint]] = bone


def turned(recipe: Recipe, turn: Floats) -> Recipe:
    """The recipe in a world turned by ``turn`` (3, 3)."""
    aims, points = ({name: at @ turn.T for name, at in d.items()} for d in (recipe.aims, recipe.points))
    rot, root, world = turn @ recipe.rot, recipe.root @ turn.T, turn @ recipe.world
    return replace(recipe, rot=rot, root=root, aims=aims, points=points, world=world)
