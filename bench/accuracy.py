"""``hpstm evaluate`` / ``hpstm bench accuracy``: how far the live filter's poses are from the truth, beside baselines.

The real PoseFilter is pushed frame by frame, at 30 fps, over clips with noise from fixed seeds. Every method is scored
at the time its pose is for, never shifted, on the same frames. What is measured is in model/evaluate.py.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import baselines
from bench.report import console, machine, machine_line, write_json
from bench.takes import RATE_HZ, Take, load_takes
from bench.track import Floats, Times
from model import evaluate as score
from model.corruption import NOISES, make_noise
from model.prepare import ClipError
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.runtimes import Runtime, load_runtime

FILTER = "HPSTM Live"
BASELINES = {"input": "raw", "One-Euro": "one_euro_mediapipe", "Kalman": "kalman"}
METHODS = (*BASELINES, FILTER)
Scores = dict[str, float]


class Seen(NamedTuple):
    """What a source saw of a take: positions (T, 24, 3) [m], NaN = missing, and confidence (T, 24)."""

    positions: Floats
    confidence: Floats


class Answers(NamedTuple):
    """What a method said at each frame: the times it is for (T,), positions (T, 24, 3), covariance or None."""

    t_ns: Times
    positions: Floats
    covariance: Floats | None = None


def corrupted(take: Take, noise: str) -> Seen:
    """A take with one of the test noises; the draw depends on their names alone."""
    rng = np.random.default_rng(zlib.crc32(f"{noise}/{take.name}".encode()))
    truth = take.truth_at(take.t_ns).astype(np.float32)
    drawn = make_noise(noise, rng, truth[None], take.t_ns[None] / SECOND_NS)
    positions = np.where(drawn.mask[0, :, :, None], drawn.positions[0], np.nan)
    return Seen(positions, drawn.confidence[0])


def filtered(runtime: Runtime, take: Take, seen: Seen, at_s: float) -> Answers:
    """The live filter's poses, one push a frame, from new."""
    pose_filter = PoseFilter(runtime, delay_s=max(0.0, -at_s), predict_s=max(0.0, at_s))
    poses = pose_filter.push_many(
        Frame("a", i, int(t), seen.positions[i], seen.confidence[i]) for i, t in enumerate(take.t_ns)
    )
    shift_ns = round(at_s * SECOND_NS)
    nothing, unknown = np.full((J, 3), np.nan), np.full((J, 3, 3), np.nan)  # before the first sight of any joint
    return Answers(
        np.array([int(t) + shift_ns if p is None else p.t_ns for p, t in zip(poses, take.t_ns, strict=True)], np.int64),
        np.array([nothing if p is None else p.positions for p in poses], np.float64),
        np.array([unknown if p is None else p.covariance for p in poses], np.float64),
    )


def smoothed(method: str, take: Take, seen: Seen, at_s: float) -> Answers:
    """A baseline's poses for the same times.

    A missing joint holds its last sight in the input of all: a Kalman filter left alone would run on along its
    velocity for the whole gap, which nobody would let it do.
    """
    times_s = take.t_ns / SECOND_NS
    held = baselines.run(baselines.Hold(), times_s, seen.positions)
    positions = baselines.run(baselines.BASELINES[BASELINES[method]](at_s), times_s, held)
    return Answers(take.t_ns + round(at_s * SECOND_NS), positions)


def scores_of(answers: Answers, truth: Floats, counts: Any) -> Scores:
    """Every score over the frames that count, which follow one another."""
    said, true = answers.positions[counts], truth[counts]
    if len(said) < 3:
        return {"frames": 0}
    out = {
        "frames": len(said),
        "mpjpe_root_mm": score.mpjpe_root_mm(said, true),
        "mpjpe_world_mm": score.mpjpe_mm(said, true),
        "pa_mpjpe_mm": score.pa_mpjpe_mm(said, true),
        "accel_mm": score.accel_mm(said, true),
        "bone_std_mm": score.bone_length_std_mm(said),
    }
    if answers.covariance is not None:
        out["in_1_sigma"] = score.coverage_per_axis(said - true, answers.covariance[counts])
    return out


