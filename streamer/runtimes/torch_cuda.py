"""Torch on a GPU, one CUDA graph replayed a call: the plain GPU reference that TensorRT is measured against.

The same rows as tensorrt.py, the same weights as torch_reference.py in float32. Needs the `train` extra with a CUDA
build of torch. Checked without a GPU, with ``device="cpu"``: everything but the move of the program and the capture.
"""

from __future__ import annotations

import inspect
import warnings
from math import prod
from pathlib import Path
from typing import Any

from streamer.errors import RuntimeUnavailable
from streamer.runtimes.block import F32
from streamer.runtimes.rows import Fields, Packing, Rows, row_counts
from streamer.runtimes.torch_reference import TorchRuntime

try:
    import torch
    from torch import Tensor

    from model.export import GRAPHS, Graph, example_inputs
except ImportError as error:
    raise RuntimeUnavailable(f"runtime 'torch_cuda' needs torch: pip install 'hpstm-live[train]' ({error})") from error


class TorchCudaRuntime(Rows):
    """weights.safetensors on the first GPU.

    Args:
        lanes: most actors at a time.
        device: "cuda"; "cpu" makes the same calls without a graph, for the tests.
    Raises:
        RuntimeUnavailable: torch sees no GPU. ContractError: another model.
    """

    name = "torch_cuda"

    def __init__(self, folder: Path, lanes: int = 64, device: str = "cuda") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
            raise RuntimeUnavailable(
                f"runtime 'torch_cuda': torch {torch.__version__} ({built}) sees no NVIDIA GPU; use runtime 'torch'"
            )
        reference = TorchRuntime(folder)
        super().__init__(reference.contract, TorchDevice(reference, lanes, torch.device(device)), lanes)


class TorchDevice:
    """A ``rows.Device`` of torch tensors; state and ring change in place."""

    def __init__(self, reference: TorchRuntime, lanes: int, device: torch.device) -> None:
        contract, model = reference.contract, reference.model
        self._packing = packing = Packing.of(contract)
        self._cuda = device.type == "cuda"
        self._hosts = {
            name: torch.zeros(lanes, fields.width, pin_memory=self._cuda)
            for name, fields in (("request", packing.request), ("pose", packing.pose), ("skeleton", packing.skeleton))
        }
        self.request, self.pose, self.skeleton = (self._view(name) for name in ("request", "pose", "skeleton"))
        self._request = torch.zeros(lanes, packing.request.width, device=device)
        self._state = torch.zeros(lanes, packing.state.width, device=device)
        self._ring = torch.zeros(lanes, *packing.ring, device=device)
        self._slots = torch.arange(contract.window, device=device, dtype=torch.float32)
        inputs = example_inputs(model, 2)
        self._graphs = {name: kind(model) for name, kind in GRAPHS.items()}
        self._programs = {name: _program(graph, inputs, device) for name, graph in self._graphs.items()}
        self._captured: dict[tuple[str, int], Any] = {}
        if self._cuda:
            calls = [(name, rows) for name in GRAPHS for rows in row_counts(lanes)]
            self._captured = {call: self._capture(*call) for call in calls}

    def run(self, graph: str, rows: int) -> None:
        if self._cuda:
            self._captured[graph, rows].replay()
            torch.cuda.synchronize()
        else:
            self._call(graph, rows)

    def clear(self, row: int) -> None:
        self._state[row] = 0.0
        self._ring[row] = 0.0

    def _view(self, name: str) -> F32:
        array: F32 = self._hosts[name].numpy()
        return array

    def _capture(self, graph: str, rows: int) -> Any:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what torch does on the first runs only must not be captured
            for _ in range(3):
                self._call(graph, rows)
        torch.cuda.current_stream().wait_stream(side)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            self._call(graph, rows)
        return captured

    @torch.no_grad()
    def _call(self, graph: str, rows: int) -> None:
        request, state, ring = self._request[:rows], self._state[:rows], self._ring[:rows]
        request.copy_(self._hosts["request"][:rows], non_blocking=True)
        values = _cut(request, self._packing.request) | _cut(state, self._packing.state)
        for i in range(self._packing.ring[0]):
            values[f"{('keys', 'values')[i % 2]}_{i // 2}"] = ring[:, i]
        kind = self._graphs[graph]
        out = self._programs[graph](*(values[name] for name in kind.inputs))
        told = dict(zip(kind.outputs, out if isinstance(out, (tuple, list)) else [out], strict=True))
        answer = "skeleton" if graph == "skeleton" else "pose"
        fields = self._packing.skeleton if graph == "skeleton" else self._packing.pose
        packed = torch.cat([told[name].reshape(rows, -1) for name in fields.places], 1)
        self._hosts[answer][:rows].copy_(packed, non_blocking=True)
        if graph == "step":
            self._move(values["slot"][:, None], told, state, ring)

    def _move(self, slot: Tensor, told: dict[str, Tensor], state: Tensor, ring: Tensor) -> None:
        """The state and ring of the rows that took in a frame: slot (B, 1), negative for the others."""
        rows = len(slot)
        news = [told[name if name == "latent" else f"out_{name}"] for name in self._packing.state.places]
        state.copy_(torch.where(slot >= 0, torch.cat([new.reshape(rows, -1) for new in news], 1), state))
        kinds, heads, window, width = self._packing.ring
        written = (slot == self._slots).reshape(rows, 1, 1, window, 1)
        ring.copy_(torch.where(written, told["rows"].reshape(rows, kinds, heads, 1, width), ring))


def _cut(packed: Tensor, fields: Fields) -> dict[str, Tensor]:
    """The arrays of packed rows (B, width) by name, (B, ...) each."""
    rows, cut = len(packed), {}
    for name, (start, shape) in fields.places.items():
        cut[name] = packed[:, start : start + prod(shape)].reshape(rows, *shape)
    return cut


def _program(graph: Graph, inputs: dict[str, Tensor], device: torch.device) -> Any:
    """The graph with every constant on ``device``: the model's own code makes some of them on the CPU, where it may
    run as it is; for elsewhere it is traced, and they are moved with it."""
    if device.type == "cpu":
        return graph
    from torch.export.passes import move_to_device_pass

    arguments = tuple(inputs[name] for name in graph.inputs)
    batch = {0: torch.export.Dim("batch", min=1, max=65536)}
    named = len(inspect.signature(graph.forward).parameters) - 1
    shapes = (*[batch] * named, tuple([batch] * (len(arguments) - named)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        program = torch.export.export(graph, arguments, dynamic_shapes=shapes)
        return move_to_device_pass(program, device).module()
