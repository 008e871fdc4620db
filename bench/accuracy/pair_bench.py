"""``hpstm evaluate --pairs``: the live filter on real estimators' takes with truth, beside the best of today's filters.

A filter of today is given every setting that it was ever tuned to, and per source and time asked for the best of them
by hindsight: the "best tuned filter" is a bound that nobody reaches who does not know the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.accuracy import tuned
from bench.accuracy.answers import Answers
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.methods import FILTER, SMOOTHERS
from bench.accuracy.pair_methods import INPUT, TUNED, SideBySide, filters, live_answers, peer_answers, side_by_side
from bench.accuracy.pair_scores import PairTruth
from bench.accuracy.pairs import Pair
from bench.accuracy.scoring import Scores, averaged
from bench.report import machine
from bench.track import Floats
from streamer.runtimes.block import Runtime

BEST = "best tuned filter"
ALL = "all"  # the source of the rows over all takes
DEFAULT_METHODS = (INPUT, "median of 5", "One-Euro", "Kalman", "Savitzky-Golay", FILTER)
Row = dict[str, Any]
Takes = dict[str, Scores]  # by the take's name


def run(
    pairs: Sequence[Pair],
    runtime: Runtime,
    at_s: Sequence[float] = (0.0, -0.1),
    methods: Sequence[str] = DEFAULT_METHODS,
) -> list[Row]:
    """One row for each source (and all of them), time asked for and method: {"source", "at_s", "method", "settings",
    "worse": share of takes with more error than the input, "against_best": MPJPE over the best tuned filter's, and its
    interval over takes, "scores": means over takes, "takes": scores of each}."""
    rows: list[Row] = []
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    for source in sources:
        rows += _of_source(source, [pair for pair in pairs if pair.source == source], runtime, at_s, methods)
    if len(sources) > 1:
        rows += _pooled(rows)
    return rows


def _of_source(
    source: str, pairs: Sequence[Pair], runtime: Runtime, at_s: Sequence[float], methods: Sequence[str]
) -> list[Row]:
    truths = {at: {pair.name: PairTruth.of(pair, at) for pair in pairs} for at in at_s}
    found: dict[float, dict[str, tuple[str, Takes]]] = {at: {} for at in at_s}
    groups = side_by_side(pairs)
    for at in at_s:
        for method in dict.fromkeys((INPUT, *[m for m in methods if m in SMOOTHERS])):
            found[at][method] = _best_setting(groups, method, at, truths[at])
        tuned = [found[at][method] for method in TUNED if method in found[at]]
        if tuned:
            setting, best = min(tuned, key=lambda one: mean_mm(one[1]))
            name = next(m for m in TUNED if found[at].get(m, ("", {}))[1] is best)
            found[at][BEST] = (f"{name}, {setting}", best)
    for pair in pairs:
        for method, answers in _take_by_take(runtime, pair, at_s, methods):
            for at, one in zip(at_s, answers, strict=True):
                found[at].setdefault(method, ("", {}))[1][pair.name] = truths[at][pair.name].scores(one)
    return [_row(source, at, method, *found[at][method], found[at]) for at in at_s for method in found[at]]


def _take_by_take(
    runtime: Runtime, pair: Pair, at_s: Sequence[float], methods: Sequence[str]
) -> list[tuple[str, list[Answers]]]:
    said = [(method, peer_answers(method, pair, at_s)) for method in methods if method in WHOLE_TAKE]
    return said + (list(live_answers(runtime, pair, at_s).items()) if FILTER in methods else [])


def _best_setting(
    groups: Sequence[SideBySide], method: str, at_s: float, truths: dict[str, PairTruth]
) -> tuple[str, Takes]:
    """The setting of least error of all, by the noise it was tuned to, and the takes' scores with it."""
    tried = [
        (
            noise,
            {pair.name: truths[pair.name].scores(said) for group in groups for pair, said in group.answers(baseline)},
        )
        for noise, baseline in filters(method, groups[0].pairs[0].rate_hz, at_s)
    ]
    return min(tried, key=lambda one: mean_mm(one[1]))


def mean_mm(takes: Takes) -> float:
    """MPJPE over takes, weighted by their frames."""
    return float(averaged(list(takes.values()), draws=1)["mpjpe_root_mm"])


def _row(
    source: str, at_s: float, method: str, setting: str, takes: Takes, others: dict[str, tuple[str, Takes]]
) -> Row:
    scored = {name: scores for name, scores in takes.items() if scores["frames"]}
    before = others[INPUT][1]
    worse = [s["mpjpe_root_mm"] > before[name]["mpjpe_root_mm"] for name, s in scored.items()]
    row: Row = {
        "source": source, "at_s": at_s, "method": method, "settings": setting,
        "worse": float(np.mean(worse)), "scores": averaged(list(takes.values())), "takes": takes,
    }  # fmt: skip
    if BEST in others:
        row["against_best"] = ratio(takes, others[BEST][1], "mpjpe_root_mm")
    row["against_input"] = {key: ratio(takes, before, key) for key in ("mpjpe_root_mm", "moves_mm")}
    return row


def ratio(takes: Takes, others: Takes, key: str, draws: int = 2000) -> list[float]:
    """A mean over takes as a part of another method's on the same takes, and its bootstrap 95 % interval over takes."""
    names = [name for name in takes if takes[name]["frames"]]
    frames, ours, theirs = (
        np.array([values[name][k] for name in names], float)
        for values, k in ((takes, "frames"), (takes, key), (others, key))
    )
    drawn = np.random.default_rng(0).integers(0, len(names), (draws, len(names)))

    def part(weights: Floats, index: Any = slice(None)) -> Floats:
        return np.asarray((weights[index] * ours[index]).sum(-1) / (weights[index] * theirs[index]).sum(-1))

    return [float(part(frames)), *map(float, np.percentile(part(frames, drawn), [2.5, 97.5]))]


def _pooled(rows: Sequence[Row]) -> list[Row]:
    """The same over the takes of all sources; a filter has the best setting of each."""
    pooled = []
    for at in dict.fromkeys(row["at_s"] for row in rows):
        methods: dict[str, tuple[str, Takes]] = {}
        for row in rows:
            if row["at_s"] == at:
                methods.setdefault(row["method"], ("of each source", {}))[1].update(
                    {f"{row['source']} {name}": scores for name, scores in row["takes"].items()}
                )
        pooled += [_row(ALL, at, method, *methods[method], methods) for method in methods]
    return pooled


def measure(pairs: Sequence[Pair], runtime: Runtime, at_s: Sequence[float], methods: Sequence[str]) -> Row:
    """The rows of ``run`` with what they rest on, as it is written to JSON."""
    return {
        "benchmark": "pairs",
        "machine": machine(),
        "settings": {
            "model": runtime.contract.name, "weights_sha256": runtime.contract.weights_sha256,
            "takes": dict(Counter(pair.source for pair in pairs)),
            "tuned": tuned.summary(),
        },
        "rows": run(pairs, runtime, at_s, methods),
    }  # fmt: skip
