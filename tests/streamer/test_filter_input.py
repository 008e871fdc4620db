"""PoseFilter and its input: bad frames are named, counted and without effect, and no stream breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layouts import get_layout
from model.skeleton import INDEX, J
from streamer.errors import FrameError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from tests.helpers.networks import (
    SECOND_NS,
    TINY,
    DoubleRuntime,
    assert_finite,
    assert_poses_equal,
    clean_stream,
    noisy_stream,
    poses_of,
    stream,
)

LAYOUTS = ("smpl_24", "smpl_22", "h36m_17", "coco_17", "mediapipe_33", "vrm")


# ---- bad input


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return noisy_stream(1, 5 * TINY.window + 2)


def good(t_ns: int = 100 * SECOND_NS) -> Frame:
    return stream(clean_stream(0, 0.1, 60.0)[1][:1], np.zeros(1), start_ns=t_ns)[0]


def bad_frames() -> dict[str, tuple[str, Frame]]:
    """Name -> (reason, frame), against an actor whose last frame is good()'s."""
    xyz = good().positions

    def later(**changes: object) -> Frame:
        frame = good(100 * SECOND_NS + 20_000_000)
        for name, value in changes.items():
            setattr(frame, name, value)
        return frame

    far, infinite = xyz.copy(), xyz.copy()
    far[3, 1], infinite[5, 0] = 1e9, np.inf
    torn = xyz + 50.0 * np.random.default_rng(0).standard_normal(xyz.shape)
    return {
        "before the last": ("late", good(99 * SECOND_NS)),
        "the last again": ("duplicate", good()),
        "a joint too few": ("joint_count", later(positions=xyz[:23])),
        "flat": ("joint_count", later(positions=xyz.ravel())),
        "two coordinates": ("joint_count", later(positions=xyz[:, :2])),
        "no such layout": ("layout", later(layout="smpl_25")),
        "no such layout file": ("layout", later(layout="/nowhere/mine.toml")),
        "a number as layout": ("layout", later(layout=17)),
        "1e9 m": ("absurd", later(positions=far)),
        "infinity": ("absurd", later(positions=infinite)),
        "all infinite": ("absurd", later(positions=np.full((J, 3), -np.inf))),
        "millimetres": ("absurd", later(positions=1000.0 * xyz)),
        "centimetres": ("absurd", later(positions=100.0 * xyz)),
        "torn apart": ("absurd", later(positions=torn)),
        "float time": ("time", later(t_ns=100.02e9)),
        "NaN time": ("time", later(t_ns=float("nan"))),
        "no time": ("time", later(t_ns=None)),
        "True as time": ("time", later(t_ns=True)),
        "text as positions": ("joint_count", later(positions="abc")),
        "ragged positions": ("joint_count", later(positions=[[1.0, 2.0, 3.0], [1.0]])),
        "no positions": ("joint_count", later(positions=None)),
        "confidence of another number": ("confidence", later(confidence=np.ones(17))),
        "confidence a joint and axis": ("confidence", later(confidence=np.ones((J, 3)))),
        "text as confidence": ("confidence", later(confidence="high")),
        "a new actor without a joint": ("empty", later(actor="ghost", positions=np.full((J, 3), np.nan))),
        "a new actor without confidence": ("empty", later(actor="ghost", confidence=np.zeros(J))),
        "one actor too many": ("too_many_actors", later(actor="crowd")),
    }


@pytest.mark.parametrize("name", list(bad_frames()))
def test_a_bad_frame_is_named_counted_and_without_effect(name: str, new: Callable[..., PoseFilter]) -> None:
    reason, bad = bad_frames()[name]
    filter_, untouched = new(max_actors=1), new()
    if reason == "empty":
        filter_ = new()
    poses_of(filter_, [good()])
    poses_of(untouched, [good()])
    with pytest.raises(FrameError) as caught:
        filter_.push(bad)
    assert caught.value.reason == reason
    assert len(str(caught.value)) > len(reason)
    assert "\n" not in str(caught.value)
    assert filter_.rejected == {reason: 1}
    assert filter_.push_many([bad]) == [None]
    assert filter_.rejected == {reason: 2}
    assert set(filter_.actors) == {"a"}
    following = noisy_stream(2, 5, start_ns=100 * SECOND_NS + 30_000_000)
    assert_poses_equal(poses_of(filter_, following), poses_of(untouched, following))


