"""ASF/AMC and what cgspeed made of it: known answers, one trial in both, units and spellings, errors by line."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from model.files.asf import read_amc
from model.prepare import ClipError, read_clip
from model.skeleton import INDEX, JOINTS, J
from tests.helpers.motion_files import UNIT_M, asf_text, cgspeed_text, naive_asf_positions, random_angles, write_trial
from tests.helpers.readers import DATA, bad, check_rigid, needs_data, write


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A made-up CMU trial, 07_01.amc with 07.asf beside it, 40 frames."""
    return write_trial(tmp_path)


def test_amc_legs_and_arms_are_exact(trial: Path) -> None:
    clip, truth = read_clip(trial), naive_asf_positions(random_angles(40))
    check_rigid(clip)
    assert (clip.fps, clip.name, len(clip)) == (120.0, "07_01", 40)
    for joint, name in (
        ("pelvis", "root"),
        ("left_hip", "lhipjoint"),
        ("right_knee", "rfemur"),
        ("left_foot", "lfoot"),
    ):
        np.testing.assert_allclose(clip.positions[:, INDEX[joint]], truth[name], atol=1e-6)
    for parent, child, a, b in (
        ("left_shoulder", "left_elbow", "lclavicle", "lhumerus"),
        ("right_elbow", "right_wrist", "rhumerus", "rradius"),
    ):
        vector = clip.positions[:, INDEX[child]] - clip.positions[:, INDEX[parent]]
        np.testing.assert_allclose(vector, truth[b] - truth[a], atol=1e-6)


def test_amc_shoulders_and_head_stay_near_the_capture(trial: Path) -> None:
    clip, truth = read_clip(trial), naive_asf_positions(random_angles(40))
    for joint, bone, mean_mm in (("left_shoulder", "lclavicle", 2.0), ("head", "upperneck", 12.0)):
        error = np.linalg.norm(clip.positions[:, INDEX[joint]] - truth[bone], axis=-1)
        assert error.mean() < mean_mm / 1e3, (joint, error.mean())


def test_amc_and_bvh_of_one_trial_agree(trial: Path, tmp_path: Path) -> None:
    """The same trial as AMC and as the BVH that cgspeed makes of it: T-pose first, thorax and wrist bones left out."""
    amc = read_clip(trial)
    bvh = read_clip(write(tmp_path / "07_01.bvh", cgspeed_text(read_amc(trial))))
    check_rigid(bvh)
    assert len(bvh) == len(amc)
    error = np.linalg.norm(amc.positions - bvh.positions, axis=-1)
    assert error[:, [INDEX["left_foot"], INDEX["right_foot"]]].max() < 1e-4
    assert error.max() < 6e-3
    assert amc.world_rotations is not None
    assert bvh.world_rotations is not None
    trace = np.einsum("tjab,tjab->tj", amc.world_rotations, bvh.world_rotations)
    turn = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    assert turn[:, [j for j in range(J) if "hand" not in JOINTS[j]]].max() < 4.0


def test_cmus_names_in_another_unit_or_spelling(trial: Path, tmp_path: Path) -> None:
    tree = read_amc(trial)
    usual = read_clip(write(tmp_path / "a.bvh", cgspeed_text(tree)))
    metres = read_clip(write(tmp_path / "b.bvh", cgspeed_text(tree.scaled(UNIT_M))))
    np.testing.assert_allclose(metres.positions, usual.positions, atol=2e-5)
    mixed = cgspeed_text(tree).replace("RightForeArm", "RightElbow").replace("LeftUpLeg", "LeftHip")
    np.testing.assert_array_equal(read_clip(write(tmp_path / "c.bvh", mixed)).positions, usual.positions)
    without = cgspeed_text(tree).replace("LeftHandIndex1", "LeftTip")  # a humanoid then, with CMU's thorax left out
    error = read_clip(write(tmp_path / "d.bvh", without)).positions[1:] - usual.positions
    legs = [INDEX[f"left_{joint}"] for joint in ("hip", "knee", "ankle", "foot")]
    assert np.abs(error[:, legs]).max() < 1e-4


def test_an_asf_states_its_unit(trial: Path, tmp_path: Path) -> None:
    """The place of the root is in it, too."""
    usual = read_clip(trial)
    (tmp_path / "inches").mkdir()
    lengths = asf_text().replace("length 0.45", "length 1.0", 1)
    write(tmp_path / "inches" / "07.asf", lengths)
    path = write(tmp_path / "inches" / "07_01.amc", trial.read_text())
    small = read_clip(path)
    np.testing.assert_allclose(small.positions, 0.45 * usual.positions, atol=1e-12)
    np.testing.assert_allclose(read_clip(path, unit_m=UNIT_M).positions, usual.positions, atol=1e-12)
    turned = read_clip(path, unit_m=UNIT_M, up="z").positions
    np.testing.assert_allclose(turned @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]], usual.positions, atol=1e-9)


def test_numbers_of_an_amc_that_are_not_finite_are_named(trial: Path, tmp_path: Path) -> None:
    lines = trial.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ltibia") and n > 60)
    for word in ("nan", "inf", "1e20"):
        lines[at] = f"ltibia {word}"
        bad(write(tmp_path / "07_02.amc", "\n".join(lines)), f"line {at + 1}", "ltibia")
    skeleton = asf_text().replace("length 7.4", "length nan")
    with pytest.raises(ClipError, match=r"bone 'lfemur', line \d+: 'length'"):
        read_amc(trial, write(tmp_path / "08.asf", skeleton))


@needs_data
@pytest.mark.parametrize("subject", ["008", "035"])
def test_amc_and_bvh_of_one_subject_give_one_skeleton(subject: str) -> None:
    folder = DATA / "cmu" / subject
    amc, bvh = (read_clip(sorted(folder.glob(f"*.{kind}.gz"))[0]) for kind in ("amc", "bvh"))
    np.testing.assert_allclose(amc.offsets_m, bvh.offsets_m, atol=3e-3)


def test_an_amc_cut_in_its_last_frame_keeps_the_whole_ones(trial: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = read_clip(trial)
    trial.write_text(trial.read_text()[:-30])
    with caplog.at_level(logging.WARNING):
        cut = read_clip(trial)
    np.testing.assert_array_equal(cut.positions, whole.positions[:-1])
    assert "07_01.amc" in caplog.text
    assert "cut off" in caplog.text


def test_errors_name_the_file_and_the_place_in_amc(trial: Path, tmp_path: Path) -> None:
    text = trial.read_text()
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ltibia") and n > 40)
    lines[at] = "ltibia 1.0 2.0"
    bad(write(tmp_path / "07_02.amc", "\n".join(lines)), f"line {at + 1}", "ltibia")
    bad(write(tmp_path / "07_03.amc", text.replace("lfemur", "lfoo")), "lfoo", ".asf")
    bad(write(tmp_path / "07_04.amc", text[: text.index("\n2\n")].rsplit("\n", 2)[0]), "cut off")
    (tmp_path / "other").mkdir()
    bad(write(tmp_path / "other" / "08_01.amc", text), "skeleton", "08.asf")
    (tmp_path / "07_05.amc.gz").write_bytes(gzip.compress(trial.read_bytes())[:-200])
    bad(tmp_path / "07_05.amc.gz", "file", "complete")
    with pytest.raises(ClipError, match=r"bonedata"):
        read_amc(trial, write(tmp_path / "bad.asf", asf_text().replace(":bonedata", ":bones")))
