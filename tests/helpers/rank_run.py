"""A short training of a tiny network, alone or as one of torchrun's processes.

``python -m tests.helpers.rank_run train.npz OUT STEPS PARTS``
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from model.motion.endless import Motion
from model.training import train as training
from model.training.dataset import Batch, Sampler
from model.training.held_out import VALIDATION, validation_clips
from tests.helpers.networks import TINY


def few_checks(data: Path) -> dict[str, Batch]:
    """One small batch to watch instead of eleven large ones."""
    motion = Motion.from_clips(validation_clips(data, VALIDATION))
    return {"realistic": Sampler(motion, 7, None, augment=False).batch(2, 45, 0.0)}


def tiny_run(packed: Path, out: Path, steps: int, parts: int) -> Path:
    """Trains to ``steps``, or goes on to them; the file of the averaged weights."""
    plan = training.Plan(
        packed, out, steps=steps, parts=parts, batch=4, length=8, fast=0.0, warmup=5, save_every=6, check_every=6
    )
    with (
        patch.object(training, "validation_batches", few_checks),
        patch.object(training, "fit_trust", lambda *_: None),
        patch.object(training, "fit_covariance", lambda *_: None),
    ):
        return training.train(plan, TINY)


if __name__ == "__main__":
    tiny_run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
