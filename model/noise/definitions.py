"""What sources mean by their joints: the same body, its joints put elsewhere by a constant in the axes of each bone.

No two sources agree where a hip is, what a neck is, or that there are collars. A definition is a vector for each joint
in the axes of its parent (the root's: its own), which FIELD.md's "constant offsets of joint definitions" measured at
20 to 125 mm; and the joints that the source has at all. What is true is then the clean joint as that source defines it.
numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.skeleton import INDEX, MIRROR, PARENTS, J

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # of x, y, z [m], drawn evenly
_PARENT_OR_ROOT = [max(p, 0) for p in PARENTS]
_MIDDLE = tuple(j for j in range(J) if MIRROR[j] == j)
_SPINE = ("spine1", "spine2", "spine3")
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

# Left joints in the axes of their parent: x outwards (along the arm), y up (along the leg: towards the hip), z forward.
# The right ones mirror them; joints in the middle have no x.
_ANY: dict[str, Box] = {
    "pelvis": ((0, 0), (-0.02, 0.02), (-0.02, 0.02)),
    "hip": ((-0.025, 0.025), (-0.03, 0.05), (-0.04, 0.03)),
    "spine1": ((0, 0), (-0.03, 0.05), (-0.03, 0.03)),
    "spine2": ((0, 0), (-0.05, 0.05), (-0.03, 0.03)),
    "spine3": ((0, 0), (-0.06, 0.06), (-0.03, 0.03)),
    "neck": ((0, 0), (-0.06, 0.06), (-0.03, 0.03)),
    "head": ((0, 0), (-0.04, 0.12), (-0.03, 0.08)),
    "collar": ((-0.04, 0.04), (-0.05, 0.03), (-0.02, 0.02)),
    "shoulder": ((-0.04, 0.02), (-0.05, 0.03), (-0.03, 0.03)),
    "elbow": ((-0.02, 0.02), (-0.012, 0.012), (-0.012, 0.012)),
    "wrist": ((-0.03, 0.02), (-0.010, 0.010), (-0.010, 0.010)),
    "hand": ((-0.07, 0.03), (-0.015, 0.015), (-0.02, 0.02)),
    "knee": ((-0.012, 0.012), (-0.03, 0.03), (-0.02, 0.02)),
    "ankle": ((-0.012, 0.012), (-0.05, 0.05), (-0.03, 0.02)),
    "foot": ((-0.02, 0.02), (-0.03, 0.02), (-0.05, 0.06)),
}
_ALL = tuple(_ANY)


@dataclass(frozen=True)
class Kind:
    """A family of sources: the layout that its joints are sent in, which it has, where they lie, and how its forks do.

    ``boxes`` stand in place of those of _ANY, whose offsets are ``size`` times as large; ``mid_hip``: odds that the
    pelvis is the middle of the hips; ``high``: that it is high in the trunk instead; ``level``: that the hips are at
    its height; ``neck_collars``: that the collars start where the neck does; ``no_collars``: that there are none.
    """

    layout: str = "smpl_24"
    joints: tuple[str, ...] = _ALL
    size: float = 1.0
    boxes: dict[str, Box] = field(default_factory=dict)
    mid_hip: float = 0.0
    high: float = 0.0
    level: float = 0.0
    neck_collars: float = 0.0
    no_collars: float = 0.0


KINDS: dict[str, Kind] = {
    "own": Kind(size=0.0),
    "suit": Kind(size=0.6, mid_hip=0.3, high=0.3, level=0.2, neck_collars=0.2, no_collars=0.15),
    "bvh": Kind(size=0.4, mid_hip=0.5, level=0.4, neck_collars=0.6),
    "h36m": Kind(
        "h36m_17", ("pelvis", "spine2", "neck", "head", *_LIMBS), mid_hip=1.0,
        boxes={
            "hip": ((0.0, 0.06), (0.0, 0.06), (-0.04, 0.02)), "head": ((0, 0), (0.04, 0.14), (-0.02, 0.05)),
            "shoulder": ((-0.05, 0.0), (-0.07, 0.0), (-0.04, 0.02)),
        },
    ),
    "coco": Kind(
        "coco_17", ("head", *_LIMBS),
        boxes={
            "hip": ((-0.02, 0.05), (-0.01, 0.06), (-0.04, 0.02)),
            "ankle": ((-0.02, 0.02), (-0.09, 0.00), (-0.07, 0.00)),
        },
    ),
    "mediapipe": Kind(
        "mediapipe_33", ("head", *_LIMBS, "hand", "foot"),
        boxes={
            "hip": ((-0.035, 0.01), (-0.02, 0.03), (-0.03, 0.02)), "knee": ((-0.03, 0.03), (-0.04, 0.05), (-0.08, 0.0)),
            "shoulder": ((-0.05, 0.01), (-0.07, 0.0), (-0.06, 0.0)),
            "foot": ((-0.03, 0.03), (-0.05, 0.02), (-0.10, -0.02)),
        },
    ),
    "kinect": Kind(
        joints=("pelvis", "spine2", "spine3", "neck", "head", *_LIMBS, "hand", "foot"), mid_hip=0.2, high=0.5,
        boxes={
            "hip": ((-0.05, -0.01), (0.0, 0.07), (-0.03, 0.03)), "foot": ((-0.02, 0.02), (-0.02, 0.02), (-0.06, 0.0)),
        },
    ),
}  # fmt: skip
ODDS: dict[str, float] = {
    "own": 0.25, "suit": 0.20, "bvh": 0.15, "h36m": 0.12, "coco": 0.08, "mediapipe": 0.12, "kinect": 0.08,
}  # fmt: skip


class Defined(NamedTuple):
    """A batch as its sources define it: positions (B, T, 24, 3) [m], joints that the source does not have stay the
    body's own; given (B, 24), which it has; kind (B,), index into KINDS; offsets_m (B, 24, 3) in the parents' axes."""

    positions: F32
    given: Bools
    kind: Ints
    offsets_m: F32


def define(
    rng: np.random.Generator,
    positions: npt.NDArray[np.floating],
    world_rot: npt.NDArray[np.floating],
    kinds: Sequence[str] | None = None,
) -> Defined:
    """Draws a definition for each sequence and puts its joints there.

    Args:
        rng: the only source of randomness.
        positions: (B, T, 24, 3) joints in the world [m].
        world_rot: (B, T, 24, 3, 3) world_from_joint rotations that drive them, of a rigid skeleton.
        kinds: of KINDS, one for each sequence; None: by ODDS.
    """
    names = list(KINDS)
    batch = len(positions)
    if kinds is None:
        odds = np.array([ODDS[name] for name in names])
        kind = rng.choice(len(names), batch, p=odds / odds.sum())
    else:
        kind = np.array([names.index(name) for name in kinds], np.int64)
    bones = rest_bones(positions, world_rot)
    drawn = [_draw(rng, KINDS[names[k]], bones[b]) for b, k in enumerate(kind)]
    offsets = np.stack([one[0] for one in drawn]).astype(np.float32)
    return Defined(put(positions, world_rot, offsets), np.stack([one[1] for one in drawn]), kind, offsets)


def put(positions: npt.NDArray[np.floating], world_rot: npt.NDArray[np.floating], offsets_m: F32) -> F32:
    """(B, T, 24, 3) joints moved by ``offsets_m`` (B, 24, 3) in the axes of their parents."""
    return np.asarray(positions + moved_by(offsets_m[:, None], world_rot), np.float32)


def moved_by(vectors_m: npt.NDArray[np.floating], world_rot: npt.NDArray[np.floating]) -> F32:
    """(B, T, 24, 3) in the world, of vectors (B, T or 1, 24, 3) in the axes of the joints' parents."""
    axes = world_rot[:, :, _PARENT_OR_ROOT].astype(np.float32)
    return np.asarray((axes @ vectors_m[..., None])[..., 0], np.float32)


