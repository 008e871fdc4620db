"""Small motion files written by hand for the reader tests, and a naive forward kinematics as their oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.files.amass import rotation_from_axis_angle
from model.files.retarget import Tree
from model.skeleton import PARENTS, J, rest_offsets

UNIT_M = 0.0254 / 0.45

# bone: (parent, direction, length, axis angles, degrees of freedom), as in CMU's ASF files.
BONES: dict[str, tuple[str, tuple[float, float, float], float, tuple[float, float, float], str]] = {
    "lhipjoint": ("root", (0.67, -0.72, 0.18), 2.6, (0, 0, 0), ""),
    "lfemur": ("lhipjoint", (0.34202, -0.939693, 0), 7.4, (0, 0, 20), "rx ry rz"),
    "ltibia": ("lfemur", (0.34202, -0.939693, 0), 7.9, (0, 0, 20), "rx"),
    "lfoot": ("ltibia", (0.0787, -0.2162, 0.9732), 2.3, (-90, 0, 20), "rx rz"),
    "ltoes": ("lfoot", (0, 0, 1), 1.1, (-90, 0, 20), "rx"),
    "rhipjoint": ("root", (-0.67, -0.72, 0.18), 2.6, (0, 0, 0), ""),
    "rfemur": ("rhipjoint", (-0.34202, -0.939693, 0), 7.5, (0, 0, -20), "rx ry rz"),
    "rtibia": ("rfemur", (-0.34202, -0.939693, 0), 7.8, (0, 0, -20), "rx"),
    "rfoot": ("rtibia", (-0.0787, -0.2162, 0.9732), 2.3, (-90, 0, -20), "rx rz"),
    "rtoes": ("rfoot", (0, 0, 1), 1.1, (-90, 0, -20), "rx"),
    "lowerback": ("root", (0.017, 0.994, -0.108), 2.03, (0, 0, 0), "rx ry rz"),
    "upperback": ("lowerback", (0.017, 1.0, 0.005), 2.03, (0, 0, 0), "rx ry rz"),
    "thorax": ("upperback", (0.008, 0.9985, 0.04), 2.05, (0, 0, 0), "rx ry rz"),
    "lowerneck": ("thorax", (0, 0.9926, 0.1215), 1.7, (0, 0, 0), "rx ry rz"),
    "upperneck": ("lowerneck", (0.0145, 0.9917, -0.1276), 1.7, (0, 0, 0), "rx ry rz"),
    "head": ("upperneck", (0.0016, 0.9984, -0.0563), 1.7, (0, 0, 0), "rx ry rz"),
    "lclavicle": ("thorax", (0.9526, 0.2848, -0.1067), 3.5, (0, 0, 0), "ry rz"),
    "lhumerus": ("lclavicle", (1, 0, 0), 5.1, (180, -30, -90), "rx ry rz"),
    "lradius": ("lhumerus", (1, 0, 0), 3.6, (180, -30, -90), "rx"),
    "lwrist": ("lradius", (1, 0, 0), 1.8, (0, 90, 90), "ry"),
    "lhand": ("lwrist", (1, 0, 0), 0.45, (0, 90, 90), "rx rz"),
    "lfingers": ("lhand", (1, 0, 0), 0.36, (0, 90, 90), "rx"),
    "rclavicle": ("thorax", (-0.9559, 0.2194, -0.1953), 3.6, (0, 0, 0), "ry rz"),
    "rhumerus": ("rclavicle", (-1, 0, 0), 5.3, (180, 30, 90), "rx ry rz"),
    "rradius": ("rhumerus", (-1, 0, 0), 3.6, (180, 30, 90), "rx"),
    "rwrist": ("rradius", (-1, 0, 0), 1.8, (0, -90, -90), "ry"),
    "rhand": ("rwrist", (-1, 0, 0), 0.66, (0, -90, -90), "rx rz"),
    "rfingers": ("rhand", (-1, 0, 0), 0.53, (0, -90, -90), "rx"),
}
Angles = dict[str, np.ndarray]


def asf_text() -> str:
    """An ASF skeleton with CMU's bones."""
    out = [":version 1.10", ":name TEST", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    out += ["  order TX TY TZ RX RY RZ", "  axis XYZ", "  position 0 0 0", "  orientation 0 0 0", ":bonedata"]
    for name, (_, direction, length, axis, dof) in BONES.items():
        out += ["  begin", f"    name {name}", "    direction {} {} {}".format(*direction), f"    length {length}"]
        out += ["    axis {} {} {} XYZ".format(*axis)] + ([f"    dof {dof}"] if dof else []) + ["  end"]
    out += [":hierarchy", "  begin"]
    for parent in ("root", *BONES):
        children = [name for name, bone in BONES.items() if bone[0] == parent]
        out += [f"    {parent} {' '.join(children)}"] if children else []
    return "\n".join([*out, "  end", ""])


def random_angles(frames: int) -> Angles:
    """Smooth made-up motion: (T, dof) values per bone, degrees (the root's first three: ASF units)."""
    rng = np.random.default_rng(7)
    t = np.linspace(0.0, 1.0, frames)[:, None]
    out = {}
    for name in ("root", *BONES):
        dof = 6 if name == "root" else len(BONES[name][4].split())
        size = {"root": 30.0, "lclavicle": 6.0, "rclavicle": 6.0}.get(name, 14.0)
        wave = np.sin(2 * np.pi * (rng.uniform(0.5, 1.5, dof) * t + rng.uniform(size=dof)))
        out[name] = size * rng.uniform(0.4, 1.0, dof) * wave
    out["root"][:, :3] *= 0.2
    out["root"][:, 1] += 17.0
    return {name: values.round(4) for name, values in out.items() if values.shape[1]}


def amc_text(angles: Angles) -> str:
    """An AMC file of those angles."""
    out = ["# made up", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(len(angles["root"])):
        out.append(str(frame + 1))
        out += [f"{name} " + " ".join(f"{v:g}" for v in values[frame]) for name, values in angles.items()]
    return "\n".join([*out, ""])


def write_trial(folder: Path) -> Path:
    """07_01.amc with 07.asf beside it, 40 frames of the motion of ``random_angles``."""
    (folder / "07.asf").write_text(asf_text())
    path = folder / "07_01.amc"
    path.write_text(amc_text(random_angles(40)))
    return path


def _turn(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def _xyz(angles: tuple[float, float, float]) -> np.ndarray:
    out: np.ndarray = _turn("z", angles[2]) @ _turn("y", angles[1]) @ _turn("x", angles[0])
    return out


def naive_asf_positions(angles: Angles) -> dict[str, np.ndarray]:
    """Bone name -> (T, 3) its end in metres, frame by frame and bone by bone as the ASF documents say."""
    out: dict[str, list[np.ndarray]] = {name: [] for name in ("root", *BONES)}
    for frame in range(len(angles["root"])):
        root = angles["root"][frame]
        rot, end = {"root": _xyz(tuple(root[3:]))}, {"root": root[:3] * UNIT_M}
        for name, (parent, direction, length, axis, dof) in BONES.items():
            c, local = _xyz(axis), np.eye(3)
            for key, value in zip(dof.split(), angles[name][frame] if dof else (), strict=True):
                local = _turn(key[1], value) @ local
            rot[name] = rot[parent] @ c @ local @ c.T
            end[name] = end[parent] + rot[name] @ np.array(direction) * length * UNIT_M
        for name, value in end.items():
            out[name].append(value)
    return {name: np.array(values) for name, values in out.items()}


_CGSPEED = {
    "root": "Hips", "lhipjoint": "LHipJoint", "lfemur": "LeftUpLeg", "ltibia": "LeftLeg", "lfoot": "LeftFoot",
    "ltoes": "LeftToeBase", "rhipjoint": "RHipJoint", "rfemur": "RightUpLeg", "rtibia": "RightLeg",
    "rfoot": "RightFoot", "rtoes": "RightToeBase", "lowerback": "LowerBack", "upperback": "Spine", "thorax": "Spine1",
    "lowerneck": "Neck", "upperneck": "Neck1", "head": "Head", "lclavicle": "LeftShoulder", "lhumerus": "LeftArm",
    "lradius": "LeftForeArm", "lwrist": "LeftHand", "lhand": "LeftFingerBase", "lfingers": "LeftHandIndex1",
    "rclavicle": "RightShoulder", "rhumerus": "RightArm", "rradius": "RightForeArm", "rwrist": "RightHand",
    "rhand": "RightFingerBase", "rfingers": "RightHandIndex1",
}  # fmt: skip
_LEFT_OUT = (
    "lowerneck",
    "lclavicle",
    "rclavicle",
    "lhand",
    "rhand",
)  # their parents' bones are missing in cgspeed's BVH


def _zyx(rot: np.ndarray) -> np.ndarray:
    """(..., 3) degrees z, y, x with rot = Rz Ry Rx."""
    z = np.arctan2(rot[..., 1, 0], rot[..., 0, 0])
    y = np.arcsin(np.clip(-rot[..., 2, 0], -1.0, 1.0))
    x = np.arctan2(rot[..., 2, 1], rot[..., 2, 2])
    out: np.ndarray = np.degrees(np.stack([z, y, x], -1))
    return out


def bvh_text(
    names: list[str], parents: list[int], offsets: np.ndarray, values: list[np.ndarray], frame_time: float
) -> str:
    """A BVH file; values (T, 3) rotations z, y, x per joint, the root's with its position first (T, 6)."""

    def joint(i: int) -> list[str]:
        head = ["{", "OFFSET " + " ".join(f"{v:.6f}" for v in offsets[i])]
        place = "6 Xposition Yposition Zposition " if parents[i] < 0 else "3 "
        head.append(f"CHANNELS {place}Zrotation Yrotation Xrotation")
        children = [line for c, p in enumerate(parents) if p == i for line in joint(c)]
        end = [] if children else ["End Site", "{", "OFFSET 0 0 0", "}"]
        return [("ROOT " if parents[i] < 0 else "JOINT ") + names[i], *head, *children, *end, "}"]

    order = []

    def walk(i: int) -> None:
        order.append(i)
        for c, p in enumerate(parents):
            if p == i:
                walk(c)

    walk(0)
    table = np.concatenate([values[i] for i in order], axis=1)
    rows = [" ".join(f"{v:.6f}" for v in row) for row in table]
    return "\n".join(["HIERARCHY", *joint(0), "MOTION", f"Frames: {len(rows)}", f"Frame Time: {frame_time}", *rows])


def cgspeed_text(tree: Tree) -> str:
    """The BVH that cgspeed makes of an AMC: a T-pose first, CMU's thorax and wrist bones without length."""
    offsets, values = tree.offsets / UNIT_M, []
    for i, (name, p) in enumerate(zip(tree.names, tree.parents, strict=True)):
        rot = tree.world_rot[:, i]
        local = rot if p < 0 else np.swapaxes(tree.world_rot[:, p], -1, -2) @ rot
        angles = np.concatenate([np.zeros((1, 3)), _zyx(local)])
        root = np.concatenate([tree.root[:1], tree.root]) / UNIT_M
        values.append(np.concatenate([root, angles], axis=1) if p < 0 else angles)
        if name in _LEFT_OUT:
            offsets[i] = 0.0
    return bvh_text([_CGSPEED[n] for n in tree.names], list(tree.parents), offsets, values, 1 / 120)


# A humanoid in centimetres: joint -> (parent, offset).
HUMANOID: dict[str, tuple[str, tuple[float, float, float]]] = {
    "Hips": ("", (0, 0, 0)),
    "Spine": ("Hips", (0, 10, 0)),
    "Spine1": ("Spine", (0, 12, 0)),
    "Spine2": ("Spine1", (0, 12, 0)),
    "Neck": ("Spine2", (0, 20, 0)),
    "Head": ("Neck", (0, 10, 0)),
}
for _side, _x in (("Left", 1), ("Right", -1)):
    HUMANOID[_side + "Shoulder"] = ("Spine2", (6 * _x, 14, 0))
    HUMANOID[_side + "Arm"] = (_side + "Shoulder", (11 * _x, 0, 0))
    HUMANOID[_side + "ForeArm"] = (_side + "Arm", (28 * _x, 0, 0))
    HUMANOID[_side + "Hand"] = (_side + "ForeArm", (25 * _x, 0, 0))
    HUMANOID[_side + "UpLeg"] = ("Hips", (10 * _x, -5, 0))
    HUMANOID[_side + "Leg"] = (_side + "UpLeg", (0, -43, 0))
    HUMANOID[_side + "Foot"] = (_side + "Leg", (0, -42, 0))
    HUMANOID[_side + "ToeBase"] = (_side + "Foot", (0, -3, 14))


def humanoid_text(
    poses: list[dict[str, tuple[float, float, float]]],
    frame_time: float = 1 / 60,
    scale: float = 1.0,
    z_up: bool = False,
) -> str:
    """A humanoid BVH, pelvis 100 cm up: per frame the joints that are turned, by degrees z, y, x (none if Z is up)."""
    names = list(HUMANOID)
    parents = [names.index(p) if p else -1 for p, _ in HUMANOID.values()]
    offsets = np.array([offset for _, offset in HUMANOID.values()], dtype=float) * scale
    root = np.array([0.0, 100.0, 0.0]) * scale
    if z_up:
        swap = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=float)
        offsets, root = offsets @ swap.T, swap @ root
    values = []
    for name in names:
        angles = np.array([pose.get(name, (0.0, 0.0, 0.0)) for pose in poses], dtype=float)
        values.append(np.hstack([np.tile(root, (len(poses), 1)), angles]) if name == "Hips" else angles)
    return bvh_text(names, parents, offsets, values, frame_time)


def amass_data(frames: int = 12) -> dict[str, np.ndarray]:
    """A file in AMASS's format: Z up, SMPL-H poses, with positions by a naive loop over frames and joints."""
    rng = np.random.default_rng(5)
    offsets = rest_offsets() + rng.normal(scale=0.02, size=(J, 3))
    offsets[0] = (0.0, -0.24, 0.03)
    poses = rng.normal(scale=0.4, size=(frames, 156))
    poses[:, :3] += (np.pi / 2, 0.0, 0.0)  # upright in a Z-up world
    trans = rng.normal(size=(frames, 3))
    positions = np.empty((frames, J, 3))
    for t in range(frames):
        rot: list[np.ndarray] = []
        for j, p in enumerate(PARENTS):
            local = rotation_from_axis_angle(poses[t, 3 * j : 3 * j + 3]) if j < 22 else np.eye(3)
            rot.append(local if p < 0 else rot[p] @ local)
            positions[t, j] = trans[t] + offsets[0] if p < 0 else positions[t, p] + rot[p] @ offsets[j]
    return {
        "poses": poses, "trans": trans, "betas": np.zeros(16), "mocap_framerate": np.array(60.0),
        "gender": np.array("female"), "positions": positions, "bone_offsets": offsets,
    }  # fmt: skip
