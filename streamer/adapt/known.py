"""What is known: the figures of the noise in training, and of sources on which the filter was scored, with the scores.

known.json beside this file is written by ``hpstm bench noise``: every row is a stream, measured by figures.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.adapt.figures import Figures
from streamer.adapt.track import F64

FILE = Path(__file__).with_name("known.json")
# The figures that are compared; of each, what differs little is told apart by no one: (least, a step). With a least
# the step is a factor, without one a difference.
COMPARED: dict[str, tuple[float | None, float]] = {
    "jitter_mm": (0.5, 1.6), "bone_spread": (0.003, 1.6), "memory": (None, 0.2), "axis_ratio": (1.0, 1.4),
    "outliers": (0.001, 3.0), "sides_per_min": (1.0, 4.0), "missing": (0.01, 5.0),
}  # fmt: skip
SHOWN = (
    "rate_hz", "step_spread", "stalls_per_min", "missing", "gaps_per_min", "gap_s", "repeated", "doubted",
    "confidence_tells", "jitter_mm", "axis_ratio", "bone_spread", "slow_mm", "memory", "long_memory", "outliers",
    "outlier_mm", "swaps_per_min", "flips_per_min",
)  # fmt: skip
RIGID = 0.003  # limbs whose lengths vary less have a skeleton behind them: they show no slow noise
QUIET_MM = 1.0  # fast noise below which there is nothing to smooth
LIKE, SOMEWHAT = 1.0, 1.8  # steps, root mean square over the figures: farther is unlike


class Scores(NamedTuple):
    """What a bench found, for now and with 0.1 s of delay; a share, against what the name says: -.1 is 10 % less."""

    now: float
    delayed: float


@dataclass(frozen=True)
class Known:
    """A source that was measured: its streams' figures (N,) each, and scores by what they are against.

    Scores: "tuned": error, against the best of four filters tuned for it by hindsight; "moves": the error that moves,
    against the input's; "worse": share of takes that came out worse than they went in; "clean_mm": error on clean
    input [mm]; "still": jitter when standing, against tuned One-Euro; "median": error, against a median of five.
    Those with "other" are of joints as detectors define them, the worst definition.
    """

    name: str
    title: str
    layout: str
    figures: dict[str, F64]
    scores: dict[str, Scores]

    @property
    def real(self) -> bool:
        """Whether it was scored take by take, which only real sources were."""
        return "worse" in self.scores

    def middle(self, key: str) -> float:
        known = self.figures[key][np.isfinite(self.figures[key])]
        return float(np.median(known)) if len(known) else float("nan")


@dataclass(frozen=True)
class Knowledge:
    """``training``: figures (N,) of sequences that training drew; ``proportions``: of each bone there, 1, 50, 99 %."""

    weights: str
    training: Mapping[str, F64]
    proportions: Mapping[str, tuple[float, float, float]]
    sources: tuple[Known, ...]

    def range_of(self, key: str) -> tuple[float, float, float]:
        """5, 50, 95 % of a figure in training."""
        known = self.training[key][np.isfinite(self.training[key])]
        low, middle, high = np.percentile(known, (5, 50, 95)) if len(known) else (np.nan, np.nan, np.nan)
        return float(low), float(middle), float(high)


class Near(NamedTuple):
    """A known source, how far a stream is from it in steps, and the figures that differ most: (name, steps)."""

    source: Known
    steps: float
    differs: list[tuple[str, float]]

    @property
    def word(self) -> str:
        return "like" if self.steps <= LIKE else "somewhat like" if self.steps <= SOMEWHAT else "unlike"


def row_of(found: Figures) -> dict[str, float]:
    """The figures that are kept of a stream."""
    row = {key: float(getattr(found, key)) for key in SHOWN}
    if found.bone_spread < RIGID:  # nothing remembers anything there
        row["memory"] = row["long_memory"] = float("nan")
    if found.jitter_mm < QUIET_MM:  # nor has it a direction
        row["axis_ratio"] = float("nan")
    return row | {"sides_per_min": found.swaps_per_min + found.flips_per_min}


def nearest(found: Figures, knowledge: Knowledge) -> list[Near]:
    """The known sources, the nearest first."""
    row = row_of(found)
    return sorted((_near(row, source) for source in knowledge.sources), key=lambda near: near.steps)


def _near(row: Mapping[str, float], source: Known) -> Near:
    steps = {}
    for key, (least, step) in COMPARED.items():
        here, there = row[key], source.middle(key)
        if not (np.isfinite(here) and np.isfinite(there)):
            continue
        if least is None:
            steps[key] = (here - there) / step
        else:
            steps[key] = float(np.log(max(here, least) / max(there, least)) / np.log(step))
    mean = float(np.sqrt(np.mean(np.square(list(steps.values()))))) if steps else float("inf")
    return Near(source, mean, sorted(steps.items(), key=lambda item: -abs(item[1])))


@lru_cache(maxsize=1)
def knowledge() -> Knowledge:
    """What known.json says."""
    return knowledge_of(json.loads(FILE.read_text(encoding="utf-8")))


def knowledge_of(data: Mapping[str, Any]) -> Knowledge:
    sources = tuple(
        Known(
            name, of["title"], of["layout"], _rows(of["figures"]),
            {key: Scores(*value) for key, value in of["scores"].items()},
        )
        for name, of in data["sources"].items()
    )  # fmt: skip
    proportions = {name: (low, middle, high) for name, (low, middle, high) in data["training"]["proportions"].items()}
    return Knowledge(data["weights"], _rows(data["training"]["figures"]), proportions, sources)


def _rows(columns: Mapping[str, Any]) -> dict[str, F64]:
    return {key: np.array([np.nan if x is None else x for x in values], np.float64) for key, values in columns.items()}
