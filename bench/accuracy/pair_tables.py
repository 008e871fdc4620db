"""Scores on pairs for people: tables on the screen and in Markdown, from the result that is written to JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.accuracy.pair_bench import ALL, BEST
from bench.accuracy.pair_methods import TUNED
from bench.accuracy.tables import Column, Row, Sheet, cells_of, when

SMOOTH: dict[str, Column] = {
    "Accel": ("scores", "accel_mm", 1),
    "jitter": ("scores", "jitter_m_s3", 0),
    "(true)": ("scores", "jitter_true_m_s3", 0),
    "1 sigma": ("scores", "in_1_sigma", 2),
    "moving": ("scores", "in_1_sigma_moving", 2),
}
PARTS: dict[str, Column] = {"moves": ("scores", "moves_mm", 1), "stays": ("scores", "stays_mm", 1)}
SPEEDS: dict[str, Column] = {
    "slow": ("scores", "slow_mm", 1),
    "medium": ("scores", "medium_mm", 1),
    "fast": ("scores", "fast_mm", 1),
    "lag ms": ("scores", "lag_ms", 0),
    "head °": ("scores", "head_deg", 1),
    "hands °": ("scores", "hands_deg", 1),
    "feet °": ("scores", "feet_deg", 1),
}
NOTE = """mm, from the middle of the hips, over the joints that the source gives, as they are; means over takes
weighted by frames. best: MPJPE against the best tuned filter's, %. worse: takes with more error than the input at the
same time, %. moves: what is left without each joint's constant offset in the axes of its bone, and against the
input's, %; stays: that constant. Tuned filters have the best of all settings that they were ever tuned to, by
hindsight, for each source and time: nobody who does not know the truth reaches the best tuned filter."""
SMOOTH_NOTE = """Accel mm/frame², jitter m/s³ beside the truth's own. 1 sigma: share of coordinates inside, .683 when
honest; moving: the same without the constants."""
DETAIL = """MPJPE of joints that move at less than 0.3, less than 1.5, more m/s from the middle of the hips. best: %,
with the bootstrap 95 % interval over takes. Head, hands, feet: median error of how they are turned, where the truth
says it."""


def sheets(result: Row) -> Iterator[tuple[Sheet, str]]:
    """The tables of a result, each with its note; the screen leaves each tuned filter's own rows to the file."""
    takes = ", ".join(f"{name} ({count})" for name, count in sorted(result["settings"]["takes"].items()))
    title = f"{result['settings']['model']} on takes of {takes}"
    brief = [row for row in result["rows"] if row["method"] not in TUNED]
    yield _sheet(title, ["MPJPE", "best", "worse", "moves %", *PARTS], _first, brief), NOTE
    yield _sheet("Smoothness and honesty", list(SMOOTH), lambda row: cells_of(row, SMOOTH), brief), SMOOTH_NOTE
    yield replace(_sheet("Every filter", ["95 %", "best 95 %", *SPEEDS], _second, result["rows"]), detail=True), DETAIL


def _sheet(title: str, columns: list[str], cells: Callable[[Row], list[str]], rows: list[Row]) -> Sheet:
    body = [[row["source"], when(row["at_s"]), _name(row), *cells(row)] for row in rows]
    return Sheet(title, ["source", "pose for", "method", *columns], body)


def _name(row: Row) -> str:
    if row["method"] == BEST and row["source"] != ALL:
        return f"best: {row['settings']}"
    return f"{row['method']} ({row['settings']})" if row["method"] in TUNED else row["method"]


def _percent(part: float) -> str:
    return f"{100 * part - 100:+.1f}"


def _first(row: Row) -> list[str]:
    best = _percent(row["against_best"][0]) if "against_best" in row else "-"
    moves = _percent(row["against_input"]["moves_mm"][0]) if "against_input" in row else "-"
    return [
        *cells_of(row, {"MPJPE": ("scores", "mpjpe_root_mm", 1)}),
        best,
        f"{100 * row['worse']:.0f}",
        moves,
        *cells_of(row, PARTS),
    ]


def _second(row: Row) -> list[str]:
    low, high = row["scores"].get("mpjpe_root_mm_95", (float("nan"), float("nan")))
    best = " to ".join(map(_percent, row["against_best"][1:])) if "against_best" in row else "-"
    return [f"{low:.1f}-{high:.1f}", best, *cells_of(row, SPEEDS)]
