"""The part without weights: filters that do not lag, a noise level that vanishes on clean input, history, features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.kinematics import forward_kinematics
from model.motion.endless import regauge
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import run_front
from model.network.matrices import K
from model.skeleton import INDEX, J
from tests.helpers.fronts import frames_of, members, noise_mm, run, steps, tau, walk
from tests.helpers.networks import at, network_frames, observed, shifted


def test_packing_is_lossless_and_zero_is_the_start() -> None:
    state = run(observed(0, 3, 12)[0])
    for a, b in zip(front.unpack(front.pack(state)), state, strict=True):
        assert torch.equal(a, b)
    assert all(part.shape[0] == 2 and not part.any() for part in front.initial_state(2))


def test_the_state_ends_where_it_began() -> None:
    """No part changes shape or kind on the way, or the exported graph could not loop."""
    start = front.initial_state(2, torch.float64)
    for a, b in zip(run(observed(0, 2, 4)[0]), start, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype


# ---- filters


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_filters_do_not_lag_behind_steady_motion(jitter: float) -> None:
    dt = steps(60.0, 4.0, jitter)
    velocity = np.array([1.2, -0.1, 0.7])
    body = walk(steps(60.0, 0.1))[:1]
    positions = body + np.cumsum(dt)[:, None, None] * velocity
    state = run(frames_of(positions, dt))
    np.testing.assert_allclose(members(state, 0.0)[2:], np.broadcast_to(positions[-1], (K, J, 3)), atol=1e-6)
    speeds = front.evidence(state, tau(0.0)).velocity[0, :, :, 0]  # (K, 3) of the root
    np.testing.assert_allclose(speeds.numpy(), np.broadcast_to(velocity, (K, 3)), atol=1e-5)


def test_slow_filters_are_smoother() -> None:
    dt = steps(60.0, 6.0)
    still = walk(dt)[:1] + 0.01 * np.random.default_rng(0).standard_normal((len(dt), J, 3))
    seen = run_front(frames_of(still, dt), torch.zeros(1, dtype=torch.float64))
    bones = front.bones_of(seen.evidence.joints_m)[0, 120:]  # (T, MEMBERS, 3, J)
    spread = bones.std(0).mean((-1, -2))
    assert spread[0] > spread[2] > spread[3] > spread[4]


def test_behind_the_filters_are_smoothers() -> None:
    """Nearer to a moving body than any filter of now can be, from narrow to wide; and in between they go over."""
    dt = steps(60.0, 3.0)
    truth = walk(dt)
    noisy = truth + 0.01 * np.random.default_rng(0).standard_normal(truth.shape)
    state, back = run(frames_of(noisy, dt)), 6  # 0.1 s
    then = members(state, -back / 60.0)[2:] - truth[-1 - back]
    now = members(state, 0.0)[2:] - truth[-1]
    assert (np.linalg.norm(then, axis=-1).mean(1) < 0.8 * np.linalg.norm(now, axis=-1).mean(1)).all()
    for tau_s in (-1e-6, -front.DELAYED_S):
        here, there = members(state, tau_s), members(state, tau_s - 1e-6)
        np.testing.assert_allclose(here, there, atol=1e-4)


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_smoothers_are_exact_on_steady_motion(fps: float) -> None:
    dt = steps(fps, 2.0, 0.3)
    velocity = np.array([1.2, -0.1, 0.7])
    positions = walk(steps(60.0, 0.1))[:1] + np.cumsum(dt)[:, None, None] * velocity
    state = run(frames_of(positions, dt))
    for tau_s in (-0.05, -0.1, -0.15):
        want = np.broadcast_to(positions[-1] + tau_s * velocity, (K, J, 3))
        np.testing.assert_allclose(members(state, tau_s)[2:], want, atol=1e-3)


# ---- noise level


@pytest.mark.parametrize(("fps", "most_mm"), [(30.0, 2.0), (60.0, 0.6), (120.0, 0.5)])
def test_noise_vanishes_on_clean_motion(fps: float, most_mm: float) -> None:
    """At 30 Hz a swinging foot leaves the cubic through its neighbours by more than a millimetre; nothing else does."""
    dt = steps(fps, 10.0)
    level = noise_mm(run(frames_of(walk(dt), dt)))
    assert level.max() < most_mm
    assert np.median(level) < 0.5


@pytest.mark.parametrize("sigma_mm", [3.0, 10.0, 30.0])
@pytest.mark.parametrize("fps", [30.0, 60.0])
def test_noise_is_measured(fps: float, sigma_mm: float) -> None:
    dt = steps(fps, 4.0, 0.2)
    noise = 1e-3 * sigma_mm * np.random.default_rng(0).standard_normal((len(dt), J, 3))
    level = noise_mm(run(frames_of(walk(dt) + noise, dt)))
    assert 0.6 * sigma_mm < level.mean() < 1.7 * sigma_mm
    assert (level > 0.3 * sigma_mm).all()


def test_one_bad_joint_is_told_from_the_rest() -> None:
    dt = steps(60.0, 5.0)
    positions, hand = walk(dt), INDEX["right_hand"]
    positions[:, hand] += 0.03 * np.random.default_rng(0).standard_normal((len(dt), 3))
    level = noise_mm(run(frames_of(positions, dt)))
    assert level.argmax() == hand
    assert level[hand] > 2 * level[INDEX["left_foot"]]


def test_what_was_never_seen_is_in_doubt() -> None:
    dt = steps(60.0, 5.0)
    mask = np.ones((len(dt), J))
    mask[:, INDEX["head"]] = 0.0
    level = noise_mm(run(frames_of(walk(dt), dt, mask)))
    assert level[INDEX["head"]] >= 100.0


def test_refined_share_goes_from_nothing_to_all() -> None:
    noise_m = torch.logspace(-6, 0, 50, dtype=torch.float64)
    share = front.refined_share(noise_m.square())
    assert (share.diff() >= 0).all()
    assert share[0] < 1e-9
    assert share[-1] > 1 - 1e-9
    assert front.refined_share(torch.tensor(front.RHO_M**2)) == pytest.approx(0.5)


# ---- history


def test_the_past_is_interpolated_at_real_times() -> None:
    dt = steps(60.0, 1.0, 0.4)
    positions, times = walk(dt), np.cumsum(dt)
    state = run(frames_of(positions, dt))
    for back_s in (0.0, 0.013, 0.05, 0.1234, 0.2):
        want = np.stack([np.interp(times[-1] - back_s, times, positions[:, j, a]) for j in range(J) for a in range(3)])
        np.testing.assert_allclose(members(state, -back_s)[0].ravel(), want, atol=1e-9)
    for ahead_s in (0.01, 0.15):
        np.testing.assert_allclose(members(state, ahead_s)[0], positions[-1], atol=1e-12)


def test_before_the_first_frame_is_the_first_frame() -> None:
    dt = steps(60.0, 4 / 60)
    positions = walk(dt)
    np.testing.assert_allclose(members(run(frames_of(positions, dt)), -0.2)[0], positions[0], atol=1e-6)


def test_every_candidate_of_a_still_body_is_that_body() -> None:
    dt = steps(60.0, 1.0, 0.4)
    still = np.repeat(walk(dt)[5:6], len(dt), 0)
    state = run(frames_of(still, dt))
    for tau_s in (-0.2, -0.07, 0.0, 0.15):
        np.testing.assert_allclose(members(state, tau_s), np.broadcast_to(still[0], (front.MEMBERS, J, 3)), atol=1e-9)


def test_doubt_grows_with_the_reach() -> None:
    state = run(observed(0, 1, 20)[0])
    noise = [front.evidence(state, tau(t)).noise_m2 for t in (-0.2, 0.0, 0.05, 0.15)]
    assert torch.equal(noise[0], noise[1])
    assert (noise[1] < noise[2]).all()
    assert (noise[2] < noise[3]).all()


# ---- features and skeleton


def test_features_are_bounded_whatever_comes() -> None:
    rng = np.random.default_rng(0)
    dt = 10.0 ** rng.uniform(-9, 1, 40)
    dt[0] = 0.0
    wild = rng.normal(0, 1, (40, J, 3)) * 10.0 ** rng.uniform(-9, 5, (40, 1, 1))
    frames = frames_of(wild, dt, (rng.random((40, J)) < 0.5) * 1.0)
    seen = run_front(frames, torch.zeros(1, dtype=torch.float64))
    assert seen.features.shape == (1, 40, front.FEATURES)
    assert seen.features.abs().max() <= 8.0
    assert all(torch.isfinite(part).all() for part in (*seen.evidence, seen.skeleton_m, seen.weight, seen.noise_m2))


@pytest.mark.parametrize("gap_s", [0.3, 0.6, 1.0, 2.0, 10.0])
def test_the_noise_level_survives_a_pause_of_the_source(gap_s: float) -> None:
    """One frame after a pause is one frame: no running variance may overshoot below zero."""
    for seed in range(5):
        dt = steps(30.0, 3.0)
        dt[60] = gap_s
        noise = 0.02 * np.random.default_rng(seed).standard_normal((len(dt), J, 3))
        seen = run_front(frames_of(walk(steps(30.0, 3.0)) + noise, dt), torch.zeros(1, dtype=torch.float64))
        assert (seen.noise_m2 > 0).all(), f"least variance {float(seen.noise_m2.min()):.2g} m^2"
        assert (seen.weight > 0).all()


def test_a_moved_world_has_the_same_features() -> None:
    frames, _ = observed(4, 2, 30)
    zero = torch.zeros(2, dtype=torch.float64)
    here, there = run_front(frames, zero), run_front(shifted(frames, (10.0, -3.0, 250.0)), zero)
    for name in ("features", "skeleton_m", "weight", "noise_m2"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), atol=1e-9, rtol=0)
    shift = torch.tensor([10.0, -3.0, 250.0], dtype=torch.float64)
    moved = there.evidence.anchor_m.flatten(2) - here.evidence.anchor_m.flatten(2)
    torch.testing.assert_close(moved, shift.expand_as(moved), atol=1e-9, rtol=0)


def test_what_is_missing_does_not_count() -> None:
    """Absent joints arrive as zeros; the same frames with the body elsewhere would put those zeros elsewhere."""
    frames, _ = observed(5, 1, 20, missing=0.4)
    junk = frames.confidence + (1 - frames.mask) * 0.7
    zero = torch.zeros(1, dtype=torch.float64)
    a, b = (run_front(f, zero) for f in (frames, frames._replace(confidence=junk * frames.mask)))
    assert torch.equal(a.features, b.features)


def test_a_clean_frame_shows_the_actors_own_skeleton() -> None:
    actor = SyntheticActor(2)
    offsets = regauge(actor.offsets_m)
    world, root = actor.poses(np.arange(60) / 30.0)
    positions = forward_kinematics(world, offsets, root)
    dt = np.full(60, 1 / 30)
    dt[0] = 0.0
    seen = run_front(frames_of(positions - positions[:1, :1], dt), torch.zeros(1, dtype=torch.float64))
    shown = seen.skeleton_m[0, :, 0].transpose(-1, -2).numpy()  # (T, J, 3)
    truth = np.broadcast_to(offsets[1:], (60, J - 1, 3))
    np.testing.assert_allclose(shown[:, 1:], truth, atol=1e-3)  # the doubt of the first frames shortens bones a little,
    np.testing.assert_allclose(shown[-1, 1:], truth[-1], atol=2e-5)  # and fades


def test_noisy_frames_count_less_for_the_skeleton() -> None:
    dt = steps(60.0, 5.0)
    noise = 0.02 * np.random.default_rng(0).standard_normal((len(dt), J, 3))
    zero = torch.zeros(1, dtype=torch.float64)
    clean, noisy = (run_front(frames_of(walk(dt) + n, dt), zero).weight[:, -1] for n in (0 * noise, noise))
    assert (clean > 10 * noisy).all()


def test_the_anchor_stays_on_the_body_for_minutes() -> None:
    """Only anchor plus relative joint is measured: nothing but the filter itself keeps the two from drifting apart."""
    rng, count = np.random.default_rng(1), 3600
    dt = np.full((1, count), 1 / 30)
    dt[:, 0] = 0.0
    walk = SyntheticActor(1).positions(dt[0].cumsum())
    noisy = walk[None] + 0.01 * rng.standard_normal((1, count, J, 3))
    frames = network_frames(noisy, np.ones((1, count, J)), dt)
    state = front.initial_state(1, torch.float64)
    off = []
    with torch.no_grad():
        for t in range(count):
            state, _ = front.step(at(frames, t), state)
            off.append((state.point_m[0, 0, :, J] - torch.from_numpy(walk[t].mean(0))).norm())
    assert max(off) < 0.2
