"""The accuracy bench in pictures: against delay, against jitter, through a gap, calibration. matplotlib, no screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.methods import FILTER, METHODS
from bench.plots import INK
from bench.scoring import BACK_EDGES_S, GAP_EDGES_S

Row = dict[str, Any]

_COLOURS = ("#9e9e9e", "#e07b39", "#c9a227", "#8d6e63", "#2e7d32", "#8e44ad", "#00838f",
            "#d81b60", "#f48fb1", "#37474f", "#1565c0")  # fmt: skip
COLOURS = dict(zip(METHODS, _COLOURS, strict=True))
MARKERS = dict(zip(METHODS, "os^vDPX<>*o", strict=True))


def draw(result: Row, folder: Path) -> list[Path]:
    """Writes the PNGs that the result has data for, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    subtitle = "{model}, {clips} clips of {data}".format(**result["settings"])
    drawn = (
        ("accuracy_against_delay.png", _against_delay(result["rows"])),
        ("accuracy_against_jitter.png", _against_jitter(result["rows"])),
        ("error_through_a_gap.png", _through_gaps(result["rows"])),
        ("calibration.png", _calibration(result)),
    )
    paths = []
    for name, figure in drawn:
        if figure is not None:
            figure.text(0.99, 0.005, subtitle, ha="right", va="bottom", fontsize=7, color="#78909c")
            paths.append(folder / name)
            figure.savefig(paths[-1])
    return paths


def _panels(titles: Sequence[str], title: str, x: str, y: str) -> tuple[Figure, list[Any]]:
    """A figure of one panel a title, three a row."""
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    size = (max(6.5, 4.1 * columns), 1.1 + 3.2 * lines)
    figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, name in zip(axes, titles):
        ax.set_title(name, fontsize=10, loc="left", color=INK)
        ax.set_xlabel(x, fontsize=9, color=INK)
        ax.set_ylabel(y, fontsize=9, color=INK)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#eceff1", linewidth=0.8)
        ax.tick_params(colors=INK, labelsize=8)
    return figure, axes[: len(titles)]


def _legend(figure: Figure, ax: Any) -> None:
    handles, names = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _style(method: str) -> dict[str, Any]:
    mine = method == FILTER
    return {"color": COLOURS[method], "marker": MARKERS[method], "label": method, "linewidth": 2.4 if mine else 1.2,
            "markersize": 6 if mine else 4, "zorder": 3 if mine else 2}  # fmt: skip


def _groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """{noise and rate: {method: rows, the newest time asked for first}} of the rows that were scored."""
    rates = {row["rate_hz"] for row in rows}
    found: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: -float(row["at_s"])):
        if row["all"]["frames"]:
            name = row["noise"] + (f", {row['rate_hz']:g} Hz" if len(rates) > 1 else "")
            found.setdefault(name, {}).setdefault(row["method"], []).append(row)
    return found


def _against_delay(rows: Sequence[Row]) -> Figure | None:
    groups = _groups(rows)
    if not groups or len({row["at_s"] for row in rows}) < 2:
        return None
    figure, axes = _panels(list(groups), "Accuracy against delay", "delay [ms], negative: ahead", "MPJPE [mm]")
    for ax, methods in zip(axes, groups.values()):
        for method, at in methods.items():
            ax.plot([-1e3 * row["at_s"] for row in at], [row["all"]["mpjpe_root_mm"] for row in at], **_style(method))
        ax.set_ylim(bottom=0)
    _legend(figure, axes[0])
    return figure


