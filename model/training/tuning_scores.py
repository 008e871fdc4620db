"""What fine-tuning is judged by: errors on the user's held-out takes, and on people that nobody is tuned to.

Errors are root-relative, over the joints whose truth is known, after a take's first second; of pairs without the
constant of each joint, which is the estimator's definition of it. Long takes are scored in pieces, each begun anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.motion.endless import Motion
from model.network.causal import CausalFilter
from model.network.head import covariance
from model.training.dataset import Batch, Drawn, Sampler, as_frames, moved, target_of
from model.training.forward import raw_positions, run_batch
from model.training.own_data import Own
from model.training.pairs import PairTake, at_times

LATE_S = -0.1
PIECE_S, LONGEST_S = 15.0, 60.0  # a take is scored in pieces, and not beyond
SETTLED_S = 1.0  # from when on frames count
# Noise at 30 fps, the time asked for [s], whose joints: as validation.CASES.
ON_MOTION = {
    "estimator's noise": ("realistic", 0.0, "own"), "estimator's noise, 0.1 s late": ("realistic", LATE_S, "own"),
    "mild noise": ("mild", 0.0, "own"), "10 mm of white noise": ("white10", 0.0, "own"),
    "another suit's joints": ("white10", 0.0, "suit"), "clean": ("clean", 0.0, "own"),
}  # fmt: skip
ON_OTHERS = {name: ON_MOTION[name] for name in ("estimator's noise", "mild noise", "10 mm of white noise", "clean")}


class Case(NamedTuple):
    """What is scored; ``row``: the row of the table whose mean it is part of; ``others``: of people that nobody is
    tuned to."""

    name: str
    row: str
    batch: Batch
    others: bool = False


class Score(NamedTuple):
    """Mean error [mm] and Accel [mm/frame^2] of what goes in and of what comes out."""

    raw_mm: float
    out_mm: float
    raw_accel: float
    out_accel: float


def cases_of_motion(motion: Motion, others: bool = False, sequences: int = 24) -> list[Case]:
    """Fixed batches of noise on motions."""
    named = ON_OTHERS if others else ON_MOTION
    return [
        Case(
            name,
            ("other people: " if others else "your motion: ") + name,
            Sampler(motion, 7, noise, augment=False, kind=kind).batch(sequences, 90, tau_s, fps=30.0),
            others,
        )
        for name, (noise, tau_s, kind) in named.items()
    ]


def cases_of_pairs(takes: Sequence[Own[PairTake]]) -> list[Case]:
    """What arrived of each take, now and a little later."""
    times = {0.0: "now", LATE_S: f"{-LATE_S:g} s late"}
    return [
        Case(f"{own.name}, {said}", f"your estimator, {said}", whole_take(own.take, tau_s))
        for tau_s, said in times.items()
        for own in takes
    ]


def whole_take(take: PairTake, tau_s: float) -> Batch:
    """A take as it is, in pieces of equal length, the truth ``tau_s`` later."""
    rate_hz = 1.0 / float(np.median(np.diff(take.times_s)))
    frames = min(len(take.times_s), round(LONGEST_S * rate_hz))
    rows = max(1, round(frames / (PIECE_S * rate_hz)))
    spans = [slice(n * (frames // rows), (n + 1) * (frames // rows)) for n in range(rows)]

    def piled(values: np.ndarray) -> np.ndarray:
        return np.stack([values[span] for span in spans])

    times = piled(take.times_s)
    times = times - times[:, :1]
    dt = np.diff(times, axis=1, prepend=times[:, :1])
    noisy, present, confidence, derived = map(piled, (take.noisy, take.present, take.confidence, take.derived))
    seen = as_frames(noisy, present, confidence, derived, dt)
    truth = piled(at_times(take.times_s, take.truth, take.times_s + tau_s))
    none = [np.full(shape, np.nan) for shape in ((*truth.shape, 3), (rows, *truth.shape[2:]), (*truth.shape[:2], 2))]
    tau = torch.full((rows,), tau_s)
    given = torch.zeros(rows, dtype=torch.bool)
    return Batch.of(Drawn(seen, torch.from_numpy(times), tau, given, target_of(truth, *none)))


@torch.no_grad()
def score(model: CausalFilter, batch: Batch) -> Score:
    """Errors of the input and of the model's poses."""
    batch = moved(batch, model.head.sigma.device)
    pose, _, _ = run_batch(model, batch)
    settled = batch.times_s > SETTLED_S
    found: list[float] = []
    for positions in (raw_positions(batch), pose.positions.unflatten(0, batch.dt_s.shape)):
        error = positions - batch.target.positions
        relative = (error - error[:, :, :1])[:, :, 1:]
        second = error[:, 2:] - 2 * error[:, 1:-1] + error[:, :-2]
        found += [_mean_mm(relative, settled), _mean_mm(second, settled[:, 2:])]
    return Score(found[0], found[2], found[1], found[3])


