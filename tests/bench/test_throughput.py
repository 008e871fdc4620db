"""The throughput bench: its search against filters whose limit is known, and a short real run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import Percentiles, console, write_json
from bench.service import throughput
from bench.service.search import FINENESS, Trial, best, search
from bench.service.throughput import trial_in_process
from bench.service.wire_run import Load
from streamer.frames import Frame
from tests.helpers.live import SetTime

pytestmark = [pytest.mark.timeout(300), pytest.mark.timed]


def trial(actors: int, most: int) -> Trial:
    """At 100 Hz, of something that has ``most`` actors' time in a frame time of 10 ms."""
    return Trial(actors, 100.0, Percentiles.of_ns([round(1e7 * actors / (most + 0.5))] * 3))


@settings(deadline=None)  # a busy machine may halt any of them for a while
@given(st.integers(0, 400), st.integers(1, 300), st.integers(1, 256))
def test_the_search_ends_next_to_the_limit(most: int, start: int, limit: int) -> None:
    trials = search(lambda actors: trial(actors, most), start=start, limit=limit)
    found = best(trials)
    expected = min(most, limit)
    held = found.actors if found is not None else 0
    assert held <= expected
    assert expected - held <= max(1, held // FINENESS) * (expected > 0)
    assert len(trials) <= 30
    assert all(1 <= each.actors <= limit for each in trials)


def test_a_number_has_broken_when_it_breaks_twice() -> None:
    tried: list[int] = []

    def interrupted_once(actors: int) -> Trial:
        tried.append(actors)
        return trial(actors, 0 if tried.count(actors) == 1 and actors == 4 else 10)

    assert best(search(interrupted_once, limit=64)) == trial(10, 10)
    assert tried.count(4) == 2


def test_dropped_frames_break_a_trial_however_fast_it_is() -> None:
    fast = trial(1, 100)
    assert fast.holds
    assert not Trial(fast.actors, fast.rate_hz, fast.latency, dropped=1).holds
    assert best([Trial(fast.actors, fast.rate_hz, fast.latency, dropped=1)]) is None


class SlowFilter:
    """Takes ``cost_s`` for each frame, on a clock of its own."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s, self.clock = cost_s, SetTime()

    def push_many(self, frames: list[Frame]) -> list[object]:
        self.clock.sleep(self.cost_s * len(frames))
        return [object()] * len(frames)

    def trial(self, actors: int, rate_hz: float, seconds: float) -> Trial:
        return trial_in_process(self.push_many, actors, rate_hz, seconds, self.clock)


def test_the_search_finds_where_a_slow_filter_breaks() -> None:
    """3 ms a frame, 30 Hz: eleven are 33 ms of 33.3, twelve are 36."""
    trials = search(lambda actors: SlowFilter(0.003).trial(actors, 30.0, 1.0), limit=64)
    most = best(trials)
    assert most is not None
    assert most.actors == 11
    assert most.latency.p99 == pytest.approx(33)
    assert most.frame_ms == pytest.approx(3)
    assert {each.actors for each in trials if not each.holds} == {12, 16}


def test_frames_that_pile_up_count_from_when_they_were_due() -> None:
    """A filter that takes two frame times falls behind by one more with each: its own time is not its latency."""
    behind = SlowFilter(0.04).trial(1, 50.0, 0.4)
    assert behind.frame_ms == pytest.approx(40)
    assert behind.latency.max == pytest.approx(40 + 19 * 20)
    assert not behind.holds


def test_refused_frames_are_dropped_ones() -> None:
    refused = trial_in_process(lambda frames: [None] * len(frames), 2, 100.0, 0.1)
    assert refused.dropped >= 20
    assert not refused.holds


def test_throughput_of_the_real_filter_with_report_json_and_picture(tmp_path: Path) -> None:
    from bench.service.plots import throughput_picture

    result = throughput.run([15.0], seconds=0.5, limit=2, server=False)
    (row,) = result["rows"]
    most = row["most"]
    if most is None:
        pytest.skip("one actor at 15 Hz is too many for this machine now")
    assert 1 <= most.actors <= 2
    assert row["stages_ms"]["encoder step + pose head + FK"] > 0
    screen = console(io.StringIO())
    throughput.show(result, screen)
    assert "in process" in screen.file.getvalue()  # type: ignore[attr-defined]
    back = json.loads(write_json(tmp_path / "throughput.json", result).read_text())
    assert back["rows"][0]["trials"][0]["latency"]["count"] >= 7
    assert throughput_picture(result, tmp_path).stat().st_size > 5_000


def test_a_trial_through_the_server_counts_every_actors_frames() -> None:
    through = throughput.trial_server(Load(15.0, 1.0, 0.5, actors=3), [])
    assert through.latency.count == 3 * 15
    assert through.frame_ms > 0
    assert set(through.stages) >= {"received → inferred", "source late"}
