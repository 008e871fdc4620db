"""What sources mean by their joints: constants in the axes of the bones, by kinds, drawn from a seed."""

from __future__ import annotations

import numpy as np
import pytest

from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.noise.definitions import KINDS, ODDS, Defined, define, mean_bones, put, rest_bones
from model.skeleton import INDEX, PARENTS, J

T_S = np.arange(40) / 20.0
ACTORS = [SyntheticActor(seed) for seed in range(12)]
POSITIONS = np.stack([actor.positions(T_S) for actor in ACTORS])
ROTATIONS = np.stack([actor.poses(T_S)[0] for actor in ACTORS])
PARENT_OR_ROOT = [max(p, 0) for p in PARENTS]


def of(kind: str, seed: int = 0, count: int = 12) -> Defined:
    return define(np.random.default_rng(seed), POSITIONS[:count], ROTATIONS[:count], [kind] * count)


def test_the_same_seed_defines_the_same_and_another_one_does_not() -> None:
    one, same, other = of("h36m"), of("h36m"), of("h36m", seed=1)
    np.testing.assert_array_equal(one.positions, same.positions)
    assert np.abs(one.offsets_m - other.offsets_m).max() > 0.01
    assert np.abs(one.offsets_m[0] - one.offsets_m[1]).max() > 0.01  # each sequence its own


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_stands_still_in_the_axes_of_the_parent(kind: str) -> None:
    defined = of(kind)
    inside = np.einsum("btjca,btjc->btja", ROTATIONS[:, :, PARENT_OR_ROOT], defined.positions - POSITIONS)
    np.testing.assert_allclose(inside, np.broadcast_to(defined.offsets_m[:, None], inside.shape), atol=1e-5)


def test_our_own_definition_moves_nothing() -> None:
    own = of("own")
    np.testing.assert_allclose(own.positions, POSITIONS, atol=1e-6)
    assert own.given.all()


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "own"])
def test_offsets_are_as_large_as_those_of_real_sources(kind: str) -> None:
    defined = of(kind)
    apart = np.linalg.norm(defined.offsets_m, axis=-1)[defined.given]
    assert 0.008 < apart.mean() < 0.06
    assert apart.max() < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_what_its_layout_measures_or_shows(kind: str) -> None:
    given, layout = of(kind).given, get_layout(KINDS[kind].layout)
    has = given.any(0)
    assert not (has & ~(layout.measured | layout.derived)).any()
    if KINDS[kind].layout != "smpl_24":  # those joints always come
        assert given[:, layout.measured].all()


def test_forks_are_one_choice() -> None:
    defined = of("bvh")
    collars, hips = ([INDEX[f"{side}_{name}"] for side in ("left", "right")] for name in ("collar", "hip"))
    from_neck = np.linalg.norm(defined.positions[:, 0, collars] - defined.positions[:, 0, [INDEX["neck"]]], axis=-1)
    at_the_neck = from_neck.max(1) < 1e-5
    assert 3 <= at_the_neck.sum() <= 11  # six in ten
    assert from_neck[~at_the_neck].min() > 0.02
    middle = np.linalg.norm(defined.positions[:, 0, hips].mean(1) - defined.positions[:, 0, 0], axis=-1)
    assert 2 <= (middle < 1e-5).sum() <= 11
    without = of("suit").given[:, collars]
    assert (without[:, 0] == without[:, 1]).all()


def test_left_and_right_mirror_each_other_but_for_a_little() -> None:
    offsets = of("mediapipe").offsets_m
    left, right = offsets[:, INDEX["left_knee"]], offsets[:, INDEX["right_knee"]] * (-1.0, 1.0, 1.0)
    apart = np.linalg.norm(left - right, axis=-1)
    assert 0.0 < apart.mean() < 0.4 * np.linalg.norm(left, axis=-1).mean()


def test_the_nearest_constant_skeleton_of_defined_joints() -> None:
    np.testing.assert_allclose(mean_bones(POSITIONS, ROTATIONS), rest_bones(POSITIONS, ROTATIONS), atol=1e-5)
    defined = of("mediapipe")
    bones, offsets = mean_bones(defined.positions, ROTATIONS), defined.offsets_m
    own = rest_bones(POSITIONS, ROTATIONS)
    hip, knee = INDEX["left_hip"], INDEX["left_knee"]
    # The knee's own offset in full; the hip's, which stands still in the pelvis, as the thigh's axes see it.
    turned = np.einsum("btca,btcd,bd->bta", ROTATIONS[:, :, hip], ROTATIONS[:, :, 0], offsets[:, hip])
    np.testing.assert_allclose(bones[:, knee], own[:, knee] + offsets[:, knee] - turned.mean(1), atol=1e-5)


def test_kinds_are_drawn_by_their_odds() -> None:
    assert sum(ODDS.values()) == pytest.approx(1.0)
    assert list(ODDS) == list(KINDS)
    many = define(np.random.default_rng(0), np.tile(POSITIONS[:1, :1], (600, 1, 1, 1)),
                  np.tile(ROTATIONS[:1, :1], (600, 1, 1, 1, 1)))  # fmt: skip
    share = np.bincount(many.kind, minlength=len(KINDS)) / 600
    np.testing.assert_allclose(share, list(ODDS.values()), atol=0.06)
    assert many.positions.dtype == np.float32


def test_a_larger_body_has_larger_offsets() -> None:
    small = define(np.random.default_rng(3), POSITIONS[:1], ROTATIONS[:1], ["suit"])
    large = define(np.random.default_rng(3), 1.2 * POSITIONS[:1], ROTATIONS[:1], ["suit"])
    np.testing.assert_allclose(large.offsets_m, 1.2 * small.offsets_m, atol=1e-5)
    np.testing.assert_allclose(rest_bones(POSITIONS[:1], ROTATIONS[:1])[0], ACTORS[0].offsets_m, atol=1e-9)
    moved = put(POSITIONS[:1], ROTATIONS[:1], np.zeros((1, J, 3), np.float32))
    np.testing.assert_allclose(moved, POSITIONS[:1], atol=1e-6)
