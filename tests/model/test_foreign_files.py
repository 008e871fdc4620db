"""Motion files as other people's programs write them: one made-up person in many rigs must read as that person."""

from __future__ import annotations

import codecs
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.files.retarget import align
from model.prepare import ClipError, load_packed, read_clip, read_file
from model.skeleton import INDEX
from streamer.cli import main
from tests.helpers.motion_files import HUMANOID
from tests.helpers.readers import DATA, bad, check_rigid, write
from tests.helpers.rig_files import Person, Rig, bvh, check, check_turns, named, person, prop

X, Y, Z = np.eye(3)
LIMBS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "shoulder", "elbow"))


def test_the_writer_is_read_back(tmp_path: Path) -> None:
    who = person()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig()))))
    check_rigid(clip)
    check(clip, who)
    check_turns(clip, who, 1e-3, LIMBS)
    assert clip.notes == ()


# --- a game studio's: a node above the hips, channels everywhere, bones along +X left and -X right, Hips_L names


def along(bone: np.ndarray, twist_deg: float) -> np.ndarray:
    """(3, 3) axes whose x lies along a bone, turned about it by some angle."""
    a = np.radians(twist_deg)
    twist = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(a), -np.sin(a)], [0.0, np.sin(a), np.cos(a)]])
    out: np.ndarray = align(X, bone / np.linalg.norm(bone)) @ twist
    return out


def studio_axes() -> dict[str, np.ndarray]:
    out = {name: np.stack([Y, Z, X], -1) for name in HUMANOID if not name.startswith(("Left", "Right"))}
    out["Hips"] = np.stack([Y, -X, Z], -1)
    limbs = {"UpLeg": Y, "Leg": Y, "Foot": -Z, "ToeBase": -Z, "Shoulder": X, "Arm": X, "ForeArm": X, "Hand": X}
    for n, (name, bone) in enumerate(limbs.items()):
        out["Right" + name] = along(bone, 37.0 * n)
        out["Left" + name] = along(bone if bone is X else -bone, -61.0 * n)
    return out


STUDIO = {
    "Spine2": "Chest", "Spine": "Spine", "LeftShoulder": "Shoulder_L", "LeftArm": "UpperArm_L",
    "LeftForeArm": "LowerArm_L", "LeftHand": "Hand_L", "LeftUpLeg": "UpperLeg_L", "LeftLeg": "LowerLeg_L",
    "LeftFoot": "Foot_L", "LeftToeBase": "Toes_L",
}  # fmt: skip
STUDIO |= {k.replace("Left", "Right"): v.replace("_L", "_R") for k, v in STUDIO.items() if k.startswith("Left")}


@pytest.mark.parametrize("moving", [False, True])
def test_a_node_above_the_hips_and_bones_along_x(tmp_path: Path, moving: bool) -> None:
    who = person().but(Spine1=None)
    above = np.stack([1.5 * np.linspace(0, 1, 40), np.zeros(40), np.zeros(40)], -1) if moving else None
    rig = Rig(STUDIO, axes=studio_axes(), above="joint_Root", above_path=above, six=True)
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, rig))))
    check_rigid(clip)
    check(clip, who, but=("spine2",))
    # Twists are not in such a file: where elbows and knees bend about their hinges, they are found.
    check_turns(clip, who, 1.0, LIMBS)
    assert any("zero pose" in note for note in clip.notes)


def test_straight_limbs_and_measured_axes_still_read_exactly(tmp_path: Path) -> None:
    who = person()
    straight = {name: who.rot[HUMANOID[name][0]] if name.endswith(("Leg", "ForeArm")) and "Up" not in name else rot
                for name, rot in who.rot.items()}  # fmt: skip
    who = replace(who, rot=straight)
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(axes=studio_axes(), six=True)))))
    check_rigid(clip)
    check(clip, who)


# --- collars that start where the neck starts; Blender's names; wrists as End Sites


