"""What training draws of real sources: definitions are no error, half-seen bodies, broken frames, pairs with truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.kinematics import forward_kinematics
from model.motion.endless import Motion, MotionSampler
from model.motion.synthetic import SyntheticActor
from model.noise.cameras import cameras_error, outlying, swapped
from model.noise.config import SOURCES, NoiseConfig
from model.noise.corruption import corrupt
from model.noise.definitions import define
from model.noise.half_seen import made_up, out_of_sight
from model.skeleton import INDEX, J
from model.training.dataset import Batch, Sampler, gauged
from model.training.held_out import RENDERED_HELD_OUT
from model.training.losses import contact_loss
from model.training.pairs import cut, read_takes

CLEAN = NoiseConfig(clean=1.0, white=0, hpstm=0, sensor=0, wander=0, dropout=0, flicker=0, stuck=0, confidence=0)
TIMES_S = np.tile(np.arange(90) / 30.0, (8, 1))


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def still() -> np.ndarray:
    return np.stack([SyntheticActor(seed).positions(TIMES_S[0]) for seed in range(8)]).astype(np.float32)


def test_without_noise_what_a_source_shows_is_the_truth_as_it_defines_it(motion: Motion) -> None:
    drawn = Sampler(motion, 5, CLEAN).draw(24, 30, tau_s=0.0)
    shown = drawn.frames.mask.flatten(2) > 0  # (B, T, J)
    given = drawn.frames.positions[:, :, 0].transpose(2, 3)  # (B, T, J, 3)
    for joint in (0, INDEX["left_elbow"], INDEX["left_wrist"]):
        seen = shown[:, :, joint]
        assert torch.allclose(given[:, :, joint][seen], drawn.target.positions[:, :, joint][seen], atol=1e-5)
        assert seen.any()
    assert 0.1 < float(shown[:, :, INDEX["left_hand"]].float().mean()) < 0.9  # some sources lack joints


def test_definitions_reach_the_target_and_not_every_source_has_one(motion: Motion) -> None:
    sampler = Sampler(motion, 5, CLEAN)
    kinds, layouts = sampler._sources(400)
    assert 0.4 < np.mean([kind == "own" for kind in kinds]) < 0.75
    assert len(set(kinds)) == 7
    assert {"smpl_24", "h36m_17", "coco_17", "mediapipe_33"} <= set(layouts)


def test_skeleton_and_rotations_of_the_target_give_rigid_joints_back(motion: Motion) -> None:
    sampler = MotionSampler(motion, rng())
    _, now, _, offsets = sampler.draw(TIMES_S[:4], np.zeros(4))
    positions = now.positions(offsets)
    world_rot, skeleton = gauged(positions, now.world_rot)
    again = forward_kinematics(world_rot, skeleton[:, None], positions[:, :, 0])
    assert np.abs(again - positions).max() < 2e-4
    defined = define(rng(), positions, now.world_rot, ["suit"] * 4)
    _, other = gauged(defined.positions, now.world_rot)
    assert np.abs(other - skeleton).max() > 0.01


def test_what_is_out_of_sight_stays_so_or_comes_and_goes_once() -> None:
    hidden = out_of_sight(rng(), np.tile(TIMES_S, (10, 1)))
    assert hidden.any((1, 2)).mean() > 0.9
    assert not hidden.all(2).any()  # never the whole body
    turns = np.abs(np.diff(hidden.astype(int), axis=1)).sum(1).max(1)
    assert turns.max() == 1


def test_made_up_joints_stand_still_on_the_body_and_are_not_trusted() -> None:
    positions = still()
    hidden = np.zeros((8, 90, J), bool)
    hidden[:, :, INDEX["left_ankle"]] = True
    told, confidence = made_up(rng(), positions, TIMES_S, hidden)
    np.testing.assert_array_equal(told[~hidden], positions[~hidden])
    assert np.abs(told[hidden] - positions[hidden]).mean() > 0.01
    assert confidence.max() < 0.6
    relative = told[:, :, INDEX["left_ankle"]] - positions.mean(2)
    assert relative.std(1).max() < 0.03


def test_outliers_are_few_and_short_and_swaps_exchange_sides() -> None:
    positions = still()
    out = outlying(rng(), positions, np.full(8, 0.05), np.full(8, 0.4))
    off = np.linalg.norm(out - positions, axis=-1) > 1e-4
    assert 0.02 < off.mean() < 0.08
    assert np.linalg.norm(out - positions, axis=-1).max() < 0.85
    runs = off & np.roll(off, 1, 1) & np.roll(off, 2, 1)
    assert runs.mean() < 0.005
    side = swapped(rng(), positions, np.full(8, 0.1))
    changed = np.abs(side - positions).max(-1) > 1e-4
    assert 0.02 < changed.any(2).mean() < 0.6
    np.testing.assert_allclose(np.sort(side, 2), np.sort(positions, 2))  # nothing but places exchanged


def test_cameras_are_quiet_then_burst() -> None:
    times_s = np.tile(np.arange(300) / 50.0, (16, 1))
    positions = np.stack([SyntheticActor(seed).positions(times_s[0]) for seed in range(16)]).astype(np.float32)
    error = cameras_error(rng(), positions, times_s)
    step = np.linalg.norm(np.diff(error, axis=1), axis=-1)
    assert np.isfinite(error).all()
    assert np.median(step) < 0.02
    assert np.quantile(step, 0.99) / np.median(step) > 5  # FIELD.md: 6.6


def test_a_few_views_err_along_some_directions_and_arms_most() -> None:
    times_s = np.tile(np.arange(200) / 50.0, (64, 1))
    positions = np.tile(still()[:1, :1], (64, 200, 1, 1))
    error = cameras_error(rng(), positions, times_s)
    size = np.median(np.linalg.norm(error, axis=-1), axis=1)  # (B, J)
    assert np.median(size[:, INDEX["left_wrist"]] / size[:, INDEX["left_hip"]]) > 1.4
    knee = error[:, :, INDEX["left_knee"]][..., ::2]
    usual = np.linalg.norm(knee, axis=-1) < 3 * size[:, INDEX["left_knee"], None]
    spread = [np.linalg.svd(row[kept], compute_uv=False) for row, kept in zip(knee, usual)]
    longer = np.array([long / short for long, short in spread])
    assert 0.2 < (longer > 1.5).mean() < 0.9  # of two cameras on one side


def test_training_s_noise_hides_makes_up_and_stays_finite() -> None:
    positions = np.tile(still(), (8, 1, 1, 1))
    drawn = corrupt(rng(), positions, np.tile(TIMES_S, (8, 1)), SOURCES)
    assert np.isfinite(drawn.positions).all()
    assert 0.03 < (~drawn.mask).all(1).any(1).mean() < 0.5  # some never see a joint
    assert ((drawn.confidence > 0) == drawn.mask).all()
    assert (drawn.confidence[drawn.mask] < 0.25).mean() > 0.01


def test_contact_that_is_not_known_teaches_nothing() -> None:
    logits = torch.zeros(2, 3, 2, requires_grad=True)
    contact = torch.full((2, 3, 2), torch.nan)
    contact[0, 0, 0] = 1.0
    contact_loss(logits, contact).backward()
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 1


def write_take(path: Path, subject: str, frames: int = 60) -> None:
    """A take in the form of the data folder's rendered/: landmarks that are the truth's joints, moved and noisy."""
    times = np.arange(frames) / 30.0
    actor = SyntheticActor(4)
    truth, rot = actor.positions(times), actor.poses(times)[0]
    world = np.zeros((frames, 33, 3))
    names = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for i, name in zip((11, 13, 15, 23, 25, 27), names):
        for side, at in (("left", i), ("right", i + 1)):
            world[:, at] = truth[:, INDEX[f"{side}_{name}"]] + rng().normal(0, 0.004, (frames, 3))
    world -= world[:, [23, 24]].mean(1, keepdims=True)
    np.savez(path, world_m=world * [1, -1, -1], visibility=np.ones((frames, 33)), time_s=times, truth_m=truth,
             truth_world_rot=rot, meta=json.dumps({"subject": subject}))  # fmt: skip


def test_pairs_leave_out_who_is_held_out_and_keep_what_is_constant(tmp_path: Path, motion: Motion) -> None:
    for subject in ("001", RENDERED_HELD_OUT[0]):
        write_take(tmp_path / f"{subject}.npz", subject)
    (take,) = read_takes(sorted(tmp_path.glob("*.npz")), RENDERED_HELD_OUT)
    assert take.subject == "001"
    joints = [INDEX["left_knee"], INDEX["right_wrist"]]
    assert np.abs(np.median(take.noisy[:, joints] - take.truth[:, joints], 0)).max() < 0.004
    batch = Batch.of(Sampler(motion, 1).pairs([take], 4, 40))
    assert torch.isnan(batch.target.contact).all()
    assert torch.isfinite(batch.seen.features).all()
    drawn = cut(rng(), [take], 6, 40, np.zeros(6))
    error = np.linalg.norm(drawn.noisy[:, :, joints] - drawn.truth[:, :, joints], axis=-1)
    assert error.mean() < 0.02  # turned, mirrored and scaled alike


@pytest.mark.parametrize("rate", [1.0, 3.0])
def test_spins_turn_the_body_about_itself(rate: float, motion: Motion) -> None:
    sampler = MotionSampler(motion, rng())
    times = np.tile(np.arange(60) / 60.0, (800, 1)) * rate
    _, now, _, _ = sampler.draw(times, np.zeros(800))
    det = np.linalg.det(now.world_rot[:, ::20].astype(np.float64))
    np.testing.assert_allclose(det, 1.0, atol=1e-4)
    ahead = now.world_rot[:, :, 0, :, 2]
    turn = np.arccos(np.clip((ahead[:, 1:] * ahead[:, :-1]).sum(-1), -1, 1)) / np.diff(times, axis=1)
    assert 2 * np.pi < np.quantile(turn, 0.995) < 2 * np.pi * 6
