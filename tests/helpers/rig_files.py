"""BVH files of one moving person in whatever rig, with the truth known: what people's exporters do, written by us.

A Person is joints with offsets in a T-pose (metres, Y up, facing +Z), world rotations and a path. ``bvh`` writes it in
a Rig: other names, units, axes of joints and world, channels, nodes above the hips. Only the numbers differ, so every
file of one person must read as that person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from model.files.retarget import Clip, axis_rotation
from model.skeleton import INDEX
from tests.helpers.motion_files import HUMANOID, _zyx

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # file_from_ours


@dataclass(frozen=True)
class Person:
    """joints: name -> (parent, offset [m]); rot: name -> (T, 3, 3) world rotation, the identity in the T-pose."""

    joints: Mapping[str, tuple[str, tuple[float, float, float]]]
    rot: Mapping[str, np.ndarray]
    path: np.ndarray

    def positions(self) -> dict[str, np.ndarray]:
        """name -> (T, 3) in the world, joint by joint and frame by frame."""
        out: dict[str, np.ndarray] = {}
        for name, (parent, offset) in self.joints.items():
            if not parent:
                out[name] = self.path
            else:
                out[name] = np.array([p + r @ np.array(offset) for p, r in zip(out[parent], self.rot[parent])])
        return out

    def turning(self) -> Person:
        """The same who turns about once over the clip: no direction of the world stays in front."""
        turns = axis_rotation(1, np.linspace(0.0, 2.0 * np.pi, len(self.path)))
        return replace(self, rot={name: turns @ turn for name, turn in self.rot.items()})

    def but(self, **changes: tuple[str, tuple[float, float, float]] | None) -> Person:
        """With joints placed or hung elsewhere, or left out (None) with their children hung on their parent."""
        joints = dict(self.joints)
        for name, change in changes.items():
            if change is None:
                parent, gone = joints.pop(name)
                joints = {
                    n: (parent, tuple(np.add(gone, offset))) if p == name else (p, offset)  # type: ignore[misc]
                    for n, (p, offset) in joints.items()
                }
            else:
                joints[name] = change
        return replace(self, joints=joints)


def person(frames: int = 40, seed: int = 0, size: float = 1.0) -> Person:
    """A made-up adult who walks about, bends knees and elbows about their hinges, and turns all else a little."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 1.0, frames)

    def wave(low: float, high: float) -> np.ndarray:
        return low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5) * t + rng.uniform())))

    hinges = {"LeftLeg": (0, 5, 70), "RightLeg": (0, 5, 70), "LeftForeArm": (1, -80, -10), "RightForeArm": (1, 10, 80)}
    rot: dict[str, np.ndarray] = {}
    for name, (parent, _) in HUMANOID.items():
        if name in hinges:
            axis, low, high = hinges[name]
            local = axis_rotation(axis, np.radians(wave(low, high)))
        else:
            local = np.broadcast_to(np.eye(3), (frames, 3, 3))
            for axis in (1, 0, 2):
                most = 60.0 if (name == "Hips" and axis == 1) else 12.0
                local = local @ axis_rotation(axis, np.radians(wave(-most, most)))
        rot[name] = rot[parent] @ local if parent else local
    joints = {name: (parent, tuple(0.01 * size * v for v in offset)) for name, (parent, offset) in HUMANOID.items()}
    path = np.stack([1.5 * t, size * wave(0.95, 1.0), wave(-0.4, 0.4)], -1)
    return Person(joints, rot, path)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Rig:
    """How an exporter writes a person.

    Attributes:
        names: our name -> the file's, where it differs. unit_m: metres per unit.
        world: file_from_ours. axes: joint -> (3, 3) its axes in the T-pose, in ours; "": of all others.
        above: a node above the hips, "" for none; its path (T, 3) [m] is taken off the hips' own.
        six: position channels on every joint. ends: joint -> offset [m] of its End Site.
        as_ends: joints written as the End Site of their parent, such as wrists.
        rows: by how many the rows differ from ``Frames``.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    unit_m: float = 0.01
    world: np.ndarray = field(default_factory=lambda: np.eye(3))
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)
    above: str = ""
    above_path: np.ndarray | None = None
    six: bool = False
    ends: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    as_ends: tuple[str, ...] = ()
    rows: int = 0


def named(pattern: str, *limbs: str, left: str = "Left", right: str = "Right", **trunk: str) -> dict[str, str]:
    """Names by a pattern of {side} and {name}; ``limbs`` from collar to hand, then from thigh to toes."""
    out = {ours: pattern.format(side="", name=theirs).strip("_. ") for ours, theirs in trunk.items()}
    ours = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
    for mark, side in (("Left", left), ("Right", right)):
        out |= {mark + o: pattern.format(side=side, name=theirs) for o, theirs in zip(ours, limbs, strict=True)}
    return out


def _row(values: np.ndarray) -> str:
    return " ".join(f"{v:.7f}" for v in values)


def _tree(who: Person, rig: Rig) -> tuple[list[str], list[np.ndarray]]:
    """Lines of one ROOT, and the columns of its motion in the order of its CHANNELS."""
    frames = len(who.path)
    axes = {name: rig.world @ rig.axes.get(name, rig.axes.get("", rig.world.T)) for name in who.joints}
    turn = {name: rig.world @ who.rot[name] @ rig.world.T @ axes[name] for name in who.joints}  # file_from_node
    columns: list[np.ndarray] = []

    def place(parent: str, offset: np.ndarray) -> np.ndarray:
        return (axes[parent].T @ rig.world @ np.array(offset)) / rig.unit_m

    def joint(name: str, pad: str, kind: str = "JOINT") -> list[str]:
        parent, offset = who.joints[name]
        at = place(parent, np.array(offset)) if parent else (rig.world @ who.path[0]) / rig.unit_m
        local = turn[name] if not parent else np.swapaxes(turn[parent], -1, -2) @ turn[name]
        moves = np.tile(at, (frames, 1))
        if not parent:
            path = who.path if rig.above_path is None else who.path - rig.above_path
            moves = path @ rig.world.T / rig.unit_m
        six = rig.six or not parent
        columns.append(np.hstack([moves, _zyx(local)]) if six else _zyx(local))
        channels = "CHANNELS 6 Xposition Yposition Zposition" if six else "CHANNELS 3"
        out = [
            f"{pad}{kind} {rig.names.get(name, name)}",
            pad + "{",
            pad + "  OFFSET " + " ".join(f"{v:.7f}" for v in at),
        ]
        out.append(f"{pad}  {channels} Zrotation Yrotation Xrotation")
        children = [child for child, (p, _) in who.joints.items() if p == name]
        ends = [place(name, np.array(who.joints[c][1])) for c in children if c in rig.as_ends]
        ends += [place(name, np.array(rig.ends[name]))] if name in rig.ends else []
        for child in children:
            out += [] if child in rig.as_ends else joint(child, pad + "  ")
        if not children and not ends:
            ends = [np.zeros(3)]
        for end in ends:
            out += [f"{pad}  End Site", pad + "  {", f"{pad}    OFFSET {_row(end)}", pad + "  }"]
        return [*out, pad + "}"]

    top = next(name for name, (parent, _) in who.joints.items() if not parent)
    if not rig.above:
        return joint(top, "", "ROOT"), columns
    path = np.zeros((frames, 3)) if rig.above_path is None else rig.above_path @ rig.world.T / rig.unit_m
    columns.append(np.hstack([path, np.zeros((frames, 3))]))
    head = [
        f"ROOT {rig.above}",
        "{",
        "OFFSET 0 0 0",
        "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation",
    ]
    return [*head, *joint(top, "  "), "}"], columns


def bvh(*persons: tuple[Person, Rig], frame_time: float = 1 / 60) -> str:
    """One file of one ROOT for each person."""
    lines, columns = [], []
    for who, rig in persons:
        more, values = _tree(who, rig)
        lines += more
        columns += values
    table = np.concatenate(columns, axis=1)
    frames = len(table)
    rows = [_row(row) for row in table]
    rows += rows[-1:] * max(persons[0][1].rows, 0)
    rows = rows[: frames + persons[0][1].rows]
    return "\n".join(["HIERARCHY", *lines, "MOTION", f"Frames: {frames}", f"Frame Time: {frame_time}", *rows, ""])


def prop(frames: int) -> tuple[Person, Rig]:
    """A thing that is no person: a ROOT with a chain of two, as some exporters add for a camera or a ball."""
    turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
    joints = {"Ball": ("", (0.0, 0.0, 0.0)), "Tip": ("Ball", (0.0, 0.3, 0.0))}
    return Person(joints, {"Ball": turn, "Tip": turn}, np.zeros((frames, 3))), Rig()


# Our joint: the one of a Person that it must be at.
OURS = {"pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head"}
for _side, _mark in (("left", "Left"), ("right", "Right")):
    _leg = (("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("foot", "ToeBase"))
    _arm = (("collar", "Shoulder"), ("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand"))
    OURS |= {f"{_side}_{ours}": _mark + theirs for ours, theirs in _leg + _arm}


def check(clip: Clip, who: Person, tolerance_m: float = 2e-6, but: tuple[str, ...] = ()) -> None:
    """Every joint that the person has stands where the truth has it."""
    truth = who.positions()
    for joint, name in OURS.items():
        if name in truth and joint not in but:
            error = np.abs(clip.positions[:, INDEX[joint]] - truth[name]).max()
            assert error < tolerance_m, (joint, error)


def check_turns(clip: Clip, who: Person, most_deg: float, joints: tuple[str, ...]) -> None:
    assert clip.world_rotations is not None
    for joint in joints:
        trace = np.einsum("tab,tab->t", clip.world_rotations[:, INDEX[joint]], who.rot[OURS[joint]])
        angle = np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))
        assert angle.max() < most_deg, (joint, angle.max())
