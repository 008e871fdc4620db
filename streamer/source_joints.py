"""``Pose.source``: the refined joints as the source itself places them, in the order of its layout.

A point of the layout that is a joint of the model comes from the model (``Block.source``), any other one is carried by
such a joint (carried.py). A point that the source has never given is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.layouts import Layout
from streamer.carried import F64, Bools, CarriedPoints
from streamer.carriers import Carriers, carriers_of
from streamer.intake import Seen
from streamer.runtimes.block import F32

LayoutOf = Callable[[str], Layout]


class Told(NamedTuple):
    """Poses of some rows (B), relative to the actors' origins."""

    t_ns: list[int]  # the times that they are for
    frames: F32  # (B, 6, 24) the newest, as in the block
    free: F32  # (B, 24, 3) m
    rotations: F32  # (B, 24, 4)
    origin: F64  # (B, 3) m


@dataclass(slots=True)
class Row:
    """What is known of one actor's points."""

    of: Carriers
    layout: str  # its name, as the newest frame gives it
    missing: Bools | None  # (own points,) True: never given; None: all were
    carried: CarriedPoints | None

    def note(self, present: Sequence[float]) -> None:
        """Which of the model's joints (24,) a frame gives."""
        if self.missing is not None:
            self.missing &= ~(np.array(present)[self.of.joints] > 0)
            if not self.missing.any():
                self.missing = None


class SourceJoints:
    """The points of all actors, by rows of the block."""

    def __init__(self, capacity: int) -> None:
        self._rows: list[Row | None] = [None] * capacity

    def forget(self, row: int) -> None:
        """Nothing is known of an actor."""
        self._rows[row] = None

    def restart(self, row: int) -> None:
        """A new track of the same body begins."""
        known = self._rows[row]
        if known is not None and known.carried is not None:
            known.carried.restart()

    def answer(self, rows: Sequence[int], told: Told, seen: Seen | None, layout_of: LayoutOf) -> list[tuple[str, F32]]:
        """For each row, the name of its layout and its points (J of the layout, 3) in the world [m].

        Args:
            told: what the block has just answered for the rows.
            seen: the frames that it has just taken in, one a row; None: it was asked for other times.
        """
        if seen is not None:
            for i, row in enumerate(rows):
                self._meet(row, seen, i, layout_of)
        placed = told.free + told.origin[:, None]  # (B, 24, 3) in float64
        answers = []
        for i, row in enumerate(rows):
            state = self._rows[row]
            assert state is not None  # of every row that has an answer a frame was seen
            points = placed[i].astype(np.float32) if state.of.whole else _own(state.of, placed[i])
            if state.carried is not None:
                points[state.of.others] = self._carried(state.of, state.carried, i, told, seen) + told.origin[i]
            if state.missing is not None:
                points[state.of.own[state.missing]] = np.nan
            answers.append((state.layout, points))
        return answers

    def _carried(self, of: Carriers, carried: CarriedPoints, i: int, told: Told, seen: Seen | None) -> F64:
        """(E, 3) relative to the origin."""
        if seen is not None:
            frame = seen.frames[i]
            with np.errstate(invalid="ignore"):  # whatever kind of NaN a source sends
                positions = np.asarray(frame.positions, np.float64)
            confidence = None if frame.confidence is None else np.asarray(frame.confidence, np.float32)
            points = of.layout.points(of.others, positions, confidence) - told.origin[i]
            carried.take(seen.t_ns[i], points, told.frames[i, :4], told.t_ns[i], told.rotations[i], told.free[i])
        return carried.at(told.t_ns[i], told.free[i])

    def _meet(self, row: int, seen: Seen, i: int, layout_of: LayoutOf) -> None:
        """A frame of an actor: another layout begins anew."""
        state, name = self._rows[row], seen.frames[i].layout
        if state is None or state.layout != name:
            of = carriers_of(layout_of(name))
            carried = CarriedPoints(of) if len(of.others) else None
            state = self._rows[row] = Row(of, name, np.ones(len(of.own), np.bool_), carried)
        state.note(seen.shown[i][3])


def _own(of: Carriers, placed: F64) -> F32:
    points: F32 = np.empty((len(of.layout.joints), 3), np.float32)
    points[of.own] = placed[of.joints]
    return points
