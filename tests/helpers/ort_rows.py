"""A GPU runtime without a GPU: actors as rows on the device's form of the graphs, with ONNX Runtime as the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from model.contract import Contract
from streamer.runtimes import load_runtime
from streamer.runtimes.block import F32
from streamer.runtimes.device_graph import device_graph
from streamer.runtimes.rows import GRAPHS, Packing, Rows


class OrtDevice:
    """The engines' part played by ONNX Runtime: the same graphs, two states in turn, rows of fixed blocks."""

    def __init__(self, folder: Path, contract: Contract, lanes: int, precision: str) -> None:
        packing = Packing.of(contract)
        self.request: F32 = np.zeros((lanes, packing.request.width), np.float32)
        self.pose: F32 = np.zeros((lanes, packing.pose.width), np.float32)
        self.skeleton: F32 = np.zeros((lanes, packing.skeleton.width), np.float32)
        self.state = [np.full((lanes, packing.state.width), np.nan, np.float32) for _ in range(2)]
        self.ring = [np.full((lanes, *packing.ring), np.nan, np.float32) for _ in range(2)]
        self.turn = 0
        self.rows: list[int] = []  # of each call
        self._sessions = {}
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        for name in GRAPHS:
            model = device_graph(folder / f"{name}.onnx", packing, precision).SerializeToString()
            self._sessions[name] = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, graph: str, rows: int) -> None:
        self.rows.append(rows)
        blocks = {"request": self.request, "state": self.state[self.turn], "ring": self.ring[self.turn]}
        session = self._sessions[graph]
        answer, *moved = session.run(None, {i.name: blocks[i.name][:rows] for i in session.get_inputs()})
        (self.skeleton if graph == "skeleton" else self.pose)[:rows] = answer
        if moved:
            self.turn = 1 - self.turn
            self.state[self.turn][:rows], self.ring[self.turn][:rows] = moved

    def clear(self, row: int) -> None:
        for block in (*self.state, *self.ring):
            block[row] = 0.0


class OrtRows(Rows):
    """A runtime made of it."""

    name = "rows"

    def __init__(self, folder: Path, lanes: int = 4, precision: str = "fp32") -> None:
        contract = load_runtime("onnx", folder).contract
        self.ort = OrtDevice(folder, contract, lanes, precision)
        super().__init__(contract, self.ort, lanes)
