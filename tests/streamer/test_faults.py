"""What costs a server nothing: deep messages, a log that nobody reads, many connections, names that come and go."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from bench.service.child import ServerProcess
from bench.service.turn_by_turn import TurnByTurn
from streamer.cli import main
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.server import descriptors
from streamer.server.config import ServerConfig
from streamer.server.control import request
from streamer.server.log import BackgroundWriter, Errors
from streamer.server.sockets import open_sockets
from streamer.sinks import following
from streamer.wire.protocol import Encoder
from tests.helpers.live import body_frame, counter, rejected, status, streaming, wait_until

ENCODER = Encoder()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


def deep(key: str, depth: int, message: bytes) -> bytes:
    """The message's map with a list in a list in a list ... under ``key``."""
    fields = msgpack.unpackb(message)
    fields[key] = None
    packed = msgpack.packb(fields)
    at = packed.index(msgpack.packb(key)) + len(msgpack.packb(key))
    return packed[:at] + b"\x91" * depth + packed[at:]


# -- nesting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["actor", "v", "seq", "t_ns", "layout", "positions", "confidence"])
@pytest.mark.parametrize("depth", [10, 300, 500, 1000, 1010, 5000])
def test_however_deep_a_message_is_it_has_a_name_and_costs_no_other_its_turn(
    new: Callable[..., PoseFilter], key: str, depth: int
) -> None:
    topic, _, body = ENCODER.frame(body_frame("a", 0)).partition(b"\0")
    running = TurnByTurn(new())
    running.turn([topic + b"\0" + deep(key, depth, body), ENCODER.frame(body_frame("b", 0))])
    assert running.books == {"messages_in": 2, "poses": 1, "superseded": 0, "skipped": 0, "rejected": 1}
    assert running.value("loop_errors") == 0


@pytest.mark.parametrize("key", ["v", "cmd", "actor", "offsets"])
@pytest.mark.parametrize("depth", [10, 300, 500, 1000, 1010, 5000])
@pytest.mark.parametrize("command", ["reset", "set_skeleton"])
def test_a_request_however_deep_has_a_reply(server: ServerProcess, key: str, depth: int, command: str) -> None:
    good = msgpack.packb({"v": 1, "cmd": command, "actor": "a", "offsets": b""})
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.connect(server.control_endpoint)
        asking.send(deep(key, depth, good))
        assert asking.poll(5000)
        assert msgpack.unpackb(asking.recv())["ok"] is False
    assert counter(server, "loop_errors") == 0


def test_a_command_that_fails_is_answered_and_so_is_the_next(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = TurnByTurn(new())
    control = running.server._control
    monkeypatch.setattr(running.server._filter, "warnings", lambda actor: 1 / 0)
    running.turn([ENCODER.frame(body_frame("a", 0))])
    command, reply = control.answer(ENCODER.map({"cmd": "status"}))
    assert (command, msgpack.unpackb(reply)["error"]["reason"]) == ("bad", "error")
    assert control.answer(ENCODER.map({"cmd": "reset"}))[0] == "reset"


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_stderr_that_nobody_reads_does_not_stop_the_server() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"full " * 1000):
            pass
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "streamer", "serve", "--json-ready"]
    for name in ("--in", "--out", "--control"):
        command += [name, "tcp://127.0.0.1:*"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing, text=True) as process:
        try:
            assert process.stdout is not None
            ends = json.loads(process.stdout.readline())
            with FrameSender(ends["in"]) as sender, PoseSubscriber(ends["out"], "a", every=True) as subscriber:
                sent = got = 0
                end = time.monotonic() + 3.5
                while time.monotonic() < end:  # something to say each second
                    sender.send_bytes(b"nonsense")
                    sender.send(body_frame("a", sent))
                    sent += 1
                    got += subscriber.receive(timeout_s=0.05) is not None
                said = request(ends["control"], "status", 5.0)
            assert said is not None
            assert said["rejected"]["topic"] > 0
            assert got > 0.8 * sent
            assert request(ends["control"], "shutdown", 5.0) is not None
            assert process.wait(5) == 0
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)


