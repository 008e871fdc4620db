"""``hpstm bench latency``: one frame through the filter, by runtime and stage, beside the offline model and the limit.

All in one run on one core, after warm-up, with the garbage collector frozen: runtimes, cut graphs, crowds of actors,
the codec and the offline model take turns in short stretches, so that what the machine does meanwhile meets them all.
A push answers with the pose of that frame; the offline model needs its whole window again for it. How each stage is
measured: stages.py; what no step can beat: limits.py; the targets: latency_report.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from bench.drive import RATE_HZ, Pushing, noisy_frames
from bench.latency.footprint import footprint
from bench.latency.limits import Core, Work, measure_core, work_of
from bench.latency.stages import CUTTABLE, HOW, Codec, stages_of
from bench.latency.tables import ratios, show, targets
from bench.options import Json, Plots, Threads, Weights
from bench.report import Percentiles, console, frozen_gc, machine, one_core, write_json
from model.contract import WEIGHTS
from model.skeleton import J
from streamer.cli import main
from streamer.errors import ConfigError, HPSTMError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

if TYPE_CHECKING:
    from bench.latency.offline_cost import Recomputing

RUNTIMES = ("native", "onnx")
WARMUP = 300  # ticks: bones are measured for the first 4 s of an actor
TURNS = 10
CURVE = np.concatenate([np.linspace(0, 99, 100), np.linspace(99.1, 99.9, 9)])  # percent, of what the picture draws


class Job(Protocol):
    """Something that is timed in stretches."""

    def advance(self, ticks: int, /) -> None: ...

    def forget(self) -> None: ...


class Planned(NamedTuple):
    job: Job
    warmup: int  # ticks before the clock counts
    ticks: int


class Driven(NamedTuple):
    """All that is measured of one runtime."""

    runtime: Runtime
    whole: Pushing
    crowds: dict[int, Pushing]
    cuts: tuple[Pushing, Pushing] | None

    def plan(self, warmup: int, steps: int) -> list[Planned]:
        """Every crowd takes in as many frames as the one actor does, in fewer ticks."""
        crowds = [Planned(crowd, warmup, max(1, steps // actors)) for actors, crowd in self.crowds.items()]
        return [Planned(self.whole, warmup, steps), *crowds, *(Planned(cut, warmup, steps) for cut in self.cuts or ())]


def drive(
    name: str, folder: Path, cut_folders: Sequence[Path], frames: list[Frame], actors: Iterable[int], threads: int
) -> Driven:
    """A runtime with its pushings.

    Raises:
        HPSTMError, ImportError: it cannot run here.
    """
    runtime = load_runtime(name, folder, threads)
    crowds = {many: Pushing(runtime, frames, many) for many in actors if many > 1}
    cuts = None
    if name in CUTTABLE and cut_folders:
        first, second = (Pushing(load_runtime(name, cut, threads), frames) for cut in cut_folders)
        cuts = first, second
    return Driven(runtime, Pushing(runtime, frames), crowds, cuts)


def take_turns(plans: Sequence[Planned]) -> None:
    """Warm everything up, then time it in TURNS stretches each."""
    for job, warmup, _ in plans:
        job.advance(warmup)
        job.forget()
    with frozen_gc():
        for turn in range(TURNS):
            for job, _, ticks in plans:
                job.advance(ticks * (turn + 1) // TURNS - ticks * turn // TURNS)


def _cut_folders(folder: Path, into: Path) -> tuple[Sequence[Path], str | None]:
    """Folders of the step cut short, or why there are none."""
    if find_spec("onnx") is None:
        return (), "the step is not split further: it needs onnx (pip install 'hpstm-live[train]')"
    from bench.latency.cuts import cut_folders

    try:
        return cut_folders(folder, into), None
    except ValueError as error:
        return (), str(error)


def _offline(frames: list[Frame], threads: int) -> tuple[dict[str, Any], dict[str, Recomputing]]:
    """What the offline model is, and its recomputing by runtime."""
    if find_spec("torch") is None:
        return {"left_out": "it needs torch: pip install 'hpstm-live[train]'"}, {}
    from bench.latency import offline_cost  # torch is imported only here

    model = offline_cost.offline_model()
    runs = {"torch": offline_cost.in_torch(model, threads)}
    about = offline_cost.size_of(model)
    try:
        runs["onnx"] = offline_cost.in_onnx(model, threads)
    except ImportError as error:
        about["onnx_left_out"] = str(error)
    return about, {name: offline_cost.Recomputing(run, frames) for name, run in runs.items()}


def run(
    runtimes: Sequence[str] = RUNTIMES,
    actors: Sequence[int] = (1, 16),
    threads: int = 1,
    steps: int = 5000,
    warmup: int = WARMUP,
    offline_steps: int = 100,
    weights: str | None = None,
) -> dict[str, Any]:
    """Measures and returns everything that the table, the pictures and the JSON say.

    Args:
        runtimes: by name; one that cannot run here is in the result with its reason.
        actors: sizes of the crowds whose frames come in one call, beside one actor alone.
        threads: of all models; with 1, everything runs on one and the same core.
        steps: frames timed of each runtime, after ``warmup`` ones (several turns of the ring).
        offline_steps: windows of the offline model timed; 0, or no torch, leaves it out.
    """
    folder = Path(weights) if weights else WEIGHTS
    frames = _frames(max(warmup + steps, 64 + offline_steps))
    with ExitStack() as stack:
        core = stack.enter_context(one_core()) if threads == 1 else None
        cuts, not_split = _cut_folders(folder, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        driven, rows = _drive_all(runtimes, folder, cuts, frames, actors, threads)
        offline, recomputing = _offline(frames, threads) if offline_steps else ({"left_out": "not asked for"}, {})
        codec = Codec.over(PoseFilter.load(folder), frames[:60])
        plans = [plan for one in driven.values() for plan in one.plan(warmup, steps)]
        plans += [Planned(job, 3, offline_steps) for job in recomputing.values()]
        take_turns([*plans, Planned(codec, warmup, steps)])
        work = {name: work_of(one.runtime, folder) for name, one in driven.items()}
        rates = measure_core({one.weight_bytes for one in work.values()})
    for name, one in driven.items():
        rows[name] |= _row(one, codec, work[name], rates)
    offline["runtimes"] = {name: _timed(job.window_ns) for name, job in recomputing.items()}
    settings = {"weights": weights, "threads": threads, "core": core, "steps": steps, "warmup": warmup, "joints": J,
                "rate_hz": RATE_HZ}  # fmt: skip
    result = {
        "benchmark": "latency", "machine": machine(), "settings": settings, "curve_percent": CURVE.tolist(),
        "runtimes": rows, "stages_measured": HOW, "not_split": not_split, "offline": offline,
        "core": {"flops_per_s": rates.flops_per_s, "memory_bytes_per_s": rates.memory_bytes_per_s},
    }  # fmt: skip
    return result | {"ratios": ratios(result), "targets": targets(result)}


def _frames(count: int) -> list[Frame]:
    """At least so many, from the first that shows a joint: an actor cannot begin before it."""
    frames = noisy_frames(count + round(RATE_HZ))
    return list(dropwhile(lambda frame: bool(np.isnan(frame.positions).all()), frames))


def _drive_all(
    runtimes: Sequence[str],
    folder: Path,
    cuts: Sequence[Path],
    frames: list[Frame],
    actors: Iterable[int],
    threads: int,
) -> tuple[dict[str, Driven], dict[str, dict[str, Any]]]:
    """The runtimes that run here, and a row for each one: its footprint, or why it is unavailable."""
    driven: dict[str, Driven] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in runtimes:
        try:
            driven[name] = drive(name, folder, cuts, frames, actors, threads)
        except (HPSTMError, ImportError) as error:
            rows[name] = {"unavailable": str(error)}
        else:
            rows[name] = footprint(name, folder, threads)
    return driven, rows


def _row(one: Driven, codec: Codec, work: Work, rates: Core) -> dict[str, Any]:
    """What is said of a runtime: each batch, and the stages of one actor's pose."""
    batches = []
    for actors, pushing in {1: one.whole, **one.crowds}.items():
        step, limit = _timed(pushing.step_ns), rates.limit(work, actors)
        ratio = step["percentiles"].p50 / limit["limit_ms"]
        batches.append(
            {"actors": actors, "push": _timed(pushing.push_ns), "step": step, "limit": limit, "step_by_limit": ratio}
        )
    return {"batches": batches, "stages": stages_of(codec, one.whole, one.cuts)}


