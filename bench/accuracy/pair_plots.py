"""Scores on pairs in pictures: every take's error, output against input, one PNG a source. matplotlib, no screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.accuracy.methods import FILTER
from bench.accuracy.pair_bench import ALL, BEST
from bench.accuracy.tables import when
from bench.pictures import INK, save_with_legend, titled_figure
from bench.report import measured_line

Row = dict[str, Any]
_STYLES = ((BEST, "#e69f00", "s"), (FILTER, "#1565c0", "o"), (f"{FILTER}, source's joints", "#009e73", "D"))


def draw(result: Row, folder: Path) -> list[Path]:
    """Writes the PNGs and returns their paths."""
    rows = [row for row in result["rows"] if row["source"] != ALL]
    sources = dict.fromkeys(row["source"] for row in rows)
    machine = measured_line(result["machine"])
    return [_source([row for row in rows if row["source"] == source], source, machine, folder) for source in sources]


def _source(rows: list[Row], source: str, machine: str, folder: Path) -> Path:
    """Two panels for each time asked for: all of the error, and what moves of it."""
    times = list(dict.fromkeys(row["at_s"] for row in rows))
    figure = titled_figure(
        f"{source}: one dot a take; below the line is better than the input", machine, (9, 4.2 * len(times))
    )
    axes = figure.subplots(len(times), 2, squeeze=False)
    for at, line in zip(times, axes):
        for ax, key, text in zip(line, ("mpjpe_root_mm", "moves_mm"), ("MPJPE", "error that moves")):
            _panel(ax, [row for row in rows if row["at_s"] == at], key)
            ax.set_title(f"{text}, pose for {when(at)}", fontsize=9, loc="left", color=INK)
    return save_with_legend(
        figure, axes[0][0], folder / f"pairs_{re.sub(r'[^a-z0-9]+', '_', source.lower()).strip('_')}.png"
    )


def _panel(ax: Any, rows: list[Row], key: str) -> None:
    takes = {row["method"]: {n: s[key] for n, s in row["takes"].items() if s["frames"]} for row in rows}
    before = takes["input"]
    top = 1.05 * max(max(values.values()) for values in takes.values())
    for method, colour, marker in _STYLES:
        if method in takes:
            names = list(takes[method])
            ax.scatter([before[n] for n in names], [takes[method][n] for n in names], s=16, c=colour, marker=marker,
                       label=method, alpha=0.8, linewidths=0)  # fmt: skip
    ax.plot([0, top], [0, top], color="#90a4ae", linewidth=0.8)
    ax.set(xlim=(0, top), ylim=(0, top), xlabel="input [mm]", ylabel="output [mm]")
    ax.grid(color="#eceff1", linewidth=0.8)
