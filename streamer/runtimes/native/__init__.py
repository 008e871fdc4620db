"""The exported graphs as native code: translated to C, compiled on this machine, every actor a row of one array."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamer.runtimes import F32, Answer, Ask
from streamer.runtimes.native.build import load_library
from streamer.runtimes.native.program import GRAPHS, translate

T = TypeVar("T", bound=np.generic)
POSE = ("positions", "rotations", "covariance", "contact")


class NativeRuntime:
    """One library for all lanes; it runs on the calling thread."""

    name = "native"

    def __init__(self, folder: Path) -> None:
        self.program, self.contract = translate(folder)
        library = load_library(self.program.source)
        self._weights, self._constants = aligned(self.program.weights), aligned(self.program.constants)
        self._data = self._weights.ctypes.data, self._constants.ctypes.data
        self._functions = {name: getattr(library, name) for name in GRAPHS}
        for function in self._functions.values():
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
            function.restype = None
        self._read = library.read_through
        self._read.argtypes, self._read.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_float

    def open(self) -> NativeLane:
        return NativeLane(self)

    def call(self, name: str, rows: ctypes.Array[ctypes.c_void_p]) -> None:
        """Run a graph for the actors whose rows are at these addresses."""
        self._functions[name](*self._data, rows, len(rows))

    def read_weights(self) -> int:
        """Reads all packed weights once, as fast as this machine does: the least that a step takes. Bytes read."""
        count = self._weights.nbytes // 512 * 512
        self._read(self._data[0], count)
        return count

    def step_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """A step of many actors in one call: four share a reading of the weights."""
        lanes: list[NativeLane] = []
        for lane, tau_s, offsets_m, previous in asks:
            assert isinstance(lane, NativeLane)
            lane.ask(tau_s, offsets_m, previous)
            lane.turn()
            lanes.append(lane)
        self.call("step", (ctypes.c_void_p * len(lanes))(*(lane.address for lane in lanes)))
        return [lane.answer for lane in lanes]


class NativeLane:
    """One actor's row, seen as named arrays; ``answer`` is its last pose."""

    def __init__(self, runtime: NativeRuntime) -> None:
        program = runtime.program
        self._runtime, self._contract = runtime, runtime.contract
        self._row = aligned(np.zeros(program.row_floats, np.float32))
        self.address = self._row.ctypes.data
        self._rows = (ctypes.c_void_p * 1)(self.address)
        self._at: dict[str, F32] = {}
        for name, shape in program.shapes.items():
            place = program.places[name]
            self._at[name] = self._row[place : place + prod(shape)].reshape(shape)
        self.frame, self.time = self._at["frame"], self._at["time"]
        positions, rotations, covariance, contact = (self._at[name][0] for name in POSE)
        self.answer = positions, rotations, covariance, contact
        self.reset()

    def reset(self) -> None:
        self._row.fill(0)
        self._at["blocked"].fill(self._contract.blocked)
        self._frames = 0

    def ask(self, tau_s: float, offsets_m: F32, previous: F32) -> None:
        """Say which pose is wanted."""
        self._at["tau_s"][0], self._at["offsets_m"][0], self._at["previous"][0] = tau_s, offsets_m, previous

    def turn(self) -> None:
        """Choose the ring's slot of the next step."""
        self._at["slot"][0] = self._frames % self._contract.window
        self._frames += 1

    def step(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        self.ask(tau_s, offsets_m, previous)
        self.turn()
        return self._run("step")

    def skeleton(self) -> F32:
        self._runtime.call("skeleton", self._rows)
        out: F32 = self._at["skeleton"][0]
        return out

    def pose(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        self.ask(tau_s, offsets_m, previous)
        return self._run("head")

    def _run(self, graph: str) -> Answer:
        self._runtime.call(graph, self._rows)
        return self.answer


def aligned(array: npt.NDArray[T]) -> npt.NDArray[T]:
    """A copy that starts on a cache line."""
    space = np.empty(array.nbytes + 64, np.uint8)
    start = -space.ctypes.data % 64
    out: npt.NDArray[T] = space[start : start + array.nbytes].view(array.dtype)
    out[:] = array
    return out
