"""What frames show of rotations beyond what joints alone do: landmarks around head, hands and feet, or rotations sent.

Either way it is two vectors in the world for each joint that is shown, which turn with it. orientation.py filters them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.landmarks import shown_by, shown_by_rotations
from model.layouts import Layout
from model.skeleton import CHILDREN, LEAVES, rest_directions
from streamer.frames import Frame
from streamer.heels import ANKLES

F64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

LANDMARKS_RAD = 0.07  # by how much a person's landmarks lie elsewhere than where the table has them
ROTATIONS_RAD = 0.02

# The nine entries of a unit quaternion's matrix as linear maps of the 16 products of its numbers x, y, z, w.
_MATRIX: F64 = np.zeros((4, 4, 3, 3))
for _i in range(3):
    _a, _b = (_i + 1) % 3, (_i + 2) % 3
    _MATRIX[3, 3, _i, _i] = _MATRIX[_i, _i, _i, _i] = 1.0
    _MATRIX[_a, _a, _i, _i] = _MATRIX[_b, _b, _i, _i] = -1.0
    _MATRIX[_a, _b, _a, _b] = _MATRIX[_a, _b, _b, _a] = 2.0
    _MATRIX[_i, 3, _b, _a], _MATRIX[_i, 3, _a, _b] = 2.0, -2.0
_MATRIX = _MATRIX.reshape(16, 9)


class Sample(NamedTuple):
    """What one frame shows of a kind's E joints: the vectors in the world (E, 2, 3), about unit length, meaningless
    where the confidence (E,) is 0: the joint is not shown."""

    vectors: Floats
    confidence: Floats


class Kind(ABC):
    """How frames of a layout show rotations, by their landmarks or by rotations that they bring.

    Attributes:
        joints: the canonical joints that they show.
        rest: (E, 2, 3) in the rest pose, the vectors that turn with each; zero: there is no second one.
        weight: (E, 2) how well each of the two is shown, the better one 1.
        error_rad: how far off they are for good.
        heels: whether a joint is an ankle that shows its heel, as the first of the two vectors, and nothing else.
        sent: they are rotations that a source sends, and so what is true of it.
    """

    sent = False

    def __init__(self, layout: Layout, joints: list[int], rest: F64, weight: F64, error_rad: float) -> None:
        self.layout, self.joints, self.rest, self.weight = layout, joints, rest, weight
        self.error_rad = error_rad
        self.leaves = [joint in LEAVES for joint in joints]
        alone = (weight[:, 1] == 0).tolist()
        self.heels = [joint in ANKLES and one for joint, one in zip(joints, alone)]

    @abstractmethod
    def read(self, frame: Frame) -> Sample:
        """What a frame shows whose arrays intake.py has found right."""


class ByLandmarks(Kind):
    """Points around a joint, which turn with it."""

    def __init__(self, layout: Layout) -> None:
        shown = shown_by(layout)
        assert shown is not None
        super().__init__(layout, shown.joints.tolist(), shown.rest, shown.weight, LANDMARKS_RAD)
        self._combine, self._uses = shown.combine, shown.uses
        self._share = (shown.uses / shown.uses.sum(1, keepdims=True)).astype(np.float32)
        self._all = np.ones(len(self.joints), np.float32)

    def read(self, frame: Frame) -> Sample:
        positions: Floats = np.asarray(frame.positions)
        confidence: Floats | None = None
        vectors: Floats = self._combine @ positions
        trust: Floats = self._all
        if frame.confidence is not None:
            confidence = np.minimum(frame.confidence, 1.0, dtype=np.float32)
            trust = self._share @ confidence
        whole = isfinite(np.add.reduce(vectors, None) + np.add.reduce(trust))
        if not whole or np.count_nonzero(positions) < positions.size:
            vectors, trust = self._partly(positions, confidence, trust)
        turn = self.layout.world_from_source
        if turn is not None:
            vectors = vectors @ turn.T
        return Sample(vectors.reshape(-1, 2, 3), trust)

    def _partly(self, positions: Floats, confidence: Floats | None, trust: Floats) -> tuple[Floats, Floats]:
        """The same where points are missing: the joints around which none is."""
        good: Bools = np.logical_and.reduce(np.isfinite(positions), -1)
        if not self.layout.zeros_are_real:
            good &= np.logical_or.reduce(positions != 0, -1)
        if confidence is not None:
            good &= confidence > 0
            trust = self._share @ np.where(good, confidence, 0.0)
        whole = ~(self._uses & ~good).any(1)
        return self._combine @ np.where(good[:, None], positions, 0.0), np.where(whole, trust, 0.0)


class ByRotations(Kind):
    """The joints' own rotations."""

    sent = True

    def __init__(self, layout: Layout) -> None:
        joints, self._places = shown_by_rotations(layout)
        super().__init__(layout, joints.tolist(), _across(joints.tolist()), np.ones((len(joints), 2)), ROTATIONS_RAD)
        turn = layout.world_from_source
        self._turn: F64 | None = None if turn is None else _without_unit(turn)
        given = self.rest if self._turn is None else self.rest @ self._turn
        self._given = np.swapaxes(given, 1, 2)  # in the source's axes, as columns

    def read(self, frame: Frame) -> Sample:
        q = np.asarray(frame.rotations, np.float64)[self._places]
        there: Bools = np.logical_and.reduce(np.isfinite(q), 1)
        q = np.where(there[:, None], q, 0.0)
        square = (q * q).sum(1)
        products = (q[:, :, None] * q[:, None, :]).reshape(-1, 16) / np.maximum(square, 1e-12)[:, None]
        vectors = np.swapaxes((products @ _MATRIX).reshape(-1, 3, 3) @ self._given, 1, 2)
        return Sample(vectors if self._turn is None else vectors @ self._turn.T, there.astype(np.float32))


def _without_unit(turn: Floats) -> F64:
    return np.asarray(turn / np.cbrt(abs(np.linalg.det(turn))), np.float64)


def _across(joints: list[int]) -> F64:
    """(E, 2, 3) two axes of each joint: across its bone, or x and y of a leaf."""
    rest = np.zeros((len(joints), 2, 3))
    for e, joint in enumerate(joints):
        if joint in LEAVES:
            rest[e] = np.eye(3)[:2]
        else:
            rest[e] = np.linalg.svd(rest_directions()[[CHILDREN[joint][0]]])[2][1:]
    return rest


def kind_of(layout: Layout, rotations: bool) -> Kind | None:
    """How frames of a layout show rotations, which they bring or not; None: they do not."""
    if rotations:
        return ByRotations(layout) if layout.measured.any() else None
    return None if shown_by(layout) is None else ByLandmarks(layout)
