"""The unit and the upward axis of a motion file, from the posed body; and packing files of which some are broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.files.retarget import align
from model.prepare import ClipError, load_packed, read_clip
from streamer.cli import main
from tests.helpers.readers import bad, check_rigid, write
from tests.helpers.rig_files import Z_UP, Rig, bvh, check, person

X, Y, Z = np.eye(3)

# --- which way is up


def test_motion_with_z_up_on_a_rest_pose_with_y_up(tmp_path: Path) -> None:
    who = person()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(world=Z_UP, axes={"": np.eye(3)})))))
    check_rigid(clip)
    check(clip, who)
    assert any("z axis" in note for note in clip.notes)


def test_motion_with_y_up_on_a_rest_pose_with_z_up(tmp_path: Path) -> None:
    who = person()
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(axes={"": Z_UP.T})))))
    check(clip, who)


@pytest.mark.parametrize("up", ["z", "y"])
def test_a_person_who_lies_is_left_lying(tmp_path: Path, up: str) -> None:
    """Head along one axis from the first frame to the last, on the floor: the rest pose decides."""
    who = person()
    down = align(Y, X)
    rot = {name: down @ turn for name, turn in who.rot.items()}
    path = who.path @ np.diag([0.2, 0.0, 0.2]) + (0.7, 0.15, 0.0)
    who = replace(who, rot=rot, path=path)
    lift = np.percentile(np.min([at[:, 1] for at in who.positions().values()], axis=0), 1)
    who = replace(who, path=path - (0.0, lift - 0.03, 0.0))
    clip = read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(world=Z_UP if up == "z" else np.eye(3))))))
    check(clip, who)


def test_up_is_an_option(tmp_path: Path) -> None:
    who = person()
    path = write(tmp_path / "a.bvh", bvh((who, Rig(world=Z_UP, axes={"": np.eye(3)}))))
    check(read_clip(path, up="z"), who)
    flat = read_clip(path, up="y")
    np.testing.assert_allclose(flat.positions @ Z_UP, read_clip(path).positions, atol=1e-9)
    with pytest.raises(ClipError, match="up should be one of"):
        read_clip(path, up="north")


# --- how large


@pytest.mark.parametrize("unit_m", [1.0, 0.01, 0.001, 0.0254, 0.0254 / 0.45, 0.1, 0.3048])
@pytest.mark.parametrize("size", [0.85, 1.0, 1.15])
def test_the_size_of_the_body_decides_the_unit(tmp_path: Path, unit_m: float, size: float) -> None:
    who = person(size=size)
    check(read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(unit_m=unit_m))))), who, 1e-5)


def test_a_child_is_read_in_metric_units_only(tmp_path: Path) -> None:
    who = person(size=0.6)
    for unit_m in (1.0, 0.01, 0.001):
        check(read_clip(write(tmp_path / "a.bvh", bvh((who, Rig(unit_m=unit_m))))), who, 1e-5)
    bad(write(tmp_path / "b.bvh", bvh((who, Rig(unit_m=0.0254)))), "units tall", "unit_m=")


def test_a_unit_that_makes_no_person_is_refused(tmp_path: Path) -> None:
    who = person()
    path = write(tmp_path / "a.bvh", bvh((who, Rig(unit_m=0.042))))
    bad(path, "40.", "units tall", "inches", "unit_m=")
    check(read_clip(path, unit_m=0.042), who, 1e-5)
    for wrong in (1.0, 1e-4):
        with pytest.raises(ClipError, match="m tall"):
            read_clip(path, unit_m=wrong)
    with pytest.raises(ClipError, match="unit_m"):
        read_clip(path, unit_m=-1.0)


# --- prepare


def test_prepare_goes_on_and_lists_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "good.bvh", bvh((person(), Rig())))
    write(tmp_path / "broken.bvh", "HIERARCHY\nROOT x\n{")
    rows = [f"a,1,{name}.bvh,60,40,train,x" for name in ("broken", "good", "gone")]
    write(tmp_path / "clips.csv", "\n".join(["set,subject,file,fps,frames,split,description", *rows]))
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), "--split", "train"]) == 0
    captured = capsys.readouterr()
    assert "40 frames" in captured.out
    assert "2 files could not be read" in captured.err.splitlines()[-3]
    assert "broken.bvh" in captured.err.splitlines()[-2]
    assert "gone.bvh" in captured.err.splitlines()[-1]
    assert [clip.name for clip in load_packed(tmp_path / "out" / "train.npz")] == ["good"]
    assert main(["prepare", str(tmp_path), str(tmp_path / "strict"), "--split", "train", "--strict"]) == 2
    assert "broken.bvh" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()
    assert (
        main(["prepare", str(tmp_path), str(tmp_path / "out"), "--split", "train", "--unit-m", "0.02"]) == 2
    )  # a giant: none left