def at_the_neck(who: Person) -> Person:
    neck = who.joints["Neck"][1]
    collars = {mark + "Shoulder": ("Spine2", neck) for mark in ("Left", "Right")}
    arms = {
        mark + "Arm": (mark + "Shoulder", (sign * 0.16, -0.03, 0.02)) for mark, sign in (("Left", 1), ("Right", -1))
    }
    return who.but(**collars, **arms)  # type: ignore[arg-type]


MOCAPBANK = {"Spine": "Chest", "Spine2": "Chest2"}
for _m in ("Left", "Right"):
    MOCAPBANK |= {_m + "Shoulder": _m + "Collar", _m + "Arm": _m + "Shoulder", _m + "ForeArm": _m + "Elbow"}
    MOCAPBANK |= {
        _m + "Hand": _m + "Wrist",
        _m + "UpLeg": _m + "Hip",
        _m + "Leg": _m + "Knee",
        _m + "Foot": _m + "Ankle",
    }


def test_collars_that_start_where_the_neck_starts(tmp_path: Path) -> None:
    who = at_the_neck(person()).but(Spine1=None)
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(MOCAPBANK, as_ends=("LeftToeBase", "RightToeBase"))))))
    check(clip, who, but=("spine2",))
    assert np.isfinite(clip.positions).all()
    np.testing.assert_allclose(clip.offsets_m[INDEX["left_collar"]], clip.offsets_m[INDEX["neck"]], atol=1e-9)


BLENDER = {"Hips": "pelvis", "Spine": "spine", "Spine2": "spine.001", "Neck": "neck", "Head": "face"}
for _m, _end in (("Left", ".L"), ("Right", ".R")):
    BLENDER |= {_m + "Shoulder": "shoulder" + _end, _m + "Arm": "upper_arm" + _end, _m + "ForeArm": "forearm" + _end}
    BLENDER |= {_m + "UpLeg": "thigh" + _end, _m + "Leg": "shin" + _end, _m + "Foot": "foot" + _end}


def test_blenders_rig_in_metres(tmp_path: Path) -> None:
    """The spine begins in the pelvis, hips beside it: then nothing but the T-pose says which way the pelvis faces."""
    who = at_the_neck(person()).but(
        Spine1=None,
        Spine=("Hips", (0.0, 0.0, 0.0)),
        LeftUpLeg=("Hips", (0.09, 0, 0)),
        RightUpLeg=("Hips", (-0.09, 0, 0)),
    )
    ends = ("LeftToeBase", "RightToeBase", "LeftHand", "RightHand")
    rig = Rig(BLENDER, unit_m=1.0, six=True, as_ends=ends, ends={"Head": (0.0, -0.007, 0.02)})
    path = write(tmp_path / "a.bvh", bvh((who, rig)))
    clip = read_clip(path)
    check(clip, who, but=("spine2",))
    check_turns(clip, who, 1e-3, ("pelvis", "spine3", *LIMBS))
    assert read_file(path).nodes["left_wrist"] == "forearm.L end"


@pytest.mark.skipif(not (DATA / "more_clips.csv").is_file(), reason="no data")
def test_reactidle_is_read_and_packed(tmp_path: Path) -> None:
    with (DATA / "more_clips.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["set"] == "reactidle")
    clip = read_clip(DATA / row["file"])
    assert (clip.fps, len(clip)) == (30.0, int(row["frames"]))
    assert 1.2 < np.ptp(clip.positions[0, :, 1]) < 1.7
    assert clip.positions[:, INDEX["neck"], 1].mean() > clip.positions[:, INDEX["pelvis"], 1].mean() + 0.35
    assert np.isfinite(clip.positions).all()
    (tmp_path / "more.csv").write_text(
        "set,subject,file,fps,frames,split,description\n" + f"r,1,{DATA / row['file']},30,9,x,y\n"
    )
    assert main(["prepare", str(tmp_path), str(tmp_path), "--listing", "more.csv", "--split", "x"]) == 0
    packed = load_packed(tmp_path / "x.npz")
    assert sum(len(piece) for piece in packed) > 0.9 * len(clip)
    np.testing.assert_allclose(packed[0].positions, clip.positions[: len(packed[0])], atol=1e-4)


# --- small things of exporters


@pytest.mark.parametrize("rows", [1, -1])
def test_one_row_more_or_fewer_than_frames(tmp_path: Path, rows: int) -> None:
    who = person()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(rows=rows)))))
    assert len(clip) == 40 + rows
    whole = min(40, 40 + rows)
    error = np.abs(clip.positions[:whole, INDEX["head"]] - who.positions()["Head"][:whole]).max()
    assert error < 1e-6
    assert f"{40 + rows} are there" in clip.notes[0]
    bad(write(tmp_path / "b.bvh", bvh((who, Rig(rows=2 * rows)))), "Frames", "40", str(40 + 2 * rows))


