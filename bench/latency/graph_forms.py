"""Other forms of the exported step, made from its ONNX file: the ring kept by the graph, products in other precisions.

Needs the onnx package (extra: train). A graph that keeps the ring takes ``slot`` (1) and gives every ``keys_i``,
``values_i`` and ``blocked`` anew as ``out_NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.contract import Contract

# (ring, the frame's row in its slot's place, name of the result) -> nodes that write it
Write = Callable[[str, str, str], list[Any]]


def with_ring(folder: Path, contract: Contract, form: str, out: Path) -> Path:
    """step.onnx with the ring kept in the graph: ``form`` "shift", "scatter" or "tensor_scatter"."""
    model = onnx.load(folder / "step.onnx")
    c, graph, numbers = contract, model.graph, _Constants(model.graph)
    write = {"shift": _shift, "scatter": _scatter, "tensor_scatter": _tensor_scatter}[form](numbers, c)
    sizes = numbers.add([1] * (2 * c.layers))
    flat = numbers.add([-1, 2 * c.layers, c.heads, 1, c.head_width])
    parts = [f"row_{i}" for i in range(2 * c.layers)]
    nodes = [helper.make_node("Reshape", ["rows", flat], ["rows_flat"])]
    nodes.append(helper.make_node("Split", ["rows_flat", sizes], [f"{part}_5d" for part in parts], axis=1))
    one = numbers.add([1])
    for i, part in enumerate(parts):  # (B, H, 1, D) each
        ring = f"{('keys', 'values')[i % 2]}_{i // 2}"
        nodes.append(helper.make_node("Squeeze", [f"{part}_5d", one], [part]))
        nodes += write(ring, part, f"out_{ring}")
        shape = [1, c.heads, c.window, c.head_width]
        graph.output.append(helper.make_tensor_value_info(f"out_{ring}", TensorProto.FLOAT, shape))
    nodes += _blocked(numbers, form)
    graph.output.append(helper.make_tensor_value_info("out_blocked", TensorProto.FLOAT, [1, c.window]))
    if form != "shift":
        graph.input.append(helper.make_tensor_value_info("slot", TensorProto.INT64, [1]))
    if form == "tensor_scatter":
        model.opset_import[0].version = 24
    graph.node.extend(nodes)
    kept = [output for output in graph.output if output.name != "rows"]
    del graph.output[:]
    graph.output.extend(kept)
    onnx.save(model, out)
    return out


class _Constants:
    """Integer constants of a graph, one initializer each."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def add(self, value: Any) -> str:
        name = f"form_{len(self._graph.initializer)}"
        dtype = np.float32 if isinstance(value, np.ndarray) else np.int64
        self._graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name


def _shift(numbers: _Constants, c: Contract) -> Write:
    start, end, axis = numbers.add([1]), numbers.add([c.window]), numbers.add([2])

    def write(ring: str, row: str, out: str) -> list[Any]:
        kept = f"{ring}_kept"
        return [
            helper.make_node("Slice", [ring, start, end, axis], [kept]),
            helper.make_node("Concat", [kept, row], [out], axis=2),
        ]

    return write


def _scatter(numbers: _Constants, c: Contract) -> Write:
    shape = numbers.add([1, c.heads, 1, c.head_width])

    def write(ring: str, row: str, out: str) -> list[Any]:
        index = f"{ring}_index"
        return [
            helper.make_node("Expand", ["slot", shape], [index]),
            helper.make_node("ScatterElements", [ring, index, row], [out], axis=2),
        ]

    return write


def _tensor_scatter(numbers: _Constants, c: Contract) -> Write:
    def write(ring: str, row: str, out: str) -> list[Any]:
        return [helper.make_node("TensorScatter", [ring, row, "slot"], [out], axis=2, mode="circular")]

    return write


def _blocked(numbers: _Constants, form: str) -> list[Any]:
    free = numbers.add(np.zeros((1, 1), np.float32))
    if form == "shift":
        cut = [numbers.add([1]), numbers.add([2**31]), numbers.add([1])]
        kept = helper.make_node("Slice", ["blocked", *cut], ["blocked_kept"])
        return [kept, helper.make_node("Concat", ["blocked_kept", free], ["out_blocked"], axis=1)]
    index = helper.make_node("Expand", ["slot", numbers.add([1, 1])], ["blocked_index"])
    return [index, helper.make_node("ScatterElements", ["blocked", "blocked_index", free], ["out_blocked"], axis=1)]


def with_products_in(folder: Path, kind: int, out: Path) -> Path:
    """step.onnx with the linear layers computed in another float type (TensorProto.BFLOAT16, FLOAT16)."""
    model = onnx.load(folder / "step.onnx")
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type == "Gemm":
            y = node.output[0]
            for i, name in enumerate(node.input):
                nodes.append(helper.make_node("Cast", [name], [f"{y}_in{i}"], to=kind))
                node.input[i] = f"{y}_in{i}"
            node.output[0] = f"{y}_low"
            nodes += [node, helper.make_node("Cast", [f"{y}_low"], [y], to=TensorProto.FLOAT)]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, out)
    return out


def with_matmuls(folder: Path) -> tuple[Any, list[str], list[str]]:
    """step.onnx with each linear layer as MatMul and Add instead of Gemm, which quantizers of weights look for.

    And the names of these MatMuls, and of all others: those turn bones and rotations, and must stay exact.
    """
    model = onnx.load(folder / "step.onnx")
    weights = {x.name: x for x in model.graph.initializer}
    nodes: list[Any] = []
    linear: list[str] = []
    for node in model.graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        x, w, *bias = node.input
        turned = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weights[w]).T), f"{w}_turned")
        if turned.name not in weights:
            weights[turned.name] = turned
            model.graph.initializer.append(turned)
        y = node.output[0]
        linear.append(f"{y}_linear")
        nodes.append(helper.make_node("MatMul", [x, turned.name], [f"{y}_product" if bias else y], linear[-1]))
        nodes += [helper.make_node("Add", [f"{y}_product", bias[0]], [y])] if bias else []
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model, linear, [node.name for node in nodes if node.op_type == "MatMul" and node.name not in linear]
