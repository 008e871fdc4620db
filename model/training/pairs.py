"""Batches of what a real estimator said of people whose motion is known: MediaPipe on rendered people (rendered/*.npz).

A take's constant difference of each joint, in the axes of its parent's bone, is the estimator's definition: the target
is the true motion with it. Held-out subjects are never drawn. Augmented by turning, scaling, mirroring and cutting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.layouts import get_layout
from model.noise.definitions import put
from model.skeleton import INDEX, MIRROR, PARENTS

LAYOUT = "mediapipe_33"
_FLIP = np.array([-1.0, 1.0, 1.0], np.float32)
_PARENT = [max(p, 0) for p in PARENTS]
_HIPS = [INDEX["left_hip"], INDEX["right_hip"]]


class PairTake(NamedTuple):
    """One take: what arrived of the canonical joints, and the truth, both relative to the middle of the hips."""

    subject: str
    times_s: np.ndarray  # (T,)
    noisy: np.ndarray  # (T, J, 3) m
    present: np.ndarray  # (T, J)
    derived: np.ndarray  # (T, J)
    confidence: np.ndarray  # (T, J)
    truth: np.ndarray  # (T, J, 3) m, as the estimator defines its joints
    world_rot: np.ndarray  # (T, J, 3, 3)


def read_takes(files: Sequence[Path], without: Sequence[str]) -> list[PairTake]:
    """The takes of all subjects but some."""
    takes = []
    for file in files:
        with np.load(file, allow_pickle=False) as held:
            subject = json.loads(str(held["meta"]))["subject"]
            if subject in without:
                continue
            found = np.flatnonzero(np.isfinite(held["world_m"]).all((1, 2)))
            if len(found) < 30:
                continue
            span = slice(found[0], None)
            world = held["world_m"][span] * np.array([1, -1, -1], np.float32)
            takes.append(
                _take(subject, held["time_s"][span], world, held["visibility"][span].astype(np.float32),
                      held["truth_m"][span], held["truth_world_rot"][span].astype(np.float32))
            )  # fmt: skip
    return takes


def _take(
    subject: str, times_s: np.ndarray, world: np.ndarray, seen: np.ndarray, truth: np.ndarray, rot: np.ndarray
) -> PairTake:
    noisy, measured, derived, trust = get_layout(LAYOUT).to_canonical(world, seen)
    measured, derived = (np.broadcast_to(x, noisy.shape[:2]) for x in (measured, derived))
    present = measured | derived
    truth = truth - truth[:, _HIPS].mean(1, keepdims=True)
    error = np.where(present[..., None], noisy - truth, np.nan)
    moved = np.nan_to_num(np.nanmedian(np.einsum("tjca,tjc->tja", rot[:, _PARENT], error), 0))
    truth = put(truth[None], rot[None], moved[None].astype(np.float32))[0]
    return PairTake(
        subject, times_s - times_s[0], np.where(present[..., None], noisy, 0.0).astype(np.float32), present,
        derived & present, (trust * present).astype(np.float32), truth, rot,
    )  # fmt: skip


def cut(rng: np.random.Generator, takes: Sequence[PairTake], size: int, length: int, tau_s: np.ndarray) -> PairTake:
    """``size`` cuts of ``length`` frames, arrays (B, T, ...), the truth ``tau_s`` (B,) later."""
    long = [take for take in takes if len(take.times_s) >= length]
    odds = np.sqrt([len(take.times_s) for take in long])
    rows = []
    for tau in tau_s:
        take = long[rng.choice(len(long), p=odds / odds.sum())]
        begin = int(rng.integers(len(take.times_s) - length + 1))
        span = slice(begin, begin + length)
        times = take.times_s[span]
        truth, rot = (_at(take.times_s, x, times + tau) for x in (take.truth, take.world_rot))
        u, _, v = np.linalg.svd(rot)
        row = [
            times - times[0],
            take.noisy[span],
            take.present[span],
            take.derived[span],
            take.confidence[span],
            truth,
            u @ v,
        ]
        row = _mirrored(row) if rng.random() < 0.5 else row
        rows.append(_turned(row, rng.uniform(-np.pi, np.pi), np.exp(rng.normal(0.05, 0.08))))
    return PairTake("", *(np.stack(part) for part in zip(*rows)))


def _at(times_s: np.ndarray, values: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Values (T, ...) at other times, between two frames by their share; the ends are held."""
    flat = values.reshape(len(values), -1)
    at = np.interp(wanted_s, times_s, np.arange(len(times_s)))
    low = np.minimum(at.astype(int), len(times_s) - 2)
    part = (at - low)[:, None]
    return np.asarray((flat[low] * (1 - part) + flat[low + 1] * part).reshape(len(wanted_s), *values.shape[1:]))


def _mirrored(row: list[np.ndarray]) -> list[np.ndarray]:
    side = list(MIRROR)
    times, noisy, present, derived, confidence, truth, rot = row
    return [
        times, noisy[:, side] * _FLIP, present[:, side], derived[:, side], confidence[:, side], truth[:, side] * _FLIP,
        rot[:, side] * (_FLIP[:, None] * _FLIP),
    ]  # fmt: skip


def _turned(row: list[np.ndarray], angle: float, scale: float) -> list[np.ndarray]:
    times, noisy, present, derived, confidence, truth, rot = row
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return [times, noisy @ turn.T * scale, present, derived, confidence, truth @ turn.T * scale, turn @ rot]
