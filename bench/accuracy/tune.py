"""``hpstm bench tune``: the best settings of the baselines for each noise, rate and time asked for, on training clips.

Every method is run over all clips at once (their joints side by side) and scored at the time its pose is for; a search
along one setting after another over fixed grids finds the least objective. The table is bench/tuned.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from bench.accuracy import baselines, tuned
from bench.accuracy.methods import Case, corrupted, held
from bench.accuracy.pair_methods import side_by_side
from bench.accuracy.pair_scores import relative
from bench.accuracy.pairs import HIPS, Pair, read_pairs
from bench.accuracy.takes import RATE_HZ, Take, load_takes
from bench.options import command_line
from bench.report import write_json
from bench.track import Floats, at_time
from model.evaluate import accel_mm, mpjpe_root_mm
from model.noise.fixed import LOSSES, NOISES
from model.prepare import ClipError
from model.training.held_out import RENDERED_HELD_OUT
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError

ACCEL_WEIGHT = 0.1
OBJECTIVE = f"root-relative MPJPE [mm] + {ACCEL_WEIGHT:g} x Accel [mm/frame^2]"
SKIPPED_S = 1.0  # of every clip: the start of a stream weighs more in these short clips than in a long one
LATEST_S = 0.1  # more lag than this no output is taken to have
TUNABLE = tuple(name for name in NOISES if name not in LOSSES)  # those have the realistic noise
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


if TYPE_CHECKING:
    Noise = str
else:
    Noise = Literal[TUNABLE]  # the choices, as the command line shows and checks them


def command(
    *,
    data: str | None = None,
    pairs: tuple[Path, ...] = (),
    clips: int = 24,
    seconds: float = 5.0,
    rate: tuple[float, ...] = (RATE_HZ,),
    at_frames: tuple[int, ...] = AT_FRAMES,
    noise: tuple[Noise, ...] = TUNABLE,
    seed: int = 0,
    out: Annotated[Path, Parameter(show_default="what the bench reads")] = tuned.FILE,
) -> int:
    """Tune the baselines for least root-relative MPJPE [mm] + 0.1 x Accel [mm/frame^2].

    Args:
        data: The packed train.npz, the folder of clips.csv, or: synthetic.
        pairs: Instead: real takes with truth, of one clock; those of held-out subjects are left out.
        clips: Clips to tune on.
        seconds: Of each clip [s].
        rate: Frames a second that a source sees [Hz].
        at_frames: Times asked for, in frames at 30 fps; negative: a delay.
        noise: What is done to the clips.
        seed: Of the noise.
        out: The table to write, or to renew rows of.
    """
    typed = command_line("bench tune", command, locals())
    if (data is None) != bool(pairs):
        raise ConfigError("give either --data, clips to add noise to, or --pairs, real takes with truth")
    if clips < 1 or seconds <= 2 * SKIPPED_S or min(rate) <= 0:
        raise ConfigError(f"--clips must be at least 1, --seconds more than {2 * SKIPPED_S:g}, --rate positive")
    if data is None:
        rows = tuned_on_pairs(pairs, at_frames)
    else:
        rows = tuned_on_clips(data, clips, seconds, rate, at_frames, noise, seed)
    print(f"written: {write_json(out, merged(out, rows, typed))}, {len(rows)} settings")
    return 0


def tuned_on_pairs(files: Sequence[Path], at_frames: Sequence[int]) -> list[dict[str, Any]]:
    """Rows whose noise is the source's name, without what stands in brackets after it."""
    pairs = [pair for pair in read_pairs(files) if pair.subject not in RENDERED_HELD_OUT]
    if not pairs:
        raise ConfigError("--pairs: all of these are held-out subjects; tune on others")
    source, rate_hz = pairs[0].source.split(" (")[0], round(pairs[0].rate_hz, 3)
    rows = []
    for frames in at_frames:
        case = Case(source, rate_hz, frames / RATE_HZ)
        trial = Trial.of_pairs(pairs, case.at_s)
        rows += [tune(trial, case, method) | {"data": source, "clips": len(pairs)} for method in SPACES]
    return rows


def tuned_on_clips(
    data: str,
    clips: int,
    seconds: float,
    rate: Sequence[float],
    at_frames: Sequence[int],
    noise: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows for every rate, noise and time asked for."""
    rows = []
    try:
        takes = {each: load_takes(data, "train", clips, seconds, each) for each in rate}
    except ClipError as error:
        raise ConfigError(str(error)) from error
    cases = [Case(name, each, frames / RATE_HZ) for each, name, frames in product(rate, noise, at_frames)]
    origin = {"data": Path(data).name, "clips": clips, "seconds": seconds, "seed": seed}
    for case in track(cases, description="tuning", console=Console(stderr=True), transient=True):
        trial = Trial.of(takes[case.rate_hz], case, seed)
        rows += [tune(trial, case, method) | origin for method in SPACES]
    return rows


if __name__ == "__main__":
    sys.exit(main(["bench", "tune", *sys.argv[1:]]))