def test_nan_is_missing_not_bad(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    frames, _ = clean_stream(0, 1.0, 60.0)
    frames[10].positions[4] = np.nan
    frames[11].positions[5, 1] = np.nan  # one coordinate: the joint
    frames[12].positions[:] = np.nan
    frames[13].confidence = np.zeros(J)
    frames[14].confidence = np.full(J, np.nan)
    poses = poses_of(filter_, frames)
    assert [p.status for p in poses[12:16]] == ["coasting"] * 3 + ["calibrating"]
    assert not filter_.rejected
    for pose in poses:
        assert_finite(pose)


@pytest.mark.parametrize("junk", [1e30, -7.0, np.inf, -np.inf])
def test_confidence_beyond_its_range_is_clipped(
    junk: float, new: Callable[..., PoseFilter], frames: list[Frame]
) -> None:
    got, want = (copy.deepcopy(frames[:12]) for _ in range(2))
    for a, b in zip(got, want, strict=True):
        a.confidence, b.confidence = np.ones(J), np.ones(J)
        a.confidence[7], b.confidence[7] = junk, np.clip(junk, 0.0, 1.0)
    assert_poses_equal(poses_of(new(), got), poses_of(new(), want))


def test_a_joint_far_from_the_body_is_missing(new: Callable[..., PoseFilter]) -> None:
    far, gone = clean_stream(0, 0.5, 60.0)[0], clean_stream(0, 0.5, 60.0)[0]
    for t in (8, 9, 20):
        far[t].positions[INDEX["left_hand"]] += 30.0
        gone[t].positions[INDEX["left_hand"]] = np.nan
    assert_poses_equal(poses_of(new(), far), poses_of(new(), gone))


def test_the_streams_of_others_do_not_see_bad_frames(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    reference = poses_of(new(), frames)
    filter_, got, sent = new(max_actors=2), [], list(bad_frames().values())
    filter_.push(Frame("b", 0, 100 * SECOND_NS, good().positions))
    for i, frame in enumerate(frames):
        reason, bad = copy.deepcopy(sent[i % len(sent)])
        bad.actor = "b" if bad.actor == "a" else bad.actor
        assert filter_.push_many([bad]) == [None], reason
        got.append(filter_.push(frame))
    assert_poses_equal(got, reference)
    assert sum(filter_.rejected.values()) == len(frames)


def test_ten_thousand_names_stay_at_the_cap(new: Callable[..., PoseFilter]) -> None:
    filter_ = new(max_actors=3)
    frame = good()
    crowd = [Frame(f"actor {i}", 0, 0, frame.positions) for i in range(10_000)]
    answers = filter_.push_many(crowd)
    assert sum(a is not None for a in answers) == len(filter_.actors) == 3
    assert filter_.rejected == {"too_many_actors": 9997}


# ---- fuzz

junk = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e5, -1e5, 3e38, 1e-300, 1e9])

STEPS_NS = [1_000_000, 4_166_667, 16_666_667, 33_333_333, 250_000_000, 3 * SECOND_NS, 1, 0, -5]


@st.composite
def streams(draw: st.DrawFn) -> list[Frame]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t_ns = draw(st.integers(-(2**60), 2**60))
    frames = []
    for seq in range(draw(st.integers(1, 12))):
        t_ns += draw(st.sampled_from(STEPS_NS))
        layout = draw(st.sampled_from(LAYOUTS))
        joints = len(get_layout(layout).joints)
        size = draw(st.sampled_from([0.0, 1e-9, 0.3, 0.3, 0.3, 5.0]))
        xyz = rng.normal(0, 1, (joints, 3)) * size + rng.normal(0, 100, 3)
        xyz[rng.random(joints) < draw(st.sampled_from([0.0, 0.2, 0.9, 1.0]))] = np.nan
        if draw(st.booleans()):
            xyz[rng.integers(joints), rng.integers(3)] = draw(junk)
        confidence = draw(st.sampled_from([None, rng.random(joints), rng.normal(0, 2, joints), np.zeros(joints)]))
        frames.append(Frame(draw(st.sampled_from("ab")), seq, t_ns, xyz, confidence, layout))
    return frames


@given(frames=streams())
@settings(max_examples=60, deadline=None)
def test_no_stream_breaks_it(tiny_runtime: DoubleRuntime, frames: list[Frame]) -> None:
    filter_ = PoseFilter(tiny_runtime)
    for frame in frames:
        try:
            pose = filter_.push(frame)
        except FrameError:
            continue
        assert_finite(pose)
        np.testing.assert_allclose(np.linalg.norm(pose.rotations, axis=-1), 1.0, atol=1e-5)
        assert_finite(filter_.pose_at(frame.t_ns - 50_000_000, frame.actor))
