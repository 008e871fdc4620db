"""How far filters are to be trusted, learned again at the end with all else held fixed and no own joints beside them.

On the motions of training the network's own joints are better than they are anywhere else: beside them every filter is
weighed too low. What is fitted here is the mean of input and filters alone, on seen joints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from model.network import front
from model.network.causal import CausalFilter
from model.network.evidence import DELAYED_S
from model.network.head import OWN_GATES
from model.training.dataset import Batch
from model.training.losses import filled, sequence_lag_s

_RATE = 3e-3
_NEVER = -30.0  # a gate that is shut
_CALM = 2.0  # who waits wants calm
_SETTLED = 10  # frames before which nothing counts
# Little for calm: training pays for it with lag, and a joint that rests is calm by itself (front.py).
WEIGHTS = {"pose": 1.0, "world": 0.4, "velocity": 0.15, "acceleration": 0.12, "lag": 0.6}


def fit_trust(model: CausalFilter, batches: Iterator[Batch], steps: int) -> None:
    """Learns ``model.head.trust`` in place, in ``steps`` batches."""
    trust = model.head.trust
    model.eval().requires_grad_(False)
    trust.requires_grad_(True)
    optimizer = torch.optim.Adam(trust.parameters(), lr=_RATE, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 30) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
        batch = next(batches)
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms(batch, measured_joints(model, batch)).items()])
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.requires_grad_(True)


def measured_joints(model: CausalFilter, batch: Batch) -> Tensor:
    """(B, T, J, 3) the source's joints, refined by filters alone [m]."""
    with torch.no_grad():
        encoded = model.from_front(batch.seen, batch.times_s)
        evidence = front.Evidence(*(part.flatten(0, 1) for part in batch.seen.evidence))
        tau = batch.tau_s[:, None].expand(encoded.latent.shape[:2]).reshape(-1, 1, 1, 1)
        told, copy, misfit = model.head.network(encoded.latent.flatten(0, 1), tau)
        told[:, OWN_GATES] = _NEVER
        offsets = encoded.offsets_m.flatten(0, 1)
    joints = model.refined((told, copy, misfit), evidence, tau, offsets, batch.seen.dt_s).free
    return joints.reshape(*batch.dt_s.shape, *joints.shape[1:])


def terms(batch: Batch, joints_m: Tensor) -> dict[str, Tensor]:
    """The terms of the loss by name, unweighted, of joints (B, T, J, 3) [m] that are seen and whose truth is known.

    Sequences count by how much of their input's error is left.
    """
    evidence, truth = batch.seen.evidence, batch.target.positions
    given = (evidence.joints_m[:, :, :1] + evidence.anchor_m)[:, :, 0].transpose(2, 3)
    there = (evidence.seen[:, :, 0, 0] > 0.3) & truth.isfinite().all(-1)  # (B, T, J)
    there, off, raw = (part[:, _SETTLED:] for part in (there.to(truth), filled(joints_m - truth), given - truth))
    share = 1 / (_mean(raw, there) + 0.01)
    share = share / share.mean()
    middle = (off * there[..., None]).sum(2, keepdim=True) / there.sum(2, keepdim=True).clamp(min=1.0)[..., None]
    rate = torch.sqrt(0.033 / batch.dt_s.clamp(min=0.008))[:, _SETTLED:, None, None]
    first = off[:, 1:] - off[:, :-1]
    second = first[:, 1:] - first[:, :-1]
    known = torch.where(there[..., None] > 0, truth[:, _SETTLED:], torch.nan)
    calm = 1 + _CALM * (-batch.tau_s / DELAYED_S).clamp(0.0, 1.0)
    lag = sequence_lag_s(torch.where(known.isnan(), torch.nan, off), known, batch.dt_s[:, _SETTLED:])
    return {
        "pose": (_mean(off - middle, there) * share).mean(),
        "world": (_mean(off, there) * share).mean(),
        "velocity": (_mean(first * rate[:, 1:], there[:, 1:]) * share).mean(),
        "acceleration": (
            _mean(second * rate[:, 2:], there[:, 2:] * there[:, 1:-1] * there[:, :-2]) * share * calm
        ).mean(),
        "lag": (lag * (batch.tau_s <= 0)).mean().abs(),
    }


def _mean(x: Tensor, there: Tensor) -> Tensor:
    """(B,) the mean length of vectors (B, T, J, 3) where they are there (B, T, J)."""
    length = torch.sqrt(filled(x).square().sum(-1) + 1e-8)
    return (length * there).sum((1, 2)) / there.sum((1, 2)).clamp(min=1.0)
