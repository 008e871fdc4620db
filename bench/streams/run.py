"""One stream through the filter and through the One-Euro filter, and what can be measured of what came out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.accuracy import tuned
from bench.accuracy.baselines import OneEuro
from bench.streams.stream import RATE_HZ, Bools, Stream
from bench.track import Floats
from model.layouts import LayoutError, get_layout
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.errors import FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes.block import Runtime

WORDS_EVERY = 10  # frames between two looks at the warnings


@dataclass(frozen=True)
class Run:
    """What came out for the N frames of a stream; where no pose came, its arrays hold the last one of that actor.

    ``given``, ``euro``, ``ours`` (N, 24, 3) [m], NaN where there is none; ``sigma_m`` (N,) what we state of a joint;
    ``counted``: rejections and counters by name; ``warnings`` and ``refusals``: every sentence that was said, once.
    """

    stream: Stream
    given: Floats
    euro: Floats
    ours: Floats
    came: Bools
    finite: Bools
    status: npt.NDArray[Any]
    sigma_m: Floats
    offsets_m: Floats
    version: npt.NDArray[np.int64]
    rotations: Floats
    counted: Counter[str]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]
    twin: Run | None

    @property
    def words(self) -> tuple[str, ...]:
        """All that was said."""
        return self.warnings + self.refusals

    def errors_mm(self, positions: Floats) -> Floats:
        """(N,) mean error of each frame's shown joints; NaN where it shows none, infinite where a number is not one."""
        apart = 1e3 * np.linalg.norm(positions - self.stream.truth, axis=-1)
        counts = self.stream.shown & np.isfinite(self.stream.truth).all(-1)
        apart = np.where(np.isfinite(apart), apart, np.inf)
        sums = np.where(counts, apart, 0.0).sum(1)
        return np.where(counts.any(1), sums / np.maximum(counts.sum(1), 1), np.nan)

    def error_mm(self, positions: Floats, start_s: float = 0.0, end_s: float = np.inf) -> float:
        """Mean of them over a time; NaN where nothing is shown."""
        errors = self.errors_mm(positions)[self.stream.between(start_s, end_s)]
        errors = errors[~np.isnan(errors)]
        return float(errors.mean()) if len(errors) else float("nan")


def play(stream: Stream, runtime: Runtime) -> Run:
    """The stream through a new filter, frame by frame, and its twin through another."""
    heard = _Heard(len(stream))
    pose_filter = PoseFilter(runtime)
    stream.tell(pose_filter)
    for n, frame in enumerate(stream.frames):
        try:
            heard.note(n, frame.actor, pose_filter.push(frame))
        except FrameError as error:
            heard.note(n, frame.actor, None)
            heard.refusals[str(error)] = None
        if n % WORDS_EVERY == 0 or n == len(stream) - 1:
            heard.warnings |= dict.fromkeys(pose_filter.warnings(frame.actor))
    given = _canonical(stream)
    twin = play(stream.twin, runtime) if stream.twin is not None else None
    return Run(stream, given, _one_euro(stream, given), counted=pose_filter.rejected + pose_filter.counts, twin=twin,
               **heard.arrays())  # fmt: skip


class _Heard:
    """Poses as they come, by frame; the last one of an actor stands where none comes."""

    def __init__(self, count: int) -> None:
        self.warnings: dict[str, None] = {}
        self.refusals: dict[str, None] = {}
        self._came, self._finite = np.zeros(count, np.bool_), np.ones(count, np.bool_)
        self._status = np.full(count, "", object)
        self._sigma, self._version = np.full(count, np.nan), np.zeros(count, np.int64)
        self._ours, self._offsets = np.full((2, count, J, 3), np.nan)
        self._rotations = np.full((count, J, 4), np.nan)
        self._last: dict[str, Pose] = {}

    def note(self, n: int, actor: str, pose: Pose | None) -> None:
        self._came[n] = pose is not None
        if pose is not None:
            self._last[actor] = pose
        shown = self._last.get(actor)
        if shown is None:
            return
        self._ours[n], self._rotations[n], self._offsets[n] = shown.positions, shown.rotations, shown.offsets_m
        self._status[n], self._version[n] = shown.status, shown.skeleton_version
        numbers = (shown.positions, shown.rotations, shown.covariance, shown.offsets_m, shown.lengths_m, shown.contact)
        self._finite[n] = all(np.isfinite(array).all() for array in numbers)
        if self._finite[n]:
            self._sigma[n] = np.sqrt(shown.covariance.trace(axis1=1, axis2=2).mean() / 3)

    def arrays(self) -> dict[str, Any]:
        return {
            "ours": self._ours, "came": self._came, "finite": self._finite, "status": self._status,
            "sigma_m": self._sigma, "offsets_m": self._offsets, "version": self._version,
            "rotations": self._rotations, "warnings": tuple(self.warnings), "refusals": tuple(self.refusals),
        }  # fmt: skip


def _canonical(stream: Stream) -> Floats:
    """(N, 24, 3) what the frames say of the canonical joints [m], NaN where nothing."""
    out = np.full((len(stream), J, 3), np.nan)
    for n, frame in enumerate(stream.frames):
        try:
            layout = get_layout(frame.layout)
        except LayoutError:
            continue  # refused by both
        xyz, measured, _, _ = layout.to_canonical(np.asarray(frame.positions, np.float64))
        out[n] = np.where(measured[:, None], xyz, np.nan)
    return out


def _one_euro(stream: Stream, given: Floats) -> Floats:
    """(N, 24, 3) what the tuned One-Euro filter makes of it: one an actor, begun anew when the clock does not rise."""
    settings: dict[str, Any] = dict(tuned.settings("one_euro", stream.noise, RATE_HZ, 0.0))
    filters: dict[str, OneEuro] = {}
    last_ns: dict[str, int] = {}
    out = np.empty_like(given)
    for n, frame in enumerate(stream.frames):
        name = frame.actor
        if name not in filters or frame.t_ns <= last_ns[name]:
            filters[name] = OneEuro(**settings)
        out[n] = filters[name].push(_seconds(frame, stream), given[n])
        last_ns[name] = frame.t_ns
    return out


def _seconds(frame: Frame, stream: Stream) -> float:
    return (frame.t_ns - stream.frames[0].t_ns) / SECOND_NS  # integers first: no clock is too old
