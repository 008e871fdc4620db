"""Limbs keep their length: where one is suddenly too long or too short, an end of it is not where the source says.

Estimators that lose an elbow or a wrist for a while invent it, and nothing in time tells: it moves as a hand would. The
length of the forearm does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.network.levels import norm, refined_share
from model.network.matrices import constant
from model.network.state import Frame, State

_OFF = 0.12  # a joint counts half where its limb is off by this share of its length,
_WHITE = 2.0  # beyond so many times what white noise does to it
_PATIENT_S = 0.05  # after so long doubt wanes: by then it may be anywhere
_DRAWN = 0.5  # of what a limb is certainly too long or short by, so much is taken away
_KNOWN_S = 0.5  # for so long its length must have been seen
_SETTLED_S = 1.0  # a length that was seen for so long
_NEWS = 0.1  # is moved no further by a frame than by this share of itself


class Limbs(NamedTuple):
    """What a frame's bones say of its joints, (B, 1, 1 or 3, J) by the joint at the bone's end."""

    length_m: Tensor  # (B, 1, 1, J) of the bones
    valid: Tensor  # (B, 1, 1, J) 1 where both ends are measured and believed
    off_m: Tensor  # (B, 1, 1, J) by how much the bone is too long, when ``drawn_m`` is added to its end
    drawn_m: Tensor  # (B, 1, 3, J) what brings the joint nearer to where its limb has its length
    right: Tensor  # (B, 1, 1, J) 1 where the limb has its length, 0 where it has not
    trust: Tensor  # (B, 1, 1, J) how far the joint is to be believed: as ``right``, and more the longer it has not been


def bone_lengths(frame: Frame, joints: Tensor) -> tuple[Tensor, Tensor]:
    """Bone lengths (B, 1, 1, J), and 1 where both ends are of ``joints`` (B, 1, 1, J)."""
    bone = frame.positions @ constant("bones", joints)
    return norm(bone), joints * (joints @ constant("parent", joints))


def limbs(frame: Frame, state: State, believed: Tensor) -> Limbs:
    """Of a frame whose joints are believed or not (B, 1, 1, J). Nothing is doubted where nothing trembles."""
    length, valid = bone_lengths(frame, frame.mask * (1 - frame.derived) * believed)
    usual = state.bone_mean_m.clamp(min=0.02)
    known = valid * (state.watched_s[:, :1] / _KNOWN_S).clamp(max=1.0)
    ratio = (length / usual).clamp(min=0.1)
    white = (state.noise_m2 - torch.minimum(state.slow_m2, state.noise_m2)).clamp(min=1e-9)
    off = (torch.log(ratio).abs() - constant("slack", ratio) - _WHITE * torch.sqrt(white) / usual).clamp(min=0.0)
    off = off * constant("limbs", off) * known * refined_share(white)
    wrong = off * off / (off * off + _OFF**2)
    stretch = _DRAWN * wrong * (1 - wrong @ constant("parent", off)) * (1 - ratio) / ratio
    both = torch.maximum(off, off @ constant("along_limbs", off)).square()
    right = 1 - both / (both + _OFF**2)
    late = (state.silent_s + frame.dt_s) / _PATIENT_S
    patient = _OFF**2 * (1 + late * late.square())
    seen = (state.watched_s[:, :1] > 0).to(off)
    return Limbs(
        length, valid, seen * valid * (length * (1 + stretch) - state.bone_mean_m),
        frame.positions @ constant("bones", off) * stretch, right, patient / (both + patient),
    )  # fmt: skip


def usual_m(state: State, limb: Limbs, watched_s: Tensor, dt_s: Tensor) -> Tensor:
    """(B, 1, 1, J) the running mean of bone lengths with a frame more, watched_s (B, 1, 1, J) in all."""
    known = state.watched_s[:, :1] > 0
    most = torch.where(state.watched_s[:, :1] > _SETTLED_S, _NEWS * state.bone_mean_m, 1e3)
    news = torch.minimum(torch.maximum(limb.length_m - state.bone_mean_m, -most), most)
    gain = limb.valid * dt_s.clamp(min=1e-3, max=0.1) / watched_s.clamp(min=1e-3)
    return torch.where(known, state.bone_mean_m + gain * news, limb.valid * limb.length_m)
