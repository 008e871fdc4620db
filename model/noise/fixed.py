"""The fixed noises that everything is scored on; training draws its own (corruption.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from model.kinematics import bone_vectors
from model.noise import events, steady
from model.noise.config import MILD, REALISTIC, REALISTIC_SEEN
from model.noise.corruption import Corrupted, corrupt, finished, hpstm_error
from model.noise.lifted import lifted
from model.noise.steady import F32, F64, normal
from model.skeleton import J, ancestor_matrix


def _only_white(rng: np.random.Generator, positions: F32, times_s: F64, sigma_m: float) -> Corrupted:
    return _plain(positions + normal(rng, *positions.shape) * np.float32(sigma_m))


def _ar30(rng: np.random.Generator, positions: F32, times_s: F64) -> Corrupted:
    """AR(1) 30 mm, rho .97 at 30 fps (the true dt counts), plus white 6 mm."""
    rho = steady.decays(times_s, np.full((len(times_s), 1), -1 / (30 * np.log(0.97)), np.float32))[..., None]
    wander = steady.scan(rho, normal(rng, *positions.shape) * np.sqrt(1.0 - rho * rho))
    return _plain(positions + np.float32(0.030) * wander + normal(rng, *positions.shape) * np.float32(0.006))


def _drift(rng: np.random.Generator, positions: F32, times_s: F64) -> Corrupted:
    """Mild error of a kind that training does not draw: slow along the chains, heavy-tailed white, twice along z."""
    error = steady.chain_drift(rng, times_s, 0.015)
    error += (0.004 / np.sqrt(2.0) * rng.standard_t(4, positions.shape)).astype(np.float32)
    return _plain(positions + error * np.array([1.0, 1.0, 2.0], np.float32))


def _turns(rng: np.random.Generator, positions: F32, times_s: F64) -> Corrupted:
    """Every bone turned by white noise that moves its end by 2 to 15 mm, and what hangs on it too: a suit's rigid
    bones."""
    bones = bone_vectors(positions)
    length = np.linalg.norm(bones, axis=-1, keepdims=True)
    turned = (
        bones + normal(rng, *bones.shape) * steady.log_uniform(rng, (0.002, 0.015), len(bones))[:, None, None, None]
    )
    turned *= length / np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-6)
    return _plain(positions[:, :, :1] + np.einsum("jk,btkx->btjx", ancestor_matrix().astype(np.float32), turned))


def _lost(rng: np.random.Generator, positions: F32, times_s: F64, groups: F32) -> Corrupted:
    """The realistic mix with no losses of its own, and a gap of 0.1-1 s in every 3 s."""
    drawn = corrupt(rng, positions, times_s, REALISTIC_SEEN)
    return finished(drawn.positions, ~events.spaced_gaps(rng, times_s, groups), drawn.confidence)


def _plain(noisy: F32) -> Corrupted:
    shape = noisy.shape[:3]
    return Corrupted(noisy.astype(np.float32), np.ones(shape, bool), np.ones(shape, np.float32))


# What is lost in the dropout cases, one row at a time: a joint, an arm from the elbow, a leg from the knee, everything.
LOSSES: dict[str, F32] = {
    "lost_joint": np.eye(J, dtype=np.float32),
    "lost_arm": events.LIMBS[:2],
    "lost_leg": events.LIMBS[2:],
    "lost_body": np.ones((1, J), np.float32),
}
NOISES: dict[str, Callable[[np.random.Generator, F32, F64], Corrupted]] = {
    "realistic": lambda rng, positions, times_s: corrupt(rng, positions, times_s, REALISTIC),
    "mild": lambda rng, positions, times_s: corrupt(rng, positions, times_s, MILD),
    "white10": lambda rng, positions, times_s: _only_white(rng, positions, times_s, 0.010),
    "ar30": _ar30,
    "drift": _drift,
    "lifted": lambda rng, positions, times_s: finished(*lifted(rng, positions, times_s)),
    "hpstm": lambda rng, positions, times_s: _plain(
        positions + hpstm_error(rng, positions, np.ones(len(positions), np.float32))
    ),
    "clean": lambda rng, positions, times_s: _plain(positions.copy()),
    **{name: partial(_lost, groups=groups) for name, groups in LOSSES.items()},
}
# What training draws beside, and nothing is scored on.
LEARNED: dict[str, Callable[[np.random.Generator, F32, F64], Corrupted]] = {"turns": _turns}


def make_noise(name: str, rng: np.random.Generator, positions: F32, times_s: F64) -> Corrupted:
    """One of the fixed noises ``NOISES`` and ``LEARNED`` on positions (B, T, J, 3) [m] at times (B, T) [s]."""
    if name not in NOISES | LEARNED:
        raise ValueError(f"unknown noise {name!r}: one of {', '.join(NOISES)}")
    return (NOISES | LEARNED)[name](rng, np.asarray(positions, np.float32), np.asarray(times_s, np.float64))
