"""Faults of the transport, played to a real server beside a steady actor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import zmq

from bench.drive import noisy_frames
from bench.service.child import ChildProcess, ServerFailed, ServerProcess, free_endpoints
from bench.streams.bars import Bar
from bench.streams.case import Fault, ServerCase
from bench.streams.live import frame_of, steady, wait_for
from streamer.client import FrameSender, PoseSubscriber
from streamer.frames import Pose
from streamer.wire.protocol import Encoder

DISTURBED_S = 0.3  # without a pose of the steady actor; on a machine that does other things meanwhile
SAID_S = 4.0

BOMBS = Fault("A message is nested a thousand deep, or is no message at all", "It is refused; nobody else notices", "-")
CONTROL = Fault("A control request is nested a thousand deep", "A reply that names what is wrong", "-")
UNREAD = Fault("Nobody reads what the server logs", "Poses go on; lines are dropped", "-")
BOOKS = Fault(
    "Frames are lost, late, doubled, spoiled, or come in bursts",
    "Poses go on; messages in = poses + superseded + skipped + rejected, at any time",
    "-",
)
NAMES = Fault("Ever new names of actors, by and by", "A subscriber to all hears each of them", "-")
LEAVE = Fault("A user's message on the output looks like a leave", "A recording goes on", "-")
TWICE = Fault("A second server on the same ipc path", "It is refused in one line, the first goes on", "-")
RESTART = Fault("The server is started anew, with --skeletons", "The same bones, from the first frame", "-")
NOBODY = Fault("hpstm listen, and no server is there", "It says so", f"said within {SAID_S:g} s")

DEPTH = 1000
EVERY_S = 0.05  # between two bombs


def value(name: str, text: str, most: float = np.inf, least: float = -np.inf, counts: str = "") -> Bar:
    """A bar on what a case told under that name."""
    return Bar(text, lambda told: float(told.get(name, float("nan"))), most, least, counts)


UNDISTURBED = (
    value("finite", "poses of the steady actor that are finite, share", 1.0, 1.0),
    value("silence_s", "longest time without a pose of the steady actor, s", DISTURBED_S),
)


def nested(depth: int = DEPTH) -> bytes:
    """msgpack of lists in lists."""
    return b"\x91" * depth + b"\x00"


def _bombs() -> list[bytes]:
    name, _, body = Encoder().frame(noisy_frames(60)[0]).partition(b"\0")
    fields = msgpack.unpackb(body)
    out = [b"frame.a\0" + nested(), b"\xff" * 50, b"frame.a\0" + b"\xdd\xff\xff\xff\xff"]
    for key in ("actor", "v", "positions", "t_ns"):
        # A map whose value is packed by hand: msgpack itself refuses to nest so deep.
        rest = b"".join(msgpack.packb(k) + msgpack.packb(v) for k, v in fields.items() if k != key)
        out.append(name + b"\0" + bytes([0x80 | len(fields)]) + msgpack.packb(key) + nested() + rest)
    return out


def _status(server: ServerProcess) -> dict[str, Any]:
    told = server.status(timeout_s=10.0)
    if told is None:
        raise ServerFailed("the server did not say how it is within 10 s")
    return told


def _play_bombs(server: ServerProcess, seconds: float) -> dict[str, float]:
    bombs, sent = _bombs(), 0
    before = sum(_status(server)["rejected"].values())
    with steady(server) as watch, FrameSender(server.in_endpoint) as sender:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sender.send_bytes(bombs[sent % len(bombs)])
            sent += 1
            time.sleep(EVERY_S)
        time.sleep(0.5)
        told = _status(server)
    refused = sum(told["rejected"].values()) - before
    return {**watch.told(), "loop_errors": told["counters"]["loop_errors"], "unnamed": sent - refused}


def wire_bombs(seconds: float) -> dict[str, float]:
    """Messages that are none, twenty a second."""
    with ServerProcess() as server:
        return _play_bombs(server, seconds)


def control_bombs(seconds: float) -> dict[str, float]:
    """Each request must be answered, and the last good one after them, too."""
    answered = 0
    head = b"\x82" + msgpack.packb("v") + msgpack.packb(1)
    requests = [nested(), head + msgpack.packb("cmd") + nested(), b"", b"\xff" * 100]
    with ServerProcess() as server:
        for request in requests:
            answered += _asked(server.control_endpoint, request)
        alive = server.status(timeout_s=2.0) is not None
    return {"unanswered": len(requests) - answered, "alive": alive}


def _asked(endpoint: str, request: bytes) -> bool:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(request)
        return bool(socket.poll(2000))


def stderr_unread(seconds: float) -> dict[str, float]:
    """Bombs, each of which may be logged, to a server whose stderr is a full pipe."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 65536)  # until it is full
        except BlockingIOError:
            os.set_blocking(writer, True)
        server = ServerProcess()
        server.stderr = writer
        with server:
            return _play_bombs(server, seconds)
    finally:
        os.close(reader)
        os.close(writer)


