"""The steady components of pose noise, one small function each, on whole batches.

Every function returns a displacement [m] and leaves odds and sizes to its caller, corruption.py; what comes and goes
(bursts, lost joints) is in events.py. Axes: B sequences, T frames, J joints, M modes; positions float32, times in
seconds, float64. numpy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.skeleton import INDEX, PARENTS, J, ancestor_matrix

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


# Errors grow towards the ends of the limbs, up to twice the torso's.
DISTAL: F32 = np.ones(J, np.float32)
for _names, _factor in (("knee elbow", 1.4), ("ankle wrist", 1.8), ("foot hand", 2.0)):
    for _part in _names.split():
        DISTAL[[INDEX[f"left_{_part}"], INDEX[f"right_{_part}"]]] = _factor
DISTAL[INDEX["head"]] = 1.2
DISTAL.setflags(write=False)

_ANCESTORS: F32 = ancestor_matrix().astype(np.float32)
_WITH_ROOT = _ANCESTORS.copy()
_WITH_ROOT[:, 0] = 1.0
_PARENT = [max(p, 0) for p in PARENTS]


def normal(rng: np.random.Generator, *shape: int) -> F32:
    """Standard normal draws in float32, half the cost of float64."""
    return rng.standard_normal(shape, np.float32)


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float], *shape: int) -> F32:
    """Draws whose logarithm is uniform between ``bounds``."""
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), shape)).astype(np.float32)


def scan(decay: F32, drive: F32) -> F32:
    """y[k] = decay[k] y[k-1] + drive[k] along axis 1, with decay[0] = 0: log2(T) passes instead of a loop over time.

    Args:
        decay: (B, T, ...) in 0..1, broadcast against ``drive``.
        drive: (B, T, ...).
    Source: Hillis and Steele's prefix scan. Oracle: the loop in tests/test_corruption.py.
    """
    y, a, step = drive.copy(), decay.copy(), 1
    while step < y.shape[1]:
        y[:, step:] += a[:, step:] * y[:, :-step]
        a[:, step:] = a[:, step:] * a[:, :-step]
        a[a < 1e-12] = 0.0  # below this it adds nothing, and denormal numbers are slow
        step *= 2
    return y


def decays(times_s: F64, tau_s: F32) -> F32:
    """(B, T, M) exp(-dt / tau) with the first row 0, for times (B, T) and time constants (B, M)."""
    dt_s = np.maximum(np.diff(times_s, axis=1), 0.0).astype(np.float32)
    decay = np.zeros((*times_s.shape, tau_s.shape[-1]), np.float32)
    decay[:, 1:] = np.exp(-np.minimum(dt_s[..., None] / tau_s[:, None], 40.0))
    return decay


def smooth_ou(rng: np.random.Generator, times_s: F64, tau_s: F32, smooth_s: F32) -> F32:
    """(B, T, M, 3) unit-variance Ornstein-Uhlenbeck signals with their fast corner rounded off.

    Real estimator error is smoother at 20-40 ms than an OU process of the same 200 ms correlation, so a first-order
    low-pass follows; both use the true dt.

    Args:
        times_s: (B, T) rising.
        tau_s: (B, M) correlation time.
        smooth_s: (B, M) time constant of the low-pass.
    """
    rho, keep = decays(times_s, tau_s), decays(times_s, smooth_s)
    drive = normal(rng, *rho.shape, 3) * np.sqrt(1.0 - rho * rho)[..., None]
    x = scan(rho[..., None], drive)
    y = scan(keep[..., None], (1.0 - keep)[..., None] * x)
    # Variance left by the low-pass at the usual dt: AR(1) with rho through a one-pole filter.
    r, a = np.median(rho[:, 1:], axis=1), np.median(keep[:, 1:], axis=1)
    gain = np.sqrt((1.0 + a) * (1.0 - a * r) / ((1.0 - a) * (1.0 + a * r)))
    return np.asarray(y * gain[:, None, :, None], np.float32)


def stretch(vectors: F32, axis: F32, factor: F32) -> F32:
    """Vectors (B, ..., 3) made ``factor`` (B,) times longer along the unit ``axis`` (B, 3)."""
    shape = (len(axis), *(1,) * (vectors.ndim - 2), 3)
    d = axis.reshape(shape)
    along = (vectors * d).sum(-1, keepdims=True)
    return np.asarray(vectors + ((factor - 1.0).reshape(shape[:-1])[..., None] * along) * d)


def camera_axis(rng: np.random.Generator, batch: int) -> F32:
    """(B, 3) unit view direction of a camera that is about level (up to 25 degrees of tilt), Y up."""
    yaw, pitch = rng.uniform(0, 2 * np.pi, batch), rng.uniform(-0.44, 0.44, batch)
    flat = np.cos(pitch)
    return np.stack([flat * np.sin(yaw), np.sin(pitch), flat * np.cos(yaw)], -1).astype(np.float32)


def body_modes(rng: np.random.Generator, batch: int, modes: int) -> F32:
    """(B, M, J) weights of random whole-body modes; neighbours on a chain move together, joints have rms DISTAL."""
    weights = normal(rng, batch, modes, J) @ _WITH_ROOT.T
    weights *= 1.0 / np.sqrt((weights * weights).sum(1, keepdims=True) + 1e-9)
    return np.asarray(weights * DISTAL)


def slow(rng: np.random.Generator, times_s: F64, sigma_m: F32, axis: F32, depth: F32) -> F32:
    """(B, T, J, 3) slow whole-body error: 5-8 modes of .2-1.6 s, ``depth`` times larger along ``axis``."""
    batch, most = len(times_s), 8
    used = np.arange(most) < rng.integers(5, most + 1, batch)[:, None]
    tau_s = log_uniform(rng, (0.2, 1.6), batch, most)
    smooth_s = np.repeat(log_uniform(rng, (0.03, 0.12), batch, 1), most, 1)
    signals = smooth_ou(rng, times_s, tau_s, smooth_s) * (used * sigma_m[:, None])[:, None, :, None]
    weights = body_modes(rng, batch, most) * np.sqrt(most / used.sum(1))[:, None, None].astype(np.float32)
    return mix(stretch(signals, axis, depth), weights)


def mix(signals: F32, weights: F32) -> F32:
    """(B, T, J, 3) from signals (B, T, M, 3) and weights (B, M, J)."""
    return np.asarray(np.matmul(weights.transpose(0, 2, 1)[:, None], signals))


def root_drift(rng: np.random.Generator, times_s: F64, sigma_m: F32, axis: F32, depth: F32) -> F32:
    """(B, T, 1, 3) error of the global translation: slow, shared by all joints."""
    tau_s = log_uniform(rng, (0.5, 4.0), len(times_s), 1)
    signal = smooth_ou(rng, times_s, tau_s, np.full_like(tau_s, 0.1)) * sigma_m[:, None, None, None]
    return stretch(signal, axis, depth)


def bias(rng: np.random.Generator, sigma_m: F32, axis: F32, depth: F32) -> F32:
    """(B, 1, J, 3) error that stays for the whole sequence, half of it per joint and half whole-body."""
    batch = len(sigma_m)
    own = normal(rng, batch, J, 3) * DISTAL[:, None]
    shared = body_modes(rng, batch, 4).transpose(0, 2, 1) @ normal(rng, batch, 4, 3)
    total = (own + shared) * np.sqrt(np.float32(0.5)) * sigma_m[:, None, None]
    return stretch(total, axis, depth)[:, None]


def bone_ratio(rng: np.random.Generator, times_s: F64, constant: F32, slow_part: F32) -> F32:
    """(B, T, J) relative error of bone lengths, constant and slow, of the whole body and of each bone.

    Args:
        constant, slow_part: (B,) relative standard deviations, e.g. .03 and .02.
    """
    batch = len(times_s)
    fixed = (normal(rng, batch, 1, J) + normal(rng, batch, 1, 1)) * np.sqrt(np.float32(0.5))
    tau_s = log_uniform(rng, (0.5, 3.0), batch, 2)
    wander = smooth_ou(rng, times_s, tau_s, np.full_like(tau_s, 0.1)).reshape(*times_s.shape, 6)
    mixing = normal(rng, batch, 6, J) * np.float32(1 / np.sqrt(6.0))
    ratio = fixed * constant[:, None, None] + (wander @ mixing) * slow_part[:, None, None]
    return np.asarray(np.maximum(ratio, -0.5))


def stretched_bones(positions: F32, ratio: F32) -> F32:
    """(B, T, J, 3) displacement when bones are (1 + ratio) times as long, the root in its place."""
    bones = positions - positions[:, :, _PARENT]
    return np.asarray(_ANCESTORS @ (bones * ratio[..., None]), np.float32)


def on_bones(positions: F32, error: F32, ratio: F32, keep: F32) -> F32:
    """``error`` (B, T, J, 3) bent so that it turns bones more than it stretches them, as an estimator's does.

    Args:
        ratio: (B, T, J) relative length error on top of what is left of that of ``error``.
        keep: (B,) 0..1: 0 leaves the lengths that ``error`` makes, 1 restores the true ones.
    """
    bones = positions - positions[:, :, _PARENT]
    noisy = bones + (error - error[:, :, _PARENT])
    wanted_sq = np.einsum("btjc,btjc->btj", bones, bones)
    given_sq = np.einsum("btjc,btjc->btj", noisy, noisy)
    factor = (1.0 + ratio) * ((wanted_sq + 1e-8) / (given_sq + 1e-8)) ** (0.5 * keep[:, None, None])
    return np.asarray(_ANCESTORS @ (noisy * factor[..., None] - bones) + error[:, :, :1], np.float32)


def white(rng: np.random.Generator, shape: tuple[int, int], sigma_m: F32, axis: F32, depth_m: F32) -> F32:
    """(B, T, J, 3) frame-to-frame noise: Gaussian, plus Student-t (3-4 degrees, 8 sigma at most) along ``axis``."""
    batch, steps = shape
    level = DISTAL * np.exp(0.3 * normal(rng, batch, J))  # (B, J)
    noise = normal(rng, batch, steps, J, 3) * (sigma_m[:, None] * level)[:, None, :, None]
    df = rng.uniform(3.0, 4.0, (batch, 1, 1)).astype(np.float32)
    gamma = rng.standard_gamma(np.broadcast_to(df / 2, (batch, steps, J)), dtype=np.float32)
    student = normal(rng, batch, steps, J) * np.sqrt((df - 2.0) / (2.0 * np.maximum(gamma, 0.02)))
    student = np.clip(student, -8.0, 8.0) * (depth_m[:, None] * level)[:, None]
    return np.asarray(noise + student[..., None] * axis[:, None, None, :])


def deep_jitter(rng: np.random.Generator, shape: tuple[int, int], sigma_m: F32, axis: F32) -> F32:
    """(B, T, J, 3) heavy-tailed frame-to-frame noise along ``axis`` (B, 3), half each joint's own, half whole-body."""
    batch, steps = shape
    own = normal(rng, batch, steps, J)
    shared = normal(rng, batch, steps, 6) @ body_modes(rng, batch, 6) / np.float32(np.sqrt(6.0))
    heavy = np.sqrt(1.0 / np.maximum(rng.standard_gamma(2.0, (batch, steps, 1)), 0.1)).astype(np.float32)  # Student-t
    along = (own * DISTAL + shared) * np.float32(np.sqrt(0.5)) * heavy * sigma_m[:, None, None]
    return np.asarray(along[..., None] * axis[:, None, None, :])


