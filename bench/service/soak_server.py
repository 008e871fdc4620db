"""``hpstm bench soak --server MINUTES``: a crowd through the real server, process by process, with faults one by one.

Four questions. Do the books balance, to the message, whenever they are read? Are all actors' poses back, fresh and
finite, within a second of each fault? Does the server's memory grow? Did anything unexpected happen in its loop?

    crowd (20 actors, 60 Hz; loss, late, double)  ==>  server  ==>  Monitor (here), reader (gets frozen)
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import psutil
import zmq
from rich.console import Console
from rich.table import Table

from bench.drive import noisy_frames
from bench.report import machine, machine_line
from bench.service.child import ChildProcess, ServerFailed, ServerProcess
from bench.service.soak_roles import name_of
from streamer.client import FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame

ACTORS, RATE_HZ = 20, 60.0
FRESH_NS = SECOND_NS // 10
RECOVERY_S, GROWTH_MIB_H = 1.0, 1.0  # the bars
GROWTH_FROM_S = 600.0  # measured for less after the warm-up, growth an hour is noise
WARMUP_S = 120.0  # or a third of the time, if that is shorter
CALM_S = 5.0  # between two faults
GIVE_UP_S = 10.0
MIB = 1024 * 1024


class Monitor:
    """Hears every pose: of each actor, when its newest fresh and finite one was made."""

    def __init__(self, endpoint: str, actors: int) -> None:
        self._endpoint, self._names = endpoint, [name_of(a) for a in range(actors)]
        self._stop, self._lock = Event(), Lock()
        self._good_ns: dict[str, int] = {}
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
                        self._good_ns[pose.actor] = pose.received_ns

    def back_after(self, since_ns: int) -> float:
        """Seconds from then until every actor had a good pose of a frame that came later. NaN: not in GIVE_UP_S."""
        while now_ns() - since_ns < GIVE_UP_S * SECOND_NS:
            with self._lock:
                newest = [self._good_ns.get(name, 0) for name in self._names]
            if min(newest) > since_ns:
                return (now_ns() - since_ns) / SECOND_NS
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
    away: list[dict[str, Any]] = field(default_factory=list)


class Soak:
    """The processes, and one method for each fault: it ends when the fault does, and returns when that was [ns]."""

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
        self.notes.away += [said for said in self.reader.heard() if "away_s" in said]
        self.reader.stop()

    def abandon(self) -> None:
        """Whatever happened: no process stays."""
        self.source.close()
        self.reader.close()

    # -- faults

    def source_restarts(self) -> int:
        """It ends in order; another starts, its clock and its seq at 0."""
        self.notes.sent += self.source.stop()["sent"]
        self.source = self._new_source()
        return self.source.started_ns

    def source_killed(self) -> int:
        self.source.close()
        self.notes.killed += 1
        self.source = self._new_source()
        return self.source.started_ns

    def clock_steps_back(self) -> int:
        self.source.tell("back")
        return now_ns()

    def spoilt(self, kind: str, seconds: float) -> int:
        """All frames are of a kind of soak_roles.SPOILT for a while."""
        self.source.tell(kind)
        self.source.hear()
        time.sleep(seconds)
        self.source.tell("good")
        return int(self.source.hear()["at_ns"])

    def reader_frozen(self) -> int:
        """A subscriber stops reading for two seconds; nobody else may notice, and it must find a fresh pose."""
        psutil.Process(self.reader.child.pid).send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        psutil.Process(self.reader.child.pid).send_signal(signal.SIGCONT)
        return now_ns()

    def server_stopped(self) -> int:
        """The server itself is away for half a second: what came meanwhile waits, and is too much at once."""
        self._memory.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        self._memory.send_signal(signal.SIGCONT)
        return now_ns()

    def flood(self) -> int:
        """One actor more, 3000 frames at once."""
        start_ns = now_ns()
        for n in range(3000):
            self._spare.send(_of(self._motion[n % len(self._motion)], "flood", n, start_ns + n * 1_000_000))
        return now_ns()

    def no_messages(self) -> int:
        """Half a thousand that are none: nested too deep, cut short, not msgpack, empty."""
        bad = [b"frame.a\0" + b"\x91" * 1000 + b"\x00", b"\xff" * 40, b"", b"frame.a\0\x81\xa1", b"pose.a\0\x80"]
        for n in range(500):
            self._spare.send_bytes(bad[n % len(bad)])
        return now_ns()

    def strange_requests(self) -> int:
        """Nobody who asks nonsense may keep the others from an answer."""
        for nonsense in (b"\x91" * 1000 + b"\x00", b"", msgpack.packb({"v": 1, "cmd": ["status"]})):
            with zmq.Context() as context, context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(self.server.control_endpoint)
                socket.send(nonsense)
                if not socket.poll(int(GIVE_UP_S * 1000)):
                    return 0  # never over
        return now_ns()

    def strangers(self) -> int:
        """Five hundred names in half a second: more than there is room for."""
        for n in range(500):
            self._spare.send(_of(self._motion[n % len(self._motion)], f"stranger-{self._seed}-{n}", 0, now_ns()))
            time.sleep(0.001)
        return now_ns()

    def faults(self) -> dict[str, Callable[[], int]]:
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
                since_ns = fault()
                back_s = self.monitor.back_after(since_ns) if since_ns else float("nan")
                self.notes.recovered_s.setdefault(name, []).append(back_s)
                if screen is not None:
                    screen.print(f"{time.monotonic() - self._started:7.1f} s  {name}: back after {back_s:.2f} s, "
                                 f"{self.notes.resident_mib[-1]:.1f} MiB")  # fmt: skip


def _of(frame: Frame, actor: str, seq: int, t_ns: int) -> Frame:
    return replace(frame, actor=actor, seq=seq, t_ns=t_ns)


def growth_mib_h(at_s: Sequence[float], resident_mib: Sequence[float]) -> float:
    """Slope [MiB an hour] after the warm-up: median of the slopes between its first and its second half's readings."""
    t, y = np.asarray(at_s), np.asarray(resident_mib)
    after = t >= min(WARMUP_S, t[-1] / 3)
    t, y = t[after], y[after]
    half = len(t) // 2
    if half < 1:
        return float("nan")
    return float(np.median((y[-half:] - y[:half]) / (t[-half:] - t[:half]))) * 3600.0


