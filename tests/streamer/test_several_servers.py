"""Several servers that share the actors: one is killed, stopped, comes back; nobody is dark for a second."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zmq

from bench.service.child import ServerProcess, free_endpoints
from bench.service.turn_by_turn import balanced
from model.skeleton import JOINTS, PARENTS, rest_offsets
from streamer.client import ControlClient, FrameSender, PoseSubscriber
from streamer.clock import now_ns
from streamer.frames import Pose
from streamer.wire.placement import ranked
from streamer.wire.protocol import Encoder, Skeleton
from tests.helpers.live import body_frame, next_pose, status, wait_until

ACTORS = [f"actor-{n}" for n in range(12)]
RATE_HZ = 30.0
DARK_S = 1.0
ENCODER = Encoder()


class Came(NamedTuple):
    """A pose, when it came, and from which server's frames."""

    at: float
    pose: Pose


class Stage:
    """Three servers with one folder of skeletons, a crowd that is sent to them at a steady rate, and who reads all."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack, self.words = stack, ["--skeletons", str(folder), "--evict", "60"]
        self.endpoints = [free_endpoints(3) for _ in range(3)]
        self.servers = [stack.enter_context(ServerProcess(self.words, three)) for three in self.endpoints]
        self.inputs = [server.in_endpoint for server in self.servers]
        self.owner = {actor: ranked(actor, self.inputs)[0] for actor in ACTORS}
        self.bones = {actor: bones(n) for n, actor in enumerate(ACTORS)}
        for actor in ACTORS:
            with ControlClient(self.servers[0].control_endpoint, 10.0) as control:
                reply = control.ask("set_skeleton", actor=actor, offsets=self.bones[actor].tobytes())
                assert reply is not None
                assert reply["ok"]
        wait_until(lambda: len(list(folder.glob("actor-*.json"))) == len(ACTORS))
        self.sent: Counter[str | None] = Counter()  # by the server that each frame was for
        self.came: defaultdict[str, list[Came]] = defaultdict(list)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(10)

    def _send(self) -> None:
        with FrameSender(servers=self.inputs, wait_s=10.0) as sender:
            start, n = time.perf_counter(), 0
            while not self._stop.wait(max(0.0, start + n / RATE_HZ - time.perf_counter())):
                for actor in ACTORS:
                    self.sent[sender.server_of(actor)] += 1
                    sender.send(body_frame(actor, n))
                n += 1
            self.dropped = sender.dropped
            self.sent_in_all = sender.sent

    def _read(self) -> None:
        with PoseSubscriber(servers=[three[1] for three in self.endpoints]) as subscriber:
            while not self._stop.is_set():
                pose = subscriber.receive(0.1)
                if pose is not None:
                    self.came[pose.actor].append(Came(time.perf_counter(), pose))
            self.skeletons = dict(subscriber.skeletons)

    def restart(self, n: int) -> None:
        self.servers[n] = self._stack.enter_context(ServerProcess(self.words, self.endpoints[n]))

    def there(self, n: int) -> set[str]:
        """Whom a server has, by its own account."""
        return set(status(self.servers[n])["actor_states"])

    def newest(self, actor: str) -> float:
        return self.came[actor][-1].at if self.came[actor] else 0.0

    def all_fresh(self, since: float) -> bool:
        return all(self.newest(actor) > since for actor in ACTORS)


def bones(seed: int) -> Any:
    offsets = np.asarray(rest_offsets(), np.float32).copy()
    offsets[1:] *= np.random.default_rng(seed).uniform(0.9, 1.1, (23, 1)).astype(np.float32)
    return offsets


def longest_gap_s(came: list[Came], start: float, end: float) -> float:
    """The longest time without a pose, from the last one before ``start`` to the first after ``end``."""
    times = np.array([one.at for one in came])
    first, last = np.searchsorted(times, start) - 1, np.searchsorted(times, end)
    return float(np.diff(times[max(first, 0) : last + 1]).max())


@pytest.mark.timed
def test_one_of_three_is_killed_under_load_and_comes_back(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with ExitStack() as stack:
        stage = Stage(tmp_path / "kept", stack)
        lost = stage.owner[ACTORS[0]]
        shares = {n: {actor for actor in ACTORS if stage.owner[actor] == n} for n in range(3)}
        with stage.running():
            wait_until(lambda: stage.all_fresh(0.0), 30.0)
            time.sleep(1.0)
            assert all(stage.there(n) == shares[n] for n in range(3))
            killed_at = time.perf_counter()
            os.kill(stage.servers[lost].pid, signal.SIGKILL)
            time.sleep(2.0)
            wait_until(lambda: stage.all_fresh(killed_at + 1.5))
            for n in set(range(3)) - {lost}:  # who stands in is the second of each ranking
                second = {actor for actor in shares[lost] if ranked(actor, stage.inputs)[1] == n}
                assert stage.there(n) == shares[n] | second
            dark = {actor: longest_gap_s(stage.came[actor], killed_at, killed_at + 1.5) for actor in ACTORS}
            moved = max(dark[actor] for actor in shares[lost])
            stayed = max(dark[actor] for actor in ACTORS if actor not in shares[lost])
            stage.restart(lost)
            wait_until(lambda: stage.there(lost) == shares[lost], 30.0)
            back_at = time.perf_counter()
            time.sleep(0.5)
            wait_until(lambda: stage.all_fresh(back_at + 0.3))
            back = max(longest_gap_s(stage.came[actor], back_at - 1.0, back_at + 0.3) for actor in ACTORS)
        for n in set(range(3)) - {lost}:
            server = stage.servers[n]
            wait_until(lambda: status(server)["books"]["messages_in"] == stage.sent[server.in_endpoint])
            books = status(server)["books"]
            assert balanced(books)
            assert books["rejected"] == 0
        assert balanced(status(stage.servers[lost])["books"])
    print(
        f"dark: {moved:.3f} s of the killed one's {len(shares[lost])} actors, {stayed:.3f} s of the others, {back:.3f} s at the way back"
    )
    assert moved < DARK_S
    assert back < DARK_S
    assert stayed < moved
    assert sum(stage.sent.values()) == stage.sent_in_all + stage.dropped
    for actor in ACTORS:
        versions = {one.pose.skeleton_version for one in stage.came[actor]}
        assert len(versions) == 1, actor
        assert all(np.array_equal(one.pose.offsets_m, stage.bones[actor]) for one in stage.came[actor])
        assert {one.pose.status for one in stage.came[actor]} <= {"tracking", "coasting"}
        captured = [one.pose.captured_ns for one in stage.came[actor]]
        assert captured == sorted(captured)
        assert stage.skeletons[actor].version == versions.pop()
