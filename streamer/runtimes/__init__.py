"""Runtimes: the exported graphs on some engine. A runtime opens one lane, state and all, for each actor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from model.contract import WEIGHTS, Contract
from streamer.errors import ConfigError, RuntimeUnavailable

F32 = npt.NDArray[np.float32]
Answer = tuple[F32, F32, F32, F32]  # positions, rotations, covariance, contact: see Lane.pose
RUNTIMES = ("auto", "onnx", "native", "tensorrt", "torch", "torch_cuda")


class Lane(Protocol):
    """One actor's state on a runtime. ``frame`` and ``time`` are written by the caller, then ``step`` takes them in.

    frame (1, 6, 24): x, y, z relative to the actor's origin [m], present, confidence, derived.
    time (1, 1 + 2 D): seconds since the previous frame, cosines and sines of the rotary phase.
    """

    frame: F32
    time: F32

    def step(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        """Take in the frame and answer as ``pose`` does."""
        ...

    def skeleton(self) -> F32:
        """What the last frame shows of the actor's skeleton: (24, 4) bone in the rest pose [m], and its weight."""
        ...

    def pose(self, tau_s: float, offsets_m: F32, previous: F32) -> Answer:
        """Positions (24, 3), rotations (24, 4), covariance (24, 3, 3) and contact (2,) for the last frame + tau.

        On the skeleton offsets_m (24, 3), quaternion signs as in previous (24, 4). They stand until the next call.
        """
        ...

    def reset(self) -> None:
        """As new."""


class Ask(NamedTuple):
    """What a lane, whose frame is written, wants of a step: see ``Lane.pose``."""

    lane: Lane
    tau_s: float
    offsets_m: F32
    previous: F32


class Runtime(Protocol):
    """One that answers many lanes in one call also has ``step_many``, as the function of that name here."""

    name: str
    contract: Contract

    def open(self) -> Lane: ...


def step_many(runtime: Runtime, asks: Sequence[Ask]) -> list[Answer]:
    """Take in the frames of several lanes, each at most once: in one call where the runtime can."""
    together = getattr(runtime, "step_many", None)
    if together is not None:
        answers: list[Answer] = together(asks)
        return answers
    return [ask.lane.step(ask.tau_s, ask.offsets_m, ask.previous) for ask in asks]


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
            return load_runtime("native", folder)
        except RuntimeUnavailable:
            return load_runtime("onnx", folder, threads)
    if name == "native":
        from streamer.runtimes.native import NativeRuntime

        if threads != 1:
            raise ConfigError(f"runtime native runs on the calling thread: threads must be 1, not {threads}")
        return NativeRuntime(folder)
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