def test_byte_order_marks_line_ends_and_latin_names(tmp_path: Path) -> None:
    who = person()
    text = bvh((who, Rig({"Spine1": "Rückgrat"})))
    for name, raw in (
        ("utf8", codecs.BOM_UTF8 + text.encode()), ("utf16", text.encode("utf-16")), ("latin", text.encode("latin-1")),
        ("dos", text.replace("\n", "\r\n").encode()), ("mac", text.replace("\n", "\r").encode()),
    ):  # fmt: skip
        path = tmp_path / f"{name}.bvh"
        path.write_bytes(raw)
        reading = read_file(path)
        check(reading.clip, who)
        assert reading.nodes["spine2"] == "Rückgrat", name


MIXED = {"LeftUpLeg": "LeftHip", "LeftLeg": "LeftKnee", "LeftFoot": "LeftAnkle", "RightForeArm": "RightElbow",
         "RightHand": "RightWrist", "RightArm": "RightShoulder", "RightShoulder": "RightCollar"}  # fmt: skip


TRUNK = {"Hips": "Hips", "Spine": "Spine", "Spine1": "Chest", "Spine2": "UpperChest", "Neck": "Neck", "Head": "Head"}
HUMAN = ("Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "ToeBase")
BIPED = ("Clavicle", "UpperArm", "Forearm", "Hand", "Thigh", "Calf", "Foot", "Toe0")
BODY = ("Collar", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Foot")
MANNEQUIN = ("clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball")
POSER = ("Collar", "Shldr", "ForeArm", "Hand", "Thigh", "Shin", "Foot", "Toe")


@pytest.mark.parametrize(
    "names",
    [
        MIXED,
        {name: "mixamorig_" + name for name in HUMANOID},
        {name: "mixamorig:" + name for name in HUMANOID},
        {name: "Armature|" + name for name in HUMANOID},
        {name: "Model-" + name for name in HUMANOID},
        named("Bip01 {side} {name}", *BIPED, left="L", right="R") | {"Head": "Bip01 Head"},
        named("CC_Base_{side}_{name}", *BIPED, left="L", right="R") | {"Head": "CC_Base_Head", "Hips": "CC_Base_Hip"},
        named("J_Bip_{side}_{name}", *HUMAN, left="L", right="R") | {o: "J_Bip_C_" + t for o, t in TRUNK.items()},
        named("{side}_{name}", *BODY, left="L", right="R"),
        named("{name}{side}", *BODY),
        named("{name}_{side}", *MANNEQUIN, left="l", right="r") | {"Head": "head", "Hips": "pelvis"},
        named("{side}{name}", *POSER, left="l", right="r") | {"Hips": "hip", "Head": "head"},
        named("{side}{name}", *HUMAN, left="left", right="right") | {o: t.lower() for o, t in TRUNK.items()},
    ],
    ids=lambda names: names.get("LeftLeg", ""),
)
def test_spellings(tmp_path: Path, names: dict[str, str]) -> None:
    who = person()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(names)))))
    check(clip, who)
    assert clip.notes == ()


