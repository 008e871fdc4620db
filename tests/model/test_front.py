"""The part without weights: filters that do not lag, a noise level that vanishes on clean input, history, features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.kinematics import forward_kinematics
from model.motion.endless import regauge
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import run_front
from model.network.matrices import K
from model.skeleton import INDEX, PARENTS, J
from tests.helpers.networks import at, network_frames, observed, shifted

PARENT = [max(p, 0) for p in PARENTS]


def frames_of(positions: np.ndarray, dt_s: np.ndarray, mask: np.ndarray | None = None) -> front.Frame:
    """One actor's frames of (T, J, 3) m with steps (T,) s."""
    mask = np.ones(positions.shape[:2]) if mask is None else mask
    return network_frames(positions[None], mask[None], dt_s[None])


def steps(fps: float, seconds: float, jitter: float = 0.0, seed: int = 0) -> np.ndarray:
    dt = (1 + jitter * np.random.default_rng(seed).uniform(-1, 1, round(fps * seconds))) / fps
    dt[0] = 0.0
    return dt


def walk(dt_s: np.ndarray, seed: int = 0) -> np.ndarray:
    """(T, J, 3) smooth motion of a rigid skeleton, from the origin."""
    xyz = SyntheticActor(seed).positions(np.cumsum(dt_s))
    return np.asarray(xyz - xyz[:1, :1])


def run(frames: front.Frame) -> front.State:
    """The state after the last frame."""
    state = front.initial_state(frames.dt_s.shape[0], torch.float64)
    for t in range(frames.dt_s.shape[1]):
        state, _ = front.step(at(frames, t), state)
    return state


def noise_mm(state: front.State) -> np.ndarray:
    """(J,) noise level [mm] of the one actor."""
    return 1e3 * np.sqrt(state.noise_m2.reshape(J).numpy())


def tau(seconds: float) -> Tensor:
    return torch.full((1, 1, 1, 1), seconds, dtype=torch.float64)


def members(state: front.State, tau_s: float) -> np.ndarray:
    """(MEMBERS, J, 3) what the head is offered for a time [m]."""
    evidence = front.evidence(state, tau(tau_s))
    places: np.ndarray = (evidence.joints_m + evidence.anchor_m)[0].transpose(-1, -2).numpy()
    return places


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


# ---- a quiet source