def moving_average(rng: np.random.Generator, shape: tuple[int, int], sigma_m: F32, taps: int = 7) -> F32:
    """(B, T, J, 3) mean over ``taps`` frames of white noise of ``sigma_m`` (B,): HPSTM's slow component."""
    batch, steps = shape
    total = np.cumsum(normal(rng, batch, steps + taps, J, 3), axis=1)
    return np.asarray((total[:, taps:] - total[:, :-taps]) * (sigma_m / taps)[:, None, None, None])


def outliers(rng: np.random.Generator, shape: tuple[int, int], odds: float, most_m: F32) -> F32:
    """(B, T, J, 3) single-frame jumps of up to ``most_m`` (B,) in any direction, on ``odds`` of all joints."""
    hit = np.nonzero(rng.random((*shape, J), np.float32) < odds)
    out = np.zeros((*shape, J, 3), np.float32)
    direction = normal(rng, len(hit[0]), 3)
    direction *= (rng.random(len(hit[0])) * most_m[hit[0]] / np.linalg.norm(direction, axis=-1))[:, None]
    out[hit] = direction
    return out


def chain_drift(rng: np.random.Generator, times_s: F64, sigma_m: float, modes: int = 6, tau_s: float = 0.6) -> F32:
    """(B, T, J, 3) slow error that is a random walk along the chains: neighbours err together, hands most.

    Each sequence has ``modes`` processes of time constant ``tau_s`` and ``sigma_m`` at the pelvis. Made unlike ``slow``
    on purpose: a test noise that training does not draw.
    """
    batch, steps = times_s.shape
    walk = np.empty((batch, modes, J), np.float32)
    for j, parent in enumerate(PARENTS):
        step = normal(rng, batch, modes)
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        walk[:, :, j] = step if parent < 0 else walk[:, :, parent] + 0.35 * step
    keep = decays(times_s, np.full((batch, 1), tau_s, np.float32))[..., None]
    process = scan(keep, normal(rng, batch, steps, modes, 3) * np.sqrt(1.0 - keep * keep))
    return np.asarray(np.float32(sigma_m) * np.einsum("btmc,bmj->btjc", process, walk), np.float32)
