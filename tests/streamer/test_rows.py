"""Actors as rows, on the device's form of the graphs: the data path of a GPU runtime, with ONNX Runtime as the device.

What is not checked here is CUDA itself: memory, capture and replay (tests/test_gpu.py, where there is a GPU).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from model.contract import WEIGHTS
from streamer.errors import ContractError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.device_graph import device_graph
from streamer.runtimes.rows import FP16_TOLERANCE_MM, Packing, row_counts
from tests.helpers.agreement import answers, eventful, largest_mm
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, max_mm
from tests.helpers.ort_rows import OrtRows

pytestmark = [pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED), pytest.mark.timeout(600)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_actors_in_rows_are_each_as_alone(precision: str) -> None:
    """Three interleaved actors, gaps, resets, five ring wraps: the runtime of one lane an actor, to its tolerance."""
    rows = OrtRows(WEIGHTS, 4, precision)
    worst = largest_mm(
        answers(PoseFilter(rows), eventful(1_000), 211), answers(PoseFilter.load(), eventful(1_000), 211)
    )
    print(f"\nin rows, trunk in {precision}: largest difference {worst:.6f} mm")
    assert worst < (rows.contract.tolerance_mm if precision == "fp32" else FP16_TOLERANCE_MM)
    assert set(rows.ort.rows) == {1, 4}


# ---- rows


def test_frames_of_several_actors_are_one_call() -> None:
    """A drain of three actors, one of them twice: two calls; the poses are those of pushing one at a time."""
    one, other = OrtRows(WEIGHTS), OrtRows(WEIGHTS)
    together, apart = PoseFilter(one), PoseFilter(other)
    frames = eventful(90)
    for start in range(0, 90, 3):
        drain = [*frames[start : start + 3], frames[start]]  # the last a duplicate
        steps = len(one.ort.rows)
        poses = together.push_many(drain)
        if all(actor.calibrated for actor in together.actors.values()):
            assert len(one.ort.rows) - steps == 1
        for pose, alone in zip(poses, [apart.push_many([frame])[0] for frame in drain], strict=True):
            assert (pose is None) == (alone is None)
            if pose is not None and alone is not None:
                assert max_mm(pose.positions, alone.positions) < 0.001
                assert max_mm(pose.offsets_m, alone.offsets_m) < 0.001
    assert together.rejected == apart.rejected
    assert together.push_many([]) == []


def test_a_row_without_a_frame_keeps_its_state_to_the_bit() -> None:
    rows = OrtRows(WEIGHTS, lanes=2)
    filter_ = PoseFilter(rows)
    for frame in eventful(30)[:20]:
        if frame.actor in "ab":
            filter_.push(frame)
    device = rows.ort
    state, ring = device.state[device.turn][1].copy(), device.ring[device.turn][1].copy()
    assert np.abs(ring).max() > 0
    late = eventful(60)[30:]
    for frame in late:
        if frame.actor == "a":
            filter_.push(frame)
            filter_.pose_at(frame.t_ns, "b")
    np.testing.assert_array_equal(device.state[device.turn][1], state)
    np.testing.assert_array_equal(device.ring[device.turn][1], ring)


def test_a_call_takes_as_few_rows_as_hold_those_in_use() -> None:
    rows = OrtRows(WEIGHTS, lanes=5)
    assert row_counts(5) == [1, 4, 5]
    filter_ = PoseFilter(rows)  # for 64 actors, but there are 5 rows
    frame = eventful(1)[0]
    answers = filter_.push_many(replace(frame, actor=name) for name in "abcdef")
    assert [answer is None for answer in answers] == [False] * 5 + [True]
    assert filter_.rejected == {"too_many_actors": 1}

    def used() -> int:
        filter_.pose_at(frame.t_ns, next(iter(filter_.actors)))
        return rows.ort.rows[-1]

    assert used() == 5
    filter_.remove("e")
    assert used() == 4
    filter_.remove("a")
    filter_.push(replace(frame, actor="g"))  # row 0 again: the lowest that is free
    assert used() == 4
    for name in "bcd":
        filter_.remove(name)
    assert used() == 1


def test_one_filter_holds_the_rows_at_a_time() -> None:
    rows = OrtRows(WEIGHTS, lanes=5)
    filter_ = PoseFilter(rows)
    frames = [frame for frame in eventful(20) if frame.actor == "a"]
    filter_.push(frames[0])
    newer = PoseFilter(rows)
    newer.push(frames[0])
    with pytest.raises(RuntimeUnavailable, match="a newer filter has the rows"):
        filter_.push(frames[1])
    newer.push(frames[1])


def test_what_others_ask_leaves_an_answer_standing() -> None:
    """The device computes all rows in every call; those that did not ask keep what they were told."""
    block = OrtRows(WEIGHTS, lanes=4).open(4)
    for row in range(4):
        block.reset(row)
        block.frame[row, :3], block.frame[row, 3:5], block.offsets_m[row] = 0.1 * row, 1.0, 0.1
    block.step(slice(0, 4))
    before = block.positions.copy()
    block.tau_s[:] = 0.1
    block.pose(np.array([1, 3]))
    np.testing.assert_array_equal(block.positions[[0, 2]], before[[0, 2]])
    assert not np.array_equal(block.positions[[1, 3]], before[[1, 3]])


def test_a_new_actor_finds_nothing_of_the_one_before() -> None:
    """Removed and come back, in the same row: the poses of a filter that is new."""
    rows = OrtRows(WEIGHTS, lanes=1)
    used, new = PoseFilter(rows), PoseFilter(OrtRows(WEIGHTS, lanes=1))
    frames = [frame for frame in eventful(60) if frame.actor == "a"]
    for frame in frames:
        used.push(frame)
    used.remove("a")
    for frame in frames[:10]:
        np.testing.assert_array_equal(used.push(frame).positions, new.push(frame).positions)


@pytest.mark.parametrize(("graph", "old", "new"), [("head", "tau_s", "tau"), ("step", "out_ages", "out_age"),
    ("step", "keys_0", "k_0"), ("skeleton", "skeleton", "bones")])  # fmt: skip
def test_a_graph_of_another_contract_is_refused(graph: str, old: str, new: str, tmp_path: Path) -> None:
    model = onnx.load(WEIGHTS / f"{graph}.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    onnx.save(model, tmp_path / "other.onnx")
    packing = Packing.of(load_runtime("onnx", WEIGHTS).contract)
    with pytest.raises(ContractError, match=r"other\.onnx"):
        device_graph(tmp_path / "other.onnx", packing, "fp32")


def test_a_model_without_a_trunk_is_refused(tmp_path: Path) -> None:
    model = onnx.load(WEIGHTS / "step.onnx")
    for item in model.graph.initializer:
        item.name = item.name.replace("model.", "net.")
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.replace("model.", "net.")
    onnx.save(model, tmp_path / "step.onnx")
    packing = Packing.of(load_runtime("onnx", WEIGHTS).contract)
    device_graph(tmp_path / "step.onnx", packing, "fp32")
    with pytest.raises(ContractError, match=r"no layer named model\.embed"):
        device_graph(tmp_path / "step.onnx", packing, "fp16")


# ---- torch as the device


def test_torch_in_rows_is_the_reference() -> None:
    """The CUDA-graph runtime without the graph: the same calls on the CPU."""
    one = PoseFilter.load(runtime="torch_cuda", device="cpu", lanes=4)
    worst = largest_mm(answers(one, eventful(200)), answers(PoseFilter.load(), eventful(200)))
    assert worst < 0.01


def test_torch_refuses_without_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeUnavailable, match="sees no NVIDIA GPU") as caught:
        PoseFilter.load(runtime="torch_cuda")
    assert "\n" not in str(caught.value)
