"""Several cameras as they are: each finds the joints in its picture, wrong in its own ways, and rays are crossed.

What is wrong in one picture is wrong in space along few directions, most of all where cameras see a body from the same
side; and a wrist that one camera finds on the other arm is nowhere near either. Sizes are those of AIST++'s detections
triangulated from two to four cameras: two fifths of a dancer's error lie in a twelfth of the joints.

Also what any estimator does now and then: a joint somewhere else for a frame, a limb for a second, left and right
exchanged for a few.
"""

from __future__ import annotations

import numpy as np

from model.noise import events, steady
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import INDEX, MIRROR, J

_VIEWS = 4
_ODDS = (0.55, 0.25, 0.2)  # of two, three and four
_BETWEEN = (0.7, 2.5)  # angle from one camera to the next [rad]
_MIRROR = np.array(MIRROR)
_ARM, _FOREARM, _HAND = ("shoulder", "elbow", "wrist", "hand"), ("elbow", "wrist", "hand"), ("wrist", "hand")
_LEG, _FOOT = ("knee", "ankle", "foot"), ("ankle", "foot")


def _share(**sizes: float) -> F32:
    out = np.ones(J, np.float32)
    for part, size in sizes.items():
        for name in (part, f"left_{part}", f"right_{part}"):
            if name in INDEX:
                out[INDEX[name]] = size
    return out


def _limbs(parts: list[tuple[str, ...]]) -> F32:
    """(2 parts, J) 1 for what belongs to each part, of the left side and then of the right."""
    return np.array(
        [
            np.isin(np.arange(J), [INDEX[f"{side}_{name}"] for name in names])
            for side in ("left", "right")
            for names in parts
        ],
        np.float32,
    )


# Errors in a picture, by joint; and what is found elsewhere there together, how often.
_SIZE = _share(hip=0.9, knee=1.0, ankle=1.1, foot=1.3, shoulder=1.2, elbow=1.6, wrist=1.7, hand=2.0, head=1.2)
_ELSEWHERE = _limbs([_HAND, _FOREARM, ("elbow",), _FOOT, _LEG, _ARM, ("hip",)])
_OFTEN = np.array([0.25, 0.36, 0.1, 0.08, 0.06, 0.11, 0.04] * 2) / 2
# What goes astray together in space, and how often; what is exchanged with the other side.
_STRAYING = _limbs([_HAND, _FOREARM, _FOOT, _LEG, _ARM, ("hip",)])
_STRAYS = np.array([0.22, 0.13, 0.06, 0.05, 0.03, 0.01] * 2)
_PAIRS = [
    [INDEX[f"{side}_{part}"] for part in parts for side in ("left", "right")]
    for parts in (_FOOT, _LEG, _FOREARM, _HAND)
]


def cameras_error(rng: np.random.Generator, positions: F32, times_s: F64) -> F32:
    """(B, T, J, 3) error [m] of joints (B, T, J, 3) that two to four cameras saw."""
    batch = len(positions)
    crossed = _crossed(rng, batch)  # (B, V, 3, 3)
    size = log_uniform(rng, (0.4, 1.8), batch)
    rate_hz = log_uniform(rng, (0.15, 5.0), batch)
    error = np.zeros(positions.shape, np.float32)
    for view in range(_VIEWS):
        seen = _steady(rng, times_s, size) + _found_elsewhere(rng, positions, times_s, rate_hz)
        error += seen @ np.swapaxes(crossed[:, None, view], -1, -2)
    return error


def _crossed(rng: np.random.Generator, batch: int) -> F32:
    """(B, V, 3, 3) what an error in a picture makes of the joint's place: the least squares of the rays."""
    count = rng.choice([2, 3, 4], batch, p=_ODDS)
    used = (np.arange(_VIEWS) < count[:, None]).astype(np.float64)
    yaw = rng.uniform(0, 2 * np.pi, (batch, 1)) + np.cumsum(rng.uniform(*_BETWEEN, (batch, _VIEWS)), 1)
    pitch = rng.uniform(-0.35, 0.1, (batch, _VIEWS))
    ray = np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], -1)
    across = (np.eye(3) - ray[..., None] * ray[..., None, :]) * used[..., None, None]
    return np.asarray(np.linalg.inv(across.sum(1) + 0.02 * np.eye(3))[:, None] @ across, np.float32)


def _steady(rng: np.random.Generator, times_s: F64, size: F32) -> F32:
    """What a picture shows wrong at all times: a tremble, and what hangs on the pose and so is slower."""
    batch, steps = times_s.shape
    keep = steady.decays(times_s, log_uniform(rng, (0.05, 0.8), batch, 1))[..., None]
    drive = normal(rng, batch, steps, J, 3) * np.sqrt(1.0 - keep * keep)
    drive[:, 0] = normal(rng, batch, J, 3)
    slow = steady.scan(keep, drive) * log_uniform(rng, (0.008, 0.03), batch, 1, 1, 1)
    tremble = rng.standard_t(3, (batch, steps, J, 3)).clip(-10, 10) * log_uniform(rng, (0.001, 0.006), batch, 1, 1, 1)
    return np.asarray((slow + tremble) * (size[:, None, None] * _SIZE)[..., None], np.float32)


