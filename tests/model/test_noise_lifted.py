"""The simulated monocular estimator looks like real ones by its statistics, at any frame rate and from any side."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from model.motion.synthetic import SyntheticActor
from model.noise import lifted as noise_lifted
from model.noise.corruption import Corrupted
from model.noise.fixed import make_noise
from model.noise.report import statistics
from model.skeleton import INDEX, PARENTS, J, rest_offsets

FPS = 30.0


def even_times(motion: np.ndarray, fps: float = FPS) -> np.ndarray:
    return np.broadcast_to(np.arange(motion.shape[1]) / fps, motion.shape[:2])


@lru_cache(maxsize=2)
def seen_at(fps: float) -> tuple[np.ndarray, Corrupted]:
    """Synthetic motion (24, 8 s, J, 3) at a frame rate, and what the estimator makes of it."""
    clips = [SyntheticActor(seed).clip(24.0, fps) for seed in range(8)]
    motion = np.concatenate(clips).reshape(24, -1, J, 3).astype(np.float32)
    return motion, make_noise("lifted", np.random.default_rng(0), motion, even_times(motion, fps))


def relative(points: np.ndarray) -> np.ndarray:
    return points - points[:, :, :1]


def test_it_has_the_statistics_of_real_estimators() -> None:
    motion, drawn = seen_at(FPS)
    s = statistics(drawn, motion, FPS)
    assert 50 < np.median(s.mpjpe_mm) < 90
    assert 0.25 < s.ratio < 0.40
    np.testing.assert_allclose(s.correlation, (0.97, 0.84, 0.67, 0.39), atol=0.1)
    assert 0.02 < s.bone_std < 0.06
    assert 0.95 < s.visible < 1.0
    view = noise_lifted.view_of(np.random.default_rng(0), motion)  # the camera is drawn first
    error = relative(drawn.positions - motion) @ view.camera_from_world[:, None].swapaxes(-1, -2)
    across, up, depth = (error**2).mean((0, 1, 2))
    assert 2 < np.sqrt(depth / (0.5 * (across + up))) < 5


def test_it_is_correlated_over_seconds_not_frames() -> None:
    slow, fast = (statistics(seen_at(fps)[1], seen_at(fps)[0], fps) for fps in (FPS, 90.0))
    np.testing.assert_allclose(fast.correlation[1:], slow.correlation[1:], atol=0.1)  # two draws of 24 sequences
    assert fast.mpjpe_mm.mean() == pytest.approx(slow.mpjpe_mm.mean(), rel=0.1)


def test_confidence_falls_with_the_error_and_what_is_dropped_is_among_the_least_sure() -> None:
    motion, drawn = seen_at(FPS)
    _, mask, confidence = noise_lifted.lifted(np.random.default_rng(0), motion, even_times(motion))
    np.testing.assert_array_equal(mask, drawn.mask)
    np.testing.assert_array_equal(drawn.confidence > 0, mask)
    assert np.isfinite(drawn.positions).all()
    assert confidence.min() >= 0.02
    assert confidence[~mask].max() < 0.5 < np.median(confidence)
    assert 0.2 < (~mask).any((1, 2)).mean() < 0.8  # the other sources only say how unsure they are
    size = np.linalg.norm(relative(drawn.positions - motion), axis=-1)
    means = [size[mask & (confidence >= low) & (confidence < low + 0.3)].mean() for low in (0.1, 0.4, 0.7)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 1.2 * means[-1]


def test_it_is_the_same_anywhere_in_the_world_and_from_the_same_seed() -> None:
    motion = seen_at(FPS)[0][:4]
    here, again, there = (
        make_noise("lifted", np.random.default_rng(3), motion + at, even_times(motion))
        for at in (np.zeros(3, np.float32), np.zeros(3, np.float32), np.float32([64.0, 0.0, -32.0]))
    )
    np.testing.assert_array_equal(here.positions, again.positions)
    np.testing.assert_array_equal(here.confidence, again.confidence)
    moved = np.abs(relative(there.positions) - relative(here.positions))
    assert np.quantile(moved, 0.98) < 1e-3  # a keypoint on the edge of a heatmap cell may fall into the next
    assert (here.mask == there.mask).mean() > 0.99


def test_uneven_and_doubled_frames_and_a_single_one_are_no_trouble() -> None:
    motion = seen_at(FPS)[0][:2]
    times_s = np.cumsum(np.random.default_rng(0).choice([0.0, 1e-4, 0.03, 0.1], motion.shape[:2]), axis=1)
    for steps in (1, 2, motion.shape[1]):
        drawn = make_noise("lifted", np.random.default_rng(1), motion[:, :steps], times_s[:, :steps])
        assert drawn.positions.shape == motion[:, :steps].shape
        assert np.isfinite(drawn.positions).all()
        assert np.abs(relative(drawn.positions - motion[:, :steps])).max() < 2.0


def test_a_joint_behind_the_torso_is_occluded_and_one_before_it_is_not() -> None:
    pose = rest_offsets()
    for j, parent in enumerate(PARENTS):
        pose[j] += pose[parent] if parent >= 0 else (0.0, 0.0, 4.0)
    hand, spine = INDEX["left_hand"], INDEX["spine2"]
    for depth_m, hidden in ((0.5, 1.0), (-0.5, 0.0)):
        pose[hand] = pose[spine] + (0.0, 0.0, depth_m)
        assert noise_lifted.occlusion(pose[None, None].astype(np.float32))[0, 0, hand] == hidden
