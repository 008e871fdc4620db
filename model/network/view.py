"""Along what a single camera looks: a source that has one knows depth least, and trembles most that way.

Nobody has to tell it, nor that there is one: joints of several cameras tremble nearly alike along all axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.network.levels import TINY_M2
from model.network.matrices import constant

_MEMORY_S = 5.0
_NOTHING_M2 = 2e-6  # a sum over all joints: less is no trembling
_FAR = 9.0  # trembling that is beyond the usual counts less and less
_FAR_M2 = 1e-6
_CLEAR = 1.8  # by how much more than it shows a view is taken for one


def trembled(moments_m2: Tensor, jitter_m: Tensor, usual_m2: Tensor, valid: Tensor, dt_s: Tensor) -> Tensor:
    """(B, 1, 1, 3) running sums over the joints of x x, z z and x z of jitter_m (B, 1, 3, J), whose mean square along
    an axis is usual_m2 (B, 1, 1, J), where it is valid (B, 1, 1, J); dt_s (B, 1, 1, 1) after the frame before."""
    x, _, z = jitter_m.chunk(3, 2)
    weight = valid / (1 + (x * x + z * z) / (_FAR * usual_m2 + _FAR_M2))
    now = torch.cat([(weight * a * b).sum(3, keepdim=True) for a, b in ((x, x), (z, z), (x, z))], 3)
    gain = valid.amax(3, keepdim=True) * dt_s.clamp(min=1e-3, max=0.1) / _MEMORY_S
    return moments_m2 + gain * (now - moments_m2)


def along_view(moments_m2: Tensor) -> Tensor:
    """(B, 1, 3, 3) which keeps what lies along the view, turns round what lies level and across it, and takes away
    what is upright; the smaller, the less one trembles more than the other."""
    total = moments_m2 @ constant("view_total", moments_m2) + _NOTHING_M2
    return (moments_m2 / total @ constant("view_turn", moments_m2)).reshape(-1, 1, 3, 3)


def in_depth(view: Tensor) -> Tensor:
    """(B, 1, 3, 3) which keeps what lies along the view alone, as far as there is one."""
    clear = torch.sqrt(0.5 * view.square().sum((2, 3), keepdim=True) + TINY_M2)  # 0 to 1
    along = 0.5 * (view / clear.clamp(min=1e-3) + constant("level_axes", view))
    kept: Tensor = along * (_CLEAR * clear).clamp(max=1.0)
    return kept