def test_what_the_queue_of_the_log_cannot_take_is_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    writer = BackgroundWriter(writing, most=10)
    for n in range(5000):
        writer.write(f"{n:099d}\n")
        if n % 100 == 0:
            time.sleep(0.001)
    assert writer.dropped > 0
    writer.flush(within_s=0.01)
    seen, dropped = b"", writer.dropped
    while len(seen) < 100 * (5000 - dropped):
        seen += os.read(reading, 65536)
    numbers = [int(line) for line in seen.splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 5000 - dropped


def test_an_error_is_said_once_a_minute_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[int] = []
    errors = Errors(lambda: counted.append(1))

    def divide() -> None:
        raise ZeroDivisionError

    def look_up() -> None:
        raise IndexError

    def fail(times: int) -> None:
        for _ in range(times):
            for bad in (divide, look_up):
                with errors.caught("testing"):
                    bad()

    fail(100)
    with errors.caught("something else"):
        divide()
    assert len(counted) == 201
    assert len(caplog.records) == 3
    errors._said_ns = {kind: t - 61 * SECOND_NS for kind, t in errors._said_ns.items()}
    fail(2)
    assert len(caplog.records) == 5
    assert "99 more" in caplog.records[-1].getMessage()
    with pytest.raises(zmq.ZMQError), errors.caught("testing"):
        raise zmq.ZMQError(zmq.ENOTSOCK)


# -- connections ------------------------------------------------------------------------------------------------------


def test_unfinished_http_requests_do_not_keep_the_next_one_out(free_port: Callable[[], int]) -> None:
    port = free_port()
    with ServerProcess(["--metrics-port", str(port)]) as server:
        before = status(server)["descriptors"]
        held = []
        try:
            for _ in range(245):
                held.append(socket.create_connection(("127.0.0.1", port)))
                held[-1].sendall(b"GET /metr")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
                assert reply.status == 200
            wait_until(lambda: status(server)["descriptors"] < before + 30)
        finally:
            for one in held:
                one.close()
        assert status(server)["health"]["alive"]


def test_the_limit_of_descriptors_is_raised_to_what_the_system_allows() -> None:
    code = (
        "import resource\n"
        "from streamer.server import descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 900))\n"
        "print(descriptors.raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE), descriptors.open_now() < 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "900 (900, 900) True", done.stderr


def test_a_hundred_connections_do_not_shut_out_the_next_where_the_shell_allows_few() -> None:
    server = ServerProcess()
    server.command = ["bash", "-c", 'ulimit -Sn 80; exec "$@"', "--", *server.command]
    with server, contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        for _ in range(100):
            waiting = stack.enter_context(context.socket(zmq.SUB))
            waiting.setsockopt(zmq.LINGER, 0)
            waiting.subscribe(b"pose.")
            waiting.connect(server.out_endpoint)
        wait_until(lambda: counter(server, "subscriptions") == 100)
        wait_until(lambda: status(server)["descriptors"] > 100)
        with streaming(server), PoseSubscriber(server.out_endpoint, "steady") as last:
            assert last.receive(timeout_s=5.0) is not None


def test_full_descriptors_are_said_once(
    new: Callable[..., PoseFilter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = TurnByTurn(new())
    housekeeping, gauges = running.server._housekeeping, running.server.metrics.gauges
    assert gauges["descriptors_limit"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for taken, lines in ((0.5, 0), (0.85, 1), (0.9, 1), (0.5, 1), (0.81, 2)):
        monkeypatch.setattr(descriptors, "open_now", lambda taken=taken: int(taken * gauges["descriptors_limit"]))
        housekeeping.do(0)
        assert len([r for r in caplog.records if "descriptors" in r.getMessage()]) == lines


def test_only_a_leave_is_a_leave(new: Callable[..., PoseFilter]) -> None:
    running = TurnByTurn(new())
    frame = ENCODER.frame(body_frame("a", 0))
    running.subscriptions(b"\x01frame.")
    for other in (b"\x02frame.", b"", b"frame.", b"\xffframe.", b"\x00fram", b"\x00frame.a"):
        running.subscriptions(other)
    running.turn([frame])
    assert running.sockets.of_kind(b"frame.") == [frame]
    running.subscriptions(b"\x00frame.")
    running.turn([ENCODER.frame(body_frame("a", 1))])
    assert running.sockets.of_kind(b"frame.") == [frame]


@pytest.mark.skipif(sys.platform == "win32", reason="ipc is for POSIX")
def test_a_taken_ipc_path_is_refused_as_on_tcp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {f"{name}_endpoint": f"ipc://{tmp_path}/{name}" for name in ("in", "out", "control")}
    config = ServerConfig(**names)
    with open_sockets(config, lambda: None):
        with pytest.raises(ConfigError, match="is another server running there"), open_sockets(config, lambda: None):
            pass
        free = [word for name in ("--out", "--control") for word in (name, "tcp://127.0.0.1:*")]
        assert main(["serve", "--in", names["in_endpoint"], *free]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with open_sockets(config, lambda: None):  # what a server left behind is no server
        pass
    (tmp_path / "in").touch()  # nor is a file that nobody listens on
    with open_sockets(config, lambda: None):
        pass


# -- who is gone ------------------------------------------------------------------------------------------------------


def test_a_reader_of_all_forgets_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """More names than connections, one after the other: each is heard, and few are kept."""
    monkeypatch.setattr(following, "MAX_ACTORS", 8)
    monkeypatch.setattr(following, "QUIET_NS", SECOND_NS // 10)
    monkeypatch.setattr(following, "GONE_NS", SECOND_NS // 2)
    with (
        ServerProcess(["--evict", "0.2"]) as server,
        FrameSender(server.in_endpoint) as sender,
        PoseSubscriber(server.out_endpoint) as subscriber,
    ):
        for k in range(20):
            end, n, heard = time.monotonic() + 5, 0, False
            while not heard and time.monotonic() < end:
                sender.send(body_frame(f"guest-{k}", n))
                pose = subscriber.receive(timeout_s=0.02)
                heard, n = pose is not None and pose.actor == f"guest-{k}", n + 1
            assert heard, k
            assert len(subscriber._servers[0].pose_sockets) <= 8
        wait_until(lambda: not status(server)["actor_states"])
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            subscriber.receive(timeout_s=0.1)
        assert not subscriber._servers[0].pose_sockets
        assert not subscriber.skeletons


def test_who_was_away_has_not_lost_anybody(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with streaming(server, "stays"), PoseSubscriber(server.out_endpoint) as subscriber:
        while subscriber.receive(timeout_s=0.1) is None:
            pass
        monkeypatch.setattr(subscriber._servers[0], "_now_ns", subscriber._servers[0]._now_ns - 3600 * SECOND_NS)
        pose = subscriber.receive(timeout_s=1.0)
        assert pose is not None
        assert "stays" in subscriber._servers[0].pose_sockets


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget-ms", "inf"], "--budget-ms"),
        (["--budget-ms", "nan"], "--budget-ms"),
        (["--budget-ms", "0"], "--budget-ms"),
        (["--evict", "nan"], "--evict"),
        (["--rate", "nan"], "--rate"),
        (["--metrics-port", "99999"], "--metrics-port"),
        (["--metrics-port", "-1"], "--metrics-port"),
        (["--connect-in", "tcp://127.0.0.1:*"], "--connect-in"),
        (["--skeletons", "/proc/nowhere"], "--skeletons"),
        (["--skeletons", "/dev/null"], "--skeletons"),
    ],
)
def test_settings_that_cannot_be_are_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [word for name in ("--in", "--out", "--control") for word in (name, "tcp://127.0.0.1:*")]
    assert main(["serve", *ends, *words]) == 2
    said: Any = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1


def test_rejections_of_every_kind_are_counted_by_name(server: ServerProcess) -> None:
    with FrameSender(server.in_endpoint) as sender:
        sender.send_bytes(b"frame.a\0" + b"\x91" * 5000)
        wait_until(lambda: rejected(server).get("not_msgpack", 0) == 1)
