"""Batches of what a real estimator said of people whose motion is known: MediaPipe on rendered people, or a user's own.

A take's constant difference of each joint, in the axes of its parent's bone, is the estimator's definition: the target
is the true motion with it. Held-out subjects are never drawn. Augmented by turning, scaling, mirroring and cutting; and
what moves of its error, in those axes, can be lent to other motions, which are not so few.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.layouts import get_layout
from model.skeleton import MIRROR
from model.training.bone_axes import bone_axes
from model.training.pair_files import HIPS, PairError, Recording, read_recordings

SHORTEST = 30  # frames of a take
_FLIP = np.array([-1.0, 1.0, 1.0], np.float32)


class PairTake(NamedTuple):
    """One take: what arrived of the canonical joints, and the truth; NaN where that is not known."""

    subject: str
    times_s: np.ndarray  # (T,)
    noisy: np.ndarray  # (T, J, 3) m
    present: np.ndarray  # (T, J)
    derived: np.ndarray  # (T, J)
    confidence: np.ndarray  # (T, J)
    truth: np.ndarray  # (T, J, 3) m, as the estimator defines its joints
    world_rot: np.ndarray  # (T, J, 3, 3)
    error: np.ndarray  # (T, J, 3) m, of what arrived, in the axes of each joint's parent; NaN where it is not known


def read_takes(files: Sequence[Path], without: Sequence[str], defined: bool = True) -> list[PairTake]:
    """The takes of all subjects but some, those that are long enough. Not ``defined``: their truth is as it is, and
    what the estimator is always off by is an error.

    Raises:
        PairError: a file is no pair, or its truth lacks the hips.
    """
    found = (take_of(recorded, defined) for recorded in read_recordings(files) if recorded.subject not in without)
    return [take for take in found if take is not None]


def take_of(recorded: Recording, defined: bool = True) -> PairTake | None:
    """A recorded take from its first detection on; None when hardly anything is left.

    Raises:
        PairError: its truth lacks the hips, from which every pose is measured.
    """
    seen = np.flatnonzero(np.isfinite(recorded.noisy).all(axis=-1).any(axis=-1))
    if len(seen) == 0 or len(recorded.times_s) - seen[0] < SHORTEST:
        return None
    span = slice(seen[0], None)
    trust = None if recorded.confidence is None else recorded.confidence[span].astype(np.float32)
    noisy, measured, derived, trust = get_layout(recorded.layout).to_canonical(recorded.noisy[span], trust)
    measured, derived = (np.broadcast_to(x, noisy.shape[:2]) for x in (measured, derived))
    present = (measured | derived) & np.isfinite(noisy).all(-1)
    truth, rot = np.array(recorded.truth[span], np.float64), recorded.rotations
    rot = None if rot is None else rot[span].astype(np.float32)
    middle = truth[:, HIPS].mean(1)
    if not np.isfinite(middle).any():
        raise PairError(f"{recorded.name}, truth: the hips are needed, and are not known in any frame")
    truth[:, 0] = np.where(np.isfinite(truth[:, 0]), truth[:, 0], middle)
    axes = bone_axes(truth, rot)
    error = np.einsum("tjca,tjc->tja", axes, np.where(present[..., None], noisy - truth, np.nan))
    constant = _constant(error)
    if defined:
        truth += np.einsum("tjac,jc->tja", axes, constant)
    times_s = recorded.times_s[span]
    return PairTake(
        recorded.subject, times_s - times_s[0], np.where(present[..., None], noisy, 0.0).astype(np.float32), present,
        derived & present, (trust * present).astype(np.float32), truth.astype(np.float32),
        np.full((*truth.shape, 3), np.nan, np.float32) if rot is None else rot,
        (error - constant).astype(np.float32),
    )  # fmt: skip


def _constant(error: np.ndarray) -> np.ndarray:
    """(J, 3) the median of an error (T, J, 3); nothing where it is never known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.asarray(np.nan_to_num(np.nanmedian(error, 0)))


def cut(rng: np.random.Generator, takes: Sequence[PairTake], size: int, length: int, tau_s: np.ndarray) -> PairTake:
    """``size`` cuts of ``length`` frames, arrays (B, T, ...), the truth ``tau_s`` (B,) later."""
    rows = []
    for (take, span), tau in zip(_spans(rng, takes, size, length), tau_s):
        times = take.times_s[span]
        truth, rot = (at_times(take.times_s, x, times + tau) for x in (take.truth, take.world_rot))
        if np.isfinite(rot).all():
            u, _, v = np.linalg.svd(rot)
            rot = u @ v
        row = [
            times - times[0],
            take.noisy[span],
            take.present[span],
            take.derived[span],
            take.confidence[span],
            truth,
            rot,
            take.error[span],
        ]
        row = _mirrored(row) if rng.random() < 0.5 else row
        rows.append(_turned(row, rng.uniform(-np.pi, np.pi), np.exp(rng.normal(0.05, 0.08))))
    return PairTake("", *(np.stack(part) for part in zip(*rows)))


def _spans(
    rng: np.random.Generator, takes: Sequence[PairTake], size: int, length: int
) -> Iterator[tuple[PairTake, slice]]:
    long = [take for take in takes if len(take.times_s) >= length]
    odds = np.sqrt([len(take.times_s) for take in long])
    for _ in range(size):
        take = long[rng.choice(len(long), p=odds / odds.sum())]
        begin = int(rng.integers(len(take.times_s) - length + 1))
        yield take, slice(begin, begin + length)


def at_times(times_s: np.ndarray, values: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Values (T, ...) at other times, between two frames by their share; the ends are held."""
    flat = values.reshape(len(values), -1)
    at = np.interp(wanted_s, times_s, np.arange(len(times_s)))
    low = np.minimum(at.astype(int), len(times_s) - 2)
    part = (at - low)[:, None]
    return np.asarray((flat[low] * (1 - part) + flat[low + 1] * part).reshape(len(wanted_s), *values.shape[1:]))


def _mirrored(row: list[np.ndarray]) -> list[np.ndarray]:
    side = list(MIRROR)
    times, noisy, present, derived, confidence, truth, rot, error = row
    return [
        times, noisy[:, side] * _FLIP, present[:, side], derived[:, side], confidence[:, side], truth[:, side] * _FLIP,
        rot[:, side] * (_FLIP[:, None] * _FLIP), error[:, side] * _FLIP,
    ]  # fmt: skip


def _turned(row: list[np.ndarray], angle: float, scale: float) -> list[np.ndarray]:
    times, noisy, present, derived, confidence, truth, rot, error = row
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return [
        times, noisy @ turn.T * scale, present, derived, confidence, truth @ turn.T * scale, turn @ rot, error * scale,
    ]  # fmt: skip
