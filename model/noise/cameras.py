"""Several cameras, triangulated: quiet, then bursts; heavy tails, single frames far off, swapped ankles.

Also what any estimator does now and then: a joint somewhere else for a frame, left and right exchanged for a few.
"""

from __future__ import annotations

import numpy as np

from model.noise import steady
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import INDEX, J

_PAIRS = [
    [INDEX[f"{side}_{part}"] for part in parts for side in ("left", "right")]
    for parts in (("ankle", "foot"), ("knee", "ankle", "foot"), ("elbow", "wrist", "hand"), ("wrist", "hand"))
]


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
