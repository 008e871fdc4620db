"""What is left of joints beside a smooth curve through them: robust local parabolas, to both sides, at the real times.

A parabola over a tenth of a second each way follows what people do; what it leaves is the fast part of the noise. Its
size is set right for what the parabola itself takes of white noise, so white noise of 10 mm is found as 10 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.adapt.track import F64, Bools, Track

HALF_S, FEWEST = 0.1, 3  # of a window, each way; frames at least
FARTHEST = 1.6  # of a window: a frame beyond a gap is none of it
_ROUNDS = 4  # of giving less weight to what lies off
_FAR = 4.685 * 1.2  # Tukey's biweight: so many sigma off has no weight
MIDDLE = 1.5382  # median length of a normal vector in space of sigma 1 a coordinate
_FLOOR_M = 0.002  # sigma of a window, at least: so that it is never nothing
_ENOUGH = 4  # other frames that a parabola must rest on
_SINGULAR = 1e-9


@dataclass(frozen=True)
class Residual:
    """Of T frames, each joint against a parabola through its neighbours.

    Attributes:
        fast: (T, 24, 3) against all of them, of the size of white noise itself [m]; NaN where there are too few.
        off_m: (T, 24) distance from the parabola through the others, without itself [m].
        speed: (T, 24) of the parabola [m/s].
    """

    fast: F64
    off_m: F64
    speed: F64


def residual(track: Track) -> Residual:
    """Of a track's joints; those that are never there are NaN."""
    half = max(FEWEST, round(HALF_S * track.fps))
    reach_s = FARTHEST * half / track.fps
    count = len(track)
    shape = (count, track.positions.shape[1])
    fast, off, speed = np.full((*shape, 3), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    near = np.arange(count)[:, None] + np.arange(-half, half + 1)  # (T, W)
    inside = (near >= 0) & (near < count)
    near = np.clip(near, 0, count - 1)
    u = (track.times_s[near] - track.times_s[:, None]) / reach_s
    inside &= np.abs(u) <= 1.0
    for joint in np.flatnonzero(track.seen.any(0)):
        x = track.positions[near, joint]  # (T, W, 3)
        there = inside & np.isfinite(x).all(-1)
        x = np.where(there[..., None], x, 0.0)
        fast[:, joint], off[:, joint], slope = _one(u, x, there, half)
        speed[:, joint] = slope / reach_s
    return Residual(fast, off, speed)


def _one(u: F64, x: F64, there: Bools, centre: int) -> tuple[F64, F64, F64]:
    """Of one joint, from its windows (T, W, 3) at times u (T, W): fast (T, 3), off (T,), slope (T,) per unit of u."""
    powers = np.stack([np.ones_like(u), u, u * u, u**3, u**4], -1)  # (T, W, 5)
    weight = there.astype(np.float64)
    for _ in range(_ROUNDS):
        size = np.linalg.norm(x - _curve(powers, x, weight), axis=-1)
        sigma = np.maximum(_median(size, there) / MIDDLE, _FLOOR_M)
        weight = np.where(there, np.clip(1.0 - (size / (_FAR * sigma[:, None])) ** 2, 0.0, None) ** 2, 0.0)
    kept = weight > 0.0
    value, slope = _rows(powers, kept)
    rest = -value
    rest[:, centre] += 1.0
    others = kept.copy()
    others[:, centre] = False
    without = _rows(powers, others)[0]
    good = there[:, centre] & (others.sum(1) >= _ENOUGH)
    fast = _taken(rest, x) / np.sqrt(np.maximum((rest**2).sum(1), 1e-9))[:, None]
    off = np.linalg.norm(x[:, centre] - _taken(without, x), axis=-1)
    speed = np.linalg.norm(_taken(slope, x), axis=-1)
    return np.where(good[:, None], fast, np.nan), np.where(good, off, np.nan), np.where(good, speed, np.nan)


def _taken(rows: F64, x: F64) -> F64:
    """(T, 3) of x (T, W, 3) what rows (T, W) take."""
    return np.asarray((rows[:, None] @ x)[:, 0])


def _curve(powers: F64, x: F64, weight: F64) -> F64:
    """(T, W, 3) the weighted parabola through x (T, W, 3), at its frames."""
    weighted = np.swapaxes(powers[..., :3] * weight[..., None], -1, -2)  # (T, 3, W)
    return np.asarray(powers[..., :3] @ (_inverse(powers, weight) @ (weighted @ x)))


def _rows(powers: F64, kept: Bools) -> tuple[F64, F64]:
    """(T, W) each: what the parabola's value and slope in the middle take of each frame."""
    weight = kept.astype(np.float64)
    rows = _inverse(powers, weight)[:, :2] @ np.swapaxes(powers[..., :3] * weight[..., None], -1, -2)  # (T, 2, W)
    return rows[:, 0], rows[:, 1]


def _inverse(powers: F64, weight: F64) -> F64:
    """(T, 3, 3) inverse of the normal matrix; of nothing sensible where frames are too few."""
    s0, s1, s2, s3, s4 = (weight[:, None] @ powers)[:, 0].T
    a, b, c = s2 * s4 - s3 * s3, s2 * s3 - s1 * s4, s1 * s3 - s2 * s2
    d, e, f = s0 * s4 - s2 * s2, s1 * s2 - s0 * s3, s0 * s2 - s1 * s1
    whole = s0 * a + s1 * b + s2 * c
    rows = np.array([[a, b, c], [b, d, e], [c, e, f]]) / np.where(np.abs(whole) > _SINGULAR, whole, np.inf)
    return np.asarray(np.moveaxis(rows, -1, 0))


def _median(values: F64, there: Bools) -> F64:
    """(T,) over those that are there; 0 where none is."""
    ordered = np.sort(np.where(there, values, np.inf), axis=1)
    count = there.sum(1)
    at = np.clip((count - 1) // 2, 0, None)
    found = ordered[np.arange(len(at)), at]
    return np.where(np.isfinite(found), found, 0.0)
