"""Loops of C that write a tensor: element by element, sums, and products. lower.py says which for what node."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from streamer.runtimes.native.onnx_file import Array
from streamer.runtimes.native.tensors import (
    GROUP,
    PANEL,
    Constants,
    Shape,
    Value,
    View,
    cut,
    index,
    loops,
    merged,
    slot,
    strides_of,
    views_of,
    write_value,
)

_SUMS = 6  # vectors of sums that a product keeps in registers
_UNROLL = 8  # terms up to which a sum is written out, so that the loop around it vectorises

REDUCTIONS = {  # start, how a term joins, what is done to a term, to the result
    "ReduceSum": ("0.0f", "({} + {})", "{}", "{}"), "ReduceProd": ("1.0f", "({} * {})", "{}", "{}"),
    "ReduceMax": ("-3.4e38f", "most({}, {})", "{}", "{}"), "ReduceMin": ("3.4e38f", "least({}, {})", "{}", "{}"),
    "ReduceMean": ("0.0f", "({} + {})", "{}", "({} / {count}.0f)"),
    "ReduceL2": ("0.0f", "({} + {})", "square({})", "__builtin_sqrtf({})"),
}  # fmt: skip


@dataclass
class Statement:
    """C that runs for one row, or a ``linear`` for all rows at once."""

    code: str
    linear: bool = False

    def buffers(self, names: Iterable[str]) -> set[str]:
        return set(re.findall(r"\w+", self.code)) & set(names)


class Emitter:
    """Statements of one graph, and the buffers they write: ``outputs`` to those of their names, the rest to scratch."""

    def __init__(self, name: str, outputs: Collection[str], constants: Constants) -> None:
        self._name, self._outputs, self._constants = name, outputs, constants
        self.sizes: dict[str, int] = {}  # of the scratch buffers
        self.statements: list[Statement] = []

    def _new(self, shape: Shape, name: str = "") -> View:
        """Room for a tensor: the slot of an output, or scratch."""
        if name in self._outputs:
            return View(slot(name), 0, shape, strides_of(shape))
        buffer = f"{self._name}_{len(self.sizes)}"
        self.sizes[buffer] = prod(shape)
        return View(buffer, 0, shape, strides_of(shape))

    def _store(self, value: Value, out: View | None = None) -> View:
        """Write a tensor to memory."""
        out = out or self._new(value.shape)
        shape, (into, *strides) = merged(out.shape, [out, *views_of(value)])
        elements = [v.at(index("i", s)) for v, s in zip(views_of(value), strides, strict=True)]
        self._emit(loops("i", shape, f"{out.at(index('i', into))} = {write_value(value, elements)};", True))
        return out

    def _emit(self, code: str) -> None:
        self.statements.append(Statement(code))

    def _reduce(self, op: str, value: Value, axes: Sequence[int], keep: bool) -> View:
        start, join, term, end = REDUCTIONS[op]
        axes = [a % len(value.shape) for a in axes] or list(range(len(value.shape)))
        kept = tuple(1 if i in axes else n for i, n in enumerate(value.shape))
        gone = tuple(n if i in axes else 1 for i, n in enumerate(value.shape))
        out = self._new(kept)
        views = views_of(value)
        over, (into, *outer) = merged(kept, [out, *views], value.shape)
        along, inner = merged(gone, views, value.shape)

        def written(fixed: Sequence[int] | None) -> str:
            elements = []
            for view, a, b in zip(views, outer, inner, strict=True):
                further = index("k", b) if fixed is None else str(sum(map(int.__mul__, b, fixed)) or "")
                elements.append(view.at(" + ".join(x for x in (index("i", a), further) if x)))
            return term.format(write_value(value, elements))

        if prod(along) <= _UNROLL:
            total = start
            for fixed in product(*map(range, along)):
                total = written(fixed) if total == start else join.format(total, written(fixed))
            body = ""
        else:
            total = "s"
            clause = {"ReduceProd": "*", "ReduceMax": "max", "ReduceMin": "min"}.get(op, "+")
            hint = f'_Pragma("omp simd reduction({clause}:s)") ' if len(along) == 1 else ""
            body = f"float s = {start}; {hint}" + loops("k", along, f"s = {join.format('s', written(None))};") + " "
        body += f"{out.at(index('i', into))} = {end.format(total, count=prod(along))};"
        self._emit(loops("i", over, f"{{ {body} }}"))
        if keep:
            return out
        shape = tuple(n for i, n in enumerate(kept) if i not in axes)
        return View(out.buffer, 0, shape, strides_of(shape))

    def _product(self, a: View, b: View) -> View:
        """a (..., M, K) @ b (..., K, N), the batches broadcast."""
        if 1 not in b.strides[-2:]:
            b = self._store(b)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        (m, k), n = a.shape[-2:], b.shape[-1]
        out = self._new((*lead, m, n))
        left, right = a.broadcast((*lead, m, k)), b.broadcast((*lead, k, n))
        parts = [View(v.buffer, v.start, lead, s[:-2]) for v, s in ((a, left), (b, right), (out, out.strides))]
        shape, strides = merged(lead, parts)

        def at(which: int, *inner: str) -> str:
            return parts[which].at(" + ".join(x for x in (index("i", strides[which]), *inner) if x))

        x = at(0, f"m * {left[-2]}", f"k * {left[-1]}")
        if right[-2] == 1 and right[-1] != 1:  # the terms of each sum lie side by side
            y = at(1, f"k * {right[-2]}", f"n * {right[-1]}")
            body = (
                f"for (int m = 0; m < {m}; m++) for (int n = 0; n < {n}; n++) {{ float s = 0; "
                f'_Pragma("omp simd reduction(+:s)") for (int k = 0; k < {k}; k++) s += {x} * {y}; '
                f"{at(2, f'm * {n}', 'n')} = s; }}"
            )
        else:
            sums = _SUMS // -(-n // GROUP)
            rows = max(d for d in range(1, m + 1) if m % d == 0 and (d == 1 or d <= sums))
            x = at(0, f"(g + m) * {left[-2]}", f"k * {left[-1]}")
            y, into = at(1, f"k * {right[-2]}", "LANES * v"), at(2, f"(g + m) * {n}", "LANES * v")
            each_v, each_m = f"for (int v = 0; v < VECTORS({n}); v++)", f"for (int m = 0; m < {rows}; m++)"
            body = (
                f"for (int g = 0; g < {m}; g += {rows}) {{ lanes s[{rows}][VECTORS({n})] = {{0}}; "
                f"for (int k = 0; k < {k}; k++) {each_v} "
                f"{{ lanes y = (lanes)load(&{y}); {each_m} s[m][v] += y * {x}; }} "
                f"{each_m} {each_v} memcpy(&{into}, &s[m][v], 4 * VECTOR({n}, v)); }}"
            )
        self._emit(loops("i", shape, f"{{ {body} }}"))
        return out

    def _linear(self, a: View, weight: Array, bias: Array) -> View:
        """weight (N, K) @ a (1, K) + bias (N,), for all rows at once."""
        out = self._new((1, -(-len(weight) // PANEL) * PANEL))
        kind, offset, place = self._constants.pack(weight, bias)
        where = f"{a.buffer} + {a.start}, {out.buffer}, {weight.shape[1]}, {out.shape[1]}"
        self.statements.append(Statement(f"linear_{kind}(w + {offset}, c + {place}, rows, n, {where});", True))
        return cut(out, 1, 0, len(weight))
