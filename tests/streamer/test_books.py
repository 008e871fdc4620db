"""What became of every message: the books balance exactly, at any time, under loss and when the server fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bench.service.child import ServerProcess
from bench.service.turn_by_turn import TurnByTurn, balanced
from streamer.client import FrameSender
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.server import server as server_module
from streamer.server.crowd import ActorRecord
from streamer.server.exposition import serving_http
from streamer.server.metrics import Metrics
from streamer.sinks.recording import Gaps
from streamer.wire.protocol import Books, Encoder
from tests.helpers.live import body_frame, status, wait_until

ENCODER = Encoder()


def frame(actor: str, n: int) -> bytes:
    return ENCODER.frame(body_frame(actor, n, t_ns=n * SECOND_NS // 50))


# What may wait for the server in one turn: frames, in time, late and twice; and what is not a frame.
MESSAGES = st.builds(frame, st.sampled_from("abcd"), st.integers(0, 60)) | st.sampled_from(
    [b"hello", b"frame.a\0\xc1", ENCODER.frame(body_frame("a", 0, layout="octopus_8"))]
)


# -- turn by turn -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    turns=st.lists(st.lists(MESSAGES, max_size=30), min_size=1, max_size=6),
    budget_ms=st.sampled_from([0.01, 2.0, 1000.0]),
    rate_hz=st.sampled_from([0.0, 1000.0]),
)
def test_the_books_balance_after_every_turn(
    new: Callable[..., PoseFilter], turns: list[list[bytes]], budget_ms: float, rate_hz: float
) -> None:
    running, sent = TurnByTurn(new(max_actors=3), budget_s=budget_ms / 1e3, rate_hz=rate_hz, max_actors=3), 0
    for messages in turns:
        sent += len(messages)
        running.turn(messages)
        books = running.books
        assert balanced(books)
        assert books["messages_in"] == sent
        by_clock = running.value("poses_by_clock")
        assert len(running.sockets.of_kind(b"pose.")) == books["poses"] + by_clock
        assert books["poses"] == 0 if rate_hz else by_clock == 0
    assert running.value("loop_errors") == 0


def test_of_frames_that_come_together_the_older_ones_are_superseded(new: Callable[..., PoseFilter]) -> None:
    running = TurnByTurn(new())
    running.turn([frame("a", n) for n in range(5)] + [frame("b", 0), b"nonsense"])
    assert running.books == {"messages_in": 7, "poses": 2, "superseded": 4, "skipped": 0, "rejected": 1}


def test_another_thread_that_looks_in_the_middle_of_a_turn_sees_the_books_of_the_last(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, seen = TurnByTurn(new()), []
    decode = server_module.decode_frame

    def look_and_decode(data: bytes) -> Frame:
        seen.append(running.books)
        return decode(data)

    monkeypatch.setattr(server_module, "decode_frame", look_and_decode)
    for n in range(3):
        running.turn([frame("a", n), b"nonsense", frame("b", n)])
    assert all(balanced(books) for books in seen)
    assert [books["messages_in"] for books in seen] == [0] * 3 + [3] * 3 + [6] * 3


# -- errors of our own ------------------------------------------------------------------------------------------------


def test_a_message_that_finds_a_bug_costs_no_other_its_turn(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decode = server_module.decode_frame

    def decode_or_fail(data: bytes) -> Frame:
        if data == b"bug":
            raise ZeroDivisionError("a bug")
        return decode(data)

    monkeypatch.setattr(server_module, "decode_frame", decode_or_fail)
    running = TurnByTurn(new())
    with caplog.at_level(logging.ERROR, "hpstm"):
        for n in range(50):
            running.turn([frame("a", n), b"bug", frame("b", n)])
    assert running.books == {"messages_in": 150, "poses": 100, "superseded": 0, "skipped": 0, "rejected": 50}
    assert running.value("loop_errors") == 50
    assert len([r for r in caplog.records if r.exc_info]) == 1  # its traceback is said once a minute


def test_an_actor_who_breaks_the_filter_costs_no_other_a_pose(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pose_filter = new()
    push_many = pose_filter.push_many

    def push_or_fail(frames: list[Frame]) -> list[Pose | None]:
        if any(frame.actor == "poison" for frame in frames):
            raise IndexError("a bug")
        return push_many(frames)

    monkeypatch.setattr(pose_filter, "push_many", push_or_fail)
    running = TurnByTurn(pose_filter)
    for n in range(5):
        running.turn([frame("a", n), frame("poison", n), frame("b", n)])
    assert running.books == {"messages_in": 15, "poses": 10, "superseded": 0, "skipped": 0, "rejected": 5}


def test_what_was_inferred_before_the_filter_broke_is_not_lost(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, pose_filter = new(), new()
    infer = pose_filter._infer

    def infer_or_fail(frames: Sequence[Frame]) -> Any:
        if any((frame.actor, frame.seq % 2) == ("poison", 1) for frame in frames):
            raise IndexError("a bug")
        return infer(frames)

    monkeypatch.setattr(pose_filter, "_infer", infer_or_fail)
    running = TurnByTurn(pose_filter)
    for n in range(0, 8, 2):  # of poison's two frames the second comes when the others' are through
        running.turn([frame("a", n), frame("poison", n), frame("poison", n + 1), frame("b", n)])
        poses = {pose.actor: pose for pose in running.poses()}
        assert list(poses) == ["a", "poison", "b"]
        expected = alone.push(body_frame("a", n, t_ns=n * SECOND_NS // 50))
        np.testing.assert_allclose(poses["a"].positions, expected.positions, atol=1e-6)
        assert balanced(running.books)
    assert running.books == {"messages_in": 16, "poses": 12, "superseded": 0, "skipped": 0, "rejected": 4}


@pytest.mark.parametrize("rate_hz", [0.0, 1000.0])
def test_a_pose_that_cannot_be_sent_costs_no_other_its_pose(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch, rate_hz: float
) -> None:
    running = TurnByTurn(new(), rate_hz=rate_hz)
    publish = running.server._publisher.pose

    def publish_or_fail(pose: Pose, record: ActorRecord) -> None:
        if pose.actor == "poison":
            raise KeyError("a bug")
        publish(pose, record)

    monkeypatch.setattr(running.server._publisher, "pose", publish_or_fail)
    for n in range(5):
        time.sleep(0.002)  # the clock ticks
        running.turn([frame("poison", n), frame("a", n)])
        assert balanced(running.books)
    assert {pose.actor for pose in running.poses()} == {"a"}
    assert running.books["rejected"] == (0 if rate_hz else 5)
    assert running.value("loop_errors") >= 5


def test_a_turn_that_fails_altogether_is_written_off(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = TurnByTurn(new())
    running.turn([frame("a", 0)])
    alive = running.server.metrics.alive_ns
    monkeypatch.setattr(running.server, "_skip_oldest", lambda frames: 1 / 0)
    for n in range(1, 4):
        running.turn([frame("a", n), b"nonsense"])
        assert balanced(running.books)
    assert running.books["rejected"] == 6
    assert running.server.metrics.alive_ns == alive  # a turn that fails is no sign of life
    assert not running.server.metrics.health()["sound"]


# -- health -----------------------------------------------------------------------------------------------------------


def test_health_is_of_the_last_ten_seconds() -> None:
    metrics, second = Metrics(), SECOND_NS
    metrics.ready = True
    start = metrics.started_ns
    metrics.count("messages_in", n=10**9)
    metrics.count("frames_in", n=10**9)
    metrics.settle()
    for seconds in range(1, 13):
        metrics.tick(start + seconds * second)
    assert all(metrics.health().values())
    metrics.count("messages_in", n=1000)
    metrics.count("frames_in", n=400)
    metrics.count("frames_skipped", n=100)
    metrics.count("rejected", "topic", 600)
    metrics.count("loop_errors", n=3)
    metrics.settle()
    for seconds in range(13, 24):
        metrics.tick(start + seconds * second)
        bad = [name for name, good in metrics.health().items() if not good]
        assert bad == (["sound", "on_rate", "valid"] if seconds < 23 else []), seconds
    assert metrics.health()["alive"]
    metrics.alive_ns -= 3 * second
    assert not metrics.health()["alive"]


def test_healthz_is_503_while_errors_repeat_and_metrics_read_as_prometheus(free_port: Callable[[], int]) -> None:
    metrics, port = Metrics(), free_port()
    metrics.ready = True
    metrics.count("rejected", 'a "quoted"\\ reason\n', 2)
    metrics.histograms["latency"].observe(30_000)
    metrics.settle()
    with serving_http(metrics, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            assert reply.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            families = {f.name: f for f in text_string_to_metric_families(reply.read().decode())}
        metrics.count("loop_errors", n=3)
        metrics.settle()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5)
        caught.value.close()
        assert caught.value.code == 503
    (sample,) = families["hpstm_rejected"].samples
    assert (sample.name, sample.value) == ("hpstm_rejected_total", 2)
    assert sample.labels == {"reason": 'a "quoted"\\ reason\n'}
    assert families["hpstm_messages_in"].samples[0].value == 0
    buckets = [s for s in families["hpstm_latency_seconds"].samples if s.name.endswith("_bucket")]
    assert [s.value for s in buckets[:3]] == [0, 1, 1]
    assert buckets[-1].labels["le"] == "+Inf"


# -- over real sockets, under loss ------------------------------------------------------------------------------------


def scraped_books(port: int) -> dict[str, float]:
    """The books as /metrics has them, which is another thread than the loop's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        families = {f.name: f for f in text_string_to_metric_families(reply.read().decode())}

    def total(name: str) -> float:
        return sum(sample.value for sample in families[f"hpstm_{name}"].samples)

    names = ("messages_in", "superseded", "frames_skipped", "rejected")
    return {name: total(name) for name in names} | {"poses": total("poses_out") - total("poses_by_clock")}


