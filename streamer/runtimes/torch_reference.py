"""The torch reference: the same step from the same weights, for tests and for researchers. Needs the `train` extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.contract import POSE, Contract, sha256
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes.block import F32, Block, RowIndex
from streamer.runtimes.onnx_cpu import OnnxRuntime

try:
    import torch

    from model.export import GRAPHS
    from model.network import front
    from model.network.causal import Ring, write_rows
    from model.training.train import load_model
except ImportError as error:
    raise RuntimeUnavailable(f"runtime 'torch' needs torch: pip install 'hpstm-live[train]' ({error})") from error


class State(NamedTuple):
    """What one actor leaves behind."""

    groups: list[torch.Tensor]  # of model.front
    latent: torch.Tensor
    ring: Ring


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

    def open(self, capacity: int) -> Block:
        return TorchBlock(self, capacity)


class TorchBlock:
    """Each row's state as tensors, and a call for each row; numpy in and out, of the model's own precision."""

    def __init__(self, runtime: TorchRuntime, capacity: int) -> None:
        self._model, self._dtype = runtime.model, runtime.dtype
        self._graphs = {name: kind(runtime.model) for name, kind in GRAPHS.items()}
        joints, times = len(runtime.contract.joints), 1 + 2 * len(runtime.contract.angular_hz)

        def over_rows(*shape: int) -> Any:
            return torch.zeros(capacity, *shape, dtype=self._dtype).numpy()

        self.capacity, self._rows = capacity, np.arange(capacity)
        self.frame, self.time, self.tau_s = over_rows(6, joints), over_rows(times), over_rows()
        self.offsets_m, self.previous = over_rows(joints, 3), over_rows(joints, 4)
        self.positions, self.source = over_rows(joints, 3), over_rows(joints, 3)
        self.rotations, self.covariance, self.contact = over_rows(joints, 4), over_rows(joints, 3, 3), over_rows(2)
        self._states: dict[int, State] = {}

    def reset(self, row: int) -> None:
        for array in (self.frame, self.time, self.tau_s, self.offsets_m, self.previous):
            array[row] = 0.0
        latent = torch.zeros(1, self._model.config.width, dtype=self._dtype)
        state = front.pack(front.initial_state(1, self._dtype))
        self._states[row] = State(state, latent, self._model.initial_ring(1))

    @torch.no_grad()
    def step(self, rows: RowIndex) -> None:
        for row in self._rows[rows].tolist():
            state, latent, ring = self._states[row]
            rings = [x for pair in zip(ring.keys, ring.values, strict=True) for x in pair]
            frame, time, *wanted = self._of(row, self.frame, self.time, self.tau_s, self.offsets_m, self.previous)
            out = self._graphs["step"](frame, time, *state, latent, *wanted, ring.blocked, *rings)
            groups = len(state)
            state, latent, new = list(out[1 : 1 + groups]), out[1 + groups], out[2 + groups]
            self._states[row] = State(state, latent, write_rows(ring, new, latent))
            self._answer(row, out[3 + groups :])

    @torch.no_grad()
    def skeleton(self, rows: RowIndex) -> F32:
        seen = []
        for row in self._rows[rows].tolist():
            state, latent, _ = self._states[row]
            seen.append(self._graphs["skeleton"](latent, *self._of(row, self.frame, self.time), *state))
        out: F32 = torch.cat(seen).numpy()
        return out

    @torch.no_grad()
    def pose(self, rows: RowIndex) -> None:
        for row in self._rows[rows].tolist():
            state, latent, _ = self._states[row]
            wanted = self._of(row, self.tau_s, self.offsets_m, self.previous)
            self._answer(row, self._graphs["head"](latent, *state, *wanted))

    @staticmethod
    def _of(row: int, *arrays: Any) -> list[torch.Tensor]:
        return [torch.from_numpy(array[row : row + 1]) for array in arrays]

    def _answer(self, row: int, pose: Any) -> None:
        for name, told in zip(POSE, pose, strict=True):
            getattr(self, name)[row] = told[0].numpy()
