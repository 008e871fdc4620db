"""The actors: who is there, and the state of all of them as rows, the same as the runtime's block.

What is in them: each one's track in time, origin and skeleton. Times are kept from an actor's first frame, so that no
clock is too old. intake.py says which frames can be used at all, filter.py has the whole data path.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.clock import SECOND_NS
from streamer.doubt import doubts
from streamer.errors import ConfigError, FrameError
from streamer.foot_lock import FootLock
from streamer.frames import Frame
from streamer.intake import FARTHEST_NS, Seen
from streamer.orientation import Orientation
from streamer.runtimes.block import F32, RowIndex, Runtime, row_index
from streamer.sight import Sight, repeats
from streamer.skeletons import F64, Skeletons
from streamer.source_joints import SourceJoints
from streamer.tracks import ALTERNATED, PAUSE_NS, SHORT_NS, Clock
from streamer.warnings import Warnings
from streamer.watch import EVERY_NS, Opinion, percent

Floats = npt.NDArray[np.floating[Any]]

NEVER_NS = -FARTHEST_NS  # stands for the last frame where there is none; ``frames`` says whether there is
MOST_NAMES = 4096  # of the absent, whose skeleton's version is known
LOST_NS = SECOND_NS  # with no joint seen for this long, the actor is lost
RECENT = 16  # frame intervals that the rate is taken from


@dataclass(slots=True)
class Track:
    """A row in time, as plain numbers: on the hot path numpy takes a microsecond for each of them."""

    newest: Frame | None = None  # None: reset, and no frame since
    frames: int = 0
    last_ns: int = NEVER_NS  # of the newest observation; so that no frame follows the beginning unexamined
    seen_ns: int = NEVER_NS  # of the newest that showed any joint
    even_ns: int = 0  # the newest observation's time as the network is told it
    lag_ns: int = 0  # the next one's stamp after that clock: 0 but for stamps that are evened out
    epoch_ns: int = 0  # the first one's
    intervals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    calm: bool = True  # nothing is going on with the clock,
    over: bool = False  # and it is over: the next frame begins another
    clock: Clock | None = None  # made when something is
    watch_ns: int = NEVER_NS  # when to look at how the stream looks

    def ring_ns(self, window: int) -> int:
        """Time that the ring spans at the recent frame rate: a longer gap has nothing to do with what is in it."""
        if not self.intervals_ns:
            return 2 * SECOND_NS
        middle = sorted(self.intervals_ns)[len(self.intervals_ns) // 2]
        return window * max(middle, SECOND_NS // 240)


class Actor(NamedTuple):
    """What is known of one actor now."""

    newest: Frame | None  # None: reset, and no frame since
    offsets_m: F32  # (24, 3) skeleton in use
    calibrated: bool


class Actors(Mapping[str, Actor]):
    """Rows by name; as a mapping, what is known of each."""

    def __init__(self, runtime: Runtime, most: int, landmarks: bool, foot_lock: bool = False) -> None:
        contract = runtime.contract
        self.earliest_s = contract.tau_s[0]  # of the times after a frame that can be asked for
        try:
            self.block = runtime.open(most)
            n = self.capacity = self.block.capacity
            self.skeletons, self.sight = Skeletons(contract, n), Sight(n)
            self.points, self.orientation = SourceJoints(n), Orientation(n, landmarks)
            self.feet = FootLock(n) if foot_lock else None
        except MemoryError as error:
            raise ConfigError(f"max_actors {most}: there is no memory for so many") from error
        self.warnings = Warnings()
        self._rows: dict[str, int] = {}
        self._versions: dict[str, int] = {}  # of the skeletons of those who are gone, in order of going
        self._all = np.arange(n)
        self._free = list(range(n))  # a heap: the lowest rows are used, and only their memory
        self._window, self._angular = contract.window, np.asarray(contract.angular_hz, np.float64)
        self.tracks, self._opinions = [Track() for _ in range(n)], [Opinion() for _ in range(n)]
        self.origin: F64 = np.zeros((n, 3))

    def __getitem__(self, actor: str) -> Actor:
        row = self._rows[actor]
        return Actor(self.tracks[row].newest, self.skeletons.offsets_m[row].copy(), bool(self.skeletons.done[row]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, actor: object) -> bool:
        return actor in self._rows

    def row(self, actor: str) -> int | None:
        return self._rows.get(actor)

    # -- coming and going

    def open(self, actor: str) -> int:
        """A row, as new, for an actor that is not there.

        Raises:
            FrameError: "too_many_actors".
        """
        if not self._free:
            raise FrameError("too_many_actors", f"actor {actor!r}: {self.capacity} actors are there already")
        row = self._rows[actor] = heapq.heappop(self._free)
        self.skeletons.open(row, self._versions.pop(actor, 0))
        self._forget(row)
        return row

    def remove(self, actor: str) -> None:
        """Nothing stays of an actor but which versions its skeleton has had."""
        row = self._rows.pop(actor, None)
        if row is not None:
            self._versions[actor] = int(self.skeletons.version[row])
            if len(self._versions) > MOST_NAMES:
                del self._versions[next(iter(self._versions))]
            self._forget(row)
            self.warnings.forget(actor)
            heapq.heappush(self._free, row)

    def reset(self, actor: str) -> None:
        """As if it had just appeared."""
        row = self._rows[actor]
        self.skeletons.reset(row)
        self._forget(row)
        self.warnings.forget(actor)

    def give(self, actor: str, offsets_m: F32, version: int | None) -> None:
        """Use a known skeleton (24, 3) for an actor."""
        row = self._rows[actor]
        self.skeletons.give(row, offsets_m, version)
        self.block.offsets_m[row] = offsets_m

    def calibrate(self, actor: str) -> None:
        """Measure an actor's bones anew."""
        self.skeletons.restart(self._rows[actor])

    def adopt(self, actor: str, offsets_m: F32, measured_s: float) -> None:
        """Use a skeleton (24, 3) that was measured for an actor, in so many seconds."""
        row = self._rows[actor]
        self.skeletons.put(row, offsets_m, measured_s)
        self.block.offsets_m[row] = offsets_m

    def shown(self, row: int) -> tuple[F64, npt.NDArray[np.bool_]]:
        """(24, 3) joints of the newest frame [m, world], and which (24,) it shows."""
        frame = self.block.frame[row]
        return frame[:3].T + self.origin[row], frame[3] > 0

    def _forget(self, row: int) -> None:
        """All that is thought of an actor, too."""
        self._clear(row)
        self._opinions[row] = Opinion()
        self.points.forget(row)

    def _clear(self, row: int) -> None:
        """The track."""
        self.block.reset(row)
        self.block.offsets_m[row] = self.skeletons.offsets_m[row]
        self.tracks[row] = Track()
        self._opinions[row].forget_samples()
        self.sight.forget(row)
        self.points.restart(row)
        self.orientation.forget(row)
        if self.feet is not None:
            self.feet.forget(row)

    # -- the hot path

    def follow(self, rows: list[int], seen: Seen, errors: dict[int, FrameError]) -> tuple[list[int], Seen]:
        """The frames whose time is right: after the actor's last one; the others' errors go to ``errors``.

        A first frame, and one after a gap longer than the ring, begins a track, with the skeleton as it is.
        """
        unusual = [
            i for i, (row, t_ns) in enumerate(zip(rows, seen.t_ns))
            if not ((track := self.tracks[row]).calm and SHORT_NS <= t_ns - track.last_ns <= PAUSE_NS)
        ]  # fmt: skip
        if not unusual:
            return rows, seen
        for i in unusual:
            error = self._place(rows[i], seen, i)
            if error is not None:
                errors[seen.places[i]] = error
        kept = [i for i, place in enumerate(seen.places) if place not in errors]
        return [rows[i] for i in kept], seen.at(kept)

    def _place(self, row: int, seen: Seen, i: int) -> FrameError | None:
        """Puts frame ``i`` in time, on the row's track or on a new one; an error if it has no place."""
        track, frame, t_ns = self.tracks[row], seen.frames[i], seen.t_ns[i]
        if track.newest is None:
            return self._begin(row, seen, i)
        clock = self._clock(row, frame.actor)
        fresh = not repeats(self._near(row, seen.joints[i]), self.block.frame[row, :4])
        verdict = clock.judge(frame, track.newest, track.last_ns, list(track.intervals_ns), fresh)
        if isinstance(verdict, FrameError):
            track.calm = False
            return verdict
        long = fresh and t_ns - track.last_ns > max(track.ring_ns(self._window), PAUSE_NS)
        if long or track.over or verdict == "begin":
            return self._begin(row, seen, i)
        clock.settle()
        track.calm = clock.calm
        if clock.evener is not None:
            track.lag_ns = t_ns - clock.evener.even(t_ns, frame.seq)
        return None

    def _clock(self, row: int, actor: str) -> Clock:
        track = self.tracks[row]
        if track.clock is None:
            track.clock = Clock(actor, self.warnings)
        return track.clock

    def _begin(self, row: int, seen: Seen, i: int) -> FrameError | None:
        """Begins a track with frame ``i``, on the skeleton as it is; an error if it shows nobody."""
        xyz, present = seen.joints[i, :3], seen.joints[i, 3] > 0
        if not present.any():
            return FrameError("empty", "positions: the actor's first frame has no usable joint")
        if self.tracks[row].frames:
            self.warnings.counts["new_tracks"] += 1
            self._opinions[row].back |= seen.t_ns[i] - self.tracks[row].seen_ns > LOST_NS
        previous = self.block.previous[row].copy()  # quaternion signs go on over a gap
        self._clear(row)
        self.block.previous[row] = previous
        self.origin[row] = xyz[:, present].astype(np.float64).mean(1)
        track = self.tracks[row]
        track.last_ns = track.even_ns = track.epoch_ns = track.seen_ns = seen.t_ns[i]
        return None

    def sift(self, rows: list[int], seen: Seen) -> list[int]:
        """Which frames are no news of their actor: repeated, or of a body astray. A cut begins a track."""
        held = []
        for i, (row, frame) in enumerate(zip(rows, seen.frames)):
            track = self.tracks[row]
            if track.newest is not None and frame.seq <= track.newest.seq:
                self._clock(row, frame.actor).went_back(frame.seq, track.frames)
            if not self.sight.plainly_news(row, seen.shown[i]) and track.frames and not self._is_news(row, seen, i):
                held.append(i)
        return held

    def _is_news(self, row: int, seen: Seen, i: int) -> bool:
        track, frame, t_ns = self.tracks[row], seen.frames[i], seen.t_ns[i]
        now = self._near(row, seen.joints[i])
        news = self.sight.judge(row, now, self.block.frame[row, :4], t_ns, track.last_ns, track.frames)
        if news == "news":
            return True
        if news == "cut":
            self.warnings.count("cuts", frame.actor, "jumped farther than a body can: a new track, the same skeleton")
            return self._begin(row, seen, i) is None
        clock = self._clock(row, frame.actor)
        clock.heard_ns, track.calm = t_ns, False
        self.warnings.counts[news] += 1
        if news == "astray" and self.sight.turns(row) == ALTERNATED:
            clock.two_sources("two bodies take turns")
        return False

    def _near(self, row: int, joints: F32) -> F32:
        """(4, 24) a frame as ``fill`` writes it: relative to the row's origin, 0 where absent; present."""
        now = joints[:4].copy()
        now[:3] -= self.origin[row, :, None]
        now[:3] *= now[3]
        return now

    def fill(self, rows: list[int], seen: Seen) -> F64:
        """Write frames into the block; (B,) seconds since each one's frame before."""
        block, joints, at = self.block, seen.joints, row_index(rows)
        joints[:, :3] -= self.origin[at, :, None]
        joints[:, :3] *= joints[:, 3:4]
        block.frame[at] = joints
        dt, since = [], []
        for i, (row, t_ns) in enumerate(zip(rows, seen.t_ns)):
            track = self.tracks[row]
            even_ns = t_ns - track.lag_ns
            interval_ns = even_ns - track.even_ns
            dt.append(interval_ns / SECOND_NS)
            since.append((even_ns - track.epoch_ns) / SECOND_NS)
            if track.frames:
                track.intervals_ns.append(interval_ns)
            track.frames += 1
            track.newest, track.last_ns, track.even_ns = seen.frames[i], t_ns, even_ns
            self.orientation.take(row, seen.frames[i], even_ns)
            if any(seen.shown[i][3]):
                if t_ns - track.seen_ns > LOST_NS:
                    self._opinions[row].back = True
                track.seen_ns = t_ns
            if t_ns >= track.watch_ns:
                track.watch_ns = t_ns + EVERY_NS
                if self._opinions[row].take(joints[i]):
                    self._look(row, seen.frames[i].actor)
        dt_s: F64 = np.array(dt)
        angle = np.array(since)[:, None] * self._angular  # float64: good for years
        time, turns = block.time, 1 + len(self._angular)
        time[at, 0], time[at, 1:turns], time[at, turns:] = dt_s, np.cos(angle), np.sin(angle)
        return dt_s

    def _look(self, row: int, actor: str) -> None:
        """Once a second: what looks wrong with the stream is said; the bones of another body are measured anew."""
        opinion, skeletons = self._opinions[row], self.skeletons
        seen = opinion.look(skeletons.lengths_m[row])
        opinion.report(seen, actor, self.warnings)
        if not skeletons.done[row] or not opinion.is_another(seen.grown):
            return
        differ = f"its limbs are {percent(seen.grown)} than those of the skeleton"
        if skeletons.given[row]:
            self.warnings.state("misfits", actor, f"{differ} that it was given: calibrate it, or give its own")
        else:
            self.warnings.count("new_bodies", actor, f"{differ} in use: another body, it seems; measured anew")
            skeletons.restart(row)
            track = self.tracks[row]
            track.calm, track.over = False, True  # the network has the other body in mind

    def learn(self, at: RowIndex, dt_s: F64) -> None:
        """Calibrate on the frames just stepped; who adopts a skeleton is answered again, on it."""
        done = self.skeletons.done[at]
        if np.count_nonzero(done) < len(done):
            some = self._all[at][~done]
            changed = self.skeletons.update(some, self.block.skeleton(some), dt_s[~done])
            if len(changed):
                self.block.offsets_m[changed] = self.skeletons.offsets_m[changed]
                self.block.pose(changed)

    def turned(
        self, rows: list[int], t_ns: list[int], wanted_ns: list[int], positions: Floats
    ) -> tuple[F32, dict[int, F32]]:
        """(B, 24, 4) the rotations that the block has just answered, for ``t_ns``, turned as the sources show them; and
        for the rows whose sources do, the angles (24,) by which they may be off [rad].

        ``wanted_ns``: the times that were asked for. ``positions`` (B, 24, 3) [m] of that answer: feet that heels turn
        are moved in place.
        """
        block, shown = self.block, self.orientation.tracks
        rotations, sigma = block.rotations[row_index(rows)], {}
        turning = [i for i, row in enumerate(rows) if shown[row] is not None]
        if turning:
            rotations = rotations.copy()
        for i in turning:
            row = rows[i]
            track, seen, bones = self.tracks[row], shown[row], self.skeletons
            assert seen is not None
            variance, even_ns = doubts(block.covariance[row], bones.lengths_m[row]), track.even_ns - track.last_ns
            seen.put(
                positions[i], rotations[i], block.previous[row], variance, bones.offsets_m[row],
                int(bones.version[row]), t_ns[i] + even_ns, wanted_ns[i] + even_ns,
            )  # fmt: skip
            sigma[row] = np.sqrt(variance)
        return rotations, sigma

    def sound(self, at: RowIndex) -> bool:
        """Whether all that the block has just answered is finite: a product with itself says it in one pass."""
        positions, rotations = self.block.positions[at], self.block.rotations[at]
        covariance = self.block.covariance[at]
        return isfinite(np.vdot(positions, positions) + np.vdot(rotations, rotations) + np.vdot(covariance, covariance))

    def renew(self, row: int, seen: Seen, i: int) -> Seen:
        """Nothing stays of an actor but frame ``i``, which ``fill`` had written: as its first it is given back."""
        frame = seen.frames[i]
        self.warnings.count("nonfinite_poses", frame.actor, "its pose was not finite: begun anew, with new bones")
        joints = seen.joints[i : i + 1].copy()
        joints[:, :3] += self.origin[row, :, None] * joints[:, 3:4]
        first = Seen([seen.places[i]], [frame], [seen.t_ns[i]], joints, [seen.shown[i]])
        self.skeletons.reset(row)
        self._forget(row)
        self._begin(row, first, 0)
        return first
