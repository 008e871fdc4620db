"""``hpstm bench latency``: the time of one ``PoseFilter.push`` on one core, beside the offline model's recompute.

Both see the same noisy frames in the same process, on the same core and thread count, after warm-up, with the garbage
collector frozen. A push answers with the pose of that frame; the offline model needs its whole window again for it.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console

from bench.noise import demo_events, observed
from bench.report import (
    Percentiles,
    console,
    frozen_gc,
    machine,
    machine_line,
    one_core,
    percentile_table,
    write_json,
)
from model.skeleton import J
from model.synthetic import SyntheticActor
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import Block, RowIndex, Runtime, load_runtime

Times = npt.NDArray[np.int64]

BUDGET_MS = 0.5  # of one push, p50, on one core
RATE_HZ = 60.0


def noisy_frames(count: int, rate_hz: float = RATE_HZ, seed: int = 1) -> list[Frame]:
    """Frames of a synthetic actor with an estimator's noise and gaps, evenly timed."""
    t_s = np.arange(count) / rate_hz
    seen, confidence = observed(SyntheticActor(seed).positions(t_s), t_s, seed, demo_events(count / rate_hz))
    return [
        Frame("a", seq, round(float(t) * 1e9), seen[seq].astype(np.float32), confidence[seq])
        for seq, t in enumerate(t_s)
    ]


class Pushes(NamedTuple):
    """Durations of each push [ns]: on the wall clock, and of processor time, which other programs cannot lengthen."""

    wall_ns: Times
    cpu_ns: Times


def measure_push(pose_filter: PoseFilter, frames: list[Frame], warmup: int) -> Pushes:
    """Durations of each push after the first ``warmup`` ones."""
    for frame in frames[:warmup]:
        pose_filter.push(frame)
    count = len(frames) - warmup
    taken = Pushes(np.empty(count, np.int64), np.empty(count, np.int64))
    push = pose_filter.push
    with frozen_gc():
        for i, frame in enumerate(frames[warmup:]):
            cpu_started = thread_time_ns()
            started = perf_counter_ns()
            push(frame)
            taken.wall_ns[i] = perf_counter_ns() - started
            taken.cpu_ns[i] = thread_time_ns() - cpu_started
    return taken