def _timed(durations_ns: Sequence[int]) -> dict[str, Any]:
    curve = np.percentile(np.asarray(durations_ns) / 1e6, CURVE).tolist()
    return {"percentiles": Percentiles.of_ns(durations_ns), "curve_ms": curve}


def command(
    *,
    runtimes: tuple[str, ...] = RUNTIMES,
    actors: tuple[int, ...] = (1, 16),
    threads: Threads = 1,
    steps: int = 5000,
    offline_steps: int = 100,
    weights: Weights = None,
    json: Json = None,
    plots: Plots = None,
) -> int:
    """One push, its stages, the step in it, and what the offline model takes for each frame.

    Args:
        runtimes: These runtimes.
        actors: Actors whose frames come in one call, beside one alone.
        steps: Frames to time of each.
        offline_steps: Windows to time; 0: leave the offline model out.
    """
    if min(steps, threads, *actors) < 1 or offline_steps < 0:
        raise ConfigError("--steps, --threads and --actors must be at least 1, --offline-steps at least 0")
    result = run(runtimes, actors, threads, steps, offline_steps=offline_steps, weights=weights)
    show(result, console())
    if json:
        print(f"written: {write_json(json, result)}")
    if plots:
        from bench.latency.plots import pictures

        print("drawn: " + ", ".join(str(path) for path in pictures(result, plots)))
    return 0


if __name__ == "__main__":
    sys.exit(main(["bench", "latency", *sys.argv[1:]]))
