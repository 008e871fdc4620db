"""What the front offers the head for a time: input, filters or smoothers of it then, its noise, sight and rest.

No memory and no weights: a view of the front's state (state.py). Every tensor has four axes, as in front.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from model.network.levels import norm, smoothers, white_m2
from model.network.matrices import K, constant
from model.network.state import State
from model.network.view import along_view
from model.skeleton import J

KERNEL_S = 0.1  # half width of the smoothing kernel over the history
DELAYED_S = 0.05  # asked for so far behind, the filters are smoothers
MEMBERS = 2 + K  # candidates: input at t + tau, kernel average there, the filters (at a delay: smoothers there)
QUIET_M = 0.006  # input less noisy than this is steadied,
_STILL = 16.0  # where it lies within the square root of so many times its jitter from where it has been
_RESTS = 7.0  # a joint has moved where its slowest filter is off by the square root of so many times its jitter
_LOUD_M = 0.0065  # louder jitter than this hides what moves: less and less rests then
_HALF_S = 0.085  # a rest is half believed after this time
_SURE_M2 = 1e-6  # jitter [m^2] up to this may be motion
_FRESH_S = 0.2  # a joint missing for longer is no evidence of anything, and less and less on the way there


class Evidence(NamedTuple):
    """What the pose head mixes for the time now + tau; joints relative to the anchor."""

    joints_m: Tensor  # (B, MEMBERS, 3, J) the input then, a kernel average of it, the filters now
    velocity: Tensor  # (B, K, 3, J) of the filters' joints [m/s]
    anchor_m: Tensor  # (B, 1, 3, 1) relative to the actor's origin
    noise_m2: Tensor  # (B, 1, 1, J) variance an axis of the input, with the doubt that prediction adds
    slow_m2: Tensor  # (B, 1, 1, J) the part of it that shows in bones alone: noise, or bones that are none
    seen: Tensor  # (B, 1, 1, J) 1 = now, 0 = not lately
    shown: Tensor  # (B, 1, 1, J) 1 = by the newest frame, and believed
    heading: Tensor  # (B, 1, 3, 3) world_from_heading
    rest_m: Tensor  # (B, 1, 3, J) where joints rest
    rests: Tensor  # (B, 1, 1, J) 1 where they do
    trust: Tensor  # (B, 1, 1, J) the frame's confidence
    jitter_m2: Tensor  # (B, 1, 1, J) of the input against its own neighbours
    silent_s: Tensor  # (B, 1, 1, J) since the joint was last seen and believed
    view: Tensor  # (B, 1, 3, 3) along what a single camera looks, as ``along_view`` says


def evidence(state: State, tau_s: Tensor) -> Evidence:
    """Evidence for tau_s (B, 1, 1, 1): the input there is interpolated, and is the newest for tau >= 0. The filters are
    those of now for tau >= 0; behind, where the history goes on, they are smoothers."""
    age, target = state.history_s, (-tau_s).clamp(min=0.0)
    behind = (target / DELAYED_S).clamp(max=1.0)
    gap = (age[..., :-1] - age[..., 1:]).clamp(min=1e-5)
    passed = ((age[..., :-1] - target) / gap).clamp(0.0, 1.0)  # (B, 1, 1, HISTORY - 1) how far target lies past slot i
    hat = pad(passed, (1, 0), value=1.0) - pad(passed, (0, 1))
    kernel = (1 - (age - target).abs() / KERNEL_S).clamp(min=0.0) + 1e-6 * hat
    weights = torch.cat([hat, kernel / kernel.sum(3, keepdim=True), smoothers(age - target, hat)], 2)
    past = (weights @ state.history_m).reshape(-1, 2 + K, 3, J)
    anchor = state.point_m[:, :1, :, J:]
    points = constant("point_joints", tau_s)
    then, average, smooth = past.split([1, 1, K], 1)
    now = state.point_m @ points
    filters = now + behind * (smooth - now)
    given = _steadied(then, filters[:, -1:], state)
    members = torch.cat([given, average, filters], 1) - anchor
    ahead = (0.5 * tau_s.clamp(min=0.0)).square()  # people change speed: doubt grows with the reach
    lately = state.seen[..., :J] * (1 - state.age_s[..., :J] / _FRESH_S).clamp(min=0.0)
    slow = torch.minimum(state.slow_m2, state.noise_m2)
    shown = (state.age_s[..., :J] <= 0).to(tau_s) * state.seen[..., :J] * (1 - state.jumped)
    noise, lead = state.noise_m2 + ahead, (1 - behind) * (state.velocity @ points)
    rests = rests_at(filters[:, -1:], state) * (state.rest_s / (state.rest_s + _HALF_S)) * shown
    rest, trust = state.rest_m - anchor, state.trust
    return Evidence(
        members, lead, anchor, noise, slow, lately, shown, heading(state), rest, rests, trust,
        state.spread_m2[:, 1:], state.silent_s, along_view(state.view_m2),
    )  # fmt: skip


def rests_at(slowest: Tensor, state: State) -> Tensor:
    """(B, 1, 1, J) 1 where the slowest filter is no further from where the joint rests than jitter brings it."""
    off = slowest - state.rest_m
    white = (white_m2(state.noise_m2, state.slow_m2) - _SURE_M2).clamp(min=0.0)
    near = (_RESTS * white / (1 + (white / _LOUD_M**2).square())).clamp(min=1e-12).square()
    return near / ((off * off).sum(2, keepdim=True).square() + near)


def _steadied(given: Tensor, slowest: Tensor, state: State) -> Tensor:
    """(B, 1, 3, J) the input, but that of a quiet source on a joint that stands still: there nearly all of what lies
    between it and the slowest filter is jitter."""
    off = given - slowest
    jitter = (_STILL * (white_m2(state.noise_m2, state.slow_m2) - _SURE_M2)).clamp(min=0.0).square()
    distance = (off * off).sum(2, keepdim=True).square()
    loud = 1 + (state.noise_m2 / QUIET_M**2).square()
    return given - off * (jitter / (loud * (distance + jitter).clamp(min=1e-20)))


def positions_of(bones_m: Tensor, anchor_m: Tensor | float) -> Tensor:
    """Joint positions (..., 3, J) of bones whose entry 0 is the root relative to the anchor."""
    return bones_m @ constant("chain", bones_m) + anchor_m


def bones_of(joints_m: Tensor) -> Tensor:
    """Bone vectors (..., 3, J) of joints; entry 0 is the root's own place."""
    return joints_m @ constant("bones", joints_m)


def heading(state: State) -> Tensor:
    """(B, 1, 3, 3) world_from_heading: turns about the vertical from the way the body faces, +Z, to the world.

    The network sees and answers in heading axes: it learns each motion once, and turning the world changes nothing.
    """
    left = state.point_m[:, 1:2] @ constant("left", state.seen)  # (B, 1, 3, 1), of the middle filter
    left = left * constant("level", left) + constant("ahead", left)  # faces +Z while nothing was seen
    left = left / norm(left)
    return (constant("turn", left) @ left + constant("upright", left)).reshape(-1, 1, 3, 3)