def _mean_mm(vectors: Tensor, settled: Tensor) -> float:
    return float(1e3 * vectors.norm(dim=-1)[settled].nanmean())


@torch.no_grad()
def scale_covariance(model: CausalFilter, batches: Sequence[Batch]) -> None:
    """Scale all covariances so that 68.3 % of the known coordinates lie within one standard deviation of the truth."""
    model.head.sigma.fill_(1.0)
    ratios = []
    for batch in (moved(batch, model.head.sigma.device) for batch in batches):
        pose, _, _ = run_batch(model, batch)
        spread = torch.sqrt(covariance(pose).diagonal(dim1=-2, dim2=-1)).unflatten(0, batch.dt_s.shape)
        ratio = (pose.positions.unflatten(0, batch.dt_s.shape) - batch.target.positions).abs() / spread
        ratio = ratio[batch.times_s > SETTLED_S].flatten()
        ratios.append(ratio[ratio.isfinite()])
    every = torch.cat(ratios)
    model.head.sigma.fill_(float(every.kthvalue(max(1, round(0.683 * len(every)))).values))


def left(before: Sequence[Score], after: Sequence[Score], cases: Sequence[Case]) -> float:
    """The error after as a part of that before, in the mean over the user's own cases that have an error."""
    parts = [
        b.out_mm / a.out_mm for case, a, b in zip(cases, before, after, strict=True) if not case.others and a.raw_mm > 1
    ]
    return float(np.mean(parts))


def table(cases: Sequence[Case], before: Sequence[Score], after: Sequence[Score]) -> str:
    """Mean error [mm] / Accel [mm/frame^2] of each row, as Markdown; of how many takes it is better."""
    rows = ["| held out | input | before | after | change | better |", "|---|--:|--:|--:|--:|--:|"]
    for row in dict.fromkeys(case.row for case in cases):
        here = [n for n, case in enumerate(cases) if case.row == row]
        a, b = (np.array([part[n] for n in here]) for part in (before, after))
        raw, then, now = a[:, 0].mean(), a[:, 1].mean(), b[:, 1].mean()
        change = f"{100 * (now / then - 1):+.1f} %" if raw > 1 else ""
        better = f"{(b[:, 1] < a[:, 1]).sum()} of {len(here)}" if len(here) > 1 else ""
        accel = a[:, 2].mean(), a[:, 3].mean(), b[:, 3].mean()
        said = " | ".join(f"{x:.1f} / {y:.1f}" for x, y in zip((raw, then, now), accel, strict=True))
        rows.append(f"| {row} | {said} | {change} | {better} |")
    return "\n".join(rows)


def forgotten(cases: Sequence[Case], before: Sequence[Score], after: Sequence[Score], more: float = 1.05) -> list[str]:
    """The cases of other people that are worse than before by a good deal; of clean input by a millimetre."""
    return [
        case.name
        for case, a, b in zip(cases, before, after, strict=True)
        if case.others and b.out_mm > (more * a.out_mm if a.raw_mm > 1 else a.out_mm + 1.0)
    ]


def as_json(cases: Sequence[Case], before: Sequence[Score], after: Sequence[Score]) -> list[dict[str, Any]]:
    return [
        {"case": case.name, "others": case.others, "before": a._asdict(), "after": b._asdict()}
        for case, a, b in zip(cases, before, after, strict=True)
    ]
