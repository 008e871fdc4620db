"""``hpstm bench noise``: what `hpstm adapt` compares a stream with, measured by the figures that it finds in one.

The noise of training as the trainer draws it, on procedural people, and the sources on which `hpstm bench targets`
scored the filter; with those scores, out of its table.
"""

from __future__ import annotations

import json as json_text
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter

from bench.accuracy.bodies import Body
from bench.accuracy.cases import CASES
from bench.accuracy.pairs import Pair, read_pairs
from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import J
from streamer.adapt.figures import figures, proportions
from streamer.adapt.known import FILE, row_of
from streamer.adapt.track import F64, Bools, Track, track_of
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from model.motion.endless import Motion

TABLE = Path(__file__).parents[1] / "results" / "targets.md"
SEQUENCES, STEPS, SEED = 160, 480, 7  # of training
BATCH = 8
BODIES, SECONDS, RATE_HZ = 6, 30.0, 30.0  # of a case
SHORTEST_S = 6.0  # of a take
_DIGITS = 4
_ROW = re.compile(
    r"^\| (?P<target>[^|]+?) \| (?P<where>[^|]+?) \|[^|]*\| (?P<value>-?[\d.]+)(?: (?P<unit>[^ |]+))? \|$"
)

_TUNED = "rendered (held out), aistpp: MPJPE against the best tuned filter"
_WORSE = "the same: takes worse than the input"
_ONE = "error that moves, against the input: one camera (rendered, h36m lifted)"
_SEVERAL, _DEPTH = "the same: several cameras (aistpp)", "the same: depth-like (kinect's joints, realistic noise)"
_CLEAN, _WHITE = "clean, any definition, after 4 s", "10 mm white, any definition, against the best tuned filter"
_OTHER = ("h36m", "coco", "mediapipe", "kinect")  # definitions of joints that detectors have
_STILL, _THROWN = "stillness at 2, 5, 10 mm: against tuned One-Euro", "gross outliers, against the median"


@dataclass(frozen=True)
class Kind:
    """A known source: pairs of a folder of the data, or cases on procedural people; and where its scores are.

    ``scores``: by the score's name, the target in the table of `hpstm bench targets` and the rows' names, of which the
    worst counts.
    """

    title: str
    layout: str
    scores: dict[str, tuple[str, tuple[str, ...]]]
    folder: str = ""
    cases: tuple[str, ...] = ()
    suffix: str = ""


SOURCES: dict[str, Kind] = {
    "mediapipe": Kind(
        "MediaPipe Pose, one camera, not smoothed (rendered people)", "mediapipe_33",
        {"tuned": (_TUNED, ("rendered",)), "moves": (_ONE, ("rendered",)), "worse": (_WORSE, ("rendered",))},
        folder="rendered",
    ),
    "cameras": Kind(
        "two to four cameras, triangulated (street dance, AIST++)", "coco_17",
        {"tuned": (_TUNED, ("aistpp",)), "moves": (_SEVERAL, ("aistpp",)), "worse": (_WORSE, ("aistpp",))},
        folder="aistpp",
    ),
    "lifted": Kind(
        "a simulated lifter of one camera's 2D keypoints", "h36m_17", {"moves": (_ONE, ("h36m, lifted",))},
        cases=("h36m, lifted",),
    ),
    "depth": Kind(
        "a simulated depth camera or single-frame estimator", "kinect_25", {"moves": (_DEPTH, ("kinect, realistic",))},
        cases=("kinect, realistic",),
    ),
    "white": Kind(
        "white noise of 10 mm, our own joints", "smpl_24",
        {"tuned": (_WHITE, ("own, 10 mm",)), "tuned_other": (_WHITE, tuple(f"{kind}, 10 mm" for kind in _OTHER))},
        cases=("own, 10 mm",),
    ),
    "outliers": Kind(
        "white noise of 10 mm with one joint in twenty thrown far off", "smpl_24",
        {"median": (_THROWN, ("gross outliers",))}, cases=("gross outliers",),
    ),
    "still": Kind(
        "a quiet sensor, 2 mm", "smpl_24", {"still": (_STILL, ("people, 2 mm", "a held pose, 2 mm"))},
        cases=("people, 2 mm",), suffix=", jitter",
    ),
    "clean": Kind(
        "clean mocap: suits, optical systems, animation", "smpl_24",
        {
            "clean_mm": (_CLEAN, ("own, clean", "suit, clean", "bvh, clean")),
            "clean_other_mm": (_CLEAN, tuple(f"{kind}, clean" for kind in _OTHER)),
        },
        cases=("own, clean", "suit, clean"),
    ),
}  # fmt: skip


def people() -> list[Body]:
    """Procedural people for the cases."""
    times_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    bodies = []
    for seed in range(BODIES):
        actor = SyntheticActor(seed)
        rotations, _ = actor.poses(times_s)
        bodies.append(Body(f"actor {seed}", times_s, actor.positions(times_s), rotations))
    return bodies


def motion() -> Motion:
    """The same people, as what training draws its motions from."""
    from model.motion.endless import Motion, regauge
    from model.prepare import Clip

    clips = []
    for seed in range(BODIES):
        actor = SyntheticActor(seed)
        rotations, root = actor.poses(np.arange(round(4 * SECONDS * RATE_HZ)) / RATE_HZ)
        offsets = regauge(actor.offsets_m)
        positions = np.repeat(root[:, None], J, 1)
        clips.append(Clip(f"actor {seed}", positions, rotations, RATE_HZ, offsets))
    return Motion.from_clips(clips)


