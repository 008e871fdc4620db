"""``hpstm evaluate`` / ``hpstm bench accuracy``: how far the live filter's poses are from the truth, beside baselines.

The real PoseFilter is pushed frame by frame over clips with noise from fixed seeds. Every method is scored at the time
its pose is for, never shifted, on the same frames. The methods are in methods.py, the scores in scoring.py, the tables
in accuracy_report.py, the pictures in accuracy_plots.py, real recordings in recordings.py.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.accuracy import learned, pair_bench, pair_tables, recordings, tuned
from bench.accuracy.methods import DEFAULT_METHODS, FILTER, METHODS, Case, answered, corrupted
from bench.accuracy.pairs import read_pairs
from bench.accuracy.scoring import SIGMAS, Scores, Truth, averaged, scores_of
from bench.accuracy.tables import markdown, sheets, show
from bench.accuracy.takes import RATE_HZ, Take, load_takes
from bench.report import console, machine, write_json
from model.noise.corruption import LOSSES, NOISES
from model.prepare import ClipError
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime

DEFAULT_NOISES = tuple(name for name in NOISES if name not in LOSSES)
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


def frame_range(text: str) -> list[int]:
    """Frames of delay from "-3..8" or "0,1,2"; negative is a prediction.

    Raises:
        ArgumentTypeError: neither of the two.
    """
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text)
    if span and int(span[1]) <= int(span[2]):
        return list(range(int(span[1]), int(span[2]) + 1))
    if re.fullmatch(r"-?\d+(,-?\d+)*", text):
        return [int(word) for word in text.split(",")]
    raise argparse.ArgumentTypeError(f"{text!r}: give a range as -3..8, or numbers as 0,1,2")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hpstm evaluate", description="Score the live filter on motion with known truth, beside baselines."
    )
    parser.add_argument(
        "data", nargs="?", help="a file that `hpstm prepare` packed, the folder of clips.csv, or: synthetic"
    )
    parser.add_argument("--pairs", nargs="+", type=Path, metavar="FILE",
                        help="instead: takes of real estimators with truth, see bench/accuracy/pairs.py")  # fmt: skip
    parser.add_argument("--split", default="test", help="which clips of a folder (default test)")
    parser.add_argument("--clips", type=int, default=30, metavar="N", help="clips to score; 0: all (default 30)")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S",
                        help="the middle S seconds of each; 0: all (default 15)")  # fmt: skip
    parser.add_argument("--noise", nargs="+", default=list(DEFAULT_NOISES), choices=list(NOISES), metavar="NAME",
                        help=f"of: {' '.join(NOISES)} (default: the first {len(DEFAULT_NOISES)})")  # fmt: skip
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME",
                        help=f"of: {', '.join(METHODS)} (default: input, tuned filters, {FILTER})")  # fmt: skip
    parser.add_argument("--delay", nargs="*", type=float, metavar="S", help="default 0 0.1")
    parser.add_argument("--predict", nargs="*", type=float, default=[], metavar="S", help="default none")
    parser.add_argument("--delay-frames", type=frame_range, metavar="A..B",
                        help="delays in frames of each rate, as --delay-frames=-3..8; negative: ahead")  # fmt: skip
    parser.add_argument("--rate", nargs="+", type=float, default=[RATE_HZ], metavar="HZ",
                        help="frames per second that a source sees (default 30)")  # fmt: skip
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="score these MediaPipe recordings, too")
    parser.add_argument("--runtime", default="auto", help="auto (default: native, else onnx), native, onnx or torch")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that share the clips (default 1)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="another model than the bundled one")
    parser.add_argument("--json", metavar="FILE", help="write every score there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the curves there")
    options = parser.parse_args(argv)
    if options.delay is None:
        options.delay = [] if options.delay_frames else [0.0, 0.1]
    if options.clips < 0 or options.seconds < 0 or options.jobs < 1:
        parser.error("--clips and --seconds must not be negative, --jobs at least 1")
    if min(options.rate) <= 0:
        parser.error("--rate must be positive")
    if min([*options.delay, *options.predict], default=0.0) < 0:
        parser.error("--delay and --predict must not be negative")
    if (options.data is None) == (options.pairs is None):
        parser.error("give motion to add noise to, or --pairs with takes of real estimators")
    if not (options.delay or options.predict or options.delay_frames):
        parser.error("give at least one --delay, --predict or --delay-frames")
    return options


def asked(options: argparse.Namespace, rate_hz: float) -> list[float]:
    """The times asked for [s] at a frame rate, each once."""
    frames = (-n / rate_hz for n in options.delay_frames or [])
    return list(dict.fromkeys([*(0.0 - s for s in options.delay), *options.predict, *frames]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that the options ask for, as it is written to JSON."""
    methods = options.methods or list(DEFAULT_METHODS)
    learned.check(methods)
    try:
        runtime = load_runtime(options.runtime, options.weights, options.threads)
        for rate in options.rate:  # out of reach: say so before the work, not after
            PoseFilter(runtime, predict_s=max(0.0, *asked(options, rate)))
        loaded = {
            rate: load_takes(options.data, options.split, options.clips or None, options.seconds or None, rate)
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
            rows += run(takes, runtime, options.noise, asked(options, rate), methods, rate, pool, watch)
    rate, takes = next(iter(loaded.items()))
    return {
        "benchmark": "accuracy",
        "machine": machine(),
        "settings": {
            "model": runtime.contract.name, "weights_sha256": runtime.contract.weights_sha256,
            "runtime": options.runtime, "data": Path(options.data).name, "split": options.split, "clips": len(takes),
            "seconds": options.seconds, "minutes": sum(len(take.t_ns) for take in takes) / rate / 60,
            "rate_hz": options.rate, "methods": methods, "sigmas": SIGMAS,
            "calibration_s": runtime.contract.calibration_events_s[-1],
            "tuned": tuned.summary(),
        },
        "rows": rows,
        "recordings": recordings.run(options.recordings, runtime, methods) if options.recordings else [],
    }  # fmt: skip


def measure_pairs(options: argparse.Namespace) -> dict[str, Any]:
    """The same for ``--pairs``."""
    methods = options.methods or pair_bench.DEFAULT_METHODS
    learned.check(methods)
    runtime = load_runtime(options.runtime, options.weights, options.threads)
    return pair_bench.measure(read_pairs(options.pairs), runtime, asked(options, RATE_HZ), methods)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when measured, whatever the numbers are."""
    options = _arguments(argv)
    result = measure_pairs(options) if options.pairs else measure(options)
    pages = pair_tables.sheets if options.pairs else sheets
    show(result, console(), pages)
    if options.json:
        print(f"written: {write_json(options.json, result)}")
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(markdown(result, pages), encoding="utf-8")
        print(f"written: {options.markdown}")
    if options.plots:
        from bench.accuracy import pair_plots, plots  # matplotlib: only who asks for it needs it

        for path in (pair_plots if options.pairs else plots).draw(result, options.plots):
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
