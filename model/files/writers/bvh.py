"""BVH: centimetres and degrees, Y up, our joint names; every joint turns by Z, Y, X, the root moves as well."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from model.files.animation import Animation
from model.files.quaternions import matrices
from model.files.tree import Floats
from model.skeleton import CHILDREN, JOINTS, J

_CM = 100.0
_END_M = 0.1  # from a leaf to its End Site
_TURNS_DEG = 36_000.0  # beyond so many, an angle is counted from zero again
_END_DIRECTIONS = {"head": (0.0, 1.0, 0.0), "foot": (0.0, 0.0, 1.0), "left_hand": (1.0, 0.0, 0.0),
                   "right_hand": (-1.0, 0.0, 0.0)}  # fmt: skip
_CHUNK = 4096


def write_bvh(animation: Animation, file: BinaryIO) -> None:
    """Writes an animation as BVH. The root's OFFSET is zero: its position is all in the channels."""
    header = ["HIERARCHY", *_joint(0, animation.offsets_m * _CM, 0), "MOTION", f"Frames: {len(animation)}"]
    file.write(
        "\n".join([*header, f"Frame Time: {np.format_float_positional(1.0 / animation.fps)}", ""]).encode("ascii")
    )
    order = _depth_first(0)
    row = " ".join(["%.6f"] * (3 + 3 * J)) + "\n"
    last = np.zeros((J, 3))
    for at in range(0, len(animation), _CHUNK):
        part = slice(at, at + _CHUNK)
        degrees = smooth_angles(euler_zyx_deg(matrices(animation.local[part])), last)
        last = degrees[-1]
        values = np.concatenate([animation.root[part] * _CM, degrees[:, order].reshape(len(degrees), -1)], axis=1)
        file.write("".join(row % tuple(frame) for frame in values.tolist()).encode("ascii"))


def _depth_first(joint: int) -> list[int]:
    return [joint, *(j for child in CHILDREN[joint] for j in _depth_first(child))]


def _joint(joint: int, offsets: Floats, depth: int) -> list[str]:
    indent, inner = "\t" * depth, "\t" * (depth + 1)
    moves = "" if depth else "Xposition Yposition Zposition "
    lines = [
        f"{indent}{'JOINT' if depth else 'ROOT'} {JOINTS[joint]}", indent + "{",
        inner + _offset(offsets[joint] if depth else np.zeros(3)),
        f"{inner}CHANNELS {3 if depth else 6} {moves}Zrotation Yrotation Xrotation",
    ]  # fmt: skip
    for child in CHILDREN[joint]:
        lines += _joint(child, offsets, depth + 1)
    if not CHILDREN[joint]:
        name = JOINTS[joint].removeprefix("left_").removeprefix("right_")
        end = np.array(_END_DIRECTIONS.get(name) or _END_DIRECTIONS[JOINTS[joint]])
        lines += [f"{inner}End Site", inner + "{", f"{inner}\t{_offset(end * _END_M * _CM)}", inner + "}"]
    return [*lines, indent + "}"]


def _offset(vector: Floats) -> str:
    return "OFFSET " + " ".join(f"{x:.6f}" for x in vector)


def euler_zyx_deg(rot: Floats) -> Floats:
    """(..., 3) angles z, y, x [deg] with Rz Ry Rx == ``rot`` (..., 3, 3), exact where y is 90 degrees, too."""
    z = np.arctan2(rot[..., 1, 0], rot[..., 0, 0])
    y = np.arctan2(-rot[..., 2, 0], np.hypot(rot[..., 0, 0], rot[..., 1, 0]))
    row = np.cos(z)[..., None] * rot[..., 1, :] - np.sin(z)[..., None] * rot[..., 0, :]  # of Ry Rx: (0, cos x, -sin x)
    return np.degrees(np.stack([z, y, np.arctan2(-row[..., 2], row[..., 1])], -1))  # type: ignore[no-any-return]


def smooth_angles(degrees: Floats, last: Floats) -> Floats:
    """(T, J, 3) of the angles z, y, x that are the same turns, those nearest to the frame before (``last``: (J, 3)).

    A turn has two triples of angles, and each angle any number of whole turns: a curve that jumps between them cannot
    be edited, and blends wrongly.
    """
    out = np.empty_like(degrees)
    for n, principal in enumerate(degrees):
        z, y, x = np.moveaxis(principal, -1, 0)
        both = np.stack([principal, np.stack([z + 180.0, 180.0 - y, x + 180.0], -1)])
        both -= 360.0 * np.round((both - last) / 360.0)
        nearer = np.abs(both - last).sum(-1).argmin(0)
        near = np.where(nearer[:, None] == 0, both[0], both[1])
        last = out[n] = np.where(np.abs(near).max(-1, keepdims=True) > _TURNS_DEG, principal, near)
    return out
