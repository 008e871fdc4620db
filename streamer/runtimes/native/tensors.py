"""Tensors as the generated C sees them: places in memory with strides, formulas, and the constants all graphs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from streamer.runtimes.block import F32
from streamer.runtimes.native.onnx_file import Array

Shape = tuple[int, ...]

PANEL = 64  # outputs whose weights lie together, as in kernels.h
GROUP = 16  # floats of the widest vectors: buffers are whole numbers of them
SIMD = '_Pragma("omp simd") '


@dataclass(frozen=True)
class View:
    """A tensor in memory: element i of it lies at ``start`` + sum(i * strides) of a buffer of the row, or of ``c``."""

    buffer: str  # "" for constants
    start: int
    shape: Shape
    strides: Shape

    def at(self, offset: str) -> str:
        """C of the element at a further offset."""
        where = " + ".join(part for part in (self.buffer, str(self.start or ""), offset) if part) or "0"
        return f"r[{where}]" if self.buffer else f"c[{where}]"

    def broadcast(self, shape: Shape) -> Shape:
        """Strides of this view seen as of ``shape``."""
        lead = len(shape) - len(self.shape)
        pairs = zip(self.shape, self.strides, strict=True)
        return (0,) * lead + tuple(0 if n == 1 else stride for n, stride in pairs)

    @property
    def contiguous(self) -> bool:
        return all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, strides_of(self.shape), strict=True))


@dataclass(frozen=True)
class Formula:
    """A tensor that is not in memory: C of its element, with {} for each element of ``terms``."""

    code: str
    terms: tuple[View | Formula, ...]
    shape: Shape

    def views(self) -> list[View]:
        return [view for term in self.terms for view in views_of(term)]

    def write(self, elements: list[str]) -> str:
        """C with the next of ``elements`` for each view, in the order of ``views``."""
        return self.code.format(*(write_value(term, elements) for term in self.terms))


Value = View | Formula


@dataclass
class Constants:
    """What all graphs read: small constants as float32, and the packed weights."""

    floats: list[F32] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    _places: dict[bytes, int] = field(default_factory=dict)
    _size: int = 0

    def place(self, array: Array) -> int:
        """Offset of an array among the floats, the same for equal ones."""
        numbers = np.ascontiguousarray(array, np.float32)
        key = numbers.tobytes()
        if key not in self._places:
            self._places[key] = self._size
            padded = np.zeros(-(-numbers.size // GROUP) * GROUP, np.float32)
            padded[: numbers.size] = numbers.ravel()
            self.floats.append(padded)
            self._size += len(padded)
        return self._places[key]

    def pack(self, weight: Array, bias: Array) -> tuple[str, int, int]:
        """A weight (outputs, inputs) as panels: its kind, its offset, and the place of the biases (and scales).

        "byte" where each output's weights are whole multiples of 1/127 of its largest: nothing is lost; else "single".
        """
        outputs, inputs = weight.shape
        panels = np.zeros((-(-outputs // PANEL) * PANEL, inputs), np.float32)
        panels[:outputs] = weight
        added = np.zeros(len(panels), np.float32)
        added[:outputs] = bias
        scale = np.abs(panels).max(1, keepdims=True) / np.float32(127)
        whole = np.rint(np.divide(panels, scale, out=np.zeros_like(panels), where=scale > 0))
        kind, numbers = "single", panels
        if np.array_equal(whole * scale, panels):
            fours = np.full((len(panels), -(-inputs // 4) * 4), 128, np.uint8)
            fours[:, :inputs] = whole + 128
            kind, numbers = "byte", fours.view(np.uint32)
            added = np.concatenate([added, scale[:, 0]])
        by_input = numbers.reshape(-1, PANEL, numbers.shape[1]).transpose(0, 2, 1)
        key = kind.encode() + by_input.tobytes()
        if key not in self._places:
            self._places[key] = sum(map(len, self.packed))
            self.packed.append(key[len(kind) :])
        return kind, self._places[key], self.place(added)


def slot(name: str) -> str:
    """What C calls the place of an input or output. Raises ValueError for what is no name: it would be compiled."""
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"{name!r} is not a name")
    return f"{name}_at"


def cut(view: View, axis: int, first: int, size: int) -> View:
    shape = (*view.shape[:axis], size, *view.shape[axis + 1 :])
    return View(view.buffer, view.start + first * view.strides[axis], shape, view.strides)


def views_of(value: Value) -> list[View]:
    return [value] if isinstance(value, View) else value.views()


def write_value(value: Value, elements: list[str]) -> str:
    return elements.pop(0) if isinstance(value, View) else value.write(elements)


def strides_of(shape: Shape) -> Shape:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def literal(number: float) -> str:
    return f"{float(np.float32(number))!r}f" if number >= 0 else f"({float(np.float32(number))!r}f)"


def merged(shape: Shape, views: Sequence[View], of: Shape | None = None) -> tuple[Shape, list[list[int]]]:
    """Fewest loops over ``shape``, and the strides of each view in them. ``of``: the shape that views broadcast to."""
    strides = [view.broadcast(of or shape) for view in views]
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in views]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(m[-1] == h * n for m, h in zip(merged, here, strict=True)):
            sizes[-1] *= n
            for m, h in zip(merged, here, strict=True):
                m[-1] = h
        else:
            sizes.append(n)
            for m, h in zip(merged, here, strict=True):
                m.append(h)
    return tuple(sizes), merged


def index(variable: str, strides: Sequence[int]) -> str:
    return " + ".join(f"{variable}{d} * {s}" if s != 1 else f"{variable}{d}" for d, s in enumerate(strides) if s)


def loops(variable: str, shape: Shape, body: str, simd: bool = False) -> str:
    for d in reversed(range(len(shape))):
        v = f"{variable}{d}"
        hint = SIMD if simd and d == len(shape) - 1 and shape[d] >= GROUP else ""
        body = f"{hint}for (int {v} = 0; {v} < {shape[d]}; {v}++) {body}"
    return body
