"""The exported step as a function of a frame: state and ring carried on from call to call, for any engine.

The engine takes arrays and gives new ones (``carried``), or works on buffers that are bound once (``bound``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model.contract import Contract
from streamer.runtimes import load_runtime
from streamer.runtimes.block import F32

Arrays = dict[str, Any]  # by the names of the graph's inputs or outputs
Step = Callable[[Arrays], F32]  # frame, time, tau_s, offsets_m, previous -> positions (24, 3) [m]
Call = Callable[[Arrays], Arrays]  # everything that a graph takes -> what it gives


class Setting:
    """The model folder, and a folder to make other files in."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch

    @property
    def step(self) -> Path:
        return self.folder / "step.onnx"

    @cached_property
    def contract(self) -> Contract:
        return load_runtime("onnx", self.folder).contract

    def zeros(self) -> Arrays:
        """Every input of a new actor."""
        arrays: Arrays = {
            name: np.zeros((1, *shape), np.float32) for name, shape in self.contract.input_shapes().items()
        }
        arrays["blocked"].fill(self.contract.blocked)
        return arrays | {"slot": np.zeros(1, np.int64)}


def carry(given: Arrays, told: Arrays, frames: int, c: Contract) -> None:
    """Write what a step told into what the next is given; the ring's rows only where the graph does not keep it."""
    for name in told:
        if name.startswith("out_"):
            given[name[4:]] = told[name]
    if "rows" in told:
        write_rows(given, told["rows"], frames % c.window, c)
    given["slot"][0] = (frames + 1) % c.window


def write_rows(given: Arrays, rows: F32, slot: int, c: Contract) -> None:
    """The host's part where the graph only gives the new row (1, L, 2, H, D) of each ring."""
    for i in range(c.layers):
        given[f"keys_{i}"][0, :, slot], given[f"values_{i}"][0, :, slot] = rows[0, i]
    given["blocked"][0, slot] = 0.0


def carried(call: Call, setting: Setting) -> Step:
    """A step of arrays in, new arrays out."""
    given, frames = setting.zeros(), 0

    def step(inputs: Arrays) -> F32:
        nonlocal frames
        given.update(inputs)
        told = call(given)
        carry(given, told, frames, setting.contract)
        frames += 1
        positions: F32 = told["positions"][0]
        return positions

    return step


class Engine(Protocol):
    """A graph that runs on given buffers."""

    @property
    def inputs(self) -> Sequence[str]: ...

    @property
    def outputs(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes, the batch 1."""
        ...

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        """A run on these buffers, which must outlive it."""
        ...


def bound(engine: Engine, setting: Setting) -> Step:
    """A step on buffers that are bound once; what it changes is in two, read and written in turn."""
    told: Arrays = {name: np.zeros(shape, np.float32) for name, shape in engine.outputs.items()}
    changing = {name: name[4:] for name in told if name.startswith("out_")}
    states, c = [setting.zeros(), setting.zeros()], setting.contract
    runs = []
    for old, new in (states, states[::-1]):
        inputs = {name: (old if name in changing.values() else states[0])[name] for name in engine.inputs}
        outputs = told | {name: new[state] for name, state in changing.items()}
        runs.append(engine.bind(inputs, outputs))
    frames = 0

    def step(inputs: Arrays) -> F32:
        nonlocal frames
        for name, array in inputs.items():
            states[0][name][:] = array
        states[0]["slot"][0] = frames % c.window
        runs[frames % 2]()
        if "rows" in told:
            write_rows(states[0], told["rows"], frames % c.window, c)
        frames += 1
        positions: F32 = told["positions"][0]
        return positions

    return step
