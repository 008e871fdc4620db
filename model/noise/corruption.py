"""Noise for training and evaluation: what mocap and pose estimators do to a clean pose stream.

Draws, per sequence, which components of steady.py and events.py it has and how large they are; gives the mask and
the confidence that such a source would report. ``python -m model.noise.report [clips.npz]`` prints the statistics
beside real figures (report.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.noise import cameras, events, half_seen, steady
from model.noise.config import NoiseConfig, Range
from model.noise.events import Bools, Ints
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import J

_CAMERAS = 6  # their number among the kinds


@dataclass(frozen=True)
class Corrupted:
    """A noisy sequence as a source would send it: positions (B, T, J, 3) m, finite everywhere; mask (B, T, J), True =
    visible; confidence (B, T, J) in 0..1, 0 exactly where hidden. A hidden joint holds its last visible position."""

    positions: F32
    mask: Bools
    confidence: F32


def corrupt(rng: np.random.Generator, positions: F32, times_s: F64, config: NoiseConfig | None = None) -> Corrupted:
    """One draw of training noise.

    Args:
        rng: the only source of randomness: the same generator state gives the same noise.
        positions: (B, T, J, 3) clean joints in the world [m], Y up, anywhere.
        times_s: (B, T) rising times [s].
        config: odds and sizes; the default is FIELD.md's table plus plain white, HPSTM's and sensor noise.
    """
    config = config or NoiseConfig()
    positions = np.asarray(positions, np.float32)
    times_s = np.asarray(times_s, np.float64)
    if positions.shape[2:] != (J, 3) or times_s.shape != positions.shape[:2]:
        raise ValueError(f"positions must be (B, T, {J}, 3) and times (B, T), not {positions.shape} {times_s.shape}")
    kind = _kinds(rng, len(positions), config)
    noisy = positions.copy()
    for index, add in ((1, _white), (2, _hpstm), (3, _sensor)):
        rows = np.flatnonzero(kind == index)
        if len(rows):
            noisy[rows] += add(rng, positions[rows], config)
    rows = np.flatnonzero(kind == 4)
    if len(rows):
        noisy[rows] += wander_error(rng, times_s[rows], config)
    rows = np.flatnonzero(kind == 5)
    if len(rows):
        noisy[rows] += estimator_error(rng, positions[rows], times_s[rows], config)
    noisy = _broken(rng, positions, noisy, times_s, kind, config)
    confidence = _confidence(rng, times_s, noise_m(noisy, positions), config)
    rows = rows[rng.random(len(rows)) < config.stuck]
    if len(rows):
        rate = log_uniform(rng, config.stuck_hz, len(rows))
        noisy[rows], lost = events.stuck(rng, times_s[rows], noisy[rows], rate)
        # A stuck joint that keeps the confidence it had is a silent dropout: three in five.
        told = lost & (rng.random((len(rows), 1, J)) < 0.4)
        confidence[rows] = np.where(told, 0.15 * confidence[rows], confidence[rows])
    mask = ~_hidden(rng, times_s, kind == 0, config)
    if config.out_of_sight:
        noisy, mask, confidence = _half_seen(rng, noisy, mask, confidence, times_s, config)
    return finished(noisy, mask, confidence)


def _broken(rng: np.random.Generator, positions: F32, noisy: F32, times_s: F64, kind: Ints, config: NoiseConfig) -> F32:
    """Cameras' error, and the frames of others that are wrong altogether: never where it is clean."""
    rows = np.flatnonzero(kind == _CAMERAS)
    if len(rows):
        noisy[rows] += cameras.cameras_error(rng, positions[rows], times_s[rows])

    def hit(odds: float) -> Ints:
        often = odds * ((kind > 0) & (kind != _CAMERAS))  # theirs are in the pictures
        return np.flatnonzero(rng.random(len(kind)) < often) if odds else np.zeros(0, np.int64)

    rows = hit(config.outliers)
    if len(rows):
        share, size = (log_uniform(rng, x, len(rows)) for x in (config.outliers_odds, config.outliers_m))
        noisy[rows] = cameras.outlying(rng, noisy[rows], share, size)
    rows = hit(config.astray)
    if len(rows):
        noisy[rows] += cameras.astray(rng, times_s[rows], log_uniform(rng, config.astray_hz, len(rows)))
    rows = hit(config.swaps)
    if len(rows):
        noisy[rows] = cameras.swapped(rng, noisy[rows], log_uniform(rng, config.swaps_odds, len(rows)))
    return noisy


def _half_seen(
    rng: np.random.Generator, noisy: F32, mask: Bools, confidence: F32, times_s: F64, config: NoiseConfig
) -> tuple[F32, Bools, F32]:
    """Some rows with a part of the body out of sight: not reported, or made up at low confidence."""
    rows = np.flatnonzero(rng.random(len(noisy)) < config.out_of_sight)
    if len(rows) == 0:
        return noisy, mask, confidence
    hidden = half_seen.out_of_sight(rng, times_s[rows])
    told, trust = half_seen.made_up(rng, noisy[rows], times_s[rows], hidden)
    made = (rng.random((len(rows), 1, 1)) < config.made_up) & hidden
    noisy[rows] = np.where(made[..., None], told, noisy[rows])
    confidence[rows] = np.where(made, trust, np.maximum(confidence[rows], 0.3))
    mask[rows] &= made | ~hidden
    return noisy, mask, confidence


