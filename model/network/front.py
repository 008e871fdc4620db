"""The part of the filter that has no weights: anchor, fast-to-slow causal filters, noise level, history, features.

One ``step`` serves training (in a loop over time), the live step and the exported graph, so they cannot drift apart.
It holds what must vanish on clean input: ``noise_m2`` goes to zero when bones are rigid and motion is smooth.
The network (causal.py) only sees ``features``; ``evidence`` is what the head's gates mix.

Every tensor has four axes (B, channel, xyz or 1, point): nothing needs reshaping on the way, and what is the same for
x, y and z runs along the points. In the exported graph either costs as much as the arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from model.network.evidence import DELAYED_S, MEMBERS, Evidence, bones_of, evidence, heading, positions_of, rests_at
from model.network.levels import RHO_M, TINY_M2, jitter, noise_m2, norm, refined_share, white_m2
from model.network.limbs import Limbs, bone_lengths, limbs, usual_m
from model.network.matrices import constant
from model.network.state import GROUPS, HISTORY, Frame, State, group_shapes, initial_state, pack, unpack
from model.network.view import trembled
from model.skeleton import J

# What others know as the front's lies beside it: what it remembers (state.py), what it offers (evidence.py), levels.
__all__ = [
    "DELAYED_S", "GROUPS", "HISTORY", "MEMBERS", "RHO_M", "TINY_M2", "Evidence", "Frame", "State", "bone_lengths",
    "bones_of", "evidence", "group_shapes", "heading", "initial_state", "norm", "pack", "positions_of", "refined_share",
    "unpack",
]  # fmt: skip

FEATURES = J * 31 + 19
_REST_S_M = 47.0  # where a joint rests is a mean over so long a metre of its jitter: .1 s for 2 mm
_BRIDGED = 12  # slots of the history that are put right when a joint comes back

_FAR_S = 1e3  # age of history slots that were never written
_RESET_S = 0.1  # a joint missing for longer starts its filters anew
_COAST_S = 0.15  # time constant by which a missing joint's velocity fades
_QUICK_S = 0.004  # frames that come closer together say no more of speed than such do
_OLDEST_S = 1.0  # ages beyond are told as this one: training need not have seen hours
_JUMP_M = 0.05  # an outlier lies further from where any motion would bring it, beyond the noise,
_JUMP_M_S2 = 60.0  # and beyond what a limb that is hurled does
_TURNS_HZ = 25.0  # or who turns [rad/s]
_PAUSE_S = 0.15  # after a pause of the source anything may be
_CENTRE_S = 0.5  # time constant by which the anchor comes back to the middle of the body


class Observation(NamedTuple):
    """What one frame said against what was expected."""

    points_m: Tensor  # (B, 1, 3, N) joints relative to the anchor, gaps filled, and the anchor
    innovation_m: Tensor  # (B, K, 3, N) against each filter
    bone_ratio: Tensor  # (B, 1, 1, J) bone length against its running mean


def step(frame: Frame, state: State) -> tuple[State, Observation]:
    """The next state, and what this frame added; ``features`` makes the network's input of both."""
    dt = frame.dt_s
    state = _centred(state, dt)
    now, anchor, jumped = _follow(frame, state)
    filled = (now.points_m[..., :J] + anchor).flatten(2)[:, :, None]  # (B, 1, 1, 3 J)
    first = state.seen[..., J:] <= 0  # the first frame fills the whole history
    history_s = pad(torch.where(first, _FAR_S, state.history_s[..., 1:] + dt), (0, 1))
    limb = now.limb
    heard = frame.mask * (1 - jumped) * (5 * limb.right - 2).clamp(0.0, 1.0)
    recent = _bridged(state.history_m[:, :, -_BRIDGED:], history_s[..., -1 - _BRIDGED : -1], state.silent_s + dt, now)
    recent = _without_spike(recent, filled, history_s[..., -3:], state.noise_m2)
    history = torch.cat([state.history_m[:, :, 1:-_BRIDGED], recent], 2)
    history = torch.cat([torch.where(first, filled, history), filled], 2)
    run = frame.mask * (state.run + 1)
    known = (state.watched_s[:, :1] > 0).to(dt)
    error = known * limb.valid * (limb.length_m - state.bone_mean_m)  # (B, 1, 1, J)
    jittered = jitter(history[:, :, -6:-1], history_s[..., -6:-1])
    most = 25 * state.spread_m2 + 0.02**2  # one frame does not make noise
    square = torch.minimum(torch.cat([error * error, jittered.square().mean(2, keepdim=True)], 1), most)
    six = (run >= 6).to(dt)
    spread, watched = _spread(state, square, torch.cat([limb.valid, six], 1), dt)
    mean = usual_m(state, limb, watched[:, :1], dt)
    seen, age = now.seen[..., :J], now.age_s[..., :J]
    doubt = frame.derived * 0.03**2 + (1 - seen) * 0.1**2 + (0.3 * age.clamp(max=1.0)).square()
    noise, slow = noise_m2(spread, watched)
    rest, rest_s = _rest(state, now, dt)
    new = State(
        now.seen, now.age_s, now.track_s, run, jumped, mean, spread, watched, noise + doubt, slow + doubt, now.point_m,
        now.velocity, state.moved_m, state.moved_s, state.apart_m, state.moves_m2, (state.silent_s + dt) * (1 - heard),
        frame.confidence, rest, rest_s, trembled(state.view_m2, jittered, spread[:, 1:], six, dt), history, history_s,
    )  # fmt: skip
    return new, Observation(now.points_m, now.told_m, limb.off_m / mean.clamp(min=0.02))


