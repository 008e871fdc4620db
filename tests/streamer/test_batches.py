"""Frames of many actors in one batch: each answered as alone, bit for bit, whoever comes, goes or sends nonsense."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layouts import LAYOUTS, get_layout
from model.skeleton import J, rest_offsets
from streamer.batches import batches
from streamer.errors import FrameError, RuntimeUnavailable
from streamer.filter import MOST_FRAMES, PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime, row_index
from tests.helpers.networks import (
    BUNDLED,
    NOT_BUNDLED,
    SECOND_NS,
    DoubleRuntime,
    arrays,
    assert_poses_equal,
    noisy_stream,
    poses_of,
)

NAMES = "abcde"
BAD = {
    "layout": {"layout": "smpl_25"}, "time": {"t_ns": 0.5}, "joint_count": {"positions": np.zeros((3, 3))},
    "far": {"positions": np.full((J, 3), 1e6), "layout": "smpl_24", "confidence": None},
    "far and odd": {"positions": np.full((J, 3), 1e6), "layout": "smpl_24", "confidence": np.ones(5)},
    "confidence": {"confidence": np.ones(5)}, "nobody": {"positions": np.full((J, 3), np.nan), "layout": "smpl_24",
    "confidence": None}, "late": {"t_ns": -(2**50)},
}  # fmt: skip


def one_by_one(filter_: PoseFilter, frames: Sequence[Frame]) -> list[Pose | None]:
    """What ``push`` says of each."""
    out: list[Pose | None] = []
    for frame in frames:
        try:
            out.append(filter_.push(frame))
        except FrameError:
            out.append(None)
    return out


def assert_same(got: Sequence[Pose | None], want: Sequence[Pose | None]) -> None:
    """Bit for bit, names and versions included."""
    assert_poses_equal(got, want)
    for a, b in zip(got, want):
        if a is not None and b is not None:
            assert (a.actor, a.skeleton_version) == (b.actor, b.skeleton_version)


def in_layout(frame: Frame, layout: str, rng: np.random.Generator) -> Frame:
    """The frame as a source of that layout might send it; some joints missing."""
    joints = len(get_layout(layout).joints)
    xyz = np.resize(frame.positions, (joints, 3)) + 0.01 * rng.standard_normal((joints, 3))
    confidence = None if frame.seq % 3 else rng.random(joints)
    kind = np.float32 if frame.seq % 2 else np.float64
    return replace(frame, positions=xyz.astype(kind), confidence=confidence, layout=layout)


@functools.cache
def five_streams() -> dict[str, list[Frame]]:
    """Of five actors at several rates; a story takes copies."""
    return {name: noisy_stream(i, 60, name, fps=30.0 * (1 + i % 4)) for i, name in enumerate(NAMES)}


@st.composite
def stories(draw: st.DrawFn) -> list[list[Frame] | tuple[str, str]]:
    """Drains of frames of several actors, in any layout and order, some bad; between them, control."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    streams = {name: iter(whole) for name, whole in five_streams().items()}
    shift = dict.fromkeys(NAMES, 0)
    story: list[list[Frame] | tuple[str, str]] = []
    for _ in range(draw(st.integers(1, 8))):
        drain = []
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=9)):
            frame = in_layout(next(streams[name]), draw(st.sampled_from(LAYOUTS)), rng)
            shift[name] += draw(st.sampled_from([0] * 8 + [SECOND_NS // 3, 30 * SECOND_NS]))  # a gap from here on
            frame.t_ns += shift[name]
            if draw(st.integers(0, 5)) == 0:
                frame = replace(frame, **draw(st.sampled_from(list(BAD.values()))))
            drain.append(frame)
        story.append(drain)
        if draw(st.integers(0, 2)) == 0:
            story.append((draw(st.sampled_from(["remove", "reset", "calibrate"])), draw(st.sampled_from(NAMES))))
    return story


@given(story=stories(), most=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_batch_is_its_frames_one_by_one(
    tiny_runtime: DoubleRuntime, story: list[list[Frame] | tuple[str, str]], most: int
) -> None:
    together, apart = (PoseFilter(tiny_runtime, max_actors=most) for _ in range(2))
    for item in story:
        if isinstance(item, tuple):
            what, name = item
            if what == "remove" or name in together.actors:
                for filter_ in (together, apart):
                    getattr(filter_, what)(name)
            continue
        assert_same(together.push_many(copy.deepcopy(item)), one_by_one(apart, item))
        assert list(together.actors) == list(apart.actors)
        assert together.rejected == apart.rejected
        times = {frame.actor: int(frame.t_ns) - SECOND_NS // 20 for frame in item}
        told = together.poses_at(times)
        assert_same(list(told.values()), [apart.pose_at(times[name], name) for name in told])


@pytest.fixture(scope="module", params=["onnx", "native"])
def bundled(request: pytest.FixtureRequest) -> Runtime:
    if not BUNDLED:
        pytest.skip(NOT_BUNDLED)
    try:
        return load_runtime(request.param)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


def test_float32_batches_are_each_alone_too(bundled: Runtime) -> None:
    """Thirteen actors in six layouts, calibrating at their own times, two leaving in between: bit for bit."""
    rng = np.random.default_rng(0)
    streams = [noisy_stream(i, 40, f"p{i}", fps=20.0 * (1 + i % 3)) for i in range(13)]
    frames = [[in_layout(f, LAYOUTS[i % 6], rng) for f in own] for i, own in enumerate(streams)]
    together = PoseFilter(bundled)
    alone = [PoseFilter(bundled) for _ in frames]
    for n in range(40):
        if n == 20:
            together.remove("p0")
            together.remove("p7")
        order = rng.permutation(13) if n % 2 else np.arange(13)
        there = [i for i in order.tolist() if n < 20 or i not in (0, 7)]
        got = together.push_many([frames[i][n] for i in there])
        assert_same(got, [one_by_one(alone[i], frames[i][n : n + 1])[0] for i in there])


def test_a_row_used_again_is_a_new_one(new: Callable[..., PoseFilter]) -> None:
    """Somebody leaves; who comes next gets the row, and nothing else, of them."""
    used, fresh = new(max_actors=2), new(max_actors=2)
    used.set_skeleton("gone", (1.2 * rest_offsets()).astype(np.float32))
    poses_of(used, noisy_stream(5, 70, "gone", start_ns=50 * SECOND_NS))
    used.pose_at(60 * SECOND_NS, "gone")
    poses_of(used, noisy_stream(6, 10, "stays"))
    used.remove("gone")
    frames = noisy_stream(7, 60, "new")
    assert_same(poses_of(used, frames), poses_of(fresh, frames))


def test_an_actor_twice_in_a_drain(new: Callable[..., PoseFilter]) -> None:
    a, b = noisy_stream(1, 6, "a"), noisy_stream(2, 3, "b")
    drain = [a[0], a[1], b[0], a[1], a[3], b[1], a[2], b[2], a[4]]  # a[1] twice, a[2] late
    together, apart = new(), new()
    got = together.push_many(drain)
    assert_same(got, one_by_one(apart, drain))
    assert [pose is None for pose in got] == [False, False, False, True, False, False, True, False, False]
    assert together.rejected == {"duplicate": 1, "late": 1}


def test_batches_are_as_few_as_the_busiest_actor_has_frames(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    filter_.push_many(noisy_stream(i, 1, name)[0] for i, name in enumerate("abc"))
    drain = [noisy_stream(0, 5, name)[1 + n] for name in "abc" for n in range(3)]
    assert list(batches(drain, filter_._actors)) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert list(batches([], filter_._actors)) == []


def test_a_drain_longer_than_a_batch(new: Callable[..., PoseFilter]) -> None:
    frame = noisy_stream(0, 1)[0]
    crowd = [replace(frame, actor=f"p{i}") for i in range(MOST_FRAMES + 7)]
    filter_ = new(max_actors=2)
    answers = filter_.push_many(iter([*crowd, replace(frame, actor="p1", t_ns=frame.t_ns + 10_000_000)]))
    assert [i for i, pose in enumerate(answers) if pose is not None] == [0, 1, MOST_FRAMES + 7]
    assert filter_.rejected == {"too_many_actors": MOST_FRAMES + 5}


def test_a_pose_owns_its_memory(new: Callable[..., PoseFilter]) -> None:
    """Whoever keeps or changes a pose of many keeps and changes nothing else."""
    filter_, other = new(), new()
    frames = [noisy_stream(i, 5, f"p{i}") for i in range(8)]
    for n in range(5):
        drain = [own[n] for own in frames]
        poses = filter_.push_many(drain) + list(filter_.poses_at({f.actor: f.t_ns for f in drain}).values())
        assert_same(other.push_many(drain), poses[:8])
        other.poses_at({f.actor: f.t_ns for f in drain})
        for pose in poses:
            assert pose is not None
            for array in arrays(pose).values():
                base = array if array.base is None else array.base
                assert base.nbytes == array.nbytes
                array[:] = np.nan


def test_poses_at_leaves_out_who_has_nothing_to_say(new: Callable[..., PoseFilter]) -> None:
    filter_ = new()
    filter_.push_many(noisy_stream(i, 1, name)[0] for i, name in enumerate("abc"))
    filter_.reset("b")
    assert list(filter_.poses_at({"c": 0, "b": 0, "nobody": 0, "a": 10**30})) == ["c", "a"]
    assert filter_.poses_at({}) == {}


@pytest.mark.parametrize("t_ns", [2**62, -(2**62), 10**30, 2**64 - 1])
def test_a_time_out_of_reach_of_64_bits_is_named(t_ns: int, new: Callable[..., PoseFilter]) -> None:
    with pytest.raises(FrameError, match="126 years") as caught:
        new().push(replace(noisy_stream(0, 1)[0], t_ns=t_ns))
    assert caught.value.reason == "time"


def test_skeletons_of_the_absent_do_not_pile_up(new: Callable[..., PoseFilter]) -> None:
    filter_ = new(max_actors=3)
    own = (1.1 * rest_offsets()).astype(np.float32)
    frames = noisy_stream(0, 3, "here")
    filter_.set_skeleton("here", own)
    filter_.push(frames[0])
    for i in range(1000):
        filter_.set_skeleton(f"p{i}", own)
    assert len(filter_._profiles) == 4
    filter_.reset("here")
    np.testing.assert_array_equal(filter_.push(frames[1]).offsets_m, own)  # who is here keeps it
    np.testing.assert_array_equal(filter_.push(replace(frames[0], actor="p999")).offsets_m, own)
    assert not np.array_equal(filter_.push(replace(frames[0], actor="p0")).offsets_m, own)
    for name in ("here", "p999", "p0"):
        filter_.remove(name)
    assert len(filter_._profiles) <= 3
    np.testing.assert_array_equal(filter_.push(frames[2]).offsets_m, own)  # gone and come back


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True))
def test_an_index_of_rows_is_those_rows(rows: list[int]) -> None:
    assert np.arange(51)[row_index(rows)].tolist() == rows