def noise_m(noisy: F32, positions: F32) -> F32:
    """(B, T, J) distance between noisy and true joints [m]."""
    difference = noisy - positions
    return np.asarray(np.sqrt(np.einsum("btjc,btjc->btj", difference, difference)))


def _kinds(rng: np.random.Generator, batch: int, config: NoiseConfig) -> Ints:
    odds = np.array([config.clean, config.white, config.hpstm, config.sensor, config.wander, 1.0, config.cameras])
    odds[5] -= odds.sum() - 1.0  # the estimator kind is what the others leave; after it the cameras
    return np.searchsorted(np.cumsum(odds), rng.random(batch), side="right")


def _some(rng: np.random.Generator, batch: int, odds: float) -> F32:
    return (rng.random(batch) < odds).astype(np.float32)


def _uniform(rng: np.random.Generator, bounds: Range, batch: int) -> F32:
    return rng.uniform(bounds[0], bounds[1], batch).astype(np.float32)


def _white(rng: np.random.Generator, positions: F32, config: NoiseConfig) -> F32:
    return normal(rng, *positions.shape) * log_uniform(rng, config.white_m, len(positions), 1, 1, 1)


def _sensor(rng: np.random.Generator, positions: F32, config: NoiseConfig) -> F32:
    return normal(rng, *positions.shape) * log_uniform(rng, config.sensor_m, len(positions), 1, 1, 1)


def _hpstm(rng: np.random.Generator, positions: F32, config: NoiseConfig) -> F32:
    return hpstm_error(rng, positions, log_uniform(rng, config.hpstm_scale, len(positions)))


def hpstm_error(rng: np.random.Generator, positions: F32, scale: F32) -> F32:
    """(B, T, J, 3) HPSTM's published noise: white 10 mm, moving average 7 of 15 mm, outliers .5 % up to 250 mm, bone
    lengths 3 %, all times ``scale`` (B,)."""
    batch, steps = positions.shape[:2]
    times_s = np.broadcast_to(np.arange(steps) / 30.0, (batch, steps))
    error = normal(rng, *positions.shape) * (0.010 * scale)[:, None, None, None]
    error += steady.moving_average(rng, (batch, steps), 0.015 * scale)
    error += steady.outliers(rng, (batch, steps), 0.005, 0.25 * scale)
    ratio = steady.bone_ratio(rng, times_s, 0.03 * scale, np.zeros(batch, np.float32))
    error += steady.stretched_bones(positions, ratio)
    return error


def wander_error(rng: np.random.Generator, times_s: F64, config: NoiseConfig) -> F32:
    """(B, T, J, 3) error that wanders with a time constant per sequence and anything between each joint by itself and
    the whole body together, longer along one axis, plus white: what lies between white and an estimator's error."""
    batch = len(times_s)
    tau_s = log_uniform(rng, config.wander_s, batch, 1)
    keep = steady.decays(times_s, tau_s)[..., None]  # (B, T, 1, 1)
    signal = steady.scan(keep, normal(rng, *times_s.shape, J, 3) * np.sqrt(1.0 - keep * keep))
    together = rng.random((batch, 1, 1)).astype(np.float32)
    shared = steady.body_modes(rng, batch, J)
    error = signal * np.sqrt(1.0 - together)[..., None] + steady.mix(signal, shared) * np.sqrt(together)[..., None]
    size = log_uniform(rng, config.wander_m, batch, 1, 1, 1)
    error = error + normal(rng, *error.shape) * log_uniform(rng, config.wander_white, batch, 1, 1, 1)
    axis = normal(rng, batch, 3)
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    return steady.stretch(size * error, axis, log_uniform(rng, (1.0, 3.0), batch))


def estimator_error(rng: np.random.Generator, positions: F32, times_s: F64, config: NoiseConfig) -> F32:
    """(B, T, J, 3) error of a pose estimator: slow, bias, bone lengths, white and bursts, per-sequence sizes."""
    batch, steps = times_s.shape
    scale = log_uniform(rng, config.scale, batch)
    axis, depth = steady.camera_axis(rng, batch), log_uniform(rng, config.depth, batch)

    def size(odds: float, bounds: Range) -> F32:
        return _some(rng, batch, odds) * log_uniform(rng, bounds, batch) * scale

    error = steady.slow(rng, times_s, size(config.slow, config.slow_m), axis, depth)
    error += steady.root_drift(rng, times_s, size(config.root_drift, config.root_drift_m), axis, depth)
    error += steady.bias(rng, size(config.bias, config.bias_m), axis, depth)
    has_bones = _some(rng, batch, config.bone_scale) * scale
    wander = log_uniform(rng, config.bone_slow, batch)
    ratio = steady.bone_ratio(rng, times_s, config.bone_constant * has_bones, wander * has_bones)
    error = steady.on_bones(positions, error, ratio, _uniform(rng, config.bone_keep, batch))
    jitter = size(config.jitter, config.jitter_m)
    along = np.minimum(jitter * log_uniform(rng, config.jitter_depth, batch), config.jitter_depth_most_m * scale)
    error += steady.white(rng, (batch, steps), jitter, axis, along)
    r = np.flatnonzero(rng.random(batch) < config.deep) if config.deep else np.empty(0, np.int64)
    if len(r):
        error[r] += steady.deep_jitter(rng, (len(r), steps), log_uniform(rng, config.deep_m, len(r)), axis[r])
    r = np.flatnonzero(rng.random(batch) < config.bursts)
    if len(r):
        rate = log_uniform(rng, config.bursts_hz, len(r))
        error[r] += events.bursts(rng, times_s[r], positions[r], rate, scale[r], axis[r])
    return error