def books(seconds: float) -> dict[str, float]:
    """Two actors with loss, lateness, duplicates, spoiled frames and bursts; the books are read meanwhile."""
    rng, motion = np.random.default_rng(1), noisy_frames(600)
    off, polls, n = 0.0, 0, 0
    with ServerProcess() as server, steady(server) as watch, FrameSender(server.in_endpoint) as sender:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(int(rng.choice([1, 1, 1, 30]))):  # now and then half a second at once
                frame = frame_of("rough", n, motion[n % len(motion)])
                draw, n = rng.random(), n + 1
                if draw < 0.05:
                    continue  # lost
                frame.t_ns -= round(1e8 * (draw < 0.1))  # late
                if draw > 0.95:
                    frame.positions = frame.positions[:5]
                for _ in range(1 + (draw > 0.9)):
                    sender.send(frame)
            time.sleep(1 / 60)
            if n % 7 == 0:
                told, polls = _status(server), polls + 1
                kept = told["books"]
                off = max(off, abs(2 * kept["messages_in"] - sum(kept.values())))
        told = _status(server)
    return {**watch.told(), "off": off, "polls": polls, "superseded": told["books"]["superseded"],
            "rejected": told["books"]["rejected"]}  # fmt: skip


def many_names(seconds: float, names: int = 300, at_once: int = 20) -> dict[str, float]:
    """One subscriber to all; twenty actors at a time, each for a fifth of a second, the last twenty for longer.

    Of those that pass so quickly a busy machine misses some; the last must be heard.
    """
    motion, heard = noisy_frames(60), set()
    with (
        ServerProcess(["--evict", "1"]) as server,
        PoseSubscriber(server.out_endpoint) as subscriber,
        FrameSender(server.in_endpoint) as sender,
    ):
        wait_for(lambda: _status(server)["counters"]["subscriptions"], "the subscription")
        for first in range(0, names, at_once):
            group = [f"n{k}" for k in range(first, first + at_once)]
            is_last = first + at_once >= names
            for n in range(round(60 * max(3.0, seconds)) if is_last else 12):
                for name in group:
                    sender.send(frame_of(name, n, motion[n % len(motion)]))
                end = time.monotonic() + 1 / 60
                while (left_s := end - time.monotonic()) > 0:
                    pose = subscriber.receive(left_s)
                    if pose is not None:
                        heard.add(pose.actor)
    return {"heard": len(heard) / names, "last": len(heard.intersection(group)) / at_once}


def looks_like_a_leave(seconds: float) -> dict[str, float]:
    """Somebody records the input; another sends the bytes of a leave as a message of his own."""
    with ServerProcess() as server, zmq.Context() as context, steady(server):
        recorder, other = context.socket(zmq.SUB), context.socket(zmq.XSUB)
        for socket in (recorder, other):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(server.out_endpoint)
        recorder.subscribe(b"frame.")
        wait_for(lambda: recorder.poll(100), "frames to record")
        for message in (b"\x02frame.", b"\x02", b"\x07frame."):
            other.send(message)
        time.sleep(0.5)
        while recorder.poll(0):
            recorder.recv()
        heard = sum(bool(recorder.poll(200)) and len(recorder.recv()) > 0 for _ in range(20))
        recorder.close()
        other.close()
    return {"heard": heard / 20}