def training_tracks(count: int, seed: int = SEED) -> Iterator[Track]:
    """Streams as the trainer draws them: its sources, rates and noise, ``count`` of them."""
    from model.training.dataset import Sampler

    sampler = Sampler(motion(), seed)
    for first in range(0, count, BATCH):
        drawn = sampler.draw(min(BATCH, count - first), STEPS)
        xyz = drawn.frames.positions[:, :, 0].transpose(2, 3).double().numpy()
        present, trust, derived = (
            part[:, :, 0, 0].numpy() for part in (drawn.frames.mask, drawn.frames.confidence, drawn.frames.derived)
        )
        for row, times_s in enumerate(drawn.times_s.numpy()):
            own = (present[row] > 0) & (derived[row] == 0)
            yield _own(times_s - times_s[0], xyz[row], own, trust[row])


def _own(times_s: F64, xyz: F64, own: Bools, trust: F64) -> Track:
    told = trust.astype(np.float64) if (trust[own] < 1.0).any() else None
    return Track("", times_s, np.where(own[..., None], xyz, np.nan), np.asarray(own.any(0)), told)


def source_pairs(kind: Kind, data: Path | None) -> list[Pair]:
    """The takes of a known source. Raises ConfigError: its folder has none."""
    if not kind.folder:
        bodies = people()
        return [CASES[case].pair(body) for case in kind.cases for body in bodies]
    files = sorted((data / kind.folder).glob("*.npz")) if data is not None else []
    if not files:
        raise ConfigError(f"{data}: no {kind.folder}/*.npz in it")
    return [pair for pair in read_pairs(files) if pair.times_s[-1] - pair.times_s[0] >= SHORTEST_S]


def rows(tracks: Iterable[Track]) -> dict[str, list[float | None]]:
    """The figures of some streams, by their names."""
    found = [row_of(figures(track)) for track in tracks]
    return {key: [_short(row[key]) for row in found] for key in found[0]}


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def training(tracks: Sequence[Track]) -> dict[str, Any]:
    """Figures of what training draws, and the range of each bone's proportion in it."""
    shapes = [proportions(track) for track in tracks]
    names = sorted({name for shape in shapes for name in shape})
    bones = {name: [shape[name] for shape in shapes if np.isfinite(shape.get(name, np.nan))] for name in names}
    ranges = {name: [_short(x) for x in np.percentile(values, (1, 50, 99))] for name, values in bones.items() if values}
    return {"figures": rows(tracks), "proportions": ranges}


def scores_of(kind: Kind, table: dict[tuple[str, str], float]) -> dict[str, list[float]]:
    """A source's scores, for now and -100 ms; the worst of its rows. Raises ConfigError: the table lacks one."""
    found = {}
    for name, (target, where) in kind.scores.items():
        try:
            found[name] = [
                max(table[target, f"{one}, {when}{kind.suffix}"] for one in where) for when in ("now", "-100 ms")
            ]
        except KeyError as error:
            raise ConfigError(f"the table of targets has no row {error}; write it with: hpstm bench targets") from error
    return found


def read_table(path: Path) -> tuple[dict[tuple[str, str], float], str]:
    """Every value of what `hpstm bench targets --markdown` wrote (per cent as shares), and its weights.

    Raises:
        ConfigError: it is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--targets {path}: {error.strerror}") from error
    table = {}
    for line in text.splitlines():
        if row := _ROW.match(line):
            table[row["target"], row["where"]] = _of(row["value"], row["unit"])
    weights = re.search(r"weights ([0-9a-f]{12})", text)
    if not table or weights is None:
        raise ConfigError(f"--targets {path}: not a table of hpstm bench targets --markdown")
    return table, weights[1]


def _of(value: str, unit: str | None) -> float:
    return round(float(value) / 100.0, 6) if unit == "%" else float(value)


def command(
    data: Path | None = None,
    /,
    *,
    targets: Annotated[Path, Parameter(show_default="bench/results/targets.md")] = TABLE,
    out: Annotated[Path, Parameter(show_default="streamer/adapt/known.json")] = FILE,
) -> int:
    """Measure what `hpstm adapt` compares a stream with: the noise of training, and sources that were scored.

    Args:
        data: The folder of rendered/ and aistpp/; none: their figures stay as they are in OUT, and scores are renewed.
        targets: Table of scores, as bench targets --markdown writes it.
        out: The file to write.
    """
    table, weights = read_table(targets)
    before: dict[str, Any] = {}
    if data is None:
        try:
            before = json_text.loads(out.read_text(encoding="utf-8"))["sources"]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"--out {out}: no figures of real sources in it; give the folder of the data") from error
    sources = {}
    for name, kind in SOURCES.items():
        if kind.folder and data is None:
            measured = before[name]["figures"]
        else:
            measured = rows(track_of(pair.frames, get_layout) for pair in source_pairs(kind, data))
        sources[name] = {
            "title": kind.title, "layout": kind.layout, "figures": measured, "scores": scores_of(kind, table)
        }  # fmt: skip
        print(f"{name}: {len(measured['jitter_mm'])} streams", file=sys.stderr)
    known = {"weights": weights, "training": training(list(training_tracks(SEQUENCES))), "sources": sources}
    out.write_text(_text(known), encoding="utf-8")
    print(out)
    return 0


def _text(known: dict[str, Any]) -> str:
    """JSON with a line a list, so that changes can be read."""
    text = json_text.dumps(known, indent=1)
    return re.sub(r"\[\s+([^\[\]]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text) + "\n"