def _against_jitter(rows: Sequence[Row]) -> Figure | None:
    """Each method's way over the delays from 0 on; the ring is delay 0."""
    groups = _groups([row for row in rows if row["at_s"] <= 0])
    if not groups:
        return None
    figure, axes = _panels(
        list(groups), "Accuracy against jitter, over the delays (ring: none)", "Accel [mm/frame²]", "MPJPE [mm]"
    )
    for ax, methods in zip(axes, groups.values()):
        for method, at in methods.items():
            x, y = [row["all"]["accel_mm"] for row in at], [row["all"]["mpjpe_root_mm"] for row in at]
            ax.plot(x, y, **_style(method))
            if at[0]["at_s"] == 0:
                ax.plot(x[:1], y[:1], "o", markersize=12, markerfacecolor="none", color=COLOURS[method])
        ax.margins(x=0.12)  # room for the rings
        ax.set_xlim(left=0)
        ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
    _legend(figure, axes[0])
    return figure


def _through_gaps(rows: Sequence[Row]) -> Figure | None:
    having = [row for row in rows if "gap_curve_mm" in row["all"] and row["noise"].startswith("lost_")]
    if not having:
        return None
    at_s = max((row["at_s"] for row in having), key=lambda at: (at == 0, at))  # now, else the newest
    groups = _groups([row for row in having if row["at_s"] == at_s])
    figure, axes = _panels(
        list(groups),
        f"Error on the lost joints, pose for {'now' if at_s == 0 else f'{1e3 * at_s:+.0f} ms'}",
        "left: since the loss, right: since the return [s]",
        "error [mm]",
    )
    for ax, methods in zip(axes, groups.values()):
        for method, (row, *_) in methods.items():
            for k, (x, y) in enumerate(_parts(row["all"])):
                ax.plot(x, y, **(_style(method) | ({"label": None} if k else {})))
        ax.axvline(GAP_EDGES_S[-1] + 0.075, color="#b0bec5", linewidth=1)
        ax.axvspan(0, GAP_EDGES_S[-1] + 0.075, color="#cfd8dc", alpha=0.35, linewidth=0)
        ax.set_xticks([0, 0.5, 1.0, 1.15, 1.65], ["0", ".5", "1", "0", ".5"])
        ax.set_ylim(bottom=0)
    _legend(figure, axes[0])
    return figure


def _parts(scores: Row) -> Iterator[tuple[Any, Any]]:
    """The curve while a joint is lost and, 0.15 s to the right of it, after; only bins that hold something."""
    first = len(GAP_EDGES_S) - 1
    for edges, part, shift in ((GAP_EDGES_S, slice(None, first), 0.0), (BACK_EDGES_S, slice(first, None), 1.15)):
        there = np.array(scores["gap_curve_samples"][part]) > 0
        middles = 0.5 * (edges[1:] + edges[:-1]) + shift
        yield middles[there], np.array(scores["gap_curve_mm"][part])[there]


def _calibration(result: Row) -> Figure | None:
    having = [row for row in result["rows"] if "calibration" in row["settled"]]
    if not having:
        return None
    asked = {row["at_s"] for row in having}
    # Three panels say it: the times nearest to now, 100 ms ago and 100 ms ahead.
    times = list(dict.fromkeys(min(asked, key=lambda at: abs(at - wanted)) for wanted in (0.0, -0.1, 0.1)))
    names = ["now" if at == 0 else f"{1e3 * at:+.0f} ms" for at in times]
    sigmas = np.array(result["settings"]["sigmas"])
    figure, axes = _panels(names, "Calibration of the covariance", "standard deviations", "share of coordinates inside")
    honest = np.array([_inside(x) for x in sigmas])
    for ax, at in zip(axes, times):
        ax.plot(sigmas, honest, color=INK, linestyle="--", linewidth=1.5, label="honest")
        for row in (row for row in having if row["at_s"] == at):
            ax.plot(sigmas, row["settled"]["calibration"], linewidth=1.5, label=f"{row['noise']} {row['rate_hz']:g} Hz")
        ax.set_ylim(0, 1)
    _legend(figure, axes[0])
    return figure


def _inside(sigmas: float) -> float:
    """Share of a normal distribution within so many standard deviations."""
    return erf(sigmas / sqrt(2.0))
