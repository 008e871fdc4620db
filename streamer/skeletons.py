"""The actors' skeletons, a row each: the running rule of model/calibration.py, a weighted mean adopted at set times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.contract import Contract
from streamer.runtimes.block import F32

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class Skeletons:
    """Arrays over rows: ``offsets_m`` (N, 24, 3) and ``lengths_m`` (N, 24) in use, ``version``, whether ``done``."""

    def __init__(self, contract: Contract, capacity: int) -> None:
        self._events = np.array(contract.calibration_events_s) - 1e-9
        self._longest = contract.calibration_longest_step_s
        self._rest = np.asarray(contract.rest_offsets_m, np.float64)
        joints = len(self._rest)
        self.offsets_m: F32 = np.zeros((capacity, joints, 3), np.float32)
        self.lengths_m: F32 = np.zeros((capacity, joints), np.float32)
        self.version = np.zeros(capacity, np.int64)  # of the skeleton in use; only grows while an actor is there
        self.done = np.zeros(capacity, np.bool_)  # calibrated: only another body changes it now
        self.given = np.zeros(capacity, np.bool_)  # by somebody's word: no body changes it
        self._sum: F64 = np.zeros((capacity, joints, 3))
        self._weight: F64 = np.zeros((capacity, joints, 1))
        self._elapsed_s: F64 = np.zeros(capacity)
        self._level = np.zeros(capacity, np.int64)  # events so far

    def open(self, row: int, version: int) -> None:
        """Somebody new, or who had a skeleton of this version before."""
        self.version[row] = version
        self.reset(row)

    def reset(self, row: int) -> None:
        """As new, but for the version: whoever follows it must see that the skeleton is another."""
        self.restart(row)
        self._adopt(np.array([row]), self._rest)

    def restart(self, row: int) -> None:
        """Measure anew, on the skeleton in use until there is another."""
        self._sum[row], self._weight[row], self._elapsed_s[row], self._level[row] = 0.0, 0.0, 0.0, 0
        self.done[row] = self.given[row] = False

    def give(self, row: int, offsets_m: F32, version: int | None) -> None:
        """Use a known skeleton (24, 3) and calibrate no more: a measured one of that ``version``, or a given one."""
        before, same = int(self.version[row]), np.array_equal(self.offsets_m[row], offsets_m)
        self.done[row], self.given[row] = True, version is None
        self._adopt(np.array([row]), offsets_m)
        if version is not None and version > before:
            self.version[row] = version
        elif same:
            self.version[row] = before

    def put(self, row: int, offsets_m: F32, measured_s: float) -> None:
        """Use a skeleton (24, 3) that was measured in so many seconds, and calibrate no more, but for another body."""
        self.done[row], self.given[row], self._elapsed_s[row] = True, False, measured_s
        self._adopt(np.array([row]), offsets_m)

    def measured_s(self, row: int) -> float:
        """Seconds of motion that the skeleton rests on; 0 for one that was given."""
        return float(self._elapsed_s[row])

    def update(self, rows: Ints, opinions: F32, dt_s: F64) -> Ints:
        """Take in what a frame of each of ``rows``, none of them done, shows; the rows that adopted a skeleton.

        Args:
            opinions: (B, 24, 4) bone in the rest pose [m], weight.
            dt_s: (B,) seconds since the frame before.
        """
        if not np.isfinite(opinions).all():  # no such number gets into a skeleton
            opinions = np.where(np.isfinite(opinions).all(-1, keepdims=True), opinions, np.float32(0))
        bones, weight = opinions[..., :3], opinions[..., 3:]
        self._sum[rows] += weight * bones
        self._weight[rows] += weight
        self._elapsed_s[rows] += np.minimum(dt_s, self._longest)
        level = (self._elapsed_s[rows, None] >= self._events).sum(1)
        changed: Ints = rows[level != self._level[rows]]
        self._level[rows] = level
        if len(changed):
            self.done[rows] = level == len(self._events)
            known = self._weight[changed] > 0
            mean = self._sum[changed] / np.where(known, self._weight[changed], 1.0)
            self._adopt(changed, np.where(known, mean, self.offsets_m[changed]))
        return changed

    def _adopt(self, rows: Ints, offsets_m: F64 | F32) -> None:
        self.offsets_m[rows] = offsets_m
        self.lengths_m[rows] = np.sqrt((self.offsets_m[rows] ** 2).sum(-1))
        self.version[rows] += 1
