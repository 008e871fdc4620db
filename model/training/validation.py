"""What is watched while a network trains: fixed batches of the subjects held out, and its scores on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.motion.endless import Motion
from model.network.causal import CausalFilter
from model.network.head import covariance
from model.training.dataset import Batch, Sampler
from model.training.forward import raw_positions, run_batch
from model.training.held_out import VALIDATION, validation_clips
from model.training.losses import sequence_lag_s


def held_out(data: Path) -> Motion:
    """The motion of the subjects that training leaves out."""
    return Motion.from_clips(validation_clips(data, VALIDATION))


# What is watched on the held-out subjects: a test noise at 30 fps, the time asked for [s], whose joints.
CASES = {
    "realistic": ("realistic", 0.0, "own"), "late": ("realistic", -0.1, "own"), "ahead": ("realistic", 0.1, "own"),
    "mild": ("mild", 0.0, "own"), "white10": ("white10", 0.0, "own"), "drift": ("drift", 0.0, "own"),
    "lost_arm": ("lost_arm", 0.0, "own"), "clean": ("clean", 0.0, "own"), "suit": ("white10", 0.0, "suit"),
    "mediapipe": ("realistic", 0.0, "mediapipe"), "coco": ("lifted", 0.0, "coco"),
}  # fmt: skip


def validation_batches(data: Path, sequences: int = 40) -> dict[str, Batch]:
    """Fixed batches of ``CASES`` from the held-out subjects."""
    motion = held_out(data)
    return {
        name: Sampler(motion, 7, noise, augment=False, kind=kind).batch(sequences, 90, tau_s, fps=30.0)
        for name, (noise, tau_s, kind) in CASES.items()
    }


@torch.no_grad()
def validate(model: CausalFilter, batches: dict[str, Batch]) -> dict[str, float]:
    """Root-relative error [mm] and Accel [mm/frame^2] of input and output, by case; frames after the first second.

    Also the lag [ms] and the share of coordinates within one standard deviation; and what is left of the error, in the
    mean over the cases that have one: by it the best weights of a run are kept.
    """
    row: dict[str, float] = {}
    for name, batch in batches.items():
        pose, _, running = run_batch(model, batch)
        truth = batch.target.positions
        out = pose.positions.unflatten(0, batch.dt_s.shape)
        raw = raw_positions(batch)
        late = (batch.times_s > 1.0).float()
        for kind, x in (("raw", raw), ("out", out)):
            error = x - truth
            relative = (error - error[:, :, :1]).norm(dim=-1).mean(-1)
            second = (error[:, 2:] - 2 * error[:, 1:-1] + error[:, :-2]).norm(dim=-1).mean(-1)
            row[f"{name}_{kind}_mm"] = float(1e3 * (relative * late).sum() / late.sum())
            row[f"{name}_{kind}_accel"] = float(1e3 * (second * late[:, 2:]).sum() / late[:, 2:].sum())
        error = out - truth
        row[f"{name}_lag_ms"] = float(1e3 * sequence_lag_s(error - error[:, :, :1], truth, batch.dt_s).mean())
        spread = covariance(pose).diagonal(dim1=-2, dim2=-1).sqrt().unflatten(0, batch.dt_s.shape)
        row[f"{name}_in_1_sigma"] = float(((out - truth).abs() < spread)[batch.times_s > 1.0].float().mean())
        row[f"{name}_bones_mm"] = float(1e3 * (running - batch.target.offsets_m[:, None])[:, -1].norm(dim=-1).mean())
    noisy = [name for name in batches if row[f"{name}_raw_mm"] > 1.0]
    row["left"] = float(np.mean([row[f"{name}_out_mm"] / row[f"{name}_raw_mm"] for name in noisy]))
    return row
