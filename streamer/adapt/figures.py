"""The noise of a stream in figures, found without truth.

What is fast shows beside a smooth curve (residual.py). What is slow shows in the lengths of limbs, which do not change
on a body: an error that both ends share, or that turns a limb and leaves its length, shows nowhere. So slow figures are
the least that there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from model.skeleton import INDEX, JOINTS, PARENTS, J, rest_lengths_m
from streamer.adapt.events import flips, outliers, spells, swapped
from streamer.adapt.residual import MIDDLE, Residual, residual
from streamer.adapt.track import F64, Bools, Track

STILL = 0.3  # of a joint's frames, the slowest: there the noise is what moves
FEWEST = 30  # frames that a figure must rest on
STEP = 2.5  # of the usual time between frames: a longer one is a stall
LAGS_S = (0.1, 0.5)  # at which the lengths of limbs are compared with themselves
NEVER = 0.01  # a joint that is there less often is never there
LIMBS = [
    (INDEX[f"{side}_{below}"], INDEX[f"{side}_{above}"])
    for above, below in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for side in ("left", "right")
]  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Of one stream; NaN where it does not say.

    Attributes:
        seconds, frames: how much there is.
        rate_hz: by the median step between frames. step_spread: standard deviation of the steps over the median one,
            without stalls. stalls_per_min, longest_stall_s: steps of more than STEP usual ones.
        missing: share of joints that are not there, of those that are there at times. gaps_per_min: spells without a
            joint, of all joints together; gap_s: their median length, longest_gap_s: the longest.
        repeated: share of joints at bit for bit the place of the frame before.
        confidence: 5, 50, 95 % of it; None: the source sends none. doubted: share below .5. confidence_tells: how many
            times larger the fast noise is where confidence is low (the lowest fifth against the highest).
        jitter_mm: fast noise a coordinate where a joint is still, median of the joints; by_joint_mm: of each (24,).
            axis_ratio: along the axis in which it is largest, over that of the middle axis: a camera's depth.
        bone_spread: standard deviation of a limb's length over its mean, median of the limbs.
        slow_mm: noise a coordinate that is not fast, as limbs show it: at least.
        memory: correlation of the lengths of limbs with those 0.1 s later, long_memory: 0.5 s; 0: noise that forgets.
        outliers: share of joints far from where the frames around have them. outlier_mm: how far, the median.
        swaps_per_min: times that left and right of a limb change places; swapped: share of frames in that state.
        flips_per_min: times that the body faces elsewhere at once.
        moves_m: how far the middle of the hips goes, the longest side of the box around it.
    """

    seconds: float
    frames: int
    rate_hz: float
    step_spread: float
    stalls_per_min: float
    longest_stall_s: float
    missing: float
    gaps_per_min: float
    gap_s: float
    longest_gap_s: float
    repeated: float
    confidence: tuple[float, float, float] | None
    doubted: float
    confidence_tells: float
    jitter_mm: float
    by_joint_mm: tuple[float, ...]
    axis_ratio: float
    bone_spread: float
    slow_mm: float
    memory: float
    long_memory: float
    outliers: float
    outlier_mm: float
    swaps_per_min: float
    swapped: float
    flips_per_min: float
    moves_m: float

    def as_json(self) -> dict[str, Any]:
        """With null for what the stream does not say, and joints by their names."""
        found = asdict(self)
        found["by_joint_mm"] = {name: x for name, x in zip(JOINTS, self.by_joint_mm) if np.isfinite(x)}
        return {key: _plain(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else _rounded(value)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def figures(track: Track) -> Figures:
    """Of a track of ten seconds or more."""
    rest = residual(track)
    still = _still(rest)
    by_joint = _by_joint(rest, still)
    off = outliers(rest, by_joint, 1.0 / track.fps)
    state, events = swapped(track)
    minutes = max(track.seconds, 1e-9) / 60.0
    low, middle, high, doubted, tells = _confidence(track, rest, still)
    jitter_m = median(by_joint)
    spread, slow, memory, long_memory = _limbs(track, off | state[:, None], jitter_m)
    return Figures(
        seconds=track.seconds, frames=len(track), **_times(track, minutes), **_gaps(track, minutes),
        confidence=None if track.confidence is None else (low, middle, high), doubted=doubted, confidence_tells=tells,
        jitter_mm=1e3 * jitter_m, by_joint_mm=tuple((1e3 * by_joint).tolist()), axis_ratio=_axis_ratio(rest, still),
        bone_spread=spread, slow_mm=1e3 * slow, memory=memory, long_memory=long_memory,
        outliers=float(off.sum() / max(np.isfinite(rest.off_m).sum(), 1)),
        outlier_mm=1e3 * median(rest.off_m[off]), swaps_per_min=events / minutes, swapped=float(state.mean()),
        flips_per_min=flips(track) / minutes, moves_m=_moves(track),
    )  # fmt: skip


def together(found: Sequence[Figures]) -> Figures:
    """Of several streams of one source: the middle of each figure; seconds and frames of all, the longest of all."""
    if len(found) == 1:
        return found[0]
    out: dict[str, Any] = {}
    for key in (one.name for one in fields(Figures)):
        values = [getattr(one, key) for one in found]
        if key in ("seconds", "frames"):
            out[key] = sum(values)
        elif key.startswith("longest_"):
            out[key] = max(values)
        elif key == "confidence":
            told = [value for value in values if value is not None]
            out[key] = tuple(map(median, zip(*told))) if told else None
        else:
            out[key] = tuple(map(median, zip(*values))) if isinstance(values[0], tuple) else median(values)
    return Figures(**out)


def _times(track: Track, minutes: float) -> dict[str, float]:
    steps = np.diff(track.times_s)
    usual = float(np.median(steps))
    stalls = steps > STEP * usual
    return {
        "rate_hz": 1.0 / usual, "step_spread": float(steps[~stalls].std() / usual),
        "stalls_per_min": float(stalls.sum() / minutes),
        "longest_stall_s": float(steps[stalls].max()) if stalls.any() else 0.0,
    }  # fmt: skip


def _gaps(track: Track, minutes: float) -> dict[str, float]:
    seen = track.seen
    at_times = track.given & (seen.mean(0) >= NEVER)
    if not at_times.any():
        return dict.fromkeys(("missing", "gaps_per_min", "gap_s", "longest_gap_s", "repeated"), float("nan"))
    gone = ~seen[:, at_times]
    usual = float(np.median(np.diff(track.times_s)))
    gaps = spells(gone, np.append(np.diff(track.times_s), usual))
    same = (np.diff(track.positions[:, at_times], axis=0) == 0.0).all(-1)
    both = seen[1:, at_times] & seen[:-1, at_times]
    return {
        "missing": float(gone.mean()), "gaps_per_min": len(gaps) / minutes,
        "gap_s": float(np.median(gaps)) if len(gaps) else 0.0,
        "longest_gap_s": float(gaps.max()) if len(gaps) else 0.0,
        "repeated": float(same.sum() / max(both.sum(), 1)),
    }  # fmt: skip


def _still(rest: Residual) -> Bools:
    """(T, 24) True in the slowest frames of each joint."""
    out = np.zeros(rest.speed.shape, np.bool_)
    for joint, speed in enumerate(rest.speed.T):
        known = np.isfinite(speed)
        if known.sum() * STILL >= FEWEST:
            out[known, joint] = speed[known] <= np.quantile(speed[known], STILL)
    return out


def _by_joint(rest: Residual, still: Bools) -> F64:
    """(24,) standard deviation of the fast noise a coordinate [m], by its middle: what lies far off is none."""
    out = np.full(J, np.nan)
    for joint in np.flatnonzero(still.any(0)):
        out[joint] = np.median(np.linalg.norm(rest.fast[still[:, joint], joint], axis=-1)) / MIDDLE
    return out


def _axis_ratio(rest: Residual, still: Bools) -> float:
    """Of the fast noise of still joints, in the axes of the world: the ratio of the largest to the middle deviation."""
    fast = rest.fast[still]
    if len(fast) < FEWEST:
        return float("nan")
    size = np.linalg.norm(fast, axis=-1)
    near = fast[size <= np.quantile(size, 0.95)]
    _, axes = np.linalg.eigh(near.T @ near)  # the largest last
    middle, largest = np.median(np.abs(fast @ axes[:, 1:]), axis=0)
    return float(largest / middle) if middle > 0.0 else float("nan")


def _confidence(track: Track, rest: Residual, still: Bools) -> tuple[float, float, float, float, float]:
    """5, 50, 95 %, the share below .5, and how many times larger the noise is where it is low."""
    nothing = float("nan")
    if track.confidence is None:
        return nothing, nothing, nothing, nothing, nothing
    given = track.confidence[track.seen]
    if not len(given):
        return nothing, nothing, nothing, nothing, nothing
    low, middle, high = (float(x) for x in np.percentile(given, (5, 50, 95)))
    size, trust = rest.off_m[still], track.confidence[still]
    tells = nothing
    if len(size) >= 5 * FEWEST and trust.std() > 1e-3:
        first, last = np.quantile(trust, (0.2, 0.8))
        tells = float(np.median(size[trust <= first]) / max(np.median(size[trust >= last]), 1e-6))
    return low, middle, high, float((given < 0.5).mean()), tells


def _limbs(track: Track, wrong: Bools, jitter_m: float) -> tuple[float, float, float, float]:
    """Spread over mean of limbs' lengths, the slow noise in them a coordinate [m], and their memory."""
    spreads, slow = list[float](), list[float]()
    near, far = list[float](), list[float]()
    for below, above in LIMBS:
        length = np.linalg.norm(track.positions[:, below] - track.positions[:, above], axis=-1)
        length[wrong[:, below] | wrong[:, above]] = np.nan
        known = length[np.isfinite(length)]
        if len(known) < FEWEST:
            continue
        std = float(np.subtract(*np.percentile(known, (84, 16)))) / 2.0
        spreads.append(std / max(float(np.median(known)), 1e-6))
        slow.append(np.sqrt(max(std**2 / 2.0 - jitter_m**2, 0.0)))
        for lag_s, found in zip(LAGS_S, (near, far)):
            found.append(_correlation(length - np.median(known), round(lag_s * track.fps)))
    return median(spreads), median(slow), median(near), median(far)


def _correlation(x: F64, frames: int) -> float:
    """Of a series (T,) with itself so many frames later; one value in a hundred is too far off to count."""
    if frames < 1 or frames >= len(x):
        return float("nan")
    x = np.where(np.abs(x) <= np.nanquantile(np.abs(x), 0.99), x, np.nan)
    early, late = x[:-frames], x[frames:]
    both = np.isfinite(early) & np.isfinite(late)
    scale = np.sqrt((early[both] ** 2).sum() * (late[both] ** 2).sum())
    return float((early[both] * late[both]).sum() / scale) if both.sum() >= FEWEST and scale > 0.0 else float("nan")


def _moves(track: Track) -> float:
    hips = track.positions[:, [INDEX["left_hip"], INDEX["right_hip"]]].mean(1)
    hips = hips[np.isfinite(hips).all(1)]
    return float(np.ptp(np.percentile(hips, (1, 99), axis=0), axis=0).max()) if len(hips) >= FEWEST else float("nan")


def median(values: Any) -> float:
    """Of those that are finite; NaN where none is."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else float("nan")


def proportions(track: Track) -> dict[str, float]:
    """Each bone's length over the mean skeleton's, and that over the body's: 1 for a body of usual proportions.

    Bones whose two ends the source gives, by the name of the lower end; "size": the body's, of its limbs.
    """
    rest = rest_lengths_m()
    found = {}
    for joint, parent in enumerate(PARENTS):
        length = np.linalg.norm(track.positions[:, joint] - track.positions[:, parent], axis=-1)
        length = length[np.isfinite(length)]
        if parent >= 0 and len(length) >= FEWEST:
            found[JOINTS[joint]] = float(np.median(length) / rest[joint])
    size = median([found[JOINTS[below]] for below, _ in LIMBS if JOINTS[below] in found])
    return {"size": size} | {name: ratio / size for name, ratio in found.items()}
