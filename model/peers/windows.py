"""Endless batches of windows at 30 fps for the windowed peers: the live filter's motion and noise.

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

from model.motion.endless import Motion, MotionSampler
from model.noise.config import NoiseConfig
from model.noise.corruption import corrupt
from model.peers.offline import hold_missing
from model.training.held_out import training_clips

FPS = 30.0
LEAD = 32  # frames before the first window of a sequence
EACH = 2  # windows a sequence


class Windows(NamedTuple):
    noisy: Tensor  # (B, W, J, 3) m, missing joints held
    clean: Tensor  # (B, W, J, 3) m


class WindowSampler:
    """Draws windows; the same seed gives the same ones."""

    def __init__(
        self, motion: Motion, seed: int, window: int, noise: NoiseConfig | None = None, augment: bool = True
    ) -> None:
        self.rng, self.noise, self.window = np.random.default_rng(seed), noise, window
        self.times_s = np.arange(LEAD + EACH * window) / FPS
        self.motions = MotionSampler(motion, self.rng, augment, self.times_s[-1])

    def windows(self, size: int) -> Windows:
        """``size`` windows, EACH of one sequence."""
        clean, noisy = self._sequences(-(-size // EACH))
        held = torch.stack([hold_missing(torch.from_numpy(one)) for one in noisy])
        cut = (x[:, LEAD:].unflatten(1, (EACH, self.window)).flatten(0, 1) for x in (held, torch.from_numpy(clean)))
        return Windows(*(x[:size].contiguous() for x in cut))

    def _sequences(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy joints (size, T, J, 3) [m], NaN = missing."""
        times, now, _, offsets = self.motions.draw(np.tile(self.times_s, (size, 1)), np.zeros(size))
        clean = now._replace(root=now.root - now.root[:, :1]).positions(offsets)
        drawn = corrupt(self.rng, clean, times, self.noise)
        return clean, np.where(drawn.mask[..., None], drawn.positions, np.float32(np.nan))


class WindowStream(torch.utils.data.IterableDataset[Windows]):
    """Batches for ever, for a DataLoader with one worker and batch_size=None."""

    def __init__(self, path: Path, size: int, window: int, seed: int, leave_out: tuple[str, ...]) -> None:
        self.path, self.size, self.window, self.seed, self.leave_out = path, size, window, seed, leave_out

    def __iter__(self) -> Iterator[Windows]:
        torch.set_num_threads(1)
        sampler = WindowSampler(Motion.from_clips(training_clips(self.path, self.leave_out)), self.seed, self.window)
        while True:
            yield sampler.windows(self.size)
