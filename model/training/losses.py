"""What training minimises, in metres and radians, so that the weights compare like with like.

What is NaN in the target is not known and costs nothing: truth measured by a real system lacks joints and rotations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.head import Pose

WITHIN_1_SIGMA = 0.6827


class Target(NamedTuple):
    """The truth for the times asked for, NaN where it is not known."""

    positions: Tensor  # (B, T, J, 3) m
    world_rot: Tensor  # (B, T, J, 3, 3)
    offsets_m: Tensor  # (B, J, 3)
    contact: Tensor  # (B, T, 2) 0/1, NaN where it is not known


WEIGHTS = {
    "pose": 0.7, "world": 0.2, "velocity": 0.5, "acceleration": 0.5, "lag": 0.3, "rotation": 0.05, "own": 0.3,
    "skeleton": 0.5, "likelihood": 0.003, "coverage": 0.01, "contact": 0.005,
}  # fmt: skip


def _norm(x: Tensor) -> Tensor:
    return torch.sqrt(filled(x).square().sum(-1) + 1e-8)


def filled(x: Tensor) -> Tensor:
    """``x`` without what is not known (NaN): nothing, and no gradient."""
    return torch.where(torch.isnan(x), 0.0, x)


def _size(x: Tensor) -> Tensor:
    """(B,) the mean length of the vectors (B, T, J, 3) that are known."""
    there = ~torch.isnan(x[..., 0])
    return (_norm(x) * there).sum((1, 2)) / there.sum((1, 2)).clamp(min=1)


def whiten(error_m: Tensor, pose: Pose) -> Tensor:
    """(B, J, 3) position errors (B, J, 3) in world axes, in units of what the pose's covariance says of them."""
    turned = pose.heading.transpose(-1, -2) @ error_m[..., None]
    return torch.linalg.solve_triangular(pose.cholesky, turned, upper=False)[..., 0]


def likelihood_loss(error_m: Tensor, pose: Pose) -> Tensor:
    """Of errors (B, J, 3) in world axes, by a Student-t of 4 degrees: rare large ones do not blow up the scale of the
    common ones."""
    there = ~torch.isnan(error_m[..., 0])
    whitened = whiten(filled(error_m), pose)
    spread = torch.log(pose.cholesky.diagonal(dim1=-2, dim2=-1) + 1e-9).sum(-1)
    every = spread + 3.5 * torch.log1p(whitened.square().sum(-1) / 4)
    return (every * there).sum() / there.sum().clamp(min=1)


def standard_deviations(pose: Pose) -> Tensor:
    """(B, J, 3) along the world's axes [m]."""
    factor = pose.heading @ pose.cholesky
    return torch.sqrt(factor.square().sum(-1) + 1e-12)


def coverage_loss(error_m: Tensor, pose: Pose, weight: Tensor | None = None) -> Tensor:
    """How far standard deviations in world axes are from the bound that WITHIN_1_SIGMA of the errors (B, J, 3) keep:
    the pinball loss of its logarithm, in which large errors and small count alike (Koenker and Bassett 1978).
    ``weight`` (B, J, 1): of some joints more."""
    there = (~torch.isnan(error_m)) * (torch.ones_like(error_m) if weight is None else weight)
    beyond = torch.log(filled(error_m).abs() + 1e-5) - torch.log(standard_deviations(pose))
    cost = torch.maximum(WITHIN_1_SIGMA * beyond, (WITHIN_1_SIGMA - 1) * beyond)
    return (cost * there).sum() / there.sum().clamp(min=1)


def sequence_lag_s(error_m: Tensor, true_m: Tensor, dt_s: Tensor) -> Tensor:
    """(B,) how late each sequence is [s]: the share of the true velocity that its error takes back."""
    relative = true_m - true_m[:, :, :1]
    step_s = (dt_s[:, 2:] + dt_s[:, 1:-1]).clamp(min=1e-3)[..., None, None]
    velocity = (relative[:, 2:] - relative[:, :-2]) / step_s
    along = (filled(error_m[:, 1:-1]) * filled(velocity)).mean((1, 2, 3))
    return -along / (filled(velocity).square().mean((1, 2, 3)) + 0.1**2)


