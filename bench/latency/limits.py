"""What no step can beat on this core: reading its weights, or doing its arithmetic, whichever takes longer.

The core's rates are measured in a process of its own, with numpy on one thread: bandwidth by a dot product that reads
memory once, of the size of the weights (so that they lie in the same cache) and of a size that no cache holds; the
rate of arithmetic by a matrix product in float32. The step's side is counted from its graph.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from model.contract import Contract
from streamer.runtimes.block import Runtime
from streamer.runtimes.native.onnx_file import read_graph

MEMORY_BYTES = 256 * 2**20  # more than a core's share of any cache
PRODUCT = 512  # rows and columns of the matrix product
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Core:
    """What one core does: floating-point operations a second, bytes read a second from memory and by working set."""

    flops_per_s: float
    memory_bytes_per_s: float
    bytes_per_s: dict[int, float]

    def limit(self, work: Work, actors: int = 1) -> dict[str, Any]:
        """The least time [ms] per actor of a step of ``actors`` actors, who share one reading of the weights."""
        rate = self.bytes_per_s[work.weight_bytes]
        read_ms = 1e3 * work.weight_bytes / rate / actors
        compute_ms = 1e3 * work.flops / self.flops_per_s
        bound = "weights" if read_ms > compute_ms else "arithmetic"
        return {
            "limit_ms": max(read_ms, compute_ms), "bound": bound, "read_ms": read_ms, "compute_ms": compute_ms,
            "weight_bytes": work.weight_bytes, "flops": work.flops, "bytes_per_s": rate,
        }  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What a step of one actor must do at least."""

    weight_bytes: int
    flops: int


def work_of(runtime: Runtime, folder: Path) -> Work:
    """The weights' bytes as the runtime keeps them, if it says so, or else as the graph does; products in the graph.

    Counted are the products with the linear layers' weights, and of attention with every slot of the ring and the
    sink, two operations a multiplication; what is done element by element is not.
    """
    graph = read_graph(folder / "step.onnx")
    weights = {name for node in graph.nodes if node.op == "Gemm" for name in node.inputs[1:2]}
    count = sum(graph.constants[name].size for name in weights)
    read = getattr(runtime, "read_weights", None)
    return Work(read() if read is not None else 4 * count, 2 * count + _attention(runtime.contract))


def _attention(c: Contract) -> int:
    return c.layers * 2 * 2 * (c.window + 1) * c.heads * c.head_width


def measure_core(working_sets: set[int]) -> Core:
    """The rates of the core that the calling thread is bound to; a child process inherits the binding."""
    sizes = sorted({MEMORY_BYTES, *working_sets})
    command = [sys.executable, "-m", "bench.latency.limits", *(str(size) for size in sizes)]
    child = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(child.stdout)
    rates = dict(zip(sizes, told["bytes_per_s"], strict=True))
    return Core(told["flops_per_s"], rates[MEMORY_BYTES], {size: rates[size] for size in working_sets})


def _read_rate(size: int) -> float:
    """Bytes a second of a dot product of the two halves of ``size`` bytes."""
    halves = np.ones((2, max(1, size // 8)), np.float32)
    return halves.nbytes / _median_s(lambda: np.dot(halves[0], halves[1]), max(5, min(500, int(2e9 / size))))


def _product_rate() -> float:
    left = np.random.default_rng(1).random((PRODUCT, PRODUCT), np.float32)
    right, out = left.T.copy(), np.empty_like(left)
    return 2 * PRODUCT**3 / _median_s(lambda: np.matmul(left, right, out=out), 50)


def _median_s(work: Any, count: int) -> float:
    work()
    taken = np.empty(count)
    for i in range(count):
        started = perf_counter()
        work()
        taken[i] = perf_counter() - started
    return float(np.median(taken))


if __name__ == "__main__":
    rates = [_read_rate(int(size)) for size in sys.argv[1:]]
    print(json.dumps({"flops_per_s": _product_rate(), "bytes_per_s": rates}))
