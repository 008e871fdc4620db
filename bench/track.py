"""What was sent, what came back and when: the record that the demo's live table, summary and picture are made from.

The sender's thread calls ``sent``, the receiver's ``got``; ``aligned`` may be called from a third at any time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.report import Percentiles
from bench.scores import bone_length_change_mm, jitter_mm, position_error_mm
from streamer.frames import Pose

Floats = npt.NDArray[np.floating[Any]]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Aligned:
    """One row per pose that came back: the input it rests on, the pose, and the truth at the time of each.

    ``noisy`` and ``truth_in`` are at ``t_in_ns``; ``refined`` and ``truth_out`` at ``t_out_ns``: the same times unless
    the filter was asked for a delay or a prediction. Positions (T, J, 3) [m], NaN where missing.
    """

    t_in_ns: Times
    t_out_ns: Times
    noisy: Floats
    truth_in: Floats
    refined: Floats
    truth_out: Floats
    calibrated: npt.NDArray[np.bool_]
    latency_ns: Times
    filter_ns: Times

    def __len__(self) -> int:
        return len(self.t_in_ns)


@dataclass(frozen=True)
class Scores:
    """Input beside output; NaN where there is nothing to score. Millimetres, jitter per frame squared.

    The bones are of the frames after calibration, in input and output alike: until then the skeleton is still measured.
    """

    error_in: float
    error_out: float
    error_out_missing: float
    jitter_in: float
    jitter_out: float
    jitter_true: float
    bones_in: float
    bones_out: float
    latency: Percentiles
    filter: Percentiles

    @classmethod
    def of(cls, rows: Aligned) -> Scores:
        """Scores of at least one row.

        Raises:
            ValueError: a pose holds something else than finite numbers; a mean would hide it.
        """
        broken = int((~np.isfinite(rows.refined)).any(axis=(1, 2)).sum())
        if broken:
            raise ValueError(f"{broken} of {len(rows)} poses hold NaN or infinity")
        absent = np.isnan(rows.noisy)  # (T, J, 3): all three axes of a joint or none
        hidden = np.where(absent, rows.refined, np.nan)
        return cls(
            error_in=position_error_mm(rows.noisy, rows.truth_in),
            error_out=position_error_mm(rows.refined, rows.truth_out),
            error_out_missing=position_error_mm(hidden, rows.truth_out),
            jitter_in=jitter_mm(rows.noisy, rows.t_in_ns),
            jitter_out=jitter_mm(rows.refined, rows.t_out_ns),
            jitter_true=jitter_mm(rows.truth_out, rows.t_out_ns),
            bones_in=bone_length_change_mm(rows.noisy[rows.calibrated]),
            bones_out=bone_length_change_mm(rows.refined[rows.calibrated]),
            latency=Percentiles.of_ns(rows.latency_ns),
            filter=Percentiles.of_ns(rows.filter_ns),
        )


def at_time(t_ns: Times, values: Floats, wanted_ns: Times) -> Floats:
    """Values at other times by linear interpolation; the first or last one outside.

    Args:
        t_ns: (N,) increasing; values: (N, ...); wanted_ns: (M,).
    Returns:
        (M, ...).
    """
    right = np.clip(np.searchsorted(t_ns, wanted_ns), 1, len(t_ns) - 1)
    left = right - 1
    # Integers first: a difference of large int64 times is exact, a difference of their floats is not.
    share = np.clip((wanted_ns - t_ns[left]) / (t_ns[right] - t_ns[left]), 0.0, 1.0)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    between: Floats = values[left] * (1.0 - share) + values[right] * share
    return between


class Track:
    """A growing record of one actor's frames and poses."""

    def __init__(self, origin_ns: int = 0) -> None:
        self._origin_ns = origin_ns  # of the source's clock: rows count from here
        self._lock = Lock()
        self._truth: list[Floats] = []
        self._noisy: list[Floats] = []
        self._t_ns: list[int] = []
        self._sent_ns: list[int] = []
        self._poses: list[tuple[Pose, int]] = []
        self.status: Counter[str] = Counter()
        self.newest: Pose | None = None

    def begin(self, origin_ns: int) -> None:
        """Time zero of the rows, on the source's clock."""
        self._origin_ns = origin_ns

    def sent(self, t_ns: int, sent_ns: int, truth: Floats, noisy: Floats) -> None:
        """Notes a frame; its place in the record is its seq."""
        with self._lock:
            self._t_ns.append(t_ns - self._origin_ns)
            self._sent_ns.append(sent_ns)
            self._truth.append(truth)
            self._noisy.append(noisy)

    def got(self, pose: Pose, got_ns: int) -> None:
        """Notes a pose that came back."""
        with self._lock:
            self._poses.append((pose, got_ns))
            self.status[pose.status] += 1
            self.newest = pose

    @property
    def frames(self) -> int:
        return len(self._t_ns)

    @property
    def poses(self) -> int:
        return len(self._poses)

    def aligned(self, last: int | None = None) -> Aligned | None:
        """Rows for those of the ``last`` poses (all by default) whose truth is known; None while there are none."""
        with self._lock:
            chosen = self._poses[-last:] if last else list(self._poses)
            if len(self._t_ns) < 2:
                return None
            # A delayed pose of the first frames is for a time before anything was known of the truth.
            first_ns, last_ns = self._t_ns[0] + self._origin_ns, self._t_ns[-1] + self._origin_ns
            chosen = [(pose, got_ns) for pose, got_ns in chosen if first_ns <= pose.t_ns <= last_ns]
            if not chosen:
                return None
            t_ns, sent_ns = np.array(self._t_ns, np.int64), np.array(self._sent_ns, np.int64)
            truth, noisy = np.array(self._truth), np.array(self._noisy)
        seq = np.array([pose.seq for pose, _ in chosen])
        t_out_ns = np.array([pose.t_ns - self._origin_ns for pose, _ in chosen], np.int64)
        return Aligned(
            t_in_ns=t_ns[seq],
            t_out_ns=t_out_ns,
            noisy=noisy[seq],
            truth_in=truth[seq],
            refined=np.array([pose.positions for pose, _ in chosen], np.float64),
            truth_out=at_time(t_ns, truth, t_out_ns),
            calibrated=np.array([pose.status != "calibrating" for pose, _ in chosen]),
            latency_ns=np.array([got for _, got in chosen], np.int64) - sent_ns[seq],
            filter_ns=np.array([pose.inferred_ns - pose.received_ns for pose, _ in chosen], np.int64),
        )
