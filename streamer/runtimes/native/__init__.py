"""The exported graphs as native code: translated to C, compiled on this machine, every actor a row of one array."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamer.runtimes.block import F32, Block, RowIndex
from streamer.runtimes.native.build import load_library
from streamer.runtimes.native.program import GRAPHS, translate

T = TypeVar("T", bound=np.generic)
LINE = 64  # bytes of a cache line, and the alignment of every row
PAGE = 2**21  # bytes of a large page
LEAST = 4  # actors of a thread: fewer are done before another thread has woken up
ADDRESS = ctypes.sizeof(ctypes.c_void_p)


class NativeRuntime:
    """One library for all blocks. It runs on the calling thread, a crowd of actors on ``threads``."""

    name = "native"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.program, self.contract = translate(folder)
        library = load_library(self.program.source)
        self._weights, self._constants = aligned(self.program.weights), aligned(self.program.constants)
        self._data = self._weights.ctypes.data, self._constants.ctypes.data
        self._functions = {name: getattr(library, name) for name in GRAPHS}
        for function in self._functions.values():
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
            function.restype = None
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "hpstm-native") if threads > 1 else None
        self._read = library.read_through
        self._read.argtypes, self._read.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_float

    def open(self, capacity: int) -> Block:
        return NativeBlock(self, capacity)

    def call(self, graph: str, addresses: int, count: int) -> None:
        """Run a graph for ``count`` actors: ``addresses`` is that of an array of the addresses of their rows."""
        run, share = self._functions[graph], count
        parts: list[Future[None]] = []
        if self._helpers is not None and count >= LEAST * self._threads:
            share = -(-count // self._threads)
            for first in range(share, count, share):
                rest = addresses + ADDRESS * first, min(share, count - first)
                parts.append(self._helpers.submit(partial(run, *self._data, *rest)))
        run(*self._data, addresses, share)
        for part in parts:
            part.result()

    def read_weights(self) -> int:
        """Reads all packed weights once, as fast as this machine does: the least that a step takes. Bytes read."""
        count = self._weights.nbytes // 512 * 512
        self._read(self._data[0], count)
        return count


class NativeBlock:
    """Rows of one array, seen as named arrays over rows. The rows of a call share a reading of the weights.

    The memory of a row is first touched when the row is first reset.
    """

    def __init__(self, runtime: NativeRuntime, capacity: int) -> None:
        program, contract = runtime.program, runtime.contract
        self.capacity = capacity
        self._runtime, self._empty = runtime, contract.blocked
        width = -(-4 * program.row_floats // LINE) * LINE // 4
        self._memory = pages(4 * capacity * width).view(np.float32).reshape(capacity, width)
        at: dict[str, F32] = {}
        for name, shape in program.shapes.items():
            place = program.places[name]
            at[name] = self._memory[:, place : place + prod(shape)].reshape(capacity, *shape[1:])
            assert np.may_share_memory(at[name], self._memory)
        self.frame, self.time, self.tau_s = at["frame"], at["time"], at["tau_s"]
        self.offsets_m, self.previous = at["offsets_m"], at["previous"]
        self.positions, self.source, self.rotations = at["positions"], at["source"], at["rotations"]
        self.covariance, self.contact = at["covariance"], at["contact"]
        self._skeleton, self._blocked = at["skeleton"], at["blocked"]
        self._addresses = self._memory.ctypes.data + 4 * width * np.arange(capacity, dtype=np.uintp)
        self._called = np.empty(capacity, np.uintp)  # addresses of the rows of one call
        self._called_at = self._called.ctypes.data

    def step(self, rows: RowIndex) -> None:
        self._call("step", rows)

    def pose(self, rows: RowIndex) -> None:
        self._call("head", rows)

    def skeleton(self, rows: RowIndex) -> F32:
        self._call("skeleton", rows)
        return self._skeleton[rows].copy()

    def reset(self, row: int) -> None:
        self._memory[row] = 0.0
        self._blocked[row] = self._empty

    def _call(self, graph: str, rows: RowIndex) -> None:
        addresses = self._addresses[rows]
        count = len(addresses)
        self._called[:count] = addresses
        self._runtime.call(graph, self._called_at, count)


def pages(count: int) -> npt.NDArray[np.uint8]:
    """So many zero bytes in large pages where there are any; the system gives memory to what is written, not before.

    A step reads 5 MB: in small pages those are more than a processor keeps the addresses of.

    Raises:
        MemoryError: there is not so much.
    """
    try:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        space = mmap.mmap(-1, count + PAGE, **private)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{count} bytes: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            space.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(space, np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start : start + count]


def aligned(array: npt.NDArray[T]) -> npt.NDArray[T]:
    """A copy that starts on a cache line; of what is large, in large pages."""
    if array.nbytes >= PAGE:
        space, start = pages(array.nbytes), 0
    else:
        space = np.empty(array.nbytes + LINE, np.uint8)
        start = -space.ctypes.data % LINE
    out: npt.NDArray[T] = space[start : start + array.nbytes].view(array.dtype)
    out[:] = array
    return out