class Followed(NamedTuple):
    """The filters after a frame; as in ``State`` and ``Observation``."""

    seen: Tensor
    age_s: Tensor
    track_s: Tensor
    point_m: Tensor
    velocity: Tensor
    points_m: Tensor  # (B, 1, 3, N) what the frame said, where it is believed
    told_m: Tensor  # (B, K, 3, N) against each filter, whether believed or not
    limb: Limbs
    news_m: Tensor  # (B, 1, 3, J) what was believed against where the fastest filter went on to


def _follow(frame: Frame, state: State) -> tuple[Followed, Tensor, Tensor]:
    """The filters with a frame taken in, the anchor (B, 1, 3, 1), and which joints have jumped (B, 1, 1, J)."""
    dt = frame.dt_s
    fade = torch.where(state.age_s > 0, torch.exp(-dt / _COAST_S), 1.0)  # what is missing comes to rest on the body
    faded = state.velocity * fade
    predicted = state.point_m + faded * dt  # (B, K, 3, N)
    anchor = _anchor(frame, state, predicted[:, :1])  # (B, 1, 3, 1)
    present = torch.cat([frame.mask, frame.mask.amax(3, keepdim=True)], 3)  # (B, 1, 1, N)
    said = torch.cat([frame.positions - anchor, anchor], 3)  # (B, 1, 3, N)
    said = torch.where(present > 0, said, predicted[:, :1])
    jumped = _jumped(said[..., :J], predicted[:, :1, :, :J], anchor, state, dt)
    limb = limbs(frame, state, 1 - jumped)
    stale = torch.maximum(1 - state.seen, (state.age_s > _RESET_S).to(dt))
    kept = 1 - present * stale  # 0 where filters start anew
    told = (said - predicted) * kept
    trust = pad((1 - jumped) * limb.trust, (0, 1), value=1.0)  # an outlier says nothing but that it was there
    believed = predicted[:, :1] + trust * (said + pad(limb.drawn_m, (0, 1)) - predicted[:, :1])
    said = torch.where(kept > 0, believed, said)
    track = (state.track_s + dt) * kept
    innovation = (said - predicted) * kept
    tau = torch.minimum(constant("filter_tau", dt), (0.5 * track).clamp(min=_QUICK_S))  # young tracks adapt faster
    theta = torch.exp(-dt / tau)  # (B, K, 1, N)
    # Fading-memory filters of order two: no lag on constant velocity, with real dt.
    point = torch.where(kept > 0, predicted + present * (1 - theta * theta) * innovation, said)
    rate = present * (1 - theta).square() / dt.clamp(min=_QUICK_S)
    velocity = (faded + rate * innovation) * kept * torch.exp(-dt / _COAST_S * (1 - trust))
    seen, age = torch.maximum(state.seen, present), (state.age_s + dt) * (1 - present)
    news = (said - predicted[:, :1])[..., :J]
    return Followed(seen, age, track, point, velocity, said, told, limb, news), anchor, jumped


