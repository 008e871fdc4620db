"""Several servers that share the actors: one is killed, stopped, comes back; nobody is dark for a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zmq

from bench.service.child import ServerProcess, free_endpoints
from bench.service.turn_by_turn import balanced
from model.skeleton import JOINTS, PARENTS, rest_offsets
from streamer.cli import main
from streamer.client import ControlClient, FrameSender, PoseSubscriber
from streamer.frames import Pose
from streamer.sinks import subscriber as subscriber_module
from streamer.wire.placement import ranked
from streamer.wire.protocol import Encoder, Skeleton
from tests.helpers.live import BODY, body_frame, counter, status, wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.vmc import a_pose

ACTORS = [f"actor-{n}" for n in range(9)]
RATE_HZ = 25.0
DARK_S = 1.0  # the longest that an actor may be without a pose when its server dies
HUNG_S = 2.0  # or hangs: a heartbeat that stays unanswered tells, after 0.6 s at most on a machine that has time
WINDOW_S = 2.5  # after an event, in which the longest gap is looked for


class Came(NamedTuple):
    """A pose, and when it came."""

    at: float
    pose: Pose


class Stage:
    """Three servers with one folder of skeletons, a crowd that is sent to them at a steady rate, and who reads all."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack, self._words = stack, ["--skeletons", str(folder), "--no-rehearsal", "--evict", "60"]
        self._endpoints = [free_endpoints(3) for _ in range(3)]
        self.inputs = [three[0] for three in self._endpoints]
        self.servers = [stack.enter_context(ServerProcess(self._words, three)) for three in self._endpoints]
        self.bones = {actor: bones(n) for n, actor in enumerate(ACTORS)}
        with ControlClient(self.servers[0].control_endpoint, 10.0) as control:  # any of them: the folder is for all
            for actor, offsets in self.bones.items():
                assert (control.ask("set_skeleton", actor=actor, offsets=offsets.tobytes()) or {}).get("ok")
        wait_until(lambda: len(list(folder.glob("actor-*.json"))) == len(ACTORS))
        self.sent, self.before = [0, 0, 0], [0, 0, 0]  # to each server, and until it was started last
        self.came: defaultdict[str, list[Came]] = defaultdict(list)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]
        for thread in self._threads:
            thread.start()
        stack.callback(self.stop)
        wait_until(lambda: self.fresh(0.0) and self.at_home(), 60.0)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _send(self) -> None:
        with FrameSender(servers=self.inputs, wait_s=10.0) as sender:
            start, n = time.perf_counter(), 0
            while not self._stop.wait(max(0.0, start + n / RATE_HZ - time.perf_counter())):
                for actor in ACTORS:
                    sender.send(body_frame(actor, n))
                self.sent, n = [link.sent for link in sender._links], n + 1

    def _read(self) -> None:
        with PoseSubscriber(servers=[three[1] for three in self._endpoints]) as subscriber:
            self.skeletons = subscriber.skeletons
            while not self._stop.is_set():
                pose = subscriber.receive(0.1)
                if pose is not None:
                    self.came[pose.actor].append(Came(time.perf_counter(), pose))

    def restart(self, n: int) -> None:
        self.before[n] = self.sent[n]
        self.servers[n] = self._stack.enter_context(ServerProcess(self._words, self._endpoints[n]))

    def share(self, n: int, without: int | None = None) -> set[str]:
        """Whom server ``n`` is to have, while another one is away."""
        first = {actor: next(k for k in ranked(actor, self.inputs) if k != without) for actor in ACTORS}
        return {actor for actor, k in first.items() if k == n}

    def active(self, n: int) -> set[str]:
        """Who has sent to a server just now, by its own account."""
        return {actor for actor, state in status(self.servers[n])["actor_states"].items() if state["silent_s"] < 0.5}

    def at_home(self) -> bool:
        return all(self.active(n) == self.share(n) for n in range(3))

    def fresh(self, since: float) -> bool:
        """Has everybody had a pose since then?"""
        return all(self.came[actor] and self.came[actor][-1].at > since for actor in ACTORS)

    def darkest_s(self, actors: set[str], start: float) -> float:
        """The longest time that one of them had no pose, in a window from ``start`` on."""
        wait_until(lambda: self.fresh(start + WINDOW_S), WINDOW_S + 10.0)
        return max(longest_gap_s(self.came[actor], start, start + WINDOW_S) for actor in actors)

    def check_books(self, n: int) -> None:
        """What a server says it got is what it was sent, and it says what became of all of it."""
        server, sent = self.servers[n], self.sent[n] - self.before[n]
        wait_until(lambda: status(server)["books"]["messages_in"] >= sent)
        books = status(server)["books"]
        assert books["messages_in"] == sent
        assert balanced(books)
        assert books["rejected"] == 0

    def check_poses(self) -> None:
        """The same bones under the same number, always, and no pose of older frames than the one before."""
        for actor, came in self.came.items():
            (version,) = {one.pose.skeleton_version for one in came}
            assert all(np.array_equal(one.pose.offsets_m, self.bones[actor]) for one in came)
            assert {one.pose.status for one in came} <= {"tracking", "coasting"}
            captured = [one.pose.captured_ns for one in came]
            assert captured == sorted(captured)
            assert self.skeletons[actor].version == version


