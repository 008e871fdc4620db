"""What is measured of a method's answers on one pair, over the joints that the source gives, at the answers' times.

The error is parted in two: the constant offset of each joint in the axes of its bone, which is the source's definition
of that joint more than an error ("stays"), and what is left of each frame without it ("moves").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.accuracy.answers import Answers
from bench.accuracy.pairs import HIPS, Pair
from bench.accuracy.scoring import SPEEDS_M_S, Scores
from bench.track import Floats, Times, at_time
from model.evaluate import MM, lag_s, rotation_error_deg
from model.skeleton import INDEX
from model.training.bone_axes import bone_axes

Bools = npt.NDArray[np.bool_]
# What turns the head, the hands and the feet: landmarks beyond these joints show it.
SHOWN = {"head": [INDEX["head"]], "hands": [INDEX["left_wrist"], INDEX["right_wrist"]],
         "feet": [INDEX["left_ankle"], INDEX["right_ankle"]]}  # fmt: skip


@dataclass(frozen=True)
class PairTruth:
    """What is true of a pair at some times, on the frames (T,) that count: after each joint was seen once, while there
    is truth. positions (N, 24, 3) [m], axes (N, 24, 3, 3) of the bones, speed (N, 24) [m/s], rotations or None; missing
    (N, 24): the source does not give the joint then."""

    pair: Pair
    counts: Bools
    positions: Floats
    axes: Floats
    speed: Floats
    rotations: Floats | None
    missing: Bools

    @classmethod
    def of(cls, pair: Pair, at_s: float, after_s: float = 0.0) -> PairTruth:
        """For the time ``at_s`` from each frame; ``after_s``: leave out so much of the beginning."""
        t_ns = pair.t_ns + round(at_s * 1e9)
        known = np.logical_or.accumulate(np.isfinite(pair.seen[0][:, pair.given, 0]), axis=0).all(1)
        first_ns = max(int(pair.t_ns[known.argmax()]), round(after_s * 1e9))
        counts = known & (t_ns > first_ns) & (t_ns <= pair.t_ns[-1])
        positions = at_time(pair.t_ns, pair.truth, t_ns[counts])
        near = _nearest(pair.t_ns, t_ns[counts])
        turned = None if pair.rotations is None else pair.rotations[near].astype(np.float64)
        speed = np.linalg.norm(_gradient(relative(positions, pair.given), t_ns[counts]), axis=-1)
        missing = np.isnan(pair.seen[0][near, :, 0])
        return cls(pair, counts, positions, bone_axes(positions, turned), speed, turned, missing)

    def scores(self, answers: Answers) -> Scores:
        """Every score of one method; only "frames" and "broken" (poses with NaN or infinity) when too few count."""
        given, said = self.pair.given, np.asarray(answers.positions[self.counts], np.float64)
        finite = np.isfinite(said[:, given]).all((1, 2))
        broken = int((~finite).sum())
        if len(said) - broken < 4:
            return {"frames": 0, "broken": broken}
        said[~finite] = np.nan  # such a pose is no pose: it counts as broken, not as no error
        axes, rate_hz = self.axes[:, given], self.pair.rate_hz
        true = relative(self.positions, given)[:, given]
        error = relative(said, given)[:, given] - true
        placed = said[:, given] - self.positions[:, given]
        moves, stays = parted(error, axes)
        distance = MM * np.linalg.norm(error, axis=-1)
        out: Scores = {
            "frames": len(said) - broken,
            "broken": broken,
            "mpjpe_root_mm": float(np.nanmean(distance)),
            "mpjpe_world_mm": MM * float(np.nanmean(np.linalg.norm(placed, axis=-1))),
            "moves_mm": MM * float(np.nanmean(np.linalg.norm(moves, axis=-1))),
            "stays_mm": MM * float(np.linalg.norm(stays, axis=-1).mean()),
            "accel_mm": MM * float(np.nanmean(np.linalg.norm(np.diff(error, 2, axis=0), axis=-1))),
            "jitter_m_s3": _jitter(error + true, rate_hz),
            "jitter_true_m_s3": _jitter(true, rate_hz),
        }
        for name, (low, high) in SPEEDS_M_S.items():
            inside = (self.speed[:, given] >= low) & (self.speed[:, given] < high)
            if inside.any():
                out[f"{name}_mm"] = float(np.nanmean(distance[inside]))
        whole = np.isfinite(error).all((1, 2))
        if whole.sum() > 30:
            out["lag_ms"] = 1e3 * lag_s((error + true)[whole], true[whole], rate_hz)
        if answers.covariance is not None:
            spread = np.sqrt(np.diagonal(answers.covariance[self.counts][:, given], axis1=-2, axis2=-1))
            out["in_1_sigma"] = _inside(placed, spread)
            out["in_1_sigma_moving"] = _inside(parted(placed, axes)[0], spread)
            gaps = self.missing[:, given] & np.isfinite(placed).all(-1)
            if gaps.any():
                out["in_1_sigma_gaps"] = _inside(placed[gaps], spread[gaps])
        if answers.rotations is not None and self.rotations is not None:
            turn = rotation_error_deg(answers.rotations[self.counts], self.rotations)
            out |= {f"{name}_deg": float(np.median(turn[:, joints])) for name, joints in SHOWN.items()}
        return out


def relative(positions: Floats, given: list[int]) -> Floats:
    """(T, 24, 3) from the middle of the hips; of a source without hips, from the middle of what it gives."""
    middle = HIPS if set(HIPS) <= set(given) else given
    return np.asarray(positions - positions[:, middle].mean(1, keepdims=True))


def parted(error: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """An error (T, J, 3) without each joint's constant (J, 3) in its axes (T, J, 3, 3), and that constant."""
    inside = np.einsum("tjba,tjb->tja", axes, error)
    constant = np.nanmean(inside, axis=0)
    return np.einsum("tjab,tjb->tja", axes, inside - constant), constant


def _inside(error: Floats, spread: Floats) -> float:
    known = np.isfinite(error)
    return float((np.abs(error) <= spread)[known].mean())


def _jitter(positions: Floats, rate_hz: float) -> float:
    return float(np.nanmean(np.linalg.norm(np.diff(positions, 3, axis=0), axis=-1))) * rate_hz**3


def _gradient(positions: Floats, t_ns: Times) -> Floats:
    """(T, 24, 3) velocity [m/s]."""
    if len(t_ns) < 2:
        return np.zeros_like(positions)
    return np.asarray(np.gradient(positions, (t_ns - t_ns[0]) / 1e9, axis=0))


def _nearest(t_ns: Times, wanted_ns: Times) -> npt.NDArray[np.intp]:
    return np.searchsorted((t_ns[1:] + t_ns[:-1]) // 2, wanted_ns)
