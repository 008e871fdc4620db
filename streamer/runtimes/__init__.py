"""Runtimes: the exported graphs on some engine. Each is loaded when it is asked for; block.py says what it must do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from model.contract import WEIGHTS
from streamer.errors import ConfigError, RuntimeUnavailable
from streamer.runtimes.block import Runtime

log = logging.getLogger("hpstm")
RUNTIMES = ("auto", "onnx", "native", "tensorrt", "torch", "torch_cuda")


def load_runtime(name: str, path: Path | None = None, threads: int = 1, **options: Any) -> Runtime:
    """The runtime called ``name`` on the model folder ``path`` (default: the bundled one).

    "auto" is "native" where that runs and "onnx" elsewhere: the runtime's ``name`` says which.

    Raises:
        ConfigError: no such runtime, or a bad thread count. ContractError: another model. RuntimeUnavailable: a
        library or a GPU is missing.
    """
    folder = path or WEIGHTS
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    if name == "onnx":
        from streamer.runtimes.onnx_cpu import OnnxRuntime

        return OnnxRuntime(folder, threads)
    if name == "auto":
        try:
            return load_runtime("native", folder, threads)
        except RuntimeUnavailable as error:
            log.info("runtime onnx, since: %s", error)
            return load_runtime("onnx", folder, threads)
    if name == "native":
        from streamer.runtimes.native import NativeRuntime

        return NativeRuntime(folder, threads)
    if name == "torch":
        from streamer.runtimes.torch_reference import TorchRuntime

        return TorchRuntime(folder, threads, **options)
    if name == "tensorrt":
        from streamer.runtimes.tensorrt import TensorRTRuntime

        return TensorRTRuntime(folder, **options)
    if name == "torch_cuda":
        from streamer.runtimes.torch_cuda import TorchCudaRuntime

        return TorchCudaRuntime(folder, **options)
    raise ConfigError(f"runtime {name!r} does not exist; choose one of {', '.join(RUNTIMES)}")
