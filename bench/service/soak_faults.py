"""The faults of ``bench soak --server``, one method each, and the processes that they happen to."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import numpy as np
import psutil
import zmq
from rich.console import Console

from bench.drive import noisy_frames
from bench.service.child import ChildProcess, ServerFailed, ServerProcess
from bench.service.soak_roles import FRESH_NS, name_of
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame

GIVE_UP_S = 10.0
MIB = 1024 * 1024


class Over(NamedTuple):
    """When a fault was over [ns], and the first frame of the crowd that is good again."""

    at_ns: int
    seq: int = 0


class Monitor:
    """Hears every pose: of each actor, when its newest fresh and finite one was made."""

    def __init__(self, endpoint: str, actors: int) -> None:
        self._endpoint, self._names = endpoint, [name_of(a) for a in range(actors)]
        self._stop, self._lock = Event(), Lock()
        self._good: dict[str, tuple[int, int]] = {}  # received [ns], seq
        self.poses = self.broken = 0
        self._thread = Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(GIVE_UP_S)

    def _listen(self) -> None:
        with PoseSubscriber(self._endpoint, every=True) as subscriber:
            while not self._stop.is_set():
                pose = subscriber.receive(0.1)
                if pose is None:
                    continue
                self.poses += 1
                if not (np.isfinite(pose.positions).all() and np.isfinite(pose.rotations).all()):
                    self.broken += 1
                elif now_ns() - pose.published_ns < FRESH_NS and pose.status != "lost":
                    with self._lock:
                        self._good[pose.actor] = (pose.received_ns, pose.seq)

    def back_after(self, over: Over) -> float:
        """Seconds from then until every actor had a good pose of a frame that came later. NaN: not in GIVE_UP_S."""
        while now_ns() - over.at_ns < GIVE_UP_S * SECOND_NS:
            with self._lock:
                newest = [self._good.get(name, (0, 0)) for name in self._names]
            if all(received_ns > over.at_ns and seq >= over.seq for received_ns, seq in newest):
                return (now_ns() - over.at_ns) / SECOND_NS
            time.sleep(0.005)
        return float("nan")


class Partner:
    """A process of soak_roles and the pair of sockets to talk with it."""

    def __init__(self, role: str, **arguments: Any) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        words = json.dumps({"line": f"tcp://127.0.0.1:{port}", **arguments})
        self.child = ChildProcess(role, [sys.executable, "-m", "bench.service.soak_roles", role, words])
        self.child.__enter__()
        self.started_ns = int(self.hear(60.0)["started_ns"])

    def hear(self, within_s: float = GIVE_UP_S) -> dict[str, Any]:
        """The next thing that it says. Raises ServerFailed when there is none in time."""
        if not self._socket.poll(int(within_s * 1000)):
            self.child.check()
            raise ServerFailed(f"the {self.child.name} said nothing for {within_s:g} s")
        said: dict[str, Any] = json.loads(self._socket.recv())
        return said

    def heard(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        return [self.hear() for _ in iter(lambda: self._socket.poll(0), 0)]

    def tell(self, word: str) -> None:
        self._socket.send(word.encode())

    def stop(self) -> dict[str, Any]:
        """Its last words, after which it is gone."""
        self.tell("stop")
        said = self.hear()
        self.child.finish(GIVE_UP_S)
        self.close()
        return said

    def close(self) -> None:
        self.child.__exit__()
        self._context.destroy(linger=0)


@dataclass
class Notes:
    """What is noted on the way."""

    recovered_s: dict[str, list[float]] = field(default_factory=dict)  # of each fault, every time
    at_s: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    off: list[int] = field(default_factory=list)  # messages that the books miss, at each reading
    sent: int = 0  # by sources that ended in order
    killed: int = 0  # sources whose count died with them
    reader_back_s: list[float] = field(default_factory=list)  # of the frozen subscriber, to its first fresh pose


class Soak:
    """The processes, and one method for each fault: it ends when the fault does, and returns when."""

    def __init__(self, server: ServerProcess, monitor: Monitor, actors: int, rate_hz: float) -> None:
        self.server, self.monitor, self.actors, self.rate_hz = server, monitor, actors, rate_hz
        self.notes = Notes()
        self._seed = 0
        self._memory = psutil.Process(server.pid)
        self._started = time.monotonic()
        self.source = self._new_source()
        self.reader = Partner("reader", endpoint=server.out_endpoint, actor=name_of(0))
        self._spare = FrameSender(server.in_endpoint)
        self._motion = noisy_frames(round(rate_hz), rate_hz)

    def _new_source(self) -> Partner:
        self._seed += 1
        return Partner("crowd", endpoint=self.server.in_endpoint, actors=self.actors, rate_hz=self.rate_hz,
                       seed=self._seed)  # fmt: skip

    def close(self) -> None:
        self.notes.sent += self.source.stop()["sent"] + self._spare.sent
        self._spare.close()
        self.reader.heard()
        self.reader.stop()

    def abandon(self) -> None:
        """Whatever happened: no process stays."""
        self.source.close()
        self.reader.close()

    # -- faults

    def source_restarts(self) -> Over:
        """It ends in order; another starts, its clock and its seq at 0."""
        self.notes.sent += self.source.stop()["sent"]
        self.source = self._new_source()
        return Over(self.source.started_ns)

    def source_killed(self) -> Over:
        self.source.close()
        self.notes.killed += 1
        self.source = self._new_source()
        return Over(self.source.started_ns)

    def clock_steps_back(self) -> Over:
        self.source.tell("back")
        return self._said()

    def spoilt(self, kind: str, seconds: float) -> Over:
        """All frames are of a kind of soak_roles.SPOILT for a while."""
        self.source.tell(kind)
        self.source.hear()
        time.sleep(seconds)
        self.source.tell("good")
        return self._said()

    def _said(self) -> Over:
        """What the source says of when it did as it was told."""
        said = self.source.hear()
        return Over(said["at_ns"], said["seq"])

    def reader_frozen(self) -> Over:
        """A subscriber stops reading for two seconds; nobody else may notice, and it must find a fresh pose."""
        process = psutil.Process(self.reader.child.pid)
        self.reader.heard()  # of earlier pauses, which others made
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        process.send_signal(signal.SIGCONT)
        since_ns = now_ns()
        self.notes.reader_back_s.append((self.reader.hear()["arrived_ns"] - since_ns) / SECOND_NS)
        return Over(since_ns)

    def server_stopped(self) -> Over:
        """The server itself is away for half a second: what came meanwhile waits, and is too much at once."""
        self._memory.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        self._memory.send_signal(signal.SIGCONT)
        return Over(now_ns())

    def flood(self) -> Over:
        """One actor more, 3000 frames at once."""
        start_ns = now_ns()
        for n in range(3000):
            self._spare.send(_of(self._motion[n % len(self._motion)], "flood", n, start_ns + n * 1_000_000))
        return Over(now_ns())

    def no_messages(self) -> Over:
        """Half a thousand that are none: nested too deep, cut short, not msgpack, empty."""
        bad = [b"frame.a\0" + b"\x91" * 1000 + b"\x00", b"\xff" * 40, b"", b"frame.a\0\x81\xa1", b"pose.a\0\x80"]
        for n in range(500):
            self._spare.send_bytes(bad[n % len(bad)])
        return Over(now_ns())

    def strange_requests(self) -> Over:
        """Nobody who asks nonsense may keep the others from an answer."""
        for nonsense in (b"\x91" * 1000 + b"\x00", b"", msgpack.packb({"v": 1, "cmd": ["status"]})):
            with zmq.Context() as context, context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(self.server.control_endpoint)
                socket.send(nonsense)
                if not socket.poll(int(GIVE_UP_S * 1000)):
                    return Over(0)  # never over
        return Over(now_ns())

    def strangers(self) -> Over:
        """Five hundred names in half a second: more than there is room for."""
        for n in range(500):
            self._spare.send(_of(self._motion[n % len(self._motion)], f"stranger-{self._seed}-{n}", 0, now_ns()))
            time.sleep(0.001)
        return Over(now_ns())

    def faults(self) -> dict[str, Callable[[], Over]]:
        return {
            "source restarts, clock from 0": self.source_restarts,
            "all joints zero, 0.5 s": lambda: self.spoilt("zeros", 0.5),
            "subscriber frozen, 2 s": self.reader_frozen,
            "clock 5 s back": self.clock_steps_back,
            "500 messages that are none": self.no_messages,
            "nobody in sight, 2 s": lambda: self.spoilt("nobody", 2.0),
            "3000 frames at once": self.flood,
            "source killed": self.source_killed,
            "kilometres off, 0.5 s": lambda: self.spoilt("metres-off", 0.5),
            "server stopped, 0.5 s": self.server_stopped,
            "estimator frozen, 1 s": lambda: self.spoilt("frozen", 1.0),
            "500 new names": self.strangers,
            "half of the joints, 0.5 s": lambda: self.spoilt("half", 0.5),
            "control requests that are none": self.strange_requests,
        }

    # -- beside the faults

    def calm(self, seconds: float, stopped: Callable[[], bool]) -> None:
        """Good times: about once a second the books and the memory are read."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stopped():
            self.look()
            time.sleep(max(0.0, min(1.0, end - time.monotonic())))

    def look(self) -> dict[str, Any]:
        """The server's own account, its books and memory noted."""
        told = self.server.status(GIVE_UP_S)
        if told is None:
            self.server.check()
            raise ServerFailed(f"the server did not say how it is within {GIVE_UP_S:g} s")
        books = told["books"]
        self.notes.off.append(2 * books["messages_in"] - sum(books.values()))
        self.notes.at_s.append(time.monotonic() - self._started)
        self.notes.resident_mib.append(self._memory.memory_info().rss / MIB)
        return told

    def play(self, seconds: float, calm_s: float, screen: Console | None, stopped: Callable[[], bool]) -> None:
        """One fault after the other, with good times between them, for that long."""
        end = time.monotonic() + seconds
        while True:
            for name, fault in self.faults().items():
                self.calm(calm_s, stopped)
                if time.monotonic() > end or stopped():
                    return
                back_s = self.monitor.back_after(fault())
                self.notes.recovered_s.setdefault(name, []).append(back_s)
                if screen is not None:
                    screen.print(f"{time.monotonic() - self._started:7.1f} s  {name}: back after {back_s:.2f} s, "
                                 f"{self.notes.resident_mib[-1]:.1f} MiB")  # fmt: skip


def _of(frame: Frame, actor: str, seq: int, t_ns: int) -> Frame:
    return replace(frame, actor=actor, seq=seq, t_ns=t_ns)
