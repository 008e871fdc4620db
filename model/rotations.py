"""Rotation maps that the exported graph needs, in plain tensor operations; everything else comes from roma.

Quaternions are xyzw, roma's and scipy's order. Oracle: roma.rotmat_to_unitquat in tests/test_rotations.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.skeleton import PARENTS

_PARENT = [max(p, 0) for p in PARENTS]

# The 16 entries of 4 q q^T as linear maps of the 9 entries of the matrix, plus a constant: rows x x, x y, ... w w.
_LINEAR = torch.zeros(16, 9)
_CONSTANT = torch.zeros(16)
for _a, _b, _terms, _one in [
    (0, 0, [(0, 1), (4, -1), (8, -1)], 1), (1, 1, [(0, -1), (4, 1), (8, -1)], 1),
    (2, 2, [(0, -1), (4, -1), (8, 1)], 1), (3, 3, [(0, 1), (4, 1), (8, 1)], 1),
    (0, 1, [(1, 1), (3, 1)], 0), (0, 2, [(2, 1), (6, 1)], 0), (1, 2, [(5, 1), (7, 1)], 0),
    (0, 3, [(7, 1), (5, -1)], 0), (1, 3, [(2, 1), (6, -1)], 0), (2, 3, [(3, 1), (1, -1)], 0),
]:  # fmt: skip
    for _row in {4 * _a + _b, 4 * _b + _a}:
        _CONSTANT[_row] = _one
        for _entry, _sign in _terms:
            _LINEAR[_row, _entry] = _sign
_DIAGONAL = torch.zeros(16, 4)
_DIAGONAL[[0, 5, 10, 15], [0, 1, 2, 3]] = 1.0
_PREFERENCE = torch.tensor([0.0, 1e-3, 2e-3, 3e-3])  # no ties: rows that tie may have opposite signs


def quaternions_xyzw(matrices: Tensor) -> Tensor:
    """(..., 4) unit quaternions of rotation matrices (..., 3, 3); the sign makes the largest entry positive.

    Takes the row of 4 q q^T with the largest diagonal: exact and well conditioned everywhere, without branches.
    Source: Bar-Itzhack 2000; Markley 2008.
    """
    shape = matrices.shape[:-2]
    outer = matrices.reshape(*shape, 9) @ _LINEAR.to(matrices).T + _CONSTANT.to(matrices)  # (..., 16)
    diagonal = outer @ _DIAGONAL.to(matrices) + _PREFERENCE.to(matrices)
    pick = (diagonal == diagonal.amax(-1, keepdim=True)).to(matrices)
    row = (pick.reshape(*shape, 1, 4) @ outer.reshape(*shape, 4, 4)).reshape(*shape, 4)
    length: Tensor = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return row / length


def local_from_world(world_rot: Tensor) -> Tensor:
    """(..., J, 3, 3) parent_from_joint rotations of world_from_joint ones; the root's stays in the world."""
    parent = world_rot.index_select(-3, torch.tensor(_PARENT, device=world_rot.device))
    local = parent.transpose(-1, -2) @ world_rot
    return torch.cat([world_rot[..., :1, :, :], local[..., 1:, :, :]], -3)
