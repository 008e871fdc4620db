"""One training by two real processes under torchrun, beside the same by one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from model.training import checkpoint
from model.training.ranks import Ranks
from model.training.run_log import rows_of
from streamer.cli import main
from tests.helpers.project import ROOT
from tests.helpers.rank_run import tiny_run

pytestmark = pytest.mark.timeout(300)  # whole trainings, on whatever machine
STEPS = 12


@pytest.fixture(scope="module")
def alone(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    tiny_run(packed, out, STEPS, 2)
    return out


def together(packed: Path, out: Path, port: int, steps: int, parts: int) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
                "--master-port", str(port)]  # fmt: skip
    words = ["-m", "tests.helpers.rank_run", str(packed), str(out), str(steps), str(parts)]
    return subprocess.run([sys.executable, *torchrun, *words], capture_output=True, text=True, cwd=ROOT, timeout=100)


def curve(out: Path) -> list[float]:
    """The error that is watched, at each check."""
    return [row["realistic_out_mm"] for row in rows_of(out / "log.jsonl") if "step" in row]


def apart(a: Path, b: Path) -> float:
    """How far the averaged weights of two runs lie from each other."""
    one, other = (load_file(out / checkpoint.AVERAGED) for out in (a, b))
    return float(torch.cat([(one[name] - other[name]).flatten() for name in one if name != "head.sigma"]).abs().mean())


def step_of(out: Path) -> int:
    with safe_open(out / checkpoint.AVERAGED, "pt") as file:
        return int(file.metadata()["step"])


@pytest.fixture(scope="module")
def two(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = tmp_path_factory.mktemp("two")
    done = together(packed, out, port, STEPS, 2)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_two_processes_learn_the_same_as_one(packed: Path, alone: Path, two: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = two
    assert step_of(out) == step_of(alone) == STEPS
    np.testing.assert_allclose(curve(out), curve(alone), rtol=2e-3)
    tiny_run(packed, tmp_path, STEPS, 1)  # other batches: the measure of what is near
    assert apart(out, alone) < 0.02 * apart(tmp_path, alone)


def test_the_first_process_alone_writes_and_speaks(two: tuple[Path, str]) -> None:
    out, said = two
    steps = [row["step"] for row in rows_of(out / "log.jsonl") if "step" in row]
    assert steps == [6, 12, 12]  # two checks, and the end; each once
    assert sum("plan" in row for row in rows_of(out / "log.jsonl")) == 1
    assert said.count("check {") == 4
    assert not list(out.glob("*.tmp"))


def test_another_number_of_processes_goes_on_with_a_run(packed: Path, two: tuple[Path, str]) -> None:
    out, _ = two
    tiny_run(packed, out, STEPS + 3, 2)
    assert step_of(out) == STEPS + 3


def test_batches_that_cannot_be_shared_out_are_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(Ranks(1, 2).share(48, 4)) == [2, 3]
    with pytest.raises(ValueError, match="a multiple of the 2 processes"):
        Ranks(1, 2).share(48, 3)
    words = ["train", "--data", str(packed), "--out", str(tmp_path), "--parts", "7"]
    assert main(words) == 2
    assert "a batch is 48 sequences; give a divisor" in capsys.readouterr().err
