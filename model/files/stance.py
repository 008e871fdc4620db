"""How large a source's body is, which way up it stands, and the axes of its joints in a T-pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.files.bone_axes import lafan_axes, measured_axes, points_along
from model.files.landmarks import Rig
from model.files.retarget import Clip, unit
from model.files.tree import Floats, RigError, Tree
from model.skeleton import INDEX

# Units that files use [m], and how tall a person is: no height fits two of them.
_UNITS = {
    "metres": 1.0, "feet": 0.3048, "decimetres": 0.1, "CMU's unit": 0.0254 / 0.45, "inches": 0.0254,
    "centimetres": 0.01, "millimetres": 0.001,
}  # fmt: skip
_ADULT_M = (1.3, 2.2)
_CHILD_M = (0.75, 1.3)  # in a metric unit only: what is in others may be an adult in a unit of its own
_METRIC = ("metres", "centimetres", "millimetres")
_PERSON_M = (0.4, 3.0)
_JUMP_M = 1.5  # more than a pelvis rises and falls
_HEIGHT_FROM_BONES = 1.15  # stature over leg and spine, from ankle to hip and from pelvis to head
UP_AXES = ("x", "y", "z", "-x", "-y", "-z")


def body_size(tree: Tree, nodes: Sequence[int]) -> float:
    """Stature in the tree's unit, from the bones between pelvis, hip, ankle and head (node numbers)."""
    pelvis, hip, ankle, head = nodes
    return _HEIGHT_FROM_BONES * (tree.distance(hip, ankle) + tree.distance(pelvis, head))


def metres_per_unit(tree: Tree, nodes: Sequence[int]) -> float:
    """The unit in which the body is as tall as a person.

    Raises:
        RigError: there is none, or only a child's in a unit that is not metric.
    """
    size = body_size(tree, nodes)
    for (low, high), names in ((_ADULT_M, tuple(_UNITS)), (_CHILD_M, _METRIC)):
        for name in names:
            if low <= size * _UNITS[name] < high:
                return _UNITS[name]
    near = sorted(_UNITS, key=lambda name: abs(np.log(max(size, 1e-9) * _UNITS[name] / 1.7)))[:2]
    guesses = " and ".join(f"{size * _UNITS[name]:.3g} m in {name}" for name in near)
    raise RigError(f"the body is {size:.3g} units tall, which fits no unit ({guesses}); pass unit_m=")


def stature_m(clip: Clip) -> float:
    """How tall the body of a clip is [m], by its bones."""
    return _HEIGHT_FROM_BONES * float(clip.lengths_m[[INDEX[name] for name in _COLUMN]].sum())


_COLUMN = ("left_knee", "left_ankle", "spine1", "spine2", "spine3", "neck", "head")


def is_person(clip: Clip) -> bool:
    """Whether a person can be as tall as the clip's body."""
    return _PERSON_M[0] <= stature_m(clip) <= _PERSON_M[1]


def turn_up(axis: str) -> Floats:
    """(3, 3) turn by right angles that makes ``axis`` of a file, such as "z" or "-y", our Y.

    Raises:
        RigError: no such axis.
    """
    if axis not in UP_AXES:
        raise RigError(f"up should be one of {', '.join(UP_AXES)}, is '{axis}'")
    sign, which = (-1.0, axis[1:]) if axis.startswith("-") else (1.0, axis)
    x, y, z = np.eye(3)
    rows = {"x": (-sign * y, sign * x, z), "y": (x, sign * y, sign * z), "z": (x, sign * z, -sign * y)}[which]
    return np.stack(rows)


