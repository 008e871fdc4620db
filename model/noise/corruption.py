"""Noise for training and evaluation: what mocap and pose estimators do to a clean pose stream.

Draws, per sequence, which components of steady.py and events.py it has and how large they are; gives the mask and
the confidence that such a source would report. ``python -m model.noise.report [clips.npz]`` prints the statistics
beside real figures (report.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model.noise import cameras, events, half_seen, steady
from model.noise.events import Bools, Ints
from model.noise.steady import F32, F64, log_uniform, normal
from model.skeleton import J

Range = tuple[float, float]
_CAMERAS = 6  # their number among the kinds


@dataclass(frozen=True)
class NoiseConfig:
    """Odds and sizes of every component; an odds of 0 switches it off. Lengths in metres (ranges: log-uniform).

    The five plain kinds and the estimator kind exclude each other; what ``clean + white + hpstm + sensor + wander``
    leave to 1 is the estimator kind, whose components have odds of their own.
    """

    clean: float = 0.10
    white: float = 0.12
    hpstm: float = 0.08
    sensor: float = 0.05
    wander: float = 0.13
    white_m: Range = (0.002, 0.015)
    sensor_m: Range = (0.0003, 0.002)
    hpstm_scale: Range = (0.5, 3.0)
    wander_m: Range = (0.004, 0.040)
    wander_s: Range = (0.08, 2.0)
    wander_white: Range = (0.05, 1.0)  # of the wandering's size

    scale: Range = (0.3, 2.0)
    slow: float = 0.95
    slow_m: Range = (0.010, 0.030)
    depth: Range = (2.0, 4.0)
    root_drift: float = 0.6
    root_drift_m: Range = (0.005, 0.06)
    bias: float = 0.95
    bias_m: Range = (0.006, 0.020)
    bone_scale: float = 0.6
    bone_constant: float = 0.03
    bone_slow: Range = (0.01, 0.03)
    bone_keep: Range = (0.6, 1.0)  # uniform: how much of the length error that slow and bias would make is undone
    jitter: float = 0.95
    jitter_m: Range = (0.001, 0.004)
    jitter_depth: Range = (3.0, 20.0)
    jitter_depth_most_m: float = 0.005
    deep: float = 0.15  # odds of a depth axis that jumps from frame to frame, as BlazePose's does
    deep_m: Range = (0.008, 0.080)
    bursts: float = 0.40
    bursts_hz: Range = (0.12, 0.6)
    stuck: float = 0.25
    stuck_hz: Range = (0.15, 0.8)

    dropout: float = 0.55
    dropout_hz: Range = (0.2, 3.0)
    flicker: float = 0.15
    flicker_odds: Range = (0.005, 0.10)
    confidence: float = 0.70
    confidence_gain: Range = (0.5, 2.0)  # of the logit, for each factor e of the error
    confidence_level: Range = (-0.5, 3.0)  # uniform: the logit of a middling error

    cameras: float = 0.0  # several, triangulated: one more of the kinds that exclude each other
    outliers: float = 0.0  # odds of the rest, on top of any kind that is not clean
    outliers_odds: Range = (0.003, 0.08)
    outliers_m: Range = (0.08, 0.6)
    astray: float = 0.0
    astray_hz: Range = (0.1, 4.0)
    swaps: float = 0.0
    swaps_odds: Range = (0.002, 0.03)
    out_of_sight: float = 0.0  # joints that are never there, or lost for good
    made_up: float = 0.0  # of these: the source reports them all the same, at low confidence


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


# What sources really do, for training: a constant bias is no error (definitions.py), and much goes wrong at times.
SOURCES = replace(
    NoiseConfig(), clean=0.14, white=0.11, hpstm=0.05, wander=0.12, cameras=0.12, scale=(0.12, 2.0), bias=0.4,
    bias_m=(0.003, 0.012), bone_constant=0.01, jitter_m=(0.001, 0.006), outliers=0.15, astray=0.25, swaps=0.12,
    out_of_sight=0.22, made_up=0.35, confidence_gain=(0.6, 3.0), confidence_level=(-2.0, 3.0),
)  # fmt: skip
# Several cameras alone: whom they film dances, jumps and falls. For motions that are strange to the network.
STAGE = replace(SOURCES, clean=0.02, white=0.04, hpstm=0.02, sensor=0.02, wander=0.0, cameras=0.9)
# Every sequence is of the estimator kind, at its own size, with gaps in all.
REALISTIC = replace(
    NoiseConfig(), clean=0.0, white=0.0, hpstm=0.0, sensor=0.0, wander=0.0, deep=0.0, scale=(0.6, 1.6), dropout=1.0,
    dropout_hz=(0.3, 1.5),
)  # fmt: skip
MILD = replace(REALISTIC, scale=(0.3, 0.3))  # a good estimator: there is less to win, and more to spoil
REALISTIC_SEEN = replace(REALISTIC, dropout=0.0, flicker=0.0, stuck=0.0)
