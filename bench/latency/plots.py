"""The latency bench in two pictures: how late poses are, and where their time goes. matplotlib, no screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.latency.stages import p50
from bench.latency.tables import Result, ran
from bench.pictures import INK, save_with_legend, titled_figure
from bench.report import measured_line

COLOURS = ("#1565c0", "#e07b39", "#2e7d32", "#8e44ad", "#00838f")
OFFLINE_STYLES = ("-", "--")
LIMIT = "#c62828"
STAGE_COLOURS = {
    "decode": "#455a64", "checks, layout, fill": "#90a4ae", "features": "#e0a030", "encoder": "#1565c0",
    "pose head + FK": "#64a6e8", "step": "#5c6bc0", "encode": "#263238",
}  # fmt: skip


def pictures(result: Result, folder: Path) -> list[Path]:
    """Draws both into ``folder`` and returns their paths."""
    return [curves_picture(result, folder / "latency.png"), stages_picture(result, folder / "latency_stages.png")]


def curves_picture(result: Result, path: Path) -> Path:
    """Writes the distributions: for each time, the share of frames that took longer. Both axes are logarithmic."""
    figure, axes = _figure("One frame on one core", result, (9.2, 5.0))
    late = [1 - percent / 100 for percent in result["curve_percent"]]
    for colour, (name, row) in zip(COLOURS, ran(result).items()):
        batch = row["batches"][0]
        axes.plot(batch["push"]["curve_ms"], late, color=colour, linewidth=2.0, label=f"{name}: push")
        axes.plot(batch["step"]["curve_ms"], late, "--", color=colour, linewidth=1.4, label=f"{name}: step in it")
    for style, (name, timed) in zip(OFFLINE_STYLES, result["offline"]["runtimes"].items()):
        axes.plot(timed["curve_ms"], late, style, color=INK, linewidth=1.4, label=f"offline window in {name}")
    axes.set(xscale="log", yscale="log", ylim=(8e-4, 1.3))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel("ms", fontsize=9, color=INK)
    axes.set_ylabel("share of frames that take longer", fontsize=9, color=INK)
    axes.grid(color="#eceff1", linewidth=0.8)
    return save_with_legend(figure, axes, path)


def stages_picture(result: Result, path: Path) -> Path:
    """Writes the medians of the stages of one actor's pose, a bar a runtime; under each, what its step cannot beat."""
    rows = ran(result)
    figure, axes = _figure("Where a pose's time goes (p50)", result, (9.2, 1.9 + 0.75 * len(rows)))
    longest = max((sum(p50(timed) for timed in row["stages"].values()) for row in rows.values()), default=0.0)
    drawn: set[str] = set()
    for place, row in enumerate(rows.values()):
        left = 0.0
        for stage, timed in row["stages"].items():
            ms = max(0.0, p50(timed))
            if stage in ("features", "step"):  # where the network begins
                limit = row["batches"][0]["limit"]["limit_ms"]
                axes.plot([left, left + limit], [place + 0.34] * 2, color=LIMIT, linewidth=2.5, solid_capstyle="butt")
            label = "_" if stage in drawn else stage
            axes.barh(place, ms, 0.54, left, color=STAGE_COLOURS[stage], edgecolor="white", linewidth=0.6, label=label)
            if ms > 0.05 * longest:
                axes.text(left + ms / 2, place, f"{1e3 * ms:.0f}", ha="center", va="center", fontsize=8, color="white")
            drawn.add(stage)
            left += ms
        axes.text(left, place, f" {1e3 * left:.0f} µs", va="center", fontsize=9, color=INK)
    axes.plot([], [], color=LIMIT, linewidth=2.5, label="limit: reading the weights, or the arithmetic")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("ms", fontsize=9, color=INK)
    axes.grid(axis="x", color="#eceff1", linewidth=0.8)
    return save_with_legend(figure, axes, path)


def _figure(title: str, result: Result, size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = titled_figure(title, measured_line(result["machine"]), size)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_axisbelow(True)
    return figure, axes
