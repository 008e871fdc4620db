"""A steady actor through a real server, watched while something else happens to that server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from threading import Event, Thread

import numpy as np

from bench.drive import noisy_frames
from bench.service.child import ServerFailed, ServerProcess
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import now_ns
from streamer.frames import Frame, Pose

STEADY = "steady"
RATE_HZ = 60.0
SLACK_S = 10.0  # for a subscription to become known, on a loaded machine
MOTION_S = 10.0  # that repeat


class Watch:
    """What came of the steady actor: poses and when each came [s, of time.monotonic]."""

    def __init__(self) -> None:
        self.poses: list[Pose] = []
        self.at_s: list[float] = []
        self.sent = 0

    def told(self) -> dict[str, float]:
        """Share of finite poses, the longest time without one."""
        good = [np.isfinite(pose.positions).all() and np.isfinite(pose.rotations).all() for pose in self.poses]
        return {
            "finite": float(np.mean(good)) if good else float("nan"),
            "silence_s": float(np.diff(self.at_s).max()) if len(good) > 1 else float("nan"),
            "poses": len(good),
        }


@contextmanager
def steady(server: ServerProcess, actor: str = STEADY, rate_hz: float = RATE_HZ) -> Iterator[Watch]:
    """Frames of one actor at a steady rate and its poses, from threads of this process; poses are there inside."""
    watch, stop = Watch(), Event()

    def listen() -> None:
        with PoseSubscriber(server.out_endpoint, actor, every=True, curve=server.curve) as subscriber:
            while not stop.is_set():
                pose = subscriber.receive(0.1)
                if pose is not None:
                    watch.poses.append(pose)
                    watch.at_s.append(time.monotonic())

    def send() -> None:
        with FrameSender(server.in_endpoint, curve=server.curve) as sender:
            start = time.monotonic()
            for frame in cycle(noisy_frames(round(MOTION_S * rate_hz), rate_hz)):
                if stop.wait(max(0.0, start + watch.sent / rate_hz - time.monotonic())):
                    return
                sender.send(replace(frame, actor=actor, seq=watch.sent, t_ns=now_ns()))
                watch.sent += 1

    threads = [Thread(target=listen, daemon=True), Thread(target=send, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(watch.poses) > RATE_HZ / 2, "the steady actor's poses")
        yield watch
    finally:
        stop.set()
        for thread in threads:
            thread.join(SLACK_S)


def wait_for(true: Callable[[], object], what: str, seconds: float = SLACK_S) -> None:
    """Returns as soon as ``true()``. Raises ServerFailed after ``seconds``."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise ServerFailed(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def frame_of(actor: str, n: int, frame: Frame) -> Frame:
    """The same body under another name, now."""
    return replace(frame, actor=actor, seq=n, t_ns=now_ns())