def quiet(still: bool, noise_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(T, J, 3) a body, and the input of it as the head has it, over the last two of four seconds [m]."""
    dt = steps(60.0, 4.0)
    body = walk(dt)
    truth = np.repeat(body[:1], len(dt), 0) if still else body
    noisy = truth + noise_m * np.random.default_rng(0).standard_normal(truth.shape)
    seen = run_front(frames_of(noisy, dt), torch.zeros(1, dtype=torch.float64)).evidence
    given = (seen.joints_m[:, :, 0] + seen.anchor_m[:, :, 0])[0].transpose(-1, -2).numpy()
    return truth[120:], given[120:]


def test_a_body_that_stands_still_does_not_tremble_with_a_quiet_source() -> None:
    truth, given = quiet(still=True, noise_m=0.002)
    assert np.abs(given - truth).mean() < 0.5 * 0.002 * 0.8  # 0.8: the mean of |x| of a normal one
    assert np.diff(given, axis=0).std() < 0.4 * 0.002 * np.sqrt(2)


def test_a_body_that_moves_is_not_held_back() -> None:
    truth, given = quiet(still=False, noise_m=0.002)
    assert np.abs(given - truth).mean() < 1.1 * 0.002 * 0.8
    truth, given = quiet(still=False, noise_m=0.0)
    np.testing.assert_allclose(given, truth, atol=2e-4)


def test_bones_that_change_are_noise_only_where_joints_tremble() -> None:
    """A knee that a source places beside ours makes bones that are not rigid, and no error."""
    dt = steps(60.0, 6.0)
    positions = walk(dt)
    t = np.cumsum(dt)
    moved = positions.copy()
    for name, phase in (("left_knee", 0.0), ("right_knee", 1.0), ("left_elbow", 2.0), ("right_elbow", 3.0)):
        moved[:, INDEX[name], 1] += 0.015 * np.sin(2 * np.pi * 0.7 * t + phase)
    trembling = moved + 0.004 * np.random.default_rng(0).standard_normal(moved.shape)
    knee = INDEX["left_knee"]
    slow = [run(frames_of(x, dt)).slow_m2.reshape(J)[knee].sqrt().item() for x in (moved, trembling)]
    assert slow[0] < 0.001 < 0.003 < slow[1]


def test_a_joint_that_comes_back_starts_anew() -> None:
    dt = steps(60.0, 1.0)
    positions, mask = walk(dt), np.ones((len(dt), J))
    hand = INDEX["left_hand"]
    mask[30:45, hand] = 0.0  # 0.25 s
    positions[45:, hand] += 0.3
    before, after = (run(frames_of(positions[:n], dt[:n], mask[:n])) for n in (45, 46))
    where, speed = after.point_m[0, ..., hand], after.velocity[0, ..., hand]  # (K, 3)
    assert torch.equal(where, where[:1].expand(K, 3))
    assert (where - before.point_m[0, ..., hand]).norm(dim=-1).min() > 0.2
    assert torch.equal(speed, torch.zeros_like(speed))


def test_a_missing_joint_goes_along_with_the_body_and_comes_to_rest_on_it() -> None:
    dt = steps(60.0, 3.0)
    body, mask = walk(steps(60.0, 0.1))[:1], np.ones((len(dt), J))
    positions = body + np.cumsum(dt)[:, None, None] * np.array([2.0, 0.0, 0.0])
    hand = INDEX["left_hand"]
    mask[60:, hand] = 0.0
    state = run(frames_of(positions, dt, mask))
    assert np.linalg.norm(members(state, 0.0)[0, hand] - positions[-1, hand]) < 0.02  # 2 s and 4 m later
    assert noise_mm(state)[hand] > 100.0


# ---- joints that rest, jump or go


def resting(still: bool, noise_m: float) -> tuple[float, float]:
    """How far joints are taken to rest over the last second of four, and the mean distance from where they do [m]."""
    dt = steps(30.0, 4.0)
    body = walk(dt)
    truth = np.repeat(body[:1], len(dt), 0) if still else body
    noisy = truth + noise_m * np.random.default_rng(0).standard_normal(truth.shape)
    seen = run_front(frames_of(noisy, dt), torch.zeros(1, dtype=torch.float64)).evidence
    rest = (seen.rest_m + seen.anchor_m)[0, 90:, 0].transpose(-1, -2).numpy()
    return float(seen.rests[0, 90:].mean()), float(np.linalg.norm(rest - truth[90:], axis=-1).mean())


@pytest.mark.parametrize("noise_m", [0.002, 0.005, 0.01])
def test_a_joint_that_stands_rests_nearer_to_the_truth_than_any_frame(noise_m: float) -> None:
    rests, off_m = resting(True, noise_m)
    assert rests > (0.75 if noise_m < 0.01 else 0.5)
    assert off_m < 0.35 * noise_m * 1.6  # 1.6: the mean length of such noise in three axes


@pytest.mark.parametrize("noise_m", [0.0, 0.005, 0.03])
def test_a_joint_that_moves_does_not_rest(noise_m: float) -> None:
    assert resting(False, noise_m)[0] < 0.15


def thrown(frame: int, by_m: float, joint: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (T,), a walk (T, J, 3) at 30 Hz and what a source says of it that once sees a joint elsewhere."""
    dt = steps(30.0, 2.0)
    truth = walk(dt)
    noisy = truth + 0.005 * np.random.default_rng(1).standard_normal(truth.shape)
    noisy[frame, joint, 1] += by_m
    return dt, truth, noisy


@pytest.mark.parametrize("by_m", [0.2, 0.5])
def test_a_single_frame_elsewhere_is_forgotten_when_the_next_is_in(by_m: float) -> None:
    hand = INDEX["left_hand"]
    dt, truth, noisy = thrown(-2, by_m, hand)
    then = members(run(frames_of(noisy, dt)), -1 / 30.0)[0, hand]
    assert np.linalg.norm(then - truth[-2, hand]) < 0.03


def test_a_single_frame_elsewhere_makes_no_noise() -> None:
    dt, _, noisy = thrown(-6, 0.4, INDEX["left_hand"])
    plain = thrown(-6, 0.0, INDEX["left_hand"])[2]
    loud, quiet_mm = (noise_mm(run(frames_of(x, dt))).mean() for x in (noisy, plain))
    assert loud < 1.5 * quiet_mm


def test_a_gap_is_bridged_once_it_has_ended() -> None:
    """What was filled in leads to where the joint has come back."""
    dt = steps(30.0, 2.0)
    truth, mask, hand = walk(dt), np.ones((60, J)), INDEX["left_hand"]
    mask[-4:-1, hand] = 0.0
    gap = np.array([-3, -2]) / 30.0
    before = members(run(frames_of(truth[:-1], dt[:-1], mask[:-1])), -1 / 30.0)[0, hand]  # of frame -3, at frame -2
    after = [members(run(frames_of(truth, dt, mask)), float(tau_s))[0, hand] for tau_s in gap]
    assert np.linalg.norm(after[1] - truth[-3, hand]) < 0.6 * np.linalg.norm(before - truth[-3, hand]) + 1e-3
    assert np.linalg.norm(np.array(after) - truth[[-4, -3], hand], axis=-1).max() < 0.03


def test_who_turns_fast_does_not_jump() -> None:
    """Arms spread, three turns a second: between two frames of 33 ms a hand goes 0.4 m, and round a curve."""
    t = np.arange(60) / 30.0
    body = SyntheticActor(0).positions(np.zeros(1))[0]
    body = body - body[:1]
    turns = 6 * np.pi * np.minimum(1.0, t) * t  # a second to get there
    out = np.stack([np.cos(turns), 0 * turns, np.sin(turns)], -1)
    positions = np.repeat(body[None], 60, 0)
    for name, sign in (("left_hand", 1.0), ("right_hand", -1.0)):
        positions[:, INDEX[name]] = body[INDEX["neck"]] + sign * 0.7 * out
    state, jumps = front.initial_state(1, torch.float64), 0.0
    frames = frames_of(positions, steps(30.0, 2.0))
    for k in range(60):
        state, _ = front.step(at(frames, k), state)
        jumps += float(state.jumped.sum())
    assert jumps == 0


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
