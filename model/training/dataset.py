"""Endless training batches: clips -> augmented motion at random rates -> noise -> layout -> front.

Everything without weights happens here, in a worker process: the trainer only sees what the network needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from cyclopts import Parameter
from torch import Tensor

from model.kinematics import bone_vectors
from model.layouts import canonical_derivation
from model.motion.endless import Motion, MotionSampler, Moving
from model.network import front
from model.network.causal import Seen, run_front
from model.network.head import TAU_RANGE_S
from model.noise.corruption import NoiseConfig, corrupt, make_noise, sample_times
from model.prepare import PackedClip, load_packed
from model.training.losses import Target

LAYOUT_ODDS = {"smpl_24": 0.66, "smpl_22": 0.06, "h36m_17": 0.08, "coco_17": 0.07, "mediapipe_33": 0.13}


def _must_be_there(_: Any, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `hpstm prepare` writes it")


Packed = Annotated[Path, Parameter(validator=_must_be_there, help="train.npz, from `hpstm prepare`.")]  # of a command


class Batch(NamedTuple):
    seen: Seen
    times_s: Tensor  # (B, T) float64
    dt_s: Tensor  # (B, T)
    tau_s: Tensor  # (B,)
    given: Tensor  # (B,) True: the actor's skeleton is given, not calibrated
    target: Target
    own_target_m: Tensor  # (B, T, J, 3) true bones, entry 0 the root from the anchor


class Sampler:
    """Draws augmented, corrupted sequences; the same seed gives the same batches."""

    def __init__(self, motion: Motion, seed: int, noise: NoiseConfig | str | None = None, augment: bool = True) -> None:
        """``noise``: its odds and sizes (None: the default ones), or the name of a test noise."""
        self.noise, self.augment = noise, augment
        self.rng = np.random.default_rng(seed)
        self.motion = motion
        self.motions = MotionSampler(motion, self.rng, augment)
        self.derivation = [canonical_derivation(name) for name in LAYOUT_ODDS]

    def batch(self, size: int, length: int, tau_s: float | None = None, fps: float | None = None) -> Batch:
        """One batch of ``size`` sequences of ``length`` frames, each asked for its own tau (or the one given), at its
        own rate (or evenly at ``fps``)."""
        rng = self.rng
        if fps is None:
            times, motions = sample_times(rng, size, length), self.motions
        else:
            times = np.tile(np.arange(length) / fps, (size, 1))
            motions = MotionSampler(self.motion, rng, self.augment, times[0, -1])
        tau = (
            np.full(size, tau_s)
            if tau_s is not None
            else np.where(rng.random(size) < 0.4, 0, rng.uniform(*TAU_RANGE_S, size))
        )
        times, now, then, offsets = motions.draw(times - times[:, :1], tau)
        return self.observed(now.positions(offsets), times, tau, then, offsets)

    def observed(
        self, positions: np.ndarray, times: np.ndarray, tau: np.ndarray, then: Moving, offsets: np.ndarray
    ) -> Batch:
        """A batch of true joints (B, T, J, 3) [m] at times (B, T): what a source sees of them, and the truth then."""
        frames = self._observe(positions, times)
        parts = (then.positions(offsets), then.world_rot, offsets, then.contact)
        target = Target(*(torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in parts))
        tau_t = torch.from_numpy(tau.astype(np.float32))
        seen = run_front(frames, tau_t)
        own = bone_vectors(target.positions)
        own[:, :, 0] = target.positions[:, :, 0] - seen.evidence.anchor_m[:, :, 0, :, 0]
        given = torch.from_numpy(self.rng.random(len(tau)) < 0.3)
        return Batch(seen, torch.from_numpy(times), frames.dt_s.flatten(1), tau_t, given, target, own)

    def _observe(self, positions: np.ndarray, times: np.ndarray) -> front.Frame:
        """Noise, then what an input layout leaves of it, as the filter's frames."""
        size = len(positions)
        if isinstance(self.noise, str):
            noisy = make_noise(self.noise, self.rng, positions, times)
        else:
            noisy = corrupt(self.rng, positions, times, self.noise)
        odds = list(LAYOUT_ODDS.values())
        layout = self.rng.choice(len(odds), size, p=odds) if self.augment else np.zeros(size, np.int64)
        xyz, mask, conf = noisy.positions.copy(), noisy.mask.astype(np.float32), noisy.confidence.copy()
        derived_all = np.zeros_like(mask)
        for k in range(1, len(odds)):
            rows = np.flatnonzero(layout == k)
            if len(rows):
                matrix, measured, derived = self.derivation[k]
                needs = (np.abs(matrix) > 1e-9).astype(np.float32)
                whole = (mask[rows] @ needs.T) > needs.sum(1) - 0.5
                mask[rows] = whole * (measured | derived)
                xyz[rows] = matrix.astype(np.float32) @ xyz[rows]
                conf[rows] = (conf[rows] @ needs.T) / np.maximum(needs.sum(1), 1)
                derived_all[rows] = derived
        dt = np.diff(times, axis=1, prepend=times[:, :1])
        scalars = [part[:, :, None, None] for part in (mask, conf * mask, derived_all, dt[..., None])]
        parts = ((xyz * mask[..., None]).swapaxes(2, 3)[:, :, None], *scalars)
        return front.Frame(*(torch.from_numpy(np.ascontiguousarray(p, np.float32)) for p in parts))


class Stream(torch.utils.data.IterableDataset[Batch]):
    """Batches for ever, for a DataLoader with one worker and batch_size=None."""

    def __init__(self, path: Path, size: int, length: int, seed: int, leave_out: tuple[str, ...]) -> None:
        self.path, self.size, self.length, self.seed, self.leave_out = path, size, length, seed, leave_out

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        sampler = Sampler(Motion.from_clips(training_clips(self.path, self.leave_out)), self.seed)
        while True:
            yield sampler.batch(self.size, self.length)
            yield sampler.batch(max(1, self.size // 2), 2 * self.length)


def training_clips(path: Path, leave_out: tuple[str, ...]) -> list[PackedClip]:
    return [c for c in load_packed(path) if c.subject not in leave_out]


def validation_clips(path: Path, only: tuple[str, ...]) -> list[PackedClip]:
    return [c for c in load_packed(path) if c.subject in only]
