"""Every layout gives the canonical joints it can, drops what lost a source, and a user's file fails with advice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.layouts import LAYOUTS, LayoutError, get_layout, read_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, JOINTS, J
from model.training.derivation import canonical_derivation

COUNTS = {
    "smpl_24": 24, "smpl_22": 22, "h36m_17": 17, "coco_17": 17, "mediapipe_33": 33, "vrm": 22, "body_25": 25,
    "halpe_26": 26, "coco_wholebody_133": 133, "kinect_25": 25, "azure_kinect_32": 32, "freemocap_33": 33,
    "xsens_23": 23, "rokoko_23": 23,
}  # fmt: skip


def random_frame(name: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((COUNTS[name], 3))


def test_the_layouts_and_their_sizes() -> None:
    assert {name: len(get_layout(name).joints) for name in LAYOUTS} == COUNTS


def test_smpl_24_is_copied() -> None:
    positions = random_frame("smpl_24").astype(np.float32)
    xyz, measured, derived, confidence = get_layout("smpl_24").to_canonical(positions)
    np.testing.assert_array_equal(xyz, positions)
    assert measured.all()
    assert not derived.any()
    assert np.all(confidence == 1.0)
    assert xyz.dtype == confidence.dtype == np.float32


@pytest.mark.parametrize(
    ("layout", "theirs", "canonical"),
    [
        ("h36m_17", "root", "pelvis"), ("h36m_17", "RFoot", "right_ankle"), ("h36m_17", "LWri", "left_wrist"),
        ("h36m_17", "thorax", "neck"), ("h36m_17", "head", "head"), ("coco_17", "left_wrist", "left_wrist"),
        ("coco_17", "right_ankle", "right_ankle"), ("mediapipe_33", "left_foot_index", "left_foot"),
        ("mediapipe_33", "right_hip", "right_hip"), ("vrm", "hips", "pelvis"), ("vrm", "spine", "spine1"),
        ("vrm", "upperChest", "spine3"), ("vrm", "leftUpperArm", "left_shoulder"), ("vrm", "rightHand", "right_wrist"),
        ("vrm", "leftShoulder", "left_collar"), ("vrm", "rightToes", "right_foot"), ("vrm", "leftFoot", "left_ankle"),
    ],
)  # fmt: skip
def test_measured_joints_are_the_sources_own(layout: str, theirs: str, canonical: str) -> None:
    positions = random_frame(layout)
    xyz, measured, _, _ = get_layout(layout).to_canonical(positions)
    assert measured[INDEX[canonical]]
    np.testing.assert_allclose(xyz[INDEX[canonical]], positions[get_layout(layout).joints.index(theirs)], atol=1e-6)


def test_coco_derives_the_torso_and_leaves_out_hands_and_feet() -> None:
    layout = get_layout("coco_17")
    positions = random_frame("coco_17")
    at = {name: positions[i] for i, name in enumerate(layout.joints)}
    xyz, measured, derived, _ = layout.to_canonical(positions)
    hips = 0.5 * (at["left_hip"] + at["right_hip"])
    shoulders = 0.5 * (at["left_shoulder"] + at["right_shoulder"])
    np.testing.assert_allclose(xyz[INDEX["pelvis"]], hips, atol=1e-6)
    np.testing.assert_allclose(xyz[INDEX["head"]], 0.5 * (at["left_ear"] + at["right_ear"]), atol=1e-6)
    up = (xyz[INDEX["neck"]] - hips) @ (shoulders - hips) / ((shoulders - hips) @ (shoulders - hips))
    assert 1.0 < up < 1.1  # a bit above the middle of the shoulders
    assert derived[[INDEX[name] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar")]].all()
    gone = [INDEX[name] for name in ("left_hand", "right_hand", "left_foot", "right_foot")]
    assert not (measured | derived)[gone].any()


def test_mediapipe_hand_is_the_middle_of_index_and_pinky() -> None:
    layout = get_layout("mediapipe_33")
    positions = random_frame("mediapipe_33")
    middle = 0.5 * (positions[layout.joints.index("left_index")] + positions[layout.joints.index("left_pinky")])
    np.testing.assert_allclose(layout.to_canonical(positions)[0][INDEX["left_hand"]], middle, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_missing_source_drops_exactly_what_needs_it(name: str, data: st.DataObject) -> None:
    layout, count = get_layout(name), COUNTS[name]
    positions = random_frame(name)
    whole = layout.to_canonical(positions)[0]
    lost = data.draw(hnp.arrays(bool, count))
    confidence = data.draw(st.sampled_from(["none", "zero", "nan"]))
    broken, trust = positions.copy(), None
    if confidence == "none":
        broken[lost] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    else:
        trust = np.where(lost, 0.0 if confidence == "zero" else np.nan, 0.5)
    xyz, measured, derived, shown = layout.to_canonical(broken, trust)
    needs = (layout.weights != 0) & lost
    given_now = (layout.weights != 0).any(1) & ~needs.any(1)
    np.testing.assert_array_equal(measured | derived, given_now)
    np.testing.assert_array_equal(measured, layout.measured & given_now)
    np.testing.assert_array_equal(shown > 0, given_now)
    assert np.isfinite(xyz).all()
    np.testing.assert_allclose(xyz[given_now], whole[given_now], atol=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_world_moves_and_the_joints_with_it(name: str) -> None:
    layout = get_layout(name)
    used = layout.measured | layout.derived
    np.testing.assert_allclose(layout.weights[used].sum(1), 1.0, atol=1e-6)
    assert np.all(layout.weights[~used] == 0.0)


def test_confidence_is_the_sources_mean_and_at_most_one() -> None:
    layout = get_layout("coco_17")
    trust = np.full(17, 0.4)
    trust[layout.joints.index("left_hip")], trust[layout.joints.index("right_hip")] = 0.2, 0.6
    trust[layout.joints.index("left_wrist")] = 7.0
    confidence = layout.to_canonical(random_frame("coco_17"), trust)[3]
    assert confidence[INDEX["pelvis"]] == pytest.approx(0.4)
    assert confidence[INDEX["left_wrist"]] == 1.0


def test_another_number_of_joints_is_an_error() -> None:
    with pytest.raises(LayoutError, match="smpl_22 has 22 joints"):
        get_layout("smpl_22").to_canonical(np.zeros((24, 3)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_imitation_of_a_layout_is_near_the_true_joints(name: str) -> None:
    matrix, measured, derived = canonical_derivation(name)
    true = SyntheticActor(0).clip(10.0, 10.0)
    given_now = measured | derived
    error = np.linalg.norm(matrix @ true - true, axis=-1)[:, given_now]
    assert matrix.shape == (J, J)
    assert np.all(matrix[~given_now] == 0.0)
    assert np.all(error[:, measured[given_now]] < 1e-6)
    assert error.max() < 0.15
    layout = get_layout(name)
    np.testing.assert_array_equal(measured, layout.measured)


# ---- a user's own


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
joints = ["Hips", "LThigh", "RThigh", "LArm", "RArm", "Skull", "left_knee", "a", "b"]
up_axis = "z"
units = "cm"
[map]
pelvis = "Hips"
left_hip = "LThigh"
right_hip = "RThigh"
left_shoulder = "LArm"
right_shoulder = "RArm"
head = "Skull"
left_hand = ["a", "b"]
right_hand = { a = 0.25, b = 0.75 }
"""


