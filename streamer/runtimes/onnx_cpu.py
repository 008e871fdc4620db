"""ONNX Runtime on the CPU: every buffer bound once, the state swapped between two, ring rows written in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model import contract as contracts
from model.contract import Contract
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.runtimes import F32

Array = npt.NDArray[Any]


class OnnxRuntime:
    """The exported graphs in ONNX Runtime sessions that all lanes share."""

    name = "onnx"

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.step, self.contract = _session(folder / "step.onnx", threads)
        self.head, head = _session(folder / "head.onnx", threads)
        self.skeleton, skeleton = _session(folder / "skeleton.onnx", threads)
        if not self.contract == head == skeleton:
            raise ContractError(f"{folder}: the .onnx files come from different exports; export the model again")

    def open(self) -> OnnxLane:
        return OnnxLane(self)


class OnnxLane:
    """One actor's buffers and bindings; the two states are read and written in turn."""

    def __init__(self, runtime: OnnxRuntime) -> None:
        c = self._contract = runtime.contract
        joints = len(c.joints)
        self._runtime = runtime
        self.frame = np.zeros((1, 6, joints), np.float32)
        self.time = np.zeros((1, 1 + 2 * len(c.angular_hz)), np.float32)
        self._latent = np.zeros((1, c.latent), np.float32)
        self._rows = np.zeros((1, c.layers, 2, c.heads, c.head_width), np.float32)
        self._rings = np.zeros((c.layers, 2, 1, c.heads, c.window, c.head_width), np.float32)
        self._blocked = np.full((1, c.window), c.blocked, np.float32)
        self._states = [{name: np.zeros((1, *shape), np.float32) for name, shape in c.state.items()} for _ in range(2)]
        self._frames = 0
        self._skeleton = np.zeros((1, joints, 4), np.float32)
        self._wanted = {
            "tau_s": np.zeros(1, np.float32), "offsets_m": np.zeros((1, joints, 3), np.float32),
            "previous": np.zeros((1, joints, 4), np.float32),
        }  # fmt: skip
        self._pose = {
            "positions": np.zeros((1, joints, 3), np.float32), "rotations": np.zeros((1, joints, 4), np.float32),
            "covariance": np.zeros((1, joints, 3, 3), np.float32), "contact": np.zeros((1, 2), np.float32),
        }  # fmt: skip
        self._step_bindings = [self._bind_step(old, new) for old, new in (self._states, self._states[::-1])]
        self._head_bindings = [self._bind_head(state) for state in self._states]
        self._skeleton_bindings = [self._bind_skeleton(state) for state in self._states]

    def step(self, tau_s: float, offsets_m: F32, previous: F32) -> tuple[F32, F32, F32, F32]:
        self._ask(tau_s, offsets_m, previous)
        self._runtime.step.run_with_iobinding(self._step_bindings[self._frames % 2])
        slot = self._frames % self._contract.window
        self._rings[:, :, 0, :, slot] = self._rows[0]
        self._blocked[0, slot] = 0.0
        self._frames += 1
        return self._answer()

    def skeleton(self) -> F32:
        self._runtime.skeleton.run_with_iobinding(self._skeleton_bindings[self._frames % 2])
        out: F32 = self._skeleton[0]
        return out

    def pose(self, tau_s: float, offsets_m: F32, previous: F32) -> tuple[F32, F32, F32, F32]:
        self._ask(tau_s, offsets_m, previous)
        self._runtime.head.run_with_iobinding(self._head_bindings[self._frames % 2])
        return self._answer()

    def reset(self) -> None:
        arrays: list[Array] = [*self._states[0].values(), *self._states[1].values(), self._rings, self._latent]
        for array in arrays:
            array.fill(0)
        self._blocked.fill(self._contract.blocked)
        self._frames = 0

    def _ask(self, tau_s: float, offsets_m: F32, previous: F32) -> None:
        wanted = self._wanted
        wanted["tau_s"][0], wanted["offsets_m"][0], wanted["previous"][0] = tau_s, offsets_m, previous

    def _answer(self) -> tuple[F32, F32, F32, F32]:
        pose = self._pose
        return pose["positions"][0], pose["rotations"][0], pose["covariance"][0], pose["contact"][0]

    def _bind_step(self, old: dict[str, F32], new: dict[str, F32]) -> ort.IOBinding:
        inputs = {"frame": self.frame, "time": self.time, "blocked": self._blocked, **old, **self._wanted}
        for i in range(self._contract.layers):
            inputs |= {f"keys_{i}": self._rings[i, 0], f"values_{i}": self._rings[i, 1]}
        outputs = {"latent": self._latent, "rows": self._rows, **self._pose}
        return _bind(self._runtime.step, inputs, outputs | {f"out_{name}": array for name, array in new.items()})

    def _bind_head(self, state: dict[str, F32]) -> ort.IOBinding:
        return _bind(self._runtime.head, {"latent": self._latent, **state, **self._wanted}, self._pose)

    def _bind_skeleton(self, state: dict[str, F32]) -> ort.IOBinding:
        inputs = {"latent": self._latent, "frame": self.frame, "time": self.time, **state}
        return _bind(self._runtime.skeleton, inputs, {"skeleton": self._skeleton})


def _bind(session: ort.InferenceSession, inputs: dict[str, F32], outputs: dict[str, F32]) -> ort.IOBinding:
    """Bind numpy memory by address: the arrays must outlive the binding, so lanes keep both."""
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
        contract.check_shapes({i.name: tuple(i.shape) for i in session.get_inputs()}, str(path))
    except contracts.ContractError as error:
        raise ContractError(str(error)) from error
    return session, contract
