"""PoseFilter: the ladder through the public surface, time, status, control. Bad input is in test_filter_input.py.

The network is tiny, random and in float64: equality is bit for bit. Accuracy is in test_equivariance.py.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.skeleton import J, rest_offsets
from streamer.errors import ConfigError, FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from tests.helpers.networks import (
    SECOND_NS,
    TINY,
    assert_finite,
    assert_pose_holds,
    assert_poses_equal,
    clean_stream,
    noisy_stream,
    poses_of,
    stream,
)

W = TINY.window
YEAR_NS = 365 * 86_400 * SECOND_NS


# ---- the ladder


@pytest.fixture(scope="module")
def reference(new: Callable[..., PoseFilter], frames: list[Frame]) -> list[Pose]:
    return poses_of(new(), frames)


@pytest.mark.parametrize("size", [1, 2, 3, W - 1, W, W + 1])
def test_chunks_of_any_size_give_the_same_poses(
    size: int, new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]
) -> None:
    filter_ = new()
    got: list[Pose | None] = []
    for start in range(0, len(frames), size):
        got += filter_.push_many(frames[start : start + size])
    assert_poses_equal(got, reference)


def test_the_future_changes_nothing(new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]) -> None:
    known = 2 * W + 3
    other = noisy_stream(8, len(frames))
    for frame, like in zip(other, frames, strict=True):
        frame.t_ns = like.t_ns
    got = poses_of(new(), frames[:known] + other[known:])
    assert_poses_equal(got[:known], reference[:known])
    assert not np.array_equal(got[known].positions, reference[known].positions)


def test_reset_equals_new(new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]) -> None:
    filter_ = new()
    poses_of(filter_, noisy_stream(2, 3 * W))
    filter_.reset("a")
    assert_poses_equal(poses_of(filter_, frames), reference)


def test_remove_equals_new(new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]) -> None:
    filter_ = new()
    poses_of(filter_, noisy_stream(2, W))
    filter_.remove("a")
    assert "a" not in filter_.actors
    assert_poses_equal(poses_of(filter_, frames), reference)
    filter_.remove("nobody")


@pytest.mark.parametrize("start_ns", [YEAR_NS, -YEAR_NS, 1_700_000_000 * SECOND_NS, 7, -3 * SECOND_NS // 7])
def test_another_start_of_the_clock(
    start_ns: int, new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]
) -> None:
    later = noisy_stream(1, len(frames), start_ns=start_ns)
    assert_poses_equal(poses_of(new(), later), reference, clock_ns=start_ns)


def test_actors_in_turn_are_each_as_alone(
    new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]
) -> None:
    others = {"b": noisy_stream(3, len(frames), "b", fps=30.0, start_ns=YEAR_NS), "c": noisy_stream(4, W, "c")}
    mixed = sorted([*frames, *others["b"], *others["c"]], key=lambda f: (f.seq, f.actor))
    filter_ = new()
    answers = list(zip(mixed, filter_.push_many(mixed), strict=True))
    alone = {"a": reference} | {name: poses_of(new(), own) for name, own in others.items()}
    for name, want in alone.items():
        assert_poses_equal([pose for frame, pose in answers if frame.actor == name], want)
    assert set(filter_.actors) == {"a", "b", "c"}


def test_asking_for_other_times_changes_nothing_of_the_stream(
    new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]
) -> None:
    filter_ = new()
    got = []
    for frame in frames:
        got.append(filter_.push(frame))
        for tau_ms in (-180, 40, 900):
            filter_.pose_at(frame.t_ns + tau_ms * 1_000_000, "a")
    for a, b in zip(got, reference, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.covariance, b.covariance)


def test_the_callers_arrays_are_left_alone_and_not_kept(
    new: Callable[..., PoseFilter], frames: list[Frame], reference: list[Pose]
) -> None:
    filter_, got = new(), []
    for frame in frames:
        mine = copy.deepcopy(frame)
        got.append(filter_.push(mine))
        np.testing.assert_array_equal(mine.positions, frame.positions)
        mine.positions[:] = 1e9
    assert_poses_equal(got, reference)


def test_every_pose_holds_its_promises(reference: list[Pose]) -> None:
    for before, pose in zip([None, *reference[:-1]], reference, strict=True):
        assert_pose_holds(pose, before)


def test_plain_integers_come_out_whatever_integers_go_in(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    """numpy's integers overflow, and msgpack refuses them."""
    for kind in (np.int64, np.uint64):
        filter_ = new(delay_s=0.1)
        for frame in frames[:3]:
            mine = copy.deepcopy(frame)
            mine.t_ns = kind(frame.t_ns)  # type: ignore[assignment]
            pose = filter_.push(mine)
            assert type(pose.t_ns) is int
            assert type(pose.captured_ns) is int
            assert pose.t_ns == frame.t_ns - SECOND_NS // 10


