"""The ablation bench: each variant takes out what its name says, and they are trained side by side."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.accuracy import ablation
from bench.accuracy.ablation import VARIANTS, Run, Variant
from model.kinematics import bone_vectors
from model.motion.endless import Motion
from model.training.dataset import Batch, Sampler
from model.training.forward import run_batch
from streamer import cli


@pytest.fixture(scope="module")
def batch(motion: Motion) -> Batch:
    return Sampler(motion, 3).batch(3, 12, 0.0)


def positions(variant: Variant, batch: Batch) -> torch.Tensor:
    run = Run(variant, 0)
    with torch.no_grad():
        for parameter in run.kept.head.fc3.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        return run_batch(run.kept, batch)[0].positions


def named(name: str) -> Variant:
    return next(v for v in VARIANTS if v.name.startswith(name))


def lengths(positions: torch.Tensor) -> torch.Tensor:
    return bone_vectors(positions)[:, 1:].norm(dim=-1)


def test_without_the_skeleton_bones_change_their_length(batch: Batch) -> None:
    given = batch._replace(given=torch.ones_like(batch.given))
    wanted = batch.target.offsets_m[:, None].expand(-1, 12, -1, -1).flatten(0, 1)[:, 1:].norm(dim=-1)
    torch.testing.assert_close(lengths(positions(named("as shipped"), given)), wanted, atol=1e-5, rtol=0)
    assert (lengths(positions(named("free joints"), given)) - wanted).abs().max() > 0.01


def test_each_variant_is_another_function(batch: Batch) -> None:
    shipped = positions(named("as shipped"), batch)
    for name in ("each bone", "redraw", "nudge"):
        assert (positions(named(name), batch) - shipped).abs().max() > 1e-4, name


def test_nudging_never_uses_the_networks_own_pose(batch: Batch) -> None:
    """Whatever the network draws, the mix does not move."""
    run = Run(named("nudge"), 0)
    with torch.no_grad():
        before = run_batch(run.kept, batch)[0]
        run.kept.head.shortcut.weight.add_(torch.randn_like(run.kept.head.shortcut.weight))
        after = run_batch(run.kept, batch)[0]
    assert (before.own - after.own).abs().max() > 0.01
    assert torch.allclose(before.positions, after.positions, atol=1e-5)


def test_variants_of_one_seed_start_and_learn_alike(batch: Batch) -> None:
    first, second = Run(named("as shipped"), 0), Run(named("as shipped"), 0)
    for step in range(2):
        for run in (first, second):
            run.learn(batch, step, 1e-3, None)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_command_prints_and_writes_a_row_a_variant(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.training.validation.CASES", dict.fromkeys(ablation.COLUMNS, ("white10", 0.0, "own")))
    monkeypatch.setattr(ablation, "validation_batches", partial(ablation.validation_batches, sequences=4))
    names = ["as shipped", "window 16"]
    out = tmp_path / "a.json"
    words = ["--data", str(packed), "--steps", "2", "--batch", "2", "--json", str(out), "--only", *names]
    assert cli.main(["bench", "ablation", *words]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["variant"] for row in rows] == names
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "ablation", "--data", str(tmp_path / "none.npz")]) == 2
    assert "hpstm prepare" in capsys.readouterr().err
