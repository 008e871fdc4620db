"""Endless batches of windows at 30 fps for the windowed peers: the augmentation of dataset.Sampler, then noise.

A window is cut from a longer noisy sequence, so that a gap may begin before it. Missing joints are held, as every
smoother of the bench is given them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.corruption import NoiseConfig, corrupt
from model.dataset import Motion, Sampler, training_clips, with_arms_of
from model.kinematics import forward_kinematics
from model.offline import hold_missing

FPS = 30.0
LEAD = 32  # frames before the first window of a sequence
EACH = 2  # windows a sequence


class Windows(NamedTuple):
    noisy: Tensor  # (B, W, J, 3) m, missing joints held
    clean: Tensor  # (B, W, J, 3) m


class WindowSampler(Sampler):
    """Draws windows; the same seed gives the same ones."""

    def __init__(
        self, motion: Motion, seed: int, window: int, noise: NoiseConfig | None = None, augment: bool = True
    ) -> None:
        super().__init__(motion, seed, noise, augment)
        self.window = window
        self.times_s = np.arange(LEAD + EACH * window) / FPS
        # Slowed down to 0.8 at most, a clip must fill the sequence.
        self.odds = self.odds * (self._reach_s(np.arange(len(self.odds))) > 0.8 * self.times_s[-1])
        if not self.odds.any():
            raise ValueError(f"no clip is as long as {LEAD + EACH * window} frames at {FPS:g} fps")
        self.odds = self.odds / self.odds.sum()

    def windows(self, size: int) -> Windows:
        """``size`` windows, EACH of one sequence."""
        clean, noisy = self._sequences(-(-size // EACH))
        held = torch.stack([hold_missing(torch.from_numpy(one)) for one in noisy])
        cut = (x[:, LEAD:].unflatten(1, (EACH, self.window)).flatten(0, 1) for x in (held, torch.from_numpy(clean)))
        return Windows(*(x[:size].contiguous() for x in cut))

    def _sequences(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy joints (size, T, J, 3) [m], NaN = missing."""
        rng = self.rng
        clip = rng.choice(len(self.odds), size, p=self.odds)
        times = np.broadcast_to(self.times_s, (size, len(self.times_s)))
        reach = self._reach_s(clip)
        speed = np.minimum(rng.uniform(0.8, 1.25, size) if self.augment else 1.0, reach / times[:, -1])
        source = ((reach - speed * times[:, -1]) * rng.random(size))[:, None] + speed[:, None] * times
        mirror, yaw = rng.random(size) < 0.5 * self.augment, rng.uniform(-np.pi, np.pi, size) * self.augment
        rotations, root, _ = self._motion(clip, source, mirror, yaw)
        if self.augment:
            other, there, rows = self._other_arms(speed, times)
            rotations[rows] = with_arms_of(rotations[rows], self._motion(other, there, mirror[rows], yaw[rows])[0])
        clean = forward_kinematics(rotations, self._bodies(clip)[:, None], root - root[:, :1])
        drawn = corrupt(rng, clean, times, self.noise)
        return clean, np.where(drawn.mask[..., None], drawn.positions, np.float32(np.nan))

    def _reach_s(self, clip: np.ndarray) -> np.ndarray:
        return np.asarray((self.motion.length[clip] - 2) / self.motion.fps[clip])


class WindowStream(torch.utils.data.IterableDataset[Windows]):
    """Batches for ever, for a DataLoader with one worker and batch_size=None."""

    def __init__(self, path: Path, size: int, window: int, seed: int, leave_out: tuple[str, ...]) -> None:
        self.path, self.size, self.window, self.seed, self.leave_out = path, size, window, seed, leave_out

    def __iter__(self) -> Iterator[Windows]:
        torch.set_num_threads(1)
        sampler = WindowSampler(Motion.from_clips(training_clips(self.path, self.leave_out)), self.seed, self.window)
        while True:
            yield sampler.windows(self.size)
