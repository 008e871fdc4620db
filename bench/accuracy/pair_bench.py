"""``hpstm evaluate --pairs``: the live filter on real estimators' takes with truth, beside the best of today's filters.

A filter of today is given every setting that it was ever tuned to, and per source and time asked for the best of them
by hindsight: the "best tuned filter" is a bound that nobody reaches who does not know the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.accuracy import tuned
from bench.accuracy.answers import Answers
from bench.accuracy.baselines import Baseline
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.methods import FILTER, SMOOTHERS
from bench.accuracy.pair_methods import INPUT, TUNED, SideBySide, filters, live_answers, peer_answers, side_by_side
from bench.accuracy.pair_scores import PairTruth
from bench.accuracy.pairs import Pair, told
from bench.accuracy.scoring import Scores, averaged
from bench.report import machine
from bench.track import Floats
from streamer.runtimes.block import Runtime

BEST = "best tuned filter"
ALL = "all"  # the source of the rows over all takes
DEFAULT_METHODS = (INPUT, "median of 5", "One-Euro", "Kalman", "Holt", "Savitzky-Golay", FILTER)
Row = dict[str, Any]
Takes = dict[str, Scores]  # by the take's name
Live = Callable[[Pair, Sequence[float]], dict[str, list[Answers]]]  # what the filter says of a take, by method


@dataclass(frozen=True)
class Task:
    """Takes of one source, and how they are scored.

    ``key`` is the error by which filters are chosen and takes compared; today's filters have the settings for
    ``noises``, the best of them by hindsight (none: all that there are); what comes before ``after_s`` is not scored.
    """

    source: str
    pairs: Sequence[Pair]
    key: str = "mpjpe_root_mm"
    noises: Sequence[str] = ()
    after_s: float = 0.0

    def truths(self, at_s: float) -> dict[str, PairTruth]:
        """By the take's name."""
        return {pair.name: PairTruth.of(pair, at_s, self.after_s) for pair in self.pairs}

    def mean(self, takes: Takes) -> float:
        """The error over takes, weighted by their frames."""
        return float(averaged(list(takes.values()), draws=1)[self.key])


def run(
    pairs: Sequence[Pair],
    runtime: Runtime,
    at_s: Sequence[float] = (0.0, -0.1),
    methods: Sequence[str] = DEFAULT_METHODS,
    known: Sequence[str] = (),
) -> list[Row]:
    """One row for each source (and all of them), time asked for and method; then for sources that are told what is
    ``known``, see pairs.py.

    A row: {"source", "at_s", "method", "settings": of the best filter, "worse": share of takes with more error than the
    input, "broken": poses that hold NaN, "against_best" and "against_input": error over the best tuned filter's and the
    input's, with the interval over takes, "scores": means over takes, "takes": scores of each}.
    """
    rows = _source_by_source(pairs, runtime, at_s, methods)
    if len({pair.source for pair in pairs}) > 1:
        rows += _pooled(rows)
    return rows + [row for what in known for row in _source_by_source(told(pairs, what), runtime, at_s, methods)]


def _source_by_source(
    pairs: Sequence[Pair], runtime: Runtime, at_s: Sequence[float], methods: Sequence[str]
) -> list[Row]:
    rows: list[Row] = []
    for source in dict.fromkeys(pair.source for pair in pairs):
        task = Task(source, [pair for pair in pairs if pair.source == source])
        rows += rows_of(task, at_s, methods, partial(live_answers, runtime))
    return rows


def rows_of(task: Task, at_s: Sequence[float], methods: Sequence[str], live: Live) -> list[Row]:
    """The rows of one source; ``live`` is the filter under test."""
    truths = {at: task.truths(at) for at in at_s}
    found: dict[float, dict[str, tuple[str, Takes]]] = {at: {} for at in at_s}
    groups = side_by_side(task.pairs)
    for at in at_s:
        for method in dict.fromkeys((INPUT, *[m for m in methods if m in SMOOTHERS])):
            found[at][method] = _best_setting(task, groups, method, at, truths[at])
        tuned_ones = {method: found[at][method] for method in TUNED if method in found[at]}
        if tuned_ones:
            best = min(tuned_ones, key=lambda method: task.mean(tuned_ones[method][1]))
            found[at][BEST] = (f"{best}, {tuned_ones[best][0]}", tuned_ones[best][1])
    for pair in task.pairs:
        for method, answers in _take_by_take(pair, at_s, methods, live):
            for at, one in zip(at_s, answers, strict=True):
                found[at].setdefault(method, ("", {}))[1][pair.name] = truths[at][pair.name].scores(one)
    return [row_of(task, at, method, found[at]) for at in at_s for method in found[at]]


