"""The server: sockets around a PoseFilter, in one blocking loop of one thread.

The data path, top to bottom, is ``Server.turn``:

    SUB in -> drain and decode -> skip what cannot be kept up with -> filter -> newest pose per actor -> XPUB out

Bad data never raises out of the loop: it is counted by reason. Latency stays bounded because the input is always
drained to its end, because under overload the oldest frames are skipped, and because only the newest pose of a drain
goes out; what keeps it bounded behind the output socket is said in PROTOCOL.md ("Latest only").
"""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from model.skeleton import JOINTS, PARENTS, ancestor_matrix, rest_offsets
from streamer import __version__
from streamer.clock import SECOND_NS, ClockMap, Ticker, now_ns
from streamer.errors import ProtocolError
from streamer.frames import Frame, Pose
from streamer.server.config import ServerConfig
from streamer.server.control import Control
from streamer.server.metrics import Metrics, serving_http
from streamer.server.rehearsal import Rehearsal
from streamer.server.sockets import Sockets, open_sockets
from streamer.wire.protocol import Encoder, Skeleton, decode_frame

if TYPE_CHECKING:
    from streamer.filter import PoseFilter

MAX_DRAIN = 2048  # messages per turn; the rest waits for the next turn, so that control is always answered
MAX_PREFIX_BYTES = 128  # of a subscription that is remembered
SKELETON_EVERY_NS = 5 * SECOND_NS  # repeated for subscribers that lost one; and at once when it changes or one joins
SKELETON_LEAST_NS = SECOND_NS // 10  # but not more often than this
OWED = -1  # in place of a skeleton's version: one is to be sent
FIRST_GUESS_NS = 500_000.0  # cost of one frame, before any was measured

log = logging.getLogger("hpstm")


class ActorRecord:
    """What the server, not the filter, knows of one actor."""

    __slots__ = ("clock", "last_ns", "pose", "skeleton_ns", "skeleton_version", "skipped")

    def __init__(self) -> None:
        self.clock = ClockMap()  # source clock -> ours, for the output clock
        self.last_ns = 0  # received time of the newest accepted frame
        self.pose: Pose | None = None  # the last one published: its skeleton, its status
        self.skeleton_version = OWED  # the one last published
        self.skeleton_ns = 0
        self.skipped = 0


