"""The fixed matrices and numbers of the front, by name: skeleton, filters, feature scaling. No weights, no state."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kinematics import AXES, WORLD_AXES, fork_candidates
from model.skeleton import (
    FORK_CHILDREN,
    INDEX,
    PARENTS,
    J,
    ancestor_matrix,
    rest_directions,
    rest_lengths_m,
    rest_offsets,
)

N = J + 1  # filtered points: the joints, relative to the anchor, and the anchor itself
FILTER_TAU_S = (0.03, 0.08, 0.2)  # time constants of the causal filters, fast to slow
SMOOTHER_S = (0.07, 0.15, 0.25)  # half widths of the smoothers that they become at a delay
K = len(FILTER_TAU_S)


def pair(a: float, b: float) -> Tensor:
    return torch.tensor([a, b], dtype=torch.float64)[:, None, None]


def _feature_scaling() -> tuple[Tensor, Tensor]:
    """(FEATURES,) scale and shift that bring every feature to order one."""
    joints = [2.0] * 3 * J + [20.0] * 3 * K * J + [0.5] * 3 * K * J  # place, innovations, velocities
    plain = [1.0] * 5 * J  # present, confidence, derived, seen, age
    scale = [*joints, *plain, *[0.25] * 2 * J, *[1.0] * 2 * J, *[20.0] * 3 * K, *[0.5] * 3 * K, 1.0, *[2.0] * J]
    shift = [*[0.0] * len(joints), *[0.0] * len(plain), *[2.5] * 2 * J, *[0.0] * (2 * J + 6 * K), 3.4, *[-1.0] * J]
    return torch.tensor(scale, dtype=torch.float64), torch.tensor(shift, dtype=torch.float64)


def _constants() -> dict[str, Tensor]:
    """Matrices that act on the point axis from the right: x (..., J) @ matrix."""
    f64 = torch.float64
    parent = torch.zeros(J, J, dtype=f64)  # each joint's parent's value, zero for the root
    adjacent = torch.zeros(J, J, dtype=f64)  # mean over the bones that touch a joint
    for j in range(1, J):
        parent[PARENTS[j], j] = adjacent[j, j] = adjacent[j, PARENTS[j]] = 1.0
    spread = torch.zeros(len(FORK_CHILDREN), J, dtype=f64)  # children of the forks -> joints
    for i, c in enumerate(FORK_CHILDREN):
        spread[i, c] = 1.0
    bones = torch.eye(J, dtype=f64) - parent  # positions -> bone vectors; entry 0 is the root's own position
    left = torch.zeros(N, 1, dtype=f64)  # filtered points -> a vector to the left, across hips and shoulders
    for side, sign in (("left", 1.0), ("right", -1.0)):
        left[INDEX[f"{side}_hip"]] = left[INDEX[f"{side}_shoulder"]] = sign
    turn = torch.zeros(9, 3, dtype=f64)  # unit left (x, 0, z) -> the rows of world_from_heading, but for the vertical
    turn[[0, 8], 0], turn[6, 2], turn[2, 2] = 1.0, 1.0, -1.0
    joints = torch.cat([torch.eye(J, dtype=f64), torch.ones(1, J, dtype=f64)], 0)  # filtered points -> joints' places
    chain = torch.tensor(ancestor_matrix()).T.contiguous()
    chain[0] = 1.0  # (root, bones) -> positions
    forks = torch.tensor(fork_candidates()).flatten(0, 1).T.contiguous()  # (J, 2 AXES)
    world = torch.zeros(3, 2, AXES, dtype=f64)  # candidates that no bones give
    world[:, :, -len(WORLD_AXES) :] = torch.tensor(WORLD_AXES, dtype=f64).T[:, None]
    # Ends of limbs' bones, and by what share a bone may be off: a source's shoulder need not turn with the arm.
    limbs, slack, along = torch.zeros(J, dtype=f64), torch.zeros(J, dtype=f64), torch.zeros(J, J, dtype=f64)
    for side in ("left", "right"):
        for upper, lower in (("elbow", "wrist"), ("knee", "ankle")):
            a, b = INDEX[f"{side}_{upper}"], INDEX[f"{side}_{lower}"]
            limbs[[a, b]] = 1.0
            slack[a] = 0.25 if upper == "elbow" else 0.0
            along[a, b] = along[b, a] = 0.7  # the other bone of its limb
    view = torch.zeros(3, 9, dtype=f64)  # x x, z z, x z of a trembling -> the matrix of view.py
    view[0, [0, 8]], view[2, [2, 6]] = torch.tensor([1.0, -1.0], dtype=f64), 2.0
    view[1] = -view[0]
    sums = torch.eye(2, dtype=f64).repeat_interleave(AXES, 0)
    before = torch.kron(torch.eye(2, dtype=f64), torch.ones(AXES, AXES, dtype=f64).triu(1))
    scale, shift = _feature_scaling()
    others = torch.ones(5, 5, dtype=torch.bool) ^ torch.eye(5, dtype=torch.bool)
    others[2] = False  # (other node, node) the factors of a Lagrange weight; the middle is the target
    return {
        "parent": parent, "adjacent": adjacent / adjacent.sum(0), "fork_spread": spread, "bones": bones,
        "left": left, "turn": turn, "level": torch.tensor([1.0, 0, 1], dtype=f64)[:, None],
        "ahead": torch.tensor([1e-6, 0, 0], dtype=f64)[:, None],
        "upright": torch.tensor([0.0, 0, 0, 0, 1, 0, 0, 0, 0], dtype=f64)[:, None],
        "not_fork": 1 - spread.sum(0), "point_joints": joints, "chain": chain,
        "limbs": limbs, "along_limbs": along, "slack": slack, "rest": torch.tensor(rest_offsets()).T.contiguous(),
        "direction": torch.tensor(rest_directions()).T.contiguous(),
        "fork_rest": torch.tensor(rest_offsets())[list(FORK_CHILDREN)].T.contiguous(),
        "rest_length": torch.tensor(rest_lengths_m()).clamp(min=0.02), "others": others.double(),
        "fork_axes": forks, "fork_world": world.flatten(1), "fork_sums": sums, "fork_before": before,
        "filter_tau": torch.tensor(FILTER_TAU_S, dtype=f64)[:, None, None],
        "smoother_s": torch.tensor(SMOOTHER_S, dtype=f64)[:, None],
        "target": torch.tensor([0.0, 0, 1, 0, 0], dtype=f64),
        "centre": torch.tensor([-1.0] * J + [1.0], dtype=f64),
        # Of bone length and of jitter: variance before anything was seen, the time it counts for, memory, share.
        "first_var": pair(1e-4, 0.0), "first_s": pair(0.01, 0.0), "memory_s": pair(1.5, 0.5), "watch_s": pair(4.0, 0.5),
        "view_turn": view, "view_total": torch.tensor([1.0, 1, 0], dtype=f64)[:, None],
        "level_axes": torch.diag(torch.tensor([1.0, 0, 1], dtype=f64)),
        "share": pair(0.5, 1.0), "feature_scale": scale, "feature_shift": shift,
    }  # fmt: skip


_CONSTANTS = {torch.float64: _constants()}
_CONSTANTS[torch.float32] = {name: value.float() for name, value in _CONSTANTS[torch.float64].items()}


_ELSEWHERE: dict[tuple[torch.device, torch.dtype, str], Tensor] = {}


def constant(name: str, like: Tensor) -> Tensor:
    """A constant matrix of the skeleton in the dtype of ``like``, where that lies."""
    if like.device.type == "cpu":
        return _CONSTANTS[like.dtype][name]
    key = (like.device, like.dtype, name)
    if key not in _ELSEWHERE:
        _ELSEWHERE[key] = _CONSTANTS[like.dtype][name].to(like.device)
    return _ELSEWHERE[key]
