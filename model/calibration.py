"""An actor's skeleton from what single frames show of it: a weighted mean, adopted at set times, then frozen.

The streamer runs the same rule frame by frame (streamer/skeletons.py); tests hold the two equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Seconds of motion at which the running mean becomes the skeleton in use; after the last one it never changes.
EVENTS_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
LONGEST_STEP_S = 0.1  # a gap counts as no more motion than this


def skeleton_in_use(observed_m: Tensor, weight: Tensor, dt_s: Tensor) -> tuple[Tensor, Tensor]:
    """The skeleton each frame's pose is put on, and the running mean behind it.

    Args:
        observed_m: (B, T, J, 3) each frame's opinion [m].
        weight: (B, T, J) how much it counts.
        dt_s: (B, T) seconds since the previous frame.
    Returns:
        (B, T, J, 3) skeleton in use [m], constant between events, and (B, T, J, 3) the running mean [m].
    """
    weight = weight[..., None]
    running = (weight * observed_m).cumsum(1) / weight.cumsum(1)
    elapsed = dt_s.clamp(max=LONGEST_STEP_S).cumsum(1)
    events = torch.tensor(EVENTS_S, dtype=elapsed.dtype, device=elapsed.device)
    level = (elapsed[..., None] >= events - 1e-9).sum(-1)  # (B, T) events so far
    rises = torch.cat([torch.ones_like(level[:, :1]), level[:, 1:] - level[:, :-1]], 1) > 0
    frames = torch.arange(level.shape[1], device=level.device)
    index = torch.where(rises, frames, 0).cummax(1).values  # (B, T) frame of the latest event
    return running.gather(1, index[..., None, None].expand_as(running)), running