def test_a_users_layout(tmp_path: Path) -> None:
    layout = get_layout(write(tmp_path / "mine.toml", GOOD))
    positions = np.random.default_rng(0).standard_normal((9, 3)) * 100.0
    xyz, measured, derived, _ = layout.to_canonical(positions)
    x, y, z = positions[0] / 100.0
    np.testing.assert_allclose(xyz[INDEX["pelvis"]], [x, z, -y], atol=1e-6)
    x, y, z = (0.25 * positions[7] + 0.75 * positions[8]) / 100.0
    np.testing.assert_allclose(xyz[INDEX["right_hand"]], [x, z, -y], atol=1e-5)
    assert measured[INDEX["left_knee"]]  # the same name needs no line
    assert derived[[INDEX["left_hand"], INDEX["right_hand"], INDEX["neck"], INDEX["spine2"]]].all()
    assert not (measured | derived)[INDEX["right_knee"]]
    assert canonical_derivation(tmp_path / "mine.toml")[0].shape == (J, J)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("joints = 3", r"mine\.toml, joints: list the joint names"),
        ("joints = []", r"joints: list the joint names"),
        ('joints = ["a", "a"]', r"joints: a given twice"),
        ("joints = [", r"mine\.toml: not a TOML file"),
        ('joint = ["pelvis"]', r"joint: not a key of a layout; did you mean 'joints'"),
        ('joints = ["pelvis"]\nunits = "inch"', r"units: 'inch' is not one of 'm', 'cm', 'mm'"),
        ('joints = ["pelvis"]\nup_axis = "x"', r"up_axis: 'x' is not one of 'y', 'z'"),
        ('joints = ["hips"]\n[map]\npelvs = "hips"', r"\[map\] pelvs: not a canonical joint; did you mean 'pelvis'"),
        ('joints = ["hips"]\n[map]\npelvis = "hip"', r"\[map\] pelvis: 'hip' is not in joints; did you mean 'hips'"),
        ('joints = ["a", "b"]\n[map]\npelvis = {a = 0.5, b = 0.4}', r"weights sum to 0\.9; make them sum to 1"),
        ('joints = ["a"]\n[map]\npelvis = {a = "1"}', r"the weight of 'a' must be a number"),
        ('joints = ["a"]\n[map]\npelvis = 3', r"give a joint name, a list of names or a table"),
        ('joints = ["a"]\nmap = 3', r"map: must be a table"),
        ('joints = ["a"]', r"no canonical joint comes from these"),
    ],
)
def test_a_bad_file_names_itself_the_key_and_the_cure(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        read_layout(write(tmp_path / "mine.toml", text))


def test_unknown_names_and_files() -> None:
    with pytest.raises(LayoutError, match="did you mean 'coco_17'"):
        get_layout("coco17")
    with pytest.raises(LayoutError, match="cannot read the layout"):
        get_layout("nowhere/mine.toml")
    assert get_layout("vrm") is get_layout("vrm")
    assert set(JOINTS) == set(get_layout("smpl_24").joints)


def test_down_axes_and_mirrors_are_turned_round(tmp_path: Path) -> None:
    true = SyntheticActor(0).positions(1.0)[0]
    x, y, z = true.T
    sent = {
        'up_axis = "-y"': (x, -y, -z), 'up_axis = "z"': (x, -z, y), 'up_axis = "-z"': (x, z, -y),
        "mirror = true": (-x, y, z), 'mirror = true\nup_axis = "-y"': (-x, -y, -z),
    }  # fmt: skip
    for keys, axes in sent.items():
        layout = read_layout(write(tmp_path / "mine.toml", f"joints = {list(JOINTS)}\n{keys}"))
        np.testing.assert_allclose(layout.to_canonical(np.stack(axes, -1))[0], true, atol=1e-6, err_msg=keys)


def test_exact_zeros_are_missing_unless_the_layout_says_otherwise(tmp_path: Path) -> None:
    positions = SyntheticActor(0).positions(1.0)[0] + 0.3
    positions[INDEX["left_wrist"]] = 0.0
    real = read_layout(write(tmp_path / "mine.toml", f"joints = {list(JOINTS)}\nzeros_are_real = true"))
    assert get_layout("smpl_24").to_canonical(positions)[1].sum() == J - 1
    assert real.to_canonical(positions)[1].sum() == J
    positions[INDEX["left_wrist"], 1] = 1e-30  # near zero is a place
    assert get_layout("smpl_24").to_canonical(positions)[1].sum() == J


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('joints = ["a", "b"]\n[map]\npelvis = {a = nan, b = 1.0}', "the weight of 'a' must be a number within"),
        ('joints = ["a", "b"]\n[map]\npelvis = {a = inf, b = -inf}', "the weight of 'a' must be a number within"),
        ('joints = ["a", "b"]\n[map]\npelvis = {a = 1e30, b = -1e30}', "the weight of 'a' must be a number within"),
        ("joints = [" + ", ".join(f'"j{i}"' for i in range(257)) + "]", "joints: 257 names, 256 are the most"),
        ("joints = [" + ", ".join(f'"j{i}"' for i in range(1_000_000)) + "]", "at most 256 joints"),
        ("joints = " + "[" * 5000, "not a TOML file"),
        ("joints = " + "9" * 5000, "not a TOML file"),
        ('joints = ["pelvis"]\nmirror = 1', "mirror: must be true or false, not 1"),
        ('joints = ["pelvis"]\nzeros_are_real = "no"', "zeros_are_real: must be true or false"),
    ],
    ids=lambda value: value[:40],
)
def test_a_file_that_would_poison_or_stall_the_stream_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        read_layout(write(tmp_path / "mine.toml", text))
