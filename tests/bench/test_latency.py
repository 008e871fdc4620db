"""The latency bench: a short run of it against the real filter, the graphs cut short, the limit, the offline model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.drive import Pushing, StageClock, noisy_frames
from bench.latency import latency
from bench.latency.footprint import footprint
from bench.latency.limits import measure_core, work_of
from bench.latency.stages import p50
from bench.latency.tables import LIMIT, OFFLINE, show
from bench.report import one_core, write_json
from model.contract import WEIGHTS
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime

pytestmark = pytest.mark.timed
STEPS = 200
PUSH_BUDGET_MS, STEP_BUDGET_MS = 0.5, 0.15


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return latency.run(["onnx", "tensorflow"], [1, 3], steps=STEPS, warmup=260, offline_steps=4)


def test_every_batch_is_measured_and_a_step_is_part_of_its_push(result: dict[str, Any]) -> None:
    batches = result["runtimes"]["onnx"]["batches"]
    assert [(b["actors"], b["push"]["percentiles"].count) for b in batches] == [(1, STEPS), (3, STEPS // 3)]
    for batch in batches:
        push, step = batch["push"]["percentiles"], batch["step"]["percentiles"]
        assert 0 < step.p50 < push.p50 <= push.p99 <= push.max
        assert len(batch["push"]["curve_ms"]) == len(result["curve_percent"])


def test_a_runtime_that_cannot_run_is_named_with_its_reason(result: dict[str, Any]) -> None:
    assert "tensorflow" in result["runtimes"]["tensorflow"]["unavailable"]


def test_the_stages_of_the_network_add_up_to_its_step(result: dict[str, Any]) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra: train)")
    stages = result["runtimes"]["onnx"]["stages"]
    assert list(stages) == [
        "decode", "checks, layout, fill", "features", "encoder", "pose head + FK", "encode",
    ]  # fmt: skip
    assert all(p50(stage) > 0 for stage in stages.values())
    network = sum(p50(stages[name]) for name in ("features", "encoder", "pose head + FK"))
    assert network == pytest.approx(result["runtimes"]["onnx"]["batches"][0]["step"]["percentiles"].p50)


def test_the_limit_lies_below_the_step(result: dict[str, Any]) -> None:
    for batch in result["runtimes"]["onnx"]["batches"]:
        limit = batch["limit"]
        assert 0 < limit["compute_ms"] <= limit["limit_ms"] < batch["step"]["percentiles"].p50
        assert limit["limit_ms"] == max(limit["read_ms"], limit["compute_ms"])
        assert batch["step_by_limit"] > 1


def test_ratios_and_targets_follow_from_the_rows(result: dict[str, Any]) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    offline, row = result["offline"]["runtimes"], result["runtimes"]["onnx"]["batches"][0]
    assert result["offline"]["parameters"] == pytest.approx(29.6e6, rel=0.01)
    for one in result["ratios"]:
        window = offline[one["offline"]]["percentiles"].p50
        assert one["by_step"] == pytest.approx(window / row["step"]["percentiles"].p50)
        assert one["by_step"] > one["by_push"] > 2
    reached = {(one["what"], one["of"]): one["value"] for one in result["targets"]}
    assert reached[LIMIT.what, "onnx"] == row["step_by_limit"]
    assert {key[1] for key in reached if key[0] == OFFLINE.what} == {f"onnx, offline in {name}" for name in offline}


@pytest.mark.parametrize(("value", "verdict"), [(2.5, "goal"), (2.6, "met"), (5.0, "met"), (5.1, "missed")])
def test_a_verdict_of_what_should_be_small(value: float, verdict: str) -> None:
    assert LIMIT.verdict(value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(301, "goal"), (299, "met"), (149, "missed")])
def test_a_verdict_of_what_should_be_large(value: float, verdict: str) -> None:
    assert OFFLINE.verdict(value) == verdict


def test_table_json_and_pictures(result: dict[str, Any], tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), width=140)
    show(result, screen)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for said in ("onnx: push, each of 3 actors", "step / limit", result["machine"]["cpu"], "tensorflow"):
        assert said in text
    back = json.loads(write_json(tmp_path / "latency.json", result).read_text())
    assert back["runtimes"]["onnx"]["batches"][0]["push"]["percentiles"]["count"] == STEPS
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: bench)")
    from bench.latency.plots import pictures

    assert [path.read_bytes()[:4] for path in pictures(result, tmp_path / "new")] == [b"\x89PNG"] * 2


@pytest.mark.parametrize("runtime", ["onnx", "native"])
def test_the_cut_step_gives_the_whole_step_s_features_and_latent(runtime: str, tmp_path: Path) -> None:
    """What a cut graph keeps is bit for bit what the whole one says: it is the same computation, ended early."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra: train)")
    import onnxruntime as ort

    from bench.latency.cuts import ENCODED, HEADED, cut_folders

    rng = np.random.default_rng(3)
    folders = [WEIGHTS, *cut_folders(WEIGHTS, tmp_path)]
    sessions = [ort.InferenceSession(str(folder / "step.onnx")) for folder in folders]
    contract = load_runtime(runtime, folders[1]).contract  # a runtime takes the cut one for a step
    shapes = contract.input_shapes()
    given = {i.name: rng.uniform(0.1, 0.9, (1, *shapes[i.name])).astype(np.float32) for i in sessions[0].get_inputs()}
    names = [out.name for out in sessions[0].get_outputs()]
    told = [
        dict(zip(names, session.run(names, {i.name: given[i.name] for i in session.get_inputs()}), strict=True))
        for session in sessions
    ]
    for cut, without in ((told[1], ENCODED + HEADED), (told[2], HEADED)):
        assert {name: x.shape for name, x in cut.items()} == {name: x.shape for name, x in told[0].items()}
        for name in set(names) - set(without):
            np.testing.assert_allclose(cut[name], told[0][name], rtol=1e-5, atol=1e-6)


