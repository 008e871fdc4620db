"""The torch reference: the same step from the same weights, for tests and for researchers. Needs the `train` extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.contract import Contract, sha256
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes import F32
from streamer.runtimes.onnx_cpu import OnnxRuntime

try:
    import torch

    from model import front
    from model.causal import write_rows
    from model.export import GRAPHS
    from model.train import load_model
except ImportError as error:
    raise RuntimeUnavailable(f"runtime 'torch' needs torch: pip install 'hpstm-live[train]' ({error})") from error


class TorchRuntime:
    """weights.safetensors in eager torch; ``double`` computes in float64, the tests' yardstick."""

    name = "torch"

    def __init__(self, folder: Path, threads: int = 1, double: bool = False) -> None:
        self.contract: Contract = OnnxRuntime(folder).contract
        weights = folder / "weights.safetensors"
        if not weights.exists():
            raise ContractError(f"{weights} does not exist; give a folder that `hpstm export` wrote")
        if sha256(weights) != self.contract.weights_sha256:
            raise ContractError(f"{weights} is not what the ONNX files were exported from; export the model again")
        torch.set_num_threads(threads)
        self.dtype = torch.float64 if double else torch.float32
        self.model = load_model(weights).to(self.dtype)

    def open(self) -> TorchLane:
        return TorchLane(self)


class TorchLane:
    """One actor's state as tensors; numpy in and out as the Lane protocol says."""

    def __init__(self, runtime: TorchRuntime) -> None:
        self._model, self._dtype = runtime.model, runtime.dtype
        self._graphs = {name: kind(runtime.model) for name, kind in GRAPHS.items()}
        joints, numpy_type = len(runtime.contract.joints), np.float64 if runtime.dtype is torch.float64 else np.float32
        self.frame: Any = np.zeros((1, 6, joints), numpy_type)
        self.time: Any = np.zeros((1, 1 + 2 * len(runtime.contract.angular_hz)), numpy_type)
        self.reset()

    def reset(self) -> None:
        self._ring = self._model.initial_ring(1)
        self._state = front.pack(front.initial_state(1, self._dtype))
        self._latent = torch.zeros(1, self._model.config.width, dtype=self._dtype)

    @torch.no_grad()
    def step(self, tau_s: float, offsets_m: F32, previous: F32) -> tuple[F32, F32, F32, F32]:
        rings = [x for pair in zip(self._ring.keys, self._ring.values, strict=True) for x in pair]
        frame, time = torch.from_numpy(self.frame), torch.from_numpy(self.time)
        wanted = self._wanted(tau_s, offsets_m, previous)
        out = self._graphs["step"](frame, time, *self._state, self._latent, *wanted, self._ring.blocked, *rings)
        groups = len(self._state)
        self._state, self._latent, rows = list(out[1 : 1 + groups]), out[1 + groups], out[2 + groups]
        self._ring = write_rows(self._ring, rows, self._latent)
        return self._answer(out[3 + groups :])

    @torch.no_grad()
    def skeleton(self) -> F32:
        frame, time = torch.from_numpy(self.frame), torch.from_numpy(self.time)
        out: F32 = self._graphs["skeleton"](self._latent, frame, time, *self._state)[0].numpy()
        return out

    @torch.no_grad()
    def pose(self, tau_s: float, offsets_m: F32, previous: F32) -> tuple[F32, F32, F32, F32]:
        return self._answer(self._graphs["head"](self._latent, *self._state, *self._wanted(tau_s, offsets_m, previous)))

    def _wanted(self, tau_s: float, offsets_m: F32, previous: F32) -> list[torch.Tensor]:
        arrays = (np.array([tau_s]), offsets_m[None], previous[None])
        return [torch.from_numpy(x).to(self._dtype) for x in arrays]

    @staticmethod
    def _answer(pose: Any) -> tuple[F32, F32, F32, F32]:
        positions, rotations, covariance, contact = (x[0].numpy() for x in pose)
        return positions, rotations, covariance, contact
