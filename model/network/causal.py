"""The causal filter: front (no weights) -> Transformer over a ring of recent frames -> any-time pose head -> FK.

``CausalFilter.forward`` runs whole sequences for training, ``CausalFilter.step`` one frame against the ring for
export; both go through the same front, the same blocks and the same head, and tests hold them equal. Time is
continuous: rotary phases come in from the caller, who computes them in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import front
from model.network.attention import BLOCKED, Block, Config, Phase, band_mask, phase_of
from model.network.head import Pose, PoseHead
from model.network.kept import Apart, Kept, over_time
from model.network.matrices import constant
from model.network.measured import measured_skeleton
from model.skeleton import FORK_CHILDREN, J

# Sizes and phases, of attention.py, are known as the filter's.
__all__ = [
    "BLOCKED", "CausalFilter", "Config", "Encoded", "Phase", "Ring", "Seen", "band_mask", "phase_of", "run_front",
    "write_rows",
]  # fmt: skip


class Ring(NamedTuple):
    """Keys and values of the last W frames of each layer. A frame's slot is frames % W, written after it was read."""

    keys: Sequence[Tensor]  # L of (B, H, W, D), zero at the start
    values: Sequence[Tensor]  # L of (B, H, W, D), zero at the start
    blocked: Tensor  # (B, W) BLOCKED where the slot is empty, else 0
    frames: Tensor  # (B,) so far; only grows
    latent: Tensor  # (B, width) of the newest frame


class Encoded(NamedTuple):
    """What one frame (or each frame of a sequence) gives, before a time is asked for."""

    latent: Tensor  # (B, width)
    offsets_m: Tensor  # (B, 1, 3, J) this frame's opinion of the actor's skeleton
    weight: Tensor  # (B, 1, 1, J) how much it counts


class Seen(NamedTuple):
    """What the front makes of a sequence: (B, T, ...) each."""

    features: Tensor
    evidence: front.Evidence
    skeleton_m: Tensor  # (B, T, 1, 3, J) measured
    weight: Tensor  # (B, T, 1, 1, J)
    noise_m2: Tensor  # (B, T, 1, 1, J)
    dt_s: Tensor  # (B, T)


@torch.no_grad()
def run_front(frames: front.Frame, tau_s: Tensor) -> Seen:
    """The front over a sequence of frames (B, T, 1, ..., J): its memory frame by frame, as live; the rest at once."""
    batch, length = frames.dt_s.shape[:2]
    state = front.initial_state(batch, frames.positions.dtype, frames.positions.device)
    tau = tau_s.reshape(-1, 1, 1, 1)
    none = frames.positions.new_zeros(batch, 0)
    rows: list[tuple[Tensor, ...]] = []
    for t in range(length):
        state, seen = front.step(front.Frame(*(part[:, t] for part in frames)), state)
        short = state._replace(history_m=none, history_s=none)
        rows.append((*short, *seen, *front.evidence(state, tau)))
    stacked = [torch.stack(part, 1) for part in zip(*rows, strict=True)]
    states, observations = len(front.State._fields), len(front.Observation._fields)
    flat = [part.flatten(0, 1) for part in stacked[: states + observations]]
    all_states, all_frames = front.State(*flat[:states]), front.Frame(*(part.flatten(0, 1) for part in frames))
    features = front.features(all_frames, all_states, front.Observation(*flat[states:]))
    skeleton, weight = measured_skeleton(all_frames, all_states)
    evidence = front.Evidence(*stacked[states + observations :])
    features, skeleton, weight, noise = (
        x.unflatten(0, (batch, length)) for x in (features, skeleton, weight, all_states.noise_m2)
    )
    return Seen(features, evidence, skeleton, weight, noise, frames.dt_s.flatten(1))