def standing(clip: Clip, axis: Floats) -> float:
    """Share of the frames in which trunk and both legs point along ``axis`` (3,), within 40 degrees."""
    at = clip.positions[:: max(1, len(clip) // 2000)]
    bones = [("neck", "pelvis"), ("left_hip", "left_ankle"), ("right_hip", "right_ankle")]
    along = [unit(at[:, INDEX[a]] - at[:, INDEX[b]] + 1e-12) @ axis > np.cos(np.radians(40.0)) for a, b in bones]
    return float(np.all(along, axis=0).mean())


def posed_up(clip: Clip) -> Floats:
    """(3,) the axis of the clip's world along which the body stands, over the clip; Y unless something else is clear.

    A body that never stands along Y, and does along another axis, without travelling along it, stands there: unless
    all of it is over the floor of Y and not over that of the other axis, as when it lies or swims.
    """
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    y: Floats = axes[1]
    if standing(clip, y) >= 0.05:
        return y
    up: Floats = max(axes, key=lambda axis: standing(clip, axis))
    travels = np.ptp(clip.positions[:, 0] @ up) > _JUMP_M
    over_y = _lowest(clip, y) > -0.1 and np.median(clip.positions[:, 0] @ y) < _JUMP_M
    over_other = -0.2 < _lowest(clip, up) < 0.3
    return y if standing(clip, up) <= 0.5 or travels or (over_y and not over_other) else up


def _lowest(clip: Clip, axis: Floats) -> float:
    return float(np.percentile((clip.positions @ axis).min(1), 5))


def is_stance(tree: Tree, rig: Rig) -> bool:
    """Whether the zero pose is a person: legs side by side under the trunk, shoulders over hips, arms not crossed."""
    legs = [tree.span(rig.legs[side][0], rig.legs[side][2]) for side in ("left", "right")]
    trunk = tree.span(rig.root, rig.neck[0])
    across = tree.span(rig.root, rig.legs["left"][0]) - tree.span(rig.root, rig.legs["right"][0])
    shoulders = tree.span(rig.root, rig.arms["left"][1]) - tree.span(rig.root, rig.arms["right"][1])
    arms = [tree.span(rig.arms[side][1], rig.arms[side][3]) for side in ("left", "right")]
    vectors = [*legs, trunk, across, shoulders, *arms]
    if min(np.linalg.norm(v) for v in vectors) < 1e-9:
        return False
    left, right, up, x, chest, a, b = (unit(v) for v in vectors)
    return bool(
        left @ right > 0.5 and left @ up < -0.5 and right @ up < -0.5 and abs(x @ left) < 0.7
        and x @ chest > 0.5 and a @ x > -0.4 and b @ x < 0.4
    )  # fmt: skip


def _axes_to_ours(tree: Tree, rig: Rig) -> Floats:
    """(3, 3) turn by right angles from the file's axes to ours, from which way its zero pose stands and faces."""
    left = tree.span(rig.root, rig.legs["left"][0]) - tree.span(rig.root, rig.legs["right"][0])
    up = -tree.offsets[rig.legs["left"][1]] - tree.offsets[rig.legs["right"][1]]
    rows = np.zeros((3, 3))
    rows[1, np.abs(up).argmax()] = np.sign(up[np.abs(up).argmax()])
    left = left * (rows[1] == 0.0)
    rows[0, np.abs(left).argmax()] = np.sign(left[np.abs(left).argmax()])
    rows[2] = np.cross(rows[0], rows[1])
    return rows


def in_t_pose(tree: Tree, rig: Rig) -> tuple[Tree, Floats]:
    """The tree with every node's axes re-gauged, the identity in the T-pose, and the (3, 3) turn of its world to Y up.

    Where the zero pose is no person, the axes are measured on the posed body, and the world is taken to be Y up.
    """
    world, note = np.eye(3), tree.notes
    if points_along(tree, rig, 0):
        rest = lafan_axes(tree, rig)
    elif is_stance(tree, rig):
        world = _axes_to_ours(tree, rig)
        rest = np.broadcast_to(world, (len(tree.names), 3, 3))
    else:
        rest = measured_axes(tree, rig)
        note = (*note, "the zero pose is no person: twists were taken from how elbows and knees bend")
    parents = [max(p, 0) for p in tree.parents]
    offsets = (rest[parents] @ tree.offsets[..., None])[..., 0]
    rot = world @ tree.world_rot @ np.swapaxes(rest, -1, -2)
    moves = {i: move @ rest[tree.parents[i]].T for i, move in tree.moves.items()}
    root = tree.root @ world.T
    return replace(tree, offsets=offsets, ends={}, world_rot=rot, root=root, moves=moves, notes=note), world
