"""Who is there: what the server, not the filter, knows of each actor; the numbers and the keeping of skeletons."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamer.clock import SECOND_NS, ClockMap, now_ns
from streamer.errors import ConfigError
from streamer.frames import Array, Frame, Pose
from streamer.server.kept import KeptSkeleton, KeptSkeletons

if TYPE_CHECKING:
    from streamer.filter import PoseFilter

log = logging.getLogger("hpstm")
AWAY_NS = SECOND_NS // 2  # who was silent for longer may have been with another server that has the same folder
OWED = -1  # in place of the version of the skeleton published last: one is to be sent


class ActorRecord:
    """What the server knows of one actor."""

    __slots__ = ("clock", "filters_version", "kept_version", "last_ns", "pose", "sent_ns", "sent_version", "skipped",
                 "version")  # fmt: skip

    def __init__(self) -> None:
        self.clock = ClockMap()  # source clock -> ours, for the output clock
        self.last_ns = 0  # received time of the newest accepted frame
        self.pose: Pose | None = None  # the last one published: its skeleton, its status
        self.skipped = 0
        self.version = 0  # of the skeleton in use, as the world knows it
        self.filters_version = OWED  # the same skeleton's, as the filter counts
        self.kept_version = 0  # of the skeleton in the folder
        self.sent_version, self.sent_ns = OWED, 0  # of the skeleton published last


class Crowd(dict[str, ActorRecord]):
    """The records by name of the actors that the filter has.

    Args:
        most: of them at a time.
        kept: where skeletons outlive them; None: nowhere.
    """

    def __init__(self, pose_filter: PoseFilter, most: int, kept: KeptSkeletons | None) -> None:
        super().__init__()
        self._filter, self._most, self._kept, self._newest_version = pose_filter, most, kept, 0

    def names(self) -> list[str]:
        """Those who are there."""
        return [actor for actor in self._filter.actors if actor in self]

    # -- for each frame

    def expect(self, frames: Iterable[Frame]) -> None:
        """Before frames go to the filter: who comes, or comes back, gets the skeleton that is kept of them."""
        if self._kept is None:
            return
        for actor, received_ns in {frame.actor: frame.received_ns for frame in frames}.items():
            record = self.get(actor)
            comes = len(self) < self._most if record is None else 0 < record.last_ns < received_ns - AWAY_NS
            kept = self._kept.load(actor) if comes else None
            if kept is not None and (record is None or kept.version > record.version):
                self._take_up(kept)

    def _take_up(self, kept: KeptSkeleton) -> None:
        # With a version it is one that was measured, and is measured anew where another body comes; a gift stays.
        version = kept.version if kept.measured_s else None
        try:
            self._filter.set_skeleton(kept.actor, kept.offsets_m, version)
        except ConfigError as error:
            log.warning("the skeleton that is kept of %r is not used: %s", kept.actor, error)
            return
        record = self.setdefault(kept.actor, ActorRecord())
        record.version = record.kept_version = kept.version
        record.filters_version = OWED
        self._newest_version = max(self._newest_version, kept.version)

    def accepted(self, frame: Frame) -> ActorRecord:
        """The actor's record, new if need be; its last frame is this one."""
        record = self.get(frame.actor)
        if record is None:
            record = self[frame.actor] = ActorRecord()
        record.last_ns = frame.received_ns
        return record

    def number(self, record: ActorRecord, filters_version: int) -> None:
        """The filter's skeleton of an actor has changed: its bones get a number that none ever had.

        That is the time [ms since 1970], or one more than the last: so it grows over restarts of the server, too.
        A skeleton from the folder keeps the number that it was published with.
        """
        if record.filters_version != OWED or not record.version:
            self._newest_version = max(self._newest_version + 1, time.time_ns() // 1_000_000)
            record.version = self._newest_version
        record.filters_version = filters_version

    # -- once a second

    def silent(self, now: int, longer_s: float) -> list[str]:
        """Who sent nothing that could be used for so long."""
        known = dict.fromkeys([*self._filter.actors, *self])
        return [actor for actor in known if now - self._last_ns(actor) > longer_s * SECOND_NS]

    def _last_ns(self, actor: str) -> int:
        record = self.get(actor)
        return 0 if record is None else record.last_ns

    def remove(self, actor: str) -> None:
        """The actor is gone; its skeleton is kept, if it is known well."""
        self._keep_if_new(actor)
        self._filter.remove(actor)
        self.pop(actor, None)

    def keep(self) -> None:
        """Have skeletons written that are measured and not in the folder yet."""
        if self._kept is not None:
            for actor in self.names():
                self._keep_if_new(actor)

    def _keep_if_new(self, actor: str) -> None:
        if self._kept is None or (known := self._known(actor)) is None:
            return
        skeleton, final = known
        if final and skeleton.version != self[actor].kept_version:
            self[actor].kept_version = skeleton.version
            self._kept.save(skeleton)

    def _known(self, actor: str) -> tuple[KeptSkeleton, bool] | None:
        """The skeleton of an actor who is there, and whether it is final."""
        known, record = self._filter.get_skeleton(actor), self.get(actor)
        if known is None or record is None:
            return None
        offsets_m, version, measured_s, done = known
        if version != record.filters_version:
            self.number(record, version)
        return KeptSkeleton(actor, record.version, offsets_m, measured_s), done

    # -- when the operator asks

    def reset(self, actor: str) -> None:
        """Forget the actor's motion and skeleton; nothing is published of it until its next frame."""
        self.calibrate(actor)  # so that a skeleton that was given does not come back
        self._filter.reset(actor)
        record = self[actor] = ActorRecord()
        record.last_ns = now_ns()

    def calibrate(self, actor: str, seconds: float | None = None) -> None:
        """Measure the actor's bones anew, on the skeleton in use until there is another: in any motion, or (then what
        is kept stays until it has come off) of somebody who stands still for so long."""
        self._filter.calibrate(actor, seconds)
        if seconds is None:
            self._forget_kept(actor)

    def give(self, actor: str, offsets_m: Array) -> None:
        """Use a known skeleton (24, 3) for an actor who is there or who will come.

        Raises:
            ConfigError: the filter does not take it.
        """
        self._filter.set_skeleton(actor, offsets_m)
        if self._kept is not None and actor not in self:
            unused = ActorRecord()
            self.number(unused, 0)
            self._kept.save(KeptSkeleton(actor, unused.version, offsets_m, 0.0))

    def skeleton(self, actor: str) -> tuple[KeptSkeleton, bool] | None:
        """An actor's skeleton and whether it is final; of one who is not there, what is kept; None: nothing."""
        known = self._known(actor)
        if known is None and self._kept is not None and (kept := self._kept.load(actor)) is not None:
            return kept, True
        return known

    def _forget_kept(self, actor: str) -> None:
        if self._kept is not None:
            self._kept.forget(actor)
            if actor in self:
                self[actor].kept_version = 0
