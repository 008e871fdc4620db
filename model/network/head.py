"""The any-time pose head: latent and evidence in, a pose on the actor's skeleton out, for the time asked for.

Per joint, learned gates mix the input, causal filters of it and the network's own pose; the result replaces the
input by the share that its noise level says (levels.refined_share), so that clean input passes through. Constant
differences to the input, in the axes of the joint's parent, are the source's way to place joints and no error: they are
slowly taken up again (kept.py). Their bones fitted to the skeleton's lengths then only say how joints are turned:
positions are FK of the turned skeleton. The source's joints, refined (``free``), are drawn to it by what moves between
the two, where that is noise.
Vectors of the network are in heading axes (evidence.heading). Look-ahead lives here, never in attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.kinematics import chosen_axes, frames_of
from model.network.doubt import Doubt, unit_m2
from model.network.evidence import MEMBERS, Evidence, bones_of, positions_of
from model.network.head_matrices import SINGLE, first_pulls, head_constants, second_axes, tree_distances
from model.network.kept import doubted_s
from model.network.levels import norm, refined_share
from model.network.matrices import K, constant
from model.network.measured import fork_axes
from model.network.trust import Trust, beyond
from model.network.view import in_depth
from model.skeleton import FORKS, LEAVES, J, rest_directions

TAU_RANGE_S = (-0.2, 0.15)
# Vectors that the network gives, in heading axes: own bones, offsets, second axes, leaf axes.
_VECTORS = [J, J, J, len(LEAVES)]
# Sizes of the network's outputs, in order: gates, velocity shares, those vectors, covariance, contact
_SIZES = [J * (MEMBERS + 1), J * K, 3 * sum(_VECTORS), J * 6, 2]
OWN_GATES = slice(J * MEMBERS, J * (MEMBERS + 1))
COVARIANCE_ROWS = slice(sum(_SIZES[:3]), sum(_SIZES[:4]))
_GUESSED = 4.0  # logit by which the network's own joints are believed less of a body that is not seen at all
_DEPTH = 2.0  # of a single camera they are believed more along the view and less across, as this says
_LATE_S = 0.012  # on real people they come so much later than on those it was trained on
_UNSURE = 0.15  # a joint of less confidence than this counts as partly seen


class Pose(NamedTuple):
    """A pose relative to the actor's origin."""

    positions: Tensor  # (B, J, 3) m
    world_rot: Tensor  # (B, J, 3, 3) world_from_joint
    cholesky: Tensor  # (B, J, 3, 3) lower triangle of the position covariance in heading axes [m]
    heading: Tensor  # (B, 1, 3, 3) world_from_heading
    contact: Tensor  # (B, 2) logits, left and right foot on the ground
    own: Tensor  # (B, 3, J) the network's own bones [m], entry 0 the root from the anchor: for its own loss
    free: Tensor  # (B, J, 3) m, the refined joints as the source places them


class Drawn(NamedTuple):
    """A pose as the network draws it, before what is the source's own way to place joints is given back to it."""

    joints: Tensor  # (B, 1, 3, J) relative to the anchor [m]
    axes: Tensor  # (B, J, 3, 3) world_from_parent, of each joint
    off_m: Tensor  # (B, J, 3) input less joints, in those axes, where the frame shows the joint
    shown: Tensor  # (B, J, 1) 1 where it does
    doubted_s: Tensor  # (B, J, 1) after what time a constant of that is half believed
    second: Tensor  # (B, 1, 3, J) second axes
    leaf: Tensor  # (B, 1, 3, leaves) axes of the leaves
    cholesky: Tensor
    contact: Tensor
    own: Tensor


class Said(NamedTuple):
    """What the network says of the joints; (B, 1, 3, J) in world axes [m] are relative to the anchor."""

    gates: Tensor  # (B, (MEMBERS + 1) J) how much of each member, and of its own
    shares: Tensor  # (B, K J) of the filters' velocities
    misfit: Tensor  # (B, J) how far bones that are not rigid are noise
    own: Tensor  # (B, 1, 3, J) its own joints
    shift: Tensor  # (B, 1, 3, J) offsets
    trust: tuple[Tensor, Tensor]  # as ``Trust`` says


