"""Slow means of where the source places joints, and how far its joints are drawn to their skeleton."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.network import front
from model.network.kept import Apart, Kept, doubted_s, over_time
from model.skeleton import J
from tests.helpers.fronts import frames_of, run, steps, tau, walk

DT = torch.full((1, 1, 1), 1 / 30, dtype=torch.float64)
ONES = torch.ones(1, J, 1, dtype=torch.float64)


def constant(size_m: float = 0.05) -> Tensor:
    way = torch.from_numpy(np.random.default_rng(0).standard_normal((1, J, 3)))
    return size_m * way / way.norm(dim=2, keepdim=True)


def kept_after(seconds: float, half_s: float, off_m: Tensor) -> Tensor:
    kept = Kept(torch.zeros(1, J, 3, dtype=torch.float64), 0 * ONES)
    for _ in range(round(30 * seconds)):
        kept = kept.after(off_m, ONES, half_s * ONES, DT)
    return kept.moved_m


def test_a_constant_difference_is_half_taken_up_when_it_shall_be() -> None:
    off = constant()
    soon, late = ((kept_after(4.0, half_s, off) / off).mean().item() for half_s in (4.0, 30.0))
    assert soon == pytest.approx(0.5, abs=0.05)
    assert late < 0.2


def slow_errors(sigma_m: float, white_m: float) -> front.Evidence:
    """Of a walk whose joints wander for a second and more, and tremble a little."""
    dt = steps(30.0, 8.0)
    t, rng = np.cumsum(dt)[:, None, None], np.random.default_rng(0)
    waves = sigma_m * np.sin(2 * np.pi * 0.6 * t + rng.uniform(0, 6.3, (1, J, 3)))
    shaken = walk(dt) + waves + white_m * rng.standard_normal((len(dt), J, 3))
    return front.evidence(run(frames_of(shaken, dt)), tau(0.0))


def test_slow_errors_look_like_a_constant_and_are_believed_late() -> None:
    clean, white, slow = (
        doubted_s(e).median().item() for e in (noise_level(0.0), noise_level(0.01), slow_errors(0.04, 0.004))
    )
    assert clean < 2.1 < white < 10.0 < slow


def test_one_absurd_frame_moves_nothing() -> None:
    moved = kept_after(1 / 30, 4.0, constant(5.0))
    assert moved.norm(dim=2).max() < 0.1 * (1 / 30) / 4


def test_what_is_not_shown_is_not_taken_up() -> None:
    kept = Kept(torch.zeros(1, J, 3, dtype=torch.float64), 0 * ONES).after(constant(), 0 * ONES, ONES, DT)
    assert kept.moved_m.abs().max() == 0.0
    assert kept.moved_s.max() == 0.0


def apart_after(apart_m: Tensor) -> Apart:
    """Of (T, J, 3) m."""
    apart, seen = Apart(torch.zeros(1, J, 3, dtype=torch.float64), 0 * ONES), 0 * ONES
    for row in apart_m:
        seen = seen + DT
        apart = apart.after(row[None], ONES, seen, DT)
    return apart


def noise_level(sigma_m: float) -> front.Evidence:
    dt = steps(30.0, 3.0)
    shaken = walk(dt) + sigma_m * np.random.default_rng(0).standard_normal((len(dt), J, 3))
    return front.evidence(run(frames_of(shaken, dt)), tau(0.0))


def test_a_constant_distance_from_the_skeleton_is_the_sources_own() -> None:
    early, late = (apart_after(constant()[0].expand(n, J, 3)) for n in (30, 300))
    assert (late.apart_m - constant()).norm(dim=2).max() < 0.006
    assert late.moves_m2.sqrt().max() < 0.01 < early.moves_m2.sqrt().min()  # until it is known, it is no noise


def test_what_moves_against_the_skeleton_is_taken_away_as_far_as_it_is_noise() -> None:
    rng = np.random.default_rng(1)
    little, much = (apart_after(torch.from_numpy(s * rng.standard_normal((150, J, 3)))) for s in (0.003, 0.05))
    noisy, clean = noise_level(0.01), noise_level(0.0)
    firm = little.firmness(noisy, tau(0.0))
    assert 0.6 < firm.min() < firm.max() <= 0.8
    assert much.firmness(noisy, tau(0.0)).max() < 0.1  # the source's way to place joints, which moves
    assert little.firmness(clean, tau(0.0)).max() < 0.01
    assert little.firmness(noisy, tau(-0.1)).mean() < firm.mean()  # smoothers have taken some of the noise


def test_sequences_are_as_frame_by_frame() -> None:
    rng = np.random.default_rng(2)
    off = torch.from_numpy(0.03 * rng.standard_normal((40, J, 3)))
    dt = DT.reshape(1, 1).expand(1, 40)
    ones = ONES.expand(40, J, 1)
    kept = over_time(Kept, dt, off, ones, 7.0 * ones)
    torch.testing.assert_close(kept.moved_m[-1:], by_frames(off).moved_m)
    apart = over_time(Apart, dt, off, ones, kept.moved_s)
    torch.testing.assert_close(apart.apart_m[-1:], apart_after(off).apart_m)
    torch.testing.assert_close(apart.moves_m2[-1:], apart_after(off).moves_m2)


def by_frames(off_m: Tensor) -> Kept:
    kept = Kept(torch.zeros(1, J, 3, dtype=torch.float64), 0 * ONES)
    for row in off_m:
        kept = kept.after(row[None], ONES, 7.0 * ONES, DT)
    return kept
