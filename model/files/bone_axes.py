"""A T-pose for files whose zero pose is none: each node's axes then, from the bones and from how they move.

LAFAN1's bones all lie along one local axis, and its axes are known. For any other such rig they are measured on the
posed body: trunk and hips by where their neighbours are, limbs by the axis about which elbows and knees bend. Only
twists depend on it; joint positions do not.
"""

from __future__ import annotations

import numpy as np

from model.files.landmarks import Rig
from model.files.retarget import unit
from model.files.tree import Floats, Tree
from model.kinematics import frame_from_axes
from model.skeleton import INDEX, rest_directions

_X, _Y, _Z = np.eye(3)
_SIDES = (("left", 1.0), ("right", -1.0))
_FRAMES = 500  # of a clip, evenly chosen, that are looked at
_BENDS = 0.05  # mean sine of a joint's bend, below which its axis is not known


def points_along(tree: Tree, rig: Rig, axis: int) -> bool:
    """Whether every limb bone lies along one local axis: a zero pose that is no T-pose (LAFAN1)."""
    bones = [rig.legs["left"][1], rig.legs["right"][1], rig.spine[-1], rig.arms["left"][2], rig.arms["right"][2]]
    vectors = tree.offsets[bones]
    lengths = np.linalg.norm(vectors, axis=-1)
    return bool((vectors[:, axis] > 0.99 * lengths).all() and (lengths > 0.0).all())


def lafan_axes(tree: Tree, rig: Rig) -> Floats:
    """(n, 3, 3) world_from_node in a T-pose for LAFAN1's axes: x along the bone, knees and elbows bend about -z.

    The hinge axes were read off the motion: over four clips the mean rotation of knees and elbows is about -z within
    15 degrees, that of the ankle about +z; pelvis, spine and head have x up, y forward, z left.
    """
    x, y, z = _X, _Y, _Z
    out = np.broadcast_to(np.stack([y, z, x], -1), (len(tree.names), 3, 3)).copy()
    for side, sign in _SIDES:
        hip, knee, ankle, toe = rig.legs[side]
        foot = rest_directions()[INDEX[f"{side}_foot"]]
        out[[hip, knee]] = np.stack([-y, z, -x], -1)
        out[ankle] = frame_from_axes(foot, np.cross(-x, foot))
        if toe >= 0:
            out[toe] = np.stack([z, y, -x], -1)
        arm = [i for i in rig.arms[side] if i >= 0]
        out[arm] = np.stack([sign * x, -z, sign * y], -1)
        for finger in (i for i, p in enumerate(tree.parents) if p == arm[-1]):
            out[finger] = out[arm[-1]]
    return out


class _Measured:
    """Frames of nodes in the T-pose, found one after the other: ``axes[node]`` is (3, 3) world_from_node."""

    def __init__(self, tree: Tree) -> None:
        tree = tree.part(slice(None, None, max(1, len(tree.root) // _FRAMES)))
        self.tree, self.rot, self.where = tree, tree.world_rot, tree.positions()
        self.axes: dict[int, Floats] = {}

    def between(self, a: int, b: int) -> Floats:
        """(T, 3) from node ``a`` to node ``b`` in the world."""
        return self.where[:, b] - self.where[:, a]

    def local(self, node: int, vectors: Floats) -> Floats:
        """(3,) mean of world vectors (T, 3) in the node's axes."""
        return np.einsum("tji,tj->i", self.rot[:, node], vectors) / len(vectors)  # type: ignore[no-any-return]

    def fit(self, node: int, first: Floats, first_in_t: Floats, second: Floats, second_in_t: Floats) -> None:
        """The node's axes from two world vectors (T, 3) of the posed body, and where they point in the T-pose."""
        a, b = self.local(node, first), self.local(node, second)
        if np.linalg.norm(np.cross(a, b)) > 1e-6 * float(np.linalg.norm(a) * np.linalg.norm(b)):
            self.axes[node] = frame_from_axes(first_in_t, second_in_t) @ frame_from_axes(a, b).T

    def follow(self, node: int, leader: int) -> None:
        """The node's axes such that over the clip it is not turned against ``leader``."""
        mean = np.einsum("tji,tjk->ik", self.rot[:, leader], self.rot[:, node])
        u, _, v = np.linalg.svd(mean)
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
        self.axes[node] = self.axes[leader] @ turn

    def direction(self, node: int, axis: Floats) -> Floats:
        """(T, 3) where an axis of the T-pose points in the world, as the node carries it."""
        return self.rot[:, node] @ self.axes[node].T @ axis


def measured_axes(tree: Tree, rig: Rig) -> Floats:
    """(n, 3, 3) world_from_node in a T-pose, from the posed body of a clip."""
    out = _Measured(tree)
    _trunk(out, rig)
    for side, sign in _SIDES:
        _leg(out, rig, side)
        _arm(out, rig, side, sign)
    for i, p in enumerate(tree.parents):
        if i not in out.axes:
            if p in out.axes:
                out.follow(i, p)
            else:
                out.axes[i] = np.eye(3)
    return np.stack([out.axes[i] for i in range(len(tree.names))])


def _trunk(out: _Measured, rig: Rig) -> None:
    hips = out.between(rig.legs["right"][0], rig.legs["left"][0])
    shoulders = out.between(rig.arms["right"][1], rig.arms["left"][1])
    chest, neck, head = rig.spine[-1], rig.neck[0], rig.neck[-1]
    out.fit(rig.root, hips, _X, out.between(rig.root, neck), _Y)
    out.fit(chest, shoulders, _X, out.between(chest, neck), _Y)
    for node, after in zip(rig.spine[:-1], rig.spine[1:]):
        out.fit(node, out.between(node, after), _Y, hips + shoulders, _X)
    for node, after in zip(rig.neck[:-1], rig.neck[1:]):
        out.fit(node, out.between(node, after), _Y, shoulders, _X)
    out.axes.setdefault(rig.root, np.eye(3))
    out.axes.setdefault(chest, out.axes[rig.root])
    out.follow(head, chest)


def _hinge(out: _Measured, a: int, b: int, c: int) -> Floats | None:
    """(T, 3) axis about which the bones a-b-c bend, as long as the sine of the bend; None where they are straight."""
    axis = np.cross(unit(out.between(a, b) + 1e-12), unit(out.between(b, c) + 1e-12))
    inside = out.local(a, axis)
    return axis if np.linalg.norm(inside) > _BENDS else None


def _leg(out: _Measured, rig: Rig, side: str) -> None:
    hip, knee, ankle, toe = rig.legs[side]
    axis = _hinge(out, hip, knee, ankle)
    if axis is None:
        axis = out.direction(rig.root, _X)
    out.fit(hip, out.between(hip, knee), -_Y, axis, _X)
    out.fit(knee, out.between(knee, ankle), -_Y, axis, _X)
    if toe >= 0:
        out.fit(ankle, out.between(ankle, toe), rest_directions()[INDEX[f"{side}_foot"]], axis, _X)


def _arm(out: _Measured, rig: Rig, side: str, sign: float) -> None:
    collar, shoulder, elbow, wrist = rig.arms[side]
    chest = rig.spine[-1]
    if collar >= 0:
        out.fit(collar, out.between(collar, shoulder), sign * _X, out.direction(chest, _Y), _Y)
    axis, in_t = _hinge(out, shoulder, elbow, wrist), -sign * _Y
    if axis is None:
        axis, in_t = out.direction(chest, _Z), _Z
    out.fit(shoulder, out.between(shoulder, elbow), sign * _X, axis, in_t)
    out.fit(elbow, out.between(elbow, wrist), sign * _X, axis, in_t)
