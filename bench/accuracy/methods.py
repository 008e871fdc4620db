"""What the accuracy bench compares: the live filter and today's filters on one noisy take, at one time asked for.

Every method answers frame by frame with the pose for ``at_s`` from the newest frame; the learned peers of learned.py
are given a whole take at once. Scores are in scoring.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bench.accuracy import baselines, tuned
from bench.accuracy.answers import Answers, Seen
from bench.accuracy.baselines import BASELINES, Baseline
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.takes import Take
from bench.track import Floats, Times
from model.files import quaternions as rotations
from model.noise.fixed import LOSSES, make_noise
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes.block import Runtime

FILTER = "HPSTM Live"
ROUNDING_NS = 10  # of frame times: a frame that is due now is not put off to the next one


class Case(NamedTuple):
    """What one row of the table is for: a noise, a frame rate [Hz], a time asked for [s] (negative: a delay)."""

    noise: str
    rate_hz: float
    at_s: float


def _tuned(kind: Callable[..., Baseline], name: str) -> Callable[[Case], Baseline]:
    def make(case: Case) -> Baseline:
        noise = "realistic" if case.noise in LOSSES else case.noise  # their noise, too
        return kind(case.at_s, **tuned.settings(name, noise, case.rate_hz, case.at_s))

    return make


# The input needs no filter of its own: missing joints are held before any of them.
SMOOTHERS: dict[str, Callable[[Case], Baseline]] = {
    "input": lambda case: BASELINES["raw"](case.at_s),
    "median of 5": lambda case: BASELINES["median"](case.at_s),
    "One-Euro": _tuned(baselines.OneEuro, "one_euro"),
    "One-Euro MediaPipe": lambda case: BASELINES["one_euro_mediapipe"](case.at_s),
    "One-Euro SmoothNet": lambda case: BASELINES["one_euro_smoothnet"](case.at_s),
    "Kalman": _tuned(baselines.Kalman, "kalman"),
    "Holt": _tuned(baselines.Holt, "holt"),
    "Savitzky-Golay": _tuned(baselines.SavitzkyGolay, "savitzky_golay"),
}
METHODS = (*SMOOTHERS, *WHOLE_TAKE, FILTER)
DEFAULT_METHODS = ("input", "One-Euro", "Kalman", FILTER)


def corrupted(take: Take, noise: str, seed: int = 0) -> Seen:
    """A take with one of the test noises; the draw depends on their names and the seed alone."""
    rng = np.random.default_rng([zlib.crc32(f"{noise}/{take.name}".encode()), seed])
    truth = take.truth_at(take.t_ns).astype(np.float32)
    drawn = make_noise(noise, rng, truth[None], take.t_ns[None] / SECOND_NS)
    positions = np.where(drawn.mask[0, :, :, None], drawn.positions[0], np.nan)
    return Seen(positions, drawn.confidence[0])


def filtered(runtime: Runtime, take: Take, seen: Seen, at_s: Sequence[float]) -> list[Answers]:
    """The live filter's poses of a noisy take, see ``live``."""
    frames = [Frame("a", k, int(t), seen.positions[k], seen.confidence[k]) for k, t in enumerate(take.t_ns)]
    return live(runtime, frames, at_s)


def live(runtime: Runtime, frames: Sequence[Frame], at_s: Sequence[float], landmarks: bool = False) -> list[Answers]:
    """The live filter's poses of one actor's frames for each time asked for, each of a filter that was set to it.

    A delay beyond the filter's reach is its pose for the end of the reach, kept back until it is due.

    Raises:
        ConfigError: a time lies beyond the reach of prediction.
    """
    return [_live(runtime, frames, at, landmarks) for at in at_s]


def _live(runtime: Runtime, frames: Sequence[Frame], at_s: float, landmarks: bool) -> Answers:
    t_ns = np.array([frame.t_ns for frame in frames], np.int64)
    reach_s = -runtime.contract.tau_s[0]
    target_ns = t_ns + round(at_s * SECOND_NS)
    near_ns = target_ns + round(reach_s * SECOND_NS) + ROUNDING_NS
    asked = np.minimum(np.searchsorted(t_ns, near_ns, side="right") - 1, np.arange(len(t_ns)))
    due: dict[int, list[int]] = {}  # after which frame to ask, for whose answer
    for i, k in enumerate(asked):
        due.setdefault(int(k), []).append(i)
    positions, covariance, quaternions = (np.full((len(t_ns), J, *tail), np.nan) for tail in ((3,), (3, 3), (4,)))
    source = np.full((len(t_ns), *frames[0].positions.shape), np.nan)
    delay_s, predict_s = min(max(0.0, -at_s), reach_s), max(0.0, at_s)
    pose_filter = PoseFilter(runtime, delay_s=delay_s, predict_s=predict_s, landmarks=landmarks)
    for k, frame in enumerate(frames):
        pose_filter.push_many([frame])
        for i in due.get(k, []) if frame.actor in pose_filter.actors else []:
            pose = pose_filter.pose_at(int(target_ns[i]), frame.actor)
            positions[i], covariance[i], quaternions[i] = pose.positions, pose.covariance, pose.rotations
            if pose.source is not None:
                source[i] = pose.source
    told = source if np.isfinite(source).any() else None
    return Answers(target_ns, positions, covariance, world_from_local(quaternions), told)


def world_from_local(quaternions: Floats) -> Floats:
    """(T, 24, 3, 3) world_from_joint rotations of a pose's (T, 24, 4) xyzw parent_from_joint ones."""
    return rotations.world_from_local(rotations.matrices(quaternions.astype(np.float64)))


def held(times_s: Floats, positions: Floats) -> Floats:
    """Positions (T, J, 3) in which a missing joint stays in its last place.

    This is what every smoother is given: a Kalman filter left alone would run on along its velocity for the whole gap,
    which nobody would let it do.
    """
    return baselines.run(baselines.Hold(), times_s, positions)


def smoothed_positions(method: str, t_ns: Times, given: Floats, case: Case) -> Floats:
    """A baseline's poses (T, J, 3) for ``case.at_s`` from each frame of an input whose missing joints are held."""
    return baselines.run(SMOOTHERS[method](case), t_ns / SECOND_NS, given)


def smoothed(method: str, take: Take, seen: Seen, case: Case) -> Answers:
    """A baseline's poses for the same times as the live filter's."""
    given = held(take.t_ns / SECOND_NS, seen.positions)
    return Answers(take.t_ns + round(case.at_s * SECOND_NS), smoothed_positions(method, take.t_ns, given, case))


def answered(
    runtime: Runtime,
    take: Take,
    seen: Seen,
    methods: Sequence[str],
    cases: Sequence[Case],
) -> dict[str, list[Answers]]:
    """What each method says of one take, for each case; these differ in the time asked for alone."""
    found: dict[str, list[Answers]] = {}
    for method in methods:
        if method == FILTER:
            found[method] = filtered(runtime, take, seen, [case.at_s for case in cases])
        elif method in WHOLE_TAKE:
            answers = WHOLE_TAKE[method](take.t_ns, seen)
            found[method] = [answers(case.at_s) for case in cases]
        else:
            found[method] = [smoothed(method, take, seen, case) for case in cases]
    return found