def bones(seed: int) -> Any:
    offsets = np.asarray(rest_offsets(), np.float32).copy()
    offsets[1:] *= np.random.default_rng(seed).uniform(0.9, 1.1, (23, 1)).astype(np.float32)
    return offsets


def longest_gap_s(came: list[Came], start: float, end: float) -> float:
    """The longest time without a pose, from the last one before ``start`` to the first after ``end``."""
    times = np.array([one.at for one in came])
    first, last = np.searchsorted(times, start) - 1, np.searchsorted(times, end)
    return float(np.diff(times[max(first, 0) : last + 1]).max())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path_factory.mktemp("stage") / "kept", stack)


@pytest.mark.timed
def test_one_of_three_is_killed_under_load_and_comes_back(stage: Stage) -> None:
    lost = ranked(ACTORS[0], stage.inputs)[0]
    left = [n for n in range(3) if n != lost]
    orphans = stage.share(lost)
    calm = stage.darkest_s(set(ACTORS), time.perf_counter())
    killed_at = time.perf_counter()
    os.kill(stage.servers[lost].pid, signal.SIGKILL)
    moved = stage.darkest_s(orphans, killed_at)
    others = stage.darkest_s(set(ACTORS) - orphans, killed_at)
    assert all(stage.active(n) == stage.share(n, without=lost) for n in left)
    stage.restart(lost)
    wait_until(lambda: stage.active(lost) == orphans, 30.0)
    returned = stage.darkest_s(orphans, time.perf_counter() - WINDOW_S)
    print(f"longest without a pose: {calm:.3f} s before; when one of three was killed {moved:.3f} s its"
          f" {len(orphans)} actors, {others:.3f} s the others; {returned:.3f} s on the way back")  # fmt: skip
    assert moved < DARK_S
    assert others < max(3 * calm, 0.25)  # undisturbed
    assert returned < DARK_S
    wait_until(stage.at_home)
    for n in left:
        assert set(status(stage.servers[n])["actor_states"]) == stage.share(n) | stage.share(n, without=lost)
    stage.check_poses()