def _found_elsewhere(rng: np.random.Generator, positions: F32, times_s: F64, rate_hz: F32) -> F32:
    """Limbs that a picture shows elsewhere for a frame up to a second and a half: on the other side, on another part of
    the body, or off."""
    start, end, happens = events.events(rng, times_s, rate_hz, np.full(len(times_s), 0.01), 1.5)
    t = times_s[:, None]
    inside = (t >= start[..., None]) & (t < end[..., None]) & happens[..., None]  # (B, K, T)
    steadily = rng.random(start.shape) < 0.5
    inside &= steadily[..., None] | (rng.random(inside.shape) < rng.uniform(0.2, 0.9, (*start.shape, 1)))  # flickers
    error = np.zeros(positions.shape, np.float32)
    off = log_uniform(rng, (0.05, 0.4), *start.shape, 1) * normal(rng, *start.shape, 3)
    which = rng.choice(len(_ELSEWHERE), start.shape, p=_OFTEN)
    kind = rng.random(start.shape)
    for b, k in zip(*np.nonzero(inside.any(2))):
        frames = np.flatnonzero(inside[b, k])
        joints = np.flatnonzero(_ELSEWHERE[which[b, k]])
        true = positions[b, frames[:, None], joints]
        if kind[b, k] < 0.3:
            found = positions[b, frames[:, None], _MIRROR[joints]]
        elif kind[b, k] < 0.5:
            found = positions[b, frames, rng.integers(J)][:, None] + 0.05 * normal(rng, 1, len(joints), 3)
        else:
            found = true + off[b, k] + 0.3 * np.linalg.norm(off[b, k]) * normal(rng, 1, len(joints), 3)
        error[b, frames[:, None], joints] = found - true
    return error


def outlying(rng: np.random.Generator, noisy: F32, odds: F32, size_m: F32) -> F32:
    """Joints (B, T, J, 3) some of which are ``size_m`` (B,) and less off, in a share ``odds`` (B,) of the joint-frames,
    for a frame or two."""
    batch, steps = noisy.shape[:2]
    hit = rng.random((batch, steps, J), np.float32) < 0.75 * odds[:, None, None]
    again = hit & (rng.random(hit.shape, np.float32) < 0.33)
    way = normal(rng, *noisy.shape)
    way /= np.linalg.norm(way, axis=-1, keepdims=True) + 1e-6
    error = way * (rng.uniform(0.3, 1.0, (batch, steps, J, 1)) * size_m[:, None, None, None]) * hit[..., None]
    error[:, 1:] += (error * again[..., None])[:, :-1]
    return np.asarray(noisy + error, np.float32)


def astray(rng: np.random.Generator, times_s: F64, rate_hz: F32) -> F32:
    """(B, T, J, 3) error [m] of limbs that are found elsewhere for a frame up to a second: hidden arms, most of all.

    Real triangulated detections (AIST++, few cameras): half of the whole error, at wrists and elbows, two thirds of it
    in spells of more than eight frames, .15 to .9 m off from one frame to the next.
    """
    start, end, happens = events.events(rng, times_s, rate_hz, np.full(len(times_s), 0.01), 1.0)
    t = times_s[:, None]
    inside = ((t >= start[..., None]) & (t < end[..., None]) & happens[..., None]).astype(np.float32)  # (B, K, T)
    who = _STRAYING[rng.choice(len(_STRAYING), start.shape, p=_STRAYS)]  # (B, K, J)
    size = log_uniform(rng, (0.06, 0.8), *start.shape, 1, 1)
    place = normal(rng, *start.shape, 1, 3) + 0.5 * normal(rng, *start.shape, J, 3)
    error = np.einsum("bkt,bkj,bkjc->btjc", inside, who, 0.6 * size * place, optimize=True)
    restless = log_uniform(rng, (0.01, 0.4), len(times_s), 1, 1, 1) * rng.standard_t(3, error.shape).clip(-4, 4)
    return np.asarray(error + restless * np.linalg.norm(error, axis=-1, keepdims=True), np.float32)


def swapped(rng: np.random.Generator, noisy: F32, odds: F32) -> F32:
    """Joints (B, T, J, 3) with left and right of a limb exchanged for one to five frames, in a share ``odds`` (B,) of
    the frames."""
    out, (batch, steps) = noisy.copy(), noisy.shape[:2]
    begins = rng.random((batch, steps)) < odds[:, None] / 2.5
    for b, t in zip(*np.nonzero(begins)):
        joints = _PAIRS[rng.integers(len(_PAIRS))]
        other = [joints[i ^ 1] for i in range(len(joints))]
        span = slice(t, t + int(rng.integers(1, 6)))
        out[b, span, joints] = noisy[b, span, other]
    return out
