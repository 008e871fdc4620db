"""Several cameras, triangulated: quiet, then bursts; heavy tails, single frames far off, swapped ankles.

Also what any estimator does now and then: a joint somewhere else for a frame, left and right exchanged for a few.
"""

from __future__ import annotations

import numpy as np

from model.noise import events, steady
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import INDEX, J

_PAIRS = [
    [INDEX[f"{side}_{part}"] for part in parts for side in ("left", "right")]
    for parts in (("ankle", "foot"), ("knee", "ankle", "foot"), ("elbow", "wrist", "hand"), ("wrist", "hand"))
]

# What goes astray together, and how often.
_STRAYS = np.array([0.22, 0.13, 0.06, 0.05, 0.03, 0.01] * 2)
_STRAYING = np.zeros((12, J), np.float32)
for _i, (_side, _parts) in enumerate(
    (side, parts)
    for side in ("left", "right")
    for parts in (("wrist", "hand"), ("elbow", "wrist", "hand"), ("ankle", "foot"), ("knee", "ankle", "foot"),
                  ("shoulder", "elbow", "wrist", "hand"), ("hip",))
):  # fmt: skip
    _STRAYING[_i, [INDEX[f"{_side}_{part}"] for part in _parts]] = 1.0


def cameras_error(rng: np.random.Generator, times_s: F64) -> F32:
    """(B, T, J, 3) error [m] of joints triangulated from few views."""
    batch, steps = times_s.shape
    axis, depth = steady.camera_axis(rng, batch), log_uniform(rng, (1.0, 3.0), batch)
    slow = steady.slow(rng, times_s, log_uniform(rng, (0.004, 0.02), batch), axis, depth)
    tau_s = log_uniform(rng, (0.02, 0.15), batch, 1)
    keep = steady.decays(times_s, tau_s)[..., None]
    heavy = rng.standard_t(2.5, (batch, steps, J, 3)).clip(-12, 12).astype(np.float32)
    short = steady.scan(keep, heavy * np.sqrt(1.0 - keep * keep)) * log_uniform(rng, (0.001, 0.008), batch, 1, 1, 1)
    restless = log_uniform(rng, (0.3, 1.5), batch, 1, 1)  # of the logarithm of the size
    # Each joint has its own bursts, and some that all share.
    size = 0.7 * _wander(rng, times_s, J) + 0.7 * _wander(rng, times_s, 1)
    burst = np.exp((restless * size).clip(-3, 2.5))[..., None]
    return np.asarray(burst * (short + slow), np.float32)


def _wander(rng: np.random.Generator, times_s: F64, joints: int) -> F32:
    keep = steady.decays(times_s, log_uniform(rng, (0.15, 1.0), len(times_s), 1))
    drive = normal(rng, *times_s.shape, joints) * np.sqrt(1.0 - keep * keep)
    start = normal(rng, len(times_s), 1, joints) / np.maximum(np.sqrt(1.0 - keep[:, :1] ** 2), 1e-3)
    drive[:, :1] += start * np.sqrt(1.0 - keep[:, :1] ** 2)
    return steady.scan(keep, drive)


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
