"""How sure a pose is: clean input stays sure, gaps are worth what they are, and nothing but covariances hangs on it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.motion.endless import Motion
from model.motion.synthetic import SyntheticActor
from model.network import front
from model.network.causal import CausalFilter, run_front
from model.network.doubt import Doubt, unit_m2
from model.network.head import Pose, covariance
from model.network.trust import SEES
from model.noise.config import REALISTIC, NoiseConfig
from model.skeleton import J
from model.training.dataset import Batch, Sampler
from model.training.forward import run_batch
from model.training.uncertainty import fit_covariance
from tests.helpers.networks import TINY, network_frames

CLEAN = NoiseConfig(clean=1.0, white=0, hpstm=0, sensor=0, wander=0, dropout=0, flicker=0, stuck=0, confidence=0)
GAPS = replace(CLEAN, clean=0.0, white=1.0, white_m=(0.01, 0.01), dropout=1.0, dropout_hz=(3.0, 3.0))
GONE = [18, 20, 22]  # a forearm
FPS = 30.0


def evidence_of(noise_m: float, hidden_from: int, length: int = 60) -> front.Evidence:
    """Of the last frame of a moving body with white noise, whose forearm is not seen from a frame on."""
    truth = SyntheticActor(3).positions(np.arange(length) / FPS)
    mask = np.ones((1, length, J))
    mask[:, hidden_from:, GONE] = 0.0
    noisy = truth + noise_m * np.random.default_rng(0).standard_normal(truth.shape)
    dt = np.full((1, length), 1 / FPS)
    dt[:, 0] = 0.0
    seen = run_front(network_frames(noisy[None] - noisy[0, 0], mask, dt), torch.zeros(1, dtype=torch.float64))
    return front.Evidence(*(part[:, -1] for part in seen.evidence))


def test_every_joint_has_a_factor_and_a_least() -> None:
    torch.manual_seed(0)
    doubt = Doubt()
    torch.nn.init.normal_(doubt.say.weight, std=100.0)
    with torch.no_grad():
        factor, least_m = doubt(torch.randn(5, SEES, 1, J))
    assert factor.shape == least_m.shape == (5, J, 1)
    for said_of_it, low, high in ((factor, 0.04, 21.0), (least_m, 0.001, 0.7)):  # a covariance stays one
        assert low < float(said_of_it.min()) <= float(said_of_it.max()) < high


def test_what_is_not_seen_is_measured_by_the_noise_of_what_is() -> None:
    """The evidence's own noise doubts a joint by decimetres after a second."""
    seen, lost = evidence_of(0.010, 60), evidence_of(0.010, 20)
    unit_mm = 1e3 * unit_m2(lost).sqrt()[0, 0, 0]
    others = [j for j in range(J) if j not in GONE]
    assert float(lost.noise_m2[..., GONE].sqrt().min()) > 0.25
    torch.testing.assert_close(unit_mm[GONE], unit_mm[others].square().mean().sqrt().expand(3), atol=0.5, rtol=0)
    torch.testing.assert_close(unit_m2(seen), seen.noise_m2)


@pytest.mark.parametrize("gone", [range(J), [0]])
def test_units_are_finite_and_positive_whoever_is_lost(gone: list[int]) -> None:
    hidden = evidence_of(0.010, 60)
    shown = hidden.shown.clone()
    shown[..., gone] = 0.0
    unit = unit_m2(hidden._replace(shown=shown))
    assert torch.isfinite(unit).all()
    assert (unit > 0).all()


# ---- fitted


@pytest.fixture(scope="module")
def fitted(motion: Motion) -> CausalFilter:
    """A tiny network that knows nothing but how far off it is: with many gaps, and on clean input."""
    torch.manual_seed(0)
    model = CausalFilter(TINY)
    noises = (GAPS, CLEAN, GAPS)
    batches = [Sampler(motion, 8 + k, noise, augment=False).batch(6, 45, fps=FPS) for k, noise in enumerate(noises)]
    fit_covariance(model, itertools.cycle(batches), 180)
    return model


@torch.no_grad()
def said(model: CausalFilter, batch: Batch) -> tuple[Tensor, Tensor]:
    """Errors of the source's joints and standard deviations (B, T, J, 3) after the first frames [m]."""
    pose: Pose = run_batch(model, batch)[0]
    sigma = torch.sqrt(covariance(pose).diagonal(dim1=-2, dim2=-1)).unflatten(0, batch.dt_s.shape)
    return (pose.free.unflatten(0, batch.dt_s.shape) - batch.target.positions).abs()[:, 10:], sigma[:, 10:]


def test_clean_input_stays_sure(fitted: CausalFilter, motion: Motion) -> None:
    _, sigma = said(fitted, Sampler(motion, 20, "clean", augment=False).batch(8, 60, 0.0, FPS))
    assert float(sigma[:, 30:].median()) < 0.001
    assert float(sigma[:, 30:].quantile(0.9)) < 0.003


def test_two_thirds_of_the_errors_in_gaps_lie_within_one_sigma(fitted: CausalFilter, motion: Motion) -> None:
    batch = Sampler(motion, 21, GAPS, augment=False).batch(24, 60, 0.0, FPS)
    error, sigma = said(fitted, batch)
    shown = batch.seen.evidence.shown[:, 10:, 0, 0] > 0
    within, lost = error < sigma, ~shown
    assert 0.55 < float(within[lost].float().mean()) < 0.8
    assert 0.55 < float(within[shown].float().mean()) < 0.8
    arms = lost.any(1)[:, None] & shown  # of the joints that are lost at some time, while they are seen
    assert sigma[lost].median() > 1.3 * sigma[arms].median()


def test_only_covariances_hang_on_it(fitted: CausalFilter, motion: Motion) -> None:
    batch = Sampler(motion, 22, REALISTIC, augment=False).batch(4, 40)
    with torch.no_grad():
        before = run_batch(fitted, batch)[0]
        fitted.head.doubt.say.bias.add_(1.0)
        after = run_batch(fitted, batch)[0]
        fitted.head.doubt.say.bias.sub_(1.0)
    for name in ("positions", "free", "world_rot", "contact", "own"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    ratio = covariance(after).diagonal(dim1=-2, dim2=-1) / covariance(before).diagonal(dim1=-2, dim2=-1)
    assert (ratio > 1.0).all()