@pytest.mark.timed
def test_one_of_three_hangs_and_goes_on(stage: Stage) -> None:
    """Its connections stand, and nobody reads them: only the heartbeat tells. What it has to say afterwards is old."""
    wait_until(stage.at_home)
    hung = ranked(ACTORS[0], stage.inputs)[0]
    stopped_at = time.perf_counter()
    os.kill(stage.servers[hung].pid, signal.SIGSTOP)
    try:
        moved = stage.darkest_s(stage.share(hung), stopped_at)
        assert all(stage.active(n) == stage.share(n, without=hung) for n in range(3) if n != hung)
    finally:
        os.kill(stage.servers[hung].pid, signal.SIGCONT)
    wait_until(stage.at_home, 30.0)
    returned = stage.darkest_s(stage.share(hung), time.perf_counter() - WINDOW_S)
    print(f"longest without a pose: {moved:.3f} s when its server hung, {returned:.3f} s on the way back")
    assert moved < HUNG_S
    assert returned < DARK_S
    stage.check_poses()


@pytest.mark.timed
def test_the_books_of_all_three_balance_at_the_end(stage: Stage) -> None:
    """Those of who was killed start anew; what was on its way to it is the sender's only loss."""
    hung = ranked(ACTORS[0], stage.inputs)[0]
    wait_until(stage.at_home)
    stage.stop()
    for n in range(3):
        if n != hung:
            stage.check_books(n)
        assert balanced(status(stage.servers[n])["books"])
        assert status(stage.servers[n])["counters"]["loop_errors"] == 0


# -- whose word counts ------------------------------------------------------------------------------------------------


class Said:
    """Servers that say what they are told to, and a subscriber of all of them."""

    def __init__(self, stack: ExitStack, count: int = 2) -> None:
        context = stack.enter_context(zmq.Context())
        self._sockets = [stack.enter_context(closing(context.socket(zmq.XPUB))) for _ in range(count)]
        for socket in self._sockets:
            socket.linger = 0
            socket.bind("tcp://127.0.0.1:*")
        servers = [socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in self._sockets]
        self.subscriber = stack.enter_context(PoseSubscriber(servers=servers, every=True))
        for socket in self._sockets:
            for _ in ("skeleton.", "pose."):
                assert socket.poll(5000)
                socket.recv()

    def pose(self, server: int, captured: int) -> int | None:
        """``captured_ns`` of what the subscriber makes of a pose of a server."""
        self._sockets[server].send(Encoder().pose(replace(a_pose(), captured_ns=captured)))
        before = self.subscriber.stale
        while self.subscriber.stale == before:
            pose = self.subscriber.receive(0.02)
            if pose is not None:
                return pose.captured_ns
        return None

    def skeleton(self, server: int, version: int, marker: int) -> int:
        """The version that the subscriber holds when it has read a server's skeleton; the marker's pose tells."""
        offsets = np.asarray(rest_offsets(), np.float32)
        lengths = np.linalg.norm(offsets, axis=-1)
        self._sockets[server].send(Encoder().skeleton(Skeleton("a", version, JOINTS, PARENTS, offsets, lengths)))
        self.pose(server, marker)
        return self.subscriber.skeletons["a"].version


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    monkeypatch.setattr(subscriber_module, "LEFT_NS", 10**12)  # nobody is silent for long, however busy the machine
    with ExitStack() as stack:
        yield Said(stack)


def test_a_server_that_goes_on_with_old_frames_is_not_listened_to(said: Said) -> None:
    assert [said.pose(0, 1), said.pose(0, 2), said.pose(0, 2)] == [1, 2, 2]  # coasting on the same frame
    assert said.pose(1, 3) == 3
    assert [said.pose(0, 2), said.pose(0, 3)] == [None, None]
    assert said.subscriber.stale == 2
    assert [said.pose(1, 4), said.pose(0, 5), said.pose(1, 4)] == [4, 5, None]


