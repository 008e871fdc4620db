"""What others do wrong stays with them: bad input is named and counted, slow readers get fresh poses, memory stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq

from bench.service.child import ServerProcess
from streamer.client import FrameSender
from streamer.clock import SECOND_NS, now_ns
from streamer.wire.protocol import Encoder
from tests.helpers.live import BODY, body_frame, counter, poses, rejected, streaming, subscribed, wait_until

pytestmark = pytest.mark.timed
FRESH_MS = 100.0
AWAY_S = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["--max-actors", "8"]) as running:
        yield running


@pytest.fixture(scope="module")
def sender(server: ServerProcess) -> Iterator[FrameSender]:
    with FrameSender(server.in_endpoint) as sender:
        yield sender


# -- bad input --------------------------------------------------------------------------------------------------------

ENCODER = Encoder()


def changed(**changes: Any) -> bytes:
    """A good frame of actor "bad", with keys replaced."""
    name, _, body = ENCODER.frame(body_frame("bad", 0)).partition(b"\0")
    return name + b"\0" + msgpack.packb({**msgpack.unpackb(body), **changes})


def of_layout(layout: str) -> bytes:
    return ENCODER.frame(body_frame("bad", 0, layout=layout))


def at(metres: float) -> bytes:
    return ENCODER.frame(body_frame("bad", 0, positions=np.full((24, 3), metres, np.float32)))


BAD = {
    "not msgpack": (b"frame.bad\0\xc1\xc1\xc1", "not_msgpack"),
    "no topic": (b"hello", "topic"),
    "wrong version": (changed(v=2), "version"),
    "a key is missing": (ENCODER.frame(body_frame("bad", 0)).replace(b"t_ns", b"time"), "missing:t_ns"),
    "not (J, 3)": (changed(positions=bytes(100)), "joint_count"),
    "wrong joint count": (of_layout("coco_17"), "joint_count"),
    "unknown layout": (of_layout("octopus_8"), "layout"),
    "a path as layout": (of_layout("/dev/zero"), "layout"),
    "all joints NaN, as a first frame": (at(np.nan), "empty"),
    "infinity": (at(np.inf), "absurd"),
    "1e9 m": (at(1e9), "absurd"),
    "a list for bin": (changed(positions=[0.0] * 72), "type:positions"),
    "10 MB": (b"frame.bad\0" + bytes(10_000_000), "too_large"),
    "actor with a space": (changed(actor="b ad"), "actor_name"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named_and_counted_and_others_do_not_notice(
    what: str, server: ServerProcess, sender: FrameSender
) -> None:
    message, reason = BAD[what]
    before, sent = rejected(server).get(reason, 0), 0

    def send_until_twenty_are_counted() -> bool:
        nonlocal sent
        sent += 1
        sender.send_bytes(message)  # one at a time: what comes in a heap is skipped as overload, not judged
        return rejected(server).get(reason, 0) >= before + 20

    with streaming(server, "steady", 60.0), subscribed(server, "steady") as subscriber:
        wait_until(send_until_twenty_are_counted)
        undisturbed(server, subscriber)
    assert rejected(server)[reason] - before <= sent


def undisturbed(server: ServerProcess, subscriber: Any) -> None:
    """Half a second of the steady actor: in order, nothing lost that was not of one drain, no error in the loop."""
    got = poses(subscriber, seconds=0.5)
    numbers = [pose.seq for pose in got]
    assert len(numbers) >= 15
    assert numbers == sorted(set(numbers))
    assert all(np.isfinite(pose.positions).all() for pose in got)
    assert counter(server, "loop_errors") == 0


def test_time_going_backwards_is_refused_and_the_stream_goes_on(server: ServerProcess, sender: FrameSender) -> None:
    with subscribed(server, "back") as subscriber:
        for n, t_ms in enumerate([0, 20, 40, 30, 40, -50, 60]):
            sender.send(body_frame("back", n, t_ns=t_ms * 1_000_000))
            time.sleep(0.05)
        got = poses(subscriber, seconds=1.0)
    assert [pose.seq for pose in got] == [0, 1, 2, 6]
    said = rejected(server)
    assert (said["late"], said["duplicate"]) == (2, 1)


def test_some_joints_nan_is_not_bad_input(server: ServerProcess, sender: FrameSender) -> None:
    positions = BODY.copy()
    positions[10:] = np.nan
    before = sum(rejected(server).values())
    with subscribed(server, "half") as subscriber:
        for n in range(5):
            sender.send(body_frame("half", n))
        for n in range(5, 10):
            sender.send(body_frame("half", n, positions=positions))
            time.sleep(0.02)
        got = poses(subscriber, seconds=0.5)
    assert got[-1].seq == 9
    assert np.isfinite(got[-1].positions).all()
    assert sum(rejected(server).values()) == before


def test_ten_thousand_actor_names_do_not_touch_the_established(server: ServerProcess, sender: FrameSender) -> None:
    rss = resident_mb(server)
    with streaming(server, "steady", 60.0), subscribed(server, "steady") as subscriber:
        poses(subscriber, least=5)
        frame = body_frame("x", 0)
        for n in range(10_000):
            frame.actor = f"crowd-{n}"
            sender.send(frame)
            if n % 20 == 19:
                time.sleep(0.002)  # 10,000 a second; faster, the sender's own queue drops them
        wait_until(lambda: rejected(server).get("too_many_actors", 0) > 9_000, seconds=20)
        undisturbed(server, subscriber)
    assert resident_mb(server) - rss < 20


# -- slow subscribers -------------------------------------------------------------------------------------------------

# Reads for a second, is away for AWAY_S, reads for a second more; prints how old each pose was when it got it.
READER = """
import json, sys, time
from streamer.client import PoseSubscriber
from streamer.clock import now_ns