class PoseHead(nn.Module):
    """FiLM-modulated network from latent and tau to gates, own pose, rotations about bones and covariance."""

    only_child: Tensor
    rest_frames: Tensor
    joint_order: Tensor
    second_order: Tensor
    parent_order: Tensor
    triangle: Tensor
    ancestors: Tensor
    root_unit: Tensor
    body: Tensor
    spans: Tensor
    sigma: Tensor

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.tau1 = nn.Linear(5, 32)
        self.tau2 = nn.Linear(32, 4 * hidden)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, sum(_SIZES))
        self.shortcut = nn.Linear(width, 3 * J, bias=False)  # latent -> own bones: most of a pose is a linear copy
        self.misfit = nn.Linear(hidden, J)
        self.trust = Trust()
        self.doubt = Doubt()
        self.carry = nn.Parameter(-tree_distances())  # (J, J) log weight by which a lost joint (last) follows others
        self.pulls = nn.Parameter(first_pulls())
        nn.init.zeros_(self.shortcut.weight)
        nn.init.zeros_(self.misfit.weight)
        nn.init.constant_(self.misfit.bias, 4.0)  # noise, until it is known better
        with torch.no_grad():  # start at the rest pose, gates on the evidence
            self.fc3.weight.mul_(0.1)
            gates = torch.zeros(MEMBERS + 1, J)
            gates[MEMBERS] = -3.0  # the network's own pose has to earn its weight
            leaf = torch.tensor([1.0, 0, 0])[:, None].expand(3, len(LEAVES))
            vectors = [torch.tensor(rest_directions()).T, torch.zeros(3, J), torch.tensor(second_axes()).T, leaf]
            parts = [gates, torch.zeros(J * K), torch.cat(vectors, 1), torch.zeros(J * 6 + 2)]
            self.fc3.bias.copy_(torch.cat([part.flatten() for part in parts]))
        for name, value in head_constants().items():
            value = value.float() if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("sigma", torch.ones(1))  # of all covariances: set after training, on held-out subjects

    @staticmethod
    def trust_rows() -> list[int]:
        """The outputs that say how far to trust what, and how sure the pose is: gates, velocity shares, covariance."""
        ends = np.cumsum(_SIZES)
        return [*range(ends[1]), *range(ends[2], ends[3])]

    def network(self, latent: Tensor, tau_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, outputs) what the geometry below takes, the part of the own bones that is linear (B, 3 J), and how far
        bones that are not rigid are noise (B, J), and not the source's way to place joints."""
        t = 5 * tau_s.reshape(-1, 1)
        ahead, behind = t.clamp(min=0.0), t.clamp(max=0.0)
        basis = torch.cat([t, t.abs().sqrt(), ahead, torch.exp(6 * behind), torch.exp(-6 * ahead)], 1)
        scale1, shift1, scale2, shift2 = self.tau2(nn.functional.silu(self.tau1(basis))).chunk(4, 1)
        x = nn.functional.silu(self.fc1(latent) * (1 + scale1) + shift1)
        x = nn.functional.silu(self.fc2(x) * (1 + scale2) + shift2)
        return self.fc3(x), self.shortcut(latent), self.misfit(x)

    def draw(self, outputs: Sequence[Tensor], evidence: Evidence, tau_s: Tensor, offsets_m: Tensor) -> Drawn:
        """What the outputs of ``network`` say for now + tau of B actors: tau (B, 1, 1, 1) s, skeleton offsets
        (B, 1, 3, J) m."""
        told, copy, misfit = outputs
        gates, shares, vectors, spread, contact = told.split(_SIZES, 1)
        vectors = evidence.heading @ vectors.reshape(-1, 1, 3, sum(_VECTORS))
        own, shift, second, leaf = vectors.split(_VECTORS, 3)
        length = norm(offsets_m)  # (B, 1, 1, J)
        own = own + evidence.heading @ copy.reshape(-1, 1, 3, J)
        unit = length + self.root_unit  # the root's own length is zero
        own_bones = own * unit
        own_joints, shift = positions_of(torch.cat([own_bones, shift * unit], 1), 0.0).split(1, 1)
        features = self.trust.features(evidence, tau_s)
        said = Said(gates, shares, misfit, own_joints, shift, self.trust(features))
        joints = self.mix(said, evidence, tau_s)  # (B, 1, 3, J)
        still = (bones_of(joints).detach(), offsets_m.detach(), second.detach(), leaf.detach())
        axes = self._rotations(*still).index_select(1, self.parent_order)
        ahead = evidence.velocity[:, 1:2] * tau_s.clamp(min=0.0)
        off = evidence.joints_m[:, :1] + ahead - joints
        wrong = in_depth(evidence.view) @ off  # a camera's depth, where there is noise: no way to place joints
        off = off - refined_share(evidence.noise_m2) * wrong
        off = off[:, 0].transpose(1, 2)[..., None]  # (B, J, 3, 1)
        off = (axes.transpose(2, 3) @ off)[..., 0]
        factor = self._cholesky(spread.reshape(-1, J, 6), evidence, self.doubt(features))
        shown = evidence.shown.reshape(-1, J, 1)
        return Drawn(joints, axes, off, shown, doubted_s(evidence), second, leaf, factor, contact, own_bones[:, 0])

    def pose(self, drawn: Drawn, moved_m: Tensor, evidence: Evidence, offsets_m: Tensor) -> tuple[Pose, Tensor]:
        """The pose with joints moved to where the source places them, moved_m (B, J, 3) in their parents' axes; and how
        far the skeleton's joints lie from those (B, J, 3), in the same axes."""
        moved = (drawn.axes @ moved_m[..., None])[..., 0]  # (B, J, 3)
        joints = drawn.joints + moved.transpose(1, 2)[:, None]
        world_rot = self._rotations(self.fit(bones_of(joints), offsets_m), offsets_m, drawn.second, drawn.leaf)
        wanted = (joints + evidence.anchor_m)[:, 0].transpose(1, 2)  # (B, J, 3)
        positions = self.placed(world_rot, offsets_m, wanted, evidence.seen.reshape(-1, J, 1))
        apart = (drawn.axes.transpose(2, 3) @ (positions - wanted)[..., None])[..., 0]
        return Pose(positions, world_rot, drawn.cholesky, evidence.heading, drawn.contact, drawn.own, wanted), apart

    def firm(self, pose: Pose, drawn: Drawn, moves_m: Tensor, share: Tensor) -> Pose:
        """The pose with the source's joints drawn to their skeleton by a share (B, J, 1) of what moves between the two,
        moves_m (B, J, 3) in the axes of their parents."""
        return pose._replace(free=pose.free + (drawn.axes @ (share * moves_m)[..., None])[..., 0])

    def placed(self, world_rot: Tensor, offsets_m: Tensor, wanted_m: Tensor, seen: Tensor) -> Tensor:
        """(B, J, 3) joints by forward kinematics, the whole body put where the mixed joints (B, J, 3) say it is."""
        parent_rot = world_rot.index_select(1, self.parent_order)  # (B, J, 3, 3)
        bones = (parent_rot @ offsets_m.transpose(1, 3)).reshape(-1, J, 3)  # the root's offset is zero
        positions: Tensor = self.ancestors @ bones
        weight = seen + 1e-4  # of a body that is not seen at all, every joint counts
        return positions + (weight * (wanted_m - positions)).sum(1, keepdim=True) / weight.sum(1, keepdim=True)

    def fit(self, bones: Tensor, offsets_m: Tensor) -> Tensor:
        """(B, 1, 3, J) bone vectors near ``bones`` whose lengths are nearly the skeleton's: a few steps towards the
        nearest such pose.

        Turning each bone by itself would add up errors along the chain. Here every tie (a bone, or two children of
        a fork) that is too long or short moves joints all over the body, by learned shares. Bones that fit stay.
        """
        length = norm(offsets_m @ self.spans)  # (B, 1, 1, ties)
        ties, moves = bones @ self.spans, []
        for pull in self.pulls:
            excess = ties * (1 - length / norm(ties).clamp(min=1e-3))
            moves.append(excess)
            ties = ties - excess @ (pull @ self.spans)
        return bones - torch.cat(moves, 3) @ self.pulls.flatten(0, 1)

    def mix(self, said: Said, evidence: Evidence, tau_s: Tensor) -> Tensor:
        """(B, 1, 3, J) refined joints relative to the anchor: of what is seen, a mix of input, filters and the
        network's own; what is not seen is the network's own, carried along by what is."""
        seen = evidence.seen
        gates = said.gates.reshape(-1, MEMBERS + 1, 1, J)
        sure = (seen * (evidence.trust / _UNSURE).clamp(max=1.0)) @ self.body  # (B, 1, 1, 1)
        own = torch.softmax(torch.cat([gates[:, :MEMBERS], gates[:, MEMBERS:] - _GUESSED * (1 - sure)], 1), 1)
        own = own[:, MEMBERS:]
        trusted, on = said.trust
        members = torch.softmax(gates[:, :MEMBERS] + trusted, 1)
        measured = (members * evidence.joints_m).sum(1, keepdim=True)
        measured = measured + (on * beyond(evidence)).sum(1, keepdim=True)
        apart = said.own - measured
        late = _LATE_S * evidence.velocity[:, 1:2]
        mixed = measured + own * (apart + late + _DEPTH * (1 - own) * (evidence.view @ apart))
        share = torch.sigmoid(said.shares.reshape(-1, K, 1, J))
        lead = (share * evidence.velocity).mean(1, keepdim=True) * (2 * tau_s)
        mixed = mixed + (1 - own) * lead + said.shift
        given = evidence.joints_m[:, :1]
        noise = evidence.noise_m2 - evidence.slow_m2 * torch.sigmoid(-said.misfit.reshape(-1, 1, 1, J))
        mixed = given + refined_share(noise) * (mixed - given)
        mixed = mixed + evidence.rests * (evidence.rest_m - mixed)
        weight = torch.exp(self.carry) * seen.transpose(2, 3)  # (B, 1, J from, J to)
        carried = ((mixed - said.own) * seen) @ weight / weight.sum(2, keepdim=True).clamp(min=1e-9)
        unseen = said.own + said.shift + carried
        return unseen + seen * (mixed - unseen)

    def _rotations(self, vectors: Tensor, offsets_m: Tensor, second: Tensor, leaf: Tensor) -> Tensor:
        """(B, J, 3, 3): forks turn rigidly, single bones by direction and a learned second axis, leaves freely.

        All frames in one Gram-Schmidt: of the forks and single bones now, of the leaves, of the forks at rest.
        """
        skeleton = fork_axes(offsets_m)
        sums, before = constant("fork_sums", offsets_m), constant("fork_before", offsets_m)
        fork, rest = chosen_axes(skeleton, [fork_axes(vectors), skeleton], sums, before)
        main = torch.cat([fork[0], vectors @ self.only_child, leaf, rest[0]], 3)
        across = torch.cat([fork[1], second.index_select(3, self.second_order), rest[1]], 3)
        frames = frames_of(main, across)  # (B, 2 + 14 + 5 + 2, 3, 3)
        forks, others, fork_rest = frames.split([len(FORKS), len(SINGLE) + len(LEAVES), len(FORKS)], 1)
        turned = torch.cat([forks @ fork_rest.transpose(-1, -2), others @ self.rest_frames], 1)
        return turned.index_select(1, self.joint_order)

    def _cholesky(self, spread: Tensor, evidence: Evidence, doubt: tuple[Tensor, Tensor]) -> Tensor:
        """(B, J, 3, 3) lower triangular factor from six numbers a joint, in units of the noise, and what ``Doubt`` says
        of it: clean input is sure."""
        factor, least_m = doubt
        least_m = least_m * refined_share(evidence.noise_m2).reshape(-1, J, 1)
        unit = self.sigma * factor * torch.sqrt(unit_m2(evidence).clamp(min=0.001**2)).reshape(-1, J, 1)
        entries = torch.cat([torch.exp(spread[..., :3].clamp(-6.0, 4.0)), spread[..., 3:]], -1) * unit
        variance = entries.square().sum(-1, keepdim=True) / 3
        entries = entries * torch.sqrt((variance + least_m.square()) / variance.clamp(min=1e-12))
        return (entries @ self.triangle).reshape(-1, J, 3, 3)


def covariance(pose: Pose) -> Tensor:
    """(B, J, 3, 3) covariance of the positions in world axes [m^2]."""
    factor = pose.heading @ pose.cholesky
    return factor @ factor.transpose(-1, -2)
