"""SmoothNet's architecture: an MLP over the frames of a window, the same for every axis of every joint.

A peer that the bench trains on the live filter's data. It sees one coordinate at a time: no body, no other joints.
Source: Zeng et al., SmoothNet (ECCV 2022), layers and losses as in cure-lab/SmoothNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.skeleton import J


@dataclass(frozen=True)
class SmoothNetConfig:
    """The published setting: window 32, 0.8 M parameters."""

    window: int = 32
    hidden: int = 512
    block_hidden: int = 256
    blocks: int = 3
    dropout: float = 0.5


class Block(nn.Module):
    """Linear, dropout, LeakyReLU, twice, beside the identity."""

    def __init__(self, c: SmoothNetConfig) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(c.hidden, c.block_hidden), nn.Linear(c.block_hidden, c.hidden)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.dropout(self.into(x)), 0.2)
        return x + F.leaky_relu(self.dropout(self.back(h)), 0.2)


class SmoothNet(nn.Module):
    """Smoothed joints of a window from its noisy ones."""

    def __init__(self, config: SmoothNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SmoothNetConfig()
        self.encoder = nn.Linear(c.window, c.hidden)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.blocks))
        self.decoder = nn.Linear(c.hidden, c.window)

    def forward(self, noisy: Tensor, fast: bool = False) -> Tensor:
        """(B, W, J, 3) smoothed joints in the world [m].

        The channels are each joint from the pelvis of its frame, and the pelvis from its mean over the window.

        Args:
            noisy: (B, W, J, 3) joints in the world [m], finite; W is the config's window.
            fast: for training: the blocks' products in bfloat16.
        """
        if noisy.ndim != 4 or noisy.shape[1:] != (self.config.window, J, 3):
            raise ValueError(f"noisy must be (B, {self.config.window}, {J}, 3), not {tuple(noisy.shape)}")
        root = noisy[:, :, :1]
        middle = root.mean(1, keepdim=True)  # (B, 1, 1, 3)
        channels = torch.cat([root - middle, noisy[:, :, 1:] - root], 2)
        smooth = self._network(channels.permute(0, 2, 3, 1), fast).permute(0, 3, 1, 2)  # (B, W, J, 3)
        root = smooth[:, :, :1] + middle
        return torch.cat([root, smooth[:, :, 1:] + root], 2)

    def _network(self, x: Tensor, fast: bool) -> Tensor:
        """(..., W) to (..., W)."""
        h = F.leaky_relu(self.encoder(x), 0.1)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            for block in self.blocks:
                h = block(h)
        out: Tensor = self.decoder(h)
        return out


def smoothnet_loss(smooth: Tensor, clean: Tensor) -> Tensor:
    """L1 of the channels and of their second differences, (B, W, J, 3) each [m]."""
    error = smooth - clean
    error = torch.cat([error[:, :, :1], error[:, :, 1:] - error[:, :, :1]], 2)
    return error.abs().mean() + (error[:, 2:] - 2 * error[:, 1:-1] + error[:, :-2]).abs().mean()
