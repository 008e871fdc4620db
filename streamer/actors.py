"""The actors: who is there, and the state of all of them as arrays over rows, the same rows as the runtime's block.

What is in them: each one's clock, origin and skeleton. Times are kept from an actor's first frame, so that no clock is
too old. intake.py says which frames can be used at all, filter.py has the whole data path.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame
from streamer.intake import FARTHEST_NS, Seen
from streamer.runtimes.block import F32, RowIndex, Runtime, row_index
from streamer.skeletons import F64, Skeletons

PAUSE_NS = SECOND_NS // 4  # a shorter gap never begins a new track
NEVER_NS = -FARTHEST_NS  # stands for the last frame where there is none; ``frames`` says whether there is
RECENT = 16  # frame intervals that the rate is taken from


class Actor(NamedTuple):
    """What is known of one actor now."""

    newest: Frame | None  # None: reset, and no frame since
    offsets_m: F32  # (24, 3) skeleton in use
    calibrated: bool


class Actors(Mapping[str, Actor]):
    """Rows by name; as a mapping, what is known of each."""

    def __init__(self, runtime: Runtime, most: int) -> None:
        contract = runtime.contract
        try:
            self.block = runtime.open(most)
            n = self.capacity = self.block.capacity
            self.skeletons = Skeletons(contract, n)
        except MemoryError as error:
            raise ConfigError(f"max_actors {most}: there is no memory for so many") from error
        self._rows: dict[str, int] = {}
        self._all = np.arange(n)
        self._free = list(range(n))  # a heap: the lowest rows are used, and only their memory
        self._window, self._angular = contract.window, np.asarray(contract.angular_hz, np.float64)
        self.newest = np.full(n, None, object)  # Frame, or None: reset, and no frame since
        self.frames = np.zeros(n, np.int64)  # of the present track
        self.last_ns, self.seen_ns, self._epoch_ns = (np.zeros(n, np.int64) for _ in range(3))  # seen: any joint
        self.origin: F64 = np.zeros((n, 3))
        self._intervals_ns = np.zeros((n, RECENT), np.int64)  # interval k of the track at k % RECENT

    def __getitem__(self, actor: str) -> Actor:
        row = self._rows[actor]
        return Actor(self.newest[row], self.skeletons.offsets_m[row].copy(), bool(self.skeletons.done[row]))

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
        self.skeletons.open(row)
        self._clear(row)
        return row

    def remove(self, actor: str) -> None:
        """Nothing stays of an actor."""
        row = self._rows.pop(actor, None)
        if row is not None:
            self._clear(row)
            heapq.heappush(self._free, row)

    def reset(self, actor: str) -> None:
        """As if it had just appeared."""
        row = self._rows[actor]
        self.skeletons.reset(row)
        self._clear(row)

    def give(self, actor: str, offsets_m: F32) -> None:
        """Use a known skeleton (24, 3) for an actor."""
        row = self._rows[actor]
        self.skeletons.give(row, offsets_m)
        self.block.offsets_m[row] = offsets_m

    def calibrate(self, actor: str) -> None:
        """Measure an actor's bones anew."""
        self.skeletons.restart(self._rows[actor])

    def _clear(self, row: int) -> None:
        self.block.reset(row)
        self.block.offsets_m[row] = self.skeletons.offsets_m[row]
        self.newest[row], self.frames[row] = None, 0
        self.last_ns[row] = NEVER_NS  # so that no frame follows it unexamined

    # -- the hot path

    def follow(self, rows: list[int], seen: Seen, errors: dict[int, FrameError]) -> tuple[list[int], Seen]:
        """The frames whose time is right: after the actor's last one; the others' errors go to ``errors``.

        A first frame, and one after a gap longer than the ring, begins a track, with the skeleton as it is.
        """
        if not rows:
            return rows, seen
        gap_ns = seen.t_ns - self.last_ns[row_index(rows)]
        usual = (gap_ns > 0) & (gap_ns <= PAUSE_NS)
        if np.count_nonzero(usual) == len(usual):
            return rows, seen
        for i in np.flatnonzero(~usual).tolist():
            error = self._begin_if_due(rows[i], seen, i)
            if error is not None:
                errors[seen.places[i]] = error
        kept = [i for i, place in enumerate(seen.places) if place not in errors]
        return [rows[i] for i in kept], seen.at(kept)

    def _begin_if_due(self, row: int, seen: Seen, i: int) -> FrameError | None:
        """Begins a track with frame ``i`` if it is the row's first for long; an error if it cannot be taken."""
        t_ns, last_ns = int(seen.t_ns[i]), int(self.last_ns[row])
        if self.frames[row]:
            if t_ns <= last_ns:
                reason = "duplicate" if t_ns == last_ns else "late"
                return FrameError(reason, f"t_ns {t_ns} is not after the actor's last frame {last_ns}")
            if t_ns - last_ns <= max(self._ring_ns(row), PAUSE_NS):
                return None
        xyz, present = seen.joints[i, :3], seen.joints[i, 3] > 0
        if not present.any():
            return FrameError("empty", "positions: the actor's first frame has no usable joint")
        previous = self.block.previous[row].copy()  # quaternion signs go on over a gap
        self._clear(row)
        self.block.previous[row] = previous
        self.origin[row] = xyz[:, present].astype(np.float64).mean(1)
        self.last_ns[row] = self._epoch_ns[row] = t_ns
        return None

    def _ring_ns(self, row: int) -> int:
        """Time that the ring spans at the recent frame rate: a longer gap has nothing to do with what is in it."""
        known = min(int(self.frames[row]) - 1, RECENT)
        if not known:
            return 2 * SECOND_NS
        middle = int(np.sort(self._intervals_ns[row, :known])[known // 2])
        return self._window * max(middle, SECOND_NS // 240)

    def fill(self, at: RowIndex, seen: Seen) -> F64:
        """Write frames into the block; (B,) seconds since each one's frame before."""
        block, t_ns, joints = self.block, seen.t_ns, seen.joints
        present = joints[:, 3:4]
        joints[:, :3] -= self.origin[at, :, None]
        joints[:, :3] *= present
        block.frame[at] = joints
        dt_ns = t_ns - self.last_ns[at]
        since_s = (t_ns - self._epoch_ns[at]) / SECOND_NS
        dt_s: F64 = dt_ns / SECOND_NS
        angle = since_s[:, None] * self._angular  # float64: good for years
        block.time[at] = np.concatenate((dt_s[:, None], np.cos(angle), np.sin(angle)), 1)
        frames = self.frames[at]
        self._intervals_ns[self._all[at], (frames - 1) % RECENT] = dt_ns  # a first frame's, none, is written over
        self.frames[at] = frames + 1
        self.last_ns[at] = t_ns
        self.seen_ns[at] = np.where(np.maximum.reduce(present, 2)[:, 0], t_ns, self.seen_ns[at])
        self.newest[at] = seen.frames
        return dt_s

    def learn(self, at: RowIndex, dt_s: F64) -> None:
        """Calibrate on the frames just stepped; who adopts a skeleton is answered again, on it."""
        done = self.skeletons.done[at]
        if np.count_nonzero(done) < len(done):
            some = self._all[at][~done]
            changed = self.skeletons.update(some, self.block.skeleton(some), dt_s[~done])
            if len(changed):
                self.block.offsets_m[changed] = self.skeletons.offsets_m[changed]
                self.block.pose(changed)
