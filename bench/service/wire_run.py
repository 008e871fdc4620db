"""One stream from a source process through a server, or a bare forwarder, to a subscriber process: stamps and counts.

Latency is that of every frame that was due, counted from when it was due: a frame whose own pose never came (a newer
one overtook it, or it was skipped) is answered by the first pose that is at least as new.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.drive import Times, noisy_frames
from bench.report import Percentiles
from bench.service.child import ChildProcess, ServerFailed, ServerProcess, free_endpoints, make_key_folder
from bench.service.wire_roles import FLUSH_S, LEAD_NS, POSE_COLUMNS, SILENCE_S
from model.skeleton import J
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Pose
from streamer.wire.protocol import Encoder

Bools = npt.NDArray[np.bool_]

ENCRYPTED = "+curve"  # after a transport's name
TRANSPORTS = ("tcp", "ipc", "tcp" + ENCRYPTED)
SLACK_S = 60.0  # for a process to start and to end, on a loaded machine


@dataclass(frozen=True)
class Load:
    """What is sent: frames of each actor at a rate, for ``seconds`` that count after ``warmup_s`` that do not."""

    rate_hz: float
    seconds: float
    warmup_s: float
    actors: int = 1

    @property
    def warmup(self) -> int:
        """Frames of each actor that do not count."""
        return round(self.warmup_s * self.rate_hz)

    @property
    def ticks(self) -> int:
        """Frames of each actor in all."""
        return self.warmup + max(1, round(self.seconds * self.rate_hz))

    @property
    def give_up_s(self) -> float:
        """By when all of it must be over."""
        return self.ticks / self.rate_hz + LEAD_NS / SECOND_NS + FLUSH_S + SILENCE_S + SLACK_S


@dataclass(frozen=True)
class Stream:
    """What one run left behind, warm-up taken off.

    ``due_ns``, ``began_ns`` (T,): when each tick's frames were due, and when the source got to them. ``poses``: column
    of POSE_COLUMNS -> (N,), a row for each pose that came, ``seq`` counted from the first tick.
    """

    load: Load
    due_ns: Times
    began_ns: Times
    poses: dict[str, Times]
    skipped: int = 0  # by the server, under overload
    lost: int = 0  # messages, on the way in and on the way out, warm-up included

    @classmethod
    def read(cls, load: Load, folder: Path, **counts: int) -> Stream:
        with np.load(folder / "source.npz") as sent, np.load(folder / "subscriber.npz") as got:
            due_ns, began_ns, rows = sent["due_ns"], sent["began_ns"], got["poses"]
        skipped = sum(_skipped(rows[rows[:, 0] == actor], load.warmup) for actor in range(load.actors))
        rows = rows[rows[:, 1] >= load.warmup]
        poses = dict(zip(POSE_COLUMNS, rows.T.copy(), strict=True))
        poses["seq"] -= load.warmup
        return cls(load, due_ns[load.warmup :], began_ns[load.warmup :], poses, skipped, **counts)

    @property
    def frames(self) -> int:
        return len(self.due_ns) * self.load.actors

    @property
    def overtaken(self) -> int:
        """Frames without a pose of their own: skipped, lost, or passed over because a newer one was there."""
        return self.frames - len(self.poses["seq"])

    def latency(self) -> Percentiles:
        """Of every frame that was answered [ms], from when it was due.

        Raises:
            ServerFailed: none was.
        """
        return Percentiles.of_ns(self.latencies_ns())

    def latencies_ns(self) -> Times:
        found = []
        for actor in range(self.load.actors):
            mine = self.poses["actor"] == actor
            arrived, answered = first_answers(len(self.due_ns), self.poses["seq"][mine], self.poses["arrived_ns"][mine])
            found.append((arrived - self.due_ns)[answered])
        latencies = np.concatenate(found)
        if not len(latencies):
            raise ServerFailed(f"no pose came back of {self.frames} frames")
        return latencies

    def jitter_ms(self) -> dict[str, float]:
        """How far the time between two poses of an actor is from the nominal: its deviation, and p99 of its size."""
        apart = [np.diff(self.poses["arrived_ns"][self.poses["actor"] == a]) for a in range(self.load.actors)]
        off = np.concatenate(apart) / 1e6 - 1e3 / self.load.rate_hz
        if not len(off):
            return {"std": float("nan"), "p99": float("nan")}
        return {"std": float(off.std()), "p99": float(np.percentile(np.abs(off), 99))}

    def stages(self) -> dict[str, Percentiles]:
        """Where the latency of the poses that came was spent, from one stamp to the next."""
        poses, tick = self.poses, self.poses["seq"]
        stamps = {
            "source late": self.began_ns[tick] - self.due_ns[tick],
            "source → received": poses["received_ns"] - self.began_ns[tick],
            "received → inferred": poses["inferred_ns"] - poses["received_ns"],
            "inferred → published": poses["published_ns"] - poses["inferred_ns"],
            "published → arrived": poses["arrived_ns"] - poses["published_ns"],
        }
        return {name: Percentiles.of_ns(spent) for name, spent in stamps.items()}


def first_answers(ticks: int, seq: Times, arrived_ns: Times) -> tuple[Times, Bools]:
    """(ticks,) when the first pose of each frame or of a newer one came, and (ticks,) whether one did at all.

    Args:
        seq, arrived_ns: (N,) of the poses that came, in any order.
    """
    never = np.iinfo(np.int64).max
    arrived = np.full(ticks, never)
    np.minimum.at(arrived, seq, arrived_ns)
    arrived = np.minimum.accumulate(arrived[::-1])[::-1]
    return arrived, arrived < never


def _skipped(rows: Times, warmup: int) -> int:
    """Frames of one actor that the server skipped after the warm-up: its counter at the end, less that before."""
    counter, counts = rows[:, POSE_COLUMNS.index("skipped")], rows[:, 1] >= warmup
    if not counts.any():
        return 0
    return int(counter.max() - (counter[~counts].max() if (~counts).any() else 0))


@contextmanager
def endpoints(transport: str, count: int) -> Iterator[list[str]]:
    """Endpoints of a transport on which nobody listens, gone after."""
    if transport.startswith("tcp"):
        yield free_endpoints(count)
        return
    with TemporaryDirectory(prefix="hpstm-") as folder:  # short: a socket's path has at most 107 characters
        yield [f"ipc://{folder}/{n}" for n in range(count)]


@contextmanager
def keys_for(transport: str) -> Iterator[str]:
    """A folder of fresh keys (``make_key_folder``) for an encrypted transport, gone after; "" for another."""
    if not transport.endswith(ENCRYPTED):
        yield ""
        return
    with TemporaryDirectory(prefix="hpstm-") as folder:
        make_key_folder(folder)
        yield folder


@contextmanager
def server_over(transport: str, arguments: Sequence[str]) -> Iterator[ServerProcess]:
    """The real server on a transport; its control socket always over TCP."""
    with ExitStack() as stack:
        ends, keys = stack.enter_context(endpoints(transport, 2)), stack.enter_context(keys_for(transport))
        yield stack.enter_context(ServerProcess(arguments, [*ends, *free_endpoints(1)], keys))


def through_server(server: ServerProcess, load: Load) -> Stream:
    """One run through a server that has no subscriber yet. Raises ServerFailed."""
    before = _counters(server)
    with TemporaryDirectory(prefix="hpstm-") as folder, ExitStack() as stack:
        keys = str(server.keys or "")
        subscriber = stack.enter_context(_subscriber(server.out_endpoint, Path(folder), load, keys, bare=False))
        _await_subscription(server, subscriber, before["subscriptions"])
        source = stack.enter_context(_source(server.in_endpoint, Path(folder), load, keys, frame_bytes=0))
        source.finish(load.give_up_s)
        subscriber.finish(SILENCE_S + SLACK_S)
        server.check()
        told = {name: count - before[name] for name, count in _counters(server).items()}
        with np.load(Path(folder) / "subscriber.npz") as got:
            heard = len(got["poses"])
        lost = load.ticks * load.actors - told["messages_in"] + told["poses_out"] - heard
        return Stream.read(load, Path(folder), lost=lost)


def through_forwarder(transport: str, load: Load) -> Stream:
    """The same with messages of the same sizes and no filter: what ZeroMQ and Python cost. Raises ServerFailed."""
    frame_bytes, pose_bytes = message_sizes()
    with ExitStack() as stack:
        inside, outside = stack.enter_context(endpoints(transport, 2))
        keys, folder = stack.enter_context(keys_for(transport)), Path(stack.enter_context(TemporaryDirectory()))
        stack.enter_context(_role("forwarder", in_endpoint=inside, out_endpoint=outside, pose_bytes=pose_bytes,
                                  give_up_s=load.give_up_s, keys=keys))  # fmt: skip
        subscriber = stack.enter_context(_subscriber(outside, folder, load, keys, bare=True))
        source = stack.enter_context(_source(inside, folder, load, keys, frame_bytes))
        source.finish(load.give_up_s)
        subscriber.finish(SILENCE_S + SLACK_S)
        return Stream.read(load, folder)


def message_sizes() -> tuple[int, int]:
    """Bytes of one frame and of one pose on the wire."""
    now, encoder = now_ns(), Encoder()
    frame = noisy_frames(60)[0]
    frame.t_ns = now
    flat = np.zeros((J, 3), np.float32)
    pose = Pose(frame.actor, 1000, now, "tracking", flat, np.zeros((J, 4), np.float32), flat[0], flat[:, 0], flat,
                np.zeros((J, 3, 3), np.float32), flat[0, :2], now, now, now, now)  # fmt: skip
    return len(encoder.frame(frame)), len(encoder.pose(pose))


def _role(role: str, **arguments: Any) -> ChildProcess:
    return ChildProcess(role, [sys.executable, "-m", "bench.service.wire_roles", role, json.dumps(arguments)])


def _source(endpoint: str, folder: Path, load: Load, keys: str, frame_bytes: int) -> ChildProcess:
    return _role("source", endpoint=endpoint, out=str(folder / "source.npz"), rate_hz=load.rate_hz, ticks=load.ticks,
                 actors=load.actors, frame_bytes=frame_bytes, keys=keys)  # fmt: skip


def _subscriber(endpoint: str, folder: Path, load: Load, keys: str, bare: bool) -> ChildProcess:
    return _role("subscriber", endpoint=endpoint, out=str(folder / "subscriber.npz"), ticks=load.ticks,
                 actors=load.actors, bare=bare, give_up_s=load.give_up_s, keys=keys)  # fmt: skip


def _counters(server: ServerProcess) -> dict[str, int]:
    told = server.status(timeout_s=SLACK_S)
    if told is None:
        raise ServerFailed(f"the server did not say how it is within {SLACK_S:g} s")
    counters: dict[str, int] = told["counters"]
    return counters


def _await_subscription(server: ServerProcess, subscriber: ChildProcess, before: int) -> None:
    """Returns when the subscriber's two subscriptions, to skeletons and to poses, have reached the server."""
    deadline = time.monotonic() + SLACK_S
    while _counters(server)["subscriptions"] < before + 2:
        subscriber.check()
        if time.monotonic() > deadline:
            raise ServerFailed(f"the subscriber did not reach the server within {SLACK_S:g} s")
        time.sleep(0.05)
