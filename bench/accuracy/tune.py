"""``hpstm bench tune``: the best settings of the baselines for each noise, rate and time asked for, on training clips.

Every method is run over all clips at once (their joints side by side) and scored at the time its pose is for; a search
along one setting after another over fixed grids finds the least objective. The table is bench/tuned.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from bench.accuracy import baselines, tuned
from bench.accuracy.methods import Case, corrupted, held
from bench.accuracy.pair_methods import side_by_side
from bench.accuracy.pair_scores import relative
from bench.accuracy.pairs import HIPS, Pair, read_pairs
from bench.accuracy.takes import RATE_HZ, Take, load_takes
from bench.report import write_json
from bench.track import Floats, at_time
from model.evaluate import accel_mm, mpjpe_root_mm
from model.noise.corruption import LOSSES, NOISES
from model.prepare import ClipError
from model.training.held_out import RENDERED_HELD_OUT
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

ACCEL_WEIGHT = 0.1
OBJECTIVE = f"root-relative MPJPE [mm] + {ACCEL_WEIGHT:g} x Accel [mm/frame^2]"
SKIPPED_S = 1.0  # of every clip: the start of a stream weighs more in these short clips than in a long one
LATEST_S = 0.1  # more lag than this no output is taken to have
AT_FRAMES = (-6, -3, -2, -1, 0, 1, 2, 3)  # at 30 fps

Grid = tuple[float, ...]
Settings = dict[str, float]


@dataclass(frozen=True)
class Space:
    """A method and the values tried for its settings, from which the search starts in the middle."""

    kind: Callable[..., baselines.Baseline]
    grids: Mapping[str, Grid]
    late: bool = False  # a delayed answer may be its output of a later time
    damped: bool = False  # a prediction may use a part of the velocity

    def at(self, at_s: float) -> dict[str, Grid]:
        """The grids that matter for a time asked for."""
        grids = dict(self.grids)
        if self.late and at_s < 0:
            grids["late_s"] = tuple(float(x) for x in np.round(np.linspace(0.0, min(-at_s, LATEST_S), 7), 5))
        if self.damped and at_s > 0:
            grids["damping"] = tuple(float(x) for x in np.round(np.linspace(0.0, 1.2, 13), 2))
        return grids


def _geometric(low: float, high: float, count: int) -> Grid:
    return tuple(float(f"{x:.3g}") for x in np.geomspace(low, high, count))


SPACES: dict[str, Space] = {
    "one_euro": Space(
        baselines.OneEuro,
        {
            "min_cutoff_hz": _geometric(0.05, 15.0, 13),
            "beta": (0.0, *_geometric(0.25, 100.0, 12)),
            "derivative_hz": (0.3, 1.0, 3.0),
        },
        late=True,
    ),
    # Only the ratio of the two variances matters once the filter has started: the noise stays at 10 mm.
    "kalman": Space(baselines.Kalman, {"acceleration": _geometric(0.01, 1e4, 19)}, damped=True),
    "holt": Space(
        baselines.Holt,
        {"level_s": _geometric(0.003, 0.3, 13), "trend_s": _geometric(0.01, 3.0, 13)},
        late=True,
        damped=True,
    ),
    "savitzky_golay": Space(
        baselines.SavitzkyGolay, {"window_s": _geometric(0.05, 1.0, 12), "order": (0.0, 1.0, 2.0, 3.0)}
    ),
}


@dataclass(frozen=True)
class Trial:
    """C takes of one length side by side, as one stream: what a smoother is given, and what it should say.

    times_s (T,), given (T, C * 24, 3) [m] with missing joints held, truth (T, C, 24, 3) [m] at the times asked for,
    counts (T, C, 1): whether a frame of a take is scored.
    """

    times_s: Floats
    given: Floats
    truth: Floats
    counts: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, takes: Sequence[Take], case: Case, seed: int) -> Trial:
        """Takes with a noise drawn from ``seed``, all cut to the shortest."""
        steps = min(len(take.t_ns) for take in takes)
        t_ns = takes[0].t_ns[:steps]
        target_ns = t_ns + round(case.at_s * SECOND_NS)
        seen = np.stack([corrupted(take, case.noise, seed).positions[:steps] for take in takes], 1)  # (T, C, J, 3)
        given = held(t_ns / SECOND_NS, seen.reshape(steps, -1, 3))
        known = np.isfinite(given).reshape(seen.shape).all((2, 3))
        first_ns = np.where(known.any(0), t_ns[known.argmax(0)], t_ns[-1] + 1)  # (C,) when each joint was seen once
        after = np.minimum(t_ns, target_ns)[:, None] > np.maximum(first_ns, round(SKIPPED_S * SECOND_NS))
        inside = np.stack([take.holds(target_ns) for take in takes], 1)
        truth = np.stack([take.truth_at(target_ns) for take in takes], 1)
        return cls(t_ns / SECOND_NS, given, truth, (after & inside)[..., None])

    @classmethod
    def of_pairs(cls, pairs: Sequence[Pair], at_s: float) -> Trial:
        """Takes of one real source and one clock, whose origin lies between the hips, on the joints that it gives."""
        (group,) = side_by_side(pairs)
        shape = (len(group.times_s), len(pairs), len(group.joints), 3)
        truth, counts = np.full((*shape[:2], len(group.joints), 3), np.nan), np.zeros(shape[:2], bool)
        for c, pair in enumerate(group.pairs):
            t_ns = pair.t_ns + round(at_s * SECOND_NS)
            inside = np.flatnonzero((t_ns >= SKIPPED_S * SECOND_NS) & (t_ns <= pair.t_ns[-1]))
            truth[inside, c] = relative(at_time(pair.t_ns, pair.truth, t_ns[inside]), pair.given)[:, group.joints]
            counts[inside, c] = True
        hips = [group.joints.index(hip) for hip in HIPS]  # their middle stands first, as the pelvis does elsewhere
        given, true = (np.concatenate([x[..., hips, :].mean(-2, keepdims=True), x], -2)
                       for x in (group.given.reshape(shape), truth))  # fmt: skip
        return cls(group.times_s, given.reshape(len(given), -1, 3), true, counts[..., None])

    def score(self, baseline: baselines.Baseline) -> Settings:
        """What a filter reaches: "mpjpe_root_mm", "accel_mm" and the "objective" of both.

        Raises:
            ValueError: it is no number, which a search could not tell from a good one.
        """
        said = baselines.run(baseline, self.times_s, self.given).reshape(self.truth.shape)
        error = mpjpe_root_mm(said, self.truth, self.counts)
        accel = accel_mm(said, self.truth, self.counts)
        if not np.isfinite(error + accel):
            raise ValueError(f"{type(baseline).__name__}: a pose that counts holds NaN or infinity, or none counts")
        return {"mpjpe_root_mm": error, "accel_mm": accel, "objective": error + ACCEL_WEIGHT * accel}


def search(objective: Callable[[Settings], float], grids: Mapping[str, Grid]) -> Settings:
    """The settings of least objective along every axis and among their neighbours, from the middle of each grid.

    One axis after another is tried at all its values, then every step of one place along several axes at once, which
    follows a valley between two settings, until nothing improves. No value is computed twice.
    """
    names = list(grids)
    best = tuple(len(grids[name]) // 2 for name in names)
    found: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in found:
            found[place] = objective({name: grids[name][i] for name, i in zip(names, place)})
        return found[place]

    while True:
        before = best
        for axis, name in enumerate(names):
            places = [(*best[:axis], i, *best[axis + 1 :]) for i in range(len(grids[name]))]
            best = min([best, *places], key=value)
        if best == before:
            steps = product(*(range(max(0, i - 1), min(len(grids[name]), i + 2)) for name, i in zip(names, best)))
            best = min([best, *steps], key=value)
        if best == before:
            return {name: grids[name][i] for name, i in zip(names, best)}


def tune(trial: Trial, case: Case, method: str) -> dict[str, Any]:
    """One row of tuned.json: the best settings of a method for a trial of a case, and what they reach."""
    space = SPACES[method]

    def scores(settings: Settings) -> Settings:
        return trial.score(space.kind(case.at_s, **whole(settings)))

    settings = whole(search(lambda settings: scores(settings)["objective"], space.at(case.at_s)))
    return {"method": method, **case._asdict(), "settings": settings, **scores(settings)}


def merged(out: Path, rows: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """The table with these rows in place of those for the same cases; what was tuned for others stays."""

    def case(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in ("method", *Case._fields))

    new = {case(row) for row in rows}
    before = tuned.read(out) if out.is_file() else {"commands": [], "rows": []}
    kept = [row for row in before["rows"] if case(row) not in new]
    commands = [*before["commands"], command] if kept else [command]
    return {"objective": OBJECTIVE, "split": "train", "commands": commands, "rows": [*kept, *rows]}


def whole(settings: Mapping[str, float]) -> Settings:
    """Settings with a polynomial's order as an integer."""
    return {name: int(value) if name == "order" else value for name, value in settings.items()}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hpstm bench tune", description=f"Tune the baselines for least {OBJECTIVE}.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="the packed train.npz, the folder of clips.csv, or: synthetic")
    source.add_argument("--pairs", nargs="+", type=Path, metavar="FILE",
                        help="instead: real takes with truth, of one clock; not of held-out subjects")  # fmt: skip
    parser.add_argument("--clips", type=int, default=24, metavar="N", help="clips to tune on (default 24)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each clip (default 5)")
    parser.add_argument("--rate", nargs="+", type=float, default=[RATE_HZ], metavar="HZ", help="default 30")
    parser.add_argument("--at-frames", nargs="+", type=int, default=list(AT_FRAMES), metavar="N",
                        help="frames at 30 fps, negative: a delay (default -6 -3 -2 -1 0 1 2 3)")  # fmt: skip
    noises = [name for name in NOISES if name not in LOSSES]  # those have the realistic noise
    parser.add_argument("--noise", nargs="+", default=noises, choices=noises, metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=tuned.FILE, metavar="FILE",
                        help="the table to write, or to renew rows of (default: what the bench reads)")  # fmt: skip
    options = parser.parse_args(argv)
    if options.clips < 1 or options.seconds <= 2 * SKIPPED_S or min(options.rate) <= 0:
        parser.error(f"--clips must be at least 1, --seconds more than {2 * SKIPPED_S:g}, --rate positive")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when written."""
    options = _arguments(argv)
    rows = _tuned_on_pairs(options) if options.pairs else _tuned_on_clips(options)
    command = shlex.join(["hpstm", "bench", "tune", *(sys.argv[3:] if argv is None else argv)])
    print(f"written: {write_json(options.out, merged(options.out, rows, command))}, {len(rows)} settings")
    return 0


def _tuned_on_pairs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows whose noise is the source's name, without what stands in brackets after it."""
    pairs = [pair for pair in read_pairs(options.pairs) if pair.subject not in RENDERED_HELD_OUT]
    if not pairs:
        raise ConfigError("--pairs: all of these are held-out subjects; tune on others")
    source, rate_hz = pairs[0].source.split(" (")[0], round(pairs[0].rate_hz, 3)
    rows = []
    for frames in options.at_frames:
        case = Case(source, rate_hz, frames / RATE_HZ)
        trial = Trial.of_pairs(pairs, case.at_s)
        rows += [tune(trial, case, method) | {"data": source, "clips": len(pairs)} for method in SPACES]
    return rows


def _tuned_on_clips(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    try:
        takes = {rate: load_takes(options.data, "train", options.clips, options.seconds, rate) for rate in options.rate}
    except ClipError as error:
        raise ConfigError(str(error)) from error
    cases = [Case(noise, rate, frames / RATE_HZ)
             for rate, noise, frames in product(options.rate, options.noise, options.at_frames)]  # fmt: skip
    origin = {"data": Path(options.data).name, "clips": options.clips, "seconds": options.seconds, "seed": options.seed}
    for case in track(cases, description="tuning", console=Console(stderr=True), transient=True):
        trial = Trial.of(takes[case.rate_hz], case, options.seed)
        rows += [tune(trial, case, method) | origin for method in SPACES]
    return rows


if __name__ == "__main__":
    sys.exit(main())