def contact_loss(logits: Tensor, contact: Tensor) -> Tensor:
    """Where it is known whether feet stand: contact (B, T, 2) 0/1, NaN = unknown."""
    there = torch.isfinite(contact)
    every = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(contact), reduction="none")
    return (every * there).sum() / there.sum().clamp(min=1)


def losses(
    pose: Pose,
    target: Target,
    dt_s: Tensor,
    tau_s: Tensor,
    observed_m: Tensor,
    running_m: Tensor,
    own_target_m: Tensor,
    raw_m: Tensor,
) -> dict[str, Tensor]:
    """Every term by name, unweighted; positions of ``pose`` are flat (B * T, ...).

    Sequences count by how much of their input error is left, so that lightly noisy input is not drowned by heavy.

    Args:
        dt_s: (B, T) step to each frame [s]: velocity and acceleration errors count alike at every frame rate.
        tau_s: (B,) the time asked for.
        observed_m, running_m: (B, T, J, 3) each frame's skeleton and its running mean [m].
        own_target_m: (B, T, J, 3) true bone vectors, entry 0 the root from the anchor [m].
        raw_m: (B, T, J, 3) the input [m].
    """
    shape = dt_s.shape
    error = pose.positions.unflatten(0, shape) - target.positions
    raw = raw_m - target.positions
    size_m = _size(raw - raw[:, :, :1]) + 0.015  # (B,)
    share = (1 / size_m / (1 / size_m).mean())[:, None, None]
    # Jitter likewise by the input's own: white noise has much of it for its size, an estimator's error little.
    jitter_m = _size(raw[:, 2:] - 2 * raw[:, 1:-1] + raw[:, :-2]) + 0.004  # (B,)
    calm = (size_m / jitter_m).clamp(max=5.0) * torch.where(tau_s > 0, 0.35, 1.0)  # ahead, jitter is the price
    calm = share * calm[:, None, None]
    rate = torch.sqrt(0.033 / dt_s.clamp(min=0.008))[:, :, None]
    turn = filled(pose.world_rot.unflatten(0, shape) - target.world_rot).square().sum((-1, -2))
    known = error.detach().flatten(0, 1)
    terms: dict[str, Tensor] = {}
    for joints in (pose.positions, pose.free):  # on the skeleton, and as the source places them
        off = joints.unflatten(0, shape) - target.positions
        relative = off - off[:, :, :1]
        first = off[:, 1:] - off[:, :-1]
        second = first[:, 1:] - first[:, :-1]
        of = {
            "pose": (_norm(relative) * share).mean(),
            "world": (_norm(off) * share).mean(),
            "velocity": (_norm(first) * (rate[:, 1:] * share)).mean(),
            "acceleration": (_norm(second) * (rate[:, 2:] * calm)).mean(),
            # The common lag, where there is no prediction: what is guessed ahead falls short, and should.
            "lag": (sequence_lag_s(relative, target.positions, dt_s) * (tau_s <= 0)).mean().abs(),
        }
        terms = {name: terms.get(name, 0.0) + term for name, term in of.items()}
    return terms | {
        "rotation": torch.sqrt(turn + 1e-6).mean(),
        "own": _norm(pose.own.transpose(1, 2).unflatten(0, shape) - own_target_m).mean(),
        "skeleton": _norm(observed_m - target.offsets_m[:, None]).mean() * 0.3
        + _norm(running_m - target.offsets_m[:, None]).mean(),
        "likelihood": likelihood_loss(known, pose),
        "coverage": coverage_loss(known, pose),
        "contact": contact_loss(pose.contact.unflatten(0, shape), target.contact),
    }
