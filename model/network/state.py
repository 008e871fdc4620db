"""What the front takes in and what it remembers: a frame, the state between frames, and the state as graphs pass it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.matrices import K, N
from model.skeleton import J

HISTORY = 48  # frames of raw input kept for fixed-lag output (0.2 s at 240 Hz)


class Frame(NamedTuple):
    """One frame of B actors; positions are relative to a fixed origin of the actor, absent ones are zero."""

    positions: Tensor  # (B, 1, 3, J) m
    mask: Tensor  # (B, 1, 1, J) 1 = present
    confidence: Tensor  # (B, 1, 1, J) 0..1
    derived: Tensor  # (B, 1, 1, J) 1 = made of other joints by the layout, not measured
    dt_s: Tensor  # (B, 1, 1, 1) since the actor's previous frame; 0 on its first


class State(NamedTuple):
    """What the front remembers of each actor; all zeros at the start."""

    seen: Tensor  # (B, 1, 1, N) 1 = was present once
    age_s: Tensor  # (B, 1, 1, N) since it was last present
    track_s: Tensor  # (B, 1, 1, N) time since its filters started
    run: Tensor  # (B, 1, 1, J) frames it has been present without a break
    jumped: Tensor  # (B, 1, 1, J) 1 = its last sight was taken for an outlier: the next one is believed
    bone_mean_m: Tensor  # (B, 1, 1, J) running mean of the observed bone length
    spread_m2: Tensor  # (B, 2, 1, J) running variance of the bone length, and of the input against its own neighbours
    watched_s: Tensor  # (B, 2, 1, J) time each of the two has seen, up to some seconds
    noise_m2: Tensor  # (B, 1, 1, J) variance an axis of the input now [m^2], with the doubt of what is not seen
    slow_m2: Tensor  # (B, 1, 1, J) the part of it that is not white: what filters cannot take away, and the doubt
    point_m: Tensor  # (B, K, 3, N) filtered positions, joints relative to the anchor
    velocity: Tensor  # (B, K, 3, N) m/s
    moved_m: Tensor  # (B, 1, 3, J) how far the source places a joint from where the head does, in its parent's axes
    moved_s: Tensor  # (B, 1, 1, J) time that was seen
    apart_m: Tensor  # (B, 1, 3, J) how far the skeleton's joint lies from the source's, in those axes
    moves_m2: Tensor  # (B, 1, 1, J) and how that changes; these four are the head's (kept.py), and only held here
    silent_s: Tensor  # (B, 1, 1, J) since it was last seen and believed
    trust: Tensor  # (B, 1, 1, J) the frame's confidence
    rest_m: Tensor  # (B, 1, 3, J) where it rests: a mean since it last moved
    rest_s: Tensor  # (B, 1, 1, J) for how long it has rested
    view_m2: Tensor  # (B, 1, 1, 3) how it trembles level: of x x, z z, x z (view.py)
    history_m: Tensor  # (B, 1, HISTORY, 3 J) input, gaps filled, oldest first
    history_s: Tensor  # (B, 1, 1, HISTORY) age of each slot


# The state as the exported graph passes it: parts that share their last axes are joined along the channel.
GROUPS = {
    "tracks": ("seen", "age_s", "track_s"),
    "spread": ("spread_m2",),
    "watched": ("watched_s",),
    "joints": (
        "run", "jumped", "bone_mean_m", "noise_m2", "slow_m2", "moved_s", "moves_m2", "silent_s", "trust", "rest_s",
    ),
    "points": ("point_m", "velocity"),
    "moved": ("moved_m", "apart_m", "rest_m"),
    "moments": ("view_m2",),
    "history": ("history_m",),
    "ages": ("history_s",),
}  # fmt: skip
_SHAPES = {
    "tracks": (1, 1, N), "spread": (2, 1, J), "watched": (2, 1, J), "joints": (1, 1, J), "points": (K, 3, N),
    "moved": (1, 3, J), "moments": (1, 1, 3),
    "history": (1, HISTORY, 3 * J), "ages": (1, 1, HISTORY),
}  # fmt: skip


def group_shapes() -> dict[str, tuple[int, int, int]]:
    """Shape of each group of the state after the batch axis."""
    return {name: (len(GROUPS[name]) * a, b, c) for name, (a, b, c) in _SHAPES.items()}


def pack(state: State) -> list[Tensor]:
    """The state's groups, in the order of ``GROUPS``."""
    parts = [[getattr(state, name) for name in group] for group in GROUPS.values()]
    return [torch.cat(group, 1) if len(group) > 1 else group[0] for group in parts]


def unpack(groups: Sequence[Tensor]) -> State:
    """The state of its groups."""
    parts: dict[str, Tensor] = {}
    for whole, (name, members) in zip(groups, GROUPS.items(), strict=True):
        pieces = torch.split(whole, _SHAPES[name][0], 1) if len(members) > 1 else [whole]
        parts |= dict(zip(members, pieces, strict=True))
    return State(**parts)


def initial_state(batch: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> State:
    return unpack([torch.zeros(batch, *shape, dtype=dtype, device=device) for shape in group_shapes().values()])
