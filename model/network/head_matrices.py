"""The fixed matrices of the head, and what two of its weights start from. No state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.kinematics import frame_from_axes
from model.skeleton import CHILDREN, FORKS, INDEX, LEAVES, PARENTS, J, ancestor_matrix, rest_directions

PULLS = 4  # steps of the projection
SINGLE = [j for j in range(J) if len(CHILDREN[j]) == 1]
_ONLY_CHILD = [CHILDREN[j][0] for j in SINGLE]
_PARENT = [max(p, 0) for p in PARENTS]
# Bones, and the distances between the children of each fork: what never changes in a body.
_TIES = [(p, j) for j, p in enumerate(PARENTS) if p >= 0] + [
    (a, b) for f in FORKS for a in CHILDREN[f] for b in CHILDREN[f] if a < b
]


def second_axes() -> np.ndarray:
    """(J, 3) a rest axis across each joint's main one: forward, and sideways for feet, whose main axis is forward."""
    axes = np.tile([0.0, 0.0, 1.0], (J, 1))
    for name in ("left_ankle", "right_ankle"):
        axes[INDEX[name]] = (1.0, 0.0, 0.0)
    return axes


def head_constants() -> dict[str, Tensor]:
    """The fixed matrices of the head, by buffer name."""
    only_child = np.eye(J)[_ONLY_CHILD]
    order = [*FORKS, *SINGLE, *LEAVES]
    triangle = np.zeros((6, 9))  # three diagonal entries, then the three below it -> a flat 3 x 3
    triangle[range(6), [0, 4, 8, 3, 6, 7]] = 1.0
    main = torch.tensor(rest_directions())[_ONLY_CHILD]
    rest_frames = frame_from_axes(main, torch.tensor(second_axes())[SINGLE]).transpose(-1, -2)
    leaf = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).double()  # columns (x, z, -y) of a leaf frame -> x, y, z
    root_unit = np.zeros(J)
    body = np.ones((J, 1))
    body[list(LEAVES)] = 0.0  # whether there are hands, feet and a head says little of the rest
    root_unit[0] = 0.3  # metres from the anchor that an output of one means
    spans = np.zeros((J, len(_TIES)))  # bones -> the vector of each tie
    for i, (a, b) in enumerate(_TIES):
        spans[:, i] = ancestor_matrix()[b] - ancestor_matrix()[a]
    return {
        "spans": torch.tensor(spans),
        "only_child": torch.tensor(only_child.T.copy()),
        "rest_frames": torch.cat([rest_frames, leaf.expand(len(LEAVES), 3, 3)]),
        "joint_order": torch.tensor([order.index(j) for j in range(J)]),
        "second_order": torch.tensor([*SINGLE, *LEAVES]),
        "parent_order": torch.tensor(_PARENT),
        "triangle": torch.tensor(triangle),
        "ancestors": torch.tensor(ancestor_matrix()),
        "body": torch.tensor(body / body.sum()),
        "root_unit": torch.tensor(root_unit),
    }


def tree_distances() -> Tensor:
    """(J, J) bones between any two joints."""
    chains = ancestor_matrix()  # (J, J) 1 = lies on the way from the root
    shared = chains @ chains.T
    depth = np.diag(shared)
    return torch.tensor(depth[:, None] + depth[None] - 2 * shared, dtype=torch.float32)


def first_pulls() -> Tensor:
    """(PULLS, ties, J) what a tie that is too long does to each bone vector: both its joints go halfway, shared by
    the ties of a joint. The start of what is learned."""
    ends = np.zeros((len(_TIES), J))
    for i, (a, b) in enumerate(_TIES):
        ends[i, a], ends[i, b] = -1.0, 1.0
    moves = ends / np.abs(ends).sum(0)  # tie -> joint positions
    bones = np.eye(J)
    for j in range(1, J):
        bones[PARENTS[j], j] = -1.0
    return torch.tensor(moves @ bones, dtype=torch.float32).expand(PULLS, -1, -1).clone()
