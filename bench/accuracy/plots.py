"""The accuracy bench in pictures: against delay, against jitter, through a gap, calibration. matplotlib, no screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.accuracy.methods import FILTER, METHODS
from bench.accuracy.scoring import BACK_EDGES_S, GAP_EDGES_S
from bench.pictures import INK
from bench.report import measured_line

Row = dict[str, Any]

# Okabe and Ito's colours, which colour-blind readers can tell apart. Tuned filters often say nearly the same: a dashed
# line shows that another one lies under it. What sees the future is dotted.
_STYLES = (
    ("#b0b0b0", "o", "-"), ("#999933", "p", "-"), ("#d55e00", "s", "-"), ("#e69f00", "^", "-"), ("#7a4a2a", "v", "-"),
    ("#009e73", "D", "--"), ("#cc79a7", "P", "-."), ("#56b4e9", "X", ":"), ("#882255", "<", "-"),
    ("#aa4499", ">", ":"), ("#000000", "*", ":"), ("#44aa99", "h", ":"), ("#1565c0", "o", "-"),
)  # fmt: skip
COLOURS, MARKERS, DASHES = (dict(zip(METHODS, column, strict=True)) for column in zip(*_STYLES, strict=True))
MUTED = "#607d8b"
MPJPE = "root-relative MPJPE [mm]"
CAPTION_INCHES = 0.36  # at the bottom, for what the picture shows and what it was measured on


def draw(result: Row, folder: Path) -> list[Path]:
    """Writes the PNGs that the result has data for, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = "{model}, {clips} clips of {data}; ".format(**result["settings"]) + measured_line(result["machine"])
    drawn = (
        ("accuracy_against_delay.png", _against_delay(result["rows"]),
         "Every pose is scored at the time it is for. Left of 0 it is asked for before its frame is there."),
        ("accuracy_against_jitter.png", _against_jitter(result["rows"]),
         "Lower left is better. A ring is the pose for now; along each line the delay grows."),
        ("error_through_a_gap.png", _through_gaps(result["rows"]),
         "Mean over the joints that are lost, then back. What holds the last sight lies on the input's line."),
        ("calibration.png", _calibration(result),
         "How often the truth lies within so many standard deviations. Above the dashes too cautious, below too sure."),
    )  # fmt: skip
    paths = []
    for name, figure, caption in drawn:
        if figure is not None:
            for line, text in enumerate((measured, caption)):
                y = (0.04 + 0.16 * line) / figure.get_figheight()
                figure.text(0.01, y, text, ha="left", va="bottom", fontsize=7, color=MUTED)
            paths.append(folder / name)
            figure.savefig(paths[-1])
    return paths


