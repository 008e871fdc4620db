"""What runs in the processes around the server: a source that keeps a schedule, a subscriber, a bare forwarder.

Each is started as ``python -m bench.service.wire_roles ROLE JSON`` by wire_run.py and leaves an .npz behind. All
stamps are of ``clock.now_ns``, which the processes of one machine share.

    source ==> server, or forwarder ==> subscriber

``keys`` is a folder of keys (bench.child.make_key_folder), "" for a stream that is not encrypted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import zmq

from bench.drive import Times, noisy_frames
from bench.report import frozen_gc
from bench.service.child import client_keys
from streamer.client import ClientKeys, FrameSender, PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame
from streamer.wire.security import ServerKeys, admitting

SPIN_NS = 300_000  # the end of a wait is spun: a sleep ends up to 0.1 ms late, which would count as latency
LEAD_NS = SECOND_NS // 20  # between joining and the first frame
FLUSH_S = 1.0  # for what a sender still has queued: closing drops what does not go out at once
SILENCE_S = 5.0  # nothing for that long after the first message: what is missing will not come
SEQ_BYTES = 8  # the head of a bare message


def actor_name(number: int) -> str:
    """Name of the bench's actor ``number``."""
    return f"a{number}"


class RealTime:
    """The clock that schedules are kept by; a test may bring one of its own."""

    now_ns = staticmethod(now_ns)

    def wait_until(self, when_ns: int) -> None:
        """Returns at ``when_ns``, at once when that is past."""
        left_ns = when_ns - self.now_ns() - SPIN_NS
        if left_ns > 0:
            time.sleep(left_ns / SECOND_NS)
        while self.now_ns() < when_ns:
            pass


def schedule(start_ns: int, rate_hz: float, ticks: int) -> Times:
    """(ticks,) times at which frames are due [ns]: fixed beforehand, whatever happens to those before."""
    return start_ns + np.round(np.arange(ticks) * (SECOND_NS / rate_hz)).astype(np.int64)


def keep_schedule(due_ns: Times, send: Callable[[int, int], None], clock: RealTime) -> Times:
    """Calls ``send(n, due)`` when each is due, or as soon after as it can; returns when it got to each (ticks,) [ns].

    A late one moves none that follows: latency is counted from when a frame was due, so that a stage that makes its
    source wait cannot hide it (coordinated omission). Freeze the garbage collector before the schedule is made: that
    collects, which takes longer than a frame.
    """
    began_ns = np.empty(len(due_ns), np.int64)
    for n, due in enumerate(due_ns.tolist()):
        clock.wait_until(due)
        began_ns[n] = clock.now_ns()
        send(n, due)
    return began_ns


def source(endpoint: str, out: str, rate_hz: float, ticks: int, actors: int, frame_bytes: int, keys: str) -> None:
    """Sends ``ticks`` frames of each actor; with ``frame_bytes``, as many bare messages of that size instead."""
    motion = noisy_frames(ticks, rate_hz)
    with FrameSender(endpoint, wait_s=10.0, curve=client_keys(keys)) as sender:
        if not sender.joined:
            raise SystemExit(f"nobody listens at {endpoint}")
        padding = bytes(max(0, frame_bytes - SEQ_BYTES))
        names = [actor_name(a) for a in range(actors)]

        def send_bare(n: int, due: int) -> None:
            sender.send_bytes(n.to_bytes(SEQ_BYTES, "little") + padding)

        def send_frames(n: int, due: int) -> None:
            seen = motion[n]
            for name in names:
                sender.send(Frame(name, n, due, seen.positions, seen.confidence))

        with frozen_gc():
            due_ns = schedule(now_ns() + LEAD_NS, rate_hz, ticks)
            began_ns = keep_schedule(due_ns, send_bare if frame_bytes else send_frames, RealTime())
        time.sleep(FLUSH_S)
    np.savez(out, due_ns=due_ns, began_ns=began_ns)


POSE_COLUMNS = ("actor", "seq", "received_ns", "inferred_ns", "published_ns", "skipped", "arrived_ns")


def subscriber(endpoint: str, out: str, ticks: int, actors: int, bare: bool, give_up_s: float, keys: str) -> None:
    """Takes every pose (or bare message) until the last of each actor is in, or nothing comes any more."""
    curve = client_keys(keys)
    take = bare_messages(endpoint, curve) if bare else poses(endpoint, actors, curve)
    rows = np.zeros((ticks * actors, len(POSE_COLUMNS)), np.int64)
    count, missing = 0, set(range(actors))
    deadline = time.monotonic() + give_up_s
    with frozen_gc():
        while missing and count < len(rows) and time.monotonic() < deadline:
            row = take(SILENCE_S if count else 0.1)
            if row is not None:
                rows[count] = row
                count += 1
                if row[1] == ticks - 1:
                    missing.discard(row[0])
            elif count:
                break
    np.savez(out, poses=rows[:count])


def poses(endpoint: str, actors: int, curve: ClientKeys | None) -> Callable[[float], Sequence[int] | None]:
    """A function that waits up to some seconds for the next pose and returns its row."""
    known = {actor_name(a): a for a in range(actors)}
    # Every pose, not the newest alone: one that the subscriber passed over would look like one that was lost.
    reader = PoseSubscriber(endpoint, actor_name(0) if actors == 1 else None, every=True, curve=curve)

    def take(timeout_s: float) -> Sequence[int] | None:
        pose = reader.receive(timeout_s)
        if pose is None:
            return None
        arrived = now_ns()
        return (known[pose.actor], pose.seq, pose.received_ns, pose.inferred_ns, pose.published_ns, pose.skipped,
                arrived)  # fmt: skip

    return take


def bare_messages(endpoint: str, curve: ClientKeys | None) -> Callable[[float], Sequence[int] | None]:
    """The same for bare messages, whose only content is the number they start with."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    if curve is not None:
        curve.apply(socket)
    socket.subscribe(b"")
    socket.connect(endpoint)

    def take(timeout_s: float) -> Sequence[int] | None:
        if not socket.poll(int(timeout_s * 1000)):
            return None
        data = socket.recv()
        return (0, int.from_bytes(data[:SEQ_BYTES], "little"), 0, 0, 0, 0, now_ns())

    return take


def forwarder(in_endpoint: str, out_endpoint: str, pose_bytes: int, give_up_s: float, keys: str) -> None:
    """Sends a message of ``pose_bytes`` for each that comes in: what ZeroMQ and Python alone cost, without a filter.

    X sockets, because a subscription then travels on to the source, which so knows that the whole way is open.
    """
    padding = bytes(max(0, pose_bytes - SEQ_BYTES))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    incoming, outgoing = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    curve = ServerKeys.load(keys) if keys else None
    poller = zmq.Poller()
    for socket in (incoming, outgoing):
        socket.setsockopt(zmq.LINGER, 0)
        if curve is not None:
            curve.apply(socket)
        poller.register(socket, zmq.POLLIN)
    deadline = time.monotonic() + give_up_s
    with admitting(context, curve, lambda: None), frozen_gc():
        incoming.bind(in_endpoint)
        outgoing.bind(out_endpoint)
        while time.monotonic() < deadline:
            ready = dict(poller.poll(1000))
            if incoming in ready:
                outgoing.send(incoming.recv()[:SEQ_BYTES] + padding)
            if outgoing in ready:
                incoming.send(outgoing.recv())


ROLES: dict[str, Callable[..., None]] = {"source": source, "subscriber": subscriber, "forwarder": forwarder}

if __name__ == "__main__":
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
