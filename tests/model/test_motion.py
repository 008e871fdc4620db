"""Motion for training: clips are read at their times, and what is made of them is still a body that moves."""

from __future__ import annotations

import numpy as np
import pytest

from model.kinematics import fork_frames, forward_kinematics
from model.motion.endless import (
    PARTS,
    Motion,
    MotionSampler,
    Moving,
    bent,
    mirrored,
    regauge,
    rotations_of,
    with_part_of,
)
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, MIRROR, J, rest_offsets

FLIP = np.array([-1.0, 1.0, 1.0])


def draw(
    motion: Motion, seed: int, size: int = 12, augment: bool = True
) -> tuple[np.ndarray, Moving, Moving, np.ndarray]:
    sampler = MotionSampler(motion, np.random.default_rng(seed), augment)
    times = np.tile(np.arange(40) / 30.0, (size, 1))
    return sampler.draw(times, np.linspace(-0.2, 0.15, size))


def assert_rotations(matrices: np.ndarray) -> None:
    np.testing.assert_allclose(
        matrices @ np.swapaxes(matrices, -1, -2), np.broadcast_to(np.eye(3), matrices.shape), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0, atol=1e-5)


def test_the_same_generator_draws_the_same_motion(motion: Motion) -> None:
    first, second, other = draw(motion, 3), draw(motion, 3), draw(motion, 4)
    np.testing.assert_array_equal(first[1].world_rot, second[1].world_rot)
    assert np.abs(first[1].world_rot - other[1].world_rot).max() > 0.1


def test_unaugmented_motion_is_the_clips_own(motion: Motion) -> None:
    """Every drawn frame stands in the clip that the body comes from, but for where it is."""
    times, now, _, offsets = draw(motion, 0, augment=False)
    for row in range(len(times)):
        clip = int(np.argmin(np.abs(motion.offsets_m - offsets[row]).max((1, 2))))
        frames = motion.world_rot[motion.start[clip] : motion.start[clip] + motion.length[clip]]
        nearest = np.abs(frames - now.world_rot[row, 7]).mean((1, 2, 3)).min()
        assert nearest < 0.02  # between two captured frames


@pytest.mark.parametrize("seed", range(3))
def test_augmented_motion_is_made_of_rotations_and_moves_smoothly(motion: Motion, seed: int) -> None:
    times, now, then, offsets = draw(motion, seed)
    assert_rotations(now.world_rot)
    assert_rotations(then.world_rot)
    for part in (now, then):
        speed = np.linalg.norm(np.diff(part.positions(offsets), axis=1), axis=-1) / np.diff(times)[..., None]
        assert speed.max() < 25.0  # m/s: no joint jumps
        unknown = np.isnan(part.contact)
        assert np.isin(part.contact[~unknown], (0.0, 1.0)).all()
        assert 0 < unknown.mean() < 0.5  # of motions that nobody made


def test_the_pose_asked_for_is_the_same_motion_at_another_time(motion: Motion) -> None:
    """tau is a whole number of frames here: then[k] is now[k + 3] of the same draw."""
    times = np.tile(np.arange(40) / 30.0, (20, 1))
    _, now, then, offsets = MotionSampler(motion, np.random.default_rng(5)).draw(times, np.full(20, 0.1))
    a, b = now.positions(offsets)[:, 3:], then.positions(offsets)[:, :-3]
    assert np.abs(a - b).max() < 2e-3


def test_bodies_are_canonical_and_of_human_size(motion: Motion) -> None:
    offsets = draw(motion, 1, 16)[3].astype(np.float64)
    want = np.broadcast_to(fork_frames(rest_offsets()), (16, 2, 3, 3))
    np.testing.assert_allclose(fork_frames(offsets), want, atol=1e-4)
    lengths = np.linalg.norm(offsets, axis=-1)[:, 1:]
    assert np.all((lengths > 0.01) & (lengths < 1.0))


