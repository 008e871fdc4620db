"""``hpstm sink websocket``: a real process, and the clients of the websockets library, which are not ours."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgpack
import numpy as np
import pytest

from bench.service.child import ServerProcess
from streamer.cli import main
from streamer.client import PoseSubscriber
from streamer.clock import now_ns
from streamer.filter import PoseFilter
from tests.helpers.live import body_frame, streaming, wait_until
from tests.helpers.program import HPSTM, Program

websockets = pytest.importorskip("websockets", reason="websockets is not installed (extra: websocket)")
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from streamer.sinks import websocket  # noqa: E402
from streamer.sinks.websocket import Hub, Wish, wish_of  # noqa: E402

SINK = [*HPSTM, "sink", "websocket", "--port", "0"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with (
        ServerProcess(["--evict", "30"]) as running,
        streaming(running, "walker", 60.0),
        streaming(running, "2nd", 30.0),
    ):
        yield running


@contextmanager
def sink(server: ServerProcess, *words: str) -> Iterator[tuple[str, Program]]:
    """Its address, and the process."""
    with Program([*SINK, "--out", server.out_endpoint, *words]) as process:
        ready = process.stdout.readline()
        assert ready.startswith("ready websocket=ws://")
        yield ready.strip().partition("=")[2], process


@pytest.fixture(scope="module")
def url(server: ServerProcess) -> Iterator[str]:
    with sink(server) as (address, _):
        yield address


def some(url: str, count: int, **options: Any) -> list[Any]:
    with connect(url, compression=None, **options) as client:
        return [client.recv(timeout=10) for _ in range(count)]


# -- what comes -------------------------------------------------------------------------------------------------------


def test_a_client_gets_the_poses_of_everybody_as_json(url: str) -> None:
    said = [json.loads(message) for message in some(url, 30)]
    assert {pose["actor"] for pose in said} == {"walker", "2nd"}
    for pose in said:
        assert np.shape(pose["positions"]) == (24, 3)
        assert np.shape(pose["rotations"]) == (24, 4)
        assert pose["layout"] == "smpl_24"
    walker = [pose["t_ns"] for pose in said if pose["actor"] == "walker"]
    assert (np.diff(walker) > 0).all()


def test_msgpack_one_actor_and_all_fields(url: str) -> None:
    for message in some(f"{url}/?format=msgpack&actor=walker&full=1", 5):
        assert isinstance(message, bytes)
        pose = msgpack.unpackb(message)
        assert pose["actor"] == "walker"
        assert np.shape(pose["covariance"]) == (24, 3, 3)


def test_a_pose_is_the_one_that_the_server_published(server: ServerProcess, url: str) -> None:
    with PoseSubscriber(server.out_endpoint, "walker", every=True) as subscriber:
        messages = some(f"{url}/?actor=walker&full=1", 10)
        published = {}
        while (pose := subscriber.receive(0.2)) is not None and pose.seq <= json.loads(messages[-1])["seq"]:
            published[pose.seq] = pose
    same = [json.loads(message) for message in messages if json.loads(message)["seq"] in published]
    assert len(same) > 5
    for said in same:
        np.testing.assert_allclose(said["positions"], published[said["seq"]].positions, atol=1e-6)
        assert said["published_ns"] == published[said["seq"]].published_ns


# -- a slow client ----------------------------------------------------------------------------------------------------


@pytest.mark.timed
def test_a_client_that_does_not_read_holds_up_nobody_and_then_gets_a_fresh_pose(url: str) -> None:
    """Beside it another is served as if alone; its queues hold what they can, and after that it gets what is new."""
    alone_ms, _ = watched(url, 100)
    with stalled(f"{url}/?actor=walker&full=1") as slow:
        beside_ms, seqs = watched(url, 180)
        backlog = [pose["seq"] for pose in slow.drain()]
    assert np.median(beside_ms) < 3 * np.median(alone_ms) + 5
    assert np.percentile(beside_ms, 90) < 3 * np.percentile(alone_ms, 90) + 20
    assert len(backlog) < 100  # of more than 180 that were published meanwhile
    assert backlog[-1] > seqs[-1]  # its end is what is there now
    assert np.diff(backlog).max() > 50  # and nothing lies between what the queues held and that


def watched(url: str, count: int) -> tuple[list[float], list[int]]:
    """Ages [ms] and numbers of the next poses of one actor, as a client sees them."""
    with connect(f"{url}/?actor=walker", compression=None) as client:
        ages_ms, seqs = [], []
        for _ in range(count):
            pose = json.loads(client.recv(timeout=20))
            ages_ms.append((now_ns() - pose["published_ns"]) / 1e6)
            seqs.append(pose["seq"])
    return ages_ms, seqs


def test_a_client_that_takes_nothing_at_all_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "STALLED_S", 0.3)
    pose = PoseFilter.load(runtime="onnx").push(body_frame("a", 0, t_ns=0))

    async def main() -> float:
        hub = Hub()
        async with await hub.serve("127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            client = await asyncio.to_thread(Stalled, f"ws://127.0.0.1:{port}/?full=1")
            start = time.monotonic()
            while hub.clients or time.monotonic() < start + 0.2:
                assert time.monotonic() < start + 30.0, "is still there"
                hub.publish([pose])
                await asyncio.sleep(0.005)
            client.socket.close()
        return time.monotonic() - start

    assert asyncio.run(main()) > 0.3  # as long as it had been given, and its queues before


class Stalled:
    """A WebSocket client on a bare socket with a small buffer, which reads nothing until it is told to."""

    def __init__(self, url: str) -> None:
        host, _, path = url.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(5)
        self.socket.connect((name, int(port)))
        head = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.data = b""

    def drain(self, seconds: float = 1.0) -> list[dict[str, Any]]:
        """All messages that come within a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.data += self.socket.recv(65536)
        _, _, rest = self.data.partition(b"\r\n\r\n")
        said = []
        while len(rest) > 4:
            size, start = rest[1], 2
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            assert size < 65536
            if len(rest) < start + size:
                break
            if rest[0] == 0x81:  # a whole text; others are pings
                said.append(json.loads(rest[start : start + size]))
            rest = rest[start + size :]
        return said