def read(subscriber, seconds):
    end, ages = time.monotonic() + seconds, []
    while time.monotonic() < end:
        pose = subscriber.receive(timeout_s=0.1)
        if pose is not None:
            ages.append((now_ns() - pose.published_ns) / 1e6)
    return ages

endpoint, away_s = sys.argv[1], float(sys.argv[2])
with PoseSubscriber(endpoint) as subscriber:
    before = read(subscriber, 1.0)
    print("away", flush=True)
    if away_s:
        time.sleep(away_s)
    else:
        sys.stdin.readline()
    print(json.dumps([before, read(subscriber, 1.0)]))
"""


class Reader:
    """A subscriber in a process of its own."""

    def __init__(self, server: ServerProcess, away_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, server.out_endpoint, str(away_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_away(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "away\n"

    def ages_ms(self) -> tuple[list[float], list[float]]:
        said, _ = self.process.communicate("\n", timeout=30)
        before, after = json.loads(said)
        return before, after


def resident_mb(server: ServerProcess) -> float:
    return float(psutil.Process(server.pid).memory_info().rss / 1e6)


@contextmanager
def short_queue(server: ServerProcess, kept: int, topic: bytes = b"") -> Iterator[zmq.Socket[bytes]]:
    """A plain SUB socket that keeps few messages for who does not read them."""
    with zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.setsockopt(zmq.LINGER, 0)
        plain.setsockopt(zmq.RCVHWM, kept)
        plain.setsockopt(zmq.RCVBUF, 4096)
        plain.subscribe(topic)
        plain.connect(server.out_endpoint)
        yield plain


def test_who_was_away_for_ten_seconds_sees_fresh_poses_and_the_server_does_not_grow(server: ServerProcess) -> None:
    """Away in three ways: asleep while ZeroMQ goes on, the whole process stopped, and never reading at all."""
    with streaming(server, "steady", 120.0), short_queue(server, 1):
        asleep, stopped = Reader(server, AWAY_S), Reader(server, 0.0)
        asleep.wait_away()
        stopped.wait_away()
        stopped.process.send_signal(signal.SIGSTOP)
        start_mb, most_mb, end = resident_mb(server), 0.0, now_ns() + int(AWAY_S * SECOND_NS)
        while now_ns() < end:
            time.sleep(0.25)
            most_mb = max(most_mb, resident_mb(server))
        os.kill(stopped.process.pid, signal.SIGCONT)
        ages = {"asleep": asleep.ages_ms(), "stopped": stopped.ages_ms()}
    for who, (before, after) in ages.items():
        assert len(before) > 30, who
        assert len(after) > 30, who
        assert max(after) < FRESH_MS, who
    assert most_mb - start_mb < 10, f"{start_mb:.1f} MB grew to {most_mb:.1f} MB"


def test_a_reader_that_is_stuck_is_cut_off_and_comes_back_by_itself(server: ServerProcess) -> None:
    """A plain SUB socket with a short queue: after the few poses it kept come fresh ones, not the server's backlog."""
    with streaming(server, "steady", 120.0), short_queue(server, 4, b"pose.steady\0") as plain:
        assert plain.poll(5000)
        time.sleep(5.0)
        old, fresh, end = 0, 0, time.monotonic() + 2.0
        while time.monotonic() < end:
            if plain.poll(100):
                fields = msgpack.unpackb(plain.recv().partition(b"\0")[2])
                is_old = now_ns() - fields["published_ns"] > FRESH_MS * 1e6
                old, fresh = old + is_old, fresh + (not is_old)
    assert old < 60  # of 600 published meanwhile
    assert fresh > 60


# -- the process ------------------------------------------------------------------------------------------------------


def test_importing_the_streamer_leaves_torch_unimported() -> None:
    code = (
        "import sys, streamer, streamer.cli, streamer.server.server, streamer.client\n"
        "import streamer.commands.doctor, streamer.commands.replay\n"
        "from streamer import PoseFilter, Frame, Pose\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'scipy', 'matplotlib', 'bench')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from streamer.cli import main

    monkeypatch.setattr("sys.argv", ["hpstm"])
    for name in [name for name in sys.modules if name.startswith("model.")]:  # earlier tests have imported them
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "--help"]) == 2
    assert "hpstm-live[train]" in capsys.readouterr().err


def test_doctor_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    from streamer.cli import main

    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line[:4].strip() for line in lines} <= {"OK", "--"}
    assert any("model" in line for line in lines)