def _bridged(history: Tensor, age: Tensor, silent_s: Tensor, now: Followed) -> Tensor:
    """(B, 1, R, 3 J) the newest slots of the history, of ages (B, 1, 1, R), where what was filled in while a joint was
    silent for silent_s (B, 1, 1, J) now leads to where it has come back."""
    ramp = (1 - age.transpose(2, 3) / silent_s.clamp(min=1e-3)).clamp(min=0.0)  # (B, 1, R, J)
    return history + torch.cat([ramp, ramp, ramp], 3) * now.news_m.flatten(2)[:, :, None]


def _without_spike(recent: Tensor, filled: Tensor, age: Tensor, noise_m2: Tensor) -> Tensor:
    """(B, 1, R, 3 J) the newest slots of the history, the last of which is put between its neighbours where it lies
    further from there than any motion brings it, and further than they lie from each other."""
    older, spike = (x.reshape(-1, 1, 3, J) for x in (recent[:, :, -2:-1], recent[:, :, -1:]))
    now = filled.reshape(-1, 1, 3, J)
    before_s, last_s, _ = age.split(1, 3)
    half_s = 0.5 * before_s
    between = older + (now - older) * (1 - last_s / before_s.clamp(min=2e-3)).clamp(0.0, 1.0)
    off, apart = norm(spike - between), norm(now - older)
    most = _JUMP_M + 0.5 * _JUMP_M_S2 * half_s.square() + 4 * torch.sqrt(noise_m2)
    wrong = (5 * (off / torch.maximum(most, apart) - 1)).clamp(0.0, 1.0) * (before_s < _PAUSE_S).to(off)
    mended = (spike + wrong * (between - spike)).flatten(2)[:, :, None]
    return torch.cat([recent[:, :, :-1], mended], 2)


