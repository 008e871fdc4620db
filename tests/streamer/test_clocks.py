"""The offset between hosts' clocks: bounds that hold, and a server that really runs on another clock."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.service.child import ServerProcess
from streamer.cli import main
from streamer.client import ControlClient, PoseSubscriber
from streamer.clock import SECOND_NS, Offset, Trip, offset_of
from streamer.wire.control import HostClock
from tests.helpers.live import next_pose, streaming

APART_S = 5000
ms = st.integers(0, 50_000_000)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw is, on a busy machine
@given(st.integers(-(2**60), 2**60), st.lists(st.tuples(ms, ms), min_size=1, max_size=20))
def test_the_true_offset_lies_within_the_bounds_however_long_each_way_takes(true_ns: int, ways: list) -> None:
    trips, ours_ns = [], 0
    for there_ns, back_ns in ways:
        trips.append(Trip(ours_ns, ours_ns + there_ns + true_ns, ours_ns + there_ns + back_ns))
        ours_ns += 60_000_000
    offset = offset_of(trips)
    assert abs(offset.ns - true_ns) <= offset.within_ns
    assert offset.within_ns <= min(there + back for there, back in ways) / 2 + 1


def test_a_clock_that_was_set_meanwhile_is_believed_as_it_is_now() -> None:
    assert offset_of([Trip(0, 1_000_000, 10), Trip(100, 50_000_105, 110)]) == Offset(50_000_000, 5)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ServerProcess]:
    """A server whose clock is ahead, as another machine's is: in a time namespace of its own."""
    unshare = ["unshare", "--time", "--monotonic", str(APART_S)]
    tried = subprocess.run([*unshare, "true"], capture_output=True) if shutil.which("unshare") else None
    if tried is None or tried.returncode:
        pytest.skip("no time namespaces here (Linux, as root)")
    server = ServerProcess()
    server.command = [*unshare, *server.command]
    with server:
        yield server


def test_the_offset_of_another_hosts_clock_is_measured(elsewhere: ServerProcess) -> None:
    with ControlClient(elsewhere.control_endpoint, 5.0) as client:
        offset = client.clock()
    assert offset is not None
    assert abs(offset.ns - APART_S * SECOND_NS) <= offset.within_ns
    assert offset.within_ns < 0.1 * SECOND_NS


def test_a_subscriber_says_how_old_poses_are(elsewhere: ServerProcess) -> None:
    with (
        streaming(elsewhere, "a", 60.0),
        ControlClient(elsewhere.control_endpoint, 5.0) as client,
        PoseSubscriber(elsewhere.out_endpoint, "a", clock=HostClock(client)) as subscriber,
    ):
        ages = [subscriber.age_ns(next_pose(subscriber)) for _ in range(20)]
        assert subscriber.offset is not None
        assert all(age is not None and -subscriber.offset.within_ns <= age < SECOND_NS for age in ages)


def test_listen_and_doctor_say_it(elsewhere: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--control", elsewhere.control_endpoint]
    with streaming(elsewhere, "b", 60.0):
        assert main(["listen", "--out", elsewhere.out_endpoint, *where, "--count", "5"]) == 0
    said = capsys.readouterr()
    ages_ms = [float(age) for age in re.findall(r"age (-?[\d.]+) ms", said.out)]
    assert len(ages_ms) == 5
    assert max(map(abs, ages_ms)) < 1000.0
    assert re.search(r"against this machine's: \+(4999\.99|5000\.00)\d* s, within [\d.]+ ms", said.err)
    main(["doctor", *where])
    assert re.search(r"OK +clock +of the server at .*: \+(4999\.99|5000\.00)\d* s, within", capsys.readouterr().out)


def test_where_nobody_says_the_time(free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    with ControlClient(f"tcp://127.0.0.1:{free_port()}", 0.1) as client:
        assert client.clock() is None
        with PoseSubscriber("tcp://127.0.0.1:1", "a", clock=HostClock(client)) as subscriber:
            assert subscriber.offset is None
    with PoseSubscriber("tcp://192.0.2.1:5751", "a") as subscriber:  # nobody's machine
        assert subscriber.offset is None
    with PoseSubscriber("tcp://127.0.0.1:1", "a") as subscriber:
        assert subscriber.offset == Offset(0, 0)
