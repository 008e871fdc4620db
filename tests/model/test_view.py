"""Along what a single camera looks, found by how a source trembles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.network import front
from model.network.head import PoseHead, Said
from model.network.view import along_view
from model.skeleton import J
from tests.helpers.fronts import frames_of, run, steps, tau, walk
from tests.helpers.networks import TINY

FPS, SECONDS = 30.0, 3.0


def view_of(noise_m: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """(3, 3) what is known of the view after a walk with noise (T, J, 3) [m]."""
    dt = steps(FPS, SECONDS)
    return np.asarray(along_view(run(frames_of(walk(dt) + noise_m, dt, mask)).view_m2)[0, 0].numpy())


def noise(depth: float, degrees: float, sigma_m: float = 0.008, seed: int = 0) -> np.ndarray:
    """(T, J, 3) white, ``depth`` times as strong along a level direction, so far turned from z."""
    white = sigma_m * np.random.default_rng(seed).standard_normal((round(FPS * SECONDS), J, 3))
    along = direction(degrees)
    return white + (depth - 1) * (white @ along)[..., None] * along


def direction(degrees: float) -> np.ndarray:
    turn = np.radians(degrees)
    return np.array([np.sin(turn), 0.0, np.cos(turn)])


@pytest.mark.parametrize("degrees", [0.0, 35.0, 90.0, 160.0])
def test_a_source_that_trembles_in_depth_shows_its_view(degrees: float) -> None:
    view = view_of(noise(3.0, degrees))
    along, across, up = direction(degrees), direction(degrees + 90), np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(view @ along, 0.8 * along, atol=0.1)  # (9 - 1) / (9 + 1)
    np.testing.assert_allclose(view @ across, -0.8 * across, atol=0.1)
    np.testing.assert_array_equal(view @ up, 0.0)


def test_several_cameras_show_none() -> None:
    assert np.abs(view_of(noise(1.0, 0.0))).max() < 0.1


def test_single_joints_far_off_say_little() -> None:
    off = noise(1.0, 0.0)
    rng = np.random.default_rng(1)
    off[..., 0] += 0.3 * (rng.random(off.shape[:2]) < 0.03)
    assert np.abs(view_of(off)).max() < 0.35


def test_what_is_lost_says_nothing() -> None:
    mask = np.ones((round(FPS * SECONDS), J))
    mask[::4] = 0.0  # never six frames on end
    assert np.abs(view_of(noise(3.0, 0.0), mask)).max() == 0.0


def test_own_joints_are_believed_more_along_the_view() -> None:
    """Half of the own joints by the gates: more of it along the view, less across it, and as much upright."""
    head = PoseHead(TINY.width, TINY.head_hidden).double().requires_grad_(False)
    dt = steps(FPS, SECONDS)
    rng = np.random.default_rng(0)
    trembling = front.evidence(run(frames_of(walk(dt) + noise(3.0, 0.0), dt)), tau(0.0))
    calm = trembling._replace(view=torch.zeros_like(trembling.view))
    measured = trembling.joints_m[:, 1:2]
    own = measured + torch.from_numpy(rng.standard_normal((1, 1, 3, J)))
    gates = torch.zeros(1, 6 * J, dtype=torch.float64)
    said = Said(gates, torch.zeros(1, 3 * J), torch.full((1, J), 9.0), own, torch.zeros_like(own), no_trust(gates))
    with_view, without = (head.mix(said, seen, tau(0.0)) for seen in (trembling, calm))
    share = ((with_view - without) / (own - trembling.joints_m.mean(1, keepdim=True)))[0, 0].median(1).values
    assert share[2] > 0.15
    assert share[0] < -0.15
    assert abs(share[1]) < 1e-6


def test_own_joints_are_brought_forward_by_what_they_come_late() -> None:
    """A sixth of the own joints by the gates: a sixth of twelve milliseconds of motion, and none behind the newest."""
    head = PoseHead(TINY.width, TINY.head_hidden).double().requires_grad_(False)
    dt = steps(FPS, SECONDS)
    state = run(frames_of(walk(dt) + noise(1.0, 0.0, 0.02), dt))
    gates = torch.zeros(1, 6 * J, dtype=torch.float64)
    for tau_s, late_s in ((0.0, 0.012), (-0.1, 0.0)):
        seen = front.evidence(state, tau(tau_s))._replace(rests=torch.zeros(1, 1, 1, J, dtype=torch.float64))
        still = seen._replace(velocity=torch.zeros_like(seen.velocity))
        own = seen.joints_m[:, 1:2]
        said = Said(gates, torch.full((1, 3 * J), -99.0), torch.full((1, J), 9.0), own, 0 * own, no_trust(gates))
        moved = head.mix(said, seen, tau(tau_s)) - head.mix(said, still, tau(tau_s))
        expected = late_s / 6 * front.evidence(state, tau(0.0)).velocity[:, 1:2]
        torch.testing.assert_close(moved, expected, rtol=0.02, atol=1e-6)


def no_trust(gates: Tensor) -> tuple[Tensor, Tensor]:
    return gates.new_zeros(1, 5, 1, J), gates.new_zeros(1, 2, 1, J)