def rest_bones(positions: npt.NDArray[np.floating], world_rot: npt.NDArray[np.floating]) -> F64:
    """(B, 24, 3) vector from the parent to each joint in the parent's axes [m], by the first frame; the root's is 0."""
    first = np.asarray(positions[:, 0], np.float64)
    bones = first - first[:, _PARENT_OR_ROOT]
    axes = np.asarray(world_rot[:, 0, _PARENT_OR_ROOT], np.float64)
    return np.asarray(np.einsum("bjca,bjc->bja", axes, bones))


def mean_bones(positions: npt.NDArray[np.floating], world_rot: npt.NDArray[np.floating]) -> F32:
    """(B, 24, 3) the same by the mean over all frames: the constant skeleton nearest to joints that are not rigid.

    A source's knee that lies beside our own leaves no bone constant: this is what calibration can hope to find.
    """
    bones = np.asarray(positions - positions[:, :, _PARENT_OR_ROOT], np.float32)[..., None]
    axes = np.asarray(world_rot[:, :, _PARENT_OR_ROOT], np.float32)
    return np.asarray((axes.swapaxes(-1, -2) @ bones)[..., 0].mean(1))


def _draw(rng: np.random.Generator, kind: Kind, bones: F64) -> tuple[F64, Bools]:
    """Offsets (24, 3) [m] of one source on one body, and the joints that it has (24,)."""
    scale = _height(bones) / 1.7
    offsets = np.zeros((J, 3))
    for name, box in (_ANY | kind.boxes).items():
        size = 1.0 if name in kind.boxes else kind.size
        drawn = size * scale * np.array([rng.uniform(low, high) for low, high in box])
        for joint, side in _sides(name):
            offsets[joint] = drawn * (side, 1.0, 1.0)
    offsets += 0.15 * np.abs(offsets) * rng.standard_normal((J, 3)) * (np.isin(np.arange(J), _MIDDLE)[:, None] == 0)
    given = np.isin(np.arange(J), [joint for name in kind.joints for joint, _ in _sides(name)])
    _forks(rng, kind, bones, offsets, given)
    return offsets, given


