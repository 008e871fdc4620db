"""The exported graphs in the form a GPU runs best: packed in and out, state and ring moved on the device, fp16 trunk.

    step      request (B, R), state (B, S), ring (B, 2 L, H, W, D) -> answer (B, P), next_state, next_ring
    head      request, state                                       -> answer (B, P)
    skeleton  request, state                                       -> answer (B, 24 * 4)

All float32; the fields of R, S and P are those of ``rows.Packing``. The arithmetic is the exported one, untouched but
for the products of the trunk, which ``precision="fp16"`` computes in half precision: engines are strongly typed, so the
types in the graph are those that run. Front, attention over the ring, head and FK stay in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes.rows import FORM, FP16_TOLERANCE_MM, Fields, Packing

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise RuntimeUnavailable(f"to build an engine: pip install 'hpstm-live[tensorrt]' ({error})") from error

TRUNK = ("model.embed.", "model.blocks.")  # whose products are in half precision
KEY = "hpstm_device"  # metadata entry: form, precision, and how far that may be from fp32
Shape = tuple[int, ...]


def device_graph(path: Path, packing: Packing, precision: str) -> Any:
    """The onnx.ModelProto of one exported graph in the device's form.

    Args:
        path: step.onnx, head.onnx or skeleton.onnx; which one, its inputs and outputs say.
        precision: of the products of the trunk, "fp16" or "fp32".
    Raises:
        ContractError: the graph has inputs or outputs that the contract does not know, or no trunk.
    """
    model = onnx.load(path)
    edit = _Edit(model.graph, path)
    if precision == "fp16" and any(output.name == "rows" for output in model.graph.output):
        edit.halve_trunk()
    edit.unpack_inputs(packing)
    edit.pack_outputs(packing)
    for node in model.graph.node:  # the exporter's notes: stack traces, larger than the arithmetic
        del node.metadata_props[:]
    del model.graph.value_info[:]
    said = {"form": FORM, "trunk": precision, "tolerance_mm": FP16_TOLERANCE_MM if precision == "fp16" else 0.0}
    helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {KEY: json.dumps(said)})
    onnx.checker.check_model(model)
    return model


class _Edit:
    """Changes one graph in place; new nodes go before or after those that are there."""

    def __init__(self, graph: Any, path: Path) -> None:
        self._graph, self._path = graph, path

    def halve_trunk(self) -> None:
        """Linear layers of the trunk in fp16: their input cast down, their output cast up."""
        weights = {i.name: i for i in self._graph.initializer if i.name.startswith(TRUNK)}
        nodes: list[Any] = []
        halved: set[str] = set()
        for node in self._graph.node:
            if node.op_type != "Gemm" or node.input[1] not in weights:
                nodes.append(node)
                continue
            source, out = node.input[0], node.output[0]
            node.input[0], node.output[0] = f"{out}/in16", f"{out}/out16"
            halved.update(node.input[1:])
            down = helper.make_node("Cast", [source], [f"{out}/in16"], to=TensorProto.FLOAT16)
            up = helper.make_node("Cast", [f"{out}/out16"], [out], to=TensorProto.FLOAT)
            nodes += [down, node, up]
        if not halved:
            raise ContractError(f"{self._path}: no layer named {' or '.join(TRUNK)}; export the model again")
        for name in halved:
            whole = numpy_helper.to_array(weights[name])
            weights[name].CopyFrom(numpy_helper.from_array(whole.astype(np.float16), name))
        self._set_nodes(nodes)

    def unpack_inputs(self, packing: Packing) -> None:
        """request, state and ring become the inputs; what the graph reads by name is cut out of them."""
        names = [i.name for i in self._graph.input]
        nodes: list[Any] = []
        for packed, fields in (("request", packing.request), ("state", packing.state)):
            for name in [name for name in names if name in fields.places]:
                start, shape = fields.places[name]
                nodes += self._cut(packed, name, start, prod(shape), (-1, *shape))
                names.remove(name)
        # what is left are the rings, in the order of the graph's inputs: keys_0, values_0, keys_1, ...
        if len(names) not in (0, packing.ring[0]) or any(not n.startswith(("keys_", "values_")) for n in names):
            raise ContractError(f"{self._path}: inputs {', '.join(names)} are not those of the contract")
        for i, name in enumerate(names):
            nodes += self._cut("ring", name, i, 1, (-1, *packing.ring[1:]))
        inputs = {"request": (packing.request.width,), "state": (packing.state.width,)}
        self._set_io(self._graph.input, inputs | ({"ring": packing.ring} if names else {}))
        self._set_nodes([*nodes, *self._graph.node])

    def pack_outputs(self, packing: Packing) -> None:
        """What goes to the host is joined in one tensor; state and ring change in the rows that take in a frame."""
        names = {o.name for o in self._graph.output}
        told = packing.skeleton if "skeleton" in names else packing.pose
        moves = names - told.places.keys()
        movable = {"latent", "rows", *(f"out_{name}" for name in packing.state.places)}
        if not names >= told.places.keys() or not moves <= movable:
            raise ContractError(f"{self._path}: outputs {', '.join(sorted(names))} are not those of the contract")
        nodes = self._join({name: name for name in told.places}, told, "answer")
        outputs: dict[str, Shape] = {"answer": (told.width,)}
        if moves:
            nodes += self._move_state(packing) + self._move_ring(packing)
            outputs |= {"next_state": (packing.state.width,), "next_ring": packing.ring}
        self._set_io(self._graph.output, outputs)
        self._set_nodes([*self._graph.node, *nodes])

    def _move_state(self, packing: Packing) -> list[Any]:
        start, _ = packing.request.places["slot"]
        news = {name: name if name == "latent" else f"out_{name}" for name in packing.state.places}
        return [
            *self._cut("request", "slot", start, 1, (-1, 1)),
            helper.make_node("GreaterOrEqual", ["slot", self._constant("none", np.zeros(1, np.float32))], ["taken"]),
            *self._join(news, packing.state, "stepped"),
            helper.make_node("Where", ["taken", "stepped", "state"], ["next_state"]),
        ]

    def _move_ring(self, packing: Packing) -> list[Any]:
        kinds, heads, window, width = packing.ring
        slots = self._constant("slots", np.arange(window, dtype=np.float32))
        return [
            helper.make_node("Equal", ["slot", slots], ["is_slot"]),  # (B, W)
            self._reshape("is_slot", "written", (-1, 1, 1, window, 1)),
            self._reshape("rows", "rows/row", (-1, kinds, heads, 1, width)),
            helper.make_node("Where", ["written", "rows/row", "ring"], ["next_ring"]),
        ]

    def _cut(self, packed: str, name: str, start: int, count: int, shape: Shape) -> list[Any]:
        """``name`` = count entries of axis 1 of a packed tensor, as ``shape``."""
        ends = [self._constant(f"{name}/{what}", np.array([i])) for what, i in (("from", start), ("to", start + count))]
        axis = self._constant(f"{name}/axis", np.array([1]))
        return [helper.make_node("Slice", [packed, *ends, axis], [f"{name}/cut"]),
                self._reshape(f"{name}/cut", name, shape)]  # fmt: skip

    def _join(self, tensors: Mapping[str, str], fields: Fields, out: str) -> list[Any]:
        """``out`` (B, fields.width) of the tensor of each field."""
        flat = [self._reshape(tensors[n], f"{n}/row", (-1, prod(shape))) for n, (_, shape) in fields.places.items()]
        return [*flat, helper.make_node("Concat", [f"{name}/row" for name in fields.places], [out], axis=1)]

    def _reshape(self, source: str, out: str, shape: Shape) -> Any:
        return helper.make_node("Reshape", [source, self._constant(f"{out}/shape", np.array(shape))], [out])

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(value, f"device/{name}"))
        return f"device/{name}"

    def _set_nodes(self, nodes: list[Any]) -> None:
        # A repeated field empties itself when cleared: the nodes are copied out first.
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    @staticmethod
    def _set_io(field: Any, shapes: Mapping[str, Shape]) -> None:
        del field[:]
        for name, shape in shapes.items():
            field.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]))
