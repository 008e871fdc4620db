"""``hpstm bench alternatives``: one step of this model on what else computes it on a CPU, each in a process of its own.

All on one core, one after the other, on the same recorded frames of one actor, state carried on from step to step. The
difference is that of the positions from torch in float64 on the same frames. What is compared: alternative_steps.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from json import dumps, loads
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from bench.drive import Recorder, noisy_frames, step_alone
from bench.latency.alternative_steps import CANDIDATES
from bench.latency.stateful import Setting
from bench.options import Json, command_line
from bench.report import console, frozen_gc, machine, machine_line, one_core, write_json
from model.contract import WEIGHTS
from streamer.cli import main
from streamer.commands.options import BUNDLED
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.block import F32

FRAMES = 300  # recorded; what the differences are of
STEPS = 2000
WITHIN_S = 300.0  # for one candidate: some compile
COLUMNS = ("p10", "p50", "p90", "p99")


def record(folder: Path, frames: int, into: Path) -> None:
    """What the filter gives its network for so many frames, and torch's positions [m] in float64, as an npz file."""
    from streamer.runtimes.torch_reference import TorchRuntime

    recorder = Recorder(load_runtime("onnx", folder))
    pose_filter = PoseFilter(recorder)
    for frame in noisy_frames(frames):
        pose_filter.push(frame)
    arrays: dict[str, Any] = {name: np.stack([one[name] for one in recorder.inputs]) for name in recorder.inputs[0]}
    exact = step_alone(TorchRuntime(folder, double=True))
    arrays["exact"] = np.stack([exact(inputs).copy() for inputs in recorder.inputs])
    np.savez(into, **arrays)


def measure(name: str, folder: Path, recorded: Path, steps: int) -> dict[str, Any]:
    """One candidate in this process: microseconds a step, and the largest and mean difference [mm]."""
    with np.load(recorded) as file:
        arrays = {key: file[key] for key in file.files}
    exact = arrays.pop("exact")
    inputs: list[dict[str, F32]] = [{key: array[i] for key, array in arrays.items()} for i in range(len(exact))]
    with tempfile.TemporaryDirectory() as scratch:
        started = perf_counter_ns()
        step = CANDIDATES[name](Setting(folder, Path(scratch)))
        told = [np.array(step(inputs[0]))]  # some compile only now
        start_s = (perf_counter_ns() - started) / 1e9
        told += [np.array(step(one)) for one in inputs[1:]]
        taken = np.empty(steps)
        with frozen_gc():
            for i in range(steps):
                one = inputs[i % len(inputs)]
                started = perf_counter_ns()
                step(one)
                taken[i] = perf_counter_ns() - started
    apart = 1e3 * np.linalg.norm(np.stack(told) - exact, axis=-1)
    us = dict(zip(COLUMNS, np.percentile(taken / 1e3, [10, 50, 90, 99]).tolist(), strict=True))
    return us | {"start_s": start_s, "max_mm": float(apart.max()), "mean_mm": float(apart.mean())}


def run(names: Sequence[str], folder: Path, steps: int = STEPS, frames: int = FRAMES) -> dict[str, Any]:
    """Each candidate's numbers, or in one line why it has none."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, one_core():
        recorded = Path(scratch) / "recorded.npz"
        record(folder, frames, recorded)
        for name in names:
            rows[name] = _in_child([name, str(folder), str(recorded), str(steps)])
    return {"benchmark": "alternatives", "machine": machine(), "steps": steps, "frames": frames, "rows": rows}


def _in_child(words: Sequence[str]) -> dict[str, Any]:
    code = "import sys; from bench.latency import alternatives; alternatives.child(*sys.argv[1:])"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    try:
        child = subprocess.run(
            [*command, *words], env=environment, capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"not done after {WITHIN_S:.0f} s"}
    if child.returncode:
        return {"reason": _reason(child.stderr) or f"ended with {child.returncode}"}
    told: dict[str, Any] = loads(child.stdout.strip().splitlines()[-1])
    return told


def _reason(said: str) -> str:
    """The first line of the exception that a child ended with."""
    lines = said.strip().splitlines()
    traces = [i for i, line in enumerate(lines) if line.startswith("Traceback")]
    after = [line for line in lines[traces[-1] + 1 :] if line and not line.startswith(" ")] if traces else lines[-1:]
    return after[0][:160] if after else ""


def child(name: str, folder: str, recorded: str, steps: str) -> None:
    """Prints one candidate's numbers as JSON, or what to install; any other exception is the answer otherwise."""
    try:
        told = measure(name, Path(folder), Path(recorded), int(steps))
    except ModuleNotFoundError as error:
        told = {"reason": f"needs {error.name}: pip install {error.name}"}
    print(dumps(told))


def report(result: dict[str, Any], command: str) -> str:
    """The table as a report, fastest first."""
    lines = [
        "# One step of one actor on a CPU, by what computes it", "",
        f"{machine_line(result['machine'])}; one core, one thread, measured {result['machine']['measured']}. "
        f"Microseconds of {result['steps']} steps after {result['frames']}; difference of the positions from torch in "
        f"float64 on those {result['frames']} frames, largest and mean. Start: all that comes before the second step, "
        f"export and compilation included. `{command}`", "",
        "| | p10 | p50 | p90 | p99 | start, s | largest, mm | mean, mm |", "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    lines += [f"| {' | '.join(cells)} |" for cells in _cells(result)]
    missing = {name: row["reason"] for name, row in result["rows"].items() if "reason" in row}
    lines += ["", "Not measured:", "", *(f"- {name}: {reason}" for name, reason in missing.items())] if missing else []
    return "\n".join(lines) + "\n"


def _cells(result: dict[str, Any]) -> list[list[str]]:
    rows = sorted((row["p50"], name, row) for name, row in result["rows"].items() if "p50" in row)
    return [
        [name, *(f"{row[column]:.0f}" for column in COLUMNS), f"{row['start_s']:.2f}"]
        + [f"{row[mm]:.4f}" if row[mm] < 0.1 else f"{row[mm]:.2f}" for mm in ("max_mm", "mean_mm")]
        for _, name, row in rows
    ]


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the table, and why rows are missing."""
    table = Table(title="One step of one actor on one core [us]", caption=machine_line(result["machine"]))
    for column in ("", *COLUMNS, "start s", "largest mm", "mean mm"):
        table.add_column(column, justify="right" if column else "left")
    for cells in _cells(result):
        table.add_row(*cells)
    screen.print(table)
    for name, row in result["rows"].items():
        if "reason" in row:
            screen.print(f"{name}: {row['reason']}", markup=False)


if TYPE_CHECKING:
    Candidate = str
else:
    Candidate = Literal[tuple(CANDIDATES)]  # the choices, as the command line shows and checks them


def command(
    *,
    only: Annotated[tuple[Candidate, ...], Parameter(show_default="all of them")] = tuple(CANDIDATES),
    steps: int = STEPS,
    weights: Annotated[Path, Parameter(show_default=BUNDLED)] = WEIGHTS,
    json: Json = None,
    markdown: Path | None = None,
) -> int:
    """One step of one actor on one core, by what else could compute it.

    Args:
        only: Some of them.
        steps: Steps to time.
        weights: Folder of another model.
        markdown: Write the table to this file.
    """
    if steps < 1:
        raise ConfigError("--steps must be at least 1")
    result = run(only, weights, steps)
    show(result, console())
    if json:
        print(f"written: {write_json(json, result)}")
    if markdown:
        markdown.write_text(report(result, command_line("bench alternatives", command, locals())), encoding="utf-8")
        print(f"written: {markdown}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "alternatives", *sys.argv[1:]]))
