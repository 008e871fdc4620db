"""The few things of CUDA that a runtime needs, from cuda-bindings: is there a GPU, memory, one captured graph a call.

No machine of this project's own checks has a GPU: past ``find_gpu``, this file is read, typed and linted, not run.
``hpstm bench gpu`` runs it.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import RuntimeUnavailable
from streamer.runtimes.block import F32

OLDEST = (7, 5)  # compute capability: Turing, the oldest that TensorRT 10 and later build for


class Gpu(NamedTuple):
    name: str
    capability: tuple[int, int]


def bindings() -> Any:
    """The module cuda.bindings.runtime. Raises RuntimeUnavailable when it is missing or broken."""
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError) as error:
        raise RuntimeUnavailable(f"CUDA needs cuda-bindings: pip install 'hpstm-live[tensorrt]' ({error})") from error
    return runtime


def find_gpu() -> Gpu:
    """The first GPU. To be asked before TensorRT is: without one it returns None, or ends the process.

    Raises:
        RuntimeUnavailable: no driver, no GPU, or one that is too old; says which.
    """
    cuda = bindings()
    code, count = cuda.cudaGetDeviceCount()
    if int(code) or not count:
        said = cuda.cudaGetErrorString(code)[1].decode() if int(code) else "no device"
        raise RuntimeUnavailable(f"no usable NVIDIA GPU: {said} (CUDA error {int(code)}); use runtime 'onnx' on a CPU")
    properties = checked(cuda.cudaGetDeviceProperties(0))
    gpu = Gpu(properties.name.decode(), (properties.major, properties.minor))
    if gpu.capability < OLDEST:
        raise RuntimeUnavailable(
            f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}, TensorRT needs "
            f"{OLDEST[0]}.{OLDEST[1]} or later; use runtime 'onnx' on the CPU"
        )
    return gpu


def checked(answer: tuple[Any, ...]) -> Any:
    """What a CUDA call returned after its error code. Raises RuntimeUnavailable for any error."""
    code, *values = answer
    if int(code):
        said = bindings().cudaGetErrorString(code)[1].decode()
        raise RuntimeUnavailable(f"CUDA error {int(code)}: {said}")
    return values[0] if len(values) == 1 else values


class Stream:
    """One stream, its memory and its captured graphs; all of it is freed with the object."""

    def __init__(self) -> None:
        self._cuda = cuda = bindings()
        # Waiting by spinning answers some 10 us sooner than by sleeping; a live filter waits tens of microseconds.
        checked(cuda.cudaSetDeviceFlags(cuda.cudaDeviceScheduleSpin))
        checked(cuda.cudaSetDevice(0))
        self.handle = checked(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self._frees: list[Callable[[], Any]] = [partial(cuda.cudaStreamDestroy, self.handle)]  # called from the last on
        weakref.finalize(self, _free_all, cuda, self._frees)

    def device_bytes(self, count: int) -> int:
        """Address of new, zeroed device memory; CUDA aligns it to 256 bytes, as TensorRT wants it."""
        cuda = self._cuda
        address = int(checked(cuda.cudaMalloc(max(count, 1))))
        self._frees.append(partial(cuda.cudaFree, address))
        self.zero(address, count)
        return address

    def pinned(self, shape: tuple[int, int]) -> tuple[F32, int]:
        """A zeroed float32 array in page-locked host memory, and its address."""
        cuda, count = self._cuda, shape[0] * shape[1]
        address = int(checked(cuda.cudaHostAlloc(4 * count, cuda.cudaHostAllocDefault)))
        self._frees.append(partial(cuda.cudaFreeHost, address))
        array: F32 = np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
        array[:] = 0.0
        return array, address

    def zero(self, address: int, count: int) -> None:
        checked(self._cuda.cudaMemsetAsync(address, 0, count, self.handle))

    def copy(self, to: int, source: int, count: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDefault  # the addresses say which way
        checked(self._cuda.cudaMemcpyAsync(to, source, count, kind, self.handle))

    def wait(self) -> None:
        checked(self._cuda.cudaStreamSynchronize(self.handle))

    def capture(self, work: Callable[[], None]) -> Any:
        """``work``, which only queues on this stream, as a graph for ``launch``."""
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(self.handle, mode))
        try:
            work()
        finally:
            ended = cuda.cudaStreamEndCapture(self.handle)
        graph = checked(ended)
        launchable = checked(cuda.cudaGraphInstantiate(graph, 0))
        checked(cuda.cudaGraphDestroy(graph))
        self._frees.append(partial(cuda.cudaGraphExecDestroy, launchable))
        return launchable

    def launch(self, graph: Any) -> None:
        checked(self._cuda.cudaGraphLaunch(graph, self.handle))


def _free_all(cuda: Any, frees: list[Callable[[], Any]]) -> None:
    cuda.cudaDeviceSynchronize()
    for free in reversed(frees):
        free()
