"""What every runtime is to the filter: a block of rows, each the state of one actor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.contract import Contract

F32 = npt.NDArray[np.float32]
RowIndex = slice | npt.NDArray[np.intp]  # different rows of a block; a slice takes numpy a tenth of the time


def row_index(rows: Sequence[int]) -> RowIndex:
    """Different rows as an index: a slice where each follows the one before, as one row does and a whole crowd."""
    first, count = rows[0], len(rows)
    if count == 1 or list(rows) == list(range(first, first + count)):
        return slice(first, first + count)
    return np.array(rows, np.intp)


class Block(Protocol):
    """The state of N actors, a row each, as arrays over rows. What is said of one row depends on no other row.

    The caller writes, at the rows it then calls with:
        frame (N, 6, 24): x, y, z relative to the actor's origin [m], present, confidence, derived;
        time (N, 1 + 2 D): seconds since the previous frame, cosines and sines of the rotary phase;
        tau_s (N,): which pose is wanted, seconds after the frame; offsets_m (N, 24, 3): on which skeleton;
        previous (N, 24, 4): quaternions whose signs the answer's shall continue.
    It reads, where they stand until the next call with that row:
        positions (N, 24, 3) relative to the origin [m], source (N, 24, 3) the same joints as the source places them,
        rotations (N, 24, 4), covariance (N, 24, 3, 3), contact (N, 2).
    """

    capacity: int  # N
    frame: F32
    time: F32
    tau_s: F32
    offsets_m: F32
    previous: F32
    positions: F32
    source: F32
    rotations: F32
    covariance: F32
    contact: F32

    def step(self, rows: RowIndex) -> None:
        """Take in the frames of these rows, and answer as ``pose`` does."""
        ...

    def pose(self, rows: RowIndex) -> None:
        """Answer for the last frame of each of these rows + tau_s."""
        ...

    def skeleton(self, rows: RowIndex) -> F32:
        """What the last frames show of the actors' skeletons: (B, 24, 4) bone in the rest pose [m], and its weight."""
        ...

    def reset(self, row: int) -> None:
        """As new, all that the caller wrote included.

        Called before the first use of a row, and when it has no use any more: a GPU leaves it out of its calls then.
        """
        ...


class Runtime(Protocol):
    name: str
    contract: Contract

    def open(self, capacity: int) -> Block:
        """A block of so many rows, or of as many as the runtime has."""
        ...
