"""What each actor showed last, and whether a frame is news of it: not the same again, nor a jump that no body makes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from streamer.clock import SECOND_NS
from streamer.runtimes.block import F32
from streamer.vetting import CORNERS, Shown

JUMP_M = 0.25  # half of the joints do not move farther than this and FASTEST_M_S allow
FASTEST_M_S = 10.0
FEWEST = 4  # joints seen in both frames; fewer say nothing of the body
BETWEEN = 4  # frames of one body between two of the other, at most, where two sources take turns

News = Literal["news", "repeated", "astray", "cut"]


class Other(NamedTuple):
    """A body where the actor cannot be, till a second frame shows it, too."""

    t_ns: int
    frames: int  # of the track then
    shown: F32  # (4, 24)
    turns: int  # times it has come back after frames of the track


class Sight:
    """By rows. Frames here are (4, 24): x, y, z relative to the actor's origin [m] and 0 where absent; present."""

    def __init__(self, capacity: int) -> None:
        self._shown: list[Shown | None] = [None] * capacity  # the newest observation in the world
        self._others: dict[int, Other] = {}

    def forget(self, row: int) -> None:
        self._shown[row] = None
        self._others.pop(row, None)

    def plainly_news(self, row: int, shown: Shown) -> bool:
        """Whether the frame moved, and less than in any jump; it is kept. ``judge`` says what other frames are."""
        before, self._shown[row] = self._shown[row], shown
        if before is None or shown == before:
            return False
        xs, ys, zs, there = shown
        xo, yo, zo, was = before
        for joint in CORNERS:
            if there[joint] and was[joint]:
                x, y, z = xs[joint] - xo[joint], ys[joint] - yo[joint], zs[joint] - zo[joint]
                return x * x + y * y + z * z < JUMP_M**2
        return False

    def judge(self, row: int, now: F32, shown: F32, t_ns: int, last_ns: int, frames: int) -> News:
        """What a frame is: news; the newest observation bit for bit; a body astray; a second one there, a cut.

        Args:
            shown: the newest observation, and last_ns its time. frames: how many the track has.
        """
        if repeats(now, shown):
            return "repeated"
        if not _jumps(now, shown, t_ns - last_ns):
            return "news"
        other, turns = self._others.get(row), 0
        if other is not None and not _jumps(now, other.shown, t_ns - other.t_ns):
            if other.frames == frames:
                return "cut"
            turns = other.turns + 1 if frames - other.frames <= BETWEEN else 0
        self._others[row] = Other(t_ns, frames, now, turns)
        self._shown[row] = None  # what comes next is compared with ``shown``
        return "astray"

    def turns(self, row: int) -> int:
        """How often another body has come back between frames of the track."""
        return self._others[row].turns


def repeats(now: F32, shown: F32) -> bool:
    """Whether a frame shows somebody, and is the newest observation bit for bit."""
    return bool(now[3].any()) and np.array_equal(now, shown)


def _jumps(now: F32, before: F32, dt_ns: int) -> bool:
    both = now[3] * before[3]
    moved = (now[:3] - before[:3]) * both
    square = np.add.reduce(moved * moved, 0)
    if np.add.reduce(square) < 0.5 * FEWEST * JUMP_M**2:  # half of them would have moved as far
        return False
    common = both > 0
    if np.count_nonzero(common) < FEWEST:
        return False
    farthest_m = JUMP_M + FASTEST_M_S * abs(dt_ns) / SECOND_NS
    return bool(np.median(square[common]) > farthest_m**2)