# ---- time: delay, prediction, any time


@pytest.mark.parametrize(("setting", "shift_ms"), [({"delay_s": 0.1}, -100), ({"predict_s": 0.05}, 50), ({}, 0)])
def test_a_pose_is_for_the_frames_time_shifted(
    setting: dict[str, float], shift_ms: int, new: Callable[..., PoseFilter], frames: list[Frame]
) -> None:
    filter_, plain = new(**setting), new()
    for frame in frames:
        pose = filter_.push(frame)
        plain.push(frame)
        assert pose.t_ns == frame.t_ns + shift_ms * 1_000_000
        assert pose.captured_ns == frame.t_ns
        assert_poses_equal([pose], [filter_.pose_at(pose.t_ns, "a")])
        # What a source's joints differ by is learned at the time that is set, so a filter of now has nearly the same.
        other = plain.pose_at(pose.t_ns, "a")
        np.testing.assert_allclose(pose.positions, other.positions, rtol=0, atol=0.025 if setting else 0.0)


def test_pose_at_stays_within_reach_and_doubts_beyond(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    filter_ = new()
    last = poses_of(filter_, frames)[-1].t_ns
    low, high = filter_.runtime.contract.tau_s
    assert filter_.pose_at(last - 60 * SECOND_NS, "a").t_ns == last + round(low * SECOND_NS)
    inside, end = (filter_.pose_at(last + round(s * SECOND_NS), "a") for s in (0.08, high))
    assert (inside.t_ns, end.t_ns) == (last + 80_000_000, last + round(high * SECOND_NS))
    doubt = [filter_.pose_at(last + round(s * SECOND_NS), "a") for s in (0.2, 0.5, 2.0)]
    for before, after in zip([end, *doubt[:-1]], doubt, strict=True):
        assert after.t_ns == end.t_ns
        np.testing.assert_array_equal(after.positions, end.positions)
        assert (np.trace(after.covariance, axis1=1, axis2=2) > np.trace(before.covariance, axis1=1, axis2=2)).all()


def test_pose_at_answers_after_any_history(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    """Once an actor is there: a rejected frame or a reset may say "nobody", not fail by accident."""
    filter_ = new()
    with pytest.raises(KeyError):
        filter_.pose_at(0, "a")
    poses_of(filter_, frames)
    with pytest.raises(FrameError):  # nobody there, long after the ring's time
        filter_.push(stream(np.full((1, J, 3), np.nan), np.array([60.0]))[0])
    assert_finite(filter_.pose_at(frames[-1].t_ns, "a"))
    filter_.reset("a")
    with pytest.raises(KeyError):
        filter_.pose_at(frames[-1].t_ns, "a")


@pytest.mark.parametrize(
    "setting",
    [{"delay_s": 0.3}, {"delay_s": -0.1}, {"predict_s": 0.2}, {"predict_s": -0.01}, {"delay_s": 0.1, "predict_s": 0.1},
     {"max_actors": 0}, {"delay_s": float("nan")}, {"predict_s": float("nan")}],
)  # fmt: skip
def test_bad_settings_are_refused(setting: dict[str, float], new: Callable[..., PoseFilter]) -> None:
    with pytest.raises(ConfigError, match=r"delay_s|predict_s|max_actors"):
        new(**setting)


# ---- status


def test_status_from_the_first_frame_to_lost_and_back(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 7.0, 60.0)
    for frame in frames[300:380]:
        frame.positions = np.full((J, 3), np.nan)
    status = [pose.status for pose in poses_of(new(), frames)]
    assert status[0] == status[239] == "calibrating"
    assert status[241:300] == ["tracking"] * 59
    assert status[300:359] == ["coasting"] * 59
    assert status[360:380] == ["lost"] * 20
    assert status[380:] == ["tracking"] * 40


def test_poses_while_everything_is_gone_hold_and_doubt(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 3.0, 60.0)
    gone = slice(100, 150)
    for frame in frames[gone]:
        frame.positions = np.full((J, 3), np.nan)
    poses = poses_of(new(), frames)
    for before, pose in itertools.pairwise(poses):
        assert_pose_holds(pose, before)
    doubt = [np.trace(p.covariance, axis1=1, axis2=2).mean() for p in poses]
    assert doubt[149] > 2 * doubt[99]


def test_pose_at_long_after_the_last_frame_says_so(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    filter_ = new()
    last = poses_of(filter_, frames)[-1].t_ns
    assert filter_.pose_at(last + SECOND_NS // 2, "a").status == "coasting"
    assert filter_.pose_at(last + 2 * SECOND_NS, "a").status == "lost"


def test_a_gap_longer_than_the_ring_starts_anew_on_the_same_skeleton(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 6.0, 60.0)
    filter_, fresh = new(), new()
    before = poses_of(filter_, frames[:300])[-1]
    after = poses_of(filter_, frames[330:340])
    assert after[0].status == "tracking"
    fresh.set_skeleton("a", before.offsets_m)
    for a, b in zip(after, poses_of(fresh, frames[330:340]), strict=True):
        np.testing.assert_array_equal(a.offsets_m, before.offsets_m)
        np.testing.assert_array_equal(a.positions, b.positions)


def test_a_gap_shorter_than_the_ring_does_not_start_anew(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 2.0, 60.0)
    filter_, fresh = new(), new()
    poses_of(filter_, frames[:60])
    pose = filter_.push(frames[60 + W - 2])
    assert not np.array_equal(pose.positions, fresh.push(frames[60 + W - 2]).positions)


def test_quaternion_signs_go_on_over_a_gap(new: Callable[..., PoseFilter]) -> None:
    """The same actor comes back: an avatar that blends to the new pose must not turn the long way round."""
    frames, _ = clean_stream(0, 4.0, 30.0)
    turned = [_turned(frame, angle) for frame, angle in zip(frames, np.linspace(0, 1.1 * 2 * np.pi, 90))]
    filter_ = new()
    before = poses_of(filter_, turned)[-1]
    after = before
    for back in turned[-2:]:  # one stamp so far ahead waits for a second
        back.t_ns += 20 * SECOND_NS
        (answer,) = filter_.push_many([back])
        after = answer or after
    assert filter_.rejected == {"ahead": 1}
    assert after.t_ns == turned[-1].t_ns
    same = np.abs((before.rotations * after.rotations).sum(-1)) > 0.5
    assert ((before.rotations * after.rotations).sum(-1)[same] > 0).all()


def _turned(frame: Frame, angle: float) -> Frame:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return Frame(frame.actor, frame.seq, frame.t_ns, frame.positions @ turn.T)


# ---- control


def test_a_given_skeleton_is_used_at_once_and_kept(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    own = (1.1 * rest_offsets()).astype(np.float32)
    before, during = new(), new()
    before.set_skeleton("a", own)
    during.push(frames[0])
    during.set_skeleton("a", own)
    for filter_ in (before, during):
        for frame in frames[1:20]:
            pose = filter_.push(frame)
            np.testing.assert_array_equal(pose.offsets_m, own)
            assert pose.status != "calibrating"
        filter_.reset("a")
        np.testing.assert_array_equal(filter_.push(frames[0]).offsets_m, own)


@pytest.mark.parametrize("bad", [np.zeros((23, 3)), np.full((J, 3), np.nan), np.zeros((J, 3)).tolist()[:5]])
def test_a_skeleton_that_is_none_is_refused(bad: np.ndarray, new: Callable[..., PoseFilter]) -> None:
    with pytest.raises(ConfigError, match="offsets_m"):
        new().set_skeleton("a", bad)


def test_calibrate_measures_anew_and_says_so(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 5.0, 30.0)
    filter_ = new()
    filter_.set_skeleton("a", (1.3 * rest_offsets()).astype(np.float32))
    given_pose = poses_of(filter_, frames[:60])[-1]
    filter_.calibrate("a")
    pose = filter_.push(frames[60])
    assert pose.status == "calibrating"
    assert not np.array_equal(pose.offsets_m, given_pose.offsets_m)
    assert pose.skeleton_version > given_pose.skeleton_version, "subscribers would keep the old skeleton"


def test_the_version_tells_of_every_change_of_the_skeleton(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 5.0, 60.0)
    poses = poses_of(new(), frames)
    for a, b in itertools.pairwise(poses):
        assert b.skeleton_version >= a.skeleton_version
        assert np.array_equal(a.offsets_m, b.offsets_m) == (a.skeleton_version == b.skeleton_version)
    for a, b in itertools.pairwise(poses[242:]):  # 4 s: frozen for good
        np.testing.assert_array_equal(a.lengths_m, b.lengths_m)


def test_load_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="onnx"):
        PoseFilter.load(runtime="coreml")
    with pytest.raises(ConfigError, match="threads"):
        PoseFilter.load(threads=0)
