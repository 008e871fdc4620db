"""The server as its users meet it: a real process, real sockets. What goes in comes out refined, in order, on time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from bench.service.child import ServerProcess
from model.skeleton import JOINTS, PARENTS
from streamer.cli import main
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, SecurityError
from streamer.server.control import request
from streamer.server.overload import newest_that_fit
from streamer.wire.endpoints import is_local
from streamer.wire.protocol import Encoder
from streamer.wire.security import check_endpoint
from tests.helpers.live import body_frame, counter, poses, rejected, status, streaming, subscribed, wait_until

ANY = ["--in", "tcp://127.0.0.1:*", "--out", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
SERVE = [sys.executable, "-m", "streamer", "serve"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["--evict", "2"]) as running:
        yield running


# -- frames in, poses out ---------------------------------------------------------------------------------------------


def test_each_frame_comes_back_as_a_pose_of_its_time(server: ServerProcess) -> None:
    with subscribed(server, "one") as subscriber, FrameSender(server.in_endpoint) as sender:
        assert sender.joined
        sent = []
        for n in range(40):
            sent.append(body_frame("one", n))
            sender.send(sent[-1])
            (pose,) = poses(subscriber, least=1)
            assert (pose.actor, pose.seq, pose.t_ns, pose.captured_ns) == ("one", n, sent[n].t_ns, sent[n].t_ns)
            assert sent[n].t_ns <= pose.received_ns <= pose.inferred_ns <= pose.published_ns <= now_ns()
            assert pose.status == "calibrating"
            assert np.isfinite(pose.positions).all()
            np.testing.assert_allclose(np.linalg.norm(pose.rotations, axis=-1), 1.0, atol=1e-5)
            np.testing.assert_allclose(np.linalg.norm(pose.offsets_m, axis=-1), pose.lengths_m, atol=1e-6)


def test_server_answers_what_the_filter_in_this_process_answers(server: ServerProcess) -> None:
    from streamer import PoseFilter

    alone = PoseFilter.load()
    with subscribed(server, "same") as subscriber, FrameSender(server.in_endpoint) as sender:
        for n in range(30):
            frame = body_frame("same", n, t_ns=n * SECOND_NS // 50)
            sender.send(frame)
            (pose,) = poses(subscriber, least=1)
            np.testing.assert_array_equal(pose.positions, alone.push(frame).positions)


def test_frames_that_arrive_together_give_the_newest_pose_of_each_actor(server: ServerProcess) -> None:
    with subscribed(server) as subscriber, FrameSender(server.in_endpoint) as sender:
        os.kill(server.pid, signal.SIGSTOP)  # so that they do arrive together
        try:
            for n in range(10):
                for actor in ("left", "right"):
                    sender.send(body_frame(actor, n, t_ns=n * SECOND_NS // 50))
            time.sleep(0.2)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        got = poses(subscriber, seconds=1.0)
    for actor in ("left", "right"):
        numbers = [pose.seq for pose in got if pose.actor == actor]
        assert numbers[-1] == 9
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 10


def test_frames_that_cannot_be_kept_up_with_are_skipped_oldest_first_and_said(server: ServerProcess) -> None:
    with subscribed(server, "flood") as subscriber, FrameSender(server.in_endpoint) as sender:
        sender.send(body_frame("flood", 0, t_ns=0))
        assert poses(subscriber, least=1)[0].skipped == 0
        encoder = Encoder()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for n in range(1, 2000):
                sender.send_bytes(encoder.frame(body_frame("flood", n, t_ns=n * SECOND_NS // 50)))
                time.sleep(0.0001)
            time.sleep(0.2)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        got = poses(subscriber, seconds=1.5)
    last = got[-1]
    assert last.skipped > 0
    assert counter(server, "frames_skipped") >= last.skipped
    assert last.seq > last.skipped  # the newest that arrived is there


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 50))
def test_skipping_takes_the_oldest_of_who_sends_most(actors: list[str], room: int) -> None:
    frames = [body_frame(actor, n) for n, actor in enumerate(actors)]
    kept, skipped = newest_that_fit(frames, room)
    assert [f.seq for f in sorted(kept + skipped, key=lambda f: f.seq)] == list(range(len(frames)))
    assert [f.seq for f in kept] == sorted(f.seq for f in kept)
    assert len(kept) == min(len(frames), max(room, len(set(actors))))
    left = {actor: [f.seq for f in kept if f.actor == actor] for actor in set(actors)}
    for actor in set(actors):
        sent = [n for n, name in enumerate(actors) if name == actor]
        assert left[actor] == sent[len(sent) - len(left[actor]) :]  # its newest
        if len(left[actor]) < len(sent):  # who lost any has no fewer than another, but for the remainder
            assert len(left[actor]) >= max(len(others) for others in left.values()) - 1


def test_a_burst_of_two_hundred_actors_loses_none_and_all_are_accounted_for() -> None:
    rounds, names = 5, [f"crowd{n}" for n in range(200)]
    with ServerProcess(["--max-actors", "200"]) as server, FrameSender(server.in_endpoint) as sender:
        for n in range(rounds):
            for name in names:
                sender.send(body_frame(name, n))
            wait_until(lambda n=n: counter(server, "messages_in") == (n + 1) * len(names))
        sender.send(body_frame("one-too-many", 0))
        wait_until(lambda: rejected(server).get("too_many_actors") == 1)
        assert set(status(server)["actor_states"]) == set(names)


# -- skeletons, status, actors ----------------------------------------------------------------------------------------


def test_who_joins_late_gets_the_skeleton_at_once(server: ServerProcess) -> None:
    with streaming(server, "early"):
        wait_until(lambda: "early" in status(server)["actor_states"])
        with PoseSubscriber(server.out_endpoint) as subscriber:
            start = time.monotonic()
            while "early" not in subscriber.skeletons:
                subscriber.receive(timeout_s=0.05)
                assert time.monotonic() - start < 2.0
            skeleton = subscriber.skeletons["early"]
            assert (skeleton.joints, skeleton.parents) == (JOINTS, PARENTS)
            pose = subscriber.receive(timeout_s=2.0)
    assert pose is not None
    assert pose.actor == "early"


def test_of_many_who_join_together_each_gets_the_skeleton(server: ServerProcess) -> None:
    with streaming(server, "early"):
        wait_until(lambda: "early" in status(server)["actor_states"])
        joined = []
        for _ in range(4):
            joined.append(PoseSubscriber(server.out_endpoint))
            time.sleep(0.03)  # closer together than skeletons are sent
        start = time.monotonic()
        for subscriber in joined:
            with subscriber:
                assert subscriber.receive(timeout_s=2.0) is not None
        assert time.monotonic() - start < 2.0


def test_silent_actors_are_evicted(server: ServerProcess) -> None:
    with FrameSender(server.in_endpoint) as sender:
        sender.send(body_frame("ghost", 0))
    wait_until(lambda: "ghost" in status(server)["actor_states"])
    before = counter(server, "actors_evicted")
    wait_until(lambda: "ghost" not in status(server)["actor_states"])
    assert counter(server, "actors_evicted") > before


def test_output_clock_is_steady_and_coasts_over_a_gap() -> None:
    with (
        ServerProcess(["--rate", "50"]) as server,
        subscribed(server) as subscriber,
        FrameSender(server.in_endpoint) as sender,
    ):
        start, got = now_ns(), []
        for n in range(30):  # 30 Hz for a second
            sender.send(body_frame("a", n))
            got += poses(subscriber, seconds=max(0.0, (start + (n + 1) * SECOND_NS / 30 - now_ns()) / SECOND_NS))
        silent = poses(subscriber, seconds=2.5)
    steps_ms = np.diff([pose.published_ns for pose in got[5:]]) / 1e6
    assert np.median(steps_ms) == pytest.approx(20.0, abs=1.0)
    assert (np.diff([pose.t_ns for pose in got[5:]]) >= 0).all()
    statuses = [pose.status for pose in silent]
    assert "coasting" in statuses
    assert statuses[-1] == "lost"
    assert statuses.count("lost") == 1  # said once, then nothing
    assert silent[-1].published_ns - got[-1].published_ns < 1.6 * SECOND_NS


# -- control ----------------------------------------------------------------------------------------------------------


def test_status_counts_and_is_healthy(server: ServerProcess) -> None:
    said = status(server)
    assert said["health"]["alive"]
    assert said["counters"]["loop_errors"] == 0
    assert said["endpoints"]["out"] == server.out_endpoint


def test_reset_and_calibrate_start_anew(server: ServerProcess) -> None:
    with streaming(server, "again"):
        wait_until(lambda: "again" in status(server)["actor_states"])
        for command in ("reset", "calibrate"):
            reply = request(server.control_endpoint, command, 5.0, actor="again")
            assert reply is not None
            assert reply["actors"] == ["again"]
            with PoseSubscriber(server.out_endpoint, "again") as subscriber:
                pose = subscriber.receive(timeout_s=5.0)
            assert pose is not None
            assert pose.status == "calibrating"
    assert counter(server, "loop_errors") == 0


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (b"hello", "not_msgpack", ""),
        (msgpack.packb({"cmd": "status"}), "missing:v", "v"),
        (msgpack.packb({"v": 9, "cmd": "status"}), "version", "v"),
        (msgpack.packb({"v": 1}), "value:cmd", "cmd"),
        (msgpack.packb({"v": 1, "cmd": "format"}), "value:cmd", "cmd"),
        (msgpack.packb({"v": 1, "cmd": ["status"]}), "value:cmd", "cmd"),
        (msgpack.packb({"v": 1, "cmd": "reset", "actor": "nobody"}), "unknown_actor", "actor"),
        (msgpack.packb({"v": 1, "cmd": "reset", "actor": {"a": 1}}), "unknown_actor", "actor"),
    ],
)
def test_bad_requests_are_answered_with_the_field(
    server: ServerProcess, message: bytes, reason: str, field: str
) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.control_endpoint)
        socket.send(message)
        assert socket.poll(5000)
        reply = msgpack.unpackb(socket.recv())
    assert not reply["ok"]
    assert (reply["error"]["reason"], reply["error"]["field"]) == (reason, field)
    assert status(server)["health"]["alive"]


# -- start and end ----------------------------------------------------------------------------------------------------


def ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    said: dict[str, str] = json.loads(process.stdout.readline())
    return said


def test_ready_within_two_seconds() -> None:
    took = []
    for _ in range(3):
        start = time.monotonic()
        with subprocess.Popen([*SERVE, *ANY, "--json-ready"], stdout=subprocess.PIPE, text=True) as process:
            ready(process)
            took.append(time.monotonic() - start)
            process.terminate()
    assert min(took) < 2.0  # the best of three: other tests may have the other core


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "shutdown"])
def test_ends_gracefully(how: str) -> None:
    with subprocess.Popen([*SERVE, *ANY, "--json-ready"], stdout=subprocess.PIPE, text=True) as process:
        ends = ready(process)
        with PoseSubscriber(ends["out"], "last", every=True) as subscriber, FrameSender(ends["in"]) as sender:
            for n in range(1000):
                sender.send(body_frame("last", n))
                if subscriber.receive(timeout_s=0.05) is not None:
                    break
            if how == "shutdown":
                assert request(ends["control"], "shutdown", 5.0) == {"v": 1, "ok": True}
            else:
                process.send_signal(getattr(signal, how))
            assert process.wait(5) == 0


def test_a_taken_port_is_one_clear_line(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--in", server.in_endpoint, *ANY[2:]]) == 2
    said = capsys.readouterr().err.strip()
    assert server.in_endpoint in said
    assert "another server" in said


def test_metrics_and_health_over_http(free_port: Callable[[], int]) -> None:
    port = free_port()
    with ServerProcess(["--metrics-port", str(port)]) as server, streaming(server):
        wait_until(lambda: counter(server, "poses_out") > 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
            assert json.load(reply)["alive"] is True
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        caught.value.close()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["hpstm_frames_in_total"]) > 0
    assert values['hpstm_latency_seconds_bucket{le="+Inf"}'] == values["hpstm_latency_seconds_count"]


# -- who may connect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5", "tcp://localhost:5", "tcp://[::1]:5", "ipc:///tmp/x",
                                      "tcp://127.0.0.1:*", "tcp://127.3.2.1:5"])  # fmt: skip
def test_this_machine_is_local(endpoint: str) -> None:
    assert is_local(endpoint)
    check_endpoint(endpoint, allow_remote=False)


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5", "tcp://*:5", "tcp://192.168.1.7:5", "tcp://eth0:5",
                                      "tcp://[::]:5", "tcp://*:*", "tcp://localhost.example.com:5"])  # fmt: skip
def test_other_machines_need_words(endpoint: str) -> None:
    with pytest.raises(SecurityError, match="--allow-remote"):
        check_endpoint(endpoint, allow_remote=False)
    check_endpoint(endpoint, allow_remote=True)


@pytest.mark.parametrize("endpoint", ["", "5750", "tcp://", "tcp://127.0.0.1", "udp://127.0.0.1:5", "tcp://a:b:c"])
def test_what_is_no_endpoint_is_said(endpoint: str) -> None:
    with pytest.raises(ConfigError):
        check_endpoint(endpoint, allow_remote=True)


def test_serve_refuses_other_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--out", "tcp://0.0.0.0:5751"]) == 2
    assert "--allow-remote" in capsys.readouterr().err