@contextmanager
def _soaking(actors: int, rate_hz: float, arguments: Sequence[str]) -> Iterator[Soak]:
    with ServerProcess(["--max-actors", str(actors + 12), "--evict", "5", *arguments]) as server:
        with Monitor(server.out_endpoint, actors) as monitor:
            soak = Soak(server, monitor, actors, rate_hz)
            try:
                yield soak
            finally:
                soak.abandon()


def run(
    minutes: float,
    actors: int = ACTORS,
    rate_hz: float = RATE_HZ,
    calm_s: float = CALM_S,
    arguments: Sequence[str] = (),
    screen: Console | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Plays it for that long, or until ``stopped()``. ``arguments``: further ones of serve. Raises ServerFailed."""
    started = time.monotonic()
    with _soaking(actors, rate_hz, arguments) as soak:
        if not np.isfinite(soak.monitor.back_after(now_ns())):
            raise ServerFailed(f"no poses of all {actors} actors within {GIVE_UP_S:g} s")
        soak.play(minutes * 60.0, calm_s, screen, stopped)
        soak.close()
        told = soak.look()
        notes, monitor = soak.notes, soak.monitor
        result = {
            "benchmark": "soak server",
            "machine": machine(),
            "settings": {"minutes_asked": minutes, "actors": actors, "rate_hz": rate_hz, "calm_s": calm_s},
            "took_s": time.monotonic() - started,
            "poses": monitor.poses, "broken": monitor.broken,
            "faults": {name: {"times": len(s), "worst_s": float(np.max(s)), "median_s": float(np.median(s))}
                       for name, s in notes.recovered_s.items()},
            "books": told["books"], "books_read": len(notes.off), "books_off": int(np.abs(notes.off).max()),
            "sent": notes.sent, "killed": notes.killed, "lost_on_the_way": notes.sent - told["books"]["messages_in"],
            "rejected": told["rejected"], "filter_events": told.get("filter_events", {}),
            "loop_errors": told["counters"]["loop_errors"],
            "away": notes.away,
            "growth_mib_h": growth_mib_h(notes.at_s, notes.resident_mib),
            "resident_mib": {"first": notes.resident_mib[0], "last": notes.resident_mib[-1]},
            "series": {"at_s": notes.at_s, "resident_mib": notes.resident_mib},
        }  # fmt: skip
    return {**result, "bars": bars(result)}


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every bar with what was measured; growth only where it was watched for long enough."""
    waits = [fault["worst_s"] for fault in result["faults"].values()] or [float("nan")]
    ages = [away["age_s"] for away in result["away"]]
    held = [
        ("messages that the books miss, most at any reading", result["books_off"], 0),
        ("poses that are not finite", result["broken"], 0),
        ("unexpected errors in the loop", result["loop_errors"], 0),
        ("longest until all actors are back after a fault, s", float(np.max(waits)), RECOVERY_S),
    ]
    if ages:
        held.append(("age of a frozen subscriber's first pose, most, s", max(ages), FRESH_NS / SECOND_NS))
    if not result["killed"]:
        held.append(("messages sent, less those in the books", result["lost_on_the_way"], 0))
    if result["took_s"] - min(WARMUP_S, result["took_s"] / 3) >= GROWTH_FROM_S:
        held.append(("growth of memory after the warm-up, MiB an hour", result["growth_mib_h"], GROWTH_MIB_H))
    return [{"text": text, "value": value, "most": most, "held": bool(value <= most)} for text, value, most in held]


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints recovery by fault, the bars, and the books."""
    settings = result["settings"]
    table = Table(
        title=f"{settings['actors']} actors at {settings['rate_hz']:g} Hz through the server for "
        f"{result['took_s'] / 60:.1f} minutes: {result['books']['messages_in']:,} messages, {result['poses']:,} poses",
        caption=machine_line(result["machine"]), title_justify="left", caption_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column("fault")
    for name in ("times", "back after, median s", "worst s"):
        table.add_column(name, justify="right")
    for name, fault in result["faults"].items():
        table.add_row(name, str(fault["times"]), f"{fault['median_s']:.2f}", f"{fault['worst_s']:.2f}")
    screen.print(table)
    for bar in result["bars"]:
        word = "held" if bar["held"] else "NOT HELD"
        screen.print(f"{word}: {bar['text']}: {bar['value']:.3g}, at most {bar['most']:g}")
    screen.print("books: " + ", ".join(f"{name} {n:,}" for name, n in result["books"].items())
                 + f"; read {result['books_read']} times; sent {result['sent']:,}")  # fmt: skip
    screen.print("rejected: " + (", ".join(f"{name} {n:,}" for name, n in result["rejected"].items()) or "none"))
    events = ", ".join(f"{name} {n:,}" for name, n in result["filter_events"].items()) or "none"
    memory = result["resident_mib"]
    screen.print(f"noticed: {events}; memory {memory['first']:.1f} to {memory['last']:.1f} MiB, "
                 f"{result['growth_mib_h']:+.2f} MiB an hour after the warm-up")  # fmt: skip
