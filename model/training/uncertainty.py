"""The covariances of a trained network, learned again at its end with all else held fixed.

While positions still change, their covariances run after them, and their likelihood is heavy-tailed: its scale is no
standard deviation. What is fitted here is: two thirds of the errors lie within one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from model.network.causal import CausalFilter
from model.network.head import COVARIANCE_ROWS
from model.training.dataset import Batch
from model.training.forward import run_batch
from model.training.losses import WITHIN_1_SIGMA, coverage_loss, likelihood_loss, standard_deviations

_LIKELIHOOD = 0.2  # weight beside the coverage: it tells the axes of a covariance, which coverage does not see
_RATE = 4e-3
_UNSEEN = 5.0  # joints in gaps are few


def _beyond(model: CausalFilter, batch: Batch) -> float:
    """By how much all standard deviations are too small."""
    pose, _, _ = run_batch(model, batch)
    error = (pose.positions - batch.target.positions.flatten(0, 1)).abs()
    ratios = (error / standard_deviations(pose)).flatten()
    return float(ratios.kthvalue(round(WITHIN_1_SIGMA * len(ratios))).values)


def fit_covariance(model: CausalFilter, batches: Iterator[Batch], steps: int) -> None:
    """Learns the rows of the head's last layer that say covariances, in place, in ``steps`` batches."""
    last, rows = model.head.fc3, torch.zeros(model.head.fc3.out_features, 1, device=model.head.fc3.weight.device)
    rows[COVARIANCE_ROWS] = 1.0
    model.eval().requires_grad_(False)
    model.head.sigma.mul_(_beyond(model, next(batches)))
    last.requires_grad_(True)
    hooks = [
        last.weight.register_hook(lambda g: g * rows),  # type: ignore[no-untyped-call]
        last.bias.register_hook(lambda g: g * rows[:, 0]),  # type: ignore[no-untyped-call]
    ]
    optimizer = torch.optim.Adam(last.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        batch = next(batches)
        pose, _, _ = run_batch(model, batch)
        error = (pose.positions - batch.target.positions.flatten(0, 1)).detach()
        unseen = 1 - batch.seen.evidence.seen.flatten(0, 1).reshape(*error.shape[:2], 1)
        loss = coverage_loss(error, pose, 1 + (_UNSEEN - 1) * unseen) + _LIKELIHOOD * likelihood_loss(error, pose)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for hook in hooks:
        hook.remove()
    model.requires_grad_(True)