class CausalFilter(nn.Module):
    """Noisy frames in, latent per frame out, poses for any time within reach of it."""

    def __init__(self, config: Config | None = None, head: type[PoseHead] = PoseHead) -> None:
        super().__init__()
        self.config = config or Config()
        self.embed = nn.Linear(front.FEATURES, self.config.width)
        blocks = [Block(self.config) for _ in range(self.config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(self.config.width)
        self.settle = nn.Linear(self.config.width, self.config.width)
        self.skeleton = nn.Linear(self.config.width, J + 3 * len(FORK_CHILDREN))
        self.head = head(self.config.width, self.config.head_hidden)
        nn.init.zeros_(self.skeleton.weight)
        nn.init.zeros_(self.skeleton.bias)
        nn.init.zeros_(self.settle.weight)
        nn.init.constant_(self.settle.bias, 2.0)  # some 15 ms: nearly all of each new frame, to begin with
        for block in blocks:
            nn.init.normal_(block.out.weight, std=0.02)
            nn.init.normal_(block.down.weight, std=0.02)

    def encode(self, features: Tensor, phase: Phase) -> Tensor:
        """Latents (B, T, width) of a whole sequence of features (B, T, FEATURES)."""
        x = self.embed(features).to(features.dtype)
        phase = Phase(phase.cos[:, None].to(x.dtype), phase.sin[:, None].to(x.dtype))
        mask = band_mask(features.shape[1], self.config.window, self.config.bidirectional).to(x.device)
        for block in self.blocks:
            x = block(x, phase, mask)
        return self.norm(x)

    def forward(self, frames: front.Frame, times_s: Tensor, offsets_m: Tensor, tau_s: Tensor) -> tuple[Pose, Encoded]:
        """Poses of every frame of a sequence, each for its own time + tau.

        Args:
            frames: as ``front.Frame`` with a time axis after the batch: positions (B, T, 1, 3, J) m, ...
            times_s: (B, T) seconds since any epoch.
            offsets_m: (B, T, 1, 3, J) skeleton to put each pose on [m].
            tau_s: (B,) time asked for, relative to each frame [s].
        Returns:
            Pose with (B * T, ...) entries and Encoded with (B, T, ...) ones.
        """
        seen = run_front(frames, tau_s)
        encoded = self.from_front(seen, times_s)
        return self.poses(encoded.latent, seen, tau_s, offsets_m), encoded

    def from_front(self, seen: Seen, times_s: Tensor, fast: bool = False) -> Encoded:
        """What each frame of a sequence gives, with the front already run (it has no weights, so data workers can).

        ``fast``, here and below, is for training: products of the network in bfloat16, geometry always in full.
        """
        with torch.autocast(seen.features.device.type, torch.bfloat16, enabled=fast):
            latent = self.encode(seen.features, phase_of(times_s, self.config))
        latent = latent.to(seen.features)
        if not self.config.bidirectional:  # who sees the future needs no steadying from the past
            latent = self.settled_sequence(latent, seen.dt_s)
        return Encoded(latent, self.observed_skeleton(latent, seen.skeleton_m, seen.noise_m2), seen.weight)

    def poses(self, latent: Tensor, seen: Seen, tau_s: Tensor, offsets_m: Tensor, fast: bool = False) -> Pose:
        """Poses (B * T, ...) of latents (B, T, width) on skeletons (B, T, 1, 3, J) [m]."""
        evidence = front.Evidence(*(part.flatten(0, 1) for part in seen.evidence))
        tau = tau_s[:, None].expand(latent.shape[:2]).reshape(-1, 1, 1, 1)
        with torch.autocast(latent.device.type, torch.bfloat16, enabled=fast):
            outputs = self.head.network(latent.flatten(0, 1), tau)
        return self.refined([x.to(tau) for x in outputs], evidence, tau, offsets_m.flatten(0, 1), seen.dt_s)

    def refined(
        self, outputs: Sequence[Tensor], evidence: front.Evidence, tau_s: Tensor, offsets_m: Tensor, dt_s: Tensor
    ) -> Pose:
        """Poses of what the head's network says of sequences (B * T, ...), dt_s (B, T): as ``pose`` frame by frame."""
        drawn = self.head.draw(outputs, evidence, tau_s, offsets_m)
        kept = over_time(Kept, dt_s, drawn.off_m, drawn.shown, drawn.doubted_s)
        pose, apart_m = self.head.pose(drawn, kept.moved_m, evidence, offsets_m)
        apart = over_time(Apart, dt_s, apart_m, drawn.shown, kept.moved_s)
        return self.head.firm(pose, drawn, apart_m - apart.apart_m, apart.firmness(evidence, tau_s))

    def pose(
        self, latent: Tensor, state: front.State, tau_s: Tensor, offsets_m: Tensor, dt_s: Tensor | None = None
    ) -> tuple[Pose, front.State]:
        """The pose for tau_s (B, 1, 1, 1) after the newest frame, on a skeleton (B, 1, 3, J) [m].

        With dt_s (B, 1, 1, 1), the time since the frame before, what the source's joints differ by is taken into the
        state: once a frame.
        """
        evidence = front.evidence(state, tau_s)
        drawn = self.head.draw(self.head.network(latent, tau_s), evidence, tau_s, offsets_m)
        moved_m, moved_s, apart_m, moves_m2 = (
            x[:, 0].transpose(1, 2) for x in (state.moved_m, state.moved_s, state.apart_m, state.moves_m2)
        )
        kept, apart = Kept(moved_m, moved_s), Apart(apart_m, moves_m2)
        if dt_s is not None:
            kept = kept.after(drawn.off_m, drawn.shown, drawn.doubted_s, dt_s[:, 0])
        pose, apart_m = self.head.pose(drawn, kept.moved_m, evidence, offsets_m)
        if dt_s is not None:
            apart = apart.after(apart_m, drawn.shown, kept.moved_s, dt_s[:, 0])
            means = kept._asdict() | apart._asdict()
            state = state._replace(**{name: x.transpose(1, 2)[:, None] for name, x in means.items()})
        return self.head.firm(pose, drawn, apart_m - apart.apart_m, apart.firmness(evidence, tau_s)), state

    def settled(self, latent: Tensor, before: Tensor, share: Tensor) -> Tensor:
        """(B, width) ``before`` moved towards this frame's ``latent``."""
        return before + share * (latent - before)

    def share(self, latent: Tensor, dt_s: Tensor) -> Tensor:
        """How far each dimension of the latent moves in a step of dt_s, at rates that the frame chooses itself: all the
        way on an actor's first frame, where dt is 0. What attention averages too little, this steadies."""
        rate_hz = 30.0 * F.softplus(self.settle(latent))
        return torch.where(dt_s > 0, 1 - torch.exp(-dt_s * rate_hz), 1.0)

    def settled_sequence(self, latents: Tensor, dt_s: Tensor) -> Tensor:
        """(B, T, width) ``settled`` frame by frame."""
        shares = self.share(latents, dt_s[..., None])
        now, rows = latents[:, 0], []
        for latent, share in zip(latents.unbind(1), shares.unbind(1), strict=True):
            now = self.settled(latent, now, share)
            rows.append(now)
        return torch.stack(rows, 1)

    def observed_skeleton(self, latent: Tensor, measured_m: Tensor, noise_m2: Tensor) -> Tensor:
        """(..., 1, 3, J) the skeleton as this frame shows it: measured on clean input, corrected on noisy."""
        out = torch.tanh(self.skeleton(latent))
        scale = torch.exp(0.5 * out[..., None, None, :J])
        fork = 0.1 * out[..., None, J:].unflatten(-1, (3, -1))
        learned = measured_m * scale + fork @ constant("fork_spread", latent)
        return measured_m + front.refined_share(noise_m2) * (learned - measured_m)

    def step(
        self, frame: front.Frame, phase: Phase, state: front.State, ring: Ring
    ) -> tuple[Encoded, front.State, Tensor]:
        """One frame of B actors against their rings: ``advance``, and what the frame shows of the skeleton.

        Raises:
            ValueError: the network looks into the future, too.
        """
        if self.config.bidirectional:
            raise ValueError("a bidirectional network sees the future: it cannot go frame by frame")
        latent, state, rows = self.advance(frame, phase, state, ring)
        return self.observe(latent, frame, state), state, rows

    def advance(
        self, frame: front.Frame, phase: Phase, state: front.State, ring: Ring
    ) -> tuple[Tensor, front.State, Tensor]:
        """Latent (B, width) of one frame, the next state, and the keys and values (B, L, 2, H, D) that the caller
        writes to the ring (``write_rows``)."""
        state, seen = front.step(frame, state)
        x = self.embed(front.features(frame, state, seen))  # (B, width)
        phase = Phase(phase.cos[:, None, None].to(x.dtype), phase.sin[:, None, None].to(x.dtype))
        blocked = ring.blocked[:, None, None]
        rows = []
        for block, keys, values in zip(self.blocks, ring.keys, ring.values, strict=True):
            x, row = cast(Block, block).step(x, phase, keys, values, blocked)
            rows.append(row)
        c, latent = self.config, self.norm(x)
        latent = self.settled(latent, ring.latent, self.share(latent, frame.dt_s[:, :, 0, 0]))
        return latent, state, torch.cat(rows, 1).reshape(-1, c.layers, 2, c.heads, c.head_width)

    def observe(self, latent: Tensor, frame: front.Frame, state: front.State) -> Encoded:
        """What a frame shows of its actor's skeleton, after ``advance``; only calibration needs it."""
        measured, weight = measured_skeleton(frame, state)
        return Encoded(latent, self.observed_skeleton(latent, measured, state.noise_m2), weight)

    def initial_ring(self, batch: int) -> Ring:
        c = self.config
        dtype = self.embed.weight.dtype
        shape = (batch, c.heads, c.window, c.head_width)
        keys, values = ([torch.zeros(shape, dtype=dtype) for _ in range(c.layers)] for _ in range(2))
        return Ring(
            keys, values, torch.full((batch, c.window), BLOCKED, dtype=dtype), torch.zeros(batch, dtype=torch.int64),
            torch.zeros(batch, c.width, dtype=dtype),
        )  # fmt: skip


def write_rows(ring: Ring, rows: Tensor, latent: Tensor) -> Ring:
    """The ring after a step, in place: rows (B, L, 2, H, D) go to each actor's slot frames % W; frames grows by one."""
    window, actors = ring.keys[0].shape[2], torch.arange(len(rows))
    slot = ring.frames % window
    for i, (keys, values) in enumerate(zip(ring.keys, ring.values, strict=True)):
        keys[actors, :, slot] = rows[:, i, 0]
        values[actors, :, slot] = rows[:, i, 1]
    ring.blocked[actors, slot] = 0.0
    return ring._replace(frames=ring.frames + 1, latent=latent)
