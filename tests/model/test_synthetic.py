"""The synthetic actor is a smooth, deterministic function of time with a rigid skeleton on the ground."""

from __future__ import annotations

import numpy as np
import pytest

from model.kinematics import bone_vectors
from model.motion.synthetic import ACTIONS, SLOT_S, SLOTS, FigureEight, SyntheticActor, stride
from model.skeleton import INDEX, LEAVES, J

SEEDS = (0, 1, 2, 17)


@pytest.mark.parametrize("seed", SEEDS)
def test_bones_are_constant_and_rotations_are_rotations(seed: int) -> None:
    actor = SyntheticActor(seed)
    t_s = np.arange(0, SLOTS * SLOT_S, 0.05)
    world, _ = actor.poses(t_s)
    np.testing.assert_allclose(world @ world.swapaxes(-1, -2), np.broadcast_to(np.eye(3), world.shape), atol=1e-12)
    assert np.linalg.det(world).min() > 0.999
    lengths = np.linalg.norm(bone_vectors(actor.positions(t_s)), axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(actor.lengths_m, lengths.shape), atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_is_smooth_and_as_fast_as_people(seed: int) -> None:
    fps = 240.0
    positions = SyntheticActor(seed).clip(SLOTS * SLOT_S + 3.0, fps)
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=-1) * fps
    acceleration = np.linalg.norm(np.diff(positions, 2, axis=0), axis=-1) * fps**2
    jerk = np.linalg.norm(np.diff(positions, 3, axis=0), axis=-1) * fps**3
    assert speed.max() < 7.0
    assert acceleration.max() < 130.0
    # A jump of the acceleration would show as a jerk of about 130 x 240.
    assert jerk.max() < 10_000.0
    assert speed.mean() > 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_feet_stay_on_the_ground_and_the_actor_on_the_stage(seed: int) -> None:
    positions = SyntheticActor(seed, height_m=1.8).clip(SLOTS * SLOT_S, 30.0)
    feet = positions[:, [INDEX["left_foot"], INDEX["right_foot"], INDEX["left_ankle"], INDEX["right_ankle"]], 1]
    assert feet.min() > -0.01
    assert feet.min(1).max() < 0.08
    assert np.abs(positions[:, 0, [0, 2]]).max() < 12.0
    assert 1.4 < positions[:, INDEX["head"], 1].max() < 1.75


def test_a_planted_foot_does_not_slide_when_walking() -> None:
    phase = np.linspace(0.0, 0.6, 61)
    forward, lift, _ = stride(phase)
    np.testing.assert_allclose(forward + phase, 0.3, atol=1e-12)
    assert np.all(lift == 0.0)


def test_any_rate_samples_the_same_motion_and_the_seed_decides() -> None:
    actor, twin, other = SyntheticActor(3), SyntheticActor(3), SyntheticActor(4)
    np.testing.assert_allclose(actor.clip(6.0, 60.0)[::2], twin.clip(6.0, 30.0), atol=1e-12)
    world, root = actor.pose(2.5)
    assert world.shape == (J, 3, 3)
    np.testing.assert_allclose(root, actor.positions([1.0, 2.5])[1, 0], atol=1e-12)
    assert np.abs(actor.clip(1.0, 30.0) - other.clip(1.0, 30.0)).max() > 0.05


def test_endless_and_every_action_comes() -> None:
    actor = SyntheticActor(0)
    an_hour = 3600.0 + np.arange(0.0, 10.0, 1 / 60)
    positions = actor.positions(an_hour)
    assert np.isfinite(positions).all()
    assert np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() * 60 < 7.0
    assert len(ACTIONS) == 6
    cycle = actor.clip(SLOTS * SLOT_S, 30.0)
    assert cycle[:, 0, 1].min() < 0.75 * cycle[:, 0, 1].max()  # squats
    wrists = cycle[:, [INDEX["left_wrist"], INDEX["right_wrist"]], 1].max(1)
    assert wrists.max() > cycle[:, INDEX["head"], 1].max()  # waves


def test_the_path_closes_and_its_heading_is_its_direction() -> None:
    path = FigureEight(20.0)
    s = np.linspace(0.0, 20.0, 2001)
    position, heading = path.at(s)
    np.testing.assert_allclose(position[0], position[-1], atol=1e-9)
    step = np.diff(position, axis=0) / 0.01
    middle = path.at(0.5 * (s[1:] + s[:-1]))[1]
    np.testing.assert_allclose(step, np.stack([np.sin(middle), np.cos(middle)], -1), atol=1e-4)
    assert np.abs(heading).max() < 2.41


def test_leaves_turn_with_their_parents() -> None:
    world, _ = SyntheticActor(0).pose(1.0)
    assert np.isfinite(world[list(LEAVES)]).all()
