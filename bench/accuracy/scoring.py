"""What the accuracy bench measures of a method's answers on one take, and the means over takes.

Every answer is scored at the time it is for, on the frames that count for all methods. The measures are those of
model/evaluate.py; a score that a take cannot have (no gap, no foot on the ground) is left out of its dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.accuracy.answers import Answers, Seen
from bench.accuracy.takes import Take
from bench.track import Floats, Times
from model import evaluate as score
from model.skeleton import LEAVES, J
from streamer.clock import SECOND_NS

Bools = npt.NDArray[np.bool_]
Scores = dict[str, Any]

SIGMAS: tuple[float, ...] = tuple(0.25 * k for k in range(1, 13))  # of the calibration curve
GAP_EDGES_S: Floats = np.linspace(0.0, 1.0, 11)  # since a joint was lost, while it is
BACK_EDGES_S: Floats = np.linspace(0.0, 0.5, 6)  # since it came back
SPEEDS_M_S = {"slow": (0.0, 0.3), "medium": (0.3, 1.5), "fast": (1.5, np.inf)}
TURNED = [j for j in range(J) if j not in LEAVES]  # positions say nothing of how a leaf is turned


class Truth(NamedTuple):
    """What is true at the times of the answers: positions (T, 24, 3) [m], contact (T, 2), rotations or None; and when.

    gone_s and back_s (T, 24) [s]: how long a joint has been lost, or back after a gap; NaN where it is not.
    """

    positions: Floats
    contact: Bools
    rotations: Floats | None
    gone_s: Floats
    back_s: Floats

    @classmethod
    def of(cls, take: Take, seen: Seen, t_ns: Times) -> Truth:
        """At any times; the nearest frame says which joints the source had lost then."""
        near = take.nearest(t_ns)
        gone_s, back_s = _gaps(take.t_ns / SECOND_NS, np.isfinite(seen.positions[..., 0]))
        frame = np.searchsorted((take.t_ns[1:] + take.t_ns[:-1]) // 2, t_ns)
        rotations = None if take.rotations is None else take.rotations[near]
        return cls(take.truth_at(t_ns), take.contact[near], rotations, gone_s[frame], back_s[frame])


def _gaps(times_s: Floats, visible: Bools) -> tuple[Floats, Floats]:
    """(T, J) seconds since each joint was lost and since it came back; NaN elsewhere and before its first sight."""
    gone, back = np.full(visible.shape, np.nan), np.full(visible.shape, np.nan)
    changed_s = np.full(visible.shape[1], np.nan)  # when each joint last vanished or came back
    for t in range(1, len(times_s)):
        changes = visible[t] != visible[t - 1]
        known = visible[:t].any(0)
        changed_s = np.where(changes, np.where(known, times_s[t], np.nan), changed_s)
        since = times_s[t] - changed_s
        gone[t], back[t] = np.where(visible[t], np.nan, since), np.where(visible[t], since, np.nan)
    return gone, back


def scores_of(answers: Answers, truth: Truth, counts: Bools, rate_hz: float) -> Scores:
    """Every score over the frames (T,) that count, which follow one another; only "frames" when they are too few.

    Args:
        rate_hz: frames per second, for what is measured per second.
    """
    said, true = answers.positions[counts], truth.positions[counts]
    if len(said) < 4:  # jitter is a third difference
        return {"frames": 0}
    out: Scores = {
        "frames": len(said),
        "mpjpe_root_mm": score.mpjpe_root_mm(said, true),
        "mpjpe_world_mm": score.mpjpe_mm(said, true),
        "pa_mpjpe_mm": score.pa_mpjpe_mm(said, true),
        "accel_mm": score.accel_mm(said, true),
        "jitter_m_s3": score.jitter_m_s3(said, rate_hz),
        "jitter_true_m_s3": score.jitter_m_s3(true, rate_hz),
        "bone_std_mm": score.bone_length_std_mm(said),
        "lag_ms": 1e3 * score.lag_s(said, true, rate_hz),
    }
    out |= _by_speed(said, true, rate_hz)
    contact = truth.contact[counts]
    if (contact[1:] & contact[:-1]).any():
        out["foot_sliding_mm_s"] = score.foot_sliding_mm_s(said, contact, rate_hz)
        out["foot_sliding_true_mm_s"] = score.foot_sliding_mm_s(true, contact, rate_hz)
    if answers.rotations is not None and truth.rotations is not None:
        out |= _angles(answers.rotations[counts], truth.rotations[counts])
    if answers.covariance is not None:
        out |= _calibration(said - true, answers.covariance[counts])
    return out | _through_gaps(said, true, truth.gone_s[counts], truth.back_s[counts])


def _by_speed(said: Floats, true: Floats, rate_hz: float) -> Scores:
    """The error from the pelvis of joints that move slowly, faster and fast, as their true speed in the world says."""
    speed = np.linalg.norm(np.gradient(true, axis=0), axis=-1) * rate_hz  # (T, J) m/s
    return {
        f"{name}_mm": score.mpjpe_root_mm(said, true, inside)
        for name, (low, high) in SPEEDS_M_S.items()
        if (inside := (speed >= low) & (speed < high)).any()
    }


def _angles(said: Floats, true: Floats) -> Scores:
    swing, twist = score.swing_twist_deg(said, true)
    turn = score.rotation_error_deg(said, true)
    return {
        "swing_deg": float(swing[:, TURNED].mean()),
        "twist_deg": float(twist[:, TURNED].mean()),
        "leaf_deg": float(turn[:, list(LEAVES)].mean()),
    }


def _calibration(error_m: Floats, covariance: Floats) -> Scores:
    curve = [score.coverage_per_axis(error_m, covariance, sigmas) for sigmas in SIGMAS]
    inside = {f"in_{level:g}": score.coverage(error_m, covariance, level) for level in score.CHI2_3}
    return {"in_1_sigma": curve[SIGMAS.index(1.0)], "calibration": curve, **inside}


def _through_gaps(said: Floats, true: Floats, gone_s: Floats, back_s: Floats) -> Scores:
    """The error on lost joints, from the pelvis and in the world, and its course through the gap and after."""
    lost = np.isfinite(gone_s)
    if not lost.any():
        return {}
    error_mm = 1e3 * np.linalg.norm(score.root_relative(said) - score.root_relative(true), axis=-1)
    through, n_through = _binned(error_mm, gone_s, GAP_EDGES_S)
    after, n_after = _binned(error_mm, back_s, BACK_EDGES_S)
    return {
        "gap_samples": int(lost.sum()),
        "gap_mm": score.mpjpe_root_mm(said, true, lost),
        "gap_world_mm": score.mpjpe_mm(said, true, lost),
        "gap_curve_mm": through + after,
        "gap_curve_samples": n_through + n_after,
    }


def _binned(values: Floats, at: Floats, edges: Floats) -> tuple[list[float], list[int]]:
    """Mean of the values in each bin, 0 where there is none, and how many there are."""
    inside = np.isfinite(at)
    at = at + 1e-6  # whole frames fall on the edges: none may slip below
    count, _ = np.histogram(at[inside], edges)
    total, _ = np.histogram(at[inside], edges, weights=values[inside])
    return [float(x) for x in total / np.maximum(count, 1)], [int(n) for n in count]


def averaged(rows: Sequence[Scores], draws: int = 2000) -> Scores:
    """Means over clips weighted by their frames (errors in gaps: by lost joints), and the bootstrap 95 % intervals.

    The intervals are over clips, of ``mpjpe_root_mm`` and ``gap_mm``. A score counts over the clips that have it.
    """
    rows = [row for row in rows if row["frames"]]
    if not rows:
        return {"frames": 0, "clips": 0}
    out: Scores = {"frames": sum(row["frames"] for row in rows), "clips": len(rows)}
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name in ("frames", "gap_samples", "gap_curve_samples"):
            continue
        having = [row for row in rows if name in row]
        weight = "gap_samples" if name.startswith("gap") else "frames"
        weights = np.array([row["gap_curve_samples" if name == "gap_curve_mm" else weight] for row in having], float)
        values = np.array([row[name] for row in having], float)
        if values.ndim == 2 and weights.ndim == 1:  # the calibration curve
            weights = weights[:, None]
        mean = (weights * values).sum(0) / np.maximum(np.broadcast_to(weights, values.shape).sum(0), 1e-9)
        out[name] = float(mean) if values.ndim == 1 else [float(x) for x in mean]
        if name in ("mpjpe_root_mm", "gap_mm"):
            out[f"{name}_95"] = _interval(values, weights, draws)
    for name in ("gap_samples", "gap_curve_samples"):
        if name in names:
            out[name] = np.sum([row[name] for row in rows if name in row], axis=0).tolist()
    return out


def _interval(values: Floats, weights: Floats, draws: int) -> list[float]:
    drawn = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    means = (weights[drawn] * values[drawn]).sum(1) / weights[drawn].sum(1)
    return [float(q) for q in np.percentile(means, [2.5, 97.5])]
