"""Joints of a quiet source, joints that rest, jump, go and come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import run_front
from model.network.matrices import K
from model.skeleton import INDEX, J
from tests.helpers.fronts import frames_of, members, noise_mm, run, steps, walk
from tests.helpers.networks import at

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
