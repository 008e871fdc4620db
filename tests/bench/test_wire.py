"""The wire bench: its arithmetic, and short runs with real processes and sockets, one of which stands still a while."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import console, machine, write_json
from bench.service import wire
from bench.service.child import ChildProcess, ServerFailed, seconds_until_ready
from bench.service.wire_live import show_live, through_live
from bench.service.wire_roles import POSE_COLUMNS, RealTime, keep_schedule, schedule
from bench.service.wire_run import (
    TRANSPORTS,
    Load,
    Stream,
    endpoints,
    first_answers,
    message_sizes,
    server_over,
    through_server,
)
from streamer.clock import SECOND_NS
from tests.helpers.live import SetTime

# A loaded machine takes its time to start three processes twice; each has a limit of its own.
pytestmark = [pytest.mark.timeout(600), pytest.mark.timed]


# -- the arithmetic


@settings(deadline=None)  # a busy machine may halt any of them for a while
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 1000)), max_size=30))
def test_a_frame_is_answered_by_the_first_pose_that_is_as_new(came: list[tuple[int, int]]) -> None:
    seq, arrived = (np.array([pair[i] for pair in came], np.int64) for i in (0, 1))
    first, answered = first_answers(20, seq, arrived)
    for tick in range(20):
        enough = [at for n, at in came if n >= tick]
        assert answered[tick] == bool(enough)
        if enough:
            assert first[tick] == min(enough)


def test_a_late_frame_moves_none_that_follows() -> None:
    """A stage sleeps: the frames behind it are late by what is left of the sleep, each counted from its own time."""
    clock = SetTime()
    due_ns, done_ns = schedule(0, 100.0, 8), []

    def send(n: int, due: int) -> None:
        clock.sleep(0.035 if n == 2 else 0.001)
        done_ns.append(clock.now_ns())

    began_ns = keep_schedule(due_ns, send, clock)
    assert ((np.array(done_ns) - due_ns) / 1e6).tolist() == [1, 1, 35, 26, 17, 8, 1, 1]
    assert ((began_ns - due_ns) / 1e6).tolist() == [0, 0, 0, 25, 16, 7, 0, 0]


def test_real_time_is_waited_for() -> None:
    clock = RealTime()
    when = clock.now_ns() + 20_000_000
    clock.wait_until(when)
    assert clock.now_ns() >= when
    clock.wait_until(when)  # past: at once


def stream(seq: list[int], arrived_ms: list[float]) -> Stream:
    """A run of five frames at 100 Hz, whose poses ``seq`` came at ``arrived_ms``."""
    due_ns = schedule(0, 100.0, 5)
    stamps = dict.fromkeys(POSE_COLUMNS, np.zeros(len(seq), np.int64))
    poses = stamps | {"seq": np.array(seq, np.int64), "arrived_ns": (np.array(arrived_ms) * 1e6).astype(np.int64)}
    return Stream(Load(100.0, 0.05, 0.0), due_ns, due_ns, poses)


def test_overtaken_frames_wait_for_the_pose_that_overtook_them() -> None:
    run = stream([0, 3, 4], [1.0, 32.0, 41.0])
    assert run.overtaken == 2
    assert run.latencies_ns().tolist() == [1e6, 22e6, 12e6, 2e6, 1e6]


def test_jitter_is_of_the_time_between_poses() -> None:
    assert stream([0, 1, 2, 3, 4], [5, 15, 25, 35, 45]).jitter_ms() == {"std": 0.0, "p99": 0.0}
    jitter = stream([0, 1, 2, 3, 4], [5, 16, 24, 35, 45]).jitter_ms()
    assert jitter["std"] == pytest.approx(np.std([1, -2, 1, 0]))


def test_a_run_without_answers_fails() -> None:
    with pytest.raises(ServerFailed, match="no pose came back of 5 frames"):
        stream([], []).latency()


# -- with processes and sockets


def short_run(transport: str) -> dict[str, Any]:
    if not wire.here(transport):
        pytest.skip(f"this ZeroMQ has no {transport}")
    return wire.run([120.0], [transport], seconds=1.0, warmup_s=0.25, starts=int(transport == "tcp"))


@pytest.fixture(scope="module", params=TRANSPORTS)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    return short_run(request.param)


def test_wire_measures_the_server_and_a_bare_forwarder(result: dict[str, Any]) -> None:
    bare, ours = result["rows"]
    for row in (bare, ours):
        assert row["frames"] == 120
        assert row["latency"].count == 120
        assert row["lost"] == 0
        assert 0 < row["latency"].p50 <= row["latency"].p99 <= row["latency"].max
        assert len(row["curve_ms"]) == len(result["curve_percent"])
        assert row["jitter_ms"]["std"] >= 0
    assert bare["latency"].p50 < ours["latency"].p50
    assert ours["ratio_p50"] == pytest.approx(ours["latency"].p50 / bare["latency"].p50)
    if not ours["overtaken"]:
        assert sum(stage.mean for stage in ours["stages"].values()) == pytest.approx(ours["latency"].mean)
    assert 20 < ours["resident_mib"] < 1000


def test_wire_report_json_and_picture(result: dict[str, Any], tmp_path: Path) -> None:
    from bench.service.plots import latency_picture

    screen = console(io.StringIO())
    wire.show(result, screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for said in ("HPSTM Live", "bare ZeroMQ", "resident memory", result["machine"]["cpu"]):
        assert said in text
    back = json.loads(write_json(tmp_path / "wire.json", result).read_text())
    assert back["rows"][1]["latency"]["count"] == 120
    assert latency_picture(result, tmp_path).stat().st_size > 10_000


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot halt a process")
def test_a_server_that_stands_still_shows_in_the_frames_it_kept_waiting() -> None:
    """No coordinated omission: half a second of standing still is late frames by the dozen, not one slow one."""
    with server_over("tcp", []) as server:

        def halt() -> None:
            while not (told := server.status()) or told["counters"]["poses_out"] < 60:
                time.sleep(0.05)
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(server.pid, signal.SIGCONT)

        halting = Thread(target=halt)
        halting.start()
        run = through_server(server, Load(60.0, 4.0, 0.5))
        halting.join()
    late_ms = run.latencies_ns() / 1e6
    assert len(late_ms) == run.frames == 240
    assert late_ms.max() > 400
    assert (late_ms > 200).sum() >= 15  # those due in the first 0.3 s of it: 18
    assert run.overtaken > 0  # only the newest pose of what had piled up is published


def test_from_an_estimators_line_to_the_packet_that_moves_an_avatar() -> None:
    """Under 2 ms at p99 where nothing runs beside it; here far more is allowed, to most of them."""
    answers = through_live(Load(30.0, 2.0, 1.0))
    assert len(answers.due_ns) == 60
    assert len(answers.took_ns) == 60  # on a busy machine some by the pose that overtook theirs
    assert answers.overtaken < 45
    assert 0.1 < answers.latency().p50 < 200.0
    screen = console(io.StringIO())
    rows = [{"rate_hz": 30.0, "latency": answers.latency(), "overtaken": answers.overtaken}]
    show_live({"machine": machine(), "rows": rows}, screen)
    assert "30 Hz: p50 " in screen.file.getvalue()  # type: ignore[attr-defined]


def test_live_that_cannot_start_is_named() -> None:
    with pytest.raises(ServerFailed, match="exit code 2"):
        through_live(Load(30.0, 1.0, 0.0), ["--runtime", "abacus"])


def test_message_sizes_are_those_of_the_protocol() -> None:
    frame_bytes, pose_bytes = message_sizes()
    assert 24 * 4 * 4 < frame_bytes < 600  # positions and confidence
    assert 24 * (3 + 4 + 1 + 3 + 9) * 4 < pose_bytes < 2600


def test_ipc_endpoints_are_gone_after() -> None:
    with endpoints("ipc", 2) as both:
        folder = Path(both[0].removeprefix("ipc://")).parent
        assert folder.is_dir()
    assert not folder.exists()


# -- children


def test_start_up_is_timed_to_the_servers_own_word() -> None:
    assert 0.1 < seconds_until_ready() < 120


def test_a_server_that_cannot_start_is_no_start_up_time() -> None:
    with pytest.raises(ServerFailed, match="ended"):
        seconds_until_ready(["--no-such-option"])


def test_a_child_that_fails_is_named_with_its_last_words() -> None:
    broken = ChildProcess("parrot", [sys.executable, "-c", "import sys; sys.exit('no more')"])
    with broken, pytest.raises(ServerFailed, match=r"the parrot ended with exit code 1; it said:\n  no more"):
        broken.finish(60)


def test_a_child_that_does_not_end_is_ended() -> None:
    sleeper = ChildProcess("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    started = time.monotonic()
    with sleeper, pytest.raises(ServerFailed, match="did not end within"):
        sleeper.finish(0.2)
    assert sleeper.exit_code is not None
    assert time.monotonic() - started < 60


def test_one_second_is_a_second() -> None:
    assert schedule(7, 3.0, 4).tolist() == [7, 7 + 333333333, 7 + 666666667, 7 + SECOND_NS]
