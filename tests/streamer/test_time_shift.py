"""Delay, prediction and rate that change while poses flow: no jump, no pose before the last, each says its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.service.child import ServerProcess
from bench.service.turn_by_turn import TurnByTurn
from model.motion.synthetic import SyntheticActor
from streamer.cli import main
from streamer.client import ControlClient
from streamer.clock import now_ns
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.time_shift import TimeShift
from streamer.wire.protocol import Encoder
from tests.helpers.live import poses, status, streaming, subscribed
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, SECOND_NS, assert_poses_equal, stream

bundled = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
REACH_S = (-0.2, 0.15)
FPS = 60.0
Setting = dict[str, float]


# -- the glide --------------------------------------------------------------------------------------------------------

settings_ = st.one_of(
    st.builds(lambda s: {"delay_s": s}, st.floats(0, 0.2)), st.builds(lambda s: {"predict_s": s}, st.floats(0, 0.15))
)


@given(st.lists(st.tuples(st.integers(1_000_000, 300_000_000), st.none() | settings_), max_size=60))
def test_whatever_is_set_when_time_in_the_poses_goes_on_at_half_to_one_and_a_half_of_its_speed(
    story: list[tuple[int, Setting | None]],
) -> None:
    shift, t_ns = TimeShift(REACH_S, 0.0, 0.0), 0
    (before_ns,) = shift.wanted([0], [t_ns])
    for step_ns, change in story:
        if change is not None:
            shift.set(change.get("delay_s", 0.0), change.get("predict_s", 0.0), [0])
        t_ns += step_ns
        (wanted_ns,) = shift.wanted([0], [t_ns])
        if change is None:
            assert 0.49 * step_ns - 2 <= wanted_ns - before_ns <= 1.51 * step_ns + 2
        else:
            assert wanted_ns - before_ns == step_ns  # the way begins where the actor was
        before_ns = wanted_ns
    (there_ns,) = shift.wanted([0], [t_ns + 2 * SECOND_NS])
    (settled_ns,) = shift.wanted([0], [t_ns + 4 * SECOND_NS])
    end_ns = round((shift.predict_s - shift.delay_s) * SECOND_NS)
    assert settled_ns - t_ns - 4 * SECOND_NS == end_ns
    assert abs(there_ns - t_ns - 2 * SECOND_NS) <= 0.2 * SECOND_NS


def test_a_clock_that_starts_again_ends_the_glide() -> None:
    shift = TimeShift(REACH_S, 0.0, 0.0)
    shift.set(0.1, 0.0, [0, 1])
    assert shift.wanted([0, 1], [100 * SECOND_NS] * 2) == [100 * SECOND_NS] * 2
    assert shift.wanted([0], [0]) == [-SECOND_NS // 10]
    assert shift.wanted([1], [100 * SECOND_NS + 1]) == [100 * SECOND_NS + 1]


def walk(seconds: float, seed: int = 3, noise_m: float = 0.005) -> list[Frame]:
    """A noisy actor at 60 Hz."""
    times = np.arange(round(seconds * FPS)) / FPS
    seen = SyntheticActor(seed).positions(times)
    seen = seen + noise_m * np.random.default_rng(0).standard_normal(seen.shape)
    return stream(seen.astype(np.float32), times)


def steps_mm(some: list[Pose]) -> np.ndarray:
    """(N - 1,) the joint that moves the most, from each pose to the next."""
    positions = np.stack([pose.positions for pose in some])
    moved: np.ndarray = 1e3 * np.linalg.norm(np.diff(positions, axis=0), axis=-1).max(1)
    return moved


@bundled
@pytest.mark.parametrize("change", [{"delay_s": 0.2}, {"predict_s": 0.15}])
def test_poses_glide_to_a_new_time_without_a_pop(change: Setting) -> None:
    before, after = walk(5.0)[:200], walk(5.0)[200:]
    switched, plain, other = PoseFilter.load(), PoseFilter.load(), PoseFilter.load(**change)  # type: ignore[arg-type]
    for frame in before:
        switched.push(frame), plain.push(frame), other.push(frame)
    last, jumped = switched.pose_at(before[-1].t_ns, "a"), other.push(after[0])
    switched.set_time(**change)
    assert (switched.delay_s, switched.predict_s) == (change.get("delay_s", 0.0), change.get("predict_s", 0.0))
    glided, straight, there = [last], [last], [jumped]
    for frame in after:
        pose = switched.push(frame)
        straight.append(plain.push(frame))
        there += [other.push(frame)] if frame is not after[0] else []
        for asked, atol in ((switched, 1e-6), (plain, 0.01)):  # of that very time
            there_m = asked.pose_at(pose.t_ns, "a").positions
            np.testing.assert_allclose(pose.positions, there_m, rtol=0, atol=atol)
        glided.append(pose)
    shift_ns = round((switched.predict_s - switched.delay_s) * SECOND_NS)
    assert glided[1].t_ns == after[0].t_ns
    assert glided[-1].t_ns - after[-1].t_ns == shift_ns
    assert (np.diff([pose.t_ns for pose in glided]) > 0).all()
    largest = steps_mm(glided).max()
    assert largest <= 1.1 * max(steps_mm(straight).max(), steps_mm(there).max())  # of the motion's own, at both times
    assert steps_mm([last, jumped]).max() > 2.0 * largest  # what it is that does not happen


def test_only_who_is_there_glides(new: Callable[..., PoseFilter], frames: list[Frame]) -> None:
    filter_, delayed = new(), new(delay_s=0.1)
    filter_.set_time(delay_s=0.1)
    assert_poses_equal([filter_.push(frame) for frame in frames], [delayed.push(frame) for frame in frames])
    for leave in (filter_.reset, filter_.remove):
        filter_.set_time()
        leave("a")
        filter_.set_time(predict_s=0.1)
        pose = filter_.push(frames[0])
        assert pose.t_ns == frames[0].t_ns + SECOND_NS // 10


@pytest.mark.parametrize("bad", [{"delay_s": 0.3}, {"predict_s": -1.0}, {"delay_s": 0.1, "predict_s": 0.1}])
def test_a_time_that_cannot_be_changes_nothing(bad: Setting, new: Callable[..., PoseFilter]) -> None:
    filter_ = new(delay_s=0.1)
    with pytest.raises(ConfigError, match=r"delay_s|predict_s"):
        filter_.set_time(**bad)
    assert (filter_.delay_s, filter_.predict_s) == (0.1, 0.0)


# -- a server ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


def seconds_until(some: list[Pose], shift_s: float) -> float:
    """Seconds from the first pose to the first that is that far from its frame."""
    there = next(pose for pose in some if abs(pose.t_ns - pose.captured_ns - shift_s * SECOND_NS) < 2)
    return (there.published_ns - some[0].published_ns) / SECOND_NS


@pytest.mark.timed
def test_a_running_server_switches_delay_and_rate_without_a_pop(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    with streaming(server, "a", 120.0), subscribed(server, "a") as subscriber:
        got = poses(subscriber, least=60)
        with ControlClient(server.control_endpoint, 5.0) as client:
            assert client.set_time(delay_s=0.1) == {"delay_s": 0.1, "predict_s": 0.0, "rate_hz": 0.0}
            delayed = poses(subscriber, seconds=1.0)
            assert 0.2 < seconds_until(delayed, -0.1) < 0.9
            assert client.set_time(rate_hz=50.0)["rate_hz"] == 50.0
            ticking = poses(subscriber, seconds=0.6)
            assert client.status()["delay_s"] == 0.1
        assert main(["set", "--control", server.control_endpoint, "--rate", "0", "--predict", "0.05"]) == 0
        ahead = poses(subscriber, seconds=1.0)
    assert capsys.readouterr().out == "delay 0 s, predict 0.05 s, a pose a frame\n"
    assert 20 <= len(ticking) <= 40
    assert seconds_until(ahead, 0.05) < 0.9
    got += delayed + ticking + ahead
    assert (np.diff([pose.t_ns for pose in got]) > 0).all()
    # The body sways as one, so that whatever is more than that shows; a frame that was late is taken up in one step.
    seconds = np.maximum(np.diff([pose.t_ns for pose in got]), np.diff([p.published_ns for p in got])) / SECOND_NS
    speed = 1e-3 * steps_mm(got) / np.maximum(seconds, 1 / 120)
    assert speed[60:].max() < 3.0 * 0.05 * 12.0 * 3**0.5
    assert status(server)["counters"]["loop_errors"] == 0


def test_a_frame_just_behind_the_clock_that_went_off_has_no_pose(new: Callable[..., PoseFilter]) -> None:
    turns, encoder, now = TurnByTurn(new(), rate_hz=1000.0), Encoder(), now_ns()
    frames = walk(1.0)
    for frame in frames[:20]:
        frame.t_ns += now
        turns.turn([encoder.frame(frame)])
    (*_, last) = turns.poses()
    assert turns.ask("set", rate_hz=0)["rate_hz"] == 0.0
    for n, behind_ns in enumerate((5_000_000, -1, -2), 20):
        frames[n].t_ns = last.t_ns - behind_ns
        turns.turn([encoder.frame(frames[n])])
    assert [pose.t_ns for pose in turns.poses()] == [last.t_ns + 1, last.t_ns + 2]
    books = turns.ask("status")["books"]
    assert books["messages_in"] == sum(n for name, n in books.items() if name != "messages_in")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "missing:delay_s"), ({"delay_s": "1"}, "type:delay_s"), ({"predict_s": True}, "type:predict_s"),
     ({"delay_s": 0.5}, "value:delay_s"), ({"predict_s": float("nan")}, "value:predict_s"),
     ({"rate_hz": -1}, "value:rate_hz"), ({"delay_s": 0.1, "rate_hz": 1e9}, "value:rate_hz"),
     ({"delay_s": 0.1, "predict_s": 0.1}, "value:delay_s")],
)  # fmt: skip
def test_a_bad_time_is_named_and_changes_nothing(fields: Setting, reason: str, new: Callable[..., PoseFilter]) -> None:
    turns = TurnByTurn(new(delay_s=0.15))
    reply = turns.ask("set", **fields)
    assert not reply["ok"]
    assert (reply["error"]["reason"], reply["error"]["field"]) == (reason, reason.partition(":")[2])
    said = turns.ask("status")
    assert (said["delay_s"], said["predict_s"], said["rate_hz"]) == (0.15, 0.0, 0.0)


def test_set_says_what_is_missing_and_who_does_not_answer(
    server: ServerProcess, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set"]) == 2
    assert "--delay, --predict or --rate" in capsys.readouterr().err
    assert main(["set", "--control", server.control_endpoint, "--delay", "9"]) == 2
    assert "0..0.2 s" in capsys.readouterr().err
    start = monotonic()
    assert main(["set", "--control", f"tcp://127.0.0.1:{free_port()}", "--delay", "0"]) == 2
    assert "no server answers" in capsys.readouterr().err
    assert monotonic() - start < 10.0
