"""What the tests of a running server share: a body, frames at a steady rate, waiting for something, a clock to set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import numpy as np

from bench.service.child import ServerProcess
from bench.service.wire_roles import RealTime
from model.skeleton import ancestor_matrix, rest_offsets
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import now_ns
from streamer.frames import Frame, Pose

BODY = (ancestor_matrix() @ rest_offsets() + (0.0, 0.9, 0.0)).astype(np.float32)  # rest pose, standing on the ground


def body_frame(actor: str, n: int, t_ns: int | None = None, **changes: Any) -> Frame:
    """A frame of somebody standing, swaying a little."""
    positions = BODY + np.float32(0.05 * np.sin(0.1 * n))
    fields = {"positions": positions, "t_ns": now_ns() if t_ns is None else t_ns, **changes}
    return Frame(actor=actor, seq=n, **fields)


@contextmanager
def streaming(server: ServerProcess, actor: str = "steady", rate_hz: float = 120.0) -> Iterator[list[int]]:
    """Frames of one actor at a steady rate from a thread; the list's one number counts them."""
    stop, sent = Event(), [0]

    def send() -> None:
        with FrameSender(server.in_endpoint) as sender:
            start = time.perf_counter()
            while not stop.wait(max(0.0, start + sent[0] / rate_hz - time.perf_counter())):
                sender.send(body_frame(actor, sent[0]))
                sent[0] += 1

    thread = Thread(target=send, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join(5)


@contextmanager
def subscribed(server: ServerProcess, actor: str | None = None, every: bool = True) -> Iterator[PoseSubscriber]:
    """A subscriber whom the server has seen: nothing published from now on is missed."""
    before = counter(server, "subscriptions")
    with PoseSubscriber(server.out_endpoint, actor, every=every) as subscriber:
        wait_until(lambda: counter(server, "subscriptions") >= before + (2 if every or actor else 1))
        yield subscriber


def poses(subscriber: PoseSubscriber, seconds: float = 0.5, least: int = 0) -> list[Pose]:
    """What comes within ``seconds``, or up to 10 s until there are ``least``."""
    taken: list[Pose] = []
    start = time.monotonic()
    while time.monotonic() < start + (10.0 if len(taken) < least else seconds):
        pose = subscriber.receive(timeout_s=0.05)
        if pose is not None:
            taken.append(pose)
        if least and len(taken) >= least:
            break
    return taken


def next_pose(subscriber: PoseSubscriber, seconds: float = 60.0) -> Pose:
    """The next one; by default of a source that has to be started first, on a machine as busy as it likes."""
    pose = subscriber.receive(seconds)
    assert pose is not None, "no pose came"
    return pose


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns as soon as ``true()``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def status(server: ServerProcess) -> dict[str, Any]:
    said = server.status(timeout_s=5.0)
    assert said is not None
    assert said["ok"]
    return said


def counter(server: ServerProcess, name: str) -> int:
    return int(status(server)["counters"][name])


def rejected(server: ServerProcess) -> dict[str, int]:
    found: dict[str, int] = status(server)["rejected"]
    return found


class SetTime(RealTime):
    """A clock that passes only when told, so that what takes how long is exact on a machine as busy as it likes."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.now_ns = lambda: self.time_ns  # type: ignore[method-assign]

    def wait_until(self, when_ns: int) -> None:
        self.time_ns = max(self.time_ns, when_ns)

    def sleep(self, seconds: float) -> None:
        self.time_ns += round(seconds * 1e9)


@contextmanager
def beside(work: Callable[[Event], None]) -> Iterator[None]:
    """Runs ``work`` in a thread until the end; it is told to stop by the event."""
    stop = Event()
    thread = Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