def test_the_sender_counts_what_it_drops_and_the_server_the_rest(free_port: Callable[[], int]) -> None:
    port = free_port()
    words = ["--budget-ms", "1", "--metrics-port", str(port)]
    with ServerProcess(words) as server, FrameSender(server.in_endpoint) as sender:
        for round_ in range(3):
            os.kill(server.pid, signal.SIGSTOP)
            try:
                for n in range(6000):  # some 2 MB: more than the queues and the system hold
                    sender.send(body_frame("flood", 6000 * round_ + n, t_ns=(6000 * round_ + n) * 1_000_000))
            finally:
                os.kill(server.pid, signal.SIGCONT)
            for _ in range(20):  # at any time
                assert balanced(status(server)["books"])
                assert balanced(scraped_books(port))
        wait_until(lambda: status(server)["books"]["messages_in"] == sender.sent)
        books = status(server)["books"]
    assert sender.sent + sender.dropped == 3 * 6000
    assert sender.dropped > 0
    assert books["skipped"] > 0
    assert books["superseded"] > 0
    assert balanced(books)


def test_a_sender_without_a_server_counts_all() -> None:
    with FrameSender("tcp://127.0.0.1:9", wait_s=0.0) as sender:
        for n in range(10):
            sender.send(body_frame("a", n))
        assert (sender.joined, sender.sent, sender.dropped) == (False, 0, 10)


