"""The offline windowed model, run anew for every frame as a live program would have to: in torch, and the same model
exported once to ONNX Runtime. Its weights are random (from one seed): what they are does not change the time."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

import model.peers.offline
from model.peers.offline import OfflineConfig, OfflineModel, OfflinePose
from model.skeleton import J
from streamer.frames import Frame

F32 = npt.NDArray[np.float32]
Run = Callable[[F32], Sequence[F32]]  # noisy (1, W, J, 3) [m] -> the fields of OfflinePose

OPSET = 20
CONFIG = OfflineConfig()


def offline_model(config: OfflineConfig = CONFIG) -> OfflineModel:
    """The model in eval mode, the same on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return OfflineModel(config).eval()


def in_torch(offline: OfflineModel, threads: int) -> Run:
    """A window in eager torch. The thread count holds for the whole process."""
    torch.set_num_threads(threads)

    def run(noisy: F32) -> Sequence[F32]:
        with torch.inference_mode():
            return [out.numpy() for out in offline(torch.from_numpy(noisy))]

    return run


def in_onnx(offline: OfflineModel, threads: int) -> Run:
    """A window in ONNX Runtime; the exported file is kept in the user's cache.

    Raises:
        ImportError: the exporter's packages are not installed.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(exported(offline)), options, providers=["CPUExecutionProvider"])
    return lambda noisy: session.run(None, {"noisy": noisy})


def exported(offline: OfflineModel) -> Path:
    """The model as an ONNX file, exported unless the cache has this model of this version of torch."""
    source = Path(model.peers.offline.__file__).read_bytes()
    key = hashlib.sha256(repr((offline.config, torch.__version__, source)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpstm-live"
    path = cache / f"offline-{key}.onnx"
    if not path.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        _export(offline, part)
        os.replace(part, path)
    return path


def _export(offline: OfflineModel, path: Path) -> None:
    window = torch.zeros(1, offline.config.window, J, 3)
    names = list(OfflinePose._fields)
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # they warn of what this model does not need
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        program = torch.onnx.export(
            offline, (window,), dynamo=True, opset_version=OPSET, input_names=["noisy"], output_names=names,
            optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(path, external_data=False)


class Recomputing:
    """A live program on the offline model: it keeps the last W frames and runs them all again for each new one."""

    def __init__(self, run: Run, frames: Sequence[Frame], window: int = CONFIG.window) -> None:
        self._run = run
        self._window: deque[F32] = deque((np.nan_to_num(f.positions) for f in frames[:window]), maxlen=window)
        self._frames = iter(frames[window:])
        self.window_ns: list[int] = []

    def advance(self, count: int) -> None:
        """Take in so many frames, each timed."""
        for _ in range(count):
            frame = next(self._frames)
            started = perf_counter_ns()
            self._window.append(np.nan_to_num(frame.positions))
            self._run(np.stack(self._window)[None])
            self.window_ns.append(perf_counter_ns() - started)

    def forget(self) -> None:
        """Drop what was timed so far: it was the warm-up."""
        self.window_ns.clear()


def size_of(offline: OfflineModel) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in offline.parameters())
    return {"parameters": parameters, "window": offline.config.window}
