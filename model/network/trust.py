"""How far each joint's filters are to be trusted, by how they lie to each other: one small network for all joints.

A mean of filters lies between them. Less noise is often beyond: the fast one, and on by so much as it differs from the
input; a narrow smoother, and on by so much as it differs from a wide one.

It sees no pose, only distances, noise and what is known of the joint's sight. So what it learns holds for motions and
bodies that nobody has learned, where the gates of the latent, which know the body, are misled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.evidence import MEMBERS, Evidence
from model.skeleton import J

SEES = 20
_FARTHEST = 1.5
_NEAR_M2 = 1e-6  # distances below a millimetre are alike
_SILENT_S = 0.2  # a joint that was not believed for so long is as good as lost


class Trust(nn.Module):
    """What is added to the gates of the input and its filters (B, MEMBERS, 1, J), and how far to go on beyond their
    mean (B, 2, 1, J)."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.see = nn.Linear(SEES, hidden, bias=False)
        self.joint = nn.Parameter(torch.zeros(J, hidden))
        self.think = nn.Linear(hidden, hidden)
        self.say = nn.Linear(hidden, MEMBERS + 2)
        nn.init.normal_(self.say.weight, std=0.01)
        nn.init.zeros_(self.say.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """For what ``features`` says."""
        x = features.reshape(-1, SEES, J).transpose(1, 2)
        x = nn.functional.silu(self.see(x) + self.joint)
        x = nn.functional.silu(self.think(x))
        said: Tensor = self.say(x).transpose(1, 2).reshape(-1, MEMBERS + 2, 1, J)
        return said[:, :MEMBERS], _FARTHEST * torch.tanh(said[:, MEMBERS:])

    def features(self, evidence: Evidence, tau_s: Tensor) -> Tensor:
        """(B, SEES, 1, J) of order one, the same in every pose and along all axes."""
        given, average, fast, middle, slow = evidence.joints_m.chunk(MEMBERS, 1)
        off = torch.cat([given, average, fast, slow], 1) - middle
        apart = torch.cat([off, fast - slow, evidence.velocity[:, 1:2]], 1)
        square = (apart * apart).sum(2, keepdim=True)  # (B, 6, 1, J)
        noise = torch.cat([evidence.noise_m2, evidence.slow_m2, evidence.noise_m2 - evidence.slow_m2], 1)
        levels = 0.25 * (torch.log(torch.cat([square, noise.clamp(min=0.0)], 1) + _NEAR_M2) + 8.0)  # (B, 9, 1, J)
        both = (square[:, :3] * square[:, 1:4]).clamp(min=_NEAR_M2**2)
        along = (off[:, :3] * off[:, 1:]).sum(2, keepdim=True) / torch.sqrt(both)  # -1 to 1: do they lie on one side?
        scalars = [evidence.seen, evidence.shown, evidence.trust, evidence.rests]
        tau = torch.cat([10 * tau_s.clamp(min=0.0), 10 * tau_s.clamp(max=0.0)], 1)
        jitter = 0.25 * (torch.log(evidence.jitter_m2 + _NEAR_M2) + 8.0)
        silent = (evidence.silent_s / _SILENT_S).clamp(max=1.0)
        return torch.cat([levels, along, *scalars, tau.expand(-1, -1, -1, J), jitter, silent], 1)


def beyond(evidence: Evidence) -> Tensor:
    """(B, 2, 3, J) the ways on."""
    given, average, fast, _, slow = evidence.joints_m.chunk(MEMBERS, 1)
    return torch.cat([fast - given, average - slow], 1)
