"""The GPU runtimes where there is a GPU, and the bench that compares and times them anywhere.

Skipped without one: nothing here stands in for CUDA. Run this file and ``hpstm bench gpu`` on a machine that has one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.latency import gpu as bench
from model.contract import WEIGHTS
from streamer.cli import main
from streamer.errors import HPSTMError, RuntimeUnavailable
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.runtimes.cuda import Stream, find_gpu
from streamer.runtimes.engines import find_library
from tests.helpers.agreement import answers, eventful, largest_mm
from tests.helpers.networks import BUNDLED, NOT_BUNDLED
from tests.helpers.ort_rows import OrtRows


def what_is_missing() -> str:
    """Why TensorRT does not run here; empty where it does."""
    try:
        find_gpu()
        find_library()
    except HPSTMError as error:
        return str(error)
    return ""


def no_cuda_torch() -> str:
    try:
        import torch
    except ImportError as error:
        return str(error)
    return "" if torch.cuda.is_available() else f"torch {torch.__version__} sees no NVIDIA GPU"


pytestmark = [pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED), pytest.mark.timeout(900)]
needs_tensorrt = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())
needs_torch = pytest.mark.skipif(bool(no_cuda_torch()), reason=no_cuda_torch())


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_is_the_cpu_within_its_tolerance(precision: str) -> None:
    filter_ = PoseFilter.load(runtime="tensorrt", precision=precision)
    worst = largest_mm(answers(filter_, eventful(1_200)), answers(PoseFilter.load(), eventful(1_200)))
    print(f"\n{find_gpu().name}, trunk in {precision}: largest difference {worst:.4f} mm")
    assert worst < filter_.runtime.tolerance_mm  # type: ignore[attr-defined]


@needs_torch
def test_torch_on_cuda_graphs_is_the_cpu() -> None:
    filter_ = PoseFilter.load(runtime="torch_cuda")
    worst = largest_mm(answers(filter_, eventful(1_200)), answers(PoseFilter.load(), eventful(1_200)))
    assert worst < bench.TOLERANCE_MM


@needs_tensorrt
def test_a_captured_graph_copies_what_is_there_at_launch() -> None:
    stream = Stream()
    host, address = stream.pinned((1, 64))
    back, back_address = stream.pinned((1, 64))
    block = stream.device_bytes(host.nbytes)

    def there_and_back() -> None:
        stream.copy(block, address, host.nbytes)
        stream.copy(back_address, block, host.nbytes)

    graph = stream.capture(there_and_back)
    for n in range(3):
        host[:] = n + np.arange(64)
        stream.launch(graph)
        stream.wait()
        np.testing.assert_array_equal(back, host)


def test_the_bench_compares_times_and_says_what_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ONNX Runtime for the engines: fp16 is within its tolerance, and more than none."""

    def load(kind: str, folder: Path | None = None, **settings: Any) -> Runtime:
        if kind == "onnx":
            return load_runtime("onnx", folder)
        if kind == "torch_cuda":
            raise RuntimeUnavailable("no GPU today")
        rows = OrtRows(WEIGHTS, settings["lanes"], settings["precision"])
        rows.tolerance_mm = 0.5 if settings["precision"] == "fp16" else 0.01  # type: ignore[attr-defined]
        return rows

    monkeypatch.setattr(bench, "load_runtime", load)
    path = tmp_path / "gpu.json"
    assert main(["bench", "gpu", "--steps", "20", "--warmup", "30", "--actors", "4", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert {"device", "machine", "packages", "weights_sha256"} <= result.keys()
    runtimes = result["runtimes"]
    assert runtimes["torch, CUDA graph"] == {"refused": "no GPU today"}
    for name, most in (("tensorrt, fp16 trunk", 0.5), ("tensorrt, fp32", 0.01)):
        found = runtimes[name]["against_onnx_cpu"]
        assert found["frames"] == 50
        assert 0 <= found["p50_mm"] <= found["p99_mm"] <= found["max_mm"] <= most
        assert [row["actors"] for row in runtimes[name]["throughput"]] == [1, 4]
        assert runtimes[name]["push_ms"]["count"] == 20
    assert runtimes["tensorrt, fp16 trunk"]["against_onnx_cpu"]["max_mm"] > 1e-3
    assert "no GPU today" in capsys.readouterr().out


def test_the_bench_fails_when_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(kind: str, folder: Path | None = None, **settings: Any) -> Runtime:
        if kind == "onnx":
            return load_runtime("onnx", folder)
        raise RuntimeUnavailable("no GPU today")

    monkeypatch.setattr(bench, "load_runtime", load)
    assert main(["bench", "gpu", "--steps", "5", "--warmup", "5", "--actors", "1"]) == 1
