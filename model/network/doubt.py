"""How far off each joint may be, in units of the source's noise: one small network for all joints, beside the latent's
covariance.

It sees no pose, only what ``Trust`` does: distances between filters, noise, and what is known of the joint's sight. So
what it learns of gaps and of slow errors holds for motions and bodies that nobody has learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.evidence import Evidence
from model.network.trust import SEES
from model.skeleton import J

_MOST = 3.0  # of the logarithm of either
_LEAST_M = 0.03
_HARDLY = 0.01  # weight of joints that the frame does not show, among those that it does


class Doubt(nn.Module):
    """What it adds to the latent's covariance: a factor (B, J, 1) on standard deviations, and how far off each joint is
    at least (B, J, 1) [m]."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.see = nn.Linear(SEES, hidden, bias=False)
        self.joint = nn.Parameter(torch.zeros(J, hidden))
        self.think = nn.Linear(hidden, hidden)
        self.say = nn.Linear(hidden, 2)
        nn.init.zeros_(self.say.weight)
        with torch.no_grad():
            self.say.bias.copy_(torch.tensor([0.0, -1.2]))  # a centimetre, to begin with

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``Trust.features``."""
        x = features.reshape(-1, SEES, J).transpose(1, 2)
        x = nn.functional.silu(self.see(x) + self.joint)
        x = nn.functional.silu(self.think(x))
        factor, least = torch.exp(_MOST * torch.tanh(self.say(x) / _MOST)).chunk(2, 2)
        return factor, _LEAST_M * least


def unit_m2(evidence: Evidence) -> Tensor:
    """(B, 1, 1, J) the noise of the joints that the newest frame shows, of others the mean of theirs.

    The evidence's own noise doubts a joint the more the longer it is not seen; what that is worth, ``Doubt`` learns.
    """
    noise, shown = evidence.noise_m2, evidence.shown
    white = noise - torch.minimum(evidence.slow_m2, noise)
    heard = (shown * noise + _HARDLY * white).sum(3, keepdim=True) / (shown + _HARDLY).sum(3, keepdim=True)
    return shown * noise + (1 - shown) * heard