def _rest(state: State, now: Followed, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Where each joint rests (B, 1, 3, J), and for how long it has (B, 1, 1, J)."""
    slowest = now.point_m[:, -1:] @ constant("point_joints", dt)
    rest_s = (state.rest_s + dt) * rests_at(slowest, state) * (now.track_s[..., :J] > 0).to(dt)
    step_s = dt.clamp(min=1e-3)
    white = white_m2(state.noise_m2, state.slow_m2).clamp(min=1e-6)
    mean_s = torch.minimum(rest_s, _REST_S_M * torch.sqrt(white))
    return state.rest_m + step_s / (mean_s + step_s) * (slowest - state.rest_m), rest_s


def _jumped(said: Tensor, predicted: Tensor, anchor: Tensor, state: State, dt: Tensor) -> Tensor:
    """(B, 1, 1, J) 1 where a joint that was followed is suddenly where nothing brings it: neither the fastest filter,
    nor going on as between the last two frames, nor standing still. A second such sight in a row is believed: then it
    was no outlier. Joints said and predicted (B, 1, 3, J), relative to the anchor."""
    before, last = (state.history_m[:, :, -2:].reshape(-1, 2, 3, J) - anchor).split(1, 1)
    older_s, newer_s = state.history_s[..., -2:].split(1, 3)
    on = last + (last - before) * (dt / (older_s - newer_s).clamp(min=2e-3)).clamp(max=2.0)
    off = norm(said - torch.cat([predicted, on, last], 1)).amin(1, keepdim=True)
    speed = norm(state.velocity[:, :1] @ constant("point_joints", dt))
    most = _JUMP_M + (_JUMP_M_S2 + _TURNS_HZ * speed) * dt.square() + 4 * torch.sqrt(state.noise_m2)
    followed = (state.track_s[..., :J] > 0.1).to(dt) * (state.age_s[..., :J] <= 0).to(dt) * (1 - state.jumped)
    return followed * (dt < _PAUSE_S).to(dt) * (off > most).to(dt)


def _centred(state: State, dt: Tensor) -> State:
    """The same points and speeds with the anchor nearer to the middle of the joints.

    Only the sum of anchor and relative joint is ever measured: noise would let the two drift apart without end.
    """
    seen = state.seen[..., :J]
    middle = seen / seen.sum(3, keepdim=True).clamp(min=1.0)  # (B, 1, 1, J)
    moves = torch.cat([state.point_m[:, :1], state.velocity[:, :1]], 1)[..., :J]  # of the fastest filter
    shift = (1 - torch.exp(-dt / _CENTRE_S)) * (moves * middle).sum(3, keepdim=True)  # (B, 2, 3, 1)
    there = pad((state.age_s[..., :J] <= 0).to(dt) * seen, (0, 1), value=1.0)  # who is not there goes with the anchor
    off = constant("centre", shift) * there  # (B, 1, 1, N) off the joints, onto the anchor
    place, speed = (shift * off).split(1, 1)
    return state._replace(point_m=state.point_m + place, velocity=state.velocity + speed)


def _spread(state: State, square: Tensor, valid: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Running variances (B, 2, 1, J) of bone length and of jitter in time, and the time they have seen.

    Rigid bones bring the first to zero: the sign of clean input that motion cannot imitate.
    """
    before = state.watched_s
    step_s = valid * dt.clamp(min=1e-3, max=0.1)  # a pause says no more than a frame
    total = before + step_s
    var = torch.where(before > 0, state.spread_m2, constant("first_var", dt))  # the doubt before anything was seen
    gain = step_s / torch.minimum(total + constant("first_s", dt), constant("memory_s", dt)).clamp(min=1e-3)
    return var + gain * (square - var), torch.minimum(total, constant("watch_s", dt))


def _anchor(frame: Frame, state: State, predicted: Tensor) -> Tensor:
    """(B, 1, 3, 1) where the body is: the predicted anchor moved by a robust mean of what the present joints say."""
    expected = predicted[..., J:]
    error = frame.positions - (predicted[..., :J] + expected)  # (B, 1, 3, J)
    trust = frame.mask * state.seen[..., :J] * (0.05 + frame.confidence)
    weight = trust / (1 + error.square().sum(2, keepdim=True) / 0.15**2)
    move = (weight * error).sum(3, keepdim=True) / weight.sum(3, keepdim=True).clamp(min=1e-9)
    mean = frame.positions.sum(3, keepdim=True) / frame.mask.sum(3, keepdim=True).clamp(min=1.0)  # absent ones are 0
    return torch.where(state.seen[..., J:] > 0, expected + move, mean)


def features(frame: Frame, state: State, seen: Observation) -> Tensor:
    """(B, FEATURES) what the network sees, in heading axes; every entry of order one and bounded."""
    size = torch.where(state.watched_s[:, :1] > 0, state.bone_mean_m / constant("rest_length", frame.mask) - 1, 0.0)
    noise = torch.log(torch.cat([state.noise_m2, state.slow_m2], 1).clamp(min=1e-7))
    moves = torch.cat([seen.points_m, seen.innovation_m, state.velocity], 1)  # (B, 1 + 2 K, 3, N)
    moves = heading(state).transpose(2, 3) @ moves
    seen_age = torch.cat([state.seen, state.age_s.clamp(max=_OLDEST_S)], 1)[..., :J]
    scalars = torch.cat([frame.mask, frame.confidence, frame.derived, seen_age, noise, size, seen.bone_ratio], 1)
    log_dt = torch.log(frame.dt_s.clamp(min=1e-3))
    young = state.track_s[..., :J].clamp(max=1.0)  # a joint that has just come back is told by the age of its filters
    flat = [moves[..., :J].flatten(1), scalars.flatten(1), moves[:, 1:, :, J].flatten(1), log_dt.flatten(1)]
    flat.append(young.flatten(1))
    scaled = torch.cat(flat, 1) * constant("feature_scale", noise) + constant("feature_shift", noise)
    return scaled.clamp(-8.0, 8.0)
