"""The exported graphs of a model folder as one C file, with the constants it reads and the layout of an actor's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model import contract as contracts
from model.contract import Contract
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes.block import F32
from streamer.runtimes.native.emit import Statement
from streamer.runtimes.native.lower import Lowering
from streamer.runtimes.native.onnx_file import Graph, read_graph
from streamer.runtimes.native.tensors import GROUP, Constants, Shape, slot

GRAPHS = contracts.GRAPHS


@dataclass(frozen=True)
class Program:
    """C of some graphs, each ``void NAME(const char *w, const float *c, float **rows, int n)``."""

    source: str
    places: Mapping[str, int]  # of each input and output in a row, in floats
    shapes: Mapping[str, Shape]  # with a batch axis of 1
    row_floats: int
    constants: F32
    weights: npt.NDArray[np.uint8]


def translate(folder: Path) -> tuple[Program, Contract]:
    """The program of a model folder.

    Raises:
        ContractError: a file is missing or of another program. RuntimeUnavailable: a graph has no C.
    """
    graphs = {name: _graph(folder / f"{name}.onnx") for name in GRAPHS}
    contract, *others = (_contract(graph, folder / f"{name}.onnx") for name, graph in graphs.items())
    if any(other != contract for other in others):
        raise ContractError(f"{folder}: the .onnx files come from different exports; export the model again")
    try:
        contracts.check_sums(folder, contract)
    except contracts.ContractError as error:
        raise ContractError(str(error)) from error
    shapes: dict[str, Shape] = {name: (1, *shape) for name, shape in contract.input_shapes().items()}
    try:
        return assemble(graphs, shapes | {"slot": (1,)}, {"step": _remember(contract)}), contract
    except (ValueError, KeyError) as error:
        raise RuntimeUnavailable(f"{folder}: the native runtime cannot run this model ({error}); use onnx") from error


def assemble(graphs: Mapping[str, Graph], inputs: Mapping[str, Shape], endings: Mapping[str, str]) -> Program:
    """The program of graphs that share their inputs and outputs by name; ``endings``: C that ends a graph."""
    constants, shapes = Constants(), dict(inputs)
    lowered = {name: Lowering(name, graph, shapes, constants) for name, graph in graphs.items()}
    for name, one in lowered.items():
        shapes |= one.outputs
        one.statements += [Statement(endings[name])] if name in endings else []
    places, row = _stacked({name: prod(shape) for name, shape in shapes.items()})
    start = row
    parts = [f'#include "kernels.h"\n\n{_enum({slot(name): place for name, place in places.items()})}']
    for name, one in lowered.items():
        scratch, end = _scratch(one.statements, one.sizes, start)
        row = max(row, end)
        parts.append(f"{_enum(scratch)}\n{_functions(name, one.statements)}")
    weights = np.frombuffer(b"".join(constants.packed), np.uint8)
    floats = np.concatenate([*constants.floats, np.zeros(GROUP, np.float32)])
    return Program(
        "\n".join(parts), places, shapes, row + GROUP, floats, weights
    )  # whole lanes are read at the end, too


def _graph(path: Path) -> Graph:
    if not path.exists():
        raise ContractError(f"{path} does not exist; give a folder that `hpstm export` wrote, or run `hpstm export`")
    try:
        return read_graph(path)
    except ValueError as error:
        raise ContractError(str(error)) from error


def _contract(graph: Graph, path: Path) -> Contract:
    text = graph.metadata.get(contracts.KEY)
    if text is None:
        raise ContractError(f"{path} carries no HPSTM contract; export the model with `hpstm export`")
    try:
        contract = Contract.from_json(text, str(path))
        contract.check_outputs(path.stem, graph.outputs, str(path))
        contract.check_shapes(dict(graph.inputs), str(path))
        return contract
    except contracts.ContractError as error:
        raise ContractError(str(error)) from error


def _remember(c: Contract) -> str:
    """C that ends a step: the new state becomes the state, keys and values go to the ring's ``slot``, the next."""
    copies = [
        f"memcpy(r + {slot(name)}, r + {slot(f'out_{name}')}, {4 * prod(shape)});" for name, shape in c.state.items()
    ]
    head, bytes_ = c.head_width, 4 * c.head_width
    for i in range(2 * c.layers):
        ring = slot(f"{('keys', 'values')[i % 2]}_{i // 2}")
        copies.append(
            f"for (int h = 0; h < {c.heads}; h++) memcpy(r + {ring} + (h * {c.window} + slot) * {head}, "
            f"r + {slot('rows')} + ({i * c.heads} + h) * {head}, {bytes_});"
        )
    blocked = f"r[{slot('blocked')} + slot] = 0.0f;"
    following = f"r[{slot('slot')}] = slot + 1 < {c.window} ? slot + 1 : 0;"
    return "\n    ".join([f"int slot = (int)r[{slot('slot')}];", *copies, blocked, following])


def _stacked(sizes: Mapping[str, int], start: int = 0) -> tuple[dict[str, int], int]:
    places = {}
    for name, size in sizes.items():
        places[name] = start
        start += -(-size // GROUP) * GROUP
    return places, start


def _scratch(statements: Sequence[Statement], sizes: Mapping[str, int], start: int) -> tuple[dict[str, int], int]:
    """Places of the scratch buffers, those that are never needed together in the same one, and the end of them."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, statement in enumerate(statements):
        for name in statement.buffers(sizes):
            first.setdefault(name, i)
            last[name] = i
    places: dict[str, int] = {}
    end = start
    for name in sorted(first, key=first.__getitem__):
        size = -(-sizes[name] // GROUP) * GROUP
        busy = sorted((places[o], places[o] + -(-sizes[o] // GROUP) * GROUP) for o in places if last[o] >= first[name])
        place = start
        for low, high in busy:
            if place + size <= low:
                break
            place = max(place, high)
        places[name] = place
        end = max(end, place + size)
    return places, end


def _enum(places: Mapping[str, int]) -> str:
    return "enum { " + ", ".join(f"{name} = {place}" for name, place in places.items()) + " };\n" if places else ""


def _functions(name: str, statements: Iterable[Statement]) -> str:
    """The graph's function, and one for each run of statements between two products with packed weights."""
    parts: list[str] = []
    calls: list[str] = []
    for linear, run in groupby(statements, lambda statement: statement.linear):
        codes = [statement.code for statement in run]
        if linear:
            calls += codes
            continue
        part = f"{name}_part{len(parts)}"
        body = "\n    ".join(codes)
        parts.append(f"static void {part}(const float *restrict c, float *restrict r) {{\n    {body}\n}}\n")
        calls.append(f"for (int b = 0; b < n; b++) {part}(c, rows[b]);")
    body = "\n    ".join(calls)
    parts.append(f"void {name}(const char *w, const float *c, float **rows, int n) {{\n    {body}\n}}\n")
    return "\n".join(parts)