RECORDER = """
import json, sys
from streamer.sinks.recording import record
stop = []
import signal
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
done = record(sys.argv[1], sys.argv[2], frames=True, seconds=None, stopped=lambda: bool(stop))
print(json.dumps([done.counts, done.lost, done.gaps, str(done)]))
"""


def test_a_recorder_that_is_held_up_says_exactly_what_it_lost(tmp_path: Path) -> None:
    with ServerProcess() as server:
        recorder = subprocess.Popen([sys.executable, "-c", RECORDER, server.out_endpoint, str(tmp_path / "r.hpstm")],
                                    stdout=subprocess.PIPE, text=True)  # fmt: skip
        with recorder, FrameSender(server.in_endpoint) as sender:
            wait_until(lambda: status(server)["counters"]["subscriptions"] >= 4)
            time.sleep(1.2)  # the first books
            for n in range(400):
                if n == 50:
                    recorder.send_signal(signal.SIGSTOP)
                if n == 350:
                    recorder.send_signal(signal.SIGCONT)
                for k in range(20):
                    sender.send(body_frame(f"a{k}", n))
                time.sleep(0.01)
            wait_until(lambda: status(server)["books"]["messages_in"] == sender.sent)
            time.sleep(1.5)  # the last books
            counters = status(server)["counters"]
            recorder.terminate()
            assert recorder.stdout is not None
            counts, lost, gaps, said = json.loads(recorder.stdout.read())
    assert sender.dropped == 0
    assert counts["pose"] + lost["pose"] == counters["poses_out"]
    assert counts["frame"] + lost["frame"] == sender.sent
    assert lost["pose"] > 0
    assert gaps >= 1
    assert "lost on the way" in said


def test_gaps_are_what_the_books_and_the_reader_differ_by() -> None:
    gaps = Gaps(["pose", "frame"])
    gaps.saw("pose")
    gaps.balance(Books(frames=100, poses=50))  # what was before is not ours
    for kind in ("pose", "pose", "frame"):
        gaps.saw(kind)
    gaps.balance(Books(frames=101, poses=55))
    gaps.balance(Books(frames=101, poses=55))
    assert (gaps.lost, gaps.gaps, gaps.restarts) == ({"pose": 3, "frame": 0}, 1, 0)
    gaps.balance(Books(frames=0, poses=2))
    gaps.saw("pose")
    gaps.balance(Books(frames=0, poses=3))
    assert (gaps.lost, gaps.gaps, gaps.restarts) == ({"pose": 3, "frame": 0}, 1, 1)