def score_take(runtime: Runtime, take: Take, noise: str, at_s: float) -> dict[str, dict[str, Scores]]:
    """{method: {"all", "settled"}} of one take: after each joint was seen once, as long as there is truth.

    Settled is after the bones were measured, when a skeleton no longer changes.

    Raises:
        ValueError: a pose that counts holds NaN or infinity; a mean would hide it.
    """
    seen = corrupted(take, noise)
    known = np.logical_or.accumulate(np.isfinite(seen.positions[..., 0]), axis=0).all(1)  # (T,)
    first_ns = take.t_ns[known.argmax()]
    # The filter measures the bones from the first sight of any joint.
    start_ns = take.t_ns[np.isfinite(seen.positions[..., 0]).any(1).argmax()]
    settled = take.t_ns >= start_ns + round(runtime.contract.calibration_events_s[-1] * SECOND_NS)
    result = {}
    for method in METHODS:
        given = filtered(runtime, take, seen, at_s) if method == FILTER else smoothed(method, take, seen, at_s)
        counts = known & take.holds(given.t_ns) & (given.t_ns > first_ns)
        broken = int((~np.isfinite(given.positions[counts])).any((1, 2)).sum())
        if broken:
            raise ValueError(f"{method}: {broken} poses of {take.name}, {noise}, {at_s:+g} s hold NaN or infinity")
        truth = take.truth_at(given.t_ns)
        both = {"all": counts, "settled": counts & settled}
        result[method] = {name: scores_of(given, truth, frames) for name, frames in both.items()}
    return result


def averaged(rows: Sequence[Scores], draws: int = 2000) -> dict[str, Any]:
    """Means over clips weighted by their frames, and the bootstrap 95 % interval over clips of the first error."""
    rows = [row for row in rows if row["frames"]]
    if not rows:
        return {"frames": 0, "clips": 0}
    weights = np.array([row["frames"] for row in rows])
    out: dict[str, Any] = {"frames": int(weights.sum()), "clips": len(rows)}
    for name in rows[0].keys() - {"frames"}:
        out[name] = float(np.average([row[name] for row in rows], weights=weights))
    errors = np.array([row["mpjpe_root_mm"] for row in rows])
    drawn = np.random.default_rng(0).integers(0, len(rows), (draws, len(rows)))
    means = (weights[drawn] * errors[drawn]).sum(1) / weights[drawn].sum(1)
    out["mpjpe_root_mm_95"] = [float(q) for q in np.percentile(means, [2.5, 97.5])]
    return out


def run(
    takes: Iterable[Take], runtime: Runtime, noises: Sequence[str] = tuple(NOISES), at_s: Sequence[float] = (0.0, -0.1)
) -> list[dict[str, Any]]:
    """One row for each noise, time asked for and method: {"noise", "at_s", "method", "all", "settled"}."""
    cases = list(product(noises, at_s))
    found: dict[tuple[str, float], list[dict[str, dict[str, Scores]]]] = {case: [] for case in cases}
    for take in takes:
        for noise, at in cases:
            found[noise, at].append(score_take(runtime, take, noise, at))
    return [
        {"noise": noise, "at_s": at, "method": method,
         **{part: averaged([one[method][part] for one in found[noise, at]]) for part in ("all", "settled")}}
        for noise, at in cases for method in METHODS
    ]  # fmt: skip


