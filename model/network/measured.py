"""What one frame shows of an actor's skeleton, without weights: bone lengths, and the children of the forks."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kinematics import chosen_axes, frames_of
from model.network.evidence import bones_of
from model.network.limbs import bone_lengths
from model.network.matrices import constant
from model.network.state import Frame, State
from model.skeleton import FORK_CHILDREN, J

DOUBT_M = 0.002  # noise up to which a frame's bones count in full for the skeleton, then by inverse variance


def measured_skeleton(frame: Frame, state: State) -> tuple[Tensor, Tensor]:
    """This frame's bones as an actor's skeleton (B, 1, 3, J) in the rest pose [m], and its weight (B, 1, 1, J).

    Bone lengths on the canonical rest directions; the children of pelvis and spine3 as seen in their parent's frame.
    What a frame does not show falls back to the running mean, then to the mean skeleton, at little weight.
    """
    children = torch.tensor(FORK_CHILDREN, device=frame.mask.device)
    frame = frame._replace(mask=frame.mask * (1 - state.jumped))
    length, valid = bone_lengths(frame, frame.mask)  # derived joints are the source's torso, too
    # |d + noise| is longer than |d|: by the variance across the bone over its length, to first order.
    excess = torch.minimum(state.spread_m2[:, :1] / state.bone_mean_m.clamp(min=0.02), 0.3 * state.bone_mean_m)
    length = torch.where(valid > 0, length, state.bone_mean_m) - excess
    length = torch.where(torch.maximum(state.watched_s[:, :1], valid) > 0, length, constant("rest_length", length))
    known = valid.index_select(3, children).reshape(-1, 2, 3).amin(2)[:, :, None, None]  # (B, 2, 1, 1): all children
    bones = torch.where(valid > 0, frame.positions @ constant("bones", valid), constant("rest", valid))
    like = fork_axes(bones_of(state.point_m[:, -1:, :, :J]))  # of the slowest filter: noise chooses not
    (main, across), rest_axes = chosen_axes(
        like, [fork_axes(bones), fork_axes(constant("rest", bones))], constant("fork_sums", bones),
        constant("fork_before", bones),
    )  # fmt: skip
    turn = frames_of(*rest_axes) @ frames_of(main, across).transpose(-1, -2)  # rest_from_world, (B, 2, 3, 3)
    fork = turn @ bones.index_select(3, children).reshape(-1, 3, 2, 3).transpose(1, 2)  # (B, 2, 3, 3): xyz, child
    rest = constant("fork_rest", bones).reshape(3, 2, 3).transpose(0, 1)
    fork = torch.where(known > 0, fork, rest).transpose(1, 2).reshape(-1, 1, 3, 6)
    skeleton = with_forks(constant("direction", length) * length, fork)
    whole = with_forks(valid, known.expand(-1, -1, -1, 3).reshape(-1, 1, 1, 6))
    weight = frame.dt_s.clamp(min=1e-3, max=0.1) * (0.02 + whole) / (1 + state.noise_m2 / DOUBT_M**2)
    return skeleton, weight


def fork_axes(bones: Tensor) -> Tensor:
    """(..., 3, 2 AXES) what may be an axis of each fork's frame, of bones (..., 3, J): see kinematics.fork_frames."""
    return bones @ constant("fork_axes", bones) + constant("fork_world", bones)


def with_forks(joints: Tensor, fork: Tensor) -> Tensor:
    """``joints`` (..., J) with the entries of FORK_CHILDREN replaced by ``fork`` (..., 6)."""
    return joints * constant("not_fork", joints) + fork @ constant("fork_spread", joints)
