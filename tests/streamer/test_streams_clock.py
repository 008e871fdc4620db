"""Clocks that are not as they should be: set back, restarted, astray, in another unit, read at reception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bench.accuracy.baselines import OneEuro
from model.motion.synthetic import SyntheticActor
from streamer.errors import FrameError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.tracks import Evener, probably
from tests.helpers.networks import (
    BUNDLED,
    NOT_BUNDLED,
    SECOND_NS,
    assert_poses_equal,
    clean_stream,
    mean_mm,
    poses_of,
    stream,
)


def from_frame(n: int, frames: list[Frame], shift_ns: int) -> list[Frame]:
    return [replace(f, t_ns=f.t_ns + shift_ns * (i >= n)) for i, f in enumerate(frames)]


# ---- another clock

RESETS = {"to 0": -6 * SECOND_NS, "back 2 s": -2 * SECOND_NS, "back a year": -365 * 86_400 * SECOND_NS,
          "an hour ahead": 3600 * SECOND_NS}  # fmt: skip


@pytest.mark.parametrize("fps", [15.0, 30.0])
@pytest.mark.parametrize("what", RESETS)
def test_a_new_clock_is_a_new_track_on_the_same_skeleton(what: str, fps: float, new: Callable[..., PoseFilter]) -> None:
    frames = from_frame(round(4.5 * fps), clean_stream(0, 5.2, fps)[0], RESETS[what])
    if what == "to 0":
        frames = [replace(f, seq=max(0, i - round(4.5 * fps))) for i, f in enumerate(frames)]
    filter_ = new()
    answers = filter_.push_many(frames)
    lost = [i for i, pose in enumerate(answers) if pose is None]
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert lost[0] == round(4.5 * fps)
    assert len(lost) <= 0.3 * fps
    assert set(filter_.rejected) <= {"late", "ahead"}
    assert sum(filter_.rejected.values()) == len(lost)
    assert (filter_.counts["clock_resets"], filter_.counts["new_tracks"]) == (1, 1)
    before, after = answers[lost[0] - 1], answers[lost[-1] + 1]
    assert before is not None
    assert after is not None
    assert after.status == "tracking"
    assert after.skeleton_version == before.skeleton_version
    np.testing.assert_array_equal(after.offsets_m, before.offsets_m)
    assert "'a'" in filter_.warnings("a")[0]
    fresh = new()
    fresh.set_skeleton("a", before.offsets_m)
    for got, want in zip(answers[lost[-1] + 1 :], poses_of(fresh, frames[lost[-1] + 1 :]), strict=True):
        np.testing.assert_array_equal(got.positions, want.positions)  # type: ignore[union-attr]


@pytest.mark.parametrize("ahead_s", [5, 3600, 10**6])
def test_one_stamp_astray_waits_for_a_second_and_changes_nothing(ahead_s: int, new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 2.0, 30.0)
    filter_, untouched = new(), new()
    poses_of(filter_, frames[:40])
    poses_of(untouched, frames[:40])
    with pytest.raises(FrameError, match="waits") as caught:
        filter_.push(replace(frames[40], t_ns=frames[40].t_ns + ahead_s * SECOND_NS))
    assert caught.value.reason == "ahead"
    assert_poses_equal(poses_of(filter_, frames[41:]), poses_of(untouched, frames[41:]))
    assert not filter_.counts


def test_a_pause_that_is_known_to_be_one_costs_no_frame(new: Callable[..., PoseFilter]) -> None:
    """The frames arrived as far apart as their stamps: nobody waits for a second one."""
    frames = from_frame(40, clean_stream(0, 2.0, 30.0)[0], 60 * SECOND_NS)
    for frame in frames:
        frame.received_ns = 7 * SECOND_NS + frame.t_ns
    filter_ = new()
    assert all(pose is not None for pose in filter_.push_many(frames))
    assert filter_.counts == {"new_tracks": 1}


def test_late_frames_now_and_then_are_no_new_clock(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 4.0, 60.0)
    sent = [frame for i, now in enumerate(frames) for frame in (now, frames[max(i - 30, 0)])[: 1 + (i % 3 == 0)]]
    filter_, untouched = new(), new()
    got = [pose for pose in filter_.push_many(sent) if pose is not None]
    assert_poses_equal(got, poses_of(untouched, frames))
    assert filter_.counts["clock_resets"] == 0


# ---- another unit


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0, 120.0])
@pytest.mark.parametrize(("unit", "ns"), [("milliseconds", 1_000_000), ("microseconds", 1000), ("counter", 0)])
def test_stamps_in_another_unit_are_refused_with_what_was_meant(
    unit: str, ns: int, fps: float, new: Callable[..., PoseFilter]
) -> None:
    frames, _ = clean_stream(0, 2.0, fps)
    for i, frame in enumerate(frames):
        frame.t_ns = frame.t_ns // ns if ns else i
    filter_ = new()
    answers = filter_.push_many(frames)
    assert all(pose is None for pose in answers[10:])
    assert filter_.rejected == {"time_unit": len(frames) - 10}
    (said,) = filter_.warnings("a")
    assert unit in said
    assert "'a'" in said
    right, _ = clean_stream(0, 2.0, fps)  # the source is put right
    late = [replace(f, t_ns=f.t_ns + 10**15) for f in right]
    assert sum(pose is None for pose in filter_.push_many(late)) == 1
    assert filter_.rejected["ahead"] == 1


MEANT = {16: "milliseconds", 33: "milliseconds", 16_667: "microseconds", 33_333: "microseconds", 1: "counter"}


@pytest.mark.parametrize(("interval_ns", "says"), MEANT.items())
def test_what_was_probably_meant(interval_ns: int, says: str) -> None:
    assert says in probably(interval_ns)


def test_frames_as_fast_as_a_program_makes_them_are_taken(new: Callable[..., PoseFilter]) -> None:
    """Somebody who waits for each pose before the next frame, at 3 kHz: true times, all of them."""
    frames = [replace(f, t_ns=i * 333_333) for i, f in enumerate(clean_stream(0, 1.0, 60.0)[0])]
    filter_ = new()
    assert all(pose is not None for pose in filter_.push_many(frames))
    assert not filter_.rejected


# ---- stamps taken at reception


def bunched(count: int, fps: float, seed: int) -> np.ndarray:
    """(T,) seconds at which frames that were captured evenly arrive in groups of up to three."""
    rng = np.random.default_rng(seed)
    out, i = np.arange(count) / fps, 0
    while i < count:
        group = slice(i, min(i + int(rng.choice([1, 2, 2, 3])), count))
        n = group.stop - group.start
        out[group] = out[group.stop - 1] + 0.004 + np.arange(n) * rng.uniform(1e-4, 6e-4)
        i = group.stop
    return out


@pytest.fixture(scope="module")
def live() -> PoseFilter:
    if not BUNDLED:
        pytest.skip(NOT_BUNDLED)
    try:
        return PoseFilter.load(runtime="native")
    except RuntimeUnavailable:
        return PoseFilter.load(runtime="onnx")


def errors_mm(answers: list[Pose | None], truth: np.ndarray) -> np.ndarray:
    assert all(pose is not None for pose in answers)
    return np.array([mean_mm(pose.positions, x) for pose, x in zip(answers, truth) if pose is not None])


@pytest.mark.parametrize("fps", [30.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_bunches_are_evened_out(fps: float, seed: int, live: PoseFilter) -> None:
    truth = SyntheticActor(seed).clip(8.0, fps)
    times_s = bunched(len(truth), fps, seed)
    assert np.mean(np.diff(times_s) < 0.001) > 0.4
    name = f"{fps}-{seed}"
    ours = errors_mm(live.push_many(stream(truth, times_s, name)), truth)
    one_euro = OneEuro()
    theirs = np.array([mean_mm(one_euro.push(t, x), x) for t, x in zip(times_s, truth)])
    assert ours.mean() < 0.5 * theirs.mean()
    assert ours.max() < theirs.max()
    assert "at reception" in live.warnings(name)[0]
    assert live.pose_at(round(times_s[-1] * 1e9), name).captured_ns == round(times_s[-1] * 1e9)


def test_even_times_do_not_drift_from_the_stamps() -> None:
    times_ns = [round(t * 1e9) for t in bunched(4000, 60.0, 0)]
    evener = Evener(times_ns[9], [b - a for a, b in pairwise(times_ns[:10])], 9)
    even = np.array([evener.even(t, i) for i, t in enumerate(times_ns[10:], 10)])
    steps_ms = np.diff(even)[100:] / 1e6
    np.testing.assert_allclose(steps_ms, 1000 / 60, atol=2.0)
    assert np.abs(even - times_ns[10:]).max() < 60e6


def test_lost_frames_keep_their_time() -> None:
    """The frame counter tells that some are missing."""
    times_ns = [round(t * 1e9) for t in bunched(600, 60.0, 0)]
    evener = Evener(times_ns[9], [b - a for a, b in pairwise(times_ns[:10])], 9)
    kept = [i for i in range(10, 600) if i % 7]
    even = np.array([evener.even(times_ns[i], i) for i in kept])
    steps_ms = np.diff(even)[100:] / 1e6 / np.diff(kept)[100:]
    np.testing.assert_allclose(steps_ms, 1000 / 60, atol=2.0)


def test_one_hurried_frame_changes_little(new: Callable[..., PoseFilter]) -> None:
    """A single short interval is no bunch; the stamps are as they are again."""
    frames, _ = clean_stream(0, 2.0, 60.0)
    frames[50].t_ns = frames[49].t_ns + 400_000
    filter_ = new()
    poses_of(filter_, frames)
    assert not filter_.counts


def test_captured_is_what_the_user_sent(new: Callable[..., PoseFilter]) -> None:
    truth = SyntheticActor(0).clip(2.0, 60.0)
    frames = stream(truth, bunched(len(truth), 60.0, 0))
    for pose, frame in zip(poses_of(new(), frames), frames, strict=True):
        assert (pose.t_ns, pose.captured_ns) == (frame.t_ns, frame.t_ns)
