"""A network over a batch, as training and its checks run it."""

from __future__ import annotations

import torch
from torch import Tensor

from model.calibration import skeleton_in_use
from model.network.causal import CausalFilter
from model.network.head import Pose
from model.training.dataset import Batch


def run_batch(model: CausalFilter, batch: Batch, fast: bool = False) -> tuple[Pose, Tensor, Tensor]:
    """Poses on the skeleton that calibration would have in use at each frame (or the given one), the skeleton that each
    frame shows (B, T, J, 3) and its running mean [m]."""
    encoded = model.from_front(batch.seen, batch.times_s, fast)
    observed = encoded.offsets_m[:, :, 0].transpose(2, 3)
    in_use, running = skeleton_in_use(observed, encoded.weight[:, :, 0, 0], batch.dt_s)
    truth = batch.target.offsets_m[:, None].expand_as(in_use)
    offsets = torch.where(batch.given[:, None, None, None], truth, in_use.detach())
    pose = model.poses(encoded.latent, batch.seen, batch.tau_s, offsets.transpose(2, 3)[:, :, None], fast)
    return pose, observed, running


def raw_positions(batch: Batch) -> Tensor:
    """(B, T, J, 3) the input at the time asked for, gaps filled [m]."""
    evidence = batch.seen.evidence
    return (evidence.joints_m[:, :, :1] + evidence.anchor_m)[:, :, 0].transpose(2, 3)
