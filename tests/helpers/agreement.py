"""Whether two runtimes agree: one eventful stream, what a filter answers to it, and how far apart two answers are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.skeleton import J
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from tests.helpers.networks import SECOND_NS, max_mm, noisy_stream

# Tolerances [mm] of a whole stream: rounding is fed back, and whether a joint rests hangs on it. Of the bundled model
# two answers of two thousand are more than .01 off, .038 at most; what a random network draws lies far from any rest.
STREAM_MM, RANDOM_STREAM_MM = 0.05, 0.3
STEPS = 2_000  # over three actors: rings of 8 frames wrap 80 times, those of 64 ten times


def eventful(count: int) -> list[Frame]:
    """Three actors at 30, 60 and 120 Hz in turn: missing joints, empty moments, absences longer than the ring."""
    each = count // 3 + 1
    rates = {"a": 30.0, "b": 60.0, "c": 120.0}
    streams = [noisy_stream(seed, each, name, fps) for seed, (name, fps) in enumerate(rates.items())]
    rng = np.random.default_rng(0)
    for frames in streams:
        for start in rng.integers(40, each, each // 150):
            for frame in frames[start : start + rng.integers(1, 20)]:
                frame.positions = np.full((J, 3), np.nan)
        for start in rng.integers(40, each, each // 200):
            for frame in frames[start:]:
                frame.t_ns += 5 * SECOND_NS
    return [frames[i] for i in range(each) for frames in streams][:count]


def answers(filter_: PoseFilter, frames: Iterable[Frame], reset_every: int = 411) -> list[Pose | None]:
    """What a filter says of each frame and, after every fourth, of another time; actors are reset now and then."""
    said: list[Pose | None] = []
    for i, frame in enumerate(frames):
        if i % reset_every == reset_every - 1 and frame.actor in filter_.actors:
            filter_.reset(frame.actor)
        said += filter_.push_many([frame])
        if i % 4 == 0 and frame.actor in filter_.actors and filter_.actors[frame.actor].newest is not None:
            said.append(filter_.pose_at(frame.t_ns + (-200 + 70 * (i // 4 % 6)) * 1_000_000, frame.actor))
    return said


def torch_answers(folder: Path | None, count: int = STEPS, double: bool = False) -> Sequence[Pose | None]:
    """Those of runtime torch to the eventful stream; it is by far the slowest."""
    return tuple(answers(PoseFilter.load(folder, runtime="torch", double=double), eventful(count)))


def largest_differences(got: Sequence[Pose | None], want: Sequence[Pose | None]) -> dict[str, float]:
    """Largest differences of answers to the same frames; who answers, of when and in which state is the same."""
    worst = {"positions_mm": 0.0, "rotations": 0.0, "lengths_mm": 0.0, "covariance_mm": 0.0, "contact": 0.0}
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is None or b is None:
            continue
        assert (a.status, a.t_ns, a.skeleton_version) == (b.status, b.t_ns, b.skeleton_version)
        sign = np.sign((a.rotations * b.rotations).sum(-1, keepdims=True))
        spread = [np.sqrt(np.trace(p.covariance, axis1=1, axis2=2)) for p in (a, b)]
        found = {
            "positions_mm": max_mm(a.positions, b.positions),
            "rotations": float(np.abs(a.rotations - sign * b.rotations).max()),
            "lengths_mm": float(1e3 * np.abs(a.lengths_m - b.lengths_m).max()),
            "covariance_mm": float(1e3 * np.abs(spread[0] - spread[1]).max()),
            "contact": float(np.abs(a.contact - b.contact).max()),
        }
        worst = {name: max(worst[name], value) for name, value in found.items()}
    return worst


def largest_mm(got: Sequence[Pose | None], want: Sequence[Pose | None]) -> float:
    """Largest of their differences in places and bones [mm]."""
    worst = largest_differences(got, want)
    return max(worst["positions_mm"], worst["lengths_mm"])
