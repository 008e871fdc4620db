"""TensorRT, full or RTX: one CUDA graph a call, which copies the request in, runs the engine and copies the answer out.

rows.py has the data path (actors as rows, what is asked and told), engines.py builds and keeps the engines, cuda.py has
CUDA. State and ring never leave the GPU: each step reads one of two copies and writes the other, in turn.

Checked without a GPU: everything up to the engines, and the data path (on ONNX Runtime). Not checked there, for want of
one: that engines load and run, that a context can be captured for each row count, RTX's kernel cache, and every timing.
``hpstm bench gpu`` checks all of that on a machine that has one.
"""

from __future__ import annotations

import logging
from math import prod
from pathlib import Path
from typing import Any

from model.contract import Contract
from streamer.errors import RuntimeUnavailable
from streamer.runtimes.cuda import Gpu, Stream, find_gpu
from streamer.runtimes.engines import EngineSet, find_library
from streamer.runtimes.onnx_cpu import OnnxRuntime
from streamer.runtimes.rows import FP16_TOLERANCE_MM, GRAPHS, Packing, Rows, row_counts

log = logging.getLogger(__name__)


class TensorRTRuntime(Rows):
    """The exported graphs as TensorRT engines on the first GPU.

    Args:
        lanes: most actors at a time; the engines are built for it.
        precision: of the trunk, "fp16" or "fp32"; front, head and FK are fp32 always.
        library: "tensorrt_rtx" or "tensorrt"; by default the first that is installed.
    Raises:
        RuntimeUnavailable: no library, no GPU, or one that cannot run this; ContractError: another model.
    """

    name = "tensorrt"

    def __init__(self, folder: Path, lanes: int = 64, precision: str = "fp16", library: str | None = None) -> None:
        contract = OnnxRuntime(folder).contract  # read and checked as everywhere
        gpu = find_gpu()  # first: without one, TensorRT returns None or ends the process
        trt = find_library(library)
        self.engines = EngineSet(folder, contract, lanes, precision, trt, gpu)
        self.gpu = gpu
        self.tolerance_mm = max(contract.tolerance_mm, FP16_TOLERANCE_MM if precision == "fp16" else 0.0)
        super().__init__(contract, TensorRTDevice(contract, self.engines, gpu), lanes)


