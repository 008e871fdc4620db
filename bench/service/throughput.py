"""``hpstm bench throughput``: how many actors at a frame rate, until p99 of the latency breaks one frame time.

All actors' frames are due at the same moments of a fixed schedule and latency counts from then: through ``push_many``
in this process, one frame of each actor at a time, and through the real server over sockets. The number of actors is
doubled until it breaks and then searched between the last that held and the first that broke.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.drive import StageClock, Times, noisy_frames
from bench.options import Json, Plots, RuntimeName, Threads, Weights
from bench.report import Percentiles, console, frozen_gc, machine, machine_line, one_core, write_json
from bench.service.child import ServerFailed
from bench.service.search import LIMIT, Trial, best, search
from bench.service.wire_roles import RealTime, actor_name, keep_schedule, schedule
from bench.service.wire_run import Load, server_over, through_server
from streamer.cli import main
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.server.config import ServerConfig

RATES_HZ = (30.0, 60.0, 120.0)
IN_PROCESS, SERVER = "in process", "server, tcp"
WARM_TICKS = 8


PushMany = Callable[[list[Frame]], Sequence[object]]


def trial_in_process(
    push_many: PushMany, actors: int, rate_hz: float, seconds: float, clock: RealTime | None = None
) -> Trial:
    """One frame of each actor, at a rate, in real time. Latency is that of the slowest: all come back together."""
    clock = clock or RealTime()
    ticks = max(2, round(seconds * rate_hz))
    motion = noisy_frames(WARM_TICKS + ticks, rate_hz)
    names = [actor_name(a) for a in range(actors)]
    done_ns: list[int] = []
    dropped = 0

    def push(n: int) -> None:
        nonlocal dropped
        seen = motion[n]
        answers = push_many([Frame(name, n, seen.t_ns, seen.positions, seen.confidence) for name in names])
        done_ns.append(clock.now_ns())
        dropped += sum(answer is None for answer in answers)

    for n in range(WARM_TICKS):
        push(n)
    with frozen_gc():
        due_ns = schedule(clock.now_ns(), rate_hz, ticks)
        began_ns = keep_schedule(due_ns, lambda n, _: push(WARM_TICKS + n), clock)
    done: Times = np.array(done_ns[WARM_TICKS:])
    busy_ms = float((done - began_ns).mean()) / 1e6
    return Trial(actors, rate_hz, Percentiles.of_ns(done - due_ns), dropped, busy_ms / actors)


def filter_of(runtime: Runtime, actors: int) -> PoseFilter:
    """A filter whose actors have their skeletons: measuring bones, in the first 4 s of each, is not what is timed."""
    made = PoseFilter(runtime, max_actors=actors)
    for a in range(actors):
        made.set_skeleton(actor_name(a), np.asarray(runtime.contract.rest_offsets_m, np.float32))
    return made


def measure_in_process(runtime: Runtime, rate_hz: float, seconds: float, limit: int) -> dict[str, Any]:
    """The search through ``push_many``, and where the time goes at its end: a pass of its own, with stopwatches."""

    def measure(actors: int) -> Trial:
        return trial_in_process(filter_of(runtime, actors).push_many, actors, rate_hz, seconds)

    trials = search(measure, limit=limit)
    most = best(trials)
    stages: dict[str, float] = {}
    if most is not None:
        clock = StageClock(runtime)
        watched = trial_in_process(filter_of(clock, most.actors).push_many, most.actors, rate_hz, seconds)
        step = float(np.mean(clock.step_ns)) / 1e6
        stages = {"encoder step + pose head + FK": step, "checks, clock, copies": watched.frame_ms - step}
    return _row(IN_PROCESS, rate_hz, trials, stages)


def trial_server(load: Load, arguments: Sequence[str]) -> Trial:
    """The same through a new server, fed by one process and read by another. Latency is that of each actor's frames."""
    with server_over("tcp", [*arguments, "--max-actors", str(load.actors)]) as server:
        process = psutil.Process(server.pid)
        before = process.cpu_times()
        stream = through_server(server, load)
        after = process.cpu_times()
    spent_s = after.user + after.system - before.user - before.system
    return Trial(
        load.actors, load.rate_hz, stream.latency(), stream.overtaken + stream.lost,
        1e3 * spent_s / (load.ticks * load.actors), {name: stage.mean for name, stage in stream.stages().items()},
    )  # fmt: skip


def measure_server(
    rate_hz: float, seconds: float, warmup_s: float, limit: int, start: int, arguments: Sequence[str]
) -> dict[str, Any]:
    """The search through servers, from a number of actors on that is likely to hold."""
    trials = search(
        lambda actors: trial_server(Load(rate_hz, seconds, warmup_s, actors), arguments), start=start, limit=limit
    )
    most = best(trials)
    return _row(SERVER, rate_hz, trials, most.stages if most is not None else {})