def _hidden(rng: np.random.Generator, times_s: F64, clean: Bools, config: NoiseConfig) -> Bools:
    """(B, T, J) joints that the source says it lost, and single-frame flicker; at most half of the clean samples."""
    batch = len(times_s)
    allowed = ~clean | (rng.random(batch) < 0.5)
    rate = _some(rng, batch, config.dropout) * log_uniform(rng, config.dropout_hz, batch) * allowed
    odds = _some(rng, batch, config.flicker) * log_uniform(rng, config.flicker_odds, batch) * allowed
    flicker = rng.random((*times_s.shape, J), np.float32) < odds[:, None, None]
    return events.gaps(rng, times_s, rate) | flicker


def _confidence(rng: np.random.Generator, times_s: F64, error_m: F32, config: NoiseConfig) -> F32:
    """(B, T, J) in (0, 1]: falls with the true error, but with a random gain, offset, lag and noise per sequence.

    Sequences without (1 - ``config.confidence``) report a constant 1, as most mocap does; one in five of the rest
    reports noise that has nothing to do with the error.
    """
    shown = np.ones(error_m.shape, np.float32)
    r = np.flatnonzero(rng.random(len(shown)) < config.confidence)
    if len(r) == 0:
        return shown
    level = np.log((error_m[r] + 0.002) / log_uniform(rng, (0.03, 0.15), len(r), 1, 1))
    level *= (rng.random((len(r), 1, 1)) < 0.8) * log_uniform(rng, config.confidence_gain, len(r), 1, 1)
    wobble = normal(rng, len(r), 1, J) * 0.7 + normal(rng, *level.shape) * 0.5
    lag = steady.decays(times_s[r], log_uniform(rng, (0.01, 0.3), len(r), 1))  # visibility is smoothed at the source
    logit = steady.scan(lag, (1.0 - lag) * (wobble - level))
    logit += rng.uniform(*config.confidence_level, (len(r), 1, 1)).astype(np.float32)
    shown[r] = np.maximum(1.0 / (1.0 + np.exp(-np.clip(logit, -6.0, 12.0))), 0.02)
    return shown


def finished(noisy: F32, mask: Bools, confidence: F32) -> Corrupted:
    """Hide what is masked: the last visible position stands in, so that nothing of the truth leaks through."""
    b, t, j = np.nonzero(~mask)
    since = events.last_index(mask)[b, t, j]
    held = noisy[b, since, j]
    unseen = ~mask[b, since, j]
    held[unseen] = noisy[b[unseen], 0, 0]  # never seen yet: the first root, which says nothing of the pose
    noisy[b, t, j] = held
    confidence[b, t, j] = 0.0
    return Corrupted(noisy, mask, confidence)


USUAL_FPS = (24.0, 25.0, 30.0, 50.0, 60.0, 90.0, 100.0, 120.0)
USUAL_ODDS = (0.05, 0.10, 0.30, 0.10, 0.20, 0.10, 0.05, 0.10)


def sample_times(rng: np.random.Generator, batch: int, steps: int) -> F64:
    """(B, T) seconds from 0, strictly rising: 15-120 fps, half of the sequences with uneven intervals.

    Two in three have a customary rate, the rest log-uniform. Uneven ones have 20 % jitter, and some dropped frames
    (an interval of 2-4) and doubled ones (an interval of a few per cent).
    """
    usual = rng.choice(USUAL_FPS, batch, p=USUAL_ODDS)
    fps = np.where(rng.random(batch) < 2 / 3, usual, np.exp(rng.uniform(np.log(15), np.log(120), batch)))
    step = np.ones((batch, steps))
    step *= np.clip(1.0 + 0.2 * rng.standard_normal(step.shape), 0.3, 1.7)
    step += (rng.random(step.shape) < log_uniform(rng, (0.002, 0.08), batch, 1)) * rng.integers(1, 4, step.shape)
    doubled = rng.random(step.shape) < log_uniform(rng, (0.001, 0.04), batch, 1)
    step = np.where(doubled, rng.uniform(0.01, 0.1, step.shape), step)
    step = np.where(rng.random((batch, 1)) < 0.5, step, 1.0) / fps[:, None]
    return np.asarray(np.cumsum(step, axis=1) - step[:, :1])
