"""Levels without state: weights that smooth a history, its jitter, what of that is noise, how much to refine."""

from __future__ import annotations

import torch
from torch import Tensor

from model.network.matrices import constant
from model.skeleton import J

RHO_M = 0.003  # input noisier than this is refined, cleaner is passed through
_TREMBLES_M = 0.0025  # the jitter of two axes above which bones that change are noise
_PLACED_M = 0.03  # as they are when they change by more
TINY_M2 = 1e-30  # under a root, so that its gradient stays finite at zero


def norm(x: Tensor) -> Tensor:
    """(B, C, 1, P) length of vectors (B, C, 3, P); written out: vector_norm over this axis is thirty times slower."""
    return torch.sqrt((x * x).sum(2, keepdim=True) + TINY_M2)


def jitter(history: Tensor, age: Tensor) -> Tensor:
    """(B, 1, 3, J) how far the input two frames ago lies from the cubic through its four neighbours in real time, in
    units of one input's standard deviation [m]."""
    node, other = age, age.transpose(2, 3)  # (B, 1, 1, 5), (B, 1, 5, 1)
    gap = node - other
    gap = torch.where(gap.abs() < 1e-5, 1e-5, gap)
    factor = torch.where(constant("others", age) > 0, (age[..., 2:3] - other) / gap, 1.0)
    target = constant("target", age)
    weight = factor.prod(2, keepdim=True) * (1 - target) - target  # (B, 1, 1, 5) Lagrange weights, -1 at the target
    error = (weight @ history).reshape(-1, 1, 3, J)
    return error / torch.sqrt(weight.square().sum(3, keepdim=True))


def noise_m2(var: Tensor, watched: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, 1, J) noise of the input, half a joint's own and half the body's mean, and the part that is not white.

    White noise shows alike in bones and in time; slow errors show in bones alone. Bones that change by centimetres
    while nothing trembles are the source's way to place joints, and no noise.
    """
    known = (watched > 0).to(var)
    var = var * known * constant("share", var)  # a bone's two ends share its variance
    body = var.sum(3, keepdim=True) / known.sum(3, keepdim=True).clamp(min=1.0)  # (B, 2, 1, 1)
    bone, jitter = var.chunk(2, 1)
    level = 0.5 * (torch.cat([bone @ constant("adjacent", bone), jitter], 1) + body)
    bone, jitter = level.chunk(2, 1)
    slow = (bone - jitter).clamp(min=0.0)
    white = bone + jitter - slow
    for_sure = (watched[:, 1:] / constant("watch_s", white)[1:]).clamp(max=1.0)
    placed = slow * for_sure / ((1 + (white / _TREMBLES_M**2).square().square()) * (1 + slow / _PLACED_M**2))
    return white + slow - placed, slow - placed


def white_m2(noise: Tensor, slow: Tensor) -> Tensor:
    """(B, 1, 1, J) the white part of a noise level, of one input [m^2]: white noise is counted twice in it."""
    return 0.5 * (noise - torch.minimum(slow, noise))


def smoothers(ages: Tensor, hat: Tensor) -> Tensor:
    """(B, 1, K, HISTORY) weights of the slots for the value of a line of least squares at the target, from narrow to
    wide; ages (B, 1, 1, HISTORY) relative to the target [s], ``hat`` the weights that interpolate there."""
    x = ages / constant("smoother_s", ages)  # (B, 1, K, HISTORY)
    near = (1 - x.abs()).clamp(min=0.0)
    level, slope, curve = (part.sum(3, keepdim=True) for part in (near, near * x, near * x * x))
    tilt = slope / (curve + 1e-3 * level).clamp(min=1e-6)
    weights = (near + 1e-6 * hat) * (1 - tilt * x.clamp(-1.0, 1.0))  # nothing near, as in a pause: as hat says
    return weights / weights.sum(3, keepdim=True)


def refined_share(variance_m2: Tensor) -> Tensor:
    """0 on clean input, 1 on noisy: n^4 / (n^4 + RHO^4) of the noise level n. What makes clean in, clean out."""
    square = (variance_m2 / RHO_M**2).square()
    return square / (square + 1)
