"""The processes around the server in ``bench soak --server``: a source of a crowd, and a subscriber that gets frozen.

Each is started as ``python -m bench.service.soak_roles ROLE JSON`` by soak_server.py and talks with it over a pair of
sockets: one word in at a time, one JSON map out. All stamps that are compared are of ``clock.now_ns``.

    crowd ==> server ==> reader
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import zmq

from bench.drive import noisy_frames
from bench.service.wire_roles import RealTime
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame

MOTION_S = 20.0  # that repeats; its ends do not meet, which is a jump once in a while
LOST, LATE, TWICE = 0.01, 0.005, 0.005  # of all frames
LATE_NS = SECOND_NS // 20
FRESH_NS = SECOND_NS // 10
AWAY_NS = SECOND_NS // 2  # a reader that heard nothing for so long was frozen

# What a source may be told to do for a while, to each of its frames.
SPOILT: dict[str, Callable[[Frame], Frame]] = {
    "zeros": lambda frame: replace(frame, positions=np.zeros_like(frame.positions)),
    "nobody": lambda frame: replace(frame, positions=np.full_like(frame.positions, np.nan)),
    "metres-off": lambda frame: replace(frame, positions=frame.positions * np.float32(1e3)),
    "half": lambda frame: replace(frame, positions=frame.positions[:11]),
    "frozen": lambda frame: frame,  # the same frame again and again: see crowd
}


def name_of(number: int) -> str:
    """Of actor ``number`` of the crowd."""
    return f"crowd-{number}"


class Line:
    """This end of the pair of sockets."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def heard(self) -> str:
        """The next word; "" when there is none."""
        return self._socket.recv().decode() if self._socket.poll(0) else ""

    def tell(self, **said: int | float | str) -> None:
        self._socket.send(json.dumps(said).encode())


@contextmanager
def joined(endpoint: str) -> Iterator[Line]:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(endpoint)
        yield Line(socket)


def crowd(line: str, endpoint: str, actors: int, rate_hz: float, seed: int) -> None:
    """Frames of each actor at a rate, from a clock that starts at 0, with loss, lateness and duplicates, until "stop".

    A name of SPOILT spoils every frame until "good"; "back" sets the clock back by five seconds.
    """
    # Its own blackouts are left out: an actor that is lost is no fault of anybody, but would look like one.
    motion = [f for f in noisy_frames(round(MOTION_S * rate_hz), rate_hz) if np.isfinite(f.positions).any()]
    rng, clock = np.random.default_rng(seed), RealTime()
    with joined(line) as boss, FrameSender(endpoint, wait_s=10.0) as sender:
        start_ns, shift_ns, spoil, held = now_ns(), 0, "", 0
        boss.tell(started_ns=start_ns)
        for n in count():
            word = boss.heard()
            if word == "stop":
                break
            if word == "back":
                shift_ns -= 5 * SECOND_NS
            elif word:
                spoil, held = ("" if word == "good" else word), n
            if word:
                boss.tell(at_ns=now_ns(), seq=n)
            due_ns = start_ns + round(n * SECOND_NS / rate_hz)
            clock.wait_until(due_ns)
            lot = rng.random(actors)
            for a in range(actors):
                frame = motion[((held if spoil == "frozen" else n) + 37 * a) % len(motion)]
                frame = replace(frame, actor=name_of(a), seq=n, t_ns=due_ns - start_ns + shift_ns)
                _send(sender, SPOILT[spoil](frame) if spoil else frame, float(lot[a]))
        boss.tell(sent=sender.sent, dropped=sender.dropped)


def _send(sender: FrameSender, frame: Frame, lot: float) -> None:
    """As the network does: most once, some never, some too late, some twice."""
    if lot < LOST:
        return
    if lot < LOST + LATE:
        frame = replace(frame, t_ns=frame.t_ns - LATE_NS)
    sender.send(frame)
    if lot > 1.0 - TWICE:
        sender.send(frame)


def reader(line: str, endpoint: str, actor: str) -> None:
    """Reads the newest pose of one actor until "stop"; tells when it heard something again after a pause."""
    with joined(line) as boss, PoseSubscriber(endpoint, actor) as subscriber:
        boss.tell(started_ns=now_ns())
        last_ns = now_ns()
        while boss.heard() != "stop":
            pose = subscriber.receive(0.2)
            if pose is None:
                continue
            arrived_ns = now_ns()
            if arrived_ns - last_ns > AWAY_NS:
                boss.tell(arrived_ns=arrived_ns, age_s=(arrived_ns - pose.published_ns) / SECOND_NS)
            last_ns = arrived_ns
        boss.tell(stale=subscriber.stale)


ROLES: dict[str, Callable[..., None]] = {"crowd": crowd, "reader": reader}

if __name__ == "__main__":
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
