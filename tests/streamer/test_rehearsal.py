"""The rehearsal: before the frame that is due, only when it pays, and without a trace in what anybody gets to see."""

from __future__ import annotations

import numpy as np
import pytest

from bench.service.child import ServerProcess
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.server.config import ServerConfig
from streamer.server.rehearsal import LEAD_NS, PASSES, Rehearsal
from tests.helpers.live import body_frame, counter, streaming, wait_until

MS = 1_000_000


@pytest.fixture(scope="module")
def pose_filter() -> PoseFilter:
    return PoseFilter.load()


def seen(pose_filter: PoseFilter, rate_hz: float, frames: int = 8, together: int = 1) -> tuple[Rehearsal, int]:
    """A rehearsal that saw frames at a rate, ``together`` of them 0.3 ms apart each time; and when the last came."""
    rehearsal, now = Rehearsal(pose_filter.runtime), 0
    for n in range(frames):
        for k in range(together):
            now = SECOND_NS + round(n * SECOND_NS / rate_hz) + k * 300_000
            rehearsal.saw(now)
    return rehearsal, now


def passes(rehearsal: Rehearsal, now: int) -> int:
    return rehearsal.run_if_due(now, interrupted=lambda: False)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 90.0])
def test_it_runs_once_before_the_next_frame(pose_filter: PoseFilter, rate_hz: float, together: int) -> None:
    rehearsal, now = seen(pose_filter, rate_hz, together=together)
    since_first = (together - 1) * 300_000
    due = now - since_first + round(SECOND_NS / rate_hz) - LEAD_NS
    assert rehearsal.wait_ns(now) == pytest.approx(due - now, abs=2)
    assert passes(rehearsal, due - 2 * MS) == 0
    assert passes(rehearsal, due) == PASSES
    assert passes(rehearsal, due + MS) == 0
    assert rehearsal.wait_ns(due + 30 * SECOND_NS) > 3600 * SECOND_NS  # the source has ended: never again


@pytest.mark.parametrize("rate_hz", [120.0, 240.0, 1000.0])
def test_it_does_not_run_where_it_does_not_pay(pose_filter: PoseFilter, rate_hz: float) -> None:
    rehearsal, now = seen(pose_filter, rate_hz)
    assert rehearsal.wait_ns(now) > 3600 * SECOND_NS


def test_it_waits_until_a_rate_is_known(pose_filter: PoseFilter) -> None:
    rehearsal, now = seen(pose_filter, 60.0, frames=3)
    assert rehearsal.wait_ns(now) > 3600 * SECOND_NS


def test_a_server_that_was_busy_until_then_does_not_run_it(pose_filter: PoseFilter) -> None:
    rehearsal, now = seen(pose_filter, 60.0)
    late = now + 15 * MS
    assert rehearsal.wait_ns(late) > 3600 * SECOND_NS
    assert passes(rehearsal, late) == 0


def test_a_message_that_comes_meanwhile_ends_it(pose_filter: PoseFilter) -> None:
    rehearsal, now = seen(pose_filter, 60.0)
    assert rehearsal.run_if_due(now + 14 * MS, interrupted=lambda: True) == 0
    rehearsal, now = seen(pose_filter, 60.0)
    comes = iter([False, True])
    assert rehearsal.run_if_due(now + 14 * MS, interrupted=lambda: next(comes)) == 1


def test_it_leaves_no_trace(pose_filter: PoseFilter) -> None:
    """Poses with rehearsals in between are bit for bit those without."""
    alone, beside = PoseFilter(pose_filter.runtime), PoseFilter(pose_filter.runtime)
    rehearsal, now = seen(pose_filter, 60.0)
    for n in range(20):
        frame = body_frame("a", n, t_ns=n * SECOND_NS // 60)
        expected, pose = alone.push(frame), beside.push(frame)
        np.testing.assert_array_equal(pose.positions, expected.positions)
        np.testing.assert_array_equal(pose.covariance, expected.covariance)
        now += SECOND_NS // 60
        rehearsal.saw(now)
        assert passes(rehearsal, now + 14 * MS) == PASSES
    assert set(beside.actors) == {"a"}


def test_not_on_a_gpu_whose_rows_are_for_actors() -> None:
    assert ServerConfig(runtime="onnx").rehearses
    assert not ServerConfig(runtime="tensorrt").rehearses
    assert not ServerConfig(rehearse=False).rehearses


@pytest.mark.parametrize(("arguments", "rehearses"), [([], True), (["--no-rehearsal"], False)])
def test_the_server_rehearses_unless_told_not_to(arguments: list[str], rehearses: bool) -> None:
    with ServerProcess(arguments) as server, streaming(server, "steady", 40.0):
        wait_until(lambda: counter(server, "poses_out") >= 40)
        if rehearses:
            wait_until(lambda: counter(server, "rehearsals") > 0)
        else:
            assert counter(server, "rehearsals") == 0
        assert counter(server, "poses_out") >= 40
        assert counter(server, "loop_errors") == 0
