"""Motion in npz files: AMASS with and without its bones, SMPL-X's objects, plain positions, and errors by key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.prepare import ClipError, read_clip
from model.skeleton import INDEX, rest_lengths_m, rest_offsets
from tests.helpers.motion_files import amass_data, write_trial
from tests.helpers.readers import bad, check_rigid


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A made-up CMU trial, 07_01.amc with 07.asf beside it, 40 frames."""
    return write_trial(tmp_path)


@pytest.mark.parametrize("missing", [(), ("positions",), ("bone_offsets",)])
def test_amass_reproduces_its_positions(tmp_path: Path, missing: tuple[str, ...]) -> None:
    data = amass_data()
    truth = data["positions"] @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) -> (x, z, -y)
    np.savez(tmp_path / "a.npz", **{k: v for k, v in data.items() if k not in missing})  # type: ignore[arg-type]
    clip = read_clip(tmp_path / "a.npz")
    check_rigid(clip)
    assert clip.fps == 60.0
    np.testing.assert_allclose(clip.positions, truth, atol=1e-5)


def test_amass_without_bones_takes_the_mean_skeleton(tmp_path: Path) -> None:
    data = amass_data()
    del data["positions"], data["bone_offsets"]
    np.savez(tmp_path / "a.npz", **data)  # type: ignore[arg-type]
    clip = read_clip(tmp_path / "a.npz")
    check_rigid(clip)
    np.testing.assert_allclose(clip.lengths_m, rest_lengths_m(), atol=1e-12)


def test_plain_positions_keep_their_bones(trial: Path, tmp_path: Path) -> None:
    source = read_clip(trial)
    np.savez(tmp_path / "p.npz", positions=source.positions, fps=30.0)
    clip = read_clip(tmp_path / "p.npz")
    np.testing.assert_array_equal(clip.positions, source.positions)
    np.testing.assert_allclose(clip.offsets_m, source.offsets_m, atol=1e-9)
    assert clip.world_rotations is None
    assert clip.fps == 30.0


# --- the pelvis of the body model's template


@pytest.mark.parametrize(
    ("changes", "pelvis"),
    [
        ({}, (-0.0018, -0.2233, 0.0282)),
        ({"surface_model_type": np.array("smplh")}, (-0.0018, -0.2233, 0.0282)),
        ({"surface_model_type": np.array("smplx")}, (0.0031, -0.3514, 0.0120)),
        ({"poses": None}, (0.0031, -0.3514, 0.0120)),  # 165 columns: SMPL-X's jaw and eyes
    ],
)
def test_the_templates_pelvis_is_not_at_the_origin(
    tmp_path: Path, changes: dict[str, np.ndarray | None], pelvis: tuple[float, float, float]
) -> None:
    """trans moves the template, whose pelvis is 0.2 to 0.35 m from its origin, whichever way the body is turned."""
    data = amass_data()
    del data["positions"], data["bone_offsets"]
    for key, value in changes.items():
        data[key] = np.hstack([data["poses"], np.zeros((12, 9))]) if value is None else value
    np.savez(tmp_path / "a.npz", **data)  # type: ignore[arg-type]
    clip = read_clip(tmp_path / "a.npz")
    x, y, z = (data["trans"] + pelvis).T
    np.testing.assert_allclose(clip.positions[:, INDEX["pelvis"]], np.stack([x, z, -y], -1), atol=1e-9)


def test_keys_that_are_not_needed_are_not_touched(tmp_path: Path) -> None:
    """SMPL-X's _stageii.npz: dictionaries and lists of names as pickled objects beside the motion."""
    data = amass_data()
    del data["positions"], data["bone_offsets"], data["mocap_framerate"]
    objects = {
        "latent_labels": np.array(["LFWT", "RFWT"], dtype=object), "markers_latent_vids": np.array({"LFWT": 3}),
        "labels_obs": np.array([["LFWT"], ["RFWT", "C7"]], dtype=object),
    }  # fmt: skip
    np.savez(
        tmp_path / "walk_stageii.npz", **data, **objects, mocap_frame_rate=np.array(120.0),  # type: ignore[arg-type]
        surface_model_type=np.array("smplx"), root_orient=data["poses"][:, :3], betas_extra=np.zeros(16),
    )  # fmt: skip
    clip = read_clip(tmp_path / "walk_stageii.npz")
    check_rigid(clip)
    assert (clip.fps, len(clip)) == (120.0, 12)
    np.savez(tmp_path / "b.npz", **{**data, "trans": np.array([None] * 12)}, fps=1.0)  # type: ignore[arg-type]
    bad(tmp_path / "b.npz", "key 'trans'", "Python objects")


def test_units_and_up_of_plain_positions(trial: Path, tmp_path: Path) -> None:
    source = read_clip(trial)
    inches = source.positions @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) / 0.0254  # (x, -z, y): Z up
    np.savez(tmp_path / "p.npz", positions=inches, fps=30.0)
    bad(tmp_path / "p.npz", "m tall", "unit_m=")
    clip = read_clip(tmp_path / "p.npz", unit_m=0.0254, up="z")
    np.testing.assert_allclose(clip.positions, source.positions, atol=1e-9)
    with pytest.raises(ClipError, match="up should be"):
        read_clip(tmp_path / "p.npz", unit_m=0.0254, up="w")


def test_positions_that_are_not_finite_are_named_and_missing_ones_are_not(trial: Path, tmp_path: Path) -> None:
    positions = read_clip(trial).positions.copy()
    positions[3, 5] = np.nan
    np.savez(tmp_path / "p.npz", positions=positions, fps=30.0)
    assert np.isnan(read_clip(tmp_path / "p.npz").positions[3, 5]).all()
    positions[7, INDEX["left_knee"], 1] = np.inf
    np.savez(tmp_path / "p.npz", positions=positions, fps=30.0)
    bad(tmp_path / "p.npz", "'positions'", "index 7", "left_knee")


def test_errors_name_the_file_and_the_key_in_npz(tmp_path: Path) -> None:
    path, data = tmp_path / "a.npz", amass_data()

    def saved(**changes: object) -> Path:
        np.savez(path, **{k: v for k, v in {**data, **changes}.items() if v is not None})  # type: ignore[arg-type]
        return path

    bad(saved(trans=None), "trans")
    bad(saved(trans=data["trans"][:-1]), "trans", "11")
    bad(saved(poses=data["poses"][:, :60]), "poses", "156")
    bad(saved(mocap_framerate=None), "mocap_framerate")
    bad(saved(bone_offsets=rest_offsets()), "positions", "mm")
    bad(saved(poses=np.where(np.arange(12)[:, None] == 3, np.nan, data["poses"])), "poses", "3")
    np.savez(path, world_m=np.zeros((3, 33, 3)), visibility=np.ones((3, 33)), time_s=np.arange(3))
    bad(path, "world_m", "MediaPipe")
    np.savez(path, positions=np.zeros((3, 17, 3)), fps=30.0, layout="coco_17")
    bad(path, "layout", "coco_17")
    np.savez(path, foo=np.zeros(3))
    bad(path, "foo")
    path.write_bytes(b"PK\x03\x04 cut")
    bad(path, "npz")
