"""What the drawn noise looks like, beside figures measured on real pose estimators.

The check to make before training: Accel / MPJPE and the error's autocorrelation decide what a filter learns.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from model.motion.synthetic import SyntheticActor
from model.noise.config import NoiseConfig
from model.noise.corruption import Corrupted, corrupt
from model.noise.fixed import NOISES, make_noise
from model.noise.steady import F32, F64
from model.prepare import load_packed
from model.skeleton import J

LAGS_S = (0.02, 0.1, 0.2, 0.5)
# FIELD.md: single-frame estimators (Ray3D on H36M and others), measured at 25-30 fps.
REAL = "real, single-frame    40-110          .28-.36   .97  .84  .67  .39      2-4 %"
ESTIMATOR_ONLY = NoiseConfig(clean=0.0, white=0.0, hpstm=0.0, sensor=0.0, wander=0.0, deep=0.0)
TRAINED: dict[str, NoiseConfig] = {
    "training (all kinds)": NoiseConfig(),
    "  estimator kind": ESTIMATOR_ONLY,
    "  depth that jumps": replace(ESTIMATOR_ONLY, deep=1.0),
    "  wandering kind": replace(ESTIMATOR_ONLY, wander=1.0),
}


@dataclass(frozen=True)
class NoiseStatistics:
    """Root-relative error: mpjpe_mm and accel_mm (mm/frame^2) (B,) per sequence over visible joints, correlation per
    lag of LAGS_S (NaN below one frame), error per joint (J,) mm, bone-length deviation, visible share."""

    mpjpe_mm: F64
    accel_mm: F64
    correlation: F64
    per_joint_mm: F64
    bone_std: float
    visible: float

    @property
    def ratio(self) -> float:
        """Mean Accel over mean MPJPE: 2.45 for white noise, .28-.36 for real estimators."""
        return float(self.accel_mm.mean() / max(self.mpjpe_mm.mean(), 1e-9))


def _mean(values: F64, mask: F64, axis: int | tuple[int, ...]) -> F64:
    return np.asarray((values * mask).sum(axis) / np.maximum(mask.sum(axis), 1.0))


def statistics(corrupted: Corrupted, positions: F32, fps: float) -> NoiseStatistics:
    """Statistics of the error (noisy - true) of sequences (B, T, J, 3) at an even frame rate.

    The correlation is that of each sequence's error about its own mean, pooled over sequences, joints and axes.
    """
    error = (corrupted.positions - positions).astype(np.float64) * 1000.0
    error -= error[:, :, :1]
    seen = (corrupted.mask & corrupted.mask[:, :, :1]).astype(np.float64)
    size = np.linalg.norm(error, axis=-1)
    second = np.linalg.norm(error[:, 2:] - 2.0 * error[:, 1:-1] + error[:, :-2], axis=-1)
    mean = (error * seen[..., None]).sum(1, keepdims=True) / np.maximum(seen.sum(1)[:, None, :, None], 1.0)
    centred = (error - mean) * seen[..., None]
    return NoiseStatistics(
        mpjpe_mm=_mean(size, seen, (1, 2)),
        accel_mm=_mean(second, seen[:, 2:] * seen[:, 1:-1] * seen[:, :-2], (1, 2)),
        correlation=np.array([_correlation(centred, lag_s * fps) for lag_s in LAGS_S]),
        per_joint_mm=_mean(size, seen, (0, 1)),
        bone_std=_bone_std(corrupted),
        visible=float(corrupted.mask.mean()),
    )


def _correlation(centred: F64, frames: float) -> float:
    k = round(frames)
    if k < 1 or k >= centred.shape[1]:
        return float("nan")
    late, early = centred[:, k:], centred[:, :-k]
    both = (late != 0.0) & (early != 0.0)
    scale = np.sqrt((late[both] ** 2).sum() * (early[both] ** 2).sum())
    return float((late * early).sum() / scale) if scale > 0 else float("nan")


def _bone_std(corrupted: Corrupted) -> float:
    """Median over sequences and the four long limb bones of a side of std(length) / mean(length)."""
    spreads = []
    for child, parent in ((4, 1), (7, 4), (18, 16), (20, 18)):
        length = np.linalg.norm(corrupted.positions[:, :, child] - corrupted.positions[:, :, parent], axis=-1)
        spreads.append(length.std(1) / np.maximum(length.mean(1), 1e-6))
    return float(np.median(spreads))


def noise_report(positions: F32, fps: float, seed: int = 0) -> str:
    """A table of the training noise, its correlated kinds and the fixed test noises, beside real figures.

    Args:
        positions: (B, T, J, 3) clean sequences [m], a few seconds each.
        fps: their even frame rate.
    """
    times_s = np.broadcast_to(np.arange(positions.shape[1]) / fps, positions.shape[:2])
    header = "noise                 MPJPE 5/50/95 %  Accel/MPJPE  at 20 100 200 500 ms  bone std  visible"
    lines = [f"root-relative error, {len(positions)} sequences at {fps:g} fps", header, REAL]
    drawn = {name: corrupt(np.random.default_rng(seed), positions, times_s, config) for name, config in TRAINED.items()}
    drawn.update((name, make_noise(name, np.random.default_rng(seed), positions, times_s)) for name in NOISES)
    for name, corrupted in drawn.items():
        s = statistics(corrupted, positions, fps)
        low, middle, high = np.percentile(s.mpjpe_mm, (5, 50, 95))
        lags = " ".join("   -" if np.isnan(c) else f"{c:4.2f}" for c in s.correlation)
        lines.append(
            f"{name:21s} {low:4.0f} {middle:4.0f} {high:4.0f}   {s.ratio:8.2f}     {lags}"
            f"    {100 * s.bone_std:5.1f} %  {100 * s.visible:5.1f} %"
        )
    spread = statistics(drawn["  estimator kind"], positions, fps).per_joint_mm
    ends, middle = spread[[20, 21, 22, 23, 7, 8, 10, 11]].mean(), spread[[3, 6, 9, 12, 13, 14, 16, 17]].mean()
    lines.append(f"estimator kind, wrists, hands, ankles, feet against torso: x{ends / middle:.1f} (real: about x2)")
    return "\n".join(lines)


def _packed(path: str, fps: float = 30.0, seconds: float = 8.0, most: int = 128) -> F32:
    """Up to ``most`` pieces of the clips of a packed file (model.prepare), by the nearest frame, evenly chosen."""
    pieces = []
    for clip in load_packed(path):
        count = int(len(clip.positions) / (clip.fps * seconds))
        index = np.round(np.arange(count * round(seconds * fps)) * clip.fps / fps).astype(int)
        pieces.append(clip.positions[index].reshape(count, round(seconds * fps), J, 3))
    found = np.concatenate(pieces).astype(np.float32)
    return found[:: max(1, -(-len(found) // most))]


def _synthetic(batch: int = 96, seconds: float = 8.0, fps: float = 30.0) -> F32:
    clips = [SyntheticActor(seed).clip(seconds * 8, fps) for seed in range(batch // 8)]
    return np.concatenate(clips).reshape(batch, -1, J, 3).astype(np.float32)


def main() -> None:
    """Print the report, for synthetic motion or for a packed clip file named on the command line."""
    positions = _packed(sys.argv[1]) if len(sys.argv) > 1 else _synthetic()
    sys.stdout.write(noise_report(positions, 30.0) + "\n")


if __name__ == "__main__":
    main()