def ipc_twice(seconds: float) -> dict[str, float]:
    """The second must end with exit code 2 while the first goes on."""
    with TemporaryDirectory(prefix="hpstm-") as folder:
        ends = [f"ipc://{folder}/{n}" for n in range(3)]
        with ServerProcess(endpoints=ends) as server, steady(server) as watch:
            where = [word for pair in zip(("--in", "--out", "--control"), ends) for word in pair]
            code = _exit_code(["serve", *where], seconds)
            time.sleep(0.5)
            after = _status(server)["counters"]["messages_in"]
            time.sleep(0.5)
            goes_on = _status(server)["counters"]["messages_in"] > after
    return {**watch.told(), "exit_code": code, "goes_on": goes_on}


def _exit_code(words: Sequence[str], seconds: float) -> float:
    command = [sys.executable, "-m", "streamer", *words]
    with ChildProcess("second server", command) as child:
        end = time.monotonic() + max(10.0, seconds)
        while child.exit_code is None and time.monotonic() < end:
            time.sleep(0.05)
        return float("nan") if child.exit_code is None else child.exit_code


def kept_skeleton(seconds: float) -> dict[str, float]:
    """The bones measured before a restart, beside those of the first pose after it."""
    with TemporaryDirectory(prefix="hpstm-") as folder:
        _, before = _first_and_last(folder)
        after, _ = _first_and_last(folder)
        files = len(list(Path(folder).glob("*.json")))
    apart_mm = 1e3 * float(np.linalg.norm(before.offsets_m - after.offsets_m, axis=-1).max())
    return {"apart_mm": apart_mm, "tracking": after.status == "tracking", "files": files,
            "version": after.skeleton_version - before.skeleton_version}  # fmt: skip


def _first_and_last(folder: str) -> tuple[Pose, Pose]:
    """Poses of a server that keeps skeletons in ``folder``, from its first to when the bones are known and saved."""
    with ServerProcess(["--skeletons", folder]) as server, steady(server) as watch:
        wait_for(lambda: watch.poses[-1].status == "tracking", "the bones to be measured", 20.0)
        time.sleep(1.5)
    return watch.poses[0], watch.poses[-1]


def listen_to_nobody(seconds: float) -> dict[str, float]:
    """Seconds until ``hpstm listen`` says a word."""
    command = [sys.executable, "-m", "streamer", "listen", "--out", free_endpoints(1)[0]]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    started = time.monotonic()
    assert process.stderr is not None
    try:
        poller = zmq.Poller()
        poller.register(process.stderr.fileno(), zmq.POLLIN)
        said = bool(poller.poll(8000))
        taken_s = time.monotonic() - started
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    return {"said_s": taken_s if said else float("nan")}


def _case(measure: Callable[[float], dict[str, float]], fault: Fault, *bars: Bar) -> ServerCase:
    return ServerCase(measure.__name__.replace("_", "-"), fault, measure, bars)


NO_ERROR = value("loop_errors", "unexpected errors in the loop", 0)
CASES = (
    _case(wire_bombs, BOMBS, *UNDISTURBED, NO_ERROR,
          value("unnamed", "bad messages that were not counted as rejected", 0, counts="rejected")),
    _case(control_bombs, CONTROL, value("unanswered", "requests without a reply", 0),
          value("alive", "status is answered afterwards", 1, 1)),
    _case(stderr_unread, UNREAD, *UNDISTURBED, NO_ERROR),
    _case(books, BOOKS, value("finite", "poses of the steady actor that are finite, share", 1.0, 1.0),
          value("off", "messages that the books miss, most at any time", 0),
          value("polls", "times that the books were read", least=10),
          value("superseded", "frames superseded", least=1, counts="superseded"),
          value("rejected", "frames rejected", least=1, counts="rejected")),
    _case(many_names, NAMES, value("last", "of the last twenty names, share that was heard", 1, 1)),
    _case(looks_like_a_leave, LEAVE, value("heard", "frames recorded afterwards, share", least=0.95)),
    _case(ipc_twice, TWICE, *UNDISTURBED, value("exit_code", "exit code of the second", 2, 2),
          value("goes_on", "the first takes frames afterwards", 1, 1)),
    _case(kept_skeleton, RESTART, value("apart_mm", "change of the skeleton, mm", 0.001),
          value("tracking", "first pose is tracking", 1, 1), value("files", "skeletons kept", 1, 1),
          value("version", "difference of the skeleton's version", 0, 0)),
    _case(listen_to_nobody, NOBODY, value("said_s", "until it says so, s", SAID_S)),
)  # fmt: skip
