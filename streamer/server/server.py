"""The server: sockets around a PoseFilter, in one blocking loop of one thread.

The data path, top to bottom, is ``Server.turn``:

    SUB in -> drain and decode -> skip what cannot be kept up with -> filter -> newest pose per actor -> XPUB out
    inlet  ->

Bad data never raises out of the loop: it is counted by reason, and no message costs another one its turn. Latency stays
bounded because the input is always drained to its end, because under overload the oldest frames are skipped, and
because only the newest pose of a drain goes out; what keeps it bounded behind the output socket is said in PROTOCOL.md
("Latest only"). Of every message that comes in the books say what became of it (``Metrics.books``).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import zmq

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ProtocolError
from streamer.frames import Frame, Pose
from streamer.server.config import ServerConfig
from streamer.server.control import Control
from streamer.server.crowd import Crowd
from streamer.server.housekeeping import Housekeeping
from streamer.server.loading import load_filter, open_kept, warm_up
from streamer.server.log import Errors
from streamer.server.metrics import Metrics
from streamer.server.operations import Operations
from streamer.server.output_clock import OutputClock
from streamer.server.overload import newest_per_actor, newest_that_fit
from streamer.server.publisher import Publisher
from streamer.server.rehearsal import Rehearsal
from streamer.server.sockets import Sockets, open_sockets
from streamer.wire.protocol import decode_frame

if TYPE_CHECKING:
    from streamer.filter import PoseFilter

MAX_DRAIN = 2048  # messages per turn; the rest waits for the next turn, so that control is always answered
FIRST_GUESS_NS = 500_000.0  # cost of one frame, before any was measured


class Server:
    """One filter, three sockets. ``run()`` blocks until ``stop()``, or what it was given as ``stopped``, says so."""

    def __init__(self, config: ServerConfig, pose_filter: PoseFilter | None = None) -> None:
        config.check()
        self.config = config
        self.metrics = Metrics()
        self._kept = open_kept(config, self.metrics)
        self._filter = pose_filter if pose_filter is not None else load_filter(config)
        self._crowd = Crowd(self._filter, config.max_actors, self._kept)
        self._errors = Errors(partial(self.metrics.count, "loop_errors"))
        self._layouts = config.layout_paths()
        self._filter_rejected: Counter[str] = Counter()
        self._frame_ns = FIRST_GUESS_NS
        self._clock = OutputClock()
        self._rehearsed: list[Callable[[], object]] = []  # beside the filter
        self._rehearsal = Rehearsal(self._filter.runtime, self._rehearsed) if config.rehearses else None
        self._every_second: Callable[[], None] | None = None
        self.taps: list[Callable[[Pose], None]] = []  # are given each pose, in the loop: see Publisher
        self._inlet: Callable[[], list[Frame]] | None = None
        self._stop = False
        self._sockets: Sockets
        self._publisher: Publisher
        self._control: Control
        self._housekeeping: Housekeeping

    # -- the data path ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for something to do, and do all of it once."""
        ready = self._wait()
        frames = self._drain(ready)
        frames = self._skip_oldest(frames)
        poses = self._infer(frames)
        if not self._clock.on:
            self._publish_newest(poses)
        else:
            self.metrics.count("superseded", n=len(poses))  # by what the clock asks for
            if self._clock.due(now_ns()):
                self._publish_at(now_ns())
        self.metrics.settle()
        self._run_errands(ready)

    def _drain(self, ready: dict[Any, int]) -> list[Frame]:
        """Every frame that waits, oldest first; messages that are not frames are counted."""
        frames: list[Frame] = []
        messages = 0
        if self._sockets.frames_in in ready:
            for data in self._sockets.received(self._sockets.frames_in, MAX_DRAIN):
                messages += 1
                frame = self._decode(data)
                if frame is not None:
                    frames.append(frame)
        if self._inlet is not None:
            direct = self._inlet()
            for frame in direct:
                self._publisher.pass_on(frame)
                self._arrived(frame)
            messages += len(direct)
            frames += direct
        if messages:
            if self._rehearsal is not None:
                self._rehearsal.saw(now_ns())
            self.metrics.count("messages_in", n=messages)
            self.metrics.count("frames_in", n=len(frames))
        return frames

    def _decode(self, data: bytes) -> Frame | None:
        try:
            frame = decode_frame(data)
            self._arrived(frame)
            self._publisher.pass_on(data)
            return frame
        except ProtocolError as error:
            self._reject(error.reason, str(error))
        except Exception as error:  # noqa: BLE001  a bug of ours must not cost the other messages their turn
            self._errors.note("decoding a message", error)
            self._reject("error", str(error))
        return None

    def _arrived(self, frame: Frame) -> None:
        frame.received_ns = now_ns()
        frame.layout = self._layouts.get(frame.layout, frame.layout)

    def _skip_oldest(self, frames: list[Frame]) -> list[Frame]:
        """The newest frames that fit the time budget, and always the newest of each actor; the others are counted."""
        room = int(self.config.budget_s * SECOND_NS / self._frame_ns)
        if len(frames) <= max(room, 1):
            return frames
        kept, skipped = newest_that_fit(frames, room)
        self.metrics.count("frames_skipped", n=len(skipped))
        for frame in skipped:
            if frame.actor in self._crowd:
                self._crowd[frame.actor].skipped += 1
        return kept

    def _infer(self, frames: list[Frame]) -> list[Pose]:
        """Feed every frame to the filter; the poses of those it took, in the same order."""
        if not frames:
            return []
        self._crowd.expect(frames)
        started_ns = now_ns()
        answers = self._push(frames)
        elapsed_ns = now_ns() - started_ns
        self.metrics.histograms["inference"].observe(elapsed_ns)
        poses = []
        for frame, pose in zip(frames, answers, strict=True):
            if pose is None:
                continue
            record = self._crowd.accepted(frame)
            record.clock.update(frame.t_ns, frame.received_ns)
            poses.append(pose)
        if poses:
            self._frame_ns += 0.1 * (elapsed_ns / len(poses) - self._frame_ns)
        if len(poses) < len(frames):
            self._count_filter_rejections()
        return poses

    def _push(self, frames: list[Frame]) -> list[Pose | None]:
        try:
            return self._filter.push_many(frames)
        except Exception as error:  # noqa: BLE001  a bug of ours: whose frame meets it loses that one, nobody else any
            self._errors.note("inferring poses", error)
            self._filter_rejected = Counter(self._filter.rejected)  # each frame is judged again
            return [self._push_alone(frame) for frame in frames]

    def _push_alone(self, frame: Frame) -> Pose | None:
        try:
            known = self._filter.actors.get(frame.actor)
            if known is not None and known.newest is frame:  # it went in before the failure: what is its pose?
                return self._filter.pose_at(self._filter.wanted_ns(frame.t_ns, frame.actor), frame.actor)
            return self._filter.push_many([frame])[0]
        except Exception as error:  # noqa: BLE001
            self._errors.note("inferring a pose", error)
            self._reject("error", f"actor {frame.actor}: {error}")
            return None

    def _publish_newest(self, poses: list[Pose]) -> None:
        """One pose for each actor: a pose that waited is a wrong pose."""
        newest = newest_per_actor(poses) if len(poses) > 1 else poses
        newest = [pose for pose in newest if self._clock.follows(pose)]
        self.metrics.count("superseded", n=len(poses) - len(newest))
        for pose in newest:
            if not self._publish(pose):
                self._reject("error", f"actor {pose.actor}: its pose could not be sent")

    def _publish_at(self, now: int) -> None:
        """Output clock: one pose per actor for this instant, until the actor is lost."""
        times_ns = {
            actor: self._filter.wanted_ns(now - record.clock.offset_ns, actor)
            for actor, record in self._crowd.items()
            if record.clock.known  # else reset a moment ago: nothing to say until its next frame
        }
        for actor, pose in self._filter.poses_at(times_ns).items():
            before = self._crowd[actor].pose
            said = before is not None and before.status == "lost"
            if (pose.status != "lost" or not said) and self._publish(pose):
                self.metrics.count("poses_by_clock")

    def _publish(self, pose: Pose) -> bool:
        try:
            self._publisher.pose(pose, self._crowd[pose.actor])
            return True
        except Exception as error:  # noqa: BLE001
            self._errors.note("publishing a pose", error)
            return False

    def _reject(self, reason: str, said: str) -> None:
        self.metrics.count("rejected", reason)
        self._housekeeping.last_error = said

    def _count_filter_rejections(self) -> None:
        total = self._filter.rejected
        for reason, n in (total - self._filter_rejected).items():
            self.metrics.count("rejected", reason, n)
            self._housekeeping.last_error = f"frame refused by the filter: {reason}"
        self._filter_rejected = Counter(total)

    # -- beside the data path -----------------------------------------------------------------------------------------

    def _wait(self) -> dict[Any, int]:
        """Sleep until a message comes or the output clock ticks; the sockets that have something."""
        now, rehearsal = now_ns(), self._rehearsal
        wait_ns = self._clock.wait_ns(now)
        if rehearsal is not None:
            wait_ns = min(wait_ns, rehearsal.wait_ns(now))
        ready = self._sockets.poll(wait_ns // 1_000_000)
        if not ready and rehearsal is not None:
            passes = rehearsal.run_if_due(now_ns(), interrupted=lambda: self._sockets.poll(0))
            self.metrics.count("rehearsals", n=passes)
        if not ready and self._clock.on:  # poll counts in whole milliseconds: sleep the rest
            time.sleep(self._clock.rest_s(now_ns()))
        return ready

    def _run_errands(self, ready: dict[Any, int]) -> None:
        """What others ask, and what is due once a second; nothing of it costs a frame, or another errand."""
        if self._sockets.poses_out in ready:
            with self._errors.caught("reading subscriptions"):
                self._publisher.read_subscriptions(MAX_DRAIN)
        if self._sockets.control in ready:
            self._answer_control()
        now = now_ns()
        if self._housekeeping.due(now):
            with self._errors.caught("housekeeping"):
                self._housekeeping.do(now)
                if self._every_second is not None:
                    self._every_second()

    def _answer_control(self) -> None:
        try:
            request = self._sockets.control.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        command, reply = self._control.answer(request[-1])
        self.metrics.count("control_requests", command)
        with contextlib.suppress(zmq.Again):
            self._sockets.control.send(reply, zmq.NOBLOCK)

    # -- start and end ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Finish the present turn and one last one, then leave ``run``."""
        self._stop = True

    def run(
        self,
        on_ready: Callable[[dict[str, str]], None] | None = None,
        every_second: Callable[[], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
        inside: zmq.Context[Any] | None = None,
    ) -> None:
        """Serve until stopped. The filter is warm before the first socket opens; then ``on_ready(endpoints)``.

        ``stopped()`` is asked once a turn, at least ten times a second: a signal handler's flag. ``inside``: see
        ``open_sockets``.
        """
        self._every_second = every_second
        warm_up(self._filter)
        refused = partial(self.metrics.count, "connections_refused", "key")
        with contextlib.ExitStack() as stack:
            stack.callback(self.keep_skeletons)
            sockets = stack.enter_context(open_sockets(self.config, refused, inside))
            if self.config.metrics_port:
                from streamer.server.exposition import serving_http

                stack.enter_context(serving_http(self.metrics, self.config.metrics_port))
            self.open_on(sockets)
            self.metrics.alive_ns, self.metrics.ready = now_ns(), True
            if on_ready is not None:
                on_ready(sockets.endpoints)
            while not (self._stop or stopped()):
                self.guarded_turn()
            self.guarded_turn()  # what came in before the signal still goes out

    def open_on(self, sockets: Sockets) -> None:
        """Put together what works on open sockets."""
        self._sockets = sockets
        self._clock.set(self.config.rate_hz, now_ns(), {})
        self._publisher = Publisher(sockets, self.metrics, self._crowd, self.config, self.taps)
        self._housekeeping = Housekeeping(
            self._filter, self._crowd, self.metrics, sockets, self._publisher, self.config.evict_s
        )
        operations = Operations(self._filter, self._crowd, self.metrics, sockets.endpoints, self._clock, self.stop)
        self._control = Control(operations, self._errors)

    def read_from(
        self, descriptor: int, inlet: Callable[[], list[Frame]], rehearse: Callable[[], object]
    ) -> None:  # fmt: skip
        """From now on the loop itself reads a source of this process, whose frames so take no way at all.

        Args:
            descriptor: readable when ``inlet`` may have frames.
            inlet: gives at most ``MAX_DRAIN`` frames that are there. It never waits, nor raises.
            rehearse: does for nothing what ``inlet`` does with what comes; see Rehearsal.
        """
        self._rehearsed.append(rehearse)
        self._sockets.watch(descriptor)
        self._inlet = inlet

    def warnings(self) -> list[str]:
        """What looks wrong with actors' streams, also of those refused, in sentences; for the loop's thread."""
        return self._filter.warnings()

    def keep_skeletons(self) -> None:
        """The last thing: returns when the actors' skeletons are in their folder, if there is one."""
        if self._kept is not None:
            with self._errors.caught("keeping skeletons"):
                self._crowd.keep()
            self._kept.close()

    def guarded_turn(self) -> None:
        """A turn that ends in any case; what goes wrong in it is counted."""
        try:
            self.turn()
            self.metrics.alive_ns = now_ns()
        except Exception as error:  # noqa: BLE001
            self._errors.note("turning round, and the frames of this turn are lost", error)
            self.metrics.count("rejected", "error", self.metrics.unaccounted())
            self.metrics.settle()
