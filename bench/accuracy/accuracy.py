"""``hpstm evaluate`` / ``hpstm bench accuracy``: how far the live filter's poses are from the truth, beside baselines.

The real PoseFilter is pushed frame by frame over clips with noise from fixed seeds. Every method is scored at the time
its pose is for, never shifted, on the same frames. The methods are in methods.py, the scores in scoring.py, the tables
in tables.py, the pictures in plots.py, real recordings in recordings.py; ``--pairs`` is in pair_bench.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from bench.accuracy import learned, pair_bench, pair_tables, recordings, tables, tuned
from bench.accuracy.methods import DEFAULT_METHODS, FILTER, METHODS, Case, answered, corrupted
from bench.accuracy.pairs import KNOWN, read_pairs, told
from bench.accuracy.scoring import SIGMAS, Scores, Truth, averaged, scores_of
from bench.accuracy.tables import show
from bench.accuracy.takes import RATE_HZ, Take, load_takes
from bench.options import Plots
from bench.report import console, machine, write_json
from model.noise.fixed import LOSSES, NOISES
from model.prepare import ClipError
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.commands.options import BUNDLED
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

DEFAULT_NOISES = tuple(name for name in NOISES if name not in LOSSES)
DELAYS_UNASKED = "0 0.1; with --delay-frames: none"
METHODS_UNASKED = f"the input, tuned filters, {FILTER}"
ANY_NUMBER = Parameter(consume_multiple=True)  # of values, none too
Result = dict[str, dict[str, Scores]]  # {method: {"all", "settled"}}


def score_take(
    runtime: Runtime, take: Take, noise: str, rate_hz: float, at_s: Sequence[float], methods: Sequence[str]
) -> list[Result]:
    """The scores of one take at each time asked for: after each joint was seen once, as long as there is truth.

    Settled is after the bones were measured, when a skeleton no longer changes.

    Raises:
        ValueError: a pose that counts holds NaN or infinity; a mean would hide it.
    """
    seen = corrupted(take, noise)
    visible = np.isfinite(seen.positions[..., 0])
    known = np.logical_or.accumulate(visible, axis=0).all(1)  # (T,)
    first_ns = take.t_ns[known.argmax()]
    # The filter measures the bones from the first sight of any joint.
    start_ns = take.t_ns[visible.any(1).argmax()]
    calibrated_ns = start_ns + round(runtime.contract.calibration_events_s[-1] * SECOND_NS)
    said = answered(runtime, take, seen, methods, [Case(noise, rate_hz, at) for at in at_s])
    results: list[Result] = []
    for a, at in enumerate(at_s):
        result: Result = {}
        t_ns = take.t_ns + round(at * SECOND_NS)
        counts = known & take.holds(t_ns) & (t_ns > first_ns)
        truth = Truth.of(take, seen, t_ns)
        kept_back_s = max(0.0, runtime.contract.tau_s[0] - at)  # beyond reach the pose rests on an earlier frame
        settled = take.t_ns - round(kept_back_s * SECOND_NS) >= calibrated_ns
        for method in methods:
            given = said[method][a]
            broken = int((~np.isfinite(given.positions[counts])).any((1, 2)).sum())
            if broken:
                raise ValueError(f"{method}: {broken} poses of {take.name}, {noise}, {at:+g} s hold NaN or infinity")
            both = {"all": counts, "settled": counts & settled}
            result[method] = {name: scores_of(given, truth, frames, rate_hz) for name, frames in both.items()}
        results.append(result)
    return results


def run(
    takes: Iterable[Take],
    runtime: Runtime,
    noises: Sequence[str] = DEFAULT_NOISES,
    at_s: Sequence[float] = (0.0, -0.1),
    methods: Sequence[str] = DEFAULT_METHODS,
    rate_hz: float = RATE_HZ,
    pool: Pool | None = None,
    watch: Callable[[Iterable[list[Result]]], Iterable[list[Result]]] = iter,
) -> list[dict[str, Any]]:
    """One row for each noise, time asked for and method: {"noise", "rate_hz", "at_s", "method", "all", "settled"}.

    Args:
        takes: seen ``rate_hz`` times a second.
        at_s: times asked for, from the newest frame; negative is a delay.
        pool: processes of ``worker_pool`` to share the takes among; without: this one does all.
        watch: passes the results on, and may show how far they are.
    """
    found: dict[tuple[str, float], list[Result]] = {case: [] for case in product(noises, at_s)}
    score = partial(_score_noises, noises=noises, rate_hz=rate_hz, at_s=at_s, methods=methods)
    scored = map(partial(score, runtime), takes) if pool is None else pool.imap(partial(_in_worker, score), takes)
    for results in watch(scored):
        for case, result in zip(found, results, strict=True):
            found[case].append(result)
    return [
        {**Case(noise, rate_hz, at)._asdict(), "method": method,
         **{part: averaged([one[method][part] for one in results]) for part in ("all", "settled")}}
        for (noise, at), results in found.items() for method in methods
    ]  # fmt: skip


def _score_noises(
    runtime: Runtime, take: Take, noises: Sequence[str], rate_hz: float, at_s: Sequence[float], methods: Sequence[str]
) -> list[Result]:
    """The scores of one take for each noise and, within it, each time asked for."""
    return [r for noise in noises for r in score_take(runtime, take, noise, rate_hz, at_s, methods)]


_worker: dict[str, Runtime] = {}  # of a process of the pool


def worker_pool(jobs: int, runtime: str, weights: Path | None, threads: int) -> Pool:
    """Processes, each with a runtime of its own."""
    return get_context("spawn").Pool(jobs, _start_worker, (runtime, weights, threads))


def _start_worker(runtime: str, weights: Path | None, threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it when a learned method imports it
    _worker["runtime"] = load_runtime(runtime, weights, threads)


def _in_worker(score: Callable[[Runtime, Take], list[Result]], take: Take) -> list[Result]:
    return score(_worker["runtime"], take)


if TYPE_CHECKING:
    Noise = str
    Method = str
    Known = str
else:  # the choices, as the command line shows and checks them
    Noise = Literal[tuple(NOISES)]
    Method = Literal[METHODS]
    Known = Literal[tuple(KNOWN)]


@dataclass(frozen=True)
class Options:
    """What to score, and at which times; options of the command.

    Args:
        pairs: Instead of DATA: takes of real estimators with truth, see model/training/pair_files.py.
        known: Score --pairs once more, as if a source were told the person's height, the camera's pitch, or both.
        split: Which clips of a folder.
        clips: Clips to score; 0: all.
        seconds: The middle of each clip [s]; 0: all.
        noise: What is done to the clips.
        methods: What is scored.
        delay: Score poses so long before the newest frame [s].
        predict: And so long after it [s].
        delay_frames: Delays in frames of each rate, as --delay-frames=-3..8; negative: ahead.
        rate: Frames a second that a source sees [Hz].
        recordings: Score the MediaPipe recordings of this folder, too.
        runtime: auto (native, else onnx), native, onnx or torch.
        threads: Of the filter.
        jobs: Processes that share the clips.
        weights: Folder of another model.
    """

    pairs: tuple[Path, ...] = ()
    known: tuple[Known, ...] = ()
    split: str = "test"
    clips: int = 30
    seconds: float = 15.0
    noise: tuple[Noise, ...] = DEFAULT_NOISES
    methods: Annotated[tuple[Method, ...], Parameter(show_default=METHODS_UNASKED)] = ()
    delay: Annotated[tuple[float, ...] | None, ANY_NUMBER, Parameter(show_default=DELAYS_UNASKED)] = None
    predict: Annotated[tuple[float, ...], ANY_NUMBER] = ()
    delay_frames: str | None = None
    rate: tuple[float, ...] = (RATE_HZ,)
    recordings: Path | None = None
    runtime: str = "auto"
    threads: int = 1
    jobs: int = 1
    weights: Annotated[Path | None, Parameter(show_default=BUNDLED)] = None

    def check(self) -> None:
        """Raises ConfigError in one line that says what to do."""
        if self.clips < 0 or self.seconds < 0 or self.jobs < 1:
            raise ConfigError("--clips and --seconds must not be negative, --jobs at least 1")
        if min(self.rate) <= 0:
            raise ConfigError("--rate must be positive")
        if min([*(self.delay or ()), *self.predict], default=0.0) < 0:
            raise ConfigError("--delay and --predict must not be negative")
        if self.known and not self.pairs:
            raise ConfigError("--known is for --pairs, takes of real estimators with truth")
        if not self.asked(self.rate[0]):
            raise ConfigError("give at least one --delay, --predict or --delay-frames")

    def asked(self, rate_hz: float) -> list[float]:
        """The times asked for [s] at a frame rate, each once."""
        delays = self.delay if self.delay is not None else () if self.delay_frames else (0.0, 0.1)
        frames = (-n / rate_hz for n in frame_range(self.delay_frames or ""))
        return list(dict.fromkeys([*(0.0 - s for s in delays), *self.predict, *frames]))


def frame_range(text: str) -> list[int]:
    """Frames of delay from "-3..8" or "0,1,2" or nothing; negative is a prediction. Raises ConfigError."""
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text)
    if span and int(span[1]) <= int(span[2]):
        return list(range(int(span[1]), int(span[2]) + 1))
    if not re.fullmatch(r"(-?\d+(,-?\d+)*)?", text):
        raise ConfigError(f"--delay-frames {text!r}: give a range as -3..8, or numbers as 0,1,2")
    return [int(word) for word in text.split(",") if word]


def measure(data: str, options: Options) -> dict[str, Any]:
    """All that the options ask for, as it is written to JSON."""
    methods = options.methods or DEFAULT_METHODS
    learned.check(methods)
    try:
        runtime = load_runtime(options.runtime, options.weights, options.threads)
        for rate in options.rate:  # out of reach: say so before the work, not after
            PoseFilter(runtime, predict_s=max(0.0, *options.asked(rate)))
        loaded = {
            rate: load_takes(data, options.split, options.clips or None, options.seconds or None, rate)
            for rate in options.rate
        }
    except ClipError as error:
        raise ConfigError(str(error)) from error
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        pool = None
        if options.jobs > 1:
            pool = stack.enter_context(worker_pool(options.jobs, options.runtime, options.weights, options.threads))
        for rate, takes in loaded.items():
            watch = partial(
                track,
                description=f"clips at {rate:g} Hz",
                total=len(takes),
                console=Console(stderr=True),
                transient=True,
            )
            rows += run(takes, runtime, options.noise, options.asked(rate), methods, rate, pool, watch)
    rate, takes = next(iter(loaded.items()))
    return {
        "benchmark": "accuracy",
        "machine": machine(),
        "settings": {
            "model": runtime.contract.name, "weights_sha256": runtime.contract.weights_sha256,
            "runtime": options.runtime, "data": Path(data).name, "split": options.split, "clips": len(takes),
            "seconds": options.seconds, "minutes": sum(len(take.t_ns) for take in takes) / rate / 60,
            "rate_hz": options.rate, "methods": methods, "sigmas": SIGMAS,
            "calibration_s": runtime.contract.calibration_events_s[-1],
            "tuned": tuned.summary(),
        },
        "rows": rows,
        "recordings": recordings.run(options.recordings, runtime, methods) if options.recordings else [],
    }  # fmt: skip


def measure_pairs(options: Options) -> dict[str, Any]:
    """The same for ``--pairs``."""
    methods = options.methods or pair_bench.DEFAULT_METHODS
    learned.check(methods)
    pairs, known = read_pairs(options.pairs), tuple(dict.fromkeys(options.known))
    if known and not told(pairs, known[0]):
        raise ConfigError("--known: none of --pairs says how tall its person is and how its camera looks down")
    runtime = load_runtime(options.runtime, options.weights, options.threads)
    return pair_bench.measure(pairs, runtime, options.asked(RATE_HZ), methods, known)


def command(
    data: str | None = None,
    /,
    *,
    options: Annotated[Options, Parameter("*")] = Options(),
    json: Annotated[Path | None, Parameter(help="Write every score to this file, too.")] = None,
    markdown: Path | None = None,
    plots: Plots = None,
) -> int:
    """Score the live filter on motion with known truth, beside baselines.

    Args:
        data: A file that `hpstm prepare` packed, the folder of clips.csv, or: synthetic.
        markdown: Write the tables to this file, too.
    """
    options.check()
    if (data is None) != bool(options.pairs):
        raise ConfigError("give either DATA, motion to add noise to, or --pairs, takes of real estimators with truth")
    result = measure_pairs(options) if data is None else measure(data, options)
    pages = pair_tables.sheets if data is None else tables.sheets
    show(result, console(), pages)
    if json:
        print(f"written: {write_json(json, result)}")
    if markdown:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(tables.markdown(result, pages), encoding="utf-8")
        print(f"written: {markdown}")
    if plots:
        from bench.accuracy import pair_plots  # matplotlib: only who asks for it needs it
        from bench.accuracy import plots as own_plots

        for path in (pair_plots if data is None else own_plots).draw(result, plots):
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