MMD = [
    "センター", "上半身", "上半身2", "上半身3", "首", "頭",
    "左肩", "左腕", "左ひじ", "左手首", "左足", "左ひざ", "左足首", "左つま先",
    "右肩", "右腕", "右ひじ", "右手首", "右足", "右ひざ", "右足首", "右つま先",
]  # fmt: skip


@pytest.mark.parametrize("names", [MMD, [f"кость{n}" for n in range(22)], [f"joint_{n}" for n in range(22)]])
@pytest.mark.parametrize("axes", [{}, studio_axes()], ids=["T-pose", "bone axes"])
def test_names_that_tell_nothing(tmp_path: Path, names: list[str], axes: dict[str, np.ndarray]) -> None:
    who = person().turning()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(dict(zip(HUMANOID, names)), axes=axes)))))
    check(clip, who)
    assert any("by its shape" in note for note in clip.notes)


def test_no_neck(tmp_path: Path) -> None:
    who = person().but(Neck=None)
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig()))))
    check_rigid(clip)
    check(clip, who)
    assert any("no neck" in note for note in clip.notes)


def test_two_roots(tmp_path: Path) -> None:
    who, other = person(), person(seed=1)
    for pair in (((who, Rig()), prop(40)), (prop(40), (who, Rig()))):
        clip = read_clip(write(tmp_path / "a.bvh", bvh(*pair)))
        check(clip, who)
        assert any("ROOTs" in note for note in clip.notes)
    second = {name: "B:" + name for name in HUMANOID}
    path = write(tmp_path / "b.bvh", bvh((who, Rig()), (other, Rig(second))))
    bad(path, "2 persons", "root=", "B:Hips")
    check(read_clip(path, root="Hips"), who)
    check(read_clip(path, root="B:Hips"), other)
    with pytest.raises(ClipError, match=r"none is called 'C'.*B:Hips"):
        read_clip(path, root="C")


def test_position_channels_that_are_all_zero_count_from_the_offset(tmp_path: Path) -> None:
    who = person()
    text = bvh((who, Rig(six=True)))
    head, _, rows = text.partition("Frame Time: ")
    first, *lines = rows.splitlines()
    table = np.array([[float(word) for word in line.split()] for line in lines]).reshape(40, -1, 6)
    table[:, 1:, :3] = 0.0
    rows = "\n".join(" ".join(f"{v:.7f}" for v in row) for row in table.reshape(40, -1))
    check(read_clip(write(tmp_path / "a.bvh", f"{head}Frame Time: {first}\n{rows}")), who)


def test_joints_that_are_placed_instead_of_turned_are_refused(tmp_path: Path) -> None:
    text = bvh((person(), Rig(six=True)))
    head, _, rows = text.partition("Frame Time: ")
    first, *lines = rows.splitlines()
    table = np.array([[float(word) for word in line.split()] for line in lines]).reshape(40, -1, 6)
    table[:, 4, 0] += np.linspace(0, 40, 40)
    rows = "\n".join(" ".join(f"{v:.7f}" for v in row) for row in table.reshape(40, -1))
    bad(write(tmp_path / "a.bvh", f"{head}Frame Time: {first}\n{rows}"), "against its parent", "rotations")


# --- what is not finite


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    text = bvh((person(), Rig()))
    lines = text.splitlines()
    at = lines.index(next(line for line in lines if line.startswith("Frame Time"))) + 3
    for word in ("nan", "inf", "-Infinity", "1e30"):
        words = lines[at].split()
        words[7] = word
        path = write(tmp_path / "a.bvh", "\n".join([*lines[:at], " ".join(words), *lines[at + 1 :]]))
        bad(path, f"line {at + 1}", "'Spine'", "column 8")
    offset = next(n for n, line in enumerate(lines) if "JOINT Neck" in line) + 2
    for word in ("nan", "inf", "1e30"):
        path = write(tmp_path / "b.bvh", "\n".join([*lines[:offset], f"OFFSET 0 {word} 0", *lines[offset + 1 :]]))
        bad(path, f"line {offset + 1}", "'Neck'", word)
