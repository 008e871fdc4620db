"""The joint orders of other projects, by the numbers that their own documents give them, on a body of known joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.landmarks import landmarks
from model.layouts import LAYOUTS, get_layout
from model.motion.synthetic import SyntheticActor
from model.prepare import read_clip
from model.skeleton import INDEX, JOINTS, MIRROR
from tests.helpers.as_sent import as_sent
from tests.helpers.rig_files import Rig, bvh, named, person

LIMBS = [
    f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]

# Place in the source's array of the left, then of the right shoulder, elbow, wrist, hip, knee, ankle: OpenPose's
# output.md, Halpe-FullBody's README, COCO-WholeBody's figure, Kinect's JointType, k4abt_joint_id_t, MediaPipe's
# landmarks, Xsens MVN's segments, Rokoko's Newton hierarchy.
NUMBERS = {
    "body_25": (5, 6, 7, 12, 13, 14, 2, 3, 4, 9, 10, 11),
    "halpe_26": (5, 7, 9, 11, 13, 15, 6, 8, 10, 12, 14, 16),
    "coco_wholebody_133": (5, 7, 9, 11, 13, 15, 6, 8, 10, 12, 14, 16),
    "kinect_25": (4, 5, 6, 12, 13, 14, 8, 9, 10, 16, 17, 18),
    "azure_kinect_32": (5, 6, 7, 18, 19, 20, 12, 13, 14, 22, 23, 24),
    "freemocap_33": (11, 13, 15, 23, 25, 27, 12, 14, 16, 24, 26, 28),
    "xsens_23": (12, 13, 14, 19, 20, 21, 8, 9, 10, 15, 16, 17),
    "rokoko_23": (14, 15, 16, 1, 2, 3, 20, 21, 22, 5, 6, 7),
}
# And of the other joints that are the source's own.
OTHERS = {
    "halpe_26": {"neck": 18},
    "kinect_25": {
        "pelvis": 0, "spine2": 1, "neck": 2, "head": 3, "left_hand": 7, "right_hand": 11, "left_foot": 15,
        "right_foot": 19,
    },
    "azure_kinect_32": {
        "pelvis": 0, "spine2": 1, "spine3": 2, "neck": 3, "left_collar": 4, "left_hand": 8, "right_collar": 11,
        "right_hand": 15, "left_foot": 21, "right_foot": 25, "head": 26,
    },
    "freemocap_33": {"left_foot": 31, "right_foot": 32},
    "xsens_23": {
        "pelvis": 0, "spine1": 1, "spine3": 4, "neck": 5, "head": 6, "right_collar": 7, "left_collar": 11,
        "right_foot": 18, "left_foot": 22,
    },
    "rokoko_23": {
        "pelvis": 0, "left_foot": 4, "right_foot": 8, "spine1": 9, "spine2": 10, "spine3": 12, "left_collar": 13,
        "neck": 17, "head": 18, "right_collar": 19,
    },
}  # fmt: skip
# What is computed, and of which places of the array.
DERIVED_FROM = {
    "body_25": {"head": {17, 18}, "left_foot": {19, 20}, "right_foot": {22, 23}, "pelvis": {9, 12}},
    "halpe_26": {"head": {3, 4}, "left_foot": {20, 22}, "right_foot": {21, 23}, "pelvis": {11, 12}},
    "coco_wholebody_133": {
        "head": {3, 4}, "left_foot": {17, 18}, "right_foot": {20, 21}, "left_hand": {96, 108}, "right_hand": {117, 129},
    },
    "kinect_25": {"spine3": {1, 2}, "spine1": {0, 1}},
    "azure_kinect_32": {"spine1": {0, 1}},
    "freemocap_33": {"head": {7, 8}, "left_hand": {17, 19}, "right_hand": {18, 20}},
    "xsens_23": {"spine2": {2, 3}},
}  # fmt: skip
# How far a derived joint may lie from ours on this body [m], others 0.07: the middle of hips, ears and knuckles.
NEAR_M = {"pelvis": 0.11, "head": 0.08, "left_hand": 0.05, "right_hand": 0.05}


def own(name: str) -> dict[str, int]:
    return dict(zip(LIMBS, NUMBERS[name])) | OTHERS.get(name, {})


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_is_the_joint_that_its_project_says(name: str) -> None:
    layout, true = get_layout(name), SyntheticActor(1).positions(2.0)[0]
    for joint, place in own(name).items():
        sent = np.full((len(layout.joints), 3), np.nan)
        sent[place] = as_sent(name, true[INDEX[joint]])
        xyz, measured, _, _ = layout.to_canonical(sent)
        assert [JOINTS[j] for j in np.flatnonzero(measured)] == [joint]
        np.testing.assert_allclose(xyz[INDEX[joint]], true[INDEX[joint]], atol=1e-6)
    assert {JOINTS[j] for j in np.flatnonzero(layout.measured)} == set(own(name))
    for joint, places in DERIVED_FROM.get(name, {}).items():
        assert set(np.flatnonzero(layout.weights[INDEX[joint]])) == places
        assert layout.derived[INDEX[joint]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_known_body_comes_out_where_it_is_and_left_is_left(name: str) -> None:
    actor, times = SyntheticActor(3), np.arange(40) / 4.0
    true, turned = actor.positions(times), actor.poses(times)[0]
    layout = get_layout(name)
    xyz, measured, derived, _ = layout.to_canonical(as_sent(name, landmarks(name).at(true, turned)))
    assert (measured == layout.measured).all()
    assert (derived == layout.derived).all()
    off = np.linalg.norm(xyz - true, axis=-1)
    assert off[:, layout.measured].max() < 1e-5
    for j in np.flatnonzero(layout.derived):
        assert off[:, j].max() < NEAR_M.get(JOINTS[j], 0.07), JOINTS[j]
    across = true - true[:, list(MIRROR)]  # from right to left
    for j in np.flatnonzero(layout.measured | layout.derived):
        if JOINTS[j].startswith("left_"):
            found = xyz[:, j] - xyz[:, MIRROR[j]]
            assert ((found * across[:, j]).sum(-1) > 0).all(), JOINTS[j]


def test_rokokos_joints_by_name_are_those_of_its_file(tmp_path: Path) -> None:
    """A BVH under the names of the Newton skeleton, read as a file and as positions in the layout: the same joints."""
    who = person()
    names = named("{side}{name}", "Shoulder", "Arm", "ForeArm", "Hand", "Thigh", "Shin", "Foot", "Toe",
                  Spine="Spine1", Spine1="Spine2", Spine2="Spine4")  # fmt: skip
    (tmp_path / "newton.bvh").write_text(bvh((who, Rig(names))))
    clip = read_clip(tmp_path / "newton.bvh")
    sent = np.full((len(clip.positions), 23, 3), np.nan)
    for joint, xyz in who.positions().items():
        sent[:, get_layout("rokoko_23").joints.index(names.get(joint, joint))] = xyz
    xyz, measured, _, _ = get_layout("rokoko_23").to_canonical(sent)
    assert measured[0].sum() == 22
    for name in ("pelvis", "neck", "head", *LIMBS):
        np.testing.assert_allclose(xyz[:, INDEX[name]], clip.positions[:, INDEX[name]], atol=1e-5, err_msg=name)