def _forks(rng: np.random.Generator, kind: Kind, bones: F64, offsets: F64, given: Bools) -> None:
    """How hips and pelvis, collars and neck lie to each other: one choice for all of them. Changed in place."""
    hips = [INDEX["left_hip"], INDEX["right_hip"]]
    collars = [INDEX["left_collar"], INDEX["right_collar"]]
    chosen = rng.random(5)
    pelvis, neck = INDEX["pelvis"], INDEX["neck"]
    if chosen[0] < kind.level:
        offsets[hips, 1] = offsets[pelvis, 1] - bones[hips, 1]
    if chosen[1] < kind.mid_hip:
        offsets[pelvis] = (bones[hips] + offsets[hips]).mean(0)
    elif chosen[1] < kind.mid_hip + kind.high:
        offsets[pelvis] = rng.uniform(0.3, 1.0) * (bones[INDEX["spine1"]] + (0.0, 0.04, 0.0))
    if chosen[2] < kind.neck_collars:
        offsets[collars] = bones[neck] + offsets[neck] - bones[collars]
    if chosen[3] < kind.no_collars:
        given[collars] = False


def _sides(name: str) -> list[tuple[int, float]]:
    """The joints of a name without its side, and the sign of x there."""
    if name in INDEX:
        return [(INDEX[name], 1.0)]
    return [(INDEX[f"left_{name}"], 1.0), (INDEX[f"right_{name}"], -1.0)]


def _height(bones: F64) -> float:
    """About how tall the body is [m]: trunk, leg and head by their bones."""
    length = np.linalg.norm(bones, axis=-1)
    chain = ("spine1", "spine2", "spine3", "neck", "head", "left_hip", "left_knee", "left_ankle")
    return float(sum(length[INDEX[name]] for name in chain)) * 1.12
