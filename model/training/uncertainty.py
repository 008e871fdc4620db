"""The covariances of a trained network, learned again at its end with all else held fixed.

While positions still change, their covariances run after them, and their likelihood is heavy-tailed: its scale is no
standard deviation. What is fitted here is: two thirds of the errors lie within one. It is the covariance of both, the
joints on the skeleton and as the source places them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from model.network.causal import CausalFilter
from model.network.head import COVARIANCE_ROWS, Pose
from model.training.dataset import Batch
from model.training.forward import run_batch
from model.training.losses import WITHIN_1_SIGMA, coverage_loss, likelihood_loss, standard_deviations

_LIKELIHOOD = 0.2  # weight beside the coverage: it tells the axes of a covariance, which coverage does not see
_RATE = 4e-3
_LOST, _NEVER = 5.0, 0.5  # joints in gaps are few, those that a source never gives are many
_SETTLED = 10  # frames before which nothing counts


def _beyond(model: CausalFilter, batch: Batch) -> float:
    """By how much all standard deviations are too small."""
    pose, _, _ = run_batch(model, batch)
    error = (pose.positions - batch.target.positions.flatten(0, 1)).abs()
    ratios = (error / standard_deviations(pose)).flatten()
    return float(ratios.kthvalue(round(WITHIN_1_SIGMA * len(ratios))).values)


def fit_covariance(model: CausalFilter, batches: Iterator[Batch], steps: int) -> None:
    """Learns ``model.head.doubt`` and the rows of the head's last layer that say covariances, in place, in ``steps``
    batches."""
    last, doubt = model.head.fc3, model.head.doubt
    rows = torch.zeros(last.out_features, 1, device=last.weight.device)
    rows[COVARIANCE_ROWS] = 1.0
    model.eval().requires_grad_(False)
    model.head.sigma.mul_(_beyond(model, next(batches)))
    last.requires_grad_(True)
    doubt.requires_grad_(True)
    hooks = [
        last.weight.register_hook(lambda g: g * rows),  # type: ignore[no-untyped-call]
        last.bias.register_hook(lambda g: g * rows[:, 0]),  # type: ignore[no-untyped-call]
    ]
    optimizer = torch.optim.Adam([*last.parameters(), *doubt.parameters()], lr=_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        batch = next(batches)
        pose, _, _ = run_batch(model, batch)
        loss = _loss(pose, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for hook in hooks:
        hook.remove()
    model.requires_grad_(True)


def _loss(pose: Pose, batch: Batch) -> Tensor:
    truth, weight = batch.target.positions.flatten(0, 1), _weight(batch).flatten(0, 1)
    loss = torch.zeros((), device=truth.device)
    for joints in (pose.positions, pose.free):
        error = torch.where(weight > 0, joints.detach() - truth, torch.nan)
        loss = loss + coverage_loss(error, pose, weight) + _LIKELIHOOD * likelihood_loss(error, pose)
    return 0.5 * loss


def _weight(batch: Batch) -> Tensor:
    """(B, T, J, 1) how much each joint counts, by whether it is seen now, was once, or never."""
    evidence = batch.seen.evidence
    seen, once = evidence.seen[:, :, 0, 0], evidence.shown[:, :, 0, 0].cummax(1).values  # (B, T, J)
    weight = seen + (1 - seen) * torch.where(once > 0, _LOST, _NEVER)
    settled = torch.arange(weight.shape[1], device=weight.device) >= _SETTLED
    return (weight * settled[:, None])[..., None]
