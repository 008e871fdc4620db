"""Attention of one frame to those before it, in continuous time: sizes, rotary phases, the block of the Transformer.

Phases come in from the caller, who computes them in float64. ``Block.forward`` runs whole sequences, ``Block.step`` one
frame against the ring.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKED = -1e9  # score of an empty slot
DROPOUT = 0.1  # in training: the motions are few


@dataclass(frozen=True)
class Config:
    """Sizes of the network. ``window`` is W: frames each layer looks back; memory reaches layers x window frames."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    hidden: int = 512
    head_hidden: int = 256
    window: int = 64
    rotary: int = 16  # dimensions of each head that turn with time; the rest, where the sink's key lives, do not
    period_s: tuple[float, float] = (0.1, 10.0)  # shortest and longest rotary period
    bidirectional: bool = False  # the offline twin: attention sees W frames of the future, too; it cannot step

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def angular_hz(self) -> list[float]:
        """Angular frequency [rad/s] of each dimension of a head, 0 where it does not turn; phase = t * these."""
        low, high = self.period_s
        n = self.rotary // 2
        half = [2 * math.pi / (low * (high / low) ** (i / (n - 1))) for i in range(n)]
        return [*half, *half, *[0.0] * (self.head_width - self.rotary)]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Phase(NamedTuple):
    """How far time has turned each dimension of a head; cos 1 and sin 0 for those that do not turn."""

    cos: Tensor  # (..., D)
    sin: Tensor


def phase_of(times_s: Tensor, config: Config) -> Phase:
    """Rotary phase of times (..., ) in seconds since any epoch, computed in float64."""
    turns = torch.tensor(config.angular_hz(), dtype=torch.float64, device=times_s.device)
    angle = times_s.double()[..., None] * turns
    return Phase(torch.cos(angle), torch.sin(angle))


def _turned(rotary: int, width: int) -> Tensor:
    """(D, D) matrix of the quarter turn: (a, b) -> (-b, a) for the halves of the rotary part, the rest to zero."""
    half, matrix = rotary // 2, torch.zeros(width, width)
    for i in range(half):
        matrix[half + i, i], matrix[i, half + i] = -1.0, 1.0
    return matrix


class Block(nn.Module):
    """Pre-norm attention over the window and a feed-forward layer."""

    quarter: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.norm1 = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.norm2 = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        free = config.head_width - config.rotary
        self.sink_key = nn.Parameter(torch.randn(config.heads, free) * 0.1)
        self.sink_value = nn.Parameter(torch.zeros(config.heads, config.head_width))
        self.register_buffer("quarter", _turned(config.rotary, config.head_width), persistent=False)

    def sink(self) -> tuple[Tensor, Tensor]:
        """Key and value (H, D) of the sink; its key is zero where keys turn with time."""
        return F.pad(self.sink_key, (self.config.rotary, 0)), self.sink_value

    def _turn(self, qk: Tensor, phase: Phase) -> Tensor:
        return qk * phase.cos + (qk @ self.quarter) * phase.sin

    def _feed(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), DROPOUT, self.training)

    def forward(self, x: Tensor, phase: Phase, mask: Tensor) -> Tensor:
        """x (B, T, width), phase (B, 1, T, D), mask (T, T + 1) True where row sees column; the last is the sink."""
        c, batch = self.config, x.shape[0]
        whole = self.qkv(self.norm1(x)).unflatten(-1, (3 * c.heads, c.head_width)).transpose(1, 2)  # (B, 3 H, T, D)
        qk, v = whole.split([2 * c.heads, c.heads], 1)
        q, k = self._turn(qk, phase).split(c.heads, 1)
        sink_k, sink_v = self.sink()
        k = torch.cat([k, sink_k[None, :, None].expand(batch, -1, -1, -1)], 2)
        v = torch.cat([v, sink_v[None, :, None].expand(batch, -1, -1, -1)], 2)
        # Written out: in bfloat16 on a CPU five times as fast as F.scaled_dot_product_attention and its gradient.
        scores = (q * c.head_width**-0.5) @ k.transpose(-1, -2)
        attended = torch.softmax(torch.where(mask, scores, BLOCKED), -1) @ v
        attended = self.out(attended.transpose(1, 2).flatten(2))
        return self._feed(x + F.dropout(attended, DROPOUT, self.training))

    def step(self, x: Tensor, phase: Phase, keys: Tensor, values: Tensor, blocked: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, width), phase (B, 1, 1, D), ring (B, H, W, D) each, ``blocked`` (B, 1, 1, W) added to the scores.

        Returns the next x and the new key and value (B, 2 H, 1, D). They and the sink are scored beside the ring rather
        than joined to it: no copy of the ring a frame.
        """
        c = self.config
        qk, v = self.qkv(self.norm1(x)).reshape(-1, 3 * c.heads, 1, c.head_width).split([2 * c.heads, c.heads], 1)
        q, k = self._turn(qk, phase).split(c.heads, 1)
        sink_k, sink_v = self.sink()
        q = q * c.head_width**-0.5
        past = q @ keys.transpose(2, 3) + blocked  # (B, H, 1, W)
        scores = torch.cat([past, q @ k.transpose(2, 3), q @ sink_k[:, :, None]], 3)
        old, now, sink = torch.softmax(scores, 3).split([c.window, 1, 1], 3)
        attended = old @ values + now * v + sink * sink_v[:, None]
        x = x + self.out(attended.reshape(-1, c.width))
        return self._feed(x), torch.cat([k, v], 1)


def band_mask(length: int, window: int, bidirectional: bool = False) -> Tensor:
    """(T, T + 1) True where frame i may look at frame j: 0 <= i - j <= window, or up to window ahead as well; the last
    column, the sink, always."""
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    return F.pad((back >= (-window if bidirectional else 0)) & (back <= window), (0, 1), value=True)
