"""``hpstm bench runtimes``: one step of one actor on each runtime, beside the time that reading its weights takes.

Every runtime runs in a process of its own, one after the other on one core, on the same frame after the same warm-up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import console, frozen_gc, machine, machine_line, one_core, write_json
from streamer.errors import HPSTMError
from streamer.runtimes import Block, RowIndex, Runtime, load_runtime
from streamer.runtimes.native import NativeRuntime

STEPS, WARMUP, TOGETHER = 2000, 300, 16


def timed(work: Callable[[], object], count: int, share: int = 1) -> dict[str, float]:
    """Minimum, 10th percentile and median [us] of ``count`` runs, each for ``share`` actors."""
    taken = np.empty(count)
    with frozen_gc():
        for i in range(count):
            started = perf_counter_ns()
            work()
            taken[i] = perf_counter_ns() - started
    low, p10, p50 = np.percentile(taken / share / 1e3, [0, 10, 50])
    return {"min": float(low), "p10": float(p10), "p50": float(p50)}


def measure(name: str, folder: Path | None, steps: int) -> dict[str, Any]:
    """Everything about one runtime, in this process.

    Raises:
        HPSTMError: it cannot run here.
    """
    started = perf_counter_ns()
    runtime = load_runtime(name, folder)
    start_s = (perf_counter_ns() - started) / 1e9
    block, one = _filled(runtime, 1)
    timed(lambda: block.step(one), WARMUP)
    out: dict[str, Any] = {"start_s": start_s, "step": timed(lambda: block.step(one), steps)}
    out["other_time"] = timed(lambda: block.pose(one), steps)
    if isinstance(runtime, NativeRuntime):
        out |= _native(runtime, steps)
    out["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return out


def _filled(runtime: Runtime, count: int) -> tuple[Block, RowIndex]:
    """A block whose rows each hold one frame of a body, and all its rows."""
    block, rows = runtime.open(count), np.arange(count)
    offsets = np.asarray(runtime.contract.rest_offsets_m, np.float32)
    for row in rows.tolist():
        block.reset(row)
    block.frame[:, :3] = np.random.default_rng(1).normal(0.0, 0.3, offsets.T.shape)
    block.frame[:, 3:5] = 1.0  # all joints present, in full confidence
    block.time[:, 0] = 1 / 60
    block.offsets_m[:] = offsets
    return block, rows


def _native(runtime: NativeRuntime, steps: int) -> dict[str, Any]:
    """Many actors at once, and the limit."""
    crowd, rows = _filled(runtime, TOGETHER)
    bytes_read = runtime.read_weights()
    return {
        "together": timed(lambda: crowd.step(rows), max(1, steps // TOGETHER), TOGETHER),
        "limit": timed(runtime.read_weights, steps), "weight_bytes": bytes_read,
    }  # fmt: skip


def run(names: Sequence[str], folder: Path | None, steps: int) -> dict[str, Any]:
    """Each runtime's numbers, or why it cannot run."""
    rows = {}
    for name in names:
        words = ["--one", name, "--steps", str(steps), *(["--weights", str(folder)] if folder else [])]
        command = [sys.executable, "-m", "bench.runtimes", *words]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (child.stdout.strip().splitlines() or [json.dumps({"error": child.stderr.strip()[-300:]})])[-1]
        rows[name] = json.loads(last)
    return {"benchmark": "runtimes", "machine": machine(), "steps": steps, "rows": rows}


def show(result: dict[str, Any], screen: Console) -> None:
    table = Table(title="One step of one actor on one core", caption=machine_line(result["machine"]))
    for column in ("us", "step min", "p10", "p50", "other time p50", f"{TOGETHER} actors, each", "start s", "peak MiB"):
        table.add_column(column, justify="left" if column == "us" else "right")
    for name, row in result["rows"].items():
        if "error" in row:
            table.add_row(name, row["error"])
            continue
        step = [f"{row['step'][key]:.0f}" for key in ("min", "p10", "p50")]
        crowd = f"{row['together']['p50']:.0f}" if "together" in row else ""
        rest = (f"{row['other_time']['p50']:.0f}", crowd, f"{row['start_s']:.2f}", f"{row['peak_rss_mib']:.0f}")
        table.add_row(name, *step, *rest)
    screen.print(table)
    for name, row in result["rows"].items():
        if "limit" in row:
            times = row["step"]["p50"] / row["limit"]["p50"]
            said = f"{row['weight_bytes'] / 1e6:.2f} MB of weights in {row['limit']['p50']:.0f} us"
            screen.print(f"{name}: this core reads the {said}; the step takes {times:.1f} times that (p50)")


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when measured, whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="hpstm bench runtimes", description=__doc__.splitlines()[0])
    parser.add_argument("--runtimes", nargs="+", default=["native", "onnx", "torch"], metavar="NAME")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"steps to time (default {STEPS})")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="another model than the bundled one")
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    if options.one:
        with one_core():
            try:
                print(json.dumps(measure(options.one, options.weights, options.steps)))
            except (HPSTMError, ImportError) as error:
                print(json.dumps({"error": str(error)}))
        return 0
    result = run(options.runtimes, options.weights, options.steps)
    show(result, console())
    if options.json:
        print(f"written: {write_json(options.json, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
