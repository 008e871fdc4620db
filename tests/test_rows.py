"""Actors as rows, on the device's form of the graphs: the data path of a GPU runtime, with ONNX Runtime as the device.

What is not checked here is CUDA itself: memory, capture and replay (tests/test_gpu.py, where there is a GPU).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from model.contract import Contract
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import F32, load_runtime
from streamer.runtimes.device_graph import device_graph
from streamer.runtimes.rows import FP16_TOLERANCE_MM, GRAPHS, Packing, Rows
from tests.model_helpers import BUNDLED, NOT_BUNDLED, max_mm
from tests.test_export import eventful, folder

__all__ = ["folder"]  # the tiny exported model


class OrtDevice:
    """The engines' part played by ONNX Runtime: the same graphs, two states in turn, rows of fixed blocks."""

    def __init__(self, folder: Path, contract: Contract, lanes: int, precision: str) -> None:
        packing = Packing.of(contract)
        self.request: F32 = np.zeros((lanes, packing.request.width), np.float32)
        self.pose: F32 = np.zeros((lanes, packing.pose.width), np.float32)
        self.skeleton: F32 = np.zeros((lanes, packing.skeleton.width), np.float32)
        self._state = [np.full((lanes, packing.state.width), np.nan, np.float32) for _ in range(2)]
        self._ring = [np.full((lanes, *packing.ring), np.nan, np.float32) for _ in range(2)]
        self._turn = 0
        self.rows: list[int] = []  # of each call
        self._sessions = {}
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        for name in GRAPHS:
            model = device_graph(folder / f"{name}.onnx", packing, precision).SerializeToString()
            self._sessions[name] = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, graph: str, rows: int) -> None:
        self.rows.append(rows)
        blocks = {"request": self.request, "state": self._state[self._turn], "ring": self._ring[self._turn]}
        session = self._sessions[graph]
        answer, *moved = session.run(None, {i.name: blocks[i.name][:rows] for i in session.get_inputs()})
        (self.skeleton if graph == "skeleton" else self.pose)[:rows] = answer
        if moved:
            self._turn = 1 - self._turn
            self._state[self._turn][:rows], self._ring[self._turn][:rows] = moved

    def clear(self, row: int) -> None:
        for block in (*self._state, *self._ring):
            block[row] = 0.0


class OrtRows(Rows):
    """A runtime made of it."""

    name = "rows"

    def __init__(self, folder: Path, lanes: int = 4, precision: str = "fp32") -> None:
        contract = load_runtime("onnx", folder).contract
        self.ort = OrtDevice(folder, contract, lanes, precision)
        super().__init__(contract, self.ort, lanes)


def largest_mm(one: PoseFilter, other: PoseFilter, frames: list[Frame], reset_every: int = 411) -> float:
    """Largest difference of two filters' positions on the same frames, pose_at and resets included."""
    worst = 0.0
    for i, frame in enumerate(frames):
        if i % reset_every == reset_every - 1 and frame.actor in one.actors:
            one.reset(frame.actor)
            other.reset(frame.actor)
        pairs = [one.push_many([frame]) + other.push_many([frame])]
        assert (pairs[0][0] is None) == (pairs[0][1] is None)
        if i % 4 == 0 and frame.actor in one.actors and one.actors[frame.actor].newest is not None:
            at_ns = frame.t_ns + (-200 + 70 * (i // 4 % 6)) * 1_000_000
            pairs.append([f.pose_at(at_ns, frame.actor) for f in (one, other)])
        for a, b in pairs:
            if isinstance(a, Pose) and isinstance(b, Pose):
                assert (a.status, a.t_ns, a.skeleton_version) == (b.status, b.t_ns, b.skeleton_version)
                worst = max(
                    worst, max_mm(a.positions, b.positions), float(1e3 * np.abs(a.lengths_m - b.lengths_m).max())
                )
    return worst


def test_actors_in_rows_are_each_as_alone(folder: Path) -> None:
    """Three interleaved actors, gaps, resets and 80 ring wraps: the runtime of one lane an actor, to rounding."""
    rows = OrtRows(folder)
    worst = largest_mm(PoseFilter(rows), PoseFilter.load(folder), eventful(2_000))
    print(f"\ntiny random model in rows, fp32, largest difference {worst:.6f} mm")
    assert worst < 0.01
    assert set(rows.ort.rows) == {1, 4}


@pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_bundled_model_in_rows(precision: str) -> None:
    from model.contract import WEIGHTS

    rows = OrtRows(WEIGHTS, 4, precision)
    worst = largest_mm(PoseFilter(rows), PoseFilter.load(), eventful(1_200))
    print(f"\nbundled model in rows, trunk in {precision}, largest difference {worst:.6f} mm")
    assert worst < (rows.contract.tolerance_mm if precision == "fp32" else FP16_TOLERANCE_MM)