COLUMNS = {  # title: (part, score, digits)
    "world": ("all", "mpjpe_world_mm", 1),
    "PA": ("all", "pa_mpjpe_mm", 1),
    "Accel": ("all", "accel_mm", 1),
    "MPJPE'": ("settled", "mpjpe_root_mm", 1),
    "bones'": ("settled", "bone_std_mm", 2),
    "1 sigma'": ("settled", "in_1_sigma", 3),
}
NOTE = """mm, Accel mm/frame². MPJPE: joints from their own pelvis, and its interval over clips; world: where they are;
PA: after the best rotation, scale and shift; bones: standard deviation of a bone's length; 1 sigma: share of
coordinates inside, .683 when honest. ': without each clip's first {calibration_s:g} s, when the bones are measured.
All but HPSTM Live hold a missing joint in its last place. One-Euro: MediaPipe's setting; Kalman: constant velocity,
fixed lag; neither is tuned to these clips."""


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the table and what it rests on."""
    s = result["settings"]
    title = f"{s['model']}: {s['clips']} clips of {s['data']}, {s['minutes']:.1f} min at {RATE_HZ:g} fps"
    table = Table(title=title, caption=machine_line(result["machine"]), title_justify="left", caption_justify="left")
    for name in ("noise", "pose for", "method"):
        table.add_column(name, no_wrap=True)
    for name in ("MPJPE", "95 %", *COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["rows"]:
        last = row["method"] == METHODS[-1]
        table.add_row(*_cells(row), style="bold" if last else "", end_section=last)
    screen.print(table)
    screen.print(NOTE.format(**s), soft_wrap=True)


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["noise"], f"{1e3 * row['at_s']:+.0f} ms" if row["at_s"] else "now", row["method"], "-", "-"]
    if "mpjpe_root_mm" in row["all"]:
        low, high = row["all"]["mpjpe_root_mm_95"]
        cells[-2:] = [f"{row['all']['mpjpe_root_mm']:.1f}", f"{low:.1f}-{high:.1f}"]
    for part, name, digits in COLUMNS.values():
        cells.append(f"{row[part][name]:.{digits}f}" if name in row[part] else "-")
    return cells


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hpstm evaluate", description="Score the live filter on motion with known truth, beside baselines."
    )
    parser.add_argument("data", help="a file that `hpstm prepare` packed, the folder of clips.csv, or: synthetic")
    parser.add_argument("--split", default="test", help="which clips of a folder (default test)")
    parser.add_argument("--clips", type=int, default=30, metavar="N", help="clips to score; 0: all (default 30)")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S",
                        help="the middle S seconds of each; 0: all (default 15)")  # fmt: skip
    parser.add_argument("--noise", nargs="+", default=list(NOISES), choices=list(NOISES), metavar="NAME",
                        help=f"default all of: {' '.join(NOISES)}")  # fmt: skip
    parser.add_argument("--delay", nargs="*", type=float, default=[0.0, 0.1], metavar="S", help="default 0 0.1")
    parser.add_argument("--predict", nargs="*", type=float, default=[], metavar="S", help="default none")
    parser.add_argument("--runtime", default="onnx", help="onnx (default) or torch")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="another model than the bundled one")
    parser.add_argument("--json", metavar="FILE", help="write every score there too")
    options = parser.parse_args(argv)
    if options.clips < 0 or options.seconds < 0:
        parser.error("--clips and --seconds must not be negative")
    if min([*options.delay, *options.predict], default=-1) < 0:
        parser.error("give at least one --delay or --predict, none of them negative")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when measured, whatever the numbers are."""
    options = _arguments(argv)
    at_s = [*(-s for s in options.delay), *options.predict]
    try:
        runtime = load_runtime(options.runtime, options.weights, options.threads)
        for at in at_s:
            PoseFilter(runtime, max(0.0, -at), max(0.0, at))  # out of reach: say so before the work, not after
        takes = load_takes(options.data, options.split, options.clips or None, options.seconds or None)
    except ClipError as error:
        raise ConfigError(str(error)) from error
    screen = console()
    watched = track(takes, description="clips", console=Console(stderr=True), transient=True)
    rows = run(watched, runtime, options.noise, at_s)
    result = {
        "benchmark": "accuracy",
        "machine": machine(),
        "settings": {
            "model": runtime.contract.name, "weights_sha256": runtime.contract.weights_sha256,
            "runtime": options.runtime, "data": Path(options.data).name, "split": options.split, "clips": len(takes),
            "seconds": options.seconds, "minutes": sum(len(take.t_ns) for take in takes) / RATE_HZ / 60,
            "rate_hz": RATE_HZ, "calibration_s": runtime.contract.calibration_events_s[-1],
        },
        "rows": rows,
    }  # fmt: skip
    show(result, screen)
    if options.json:
        print(f"written: {write_json(options.json, result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
