"""A source by its streams, beside what training draws and the sources that were scored; whether the filter helps there.

Every sentence that has a number of a score takes it from known.json; where no score is, it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model.layouts import Layout
from streamer.adapt.figures import Figures
from streamer.adapt.known import Knowledge, Known, Near, Scores, nearest, row_of

EVEN = 0.05  # a score within this of nothing is no difference
HELPS, MAY, EVENS = "helps", "may help", "about like a tuned filter"
NOTHING, UNKNOWN = "nothing to gain", "not known"
# Figures of which more is worse: what it is.
NOISE = {
    "jitter_mm": "fast noise",
    "slow_mm": "slow noise",
    "bone_spread": "limbs that change length",
    "outliers": "joints thrown far off",
    "sides_per_min": "left and right exchanged",
    "missing": "missing joints",
    "stalls_per_min": "stalls",
    "step_spread": "uneven times",
    "axis_ratio": "noise along one axis",
}
_SAME, _SIMULATED = "the same", "it is simulated, no real source"
_TUNED = "that of the best of four filters tuned to it by hindsight"


@dataclass(frozen=True)
class Source:
    """Streams of one layout, as one: ``bones`` as ``proportions`` has them, ``near`` the nearest known source first."""

    layout: Layout
    figures: Figures
    bones: dict[str, float]
    warnings: tuple[str, ...]
    near: Sequence[Near]
    known: Knowledge

    @classmethod
    def of(
        cls, layout: Layout, figures: Figures, bones: dict[str, float], warnings: Sequence[str], known: Knowledge
    ) -> Source:
        return cls(layout, figures, bones, tuple(warnings), nearest(figures, known), known)

    @property
    def nearest(self) -> Near:
        return self.near[0]

    def beyond(self) -> list[str]:
        """What is more here than in 95 of 100 sequences of training."""
        here = row_of(self.figures)
        return [words for key, words in NOISE.items() if here[key] > self.known.range_of(key)[2]]

    def unusual(self) -> dict[str, tuple[float, float, float]]:
        """Bones of a proportion that 2 of 100 sources in training have: theirs, and from where to where the others'."""
        found = {}
        for name, ratio in self.bones.items():
            low, _, high = self.known.proportions.get(name, (0.0, 0.0, np.inf))
            if name != "size" and np.isfinite(ratio) and not low <= ratio <= high:
                found[name] = (ratio, low, high)
        return found


class Verdict(NamedTuple):
    """HELPS, MAY (helped on a simulated source, or on one only somewhat like), EVENS, NOTHING or UNKNOWN; and why."""

    word: str
    text: str


def verdict(source: Source) -> Verdict:
    """Whether the filter is known to help on such a source."""
    near = source.nearest
    away = f"{near.steps:.1f} steps away"
    if near.word == "unlike":
        text = f"No source that was scored is like this one. The nearest is {near.source.title}, {away}"
        what = [f"{key} is {'more' if steps > 0 else 'less'} here" for key, steps in near.differs[:2]]
        return Verdict(UNKNOWN, f"{text}: {', '.join(what)}.")
    word, said = _scored(near.source)
    if word == HELPS and not (near.word == "like" and near.source.real):
        word = MAY
    return Verdict(word, f"{near.word.capitalize()} {near.source.title}, {away}. {said}")


def _scored(source: Known) -> tuple[str, str]:
    """The word for a known source, and what was found there."""
    scores = source.scores
    if "tuned" in scores:
        return (HELPS if max(scores["tuned"]) < -EVEN else EVENS), _against_tuned(scores)
    if "moves" in scores:
        now, delayed = scores["moves"]
        said = f"There {percent(-now)} of the error that moves went, {percent(-delayed)} with 0.1 s of delay"
        return (HELPS if max(now, delayed) < -EVEN else EVENS), f"{said}; {_SIMULATED}."
    if "median" in scores:
        said = f"There the error was {_beside(scores['median'], 'that of a median of five')}"
        return (HELPS if scores["median"].now < -EVEN else EVENS), f"{said}; {_SIMULATED}."
    if "still" in scores:
        times = 1.0 + scores["still"].now
        return NOTHING, f"There a body at rest shook {times:.1f} times as much as through a tuned One-Euro filter."
    now, other = scores["clean_mm"].now, scores["clean_other_mm"].now
    said = f"Clean in, clean out: {now:g} mm off, with joints as detectors define them up to {other:g} mm"
    return NOTHING, f"{said}. What there is to have is a skeleton, turns, gaps that are filled, prediction."


def _against_tuned(scores: dict[str, Scores]) -> str:
    said = [f"There the error was {_beside(scores['tuned'], _TUNED)}"]
    if "tuned_other" in scores:
        now, delayed = map(_against, scores["tuned_other"])
        said.append(f"with joints as detectors define them {now} and {delayed}")
    if "moves" in scores:
        now, delayed = (percent(-score) for score in scores["moves"])
        said.append(f"of the error that moves {now} and {delayed} went")
    if "worse" in scores and max(scores["worse"]) == 0.0:
        said.append("no take came out worse than it went in")
    elif "worse" in scores:
        now, delayed = map(percent, scores["worse"])
        said.append(f"{now} of takes came out worse than they went in, {delayed} with delay")
    return f"{'; '.join(said)}."


def _beside(scores: Scores, what: str) -> str:
    """Both scores in words, against ``what``."""
    now, delayed = map(_against, scores)
    return f"{'as large as' if now == _SAME else now} {what}, with 0.1 s of delay {delayed}"


def _against(share: float) -> str:
    return _SAME if abs(share) < 0.005 else f"{percent(abs(share))} {'below' if share < 0 else 'above'}"


def percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"
