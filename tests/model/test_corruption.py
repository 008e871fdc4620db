"""The noise is the noise that FIELD.md describes: statistics, determinism, what a mask and a confidence mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.kinematics import bone_vectors
from model.motion.synthetic import SyntheticActor
from model.noise import events, steady
from model.noise.config import REALISTIC, NoiseConfig
from model.noise.corruption import Corrupted, corrupt, sample_times
from model.noise.fixed import LEARNED, LOSSES, NOISES, make_noise
from model.noise.report import ESTIMATOR_ONLY, noise_report, statistics
from model.skeleton import INDEX, J

FPS = 30.0


@pytest.fixture(scope="module")
def motion() -> np.ndarray:
    clips = [SyntheticActor(seed).clip(64.0, FPS) for seed in range(8)]
    return np.concatenate(clips).reshape(64, -1, J, 3).astype(np.float32)


def even_times(motion: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(motion.shape[1]) / FPS, motion.shape[:2])


def draw(motion: np.ndarray, config: NoiseConfig, seed: int = 0) -> Corrupted:
    return corrupt(np.random.default_rng(seed), motion, even_times(motion), config)


NOTHING = NoiseConfig(
    clean=0.0, white=0.0, hpstm=0.0, sensor=0.0, wander=0.0, deep=0.0, slow=0.0, root_drift=0.0, bias=0.0,
    bone_scale=0.0, jitter=0.0, bursts=0.0, stuck=0.0, dropout=0.0, flicker=0.0, confidence=0.0, bone_keep=(0.0, 0.0),
)  # fmt: skip


def test_estimator_noise_has_the_statistics_of_real_estimators(motion: np.ndarray) -> None:
    s = statistics(draw(motion, ESTIMATOR_ONLY), motion, FPS)
    assert 0.2 < s.ratio < 0.4
    assert 0.6 < s.correlation[2] < 0.75  # at 200 ms
    assert 0.2 < s.correlation[3] < 0.5  # at 500 ms
    assert 0.01 < s.bone_std < 0.06
    ends = s.per_joint_mm[[20, 21, 22, 23, 7, 8, 10, 11]].mean()
    assert 1.5 < ends / s.per_joint_mm[[3, 6, 9, 12, 13, 14, 16, 17]].mean() < 2.5
    assert 40 < np.median(s.mpjpe_mm) < 110


def test_fixed_noises_have_the_sizes_in_their_names(motion: np.ndarray) -> None:
    def error(name: str) -> np.ndarray:
        drawn = make_noise(name, np.random.default_rng(1), motion, even_times(motion))
        return drawn.positions - motion

    assert error("white10").std() == pytest.approx(0.010, rel=0.01)
    assert error("ar30").std() == pytest.approx(np.hypot(0.030, 0.006), rel=0.05)
    assert np.all(error("clean") == 0.0)
    hpstm = make_noise("hpstm", np.random.default_rng(1), motion, even_times(motion))
    assert 24 < statistics(hpstm, motion, FPS).mpjpe_mm.mean() < 31  # FIELD.md measured 27.1
    realistic = make_noise("realistic", np.random.default_rng(1), motion, even_times(motion))
    assert 0.2 < statistics(realistic, motion, FPS).ratio < 0.4
    assert not realistic.mask.all()
    with pytest.raises(ValueError, match="white10"):
        make_noise("pink", np.random.default_rng(0), motion, even_times(motion))


def test_a_suit_that_trembles_keeps_its_bones(motion: np.ndarray) -> None:
    drawn = make_noise("turns", np.random.default_rng(1), motion, even_times(motion)).positions
    length, true = (np.linalg.norm(bone_vectors(x), axis=-1) for x in (drawn, motion))
    np.testing.assert_allclose(length, true, atol=2e-6)
    off = np.linalg.norm(drawn - motion, axis=-1).mean((0, 1))
    assert off[0] == 0.0
    assert 0.005 < off[INDEX["left_hip"]] < off[INDEX["left_knee"]] < off[INDEX["left_foot"]] < 0.04


@pytest.mark.parametrize("name", [*NOISES, *LEARNED])
def test_same_seed_same_noise(motion: np.ndarray, name: str) -> None:
    first, again = (make_noise(name, np.random.default_rng(5), motion[:6], even_times(motion[:6])) for _ in range(2))
    for a, b in ((first.positions, again.positions), (first.mask, again.mask), (first.confidence, again.confidence)):
        np.testing.assert_array_equal(a, b)
    assert first.positions.dtype == np.float32
    assert first.confidence.dtype == np.float32
    assert first.mask.dtype == bool


def test_clean_sequences_are_exactly_clean_where_visible_and_half_have_no_gaps(motion: np.ndarray) -> None:
    drawn = draw(motion, NoiseConfig(clean=1.0, white=0.0, hpstm=0.0, sensor=0.0, dropout=1.0))
    np.testing.assert_array_equal(drawn.positions[drawn.mask], motion[drawn.mask])
    whole = drawn.mask.all((1, 2))
    assert 0.2 < whole.mean() < 0.8
    np.testing.assert_array_equal(drawn.positions[whole], motion[whole])


def test_a_tenth_is_clean_by_default(motion: np.ndarray) -> None:
    big = np.repeat(motion[:, :20], 8, 0)
    drawn = corrupt(np.random.default_rng(0), big, even_times(big), replace(NoiseConfig(), dropout=0.0, flicker=0.0))
    assert 0.06 < (drawn.positions == big).all((1, 2, 3)).mean() < 0.14


def test_masked_joints_hold_the_last_visible_position_and_have_no_confidence(motion: np.ndarray) -> None:
    drawn = draw(motion, replace(REALISTIC, dropout_hz=(3.0, 4.0), flicker=1.0))
    assert np.isfinite(drawn.positions).all()
    np.testing.assert_array_equal(drawn.confidence > 0, drawn.mask)
    assert drawn.confidence.max() <= 1.0
    for b, t, j in np.argwhere(~drawn.mask)[::501]:
        seen = np.flatnonzero(drawn.mask[b, :t, j])
        held = drawn.positions[b, seen[-1], j] if len(seen) else drawn.positions[b, 0, 0]
        if len(seen) or drawn.mask[b, 0, 0]:
            np.testing.assert_array_equal(drawn.positions[b, t, j], held)


def test_confidence_falls_with_the_true_error(motion: np.ndarray) -> None:
    drawn = draw(motion, replace(ESTIMATOR_ONLY, confidence=1.0, dropout=0.0, flicker=0.0, root_drift=0.0))
    error = np.linalg.norm(drawn.positions - motion, axis=-1)
    ranks = np.corrcoef(np.argsort(np.argsort(error.ravel())), np.argsort(np.argsort(drawn.confidence.ravel())))
    assert -0.9 < ranks[0, 1] < -0.2  # related, not a giveaway


def test_the_world_far_away_has_the_same_noise(motion: np.ndarray) -> None:
    here = draw(motion[:8], ESTIMATOR_ONLY, 3)
    there = draw(motion[:8] + np.float32([64.0, 0.0, -32.0]), ESTIMATOR_ONLY, 3)
    np.testing.assert_allclose(there.positions - np.float32([64.0, 0.0, -32.0]), here.positions, atol=1e-4)


COMPONENTS = ["slow", "root_drift", "bias", "bone_scale", "jitter", "deep", "bursts", "stuck", "wander"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_can_be_had_alone(motion: np.ndarray, component: str) -> None:
    np.testing.assert_allclose(draw(motion[:8], NOTHING).positions, motion[:8], atol=2e-6)
    drawn = draw(motion[:8], replace(NOTHING, **{component: 1.0}))
    moved = np.linalg.norm(drawn.positions - motion[:8], axis=-1)
    assert moved.max() > 0.01
    assert moved.max() < 4.0
    assert drawn.mask.all()


def test_wandering_has_a_time_constant_of_its_own_and_may_be_the_whole_bodys(motion: np.ndarray) -> None:
    config = replace(NOTHING, wander=1.0, wander_m=(0.02, 0.02), wander_s=(0.5, 0.5), wander_white=(0.01, 0.01))
    error = (draw(motion, config).positions - motion).astype(float)
    late, early = error[:, 6:], error[:, :-6]
    assert (late * early).sum() / np.sqrt((late**2).sum() * (early**2).sum()) == pytest.approx(np.exp(-0.4), abs=0.06)
    hands = [np.corrcoef(error[b, :, 20].ravel(), error[b, :, 22].ravel())[0, 1] for b in range(len(error))]
    assert min(hands) < 0.3 < 0.7 < max(hands)  # from each by itself to all together


def test_jumping_depth_is_white_heavy_tailed_and_along_one_axis(motion: np.ndarray) -> None:
    config = replace(NOTHING, deep=1.0, deep_m=(0.03, 0.03))
    error = (draw(motion, config).positions - motion).astype(float).reshape(len(motion), -1, 3)
    spread = np.linalg.svd(error, compute_uv=False)
    assert (spread[:, 1] < 0.02 * spread[:, 0]).all()
    assert 0.02 < error.std() * np.sqrt(3) < 0.12


@pytest.mark.parametrize("component", ["dropout", "flicker"])
def test_lost_joints_alone(motion: np.ndarray, component: str) -> None:
    drawn = draw(motion, replace(NOTHING, **{component: 1.0}))
    assert 0.005 < (~drawn.mask).mean() < 0.4
    np.testing.assert_allclose(drawn.positions[drawn.mask], motion[drawn.mask], atol=2e-6)


def test_bursts_ramp_smoothly_and_are_large(motion: np.ndarray) -> None:
    rng, batch = np.random.default_rng(0), len(motion)
    axis = steady.camera_axis(rng, batch)
    one = np.ones(batch, np.float32)
    moved = events.bursts(rng, even_times(motion), motion, one * 0.3, one, axis)
    size = np.linalg.norm(moved, axis=-1).max(-1)  # (B, T)
    assert 0.05 < (size > 0.03).mean() < 0.5
    assert 0.2 < np.median(size[size > 0.1]) < 1.5
    # The shortest ramp is 50 ms: no step larger than a swap of the whole body may make in one frame of 33.
    assert np.linalg.norm(np.diff(moved, axis=1), axis=-1).max() < 1.6


def test_silent_dropout_freezes_or_drifts_with_the_joint_still_visible(motion: np.ndarray) -> None:
    rate = np.full(len(motion), 1.0, np.float32)
    stuck, lost = events.stuck(np.random.default_rng(0), even_times(motion), motion, rate)
    assert 0.01 < lost.mean() < 0.6
    np.testing.assert_array_equal(stuck[~lost], motion[~lost])
    assert np.linalg.norm(stuck - motion, axis=-1)[lost].max() > 0.1


def test_scan_is_the_loop() -> None:
    rng = np.random.default_rng(0)
    decay, drive = rng.random((3, 37, 2), np.float32), rng.standard_normal((3, 37, 2), np.float32)
    decay[:, 0] = 0.0
    y = np.zeros((3, 2))
    for t in range(37):
        y = decay[:, t] * y + drive[:, t]
        np.testing.assert_allclose(steady.scan(decay, drive)[:, t], y, atol=1e-5)


@pytest.mark.parametrize("fps", [15.0, 60.0, 240.0])
def test_ou_has_unit_variance_and_its_time_constant_at_any_rate(fps: float) -> None:
    times_s = np.broadcast_to(np.arange(round(8 * fps)) / fps, (256, round(8 * fps)))
    tau_s = np.full((256, 1), 0.5, np.float32)
    x = steady.smooth_ou(np.random.default_rng(0), times_s, tau_s, tau_s * 0.1)[:, :, 0]
    assert x.std() == pytest.approx(1.0, rel=0.05)
    k = round(0.2 * fps)
    assert (x[:, k:] * x[:, :-k]).mean() == pytest.approx(np.exp(-0.2 / 0.5), abs=0.08)


def test_times_rise_at_15_to_120_fps_half_of_them_even() -> None:
    times_s = sample_times(np.random.default_rng(0), 400, 128)
    step = np.diff(times_s, axis=1)
    assert times_s.dtype == np.float64
    assert np.all(times_s[:, 0] == 0.0)
    assert np.all(step > 0)
    fps = 1.0 / np.median(step, axis=1)
    assert fps.min() > 13
    assert fps.max() < 140
    even = np.ptp(step, axis=1) < 1e-9
    assert 0.4 < even.mean() < 0.6
    relative = step[~even] / np.median(step[~even], axis=1, keepdims=True)
    assert (relative > 1.8).mean() > 0.005  # dropped
    assert (relative < 0.12).mean() > 0.002  # doubled


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(B, T, 24, 3\)"):
        corrupt(np.random.default_rng(0), np.zeros((2, 5, 22, 3), np.float32), np.zeros((2, 5)))


def test_report_stands_beside_the_real_figures(motion: np.ndarray) -> None:
    text = noise_report(motion[:16, :120], FPS)
    assert "real, single-frame" in text
    assert all(name in text for name in NOISES)


@pytest.mark.parametrize("name", LOSSES)
def test_a_dropout_case_loses_one_group_at_a_time_for_a_tenth_to_a_second(name: str) -> None:
    clip = SyntheticActor(3).clip(30.0, FPS)[None].repeat(4, 0).astype(np.float32)
    drawn = make_noise(name, np.random.default_rng(2), clip, even_times(clip))
    groups = {tuple(np.flatnonzero(row)) for row in LOSSES[name]}
    lengths = []
    for sequence in ~drawn.mask:  # (T, J)
        changes = np.flatnonzero(np.diff(sequence.any(1).astype(int), prepend=0, append=0))
        gaps = changes.reshape(-1, 2)
        assert len(gaps) == 10  # in 30 s
        lengths += [(b - a) / FPS for a, b in gaps]
        assert {tuple(np.flatnonzero(row)) for a, b in gaps for row in sequence[a:b]} <= groups
        assert gaps[0, 0] >= FPS  # a second of sight first
    assert 0.1 - 1.1 / FPS < min(lengths) < 0.25
    assert 0.6 < max(lengths) < 1.0 + 1.1 / FPS
    assert (drawn.confidence[~drawn.mask] == 0).all()
    assert 20 < statistics(drawn, clip, FPS).mpjpe_mm.mean() < 130