def test_the_stopwatch_changes_no_answer() -> None:
    frames = noisy_frames(30)
    bare, watched = PoseFilter.load(runtime="onnx"), PoseFilter(StageClock(load_runtime("onnx")))
    for frame in frames:
        np.testing.assert_array_equal(bare.push(frame).positions, watched.push(frame).positions)


def test_a_crowd_s_times_are_shared_by_its_actors() -> None:
    crowd = Pushing(load_runtime("onnx"), noisy_frames(12), actors=4)
    crowd.advance(5)
    crowd.forget()
    crowd.advance(7)
    assert len(crowd.push_ns) == len(crowd.step_ns) == 7
    assert all(0 < step < push for step, push in zip(crowd.step_ns, crowd.push_ns))


def test_work_of_a_step_is_counted_from_its_graph() -> None:
    runtime = load_runtime("onnx")
    work, c = work_of(runtime, WEIGHTS), runtime.contract
    products = 1.19e6  # parameters of the linear layers
    attention = 4 * 65 * c.layers * c.latent
    assert work.weight_bytes == pytest.approx(4 * products, rel=0.05)
    assert work.flops == pytest.approx(2 * products + attention, rel=0.05)


def test_rates_of_a_core_are_those_of_a_computer() -> None:
    core = measure_core({2**20})
    assert 1e9 < core.memory_bytes_per_s < 1e12
    assert core.bytes_per_s[2**20] > 1e9
    assert 1e9 < core.flops_per_s < 1e13


def test_footprint_is_that_of_a_process_of_its_own() -> None:
    told = footprint("onnx", WEIGHTS)
    assert 0 < told["start_s"] < 60
    if told["peak_mib"] is None:
        pytest.skip("this system does not say how much memory a process has")
    assert 20 < told["peak_mib"] < 500


def test_a_footprint_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="tensorflow"):
        footprint("tensorflow", WEIGHTS)


def test_offline_model_says_the_same_in_torch_and_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra: train)")
    from bench.latency import offline_cost
    from model.peers.offline import OfflineConfig

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = OfflineConfig(window=8, d_model=32, heads=2, encoder_layers=1, decoder_layers=1, feedforward=64)
    model = offline_cost.offline_model(small)
    noisy = np.random.default_rng(1).normal(0, 0.5, (1, 8, 24, 3)).astype(np.float32)
    in_torch, in_onnx = offline_cost.in_torch(model, 1)(noisy), offline_cost.in_onnx(model, 1)(noisy)
    assert len(in_torch) == len(in_onnx) == 5
    for ours, theirs in zip(in_torch, in_onnx):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    kept = offline_cost.exported(model)
    written = kept.stat().st_mtime_ns
    assert offline_cost.exported(offline_cost.offline_model(small)).stat().st_mtime_ns == written


def test_one_push_stays_within_its_budget() -> None:
    """One core, one actor, the best of ten stretches of a shared machine: a push in 0.5 ms, the step in 0.15.

    Where this was written, 0.12 and 0.05. A slower processor shows as xfailed, up to twice as long; without a C
    compiler ONNX Runtime does it, in 2 ms.
    """
    runtime = load_runtime("auto")
    pushing = Pushing(runtime, noisy_frames(1300))
    pushing.advance(300)
    pushing.forget()
    with one_core():
        pushing.advance(1000)
    push_ms, step_ms = (
        float(np.median(np.reshape(taken, (10, 100)), axis=1).min()) * 1e-6
        for taken in (pushing.push_ns, pushing.step_ns)
    )
    said = f"{runtime.name}: a push takes {push_ms:.3f} ms here, the step {step_ms:.3f} ms"
    print(f"\n{said}")
    if runtime.name != "native":
        assert push_ms < 2.0
        return
    assert push_ms < 2 * PUSH_BUDGET_MS
    assert step_ms < 2 * STEP_BUDGET_MS
    if push_ms >= PUSH_BUDGET_MS or step_ms >= STEP_BUDGET_MS:
        pytest.xfail(f"{said}; the budgets are {PUSH_BUDGET_MS} and {STEP_BUDGET_MS} ms")
