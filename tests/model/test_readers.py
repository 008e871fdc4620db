"""Motion readers: known answers, exact rigid skeletons, AMC against BVH, and errors that name file and place."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from model.files.humanoid import plain_name
from model.files.retarget import align, unit
from model.prepare import (
    Clip,
    ClipError,
    jumps,
    listed_clips,
    load_packed,
    measure_rest,
    prepare,
    read_clip,
    split_at_jumps,
)
from model.skeleton import INDEX, rest_offsets
from streamer.cli import main
from tests.helpers.motion_files import (
    humanoid_text,
    write_trial,
)
from tests.helpers.readers import DATA, bad, check_rigid, needs_data, write

REAL = {
    "asf": "cmu/035/035_01.amc.gz",
    "cgspeed": "cmu/035/035_03.bvh.gz",
    "cgspeed soft pelvis": "cmu/118/118_05.bvh.gz",
    "swimming": "cmu/080/080_72.bvh.gz",
    "dance": "cmu_dance/indian/14.bvh.gz",
    "hdm05": "hdm05/bd/HDM_bd_grabHighR_001_120.amc.gz",
    "lafan1": "lafan1/walk4_subject1.bvh.gz",
}


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A made-up CMU trial, 07_01.amc with 07.asf beside it, 40 frames."""
    return write_trial(tmp_path)


# --- BVH ---


def test_bvh_with_a_known_answer(tmp_path: Path) -> None:
    """A T-pose in cm; then the left elbow bent forward by a right angle; then the whole body turned to face +X."""
    poses = [{}, {"LeftForeArm": (0.0, -90.0, 0.0)}, {"Hips": (0.0, 90.0, 0.0)}]
    clip = read_clip(write(tmp_path / "a.bvh", humanoid_text(poses, frame_time=0.02)))
    check_rigid(clip)
    assert clip.fps == pytest.approx(50.0)
    wrist, elbow = clip.positions[:, INDEX["left_wrist"]], clip.positions[:, INDEX["left_elbow"]]
    np.testing.assert_allclose(wrist - elbow, [[0.25, 0, 0], [0, 0, 0.25], [0, 0, -0.25]], atol=1e-9)
    np.testing.assert_allclose(clip.positions[0, INDEX["left_ankle"]], [0.1, 1.0 - 0.05 - 0.85, 0.0], atol=1e-9)
    assert clip.world_rotations is not None
    for joint in ("left_knee", "left_elbow", "right_wrist", "head", "left_collar"):
        np.testing.assert_allclose(clip.world_rotations[0, INDEX[joint]], np.eye(3), atol=1e-9, err_msg=joint)


def test_bvh_unit_and_axes_come_from_the_skeleton(tmp_path: Path) -> None:
    cm = read_clip(write(tmp_path / "cm.bvh", humanoid_text([{}])))
    metres = read_clip(write(tmp_path / "m.bvh", humanoid_text([{}], scale=0.01)))
    z_up = read_clip(write(tmp_path / "z.bvh", humanoid_text([{}], z_up=True)))
    told = read_clip(write(tmp_path / "t.bvh", humanoid_text([{}], scale=7.0)), unit_m=0.01 / 7.0)
    for other in (metres, z_up, told):
        np.testing.assert_allclose(other.positions, cm.positions, atol=1e-5)
        np.testing.assert_allclose(other.world_rotations, cm.world_rotations, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("mixamorig:LeftForeArm", ("left", "forearm")),
        ("RightToeBase", ("right", "toebase")),
        ("calf.L", ("left", "calf")),
        ("upperarm_r", ("right", "upperarm")),
        ("l_hand", ("left", "hand")),
        ("Head", ("", "head")),
        ("left_knee", ("left", "knee")),
    ],
)
def test_joint_names(name: str, plain: tuple[str, str]) -> None:
    assert plain_name(name) == plain


# --- every format ---


@needs_data
@pytest.mark.parametrize("kind", REAL)
def test_real_files_sit_on_a_rigid_skeleton(kind: str) -> None:
    clip = read_clip(DATA / REAL[kind])
    check_rigid(clip)
    assert 1.2 < clip.positions[:, INDEX["head"], 1].max() < 2.2
    assert clip.fps == {"swimming": 60.0, "lafan1": 30.0}.get(kind, 120.0)
    assert not clip.world_rotations[:, 0, 1, 1].mean() < 0.2  # type: ignore[index]  # nobody stands on the head
    assert jumps(clip).size <= 2  # a hand's Euler angles flip in two of these files


