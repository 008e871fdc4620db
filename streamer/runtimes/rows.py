"""Actors as rows of one call: what a GPU runtime shares with any other that answers for many actors at once.

A row of ``request`` holds all that one actor asks, a row of ``pose`` all that it is told, so that a call moves one
block each way. State and rings stay where the device keeps them. device_graph.py gives the graphs this form; the device
itself (tensorrt.py; in the tests ONNX Runtime) is behind ``Device``.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Sequence
from math import prod
from typing import NamedTuple, Protocol

from model.contract import Contract
from streamer.errors import RuntimeUnavailable
from streamer.runtimes import F32, Answer, Ask

GRAPHS = ("step", "head", "skeleton")
FORM = 1  # of the device graphs: a change of it makes built engines stale
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

    def views(self, row: F32) -> dict[str, F32]:
        """The arrays of one row (width,) by name, sharing its memory."""
        assert row.shape == (self.width,)
        return {name: row[start : start + prod(shape)].reshape(shape) for name, (start, shape) in self.places.items()}


class Packing(NamedTuple):
    """The fields of each packed tensor of a model."""

    request: Fields  # what comes from the host: frame, time, what is asked for, which slots are empty, slot to write
    pose: Fields  # what goes back: positions, rotations, covariance, contact
    skeleton: Fields
    state: Fields  # latent and the groups of the contract; never leaves the device
    ring: tuple[int, ...]  # shape of a row: (2 L, H, W, D), keys and values of each layer in turn

    @classmethod
    def of(cls, contract: Contract) -> Packing:
        shapes, j = contract.input_shapes(), len(contract.joints)
        asked = ("frame", "time", "tau_s", "offsets_m", "previous", "blocked")
        return cls(
            request=Fields.of({name: shapes[name] for name in asked} | {"slot": ()}),
            pose=Fields.of({"positions": (j, 3), "rotations": (j, 4), "covariance": (j, 3, 3), "contact": (2,)}),
            skeleton=Fields.of({"skeleton": (j, 4)}),
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
    """Hands out rows to lanes, the lowest first, and runs calls on as few rows as hold them all."""

    def __init__(self, contract: Contract, device: Device, lanes: int) -> None:
        self.contract, self.device, self.packing = contract, device, Packing.of(contract)
        self._counts = row_counts(lanes)
        self._free = list(range(lanes))  # a heap
        self._open: set[int] = set()
        self._rows = 1  # rows of a call now

    def open(self) -> RowLane:
        """Raises RuntimeUnavailable when every row is taken."""
        if not self._free:
            most = self._counts[-1]
            raise RuntimeUnavailable(f"all {most} lanes of this runtime are taken; load it with lanes={4 * most}")
        row = heapq.heappop(self._free)
        self._open.add(row)
        self._fit()
        lane = RowLane(self, row)
        weakref.finalize(lane, self._close, row)  # an actor that is dropped gives its row back
        return lane

    def _close(self, row: int) -> None:
        heapq.heappush(self._free, row)
        self._open.discard(row)
        self._fit()

    def _fit(self) -> None:
        # Every open row is in every call: a call moves the state of all its rows from one buffer to the other.
        need = max(self._open, default=0) + 1
        self._rows = next(count for count in self._counts if count >= need)

    def step_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """Take in the frames of several lanes of this runtime, each at most once, in one call."""
        lanes: list[RowLane] = []
        for ask in asks:
            assert isinstance(ask.lane, RowLane)
            ask.lane.ask(ask.tau_s, ask.offsets_m, ask.previous, step=True)
            lanes.append(ask.lane)
        self.run("step")
        for lane in lanes:
            lane.written()
        if len(lanes) == 1:
            return [lanes[0].answer]
        # What one actor asks next is computed for all rows: the others' answers must not change under their hands.
        return [(a.copy(), b.copy(), c.copy(), d.copy()) for a, b, c, d in (lane.answer for lane in lanes)]

    def run(self, graph: str) -> None:
        """One call on the rows that are open."""
        self.device.run(graph, self._rows)


class RowLane:
    """One actor's row; a ``Lane``, whose answers stand until the next call of any lane."""

    def __init__(self, rows: Rows, row: int) -> None:
        device, packing, contract = rows.device, rows.packing, rows.contract
        self._rows, self._row = rows, row
        self._asked = packing.request.views(device.request[row])
        self.frame, self.time = self._asked["frame"][None], self._asked["time"][None]
        pose = packing.pose.views(device.pose[row])
        self.answer: Answer = (pose["positions"], pose["rotations"], pose["covariance"], pose["contact"])
        self._skeleton = packing.skeleton.views(device.skeleton[row])["skeleton"]
        self._window, self._empty = contract.window, contract.blocked
        self.reset()

    def step(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        return self._rows.step_many([Ask(self, tau_s, offsets_m, previous)])[0]

    def pose(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        self.ask(tau_s, offsets_m, previous, step=False)
        self._rows.run("head")
        return self.answer

    def skeleton(self) -> F32:
        self._rows.run("skeleton")
        return self._skeleton

    def reset(self) -> None:
        self._frames = 0
        for name, array in self._asked.items():
            array[...] = {"blocked": self._empty, "slot": ABSENT}.get(name, 0.0)
        self._rows.device.clear(self._row)

    def ask(self, tau_s: float, offsets_m: F32, previous: F32, step: bool) -> None:
        """Write what the next call is to answer, and whether it takes in the frame."""
        asked = self._asked
        asked["tau_s"][...], asked["offsets_m"][:], asked["previous"][:] = tau_s, offsets_m, previous
        asked["slot"][...] = self._frames % self._window if step else ABSENT

    def written(self) -> None:
        """The device has written this lane's slot of the ring."""
        self._asked["blocked"][self._frames % self._window] = 0.0
        self._asked["slot"][...] = ABSENT
        self._frames += 1