class StageClock:
    """A runtime that also notes how long its blocks spend in the compiled step."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.contract = runtime.name, runtime.contract
        self.step_ns: list[int] = []

    def open(self, capacity: int) -> Block:
        block = self._runtime.open(capacity)
        step = block.step

        def timed(rows: RowIndex) -> None:
            started = perf_counter_ns()
            step(rows)
            self.step_ns.append(perf_counter_ns() - started)

        block.step = timed  # type: ignore[method-assign]
        return block


def measure_stages(runtime: Runtime, frames: list[Frame], warmup: int) -> dict[str, Percentiles]:
    """Where a push spends its time; a pass of its own, so that the stopwatches do not lengthen the push measured."""
    clock = StageClock(runtime)
    whole = measure_push(PoseFilter(clock), frames, warmup).wall_ns
    step = np.array(clock.step_ns[-len(whole) :])
    return {
        "encoder step + pose head + FK": Percentiles.of_ns(step),
        "checks, clock, copies": Percentiles.of_ns(whole - step),
    }


def measure_offline(frames: list[Frame], steps: int, threads: int) -> tuple[Times, dict[str, Any]]:
    """Nanoseconds of the offline model's window for each of ``steps`` frames, and what the model is.

    What a live program would do with it: keep the last W frames, and run the whole window again for every new one.
    """
    import torch

    from model.offline import OfflineConfig, OfflineModel

    torch.set_num_threads(threads)
    config = OfflineConfig()
    offline = OfflineModel(config).eval()
    window: deque[npt.NDArray[np.float32]] = deque(maxlen=config.window)
    taken = []
    warmup = config.window + 3
    with torch.inference_mode(), frozen_gc():
        for frame in frames[: warmup + steps]:
            started = perf_counter_ns()
            window.append(np.nan_to_num(frame.positions))
            if len(window) == config.window:
                offline(torch.from_numpy(np.stack(window)[None]))
            taken.append(perf_counter_ns() - started)
    parameters = sum(parameter.numel() for parameter in offline.parameters())
    return np.array(taken[warmup:]), {"parameters": parameters, "window": config.window}


def run(
    steps: int = 5000,
    warmup: int = 300,
    threads: int = 1,
    offline_steps: int = 60,
    runtime: str = "onnx",
    weights: str | None = None,
) -> dict[str, Any]:
    """Measures and returns everything that the table and the JSON say.

    Args:
        steps: pushes timed, after ``warmup`` ones (several turns of the ring).
        threads: of both models; with 1, both run on one and the same core.
        offline_steps: windows of the offline model timed; 0, or no torch, leaves it out.
    """
    frames = noisy_frames(max(warmup + steps, offline_steps + 64))
    with ExitStack() as stack:
        core = stack.enter_context(one_core()) if threads == 1 else None
        engine = load_runtime(runtime, Path(weights) if weights else None, threads)
        taken = measure_push(PoseFilter(engine), frames[: warmup + steps], warmup)
        stages = measure_stages(engine, frames[: warmup + steps], warmup)
        rows = {"push": Percentiles.of_ns(taken.wall_ns)}
        if threads == 1:  # the calling thread's processor time is then all of it
            rows["push, processor time"] = Percentiles.of_ns(taken.cpu_ns)
        offline, ratio = None, None
        if offline_steps and find_spec("torch") is not None:
            windows, offline = measure_offline(frames, offline_steps, threads)
            rows["offline window"] = Percentiles.of_ns(windows)
            ratio = rows["offline window"].p50 / rows["push"].p50
    return {
        "benchmark": "latency",
        "machine": machine(),
        "settings": {
            "runtime": runtime, "model": engine.contract.name, "threads": threads, "core": core, "steps": steps,
            "warmup": warmup, "joints": J, "rate_hz": RATE_HZ,
        },
        "rows": rows,
        "stages": stages,
        "offline": offline,
        "ratio_p50": ratio,
        "budget_p50_ms": BUDGET_MS,
        "within_budget": rows["push"].p50 < BUDGET_MS,
    }  # fmt: skip


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the table and what follows from it."""
    settings = result["settings"]
    where = f"on core {settings['core']}" if settings["core"] is not None else "not bound to a core"
    title = (
        f"One frame of 24 joints, {settings['runtime']}, {settings['threads']} "
        f"thread{'s' * (settings['threads'] != 1)} {where}"
    )
    table = percentile_table(title, {}, machine_line(result["machine"]))
    table.add_row("[bold]PoseFilter.push[/]", *result["rows"]["push"].cells())
    if "push, processor time" in result["rows"]:
        table.add_row("  of which processor time", *result["rows"]["push, processor time"].cells(), style="dim")
    for name, stage in result["stages"].items():
        table.add_row(f"  {name}", *stage.cells(), style="dim")
    if result["offline"]:
        size = result["offline"]["parameters"] / 1e6
        name = f"offline model, window of {result['offline']['window']} ({size:.1f} M parameters)"
        table.add_row(name, *result["rows"]["offline window"].cells())
    screen.print(table)
    verdict = "within" if result["within_budget"] else "[red]over[/]"
    screen.print(f"push p50 {result['rows']['push'].p50:.3f} ms: {verdict} the budget of {result['budget_p50_ms']} ms")
    if result["ratio_p50"]:
        screen.print(f"the offline model's recompute takes [bold]{result['ratio_p50']:.0f} times[/] as long (p50)")
    else:
        screen.print("the offline model was left out (it needs torch: pip install 'hpstm-live\\[train]')")


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when measured, whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="hpstm bench latency", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the result there too")
    parser.add_argument("--steps", type=int, default=5000, metavar="N", help="pushes to time (default 5000)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of both models (default 1)")
    parser.add_argument("--offline-steps", type=int, default=60, metavar="N", help="windows to time; 0: leave it out")
    parser.add_argument("--runtime", default="onnx", help="onnx (default), native, auto or torch")
    parser.add_argument("--weights", metavar="DIR", help="another model than the bundled one")
    options = parser.parse_args(argv)
    if options.steps < 1 or options.threads < 1 or options.offline_steps < 0:
        parser.error("--steps and --threads must be at least 1, --offline-steps at least 0")
    result = run(
        options.steps, threads=options.threads, offline_steps=options.offline_steps, runtime=options.runtime,
        weights=options.weights,
    )  # fmt: skip
    show(result, console())
    if options.json:
        print(f"written: {write_json(options.json, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