def _row(way: str, rate_hz: float, trials: list[Trial], stages: dict[str, float]) -> dict[str, Any]:
    return {"way": way, "rate_hz": rate_hz, "most": best(trials), "stages_ms": stages, "trials": trials}


def run(
    rates_hz: Sequence[float] = RATES_HZ,
    seconds: float = 4.0,
    warmup_s: float = 5.0,
    limit: int = LIMIT,
    threads: int = 1,
    runtime: str = ServerConfig.runtime,
    weights: str | None = None,
    server: bool = True,
    screen: Console | None = None,
) -> dict[str, Any]:
    """Measures and returns everything that the tables and the JSON say.

    Args:
        seconds: of each trial.
        warmup_s: before each trial through a server (bones are measured in 4 s of motion).
        limit: actors tried at most.
        threads: of the filter; with 1, the one in this process is bound to a core.
        server: False leaves the server out.
    Raises:
        ServerFailed: a process did not start, or ended, or nothing came back.
    """
    engine = load_runtime(runtime, Path(weights) if weights else None, threads)
    arguments = ["--threads", str(threads), "--runtime", runtime, *(["--weights", weights] if weights else [])]
    rows = []
    for rate_hz in rates_hz:
        with ExitStack() as stack:
            if threads == 1:
                stack.enter_context(one_core())
            rows.append(measure_in_process(engine, rate_hz, seconds, limit))
        _say(rows[-1], screen)
        if server:
            most = rows[-1]["most"]
            start = max(1, most.actors * 3 // 4) if most is not None else 1
            rows.append(measure_server(rate_hz, seconds, warmup_s, limit, start, arguments))
            _say(rows[-1], screen)
    return {
        "benchmark": "throughput",
        "machine": machine(),
        "settings": {
            "runtime": runtime, "model": engine.contract.name, "threads": threads, "seconds": seconds,
            "warmup_s": warmup_s, "limit": limit,
        },
        "rows": rows,
    }  # fmt: skip


def _say(row: dict[str, Any], screen: Console | None) -> None:
    if screen is not None:
        most = row["most"]
        screen.print(f"{row['way']}, {row['rate_hz']:g} Hz: {most.actors if most is not None else 0} actors")


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the table and where the time goes."""
    table = Table(
        title="Most actors whose p99 latency stays within one frame time, no frame dropped",
        caption=machine_line(result["machine"]), title_justify="left", caption_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column("through", no_wrap=True)
    for name in ("Hz", "actors", "frame time, ms", "p50", "p99", "max", "ms a frame", "trials"):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        most, period = row["most"], 1e3 / row["rate_hz"]
        cells = ["-"] * 4
        if most is not None:
            latency = most.latency
            cells = [f"{value:.3f}" for value in (latency.p50, latency.p99, latency.max, most.frame_ms)]
        actors = most.actors if most is not None else 0
        more = "+" if actors == result["settings"]["limit"] else ""
        table.add_row(row["way"], f"{row['rate_hz']:g}", f"{actors}{more}", f"{period:.2f}", *cells,
                      str(len(row["trials"])))  # fmt: skip
    screen.print(table)
    for row in result["rows"]:
        if row["stages_ms"]:
            spent = ", ".join(f"{name} {ms:.3f}" for name, ms in row["stages_ms"].items())
            screen.print(f"{row['way']}, {row['rate_hz']:g} Hz, mean ms of a frame: {spent}")
    screen.print("ms a frame: wall time of push_many, of one actor; of the server processor time, warm-up included")


def command(
    *,
    rates: tuple[float, ...] = RATES_HZ,
    seconds: float = 4.0,
    warmup: float = 5.0,
    limit: int = LIMIT,
    no_server: bool = False,
    threads: Threads = 1,
    runtime: RuntimeName = ServerConfig.runtime,
    weights: Weights = None,
    json: Json = None,
    plots: Plots = None,
) -> int:
    """How many actors at a frame rate, until p99 of the latency breaks one frame time.

    Args:
        rates: Frames a second of each actor [Hz], one search each.
        seconds: Of each trial [s].
        warmup: Before each trial through a server [s].
        limit: Actors at most.
        no_server: Only in this process.
    """
    if min(rates) <= 0 or seconds <= 0 or warmup < 0 or min(threads, limit) < 1:
        raise ConfigError(
            "--rates and --seconds must be positive, --warmup not negative, --threads, --limit at least 1"
        )
    screen = console()
    try:
        result = run(rates, seconds, warmup, limit, threads, runtime, weights, not no_server, screen)
    except ServerFailed as error:
        screen.print(f"[bold red]hpstm bench throughput:[/] {error}")
        return 1
    show(result, screen)
    if json:
        screen.print(f"written: {write_json(json, result)}")
    if plots:
        from bench.service.plots import throughput_picture

        screen.print(f"drawn: {throughput_picture(result, plots)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "throughput", *sys.argv[1:]]))
