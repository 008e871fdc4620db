"""Actors as rows of one call: what a GPU runtime shares with any other that answers for many actors at once.

A row of ``request`` holds all that one actor asks, a row of ``pose`` all that it is told, so that a call moves one
block each way. State and rings stay where the device keeps them. device_graph.py gives the graphs this form; the device
itself (tensorrt.py; in the tests ONNX Runtime) is behind ``Device``.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from model.contract import Contract
from streamer.errors import RuntimeUnavailable
from streamer.runtimes.block import F32, RowIndex

GRAPHS = ("step", "head", "skeleton")
FORM = 2  # of the device graphs: a change of it makes built engines stale
PRECISIONS = ("fp16", "fp32")  # of the products of the trunk
FP16_TOLERANCE_MM = 0.5  # of positions, against fp32; 0.12 measured on noisy streams (tests/test_rows.py)
ABSENT = -1.0  # ``slot`` of a row that takes in no frame in this call: its state and ring stay as they are


class Fields(NamedTuple):
    """Arrays laid end to end in a row: name -> (first number, shape)."""

    places: dict[str, tuple[int, tuple[int, ...]]]
    width: int

    @classmethod
    def of(cls, shapes: dict[str, tuple[int, ...]]) -> Fields:
        places, start = {}, 0
        for name, shape in shapes.items():
            places[name] = (start, shape)
            start += prod(shape)
        return cls(places, start)

    def views(self, rows: F32) -> dict[str, F32]:
        """The arrays of rows (N, width) by name, (N, ...) each, sharing their memory."""
        out = {}
        for name, (start, shape) in self.places.items():
            out[name] = rows[:, start : start + prod(shape)].reshape(len(rows), *shape)
            assert np.may_share_memory(out[name], rows)
        return out


class Packing(NamedTuple):
    """The fields of each packed tensor of a model."""

    request: Fields  # what comes from the host: frame, time, what is asked for, which slots are empty, slot to write
    pose: Fields  # what goes back: positions, source, rotations, covariance, contact
    skeleton: Fields
    state: Fields  # latent and the groups of the contract; never leaves the device
    ring: tuple[int, ...]  # shape of a row: (2 L, H, W, D), keys and values of each layer in turn

    @classmethod
    def of(cls, contract: Contract) -> Packing:
        shapes = contract.input_shapes()
        asked = ("frame", "time", "tau_s", "offsets_m", "previous", "blocked")
        return cls(
            request=Fields.of({name: shapes[name] for name in asked} | {"slot": ()}),
            pose=Fields.of(contract.pose_shapes()),
            skeleton=Fields.of({"skeleton": shapes["previous"]}),
            state=Fields.of({"latent": shapes["latent"]} | dict(contract.state)),
            ring=(2 * contract.layers, *shapes["keys_0"]),
        )


def row_counts(lanes: int) -> list[int]:
    """Row counts that a device prepares: 1, 4, 16 ... ``lanes``; a call takes the least that holds all actors."""
    counts = [1]
    while counts[-1] < lanes:
        counts.append(min(4 * counts[-1], lanes))
    return counts


class Device(Protocol):
    """Where the graphs run. Rows of the host's blocks: the caller writes ``request`` and reads the other two."""

    request: F32  # (lanes, request.width)
    pose: F32  # (lanes, pose.width)
    skeleton: F32  # (lanes, skeleton.width)

    def run(self, graph: str, rows: int) -> None:
        """Run "step", "head" or "skeleton" on the first ``rows`` rows (one of ``row_counts``) and wait for it."""
        ...

    def clear(self, row: int) -> None:
        """Zero a row of the state and of the ring."""
        ...


class Rows:
    """A runtime on a device whose rows belong to one block at a time: the one opened last."""

    def __init__(self, contract: Contract, device: Device, lanes: int) -> None:
        self.contract, self.device, self._lanes = contract, device, lanes
        self._block: RowBlock | None = None

    def open(self, capacity: int) -> RowBlock:
        """The device's rows; a block opened before has lost them."""
        if self._block is not None:
            self._block.lost = True
        self._block = RowBlock(self.contract, self.device, row_counts(self._lanes), min(capacity, self._lanes))
        return self._block


class RowBlock:
    """A ``Block`` over the device's rows; a call takes as few rows as hold all that are in use.

    They are all in every call, for a call moves the state of its rows from one buffer to the other; those that were
    not asked compute an answer that nobody sees.
    """

    def __init__(self, contract: Contract, device: Device, counts: list[int], capacity: int) -> None:
        packing = Packing.of(contract)
        self.capacity, self.device, self.lost = capacity, device, False
        self._counts, self._window, self._empty = counts, contract.window, contract.blocked
        asked = packing.request.views(device.request[:capacity])
        self.frame, self.time, self.tau_s = asked["frame"], asked["time"], asked["tau_s"]
        self.offsets_m, self.previous = asked["offsets_m"], asked["previous"]
        self._blocked, self._slot = asked["blocked"], asked["slot"]
        self._told: F32 = np.zeros((capacity, packing.pose.width), np.float32)  # what the last call with a row said
        told = packing.pose.views(self._told)
        self.positions, self.source, self.rotations = told["positions"], told["source"], told["rotations"]
        self.covariance, self.contact = told["covariance"], told["contact"]
        self._skeleton = packing.skeleton.views(device.skeleton[:capacity])["skeleton"]
        self._frames, self._rows = np.zeros(capacity, np.int64), np.arange(capacity)
        self._used: set[int] = set()  # rows with a state
        device.request[:] = 0.0
        self._slot[:] = ABSENT

    def step(self, rows: RowIndex) -> None:
        slots = self._frames[rows] % self._window
        self._slot[rows] = slots
        self._used.update(self._rows[rows].tolist())
        self._run("step")
        self._slot[rows] = ABSENT
        self._blocked[self._rows[rows], slots] = 0.0  # the device has written it
        self._frames[rows] += 1
        self._told[rows] = self.device.pose[rows]

    def pose(self, rows: RowIndex) -> None:
        self._run("head")
        self._told[rows] = self.device.pose[rows]

    def skeleton(self, rows: RowIndex) -> F32:
        self._run("skeleton")
        return self._skeleton[rows].copy()

    def reset(self, row: int) -> None:
        self.device.request[row] = 0.0
        self._blocked[row], self._slot[row], self._frames[row] = self._empty, ABSENT, 0
        self._used.discard(row)
        self.device.clear(row)

    def _run(self, graph: str) -> None:
        if self.lost:
            raise RuntimeUnavailable("a newer filter has the rows of this runtime: load one runtime for each filter")
        need = max(self._used, default=0) + 1
        self.device.run(graph, next(count for count in self._counts if count >= need))