def _take_by_take(
    pair: Pair, at_s: Sequence[float], methods: Sequence[str], live: Live
) -> list[tuple[str, list[Answers]]]:
    said = [(method, peer_answers(method, pair, at_s)) for method in methods if method in WHOLE_TAKE]
    return said + (list(live(pair, at_s).items()) if FILTER in methods else [])


def _best_setting(
    task: Task, groups: Sequence[SideBySide], method: str, at_s: float, truths: dict[str, PairTruth]
) -> tuple[str, Takes]:
    """The setting of least error of all, by the noise it was tuned to, and the takes' scores with it."""

    def scored(baseline: Baseline) -> Takes:
        answers = (one for group in groups for one in group.answers(baseline))
        return {pair.name: truths[pair.name].scores(said) for pair, said in answers}

    settings = filters(method, task.pairs[0].rate_hz, at_s, task.noises)
    tried = [(noise, scored(baseline)) for noise, baseline in settings]
    return tried[0] if len(tried) == 1 else min(tried, key=lambda one: task.mean(one[1]))


def row_of(task: Task, at_s: float, method: str, found: dict[str, tuple[str, Takes]]) -> Row:
    """One method's row beside those of the input and the best filter."""
    (setting, takes), before = found[method], found[INPUT][1]
    scored = {name: scores for name, scores in takes.items() if scores["frames"]}
    broken = sum(scores["broken"] for scores in takes.values())
    worse = [scores[task.key] > before[name][task.key] for name, scores in scored.items()]
    row: Row = {
        "source": task.source, "at_s": at_s, "method": method, "settings": setting,
        "worse": float(np.mean(worse)) if worse else 1.0, "broken": broken,
        "scores": averaged(list(takes.values())), "takes": takes,
    }  # fmt: skip
    if not scored:  # every pose of every take is broken
        return row
    if BEST in found:
        row["against_best"] = ratio(takes, found[BEST][1], task.key)
    row["against_input"] = {key: ratio(takes, before, key) for key in (task.key, "moves_mm")}
    return row


def ratio(takes: Takes, others: Takes, key: str, draws: int = 2000) -> list[float]:
    """A mean over takes as a part of another method's on the same takes, and its bootstrap 95 % interval over takes."""
    names = [name for name in takes if takes[name]["frames"] and others[name]["frames"]]
    frames, ours, theirs = (
        np.array([values[name][k] for name in names], float)
        for values, k in ((takes, "frames"), (takes, key), (others, key))
    )
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))

    def part(index: Any) -> Floats:
        weights = frames[index]
        theirs_there = np.maximum((weights * theirs[index]).sum(-1), 1e-9)
        return np.asarray((weights * ours[index]).sum(-1) / theirs_there)

    return [float(part(np.arange(len(names)))), *map(float, np.percentile(part(drawn), [2.5, 97.5]))]


def _pooled(rows: Sequence[Row]) -> list[Row]:
    """The same over the takes of all sources; a filter has the best setting of each."""
    pooled, task = [], Task(ALL, ())
    for at in dict.fromkeys(row["at_s"] for row in rows):
        methods: dict[str, tuple[str, Takes]] = {}
        for row in rows:
            if row["at_s"] == at:
                methods.setdefault(row["method"], ("of each source", {}))[1].update(
                    {f"{row['source']} {name}": scores for name, scores in row["takes"].items()}
                )
        pooled += [row_of(task, at, method, methods) for method in methods]
    return pooled


def measure(
    pairs: Sequence[Pair], runtime: Runtime, at_s: Sequence[float], methods: Sequence[str], known: Sequence[str] = ()
) -> Row:
    """The rows of ``run`` with what they rest on, as it is written to JSON."""
    sources = [pair.source for takes in (pairs, *(told(pairs, what) for what in known)) for pair in takes]
    return {
        "benchmark": "pairs",
        "machine": machine(),
        "settings": {
            "model": runtime.contract.name, "weights_sha256": runtime.contract.weights_sha256,
            "takes": dict(Counter(sources)),
            "tuned": tuned.summary(),
        },
        "rows": run(pairs, runtime, at_s, methods, known),
    }  # fmt: skip