def test_a_source_whose_clock_starts_anew_elsewhere_is_heard_when_the_other_is_silent(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said.pose(0, 10**15) == 10**15
    assert said.pose(1, 1) is None
    monkeypatch.setattr(subscriber_module, "LEFT_NS", 50_000_000)
    time.sleep(0.06)
    assert [said.pose(1, 2), said.pose(1, 3)] == [2, 3]


def test_a_skeleton_that_a_server_repeats_does_not_replace_the_one_in_use(said: Said) -> None:
    assert said.skeleton(0, 7, marker=1) == 7
    assert said.skeleton(1, 9, marker=2) == 9
    assert said.skeleton(0, 7, marker=1) == 9
    assert said.skeleton(1, 8, marker=3) == 8  # its own word on its own actor, whatever its clock


def test_ages_are_known_where_all_servers_are_of_this_machine(said: Said) -> None:
    assert said.pose(0, 1) == 1
    assert said.subscriber.offset == (0, 0)
    with PoseSubscriber(servers=["tcp://127.0.0.1:9", "tcp://192.0.2.1:9"]) as far:
        assert far.offset is None


# -- the sender -------------------------------------------------------------------------------------------------------


def test_without_any_server_all_is_dropped_and_counted() -> None:
    with FrameSender(servers=["tcp://127.0.0.1:9", "tcp://127.0.0.1:19"], wait_s=0.0) as sender:
        for n in range(10):
            sender.send(body_frame("a", n))
        assert (sender.joined, sender.server_of("a"), sender.sent, sender.dropped) == (False, None, 0, 10)


def test_encoded_messages_go_where_frames_go() -> None:
    endpoints = free_endpoints(3)
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        sockets = {one: stack.enter_context(closing(context.socket(zmq.SUB))) for one in endpoints}
        for endpoint, socket in sockets.items():
            socket.linger, socket.rcvtimeo = 0, 5000
            socket.subscribe(b"")
            socket.bind(endpoint)
        sender = stack.enter_context(FrameSender(servers=endpoints, wait_s=0.0))
        homes = {actor: endpoints[ranked(actor, endpoints)[0]] for actor in ACTORS}

        def at_home() -> bool:
            for socket in sockets.values():
                socket.poll(0)  # a socket subscribes when its owner looks at it
            return all(sender.server_of(actor) == home for actor, home in homes.items())

        wait_until(at_home)
        for actor, to in homes.items():
            sender.send(body_frame(actor, 0))
            sender.send_bytes(Encoder().frame(body_frame(actor, 1)))
            topics = [sockets[to].recv().partition(b"\0")[0] for _ in range(2)]
            assert topics == [f"frame.{actor}".encode()] * 2
        assert (sender.sent, sender.dropped) == (2 * len(ACTORS), 0)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.timed
def test_lines_go_in_at_several_servers_and_come_out_of_all_of_them() -> None:
    with ServerProcess() as one, ServerProcess() as other:
        both = [one, other]
        ins = [word for server in both for word in ("--servers", server.in_endpoint)]
        outs = [word for server in both for word in ("--servers", server.out_endpoint)]
        homes = [ranked(actor, [server.in_endpoint for server in both])[0] for actor in ACTORS]
        seen: set[str] = set()
        with Program([*HPSTM, "sink", "jsonl", *outs, "--every"]) as sink:
            for server in both:
                wait_until(partial(has_subscriptions, server, 2), 60.0)
            body = {"t": 0.0, "layout": "smpl_24", "positions": BODY.tolist()}
            lines = "\n".join(json.dumps({"actor": actor, **body}) for actor in ACTORS)
            source = [*HPSTM, "source", "stdin", *ins]
            done = subprocess.run(source, input=lines, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            while seen < set(ACTORS):
                seen.add(json.loads(sink.stdout.readline())["actor"])
        for n, server in enumerate(both):
            assert status(server)["books"]["messages_in"] == homes.count(n)


def has_subscriptions(server: ServerProcess, count: int) -> bool:
    return counter(server, "subscriptions") >= count


def test_several_servers_have_no_clock_to_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--servers", "tcp://127.0.0.1:9", "--servers", "tcp://127.0.0.1:19"]
    assert main(["listen", *where, "--control", "tcp://127.0.0.1:29"]) == 2
    assert "--control" in capsys.readouterr().err