def test_regauge_is_canonical_rigid_and_done_after_once() -> None:
    own = rest_offsets() + 0.03 * np.random.default_rng(0).standard_normal((5, J, 3))
    out = regauge(own)
    np.testing.assert_allclose(fork_frames(out), np.broadcast_to(fork_frames(rest_offsets()), (5, 2, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), np.linalg.norm(own, axis=-1), atol=1e-12)
    np.testing.assert_allclose(regauge(out), out, atol=1e-12)
    np.testing.assert_allclose(regauge(rest_offsets()), rest_offsets(), atol=1e-12)


def test_a_regauged_body_stands_in_the_same_places() -> None:
    """Turning a fork's rest bones is made up for by turning its rotation the other way."""
    actor = SyntheticActor(4)
    own = actor.offsets_m + 0.02 * np.random.default_rng(0).standard_normal((J, 3))
    world, root = actor.poses(np.arange(5) / 5)
    turn = fork_frames(own) @ np.swapaxes(fork_frames(regauge(own)), -1, -2)  # own_from_canonical
    turned = world.copy()
    for i, fork in enumerate((INDEX["pelvis"], INDEX["spine3"])):
        turned[:, fork] = world[:, fork] @ turn[i]
    a, b = forward_kinematics(world, own, root), forward_kinematics(turned, regauge(own), root)
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_mirroring_is_a_reflection_and_twice_is_nothing(motion: Motion) -> None:
    _, now, _, offsets = draw(motion, 2, augment=False)
    other = mirrored(now)
    assert_rotations(other.world_rot)
    reflected = other.positions(offsets[:, list(MIRROR)] * FLIP.astype(np.float32))
    np.testing.assert_allclose(reflected, now.positions(offsets)[:, :, list(MIRROR)] * FLIP, atol=1e-5)
    for a, b in zip(mirrored(other), now, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("joints", "anchor"), [(joints, anchor) for joints, anchor, _ in PARTS])
def test_a_part_of_another_hangs_where_it_did(joints: list[int], anchor: str) -> None:
    world, other = (SyntheticActor(seed).poses(np.arange(6) / 3.0)[0][None] for seed in (0, 1))
    mixed, a = with_part_of(world, other, joints, anchor), INDEX[anchor]
    rest = [j for j in range(J) if j not in joints]
    np.testing.assert_array_equal(mixed[:, :, rest], world[:, :, rest])
    assert np.abs(mixed - world).max() > 0.1
    between = mixed[:, :, joints] @ np.swapaxes(other[:, :, joints], -1, -2)  # one turn for the whole part
    np.testing.assert_allclose(between, np.broadcast_to(between[:, :, :1], between.shape), atol=1e-6)
    if anchor == "pelvis":  # the heading alone: up stays up
        np.testing.assert_allclose(between[..., 1], np.broadcast_to([0.0, 1.0, 0.0], between.shape[:-1]), atol=1e-6)
    else:
        on = [np.swapaxes(x[:, :, a], -1, -2)[:, :, None] @ x[:, :, joints] for x in (mixed, other)]
        np.testing.assert_allclose(*on, atol=1e-6)


def test_a_bend_takes_its_descendants_with_it() -> None:
    world = SyntheticActor(0).poses(np.arange(4) / 3.0)[0]
    bends = np.tile(np.eye(3), (4, J, 1, 1))
    np.testing.assert_allclose(bent(world, bends), world, atol=1e-12)
    elbow = INDEX["left_elbow"]
    bends[:, elbow] = rotations_of(np.array([0.0, 0.5, 0.0]))
    out = bent(world, bends)
    changed = np.abs(out - world).max((0, 2, 3)) > 1e-6
    assert set(np.flatnonzero(changed)) == {elbow, INDEX["left_wrist"], INDEX["left_hand"]}
    np.testing.assert_allclose(np.swapaxes(world[:, elbow], -1, -2) @ out[:, elbow], bends[:, elbow], atol=1e-12)


def test_rotation_vectors_turn_by_their_length() -> None:
    quarter = rotations_of(np.array([[0.0, np.pi / 2, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(quarter[0] @ [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(quarter[1], np.eye(3), atol=1e-6)
