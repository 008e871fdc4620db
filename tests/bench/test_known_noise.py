"""``hpstm bench noise``: the file that `hpstm adapt` compares with is what the command would write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.accuracy.known_noise import BATCH, SOURCES, TABLE, read_table, rows, scores_of, source_pairs, training_tracks
from model.layouts import get_layout
from streamer.adapt.known import COMPARED, FILE, knowledge
from streamer.adapt.track import track_of
from streamer.cli import main

pytest.importorskip("torch", reason="torch is not installed (extra: train)")
KNOWN: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def same(found: dict[str, list[float | None]], kept: dict[str, list[float | None]], begin: int = 0) -> None:
    """That rows are those that are kept, from ``begin`` on; other processors round differently."""
    for key in COMPARED:
        wanted = kept[key][begin : begin + len(found[key])]
        assert [x is None for x in found[key]] == [x is None for x in wanted], key
        numbers = [(x, y) for x, y in zip(found[key], wanted) if x is not None]
        assert [x for x, _ in numbers] == pytest.approx([y for _, y in numbers], rel=0.02, abs=2e-3), key


def test_the_noise_of_training_is_what_the_trainer_draws() -> None:
    same(rows(training_tracks(BATCH)), KNOWN["training"]["figures"])


@pytest.mark.parametrize("name", ["white", "outliers", "depth"])
def test_simulated_sources_are_the_cases_that_were_scored(name: str) -> None:
    pairs = source_pairs(SOURCES[name], None)[:1]
    same(rows(track_of(pair.frames, get_layout) for pair in pairs), KNOWN["sources"][name]["figures"])


@pytest.mark.parametrize("name", ["mediapipe", "cameras"])
def test_real_sources_are_the_takes_that_were_scored(name: str, shared_data: Path) -> None:
    pairs = source_pairs(SOURCES[name], shared_data)
    assert len(pairs) == len(KNOWN["sources"][name]["figures"]["jitter_mm"])
    same(rows(track_of(pair.frames, get_layout) for pair in pairs[:1]), KNOWN["sources"][name]["figures"])


def test_scores_are_those_of_the_table_of_targets() -> None:
    """After another `hpstm bench targets --markdown bench/results/targets.md`: hpstm bench noise."""
    table, weights = read_table(TABLE)
    assert weights == KNOWN["weights"]
    for name, kind in SOURCES.items():
        assert scores_of(kind, table) == KNOWN["sources"][name]["scores"]


def test_every_source_has_a_score_that_has_words() -> None:
    words = {"tuned", "moves", "median", "still", "clean_mm"}
    assert all(words & source.scores.keys() for source in knowledge().sources)


def test_another_table_renews_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "noise", "--targets", str(FILE), "--out", str(tmp_path / "known.json")]) == 2
    assert "not a table" in capsys.readouterr().err
    assert main(["bench", "noise", "--out", str(tmp_path / "known.json")]) == 2
    assert "give the folder of the data" in capsys.readouterr().err
    assert main(["bench", "noise", str(tmp_path), "--out", str(tmp_path / "known.json")]) == 2
    assert "no rendered/*.npz" in capsys.readouterr().err
