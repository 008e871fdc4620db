"""ONNX Runtime on the CPU: a row's buffers bound once, its state swapped between two, ring rows written in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from model import contract as contracts
from model.contract import POSE, Contract
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes.block import F32, Block, RowIndex

ASKED = ("frame", "time", "tau_s", "offsets_m", "previous")


class OnnxRuntime:
    """The exported graphs in ONNX Runtime sessions that all blocks share."""

    name = "onnx"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.step, self.contract = _session(folder / "step.onnx", threads)
        self.head, head = _session(folder / "head.onnx", threads)
        self.skeleton, skeleton = _session(folder / "skeleton.onnx", threads)
        if not self.contract == head == skeleton:
            raise ContractError(f"{folder}: the .onnx files come from different exports; export the model again")
        try:
            contracts.check_sums(folder, self.contract)
        except contracts.ContractError as error:
            raise ContractError(str(error)) from error

    def open(self, capacity: int) -> Block:
        return OnnxBlock(self, capacity)


class OnnxBlock:
    """Buffers by name over rows, and a session's call for each row; its two states are read and written in turn."""

    def __init__(self, runtime: OnnxRuntime, capacity: int) -> None:
        c, shapes = runtime.contract, runtime.contract.input_shapes()
        joints = len(c.joints)

        def over_rows(*shape: int) -> F32:
            return np.zeros((capacity, *shape), np.float32)

        self._runtime, self._contract, self.capacity = runtime, c, capacity
        self._rows = np.arange(capacity)
        self.frame, self.time = over_rows(6, joints), over_rows(*shapes["time"])
        self.tau_s, self.offsets_m, self.previous = over_rows(), over_rows(joints, 3), over_rows(joints, 4)
        self.positions, self.source = over_rows(joints, 3), over_rows(joints, 3)
        self.rotations, self.covariance, self.contact = over_rows(joints, 4), over_rows(joints, 3, 3), over_rows(2)
        self._skeleton = over_rows(joints, 4)
        self._latent, self._blocked = over_rows(c.latent), over_rows(c.window)
        self._new = over_rows(c.layers, 2, c.heads, c.head_width)  # keys and values of the frame
        self._rings = over_rows(c.layers, 2, c.heads, c.window, c.head_width)
        self._states = [{name: over_rows(*shape) for name, shape in c.state.items()} for _ in range(2)]
        self._frames = [0] * capacity
        self._bindings: dict[int, list[dict[str, ort.IOBinding]]] = {}  # of rows that were used; for each state

    def step(self, rows: RowIndex) -> None:
        for row in self._rows[rows].tolist():
            self._run(self._runtime.step, "step", row)
            slot = self._frames[row] % self._contract.window
            self._rings[row, ..., slot, :] = self._new[row]
            self._blocked[row, slot] = 0.0
            self._frames[row] += 1

    def pose(self, rows: RowIndex) -> None:
        for row in self._rows[rows].tolist():
            self._run(self._runtime.head, "head", row)

    def skeleton(self, rows: RowIndex) -> F32:
        for row in self._rows[rows].tolist():
            self._run(self._runtime.skeleton, "skeleton", row)
        return self._skeleton[rows].copy()

    def reset(self, row: int) -> None:
        written = (self.frame, self.time, self.tau_s, self.offsets_m, self.previous)
        kept = (self._rings, self._latent, *self._states[0].values(), *self._states[1].values())
        for array in (*written, *kept):
            array[row] = 0.0
        self._blocked[row] = self._contract.blocked
        self._frames[row] = 0

    def _run(self, session: ort.InferenceSession, graph: str, row: int) -> None:
        if row not in self._bindings:
            old, new = self._states
            self._bindings[row] = [self._bind(row, old, new), self._bind(row, new, old)]
        session.run_with_iobinding(self._bindings[row][self._frames[row] % 2][graph])

    def _bind(self, row: int, old: dict[str, F32], new: dict[str, F32]) -> dict[str, ort.IOBinding]:
        """Bindings of the three graphs to the memory of a row, which reads one state and writes the other."""
        state = {name: array[row : row + 1] for name, array in old.items()}
        own = {name: getattr(self, name)[row : row + 1] for name in ASKED + POSE}
        pose, latent = {name: own[name] for name in POSE}, self._latent[row : row + 1]
        inputs = own | state | {"latent": latent, "blocked": self._blocked[row : row + 1]}
        for i in range(self._contract.layers):
            inputs |= {f"keys_{i}": self._rings[row : row + 1, i, 0], f"values_{i}": self._rings[row : row + 1, i, 1]}
        outputs = {"latent": latent, "rows": self._new[row : row + 1], **pose}
        outputs |= {f"out_{name}": array[row : row + 1] for name, array in new.items()}
        return {
            "step": _bind(self._runtime.step, inputs, outputs),
            "head": _bind(self._runtime.head, inputs, pose),
            "skeleton": _bind(self._runtime.skeleton, inputs, {"skeleton": self._skeleton[row : row + 1]}),
        }


def _bind(session: ort.InferenceSession, inputs: dict[str, F32], outputs: dict[str, F32]) -> ort.IOBinding:
    """Bind numpy memory by address: the arrays must outlive the binding, so blocks keep both."""
    binding = session.io_binding()
    used = {entry.name for entry in session.get_inputs()}  # the exporter drops what a graph does not read
    for name in used:
        array = inputs[name]
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return binding


def _session(path: Path, threads: int) -> tuple[ort.InferenceSession, Contract]:
    if not path.exists():
        raise ContractError(f"{path} does not exist; give a folder that `hpstm export` wrote, or run `hpstm export`")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types, all of them about this file
        raise RuntimeUnavailable(f"{path}: ONNX Runtime {ort.__version__} cannot load it ({error})") from error
    text = session.get_modelmeta().custom_metadata_map.get(contracts.KEY)
    if text is None:
        raise ContractError(f"{path} carries no HPSTM contract; export the model with `hpstm export`")
    try:
        contract = Contract.from_json(text, str(path))
        contract.check_outputs(path.stem, [out.name for out in session.get_outputs()], str(path))
        contract.check_shapes({i.name: tuple(i.shape) for i in session.get_inputs()}, str(path))
    except contracts.ContractError as error:
        raise ContractError(str(error)) from error
    return session, contract