class TensorRTDevice:
    """A ``rows.Device``: pinned blocks of the host, blocks of the GPU, and a captured graph for each kind of call."""

    def __init__(self, contract: Contract, engines: EngineSet, gpu: Gpu) -> None:
        packing, lanes = Packing.of(contract), engines.lanes
        self._trt, self._engines, self._packing = engines.trt, engines, packing
        self._stream = stream = Stream()
        self.request, self._request_host = stream.pinned((lanes, packing.request.width))
        self.pose, pose_host = stream.pinned((lanes, packing.pose.width))
        self.skeleton, skeleton_host = stream.pinned((lanes, packing.skeleton.width))
        self._answer_host = {"step": pose_host, "head": pose_host, "skeleton": skeleton_host}
        self._row_bytes = {"state": 4 * packing.state.width, "ring": 4 * prod(packing.ring)}
        self._request = stream.device_bytes(self.request.nbytes)
        self._answer = stream.device_bytes(max(self.pose.nbytes, self.skeleton.nbytes))
        self._moved = {name: [stream.device_bytes(lanes * n) for _ in range(2)] for name, n in self._row_bytes.items()}
        self._turn = 0  # which of the two the next call reads
        self._load(gpu)

    def run(self, graph: str, rows: int) -> None:
        self._stream.launch(self._graphs[graph, rows, self._turn])
        self._stream.wait()
        if graph == "step":
            self._turn = 1 - self._turn

    def clear(self, row: int) -> None:
        for name, count in self._row_bytes.items():
            for block in self._moved[name]:
                self._stream.zero(block + row * count, count)
        self._stream.wait()

    def _load(self, gpu: Gpu) -> None:
        """Load the engines and capture every kind of call: 1, 4, 16, ... rows, reading either copy of the state."""
        self._log = self._trt.Logger(self._trt.Logger.ERROR)  # they live as long as what they made
        self._runtime = self._trt.Runtime(self._log)
        loaded = {graph: self._engines.load(self._runtime, graph) for graph in GRAPHS}
        kernels = KernelCache(self._trt, self._engines, gpu)
        # One context for each captured graph, as TensorRT asks; they run one at a time, so they share their memory.
        sizes = {graph: int(engine.device_memory_size_v2) for graph, engine in loaded.items()}
        scratch = self._stream.device_bytes(max(sizes.values()))
        self._contexts, self._graphs = [], {}
        for graph, engine in loaded.items():
            for rows in row_counts(self._engines.lanes):
                for turn in range(2):
                    context = kernels.context(engine)
                    context.set_device_memory(scratch, sizes[graph])
                    self._bind(context, engine, rows, turn)
                    self._graphs[graph, rows, turn] = self._capture(context, graph, rows)
                    self._contexts.append(context)
        kernels.save()

    def _bind(self, context: Any, engine: Any, rows: int, turn: int) -> None:
        """Addresses of every tensor, and the row count."""
        addresses = {"request": self._request, "answer": self._answer}
        for name, blocks in self._moved.items():
            addresses |= {name: blocks[turn], f"next_{name}": blocks[1 - turn]}
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            done = context.set_tensor_address(name, addresses[name])
            if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
                done = context.set_input_shape(name, (rows, *tuple(engine.get_tensor_shape(name))[1:])) and done
            if not done:
                raise RuntimeUnavailable(f"TensorRT refuses {rows} rows of {name}; its messages say why")

    def _capture(self, context: Any, graph: str, rows: int) -> Any:
        stream, packing = self._stream, self._packing
        width = packing.skeleton.width if graph == "skeleton" else packing.pose.width

        def execute() -> None:
            if not context.execute_async_v3(int(stream.handle)):
                raise RuntimeUnavailable(f"TensorRT does not run the {graph} engine; its messages say why")

        def call() -> None:
            stream.copy(self._request, self._request_host, 4 * rows * packing.request.width)
            execute()
            stream.copy(self._answer_host[graph], self._answer, 4 * rows * width)

        execute()  # once outside: what TensorRT does on the first run only must not be captured
        stream.wait()
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(int(stream.handle)):
            raise RuntimeUnavailable(f"TensorRT cannot capture the {graph} engine as a CUDA graph on this GPU")
        return stream.capture(call)


class KernelCache:
    """Contexts whose memory is given to them. RTX compiles kernels as they load, and a file keeps them from run to run;
    full TensorRT has them in its engines."""

    def __init__(self, trt: Any, engines: EngineSet, gpu: Gpu) -> None:
        self._trt = trt
        self._cache: Any = None  # made with the first context
        self._kept = False  # the file holds it
        self._compiles = hasattr(trt, "DynamicShapesKernelSpecializationStrategy")
        known = f"{trt.__name__}-{trt.__version__}-sm{gpu.capability[0]}{gpu.capability[1]}"
        self._path = engines.cache / f"kernels-{known}-{engines.contract.weights_sha256[:12]}.cache"

    def context(self, engine: Any) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._compiles:
            context = engine.create_execution_context(strategy)
        else:
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            # Kernels for the shapes at hand before the first frame, not in the background while frames wait.
            config.dynamic_shapes_kernel_specialization_strategy = (
                self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                self._restore()
            config.set_runtime_cache(self._cache)
            context = engine.create_execution_context(config)
        if context is None:
            raise RuntimeUnavailable(f"{self._trt.__name__} makes no context on this GPU; its messages say why")
        return context

    def _restore(self) -> None:
        if self._path.exists():  # TensorRT itself refuses one of another GPU or driver
            self._kept = bool(self._cache.deserialize(self._path.read_bytes()))

    def save(self) -> None:
        if self._cache is None or self._kept:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(bytes(self._cache.serialize()))
        except OSError as error:
            log.warning("compiled kernels are not kept: %s", error)
