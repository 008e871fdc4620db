"""The comparison of CPU engines: forms of the step that must be the same are, and rows that cannot be say why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from model.contract import WEIGHTS
from streamer import cli
from streamer.runtimes import load_runtime

pytest.importorskip("torch", reason="torch is not installed (extra: train)")
pytest.importorskip("onnx", reason="onnx is not installed (extra: train)")

from bench.latency import alternatives
from bench.latency.alternative_steps import CANDIDATES

FRAMES = 150  # more than two turns of the ring
EXACT = (
    "onnx runtime, as shipped", "ort, no optimisation", "ort, all", "ort, transformers optimizer",
    "ort, called with dicts", "ort, ring shifted in the graph", "ort, ring by ScatterElements",
    "ort, ring by TensorScatter", "torch, eager",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "recorded.npz"
    alternatives.record(WEIGHTS, FRAMES, path)
    return path


@pytest.mark.parametrize("name", EXACT)
def test_forms_of_the_same_step_agree_with_torch_over_two_turns_of_the_ring(name: str, recorded: Path) -> None:
    row = alternatives.measure(name, WEIGHTS, recorded, 5)
    assert row["max_mm"] < load_runtime("onnx").contract.tolerance_mm
    assert 0 < row["p10"] <= row["p50"] <= row["p99"]


def test_weights_of_eight_bits_are_near_and_of_four_bits_farther(recorded: Path) -> None:
    eight, four = (alternatives.measure(f"ort, MatMulNBits {bits}", WEIGHTS, recorded, 5) for bits in (8, 4))
    assert 0.01 < eight["mean_mm"] < 5
    assert four["mean_mm"] > eight["mean_mm"]


def test_a_run_measures_in_processes_of_their_own_and_says_what_did_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino.py").write_text("raise ModuleNotFoundError(name='openvino')\n")  # as if not installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(alternatives.__file__).parents[2])]))
    report, told = tmp_path / "table.md", tmp_path / "table.json"
    names = ["ort, all", "ort, bfloat16 products", "openvino, float32"]
    words = ["--only", *names, "--steps", "5", "--markdown", str(report), "--json", str(told)]
    assert cli.main(["bench", "alternatives", *words]) == 0
    rows = json.loads(told.read_text())["rows"]
    assert list(rows) == names
    assert rows["ort, all"]["p50"] > 0
    assert "NOT_IMPLEMENTED" in rows["ort, bfloat16 products"]["reason"]
    assert rows["openvino, float32"]["reason"] == "needs openvino: pip install openvino"
    text = report.read_text()
    assert f"`hpstm bench alternatives --only {' '.join(map(repr, names))} --steps 5 --json" in text
    assert "| ort, all |" in text
    assert "- openvino, float32: needs openvino" in text
    assert "openvino, float32: needs openvino" in " ".join(capsys.readouterr().out.split())


def test_unknown_candidates_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "alternatives", "--only", "abacus"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("abacus", *CANDIDATES))