@contextmanager
def stalled(url: str) -> Iterator[Stalled]:
    client = Stalled(url)
    try:
        yield client
    finally:
        client.socket.close()


def test_clients_come_and_go_by_the_dozen(server: ServerProcess) -> None:
    with sink(server) as (url, process):
        got: list[int] = []
        threads = [Thread(target=lambda: got.append(len(some(url, 3)))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert got == [3] * 20
        with connect(url) as rude:
            rude.socket.close()  # gone without a word
        for _ in range(3):
            some(url, 3)
        assert process.poll() is None
        assert process.said(signal.SIGTERM) == []


# -- who may, and what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1", "https://[::1]:1234", None])
def test_pages_of_this_machine_may_connect(url: str, origin: Any) -> None:
    assert some(url, 1, origin=origin)


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost.example.org", "null", "http://10.0.0.1:8000"]
)
def test_other_pages_may_not(url: str, origin: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        some(url, 1, origin=origin)
    assert refused.value.response.status_code == 403


def test_a_page_that_is_named_may_and_a_refused_one_is_told_of_once(server: ServerProcess) -> None:
    with sink(server, "--origin", "null", "--origin", "https://example.org") as (url, process):
        assert some(url, 1, origin="null")
        assert some(url, 1, origin="https://example.org")
        for _ in range(2):
            with pytest.raises(InvalidStatus):
                some(url, 1, origin="https://other.org")
        said = process.said(signal.SIGTERM)
    assert said == ["hpstm: refused a web page of 'https://other.org'; to let it in: --origin https://other.org"]


@pytest.mark.parametrize("query", ["format=xml", "full=yes", "colour=1"])
def test_a_wrong_wish_is_refused_with_the_key(url: str, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        some(f"{url}/?{query}", 1)
    assert refused.value.response.status_code == 400
    assert query.partition("=")[0] in (refused.value.response.body or b"").decode()


def test_what_is_no_websocket_is_answered_and_ends_nothing(server: ServerProcess) -> None:
    with sink(server) as (url, process):
        no_websocket(url)
        assert [line for line in process.said(signal.SIGTERM) if "http://a.b" not in line] == []


def no_websocket(url: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(url.replace("ws://", "http://"), timeout=5)
    assert refused.value.code == 426
    refused.value.close()
    for said in (b"\x00\xff" * 100, b"GET / HTTP/1.1\r\n" + b"Origin: http://a.b\r\n" * 2 + b"\r\n", b""):
        host, _, port = url.removeprefix("ws://").partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as rude:
            rude.sendall(said)
            rude.shutdown(socket.SHUT_WR)
            rude.recv(1000)
    assert some(url, 1)


def test_a_wish() -> None:
    assert wish_of("/") == wish_of("/anything") == Wish("json", None, False)
    assert wish_of("/?format=msgpack&actor=J%C3%B6&full=1") == Wish("msgpack", "Jö", True)


def test_more_than_this_machine_is_warned_of(server: ServerProcess) -> None:
    with sink(server, "--host", "0.0.0.0") as (url, process):
        assert some(url.replace("0.0.0.0", "127.0.0.1"), 1)
        (said,) = process.said(signal.SIGTERM)
    assert "warning: whoever reaches 0.0.0.0 sees every pose" in said


def test_a_port_that_is_taken_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = url.rpartition(":")[2]
    assert main(["sink", "websocket", "--port", port]) == 2
    assert f"hpstm: --host 127.0.0.1 --port {port}: cannot listen there" in capsys.readouterr().err


def test_it_says_why_nothing_comes() -> None:
    with Program([*SINK, "--out", "tcp://127.0.0.1:9"]) as process:
        assert "no server answers at tcp://127.0.0.1:9" in process.stderr.readline()


@pytest.mark.timed
def test_ctrl_c_ends_it_at_once_with_a_client_that_does_not_read(server: ServerProcess) -> None:
    with sink(server) as (url, process), stalled(url):
        wait_until(lambda: bool(some(url, 1)))
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - started < 4