class Server:
    """One filter, three sockets. ``run()`` blocks until ``stop()``, or what it was given as ``stopped``, says so."""

    def __init__(self, config: ServerConfig, pose_filter: PoseFilter | None = None) -> None:
        config.check()
        self.config = config
        self.metrics = Metrics()
        self._filter = pose_filter if pose_filter is not None else load_filter(config)
        self._encoder = Encoder()
        self._control = Control(self)
        self._layouts = config.layout_paths()
        self._actors: dict[str, ActorRecord] = {}
        self._filter_rejected: Counter[str] = Counter()
        self._logged_rejected: dict[str, int] = {}
        self._last_error = ""
        self._frame_ns = FIRST_GUESS_NS
        self._frame_topics: set[bytes] = set()  # who wants the input passed on
        self._ticker: Ticker | None = None
        self._rehearsal = Rehearsal(self._filter.runtime) if config.rehearses else None
        self._housekeeping_ns = 0
        self._every_second: Callable[[], None] | None = None
        self._stop = False
        self._sockets: Sockets

    # -- the data path ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for something to do, and do all of it once."""
        ready = self._wait()
        frames = self._drain()
        frames = self._skip_oldest(frames)
        poses = self._infer(frames)
        if self._ticker is None:
            for pose in newest_per_actor(poses):
                self._publish(pose)
        elif self._ticker.due(now_ns()):
            self._publish_at(now_ns())
        if self._sockets.poses_out in ready:
            self._read_subscriptions()
        if self._sockets.control in ready:
            self._answer_control()
        self._housekeeping()

    def _drain(self) -> list[Frame]:
        """Every frame that waits, oldest first; messages that are not frames are counted."""
        frames: list[Frame] = []
        messages = 0
        for data in self._sockets.received(self._sockets.frames_in, MAX_DRAIN):
            messages += 1
            frame = self._decode(data)
            if frame is not None:
                frames.append(frame)
        if messages:
            if self._rehearsal is not None:
                self._rehearsal.saw(now_ns())
            self.metrics.count("messages_in", n=messages)
            self.metrics.count("frames_in", n=len(frames))
        return frames

    def _decode(self, data: bytes) -> Frame | None:
        try:
            frame = decode_frame(data)
        except ProtocolError as error:
            self.metrics.count("rejected", error.reason)
            self._last_error = str(error)
            return None
        frame.received_ns = now_ns()
        frame.layout = self._layouts.get(frame.layout, frame.layout)
        if self._frame_topics:
            self._sockets.publish(data)  # someone records the input: pass it on as it came
        return frame

    def _skip_oldest(self, frames: list[Frame]) -> list[Frame]:
        """The newest frames that fit the time budget, and always the newest of each actor; the others are counted."""
        room = int(self.config.budget_s * SECOND_NS / self._frame_ns)
        if len(frames) <= max(room, 1):
            return frames
        kept, skipped = newest_that_fit(frames, room)
        self.metrics.count("frames_skipped", n=len(skipped))
        for frame in skipped:
            if frame.actor in self._actors:
                self._actors[frame.actor].skipped += 1
        return kept

    def _infer(self, frames: list[Frame]) -> list[Pose]:
        """Feed every frame to the filter; the poses of those it took, in the same order."""
        if not frames:
            return []
        started_ns = now_ns()
        answers = self._filter.push_many(frames)
        elapsed_ns = now_ns() - started_ns
        self.metrics.histograms["inference"].observe(elapsed_ns)
        poses = []
        for frame, pose in zip(frames, answers, strict=True):
            if pose is None:
                continue
            record = self._actors.get(frame.actor)
            if record is None:
                record = self._actors[frame.actor] = ActorRecord()
            record.last_ns = frame.received_ns
            if self._ticker is not None:
                record.clock.update(frame.t_ns, frame.received_ns)
            poses.append(pose)
        if poses:
            self._frame_ns += 0.1 * (elapsed_ns / len(poses) - self._frame_ns)
        if len(poses) < len(frames):
            self._count_filter_rejections()
        return poses

    def _publish_at(self, now: int) -> None:
        """Output clock: one pose per actor for this instant, until the actor is lost."""
        shift_ns = int((self.config.predict_s - self.config.delay_s) * SECOND_NS)
        times_ns = {
            actor: now - record.clock.offset_ns + shift_ns
            for actor, record in self._actors.items()
            if record.clock.known  # else reset a moment ago: nothing to say until its next frame
        }
        for actor, pose in self._filter.poses_at(times_ns).items():
            before = self._actors[actor].pose
            if pose.status != "lost" or before is None or before.status != "lost":
                self._publish(pose)

    def _publish(self, pose: Pose) -> None:
        record = self._actors[pose.actor]
        record.pose = pose
        pose.skipped = record.skipped
        if pose.skeleton_version != record.skeleton_version:
            self._publish_skeleton(record, now_ns())
        pose.published_ns = now_ns()
        self._sockets.publish(self._encoder.pose(pose))
        self.metrics.count("poses_out")
        self.metrics.histograms["latency"].observe(pose.published_ns - pose.received_ns)

    def _publish_skeleton(self, record: ActorRecord, now: int) -> None:
        if record.pose is None or now - record.skeleton_ns < SKELETON_LEAST_NS:
            return
        pose = record.pose
        record.skeleton_version, record.skeleton_ns = pose.skeleton_version, now
        skeleton = Skeleton(pose.actor, pose.skeleton_version, JOINTS, PARENTS, pose.offsets_m, pose.lengths_m)
        self._sockets.publish(self._encoder.skeleton(skeleton))
        self.metrics.count("skeletons_out")

    # -- beside the data path -----------------------------------------------------------------------------------------

    def _wait(self) -> dict[Any, int]:
        """Sleep until a message comes or the output clock ticks; the sockets that have something."""
        now, rehearsal = now_ns(), self._rehearsal
        wait_ns = SECOND_NS if self._ticker is None else max(0, self._ticker.next_ns - now)
        if rehearsal is not None:
            wait_ns = min(wait_ns, rehearsal.wait_ns(now))
        ready = self._sockets.poll(wait_ns // 1_000_000)
        if not ready and rehearsal is not None:
            passes = rehearsal.run_if_due(now_ns(), interrupted=lambda: self._sockets.poll(0))
            self.metrics.count("rehearsals", n=passes)
        if not ready and self._ticker is not None:  # poll counts in whole milliseconds: sleep the rest
            time.sleep(max(0, min(self._ticker.next_ns - now_ns(), 1_000_000)) / SECOND_NS)
        self.metrics.alive_ns = now_ns()
        return ready

    def _read_subscriptions(self) -> None:
        joined = False
        for message in self._sockets.received(self._sockets.poses_out, MAX_DRAIN):
            joins, prefix = message[:1] == b"\x01", message[1:]
            if joins:
                joined = True
                self.metrics.count("subscriptions")
            if prefix.startswith(b"frame.") and len(prefix) <= MAX_PREFIX_BYTES:
                (self._frame_topics.add if joins else self._frame_topics.discard)(prefix)
        if joined:
            for record in self._actors.values():
                record.skeleton_version = OWED  # if not now, because one has just gone out, then soon
                self._publish_skeleton(record, now_ns())

    def _answer_control(self) -> None:
        try:
            request = self._sockets.control.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        command, reply = self._control.answer(request[-1])
        self.metrics.count("control_requests", command)
        with contextlib.suppress(zmq.Again):
            self._sockets.control.send(reply, zmq.NOBLOCK)

    def _housekeeping(self) -> None:
        """Once a second: evict silent actors, repeat skeletons, say what was rejected."""
        now = now_ns()
        if now - self._housekeeping_ns < SECOND_NS:
            return
        self._housekeeping_ns = now
        for actor in self.actor_names():
            record = self._actors.get(actor)
            if record is None or now - record.last_ns > self.config.evict_s * SECOND_NS:
                self._evict(actor)
            elif record.skeleton_version == OWED or now - record.skeleton_ns > SKELETON_EVERY_NS:
                self._publish_skeleton(record, now)
        self.metrics.gauges["actors"] = len(self._actors)
        self._log_rejections()
        if self._every_second is not None:
            self._every_second()

    def _evict(self, actor: str) -> None:
        self._filter.remove(actor)
        self._actors.pop(actor, None)
        self.metrics.count("actors_evicted")

    def _count_filter_rejections(self) -> None:
        total = self._filter.rejected
        for reason, n in (total - self._filter_rejected).items():
            self.metrics.count("rejected", reason, n)
            self._last_error = f"frame refused by the filter: {reason}"
        self._filter_rejected = Counter(total)

    def _log_rejections(self) -> None:
        """At most one line a second, whatever comes in."""
        rejected = self.metrics.by_label("rejected")
        grown = {reason: n - self._logged_rejected.get(reason, 0) for reason, n in rejected.items()}
        if any(grown.values()):
            said = ", ".join(f"{reason} +{n}" for reason, n in grown.items() if n)
            log.warning("rejected: %s; last: %s", said, self._last_error)
            self._logged_rejected = rejected

    # -- what the control socket may do -------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Plain numbers and maps: version, endpoints, actors, counters, latency, health."""
        states = {
            actor: {
                "status": record.pose.status if record.pose is not None else "",
                "silent_s": (now_ns() - record.last_ns) / SECOND_NS,
                "skipped": record.skipped,
            }
            for actor, record in self._actors.items()
        }
        endpoints = self._sockets.endpoints
        return {
            "version": __version__,
            "runtime": self._filter.runtime.name,
            "endpoints": endpoints,
            "actor_states": states,
            **self.metrics.snapshot(),
        }

    def actor_names(self) -> list[str]:
        return list(self._filter.actors)

    def reset(self, actor: str) -> None:
        """Forget the actor's motion and skeleton; nothing is published of it until its next frame."""
        self._filter.reset(actor)
        record = self._actors[actor] = ActorRecord()
        record.last_ns = now_ns()

    def calibrate(self, actor: str) -> None:
        """Measure the actor's bones anew."""
        self._filter.calibrate(actor)

    def stop(self) -> None:
        """Finish the present turn and one last one, then leave ``run``."""
        self._stop = True

    # -- start and end ------------------------------------------------------------------------------------------------

    def run(
        self,
        on_ready: Callable[[dict[str, str]], None] | None = None,
        every_second: Callable[[], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Serve until stopped. The filter is warm before the first socket opens; then ``on_ready(endpoints)``.

        ``stopped()`` is asked once a turn, at least ten times a second: a signal handler's flag.
        """
        self._every_second = every_second
        warm_up(self._filter)
        refused = partial(self.metrics.count, "connections_refused")
        http = serving_http(self.metrics, self.config.metrics_port)
        with open_sockets(self.config, refused) as self._sockets, http:
            self._ticker = Ticker(self.config.rate_hz, now_ns()) if self.config.rate_hz else None
            self.metrics.ready = True
            if on_ready is not None:
                on_ready(self._sockets.endpoints)
            while not (self._stop or stopped()):
                self._guarded_turn()
            self._guarded_turn()  # what came in before the signal still goes out

    def _guarded_turn(self) -> None:
        try:
            self.turn()
        except zmq.ZMQError:
            raise  # the sockets are gone: nothing to go on with
        except Exception:  # one bad frame must not end every actor's stream; each of these is a bug of ours
            self.metrics.count("loop_errors")
            log.exception("unexpected error in the loop; the frames of this turn are lost")


def newest_that_fit(frames: Sequence[Frame], room: int) -> tuple[list[Frame], list[Frame]]:
    """(kept, skipped), each in order: about ``room`` frames, shared evenly, and the newest of each actor in any case.

    Evenly, so that an actor whose source floods us loses its own frames and nobody else's.
    """
    behind: Counter[str] = Counter()  # how many newer frames of the same actor there are
    age = [0] * len(frames)
    for i in range(len(frames) - 1, -1, -1):
        age[i] = behind[frames[i].actor]
        behind[frames[i].actor] += 1
    freshest_first = sorted(range(len(frames)), key=age.__getitem__)
    taken = set(freshest_first[: max(room, len(behind))])
    kept = [frame for i, frame in enumerate(frames) if i in taken]
    return kept, [frame for i, frame in enumerate(frames) if i not in taken]


def newest_per_actor(poses: Sequence[Pose]) -> list[Pose]:
    """The last pose of each actor, in order of the actors' first."""
    return list({pose.actor: pose for pose in poses}.values())


def load_filter(config: ServerConfig) -> PoseFilter:
    """The filter the settings ask for."""
    from streamer.filter import PoseFilter

    return PoseFilter.load(
        config.weights, runtime=config.runtime, threads=config.threads, delay_s=config.delay_s,
        predict_s=config.predict_s, max_actors=config.max_actors,
    )  # fmt: skip


def warm_up(pose_filter: PoseFilter, frames: int = 8) -> None:
    """Run real shapes through the filter, then keep the garbage collector off everything loaded so far."""
    positions = (ancestor_matrix() @ rest_offsets()).astype(np.float32)
    for n in range(frames):
        pose_filter.push_many([Frame("warm-up", n, n * SECOND_NS // 60, positions)])
    pose_filter.remove("warm-up")
    gc.collect()
    gc.freeze()
