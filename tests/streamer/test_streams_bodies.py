"""What cannot be a body, or is no news of one: collapsed frames, zeros for "not seen", repeats, jumps, two sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX, J
from streamer.errors import FrameError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from tests.helpers.forks import KINDS, odd_motion, odd_offsets
from tests.helpers.networks import (
    BUNDLED,
    NOT_BUNDLED,
    assert_finite,
    assert_poses_equal,
    clean_stream,
    mean_mm,
    poses_of,
    stream,
)


@pytest.fixture
def live() -> PoseFilter:
    """A filter on the bundled model: how wrong poses are is a matter of weights."""
    if not BUNDLED:
        pytest.skip(NOT_BUNDLED)
    try:
        return PoseFilter.load(runtime="native")
    except RuntimeUnavailable:
        return PoseFilter.load(runtime="onnx")


def answers(filter_: PoseFilter, frames: list[Frame]) -> list[Pose | None]:
    return filter_.push_many(frames)


# ---- collapsed


def torso_gone(xyz: np.ndarray) -> np.ndarray:
    out = xyz.copy()
    out[[INDEX[f"{side}_{name}"] for side in ("left", "right") for name in ("hip", "shoulder")]] = xyz[0]
    return out


COLLAPSED = {
    "all zero": lambda xyz: 0 * xyz,
    "in one point": lambda xyz: 0 * xyz + (3.0, 1.0, -2.0),
    "a micrometre about a point": lambda xyz: 1e-6 * xyz + (3.0, 1.0, -2.0),
    "on one line": lambda xyz: np.linspace(0, 1.7, len(xyz))[:, None] * (0.6, 0.0, 0.8),
    "on the vertical": lambda xyz: xyz * (0.0, 1.0, 0.0),
    "no torso": torso_gone,
}


@pytest.mark.parametrize("layout", ["smpl_24", "smpl_22", "vrm"])
@pytest.mark.parametrize("what", COLLAPSED)
def test_a_collapsed_frame_is_refused_by_name_and_changes_nothing(
    what: str, layout: str, new: Callable[..., PoseFilter]
) -> None:
    truth = SyntheticActor(0).clip(1.0, 30.0)
    ours = [_ours(layout, i) for i in range(len(get_layout(layout).joints))]
    frames = [replace(frame, layout=layout) for frame in stream(truth[:, ours], np.arange(30) / 30)]
    filter_, untouched = new(), new()
    for at in (0, 7, 29):  # the first, and while calibrating
        before = filter_.push_many(frames[max(at - 10, 0) : at])
        untouched.push_many(frames[max(at - 10, 0) : at])
        assert all(pose is not None for pose in before)
        bad = replace(frames[at], positions=COLLAPSED[what](truth[at])[ours])
        with pytest.raises(FrameError) as caught:
            filter_.push(bad)
        assert caught.value.reason == "collapsed"
        assert filter_.rejected["collapsed"] == (0, 7, 29).index(at) + 1
        if at == 0:
            assert not filter_.actors
        assert_poses_equal([filter_.push(frames[at])], [untouched.push(frames[at])])
        filter_.reset("a")
        untouched.reset("a")


def _ours(layout: str, i: int) -> int:
    return int(get_layout(layout).weights[:, i].argmax())


def test_a_limb_alone_is_no_collapsed_body(new: Callable[..., PoseFilter]) -> None:
    """An arm that is stretched lies on one line; nothing else is seen of the person."""
    frames, _ = clean_stream(0, 1.0, 30.0)
    arm = [INDEX[f"left_{name}"] for name in ("collar", "shoulder", "elbow", "wrist", "hand")]
    filter_ = new()
    poses_of(filter_, frames[:10])
    straight = np.full((J, 3), np.nan)
    straight[arm] = frames[9].positions[arm[0]] + np.arange(5)[:, None] * (0.2, 0.0, 0.0)
    assert_finite(filter_.push(replace(frames[10], positions=straight)))


@pytest.mark.parametrize("what", ["state", "skeleton"])
def test_what_is_not_finite_never_gets_out(what: str, new: Callable[..., PoseFilter]) -> None:
    """Whatever may break inside: the actor begins anew on that very frame, and others do not notice."""
    frames, others = clean_stream(0, 1.0, 30.0)[0], clean_stream(1, 1.0, 30.0, actor="b")[0]
    filter_, fresh, alone = new(), new(), new()
    filter_.push_many(frames[:10] + others[:10])
    poses_of(alone, others[:10])
    if what == "skeleton":
        filter_._block.offsets_m[0, 5] = np.nan
    else:
        filter_._block._states[0].latent[:] = np.nan  # type: ignore[attr-defined]
    got = filter_.push_many([frames[10], others[10]])
    np.testing.assert_allclose(got[0].positions, fresh.push(frames[10]).positions, atol=1e-6)  # type: ignore[union-attr]
    assert_poses_equal(got[1:], [alone.push(others[10])])
    assert filter_.counts["nonfinite_poses"] == 1
    assert "'a'" in filter_.warnings("a")[0]
    assert filter_.warnings("b") == []
    filter_._block.offsets_m[0, 5] = np.nan
    assert list(filter_.poses_at({"a": frames[10].t_ns, "b": frames[10].t_ns})) == ["b"]
    filter_.push(others[11])
    assert_poses_equal([filter_.push(frames[11])], [new().push(frames[11])])


def test_no_number_that_is_not_finite_gets_into_a_skeleton(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    frames, _ = clean_stream(0, 1.0, 30.0)
    filter_.push(frames[0])
    seen = np.ones((1, J, 4), np.float32)
    seen[0, 3] = np.nan
    filter_._skeletons.update(np.array([0]), seen, np.array([0.2]))
    assert np.isfinite(filter_._skeletons.offsets_m[0]).all()


# ---- zeros


@pytest.mark.parametrize("layout", ["smpl_24", "coco_17", "mediapipe_33"])
def test_a_joint_at_exactly_zero_is_missing(layout: str, new: Callable[..., PoseFilter]) -> None:
    rng = np.random.default_rng(0)
    joints = len(get_layout(layout).joints)
    ours = [_ours(layout, i) for i in range(joints)]
    xyz = SyntheticActor(0).clip(1.0, 30.0)[:, ours] + 0.01 * rng.standard_normal((30, joints, 3))
    zero, gone = xyz.copy(), xyz.copy()
    lost = rng.random((30, joints)) < 0.15
    zero[lost], gone[lost] = 0.0, np.nan
    frames = [[replace(f, layout=layout) for f in stream(x, np.arange(30) / 30)] for x in (zero, gone)]
    assert_poses_equal(answers(new(), frames[0]), answers(new(), frames[1]))


def test_the_root_of_a_body_about_the_origin_is_there(new: Callable[..., PoseFilter]) -> None:
    """Root-relative sources: the pelvis is exactly zero, and real."""
    truth, up = SyntheticActor(0).clip(1.0, 30.0), np.array([0.0, 1.0, 0.0])
    centred = truth - truth[:, :1]
    plain = stream(centred + up, np.arange(30) / 30)
    got, want = (poses_of(new(), x) for x in (stream(centred, np.arange(30) / 30), plain))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.positions + up, b.positions, atol=1e-5)


# ---- repeats


def test_a_frame_repeated_bit_for_bit_is_no_evidence(live: PoseFilter) -> None:
    """A 30 Hz camera sampled at 60: the poses of its frames are as without the repeats, the others of their time."""
    _, truth = clean_stream(0, 4.0, 60.0)
    doubled = stream(np.repeat(truth[::2], 2, 0), np.arange(240) / 60)
    got = poses_of(live, doubled)
    assert live.counts["repeated"] == 120
    assert {pose.status for pose in got[1::2]} == {"coasting"}
    live.reset("a")
    assert_poses_equal(got[::2], poses_of(live, doubled[::2]))
    assert mean_mm(np.stack([p.positions for p in got]), truth) < 4
    assert [pose.t_ns for pose in got] == [frame.t_ns for frame in doubled]


def test_a_frozen_estimator_coasts_and_doubts(live: PoseFilter) -> None:
    frames, truth = clean_stream(0, 8.0, 30.0)
    for frame in frames[150:210]:
        frame.positions = frames[149].positions
    got = poses_of(live, frames)
    said = [got[i].status for i in (149, 150, 178, 182, 209, 210)]
    assert said == ["tracking", "coasting", "coasting", "lost", "lost", "tracking"]
    sigma = [np.sqrt(np.trace(pose.covariance, axis1=1, axis2=2).mean()) for pose in got[150:180]]
    assert (np.diff(sigma) > 0).all()
    assert sigma[-1] > 0.3
    assert mean_mm(got[215].positions, truth[215]) < 5


# ---- jumps


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0, 120.0])
def test_a_jump_that_no_body_makes_is_a_cut(fps: float, live: PoseFilter) -> None:
    n = int(6 * fps)
    truth = SyntheticActor(0).clip(8.0, fps)
    truth[n:] += (2.5, 0.0, 0.0)
    got = answers(live, stream(truth, np.arange(len(truth)) / fps))
    assert all(pose is not None for pose in got)
    error = [mean_mm(pose.positions, x) for pose, x in zip(got, truth) if pose is not None]
    assert error[n] > 1000  # the one frame that is not believed yet
    assert max(error[n + 1 :]) < 10
    assert (live.counts["cuts"], live.counts["new_tracks"], live.counts["astray"]) == (1, 1, 1)
    assert got[n].status == "coasting"  # type: ignore[union-attr]
    assert got[n].skeleton_version == got[-1].skeleton_version  # type: ignore[union-attr]
    assert "'a'" in live.warnings("a")[0]


def test_one_frame_astray_changes_nothing(new: Callable[..., PoseFilter]) -> None:
    frames, _ = clean_stream(0, 2.0, 30.0)
    filter_, untouched = new(), new()
    poses_of(filter_, frames[:40])
    poses_of(untouched, frames[:40])
    astray = replace(frames[40], positions=frames[40].positions + np.array([0.0, 0.0, 3.0]))
    assert filter_.push(astray).status == "coasting"
    assert_poses_equal(poses_of(filter_, frames[41:]), poses_of(untouched, frames[41:]))
    assert filter_.counts == {"astray": 1}


def test_running_and_falling_are_no_jumps(new: Callable[..., PoseFilter]) -> None:
    """At 15 Hz, at the speed of the fastest runner and with noise of 5 cm."""
    rng = np.random.default_rng(0)
    truth = SyntheticActor(0).clip(4.0, 15.0)
    truth += np.arange(60)[:, None, None] * np.array([12.0, 0.0, 0.0]) / 15 + 0.05 * rng.standard_normal(truth.shape)
    filter_ = new()
    poses_of(filter_, stream(truth, np.arange(60) / 15))
    assert not filter_.counts


# ---- two sources

TWO = {
    "the same clock, each its counter": (0.009, "seq"),
    "the same clock and counter": (0.0, "seq"),
    "another clock": (5000.0, "none"),
    "the same clock, no counter, elsewhere": (0.009, "none"),
}


@pytest.mark.parametrize("what", TWO)
def test_two_sources_under_one_name_are_told(what: str, new: Callable[..., PoseFilter]) -> None:
    shift_s, counter = TWO[what]
    a, _ = clean_stream(0, 2.0, 30.0)
    there = (1.5, 0.0, 0.0) if "elsewhere" in what else (0.091, 0.0, 0.0)
    b = [replace(f, t_ns=f.t_ns + round(shift_s * 1e9), positions=f.positions + there) for f in a]
    both = [frame for pair in zip(a, b) for frame in pair]
    if counter == "none":
        both = [replace(frame, seq=0) for frame in both]
    filter_ = new()
    for pose in filter_.push_many(both):
        if pose is not None:
            assert_finite(pose)
    assert filter_.counts["two_sources"] == 1
    assert [text for text in filter_.warnings("a") if "two sources" in text and "'a'" in text]


def test_one_source_that_loses_repeats_and_reorders_is_one(new: Callable[..., PoseFilter]) -> None:
    rng = np.random.default_rng(0)
    frames, _ = clean_stream(0, 6.0, 60.0)
    order = np.argsort(np.arange(len(frames)) + 1.5 * rng.random(len(frames)))
    sent = [frames[i] for i in order if rng.random() > 0.1]
    sent = [frame for frame in sent for _ in range(1 + (rng.random() < 0.1))]
    filter_ = new()
    filter_.push_many(sent)
    assert filter_.rejected["late"] > 15
    assert filter_.rejected["duplicate"] > 15
    assert filter_.warnings("a") == []
    assert not filter_.counts


# ---- forks that span no frame


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [False, True])
def test_a_body_whose_fork_is_one_point_is_exact(kind: str, given: bool, live: PoseFilter) -> None:
    """From the first frame on, measured or given; with a micrometre of noise, too."""
    truth = odd_motion(kind, 6.0, 30.0)
    for noise_m in (0.0, 1e-6):
        if given:
            live.set_skeleton("a", odd_offsets(kind).astype(np.float32))
        noise = noise_m * np.random.default_rng(0).standard_normal(truth.shape)
        poses = poses_of(live, stream(truth + noise, np.arange(180) / 30))
        for pose in poses:
            assert_finite(pose)
        got = np.stack([pose.positions for pose in poses])
        assert mean_mm(got, truth) < 5  # of six seconds; bones are known after a few frames
        assert mean_mm(got[130:], truth[130:]) < 0.5
        live.remove("a")
    assert not live.rejected
    assert set(live.counts) <= {"new_tracks"}


@pytest.mark.parametrize("kind", ["collars at the neck", "hips at the pelvis", "both"])
def test_such_a_body_stands_noise(kind: str, live: PoseFilter) -> None:
    truth = odd_motion(kind, 8.0, 30.0)
    noise = 0.01 * np.random.default_rng(0).standard_normal(truth.shape)
    poses = poses_of(live, stream(truth + noise, np.arange(240) / 30))
    assert mean_mm(np.stack([pose.positions for pose in poses[120:]]), truth[120:]) < 20
