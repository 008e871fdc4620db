"""An exported graph as C: every shape fixed, every actor a row of float32 that holds its state and the scratch.

Slices, splits and transposes are only other strides. An element-wise result that is used once is computed where it is
used. What is left becomes loops (emit.py), and products with packed weights (kernels.h), which take all actors at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from streamer.runtimes.native.emit import REDUCTIONS, Emitter
from streamer.runtimes.native.onnx_file import Graph, Node
from streamer.runtimes.native.tensors import (
    Constants,
    Formula,
    Shape,
    Value,
    View,
    cut,
    literal,
    slot,
    strides_of,
)

_LINEAR = 4096  # weights from which a product takes packed ones

ELEMENTWISE = {
    "Add": "({} + {})", "Sub": "({} - {})", "Mul": "({} * {})", "Div": "({} / {})", "Neg": "(-{})",
    "Abs": "__builtin_fabsf({})", "Sqrt": "__builtin_sqrtf({})", "Exp": "exp_({})", "Log": "log_({})",
    "Sigmoid": "sigmoid({})", "Tanh": "tanh_({})", "Erf": "erf_({})", "Gelu": "gelu({})", "Softplus": "softplus({})",
    "Min": "least({}, {})", "Max": "most({}, {})", "Greater": "(float)({} > {})", "Less": "(float)({} < {})",
    "GreaterOrEqual": "(float)({} >= {})", "LessOrEqual": "(float)({} <= {})", "Equal": "(float)({} == {})",
    "Where": "pick({}, {}, {})", "Cast": "{}", "Identity": "{}",
}  # fmt: skip


class Unsupported(ValueError):
    """A node that has no C here; its name is in the message."""


class Lowering(Emitter):
    """The C of one graph; ``slots`` are the buffers that outlive a call, by name with their shapes."""

    def __init__(self, name: str, graph: Graph, slots: Mapping[str, Shape], constants: Constants) -> None:
        super().__init__(name, graph.outputs, constants)
        self._graph = graph
        self._uses = Counter(name for node in graph.nodes for name in node.inputs) + Counter(graph.outputs)
        self._values: dict[str, Value] = {
            name: View(slot(name), 0, slots[name], strides_of(slots[name])) for name in graph.inputs
        }
        self.outputs: dict[str, Shape] = {}
        for node in graph.nodes:
            self._lower(node)
        for name in graph.outputs:
            self._give(name)

    # ---- values

    def _value(self, name: str) -> Value:
        if name in self._values:
            return self._values[name]
        array = self._graph.constants[name]
        if array.size == 1:
            return Formula(literal(float(array.ravel()[0])), (), array.shape)
        view = View("", self._constants.place(array), array.shape, strides_of(array.shape))
        self._values[name] = view
        return view

    def _view(self, name: str) -> View:
        """The tensor in memory, written now if it was not."""
        value = self._value(name)
        if isinstance(value, Formula):
            value = self._values[name] = self._store(value)
        return value

    def _dense(self, name: str) -> View:
        """The tensor in memory in its natural order."""
        view = self._view(name)
        return view if view.contiguous else self._store(view)

    def _numbers(self, node: Node, i: int, default: list[int] | None = None) -> list[int]:
        """An integer input that is a constant."""
        name = node.inputs[i] if i < len(node.inputs) else ""
        if not name and default is not None:
            return default
        if name not in self._graph.constants:
            raise Unsupported(f"{node.op} {node.outputs[0]}: its input {i} is not a constant")
        return [int(x) for x in self._graph.constants[name].ravel()]

    def _give(self, name: str) -> None:
        """Write an output of the graph to the buffer of its name."""
        value = self._value(name)
        self.outputs[name] = value.shape
        if not isinstance(value, View) or value.buffer != slot(name):
            self._store(value, self._new(value.shape, name))

    # ---- nodes

    def _lower(self, node: Node) -> None:
        if node.op in ELEMENTWISE:
            self._keep(node, self._formula(node))
            return
        method: Callable[[Node], Value] | None = getattr(self, f"_op_{node.op}", None)
        if node.op in REDUCTIONS:
            axes = self._numbers(node, 1, [])
            value = self._reduce(node.op, self._value(node.inputs[0]), axes, node.attributes.get("keepdims", 1) == 1)
            self._values[node.outputs[0]] = value
        elif node.op == "Split":
            self._split(node)
        elif method is not None:
            self._keep(node, method(node))
        else:
            raise Unsupported(f"{node.op} {node.outputs[0]}: no C is known for this operator")

    def _keep(self, node: Node, value: Value) -> None:
        name = node.outputs[0]
        if isinstance(value, Formula) and (self._uses[name] > 1 or name in self._graph.outputs):
            value = self._store(value, self._new(value.shape, name))
        self._values[name] = value

    def _formula(self, node: Node) -> Formula:
        code = ELEMENTWISE[node.op]
        exact = node.attributes.get("approximate", "none") == "none"
        if not exact or node.attributes.get("to", 1) not in (1, 9):  # float and bool: both are float32 here
            raise Unsupported(f"{node.op} {node.outputs[0]}: {node.attributes}")
        return self._apply(code, *node.inputs)

    def _apply(self, code: str, *names: str) -> Formula:
        shape = np.broadcast_shapes(*(self._value(name).shape for name in names))
        terms = []
        for name in names:
            value = self._value(name)
            if isinstance(value, Formula) and value.views() and value.shape != shape:
                value = self._view(name)  # computed once, read often
            terms.append(value)
        return Formula(code, tuple(terms), shape)

    def _named(self, value: Value) -> str:
        """A name for a tensor that the graph has none for."""
        name = f"{len(self._values)}!"
        self._values[name] = value
        return name

    def _op_Clip(self, node: Node) -> Value:
        code, names = "{}", [node.inputs[0]]
        for i, function in ((1, "most"), (2, "least")):
            if len(node.inputs) > i and node.inputs[i]:
                code = f"{function}({code}, {{}})"
                names.append(node.inputs[i])
        return self._apply(code, *names)

    def _op_Pow(self, node: Node) -> Value:
        exponent = self._graph.constants.get(node.inputs[1])
        if exponent is None or exponent.size != 1 or float(exponent.ravel()[0]) != 2.0:
            raise Unsupported(f"Pow {node.outputs[0]}: the exponent is not 2")
        return self._apply("square({})", node.inputs[0])

    def _op_Softmax(self, node: Node) -> Value:
        x = self._named(self._view(node.inputs[0]))
        axes = [node.attributes.get("axis", -1)]
        top = self._named(self._reduce("ReduceMax", self._value(x), axes, True))
        power = self._named(self._store(self._apply("exp_({} - {})", x, top)))
        return self._apply("({} / {})", power, self._named(self._reduce("ReduceSum", self._value(power), axes, True)))

    def _op_LayerNormalization(self, node: Node) -> Value:
        x = self._named(self._view(node.inputs[0]))
        mean = self._named(self._reduce("ReduceMean", self._value(x), [-1], True))
        away = self._named(self._store(self._apply("({} - {})", x, mean)))
        square = self._apply("square({})", away)
        scale = Formula(
            f"(1.0f / __builtin_sqrtf({{}} + {literal(node.attributes['epsilon'])}))",
            (self._reduce("ReduceMean", square, [-1], True),), (*square.shape[:-1], 1),
        )  # fmt: skip
        names = [away, self._named(self._store(scale)), *node.inputs[1:]]
        return self._apply("({} * {} * {} + {})" if len(names) == 4 else "({} * {} * {})", *names)

    def _op_MatMul(self, node: Node) -> Value:
        return self._product(self._view(node.inputs[0]), self._view(node.inputs[1]))

    def _op_Gemm(self, node: Node) -> Value:
        a, weight = self._dense(node.inputs[0]), self._graph.constants.get(node.inputs[1])
        if weight is None or a.shape[0] != 1 or node.attributes.get("transA", 0):
            raise Unsupported(f"Gemm {node.outputs[0]}: only one row times a constant")
        weight = weight if node.attributes.get("transB", 0) else weight.T  # (outputs, inputs)
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        if weight.size < _LINEAR:
            table = np.ascontiguousarray(weight.T)
            out = self._product(a, View("", self._constants.place(table), table.shape, strides_of(table.shape)))
            return self._apply("({} + {})", self._named(out), bias) if bias else out
        return self._linear(a, weight, self._graph.constants[bias] if bias else np.zeros(len(weight), np.float32))

    def _op_Concat(self, node: Node) -> Value:
        values = [self._value(name) for name in node.inputs]
        axis = node.attributes["axis"] % len(values[0].shape)
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        out, done = self._new(tuple(shape), node.outputs[0]), 0
        for value in values:
            into = View(out.buffer, done * out.strides[axis], value.shape, out.strides)
            self._store(value, into)
            done += value.shape[axis]
        return out

    def _op_Pad(self, node: Node) -> Value:
        value, pads = self._value(node.inputs[0]), self._numbers(node, 1)
        axes = self._numbers(node, 3, list(range(len(value.shape))))
        shape, start = list(value.shape), 0
        for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
            shape[axis] += before + after
        out = self._new(tuple(shape))
        fill = self._value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else Formula("0.0f", (), ())
        self._store(Formula("{}", (fill,), out.shape), out)
        start = sum(before * out.strides[axis] for axis, before in zip(axes, pads))
        self._store(value, View(out.buffer, start, value.shape, out.strides))
        return out

    def _op_Gather(self, node: Node) -> Value:
        view, rows = self._view(node.inputs[0]), self._numbers(node, 1)
        axis = node.attributes.get("axis", 0) % len(view.shape)
        several = self._graph.constants[node.inputs[1]].shape
        shape, strides = (*view.shape[:axis], *several, *view.shape[axis + 1 :]), view.strides
        if not several:
            return View(
                view.buffer, view.start + rows[0] * strides[axis], shape, (*strides[:axis], *strides[axis + 1 :])
            )
        out = self._new(shape)
        for i, row in enumerate(rows):
            one = (*shape[:axis], 1, *shape[axis + 1 :])
            source = View(view.buffer, view.start + row % view.shape[axis] * strides[axis], one, strides)
            self._store(source, View(out.buffer, i * out.strides[axis], one, out.strides))
        return out

    # ---- nodes that only look at memory in another way

    def _split(self, node: Node) -> None:
        view = self._view(node.inputs[0])
        axis = node.attributes.get("axis", 0) % len(view.shape)
        equal = [view.shape[axis] // len(node.outputs)] * len(node.outputs)
        done = 0
        for name, size in zip(node.outputs, self._numbers(node, 1, equal), strict=True):
            self._values[name] = cut(view, axis, done, size)
            done += size

    def _op_Slice(self, node: Node) -> Value:
        view = self._view(node.inputs[0])
        starts, ends = self._numbers(node, 1), self._numbers(node, 2)
        axes = self._numbers(node, 3, list(range(len(starts))))
        for axis, start, end, step in zip(axes, starts, ends, self._numbers(node, 4, [1] * len(axes)), strict=True):
            if step != 1:
                raise Unsupported(f"Slice {node.outputs[0]}: a step of {step}")
            first, last, _ = slice(start, end).indices(view.shape[axis])
            view = cut(view, axis % len(view.shape), first, last - first)
        return view

    def _op_Transpose(self, node: Node) -> Value:
        view = self._view(node.inputs[0])
        order = node.attributes["perm"]
        shape, strides = (tuple(part[i] for i in order) for part in (view.shape, view.strides))
        return View(view.buffer, view.start, shape, strides)

    def _op_Expand(self, node: Node) -> Value:
        view = self._view(node.inputs[0])
        shape = np.broadcast_shapes(view.shape, tuple(self._numbers(node, 1)))
        return View(view.buffer, view.start, shape, view.broadcast(shape))

    def _op_Reshape(self, node: Node) -> Value:
        value, shape = self._value(node.inputs[0]), self._numbers(node, 1)
        known = prod(n for n in shape if n != -1)
        return self._reshaped(node, tuple(prod(value.shape) // known if n == -1 else n for n in shape))

    def _op_Unsqueeze(self, node: Node) -> Value:
        shape, axes = list(self._value(node.inputs[0]).shape), self._numbers(node, 1)
        for axis in sorted(a % (len(shape) + len(axes)) for a in axes):
            shape.insert(axis, 1)
        return self._reshaped(node, tuple(shape))

    def _reshaped(self, node: Node, shape: Shape) -> View:
        view = self._dense(node.inputs[0])
        return View(view.buffer, view.start, shape, strides_of(shape))
