"""The wire, throughput and soak benches in pictures, the machine named in each. matplotlib, no screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.pictures import INK, save_with_legend, titled_figure
from bench.report import measured_line

RATE_COLOURS = ("#1565c0", "#2e7d32", "#e07b39", "#8e44ad", "#00838f", "#c9a227")


def latency_picture(result: dict[str, Any], folder: Path) -> Path:
    """Writes the distribution of latency, a panel for each transport, and returns its path."""
    transports = list(dict.fromkeys(row["transport"] for row in result["rows"]))
    figure, panels = _panels(
        transports, "Frame due → pose received", "ms, log scale", "of all frames", result, sharex=True
    )
    # The share that is still out, on a log axis: p99 and p99.9 are then as easy to read as the median.
    out = np.array([1 - percent / 100 for percent in result["curve_percent"]])
    rates = list(dict.fromkeys(row["rate_hz"] for row in result["rows"]))
    for axes, transport in zip(panels, transports):
        for row in (row for row in result["rows"] if row["transport"] == transport):
            bare, shown = "ratio_p50" not in row, out >= 1 / row["frames"]  # beyond is interpolated
            axes.plot(
                np.array(row["curve_ms"])[shown], out[shown], label=f"{row['what']}, {row['rate_hz']:g} Hz",
                color=RATE_COLOURS[rates.index(row["rate_hz"]) % len(RATE_COLOURS)],
                linestyle=":" if bare else "-", linewidth=1.2 if bare else 2.0,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(0.7 / max(row["frames"] for row in result["rows"]), 1.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(FixedLocator([0.5, 0.1, 0.01, 0.001, 0.0001]))
        axes.yaxis.set_major_formatter(FixedFormatter(["p50", "p90", "p99", "p99.9", "p99.99"]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
    return save_with_legend(figure, panels[0], folder / "wire_latency.png")


def throughput_picture(result: dict[str, Any], folder: Path) -> Path:
    """Writes p99 of the latency against the number of actors, a panel for each way in, and returns its path."""
    ways = list(dict.fromkeys(row["way"] for row in result["rows"]))
    figure, panels = _panels(
        ways, "How many actors", "actors, log scale", "p99 latency / frame time", result, sharex=True
    )
    for axes, way in zip(panels, ways):
        for n, row in enumerate(row for row in result["rows"] if row["way"] == way):
            share: dict[int, float] = {}  # of a number that was tried twice, the better
            for trial in row["trials"]:
                p99 = trial.latency.p99 * trial.rate_hz / 1e3
                share[trial.actors] = min(p99, share.get(trial.actors, p99))
            numbers, colour = sorted(share), RATE_COLOURS[n % len(RATE_COLOURS)]
            axes.plot(
                numbers, [share[actors] for actors in numbers], "o-", color=colour, markersize=4,
                label=f"{row['rate_hz']:g} Hz",
            )  # fmt: skip
            if row["most"] is not None:
                most = row["most"].actors
                axes.axvline(most, ymax=0.5, color=colour, linewidth=1.0, linestyle=":")
                axes.annotate(
                    f"{most}", (most, 0.03), xytext=(4, 0), textcoords="offset points", color=colour, fontsize=9
                )
        axes.axhline(1.0, color=INK, linewidth=1.0, linestyle="--")
        axes.set_ylim(0, 2)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return save_with_legend(figure, panels[0], folder / "throughput.png")


def soak_picture(result: dict[str, Any], folder: Path) -> Path:
    """Writes push time and resident memory over the simulated hours, and returns its path."""
    settings, series = result["settings"], result["series"]
    what = {"push_us": "processor time of a push, us", "resident_mib": "resident memory, MiB"}
    title = (
        f"{settings['hours']:.4g} h at {settings['rate_hz']:g} Hz, {result['pushes']:,} pushes, {settings['runtime']}"
    )
    figure, panels = _panels(list(what.values()), title, "simulated hours", "", result, sharex=True, sharey=False)
    for axes, name in zip(panels, what):
        axes.plot(series["hours"], series[name], color=RATE_COLOURS[0], linewidth=1.2, label="median of a stretch")
        axes.set_ylim(0, 1.3 * max(series[name]))  # from zero: growth that cannot be seen here is none
        axes.set_xlim(left=0)
    return save_with_legend(figure, panels[0], folder / "soak.png")


def _panels(
    titles: Sequence[str], title: str, x: str, y: str, result: dict[str, Any], sharex: bool = False, sharey: bool = True
) -> tuple[Figure, list[Any]]:
    figure = titled_figure(title, measured_line(result["machine"]), (5.2 * len(titles) + 0.6, 4.8))
    axes = list(figure.subplots(1, len(titles), squeeze=False, sharex=sharex, sharey=sharey).flat)
    for ax, name in zip(axes, titles):
        ax.set_title(name, fontsize=10, loc="left", color=INK)
        ax.set_xlabel(x, fontsize=9, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#eceff1", linewidth=0.8)
        ax.tick_params(colors=INK, labelsize=8)
    axes[0].set_ylabel(y, fontsize=9, color=INK)
    return figure, axes