def test_gz_equals_plain(trial: Path, tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    for file in (trial, tmp_path / "07.asf"):
        (tmp_path / "z" / (file.name + ".gz")).write_bytes(gzip.compress(file.read_bytes()))
    plain, packed = read_clip(trial), read_clip(tmp_path / "z" / "07_01.amc.gz")
    np.testing.assert_array_equal(plain.positions, packed.positions)
    assert plain.name == packed.name


def test_fps_is_the_callers_then_the_listings_then_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "cmu"
    folder.mkdir()
    path = write(folder / "a.bvh", humanoid_text([{}, {}], frame_time=0.01))
    assert read_clip(path).fps == pytest.approx(100.0)
    write(tmp_path / "clips.csv", "set,subject,file,fps,frames,split,description\ncmu,1,cmu/a.bvh,60.0,2,train,x\n")
    assert read_clip(path).fps == 60.0
    assert read_clip(path, fps=24.0).fps == 24.0


# --- packing ---


def test_prepare_packs_what_read_clip_reads(trial: Path, tmp_path: Path) -> None:
    write(
        tmp_path / "clips.csv", "set,subject,file,fps,frames,split,description\ncmu,07,07_01.amc,60,40,train,made up\n"
    )
    assert prepare(tmp_path, tmp_path / "out" / "train.npz") == 40
    (packed,) = load_packed(tmp_path / "out" / "train.npz")
    clip = read_clip(trial)
    assert (packed.name, packed.set, packed.subject, packed.fps) == ("07_01", "cmu", "07", 60.0)
    np.testing.assert_allclose(packed.positions, clip.positions, atol=1e-5)
    np.testing.assert_allclose(packed.world_rotations, clip.world_rotations, atol=1e-6)  # type: ignore[arg-type]


def test_the_prepare_command(trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = f"cmu,07,{trial.name},60,40,train,made up\n"
    write(tmp_path / "clips.csv", "set,subject,file,fps,frames,split,description\n" + row)
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), "--split", "train"]) == 0
    assert "40 frames" in capsys.readouterr().out
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), "--split", "nobody"]) == 2
    assert "clips.csv" in capsys.readouterr().err


def test_clips_are_cut_at_jumps(trial: Path) -> None:
    clip = read_clip(trial)
    still = np.repeat(clip.positions[:1], 200, axis=0)
    still[120:, INDEX["left_hand"], 1] += 0.3  # 36 m/s at 120 fps
    jumped = Clip("x", still, None, 120.0, clip.offsets_m)
    assert jumps(jumped).tolist() == [120]
    assert [(piece.name, len(piece)) for piece in split_at_jumps(jumped)] == [("x", 120), ("x#1", 80)]


@needs_data
def test_rest_constants_are_the_measured_mean() -> None:
    np.testing.assert_allclose(rest_offsets(), measure_rest(DATA), atol=2e-3)


def test_align_is_the_smallest_rotation() -> None:
    rng = np.random.default_rng(0)
    a, b = unit(rng.normal(size=(2, 50, 3)))
    b[0], b[1] = a[0], -a[1]
    rot = align(a, b)
    np.testing.assert_allclose((rot @ a[..., None])[..., 0], b, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rot), 1.0, atol=1e-9)
    np.testing.assert_allclose((np.trace(rot, axis1=-2, axis2=-1) - 1) / 2, (a * b).sum(-1), atol=1e-9)


# --- errors ---


def test_errors_name_the_file_and_the_place_in_bvh(tmp_path: Path) -> None:
    text = humanoid_text([{}, {}, {}])
    lines = text.splitlines()
    path = tmp_path / "b.bvh"
    bad(write(path, "\n".join(lines[:-2])), "Frames", "3", "1")
    bad(write(path, "\n".join([*lines[:-1], lines[-1] + " 1.0"])), f"line {len(lines)}", "columns")
    bad(write(path, "\n".join([*lines[:-1], lines[-1][:-3] + "abc"])), f"line {len(lines)}", "abc")
    bad(write(path, "\n".join(lines[:12])), "line", "complete")
    bad(write(path, text.replace("Frame Time: ", "Frame Time: x")), "Frame Time")
    bad(write(path, text.replace("LeftForeArm", "Wing")), "joint names", "elbow")
    bad(write(path, humanoid_text([{}], scale=30.0)), "unit")
    bad(write(path, "not a bvh"), "HIERARCHY")
    bad(tmp_path / "nothing.bvh", "not found")
    bad(write(tmp_path / "a.fbx", "x"), ".fbx")


def test_a_folder_without_a_list_is_told_apart_by_folder_or_file(tmp_path: Path) -> None:
    def people(*names: str) -> dict[str, str]:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            write(tmp_path / name, humanoid_text([{}, {}], frame_time=1 / 24))
        return {row.subject: row.split for row in listed_clips(tmp_path)}

    with pytest.raises(ClipError, match=r"no clips\.csv and no motion files"):
        people()
    assert people("notes.txt", "cmu/01/walk.bvh", "cmu/01/run.bvh") == {"cmu/01": "train"}
    with pytest.raises(ClipError, match="no clip is in 'test'; without"):
        prepare(tmp_path, tmp_path / "test.npz", "test")
    assert people("one.bvh", "two.bvh") == {"cmu/01": "train", "one": "train", "two": "test"}
    ten = people(*(f"more/{n}/a.bvh" for n in range(7)))
    assert len(ten) == 10
    assert {one for one, split in ten.items() if split == "test"} == {"more/3", "two"}
    prepare(tmp_path, tmp_path / "test.npz", "test")
    assert {(clip.set, clip.subject, clip.fps) for clip in load_packed(tmp_path / "test.npz")} == {
        (tmp_path.name, "more/3", 24.0), (tmp_path.name, "two", 24.0)
    }  # fmt: skip


def test_a_second_list_of_clips_gives_rates_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bvh", humanoid_text([{}, {}], frame_time=1 / 24))
    write(tmp_path / "clips.csv", "set,subject,file,fps,frames,split,description\nx,1,b.bvh,60.0,2,train,x\n")
    assert read_clip(path).fps == pytest.approx(24.0)
    write(tmp_path / "more_clips.csv", "set,subject,file,fps,frames,split,description\nx,1,a.bvh,30.0,2,train,x\n")
    assert read_clip(path).fps == 30.0
    assert [row.fps for row in listed_clips(tmp_path, "more_clips.csv")] == [30.0]
    (tmp_path / "clips.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClipError, match=r"clips\.csv: file: cannot be read"):
        listed_clips(tmp_path)