def _panels(titles: Sequence[str], title: str, x: str, y: str) -> tuple[Figure, list[Any]]:
    """A figure of one panel a title, three a row."""
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    size = (max(6.5, 4.1 * columns), 0.9 + CAPTION_INCHES + 3.2 * lines)
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
    """Below the panels and above the caption."""
    handles, names = ax.get_legend_handles_labels()
    columns = 4
    caption = CAPTION_INCHES / figure.get_figheight()
    bottom = caption + 0.2 * (1 - (-len(names) // columns)) / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, bottom, 1, 1 - bottom))
    figure.legend(
        handles, names, loc="lower center", bbox_to_anchor=(0.5, caption), borderaxespad=0.2, ncols=columns,
        frameon=False, fontsize=9,
    )  # fmt: skip


def _style(method: str) -> dict[str, Any]:
    mine = method == FILTER
    width = 2.4 if mine else 3.0 if method == METHODS[0] else 1.4  # the input is broad and pale, under all others
    return {"color": COLOURS[method], "marker": MARKERS[method], "label": method, "linestyle": DASHES[method],
            "linewidth": width, "markersize": 5 if mine else 4, "zorder": 3 if mine else 2}  # fmt: skip


def _groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """{noise and rate, as a title: {method: rows, the newest time asked for first}} of the rows that were scored."""
    rates = {row["rate_hz"] for row in rows}
    found: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: -float(row["at_s"])):
        if row["all"]["frames"]:
            name = f"noise: {row['noise']}" + (f", {row['rate_hz']:g} Hz" if len(rates) > 1 else "")
            found.setdefault(name, {}).setdefault(row["method"], []).append(row)
    return found


def _against_delay(rows: Sequence[Row]) -> Figure | None:
    groups = {name: methods for name, methods in _groups(rows).items() if max(len(at) for at in methods.values()) > 1}
    if not groups:
        return None
    figure, axes = _panels(list(groups), "Accuracy against delay", "delay [ms], below 0: prediction", MPJPE)
    for ax, methods in zip(axes, groups.values()):
        for method, at in methods.items():
            ax.plot([-1e3 * row["at_s"] for row in at], [row["all"]["mpjpe_root_mm"] for row in at], **_style(method))
        ax.set_ylim(bottom=0)
        _shade_ahead(ax)
    _legend(figure, axes[0])
    return figure


def _shade_ahead(ax: Any) -> None:
    """Sets off the times ahead of the newest frame, if any were asked for."""
    left = ax.get_xlim()[0]
    if ax.dataLim.x0 < 0:
        ax.axvspan(left, 0, color="#cfd8dc", alpha=0.35, linewidth=0)
        ax.set_xlim(left=left)
        _note(ax, 0.02, "ahead")


def _note(ax: Any, x: float, text: str, y: float = 0.03) -> None:
    """A few muted words at a place in the panel, 0..1."""
    ax.text(x, y, text, transform=ax.transAxes, ha="left", va="bottom", fontsize=8, color=MUTED)


def _against_jitter(rows: Sequence[Row]) -> Figure | None:
    """Each method's way over the delays from 0 on; the ring is delay 0."""
    groups = _groups([row for row in rows if row["at_s"] <= 0])
    if not groups:
        return None
    x_label = "error of the acceleration (Accel) [mm/frame²]"
    figure, axes = _panels(list(groups), "Accuracy against jitter, from no delay to the longest", x_label, MPJPE)
    for ax, methods in zip(axes, groups.values()):
        for method, at in methods.items():
            x, y = [row["all"]["accel_mm"] for row in at], [row["all"]["mpjpe_root_mm"] for row in at]
            ax.plot(x, y, **_style(method))
            if at[0]["at_s"] == 0:
                ax.plot(x[:1], y[:1], "o", markersize=12, markerfacecolor="none", color=COLOURS[method], clip_on=False)
        ax.set_xlim(0, 1.1 * ax.dataLim.x1 or 1.0)  # room for the rings; all zero is no range
        ax.set_ylim(0, 1.1 * ax.dataLim.y1 or 1.0)
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
        f"Error on lost joints, {_pose_for(at_s)}",
        "time since the loss, then since the return [s]",
        "root-relative error [mm]",
    )
    for ax, methods in zip(axes, groups.values()):
        for method, (row, *_) in methods.items():
            for k, (x, y) in enumerate(_parts(row["all"])):
                ax.plot(x, y, **(_style(method) | ({"label": None} if k else {})))
        ax.axvline(GAP_EDGES_S[-1] + 0.075, color="#b0bec5", linewidth=1)
        ax.axvspan(0, GAP_EDGES_S[-1] + 0.075, color="#cfd8dc", alpha=0.35, linewidth=0)
        ax.set_xticks([0, 0.5, 1.0, 1.15, 1.65], ["0", ".5", "1", "0", ".5"])
        ax.set_xlim(0, 1.7)
        ax.set_ylim(bottom=0)
        _note(ax, 0.02, "lost", y=0.93)
        _note(ax, 0.67, "back in sight", y=0.93)
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
    having = [row for row in result["rows"] if row["method"] == FILTER and "calibration" in row["settled"]]
    if not having:
        return None
    asked = {row["at_s"] for row in having}
    # Three panels say it: the times nearest to now, 100 ms ago and 100 ms ahead.
    times = list(dict.fromkeys(min(asked, key=lambda at: abs(at - wanted)) for wanted in (0.0, -0.1, 0.1)))
    names = [_pose_for(at) for at in times]
    sigmas = np.array(result["settings"]["sigmas"])
    figure, axes = _panels(
        names, f"Calibration of {FILTER}'s covariance", "standard deviations", "share of coordinates within"
    )
    noises, rates = (list(dict.fromkeys(row[key] for row in having)) for key in ("noise", "rate_hz"))
    for ax, at in zip(axes, times):
        ax.plot(sigmas, [_inside(x) for x in sigmas], color=INK, linestyle="--", linewidth=1.5, label="as stated")
        for row in (row for row in having if row["at_s"] == at):
            noise, rate = noises.index(row["noise"]), rates.index(row["rate_hz"])
            name = row["noise"] + (f", {row['rate_hz']:g} Hz" if len(rates) > 1 else "")
            colour = colormaps["tab20"]((2 * noise + noise // 10) % 20)  # the ten strong ones first
            ax.plot(sigmas, row["settled"]["calibration"], ("-", ":", "-.")[rate % 3], color=colour, label=name)
        ax.set_xlim(0, sigmas[-1])
        ax.set_ylim(0, 1)
    _legend(figure, axes[0])
    return figure


def _pose_for(at_s: float) -> str:
    """A time asked for, in words."""
    if at_s == 0:
        return "pose for now"
    return f"pose for {abs(1e3 * at_s):.0f} ms {'ahead' if at_s > 0 else 'ago'}"


def _inside(sigmas: float) -> float:
    """Share of a normal distribution within so many standard deviations."""
    return erf(sigmas / sqrt(2.0))
