"""What goes out: poses, skeletons, the input to who asks for it, and once a second the books of all that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from model.skeleton import JOINTS, PARENTS
from streamer.clock import SECOND_NS, now_ns
from streamer.frames import Frame, Pose
from streamer.server.config import ServerConfig
from streamer.server.crowd import OWED, ActorRecord, Crowd
from streamer.server.metrics import Metrics
from streamer.server.sockets import Sockets
from streamer.wire.protocol import Books, Encoder, Skeleton

SKELETON_EVERY_NS = 5 * SECOND_NS  # repeated for subscribers that lost one; and at once when it changes or one joins
SKELETON_LEAST_NS = SECOND_NS // 10  # but not more often than this
MAX_PREFIX_BYTES = 128  # of a subscription that is remembered
MAX_PREFIXES = 4096
JOIN, LEAVE = b"\x01", b"\x00"  # how a subscription's message begins; any other is not one, whoever sends it


class Publisher:
    """Encodes and sends; counts what it sends. For the loop's thread alone.

    Args:
        taps: are given each pose, before it is encoded for the socket. The loop waits for them: for sinks that never
            wait, nor raise.
    """

    def __init__(
        self, sockets: Sockets, metrics: Metrics, crowd: Crowd, config: ServerConfig,
        taps: Sequence[Callable[[Pose], None]],
    ) -> None:  # fmt: skip
        self._sockets, self._metrics, self._crowd, self._taps = sockets, metrics, crowd, taps
        self._encoder = Encoder(config.source_joints)
        self._layouts = {path: name for name, path in config.layout_paths().items()}  # as the frames call them
        self._latency = metrics.histograms["latency"]
        self._frame_topics: set[bytes] = set()  # who wants the input passed on

    def pose(self, pose: Pose, record: ActorRecord) -> None:
        """Publish a pose of the actor of ``record``; its skeleton first, if that is news."""
        record.pose = pose
        pose.skipped = record.skipped
        pose.layout = self._layouts.get(pose.layout, pose.layout)
        if pose.skeleton_version != record.filters_version:
            self._crowd.number(record, pose.skeleton_version)
        pose.skeleton_version = record.version
        if record.version != record.sent_version:
            self.skeleton(record, now_ns())
        pose.published_ns = now_ns()
        for tap in self._taps:
            tap(pose)
        self._sockets.publish(self._encoder.pose(pose))
        self._metrics.count("poses_out")
        self._latency.observe(pose.published_ns - pose.received_ns)

    def skeleton(self, record: ActorRecord, now: int) -> None:
        """Publish an actor's skeleton, unless one has just gone out."""
        pose = record.pose
        if pose is None or now - record.sent_ns < SKELETON_LEAST_NS:
            return
        record.sent_version, record.sent_ns = pose.skeleton_version, now
        skeleton = Skeleton(pose.actor, pose.skeleton_version, JOINTS, PARENTS, pose.offsets_m, pose.lengths_m)
        self._sockets.publish(self._encoder.skeleton(skeleton))
        self._metrics.count("skeletons_out")

    def skeletons_that_are_due(self, now: int) -> None:
        """Publish those owed to somebody, and repeat those that went out long ago."""
        for record in self._crowd.values():
            if record.sent_version == OWED or now - record.sent_ns > SKELETON_EVERY_NS:
                self.skeleton(record, now)

    def pass_on(self, frame: bytes | Frame) -> None:
        """Publish a frame as it came, if somebody records the input."""
        if self._frame_topics:
            self._sockets.publish(frame if isinstance(frame, bytes) else self._encoder.frame(frame))

    def books(self, now: int) -> None:
        """Publish how many messages of each kind there were so far: who took all of a kind sees what it missed.

        Frames that nobody asked for count, too: whoever recorded them may have been cut off for a moment.
        """
        self._metrics.settle()
        frames, poses, skeletons = map(self._metrics.value, ("frames_in", "poses_out", "skeletons_out"))
        self._sockets.publish(self._encoder.books(Books(frames, poses, skeletons, now)))

    def read_subscriptions(self, most: int) -> None:
        """Who joins is owed every skeleton; who wants frames is remembered."""
        joined = False
        for message in self._sockets.received(self._sockets.poses_out, most):
            kind, prefix = message[:1], message[1:]
            if kind == JOIN:
                joined = True
                self._metrics.count("subscriptions")
                room = len(prefix) <= MAX_PREFIX_BYTES and len(self._frame_topics) < MAX_PREFIXES
                if prefix.startswith(b"frame.") and room:
                    self._frame_topics.add(prefix)
            elif kind == LEAVE:
                self._frame_topics.discard(prefix)
        if joined:
            for record in self._crowd.values():
                record.sent_version = OWED  # if not now, because one has just gone out, then soon
                self.skeleton(record, now_ns())
