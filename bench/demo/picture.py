"""The demo's one picture: a joint over time, skeletons side by side, the latency. matplotlib without a screen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.noise import Event
from bench.pictures import INK
from bench.track import Aligned, Scores
from model.skeleton import INDEX, JOINTS, PARENTS, J

Floats = npt.NDArray[np.floating[Any]]

NOISY, REFINED, TRUE = "#e07b39", "#1565c0", "#9e9e9e"
_STYLE = {"fontsize": 10, "color": INK, "loc": "left", "fontweight": "bold"}


def demo_picture(
    path: Path, rows: Aligned, scores: Scores, rate_hz: float, events: Sequence[Event], joint: str = "right_wrist"
) -> Path:
    """Writes the picture of a run as PNG and returns its path; times are counted from the run's first frame."""
    figure = Figure(figsize=(13, 9), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    # Two blocks: over time (one time axis), and at one moment / in all.
    blocks = figure.add_gridspec(
        2, 1, height_ratios=[1.3, 1], hspace=0.26, left=0.065, right=0.98, top=0.865, bottom=0.065
    )
    time_grid = blocks[0].subgridspec(2, 1, height_ratios=[1.5, 1], hspace=0.2)
    all_grid = blocks[1].subgridspec(1, 2, width_ratios=[1.6, 1], wspace=0.12)
    figure.suptitle("HPSTM Live demo", x=0.065, y=0.98, ha="left", fontsize=16, fontweight="bold", color=INK)
    figure.text(0.065, 0.925, _headline(scores, rate_hz), ha="left", va="center", fontsize=10, color=INK)
    joint_axes = figure.add_subplot(time_grid[0])
    error_axes = figure.add_subplot(time_grid[1], sharex=joint_axes)
    _joint_over_time(joint_axes, rows, joint, events)
    _error_over_time(error_axes, rows, events)
    _skeletons(figure.add_subplot(all_grid[0]), rows, events)
    _latency(figure.add_subplot(all_grid[1]), rows, scores)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _headline(scores: Scores, rate_hz: float) -> str:
    parts = (
        f"error {scores.error_in:.0f} → {scores.error_out:.0f} mm",
        f"jitter {scores.jitter_in:.1f} → {scores.jitter_out:.2f} mm/frame² (true motion: {scores.jitter_true:.2f})",
        f"bone-length change {scores.bones_in:.1f} → {scores.bones_out:.3f} mm",
        f"latency p50 {scores.latency.p50:.2f} ms, p99 {scores.latency.p99:.2f} ms",
    )
    return f"{rate_hz:g} Hz synthetic actor with an estimator's noise, through the real server\n" + "   ·   ".join(
        parts
    )


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color="#eceff1", linewidth=0.8)
    axes.set_axisbelow(True)


def _seconds(t_ns: npt.NDArray[np.int64]) -> Floats:
    seconds: Floats = t_ns * 1e-9
    return seconds


def _shade(axes: Any, events: Sequence[Event], *, label: bool) -> None:
    for event in events:
        axes.axvspan(event.start_s, event.end_s, color="#cfd8dc", alpha=0.45, linewidth=0)
        if label:
            what = "lost" if event.offset_m is None else "misplaced"
            middle = 0.5 * (event.start_s + event.end_s)
            axes.text(
                middle, 0.98, f"{event.limb}\n{what}", transform=axes.get_xaxis_transform(), ha="center", va="top",
                fontsize=8, color="#546e7a",
            )  # fmt: skip


def _with_gaps(t_s: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Breaks a line where frames are missing, so that it does not bridge the gap."""
    step = np.diff(t_s)
    after = np.flatnonzero(step > 2.5 * np.median(step)) + 1 if len(step) else np.empty(0, int)
    return np.insert(t_s, after, np.nan), np.insert(values, after, np.nan)


def _joint_over_time(axes: Any, rows: Aligned, joint: str, events: Sequence[Event]) -> None:
    j, axis = INDEX[joint], 2
    # Seen from the true pelvis, or the walk through the room would hide the error.
    here_in, here_out = rows.truth_in[:, 0, axis], rows.truth_out[:, 0, axis]
    t_in, t_out = _seconds(rows.t_in_ns), _seconds(rows.t_out_ns)
    noisy = 100 * (rows.noisy[:, j, axis] - here_in)
    refined = 100 * (rows.refined[:, j, axis] - here_out)
    true = 100 * (rows.truth_out[:, j, axis] - here_out)
    axes.plot(t_in, noisy, ".", color=NOISY, markersize=3.2, alpha=0.75, label="noisy input")
    axes.plot(*_with_gaps(t_out, true), color=TRUE, linewidth=2.4, label="true")
    axes.plot(*_with_gaps(t_out, refined), color=REFINED, linewidth=1.5, label="refined")
    _shade(axes, events, label=True)
    axes.set_title(f"{joint.replace('_', ' ')}, depth axis, relative to the true pelvis", **_STYLE)
    axes.set_ylabel("z  [cm]", color=INK)
    low, high = np.nanmin(np.r_[noisy, refined, true]), np.nanmax(np.r_[noisy, refined, true])
    axes.set_ylim(low - 0.05 * (high - low), high + 0.28 * (high - low))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=9, markerscale=2.5)
    axes.margins(x=0.01)
    _tidy(axes)
    axes.tick_params(labelbottom=False)


def _error_over_time(axes: Any, rows: Aligned, events: Sequence[Event]) -> None:
    for positions, truth, t_ns, colour, label in (
        (rows.noisy, rows.truth_in, rows.t_in_ns, NOISY, "noisy input"),
        (rows.refined, rows.truth_out, rows.t_out_ns, REFINED, "refined"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a blackout frame has no joint to average
            error = 1e3 * np.nanmean(np.linalg.norm(positions - truth, axis=-1), axis=-1)
        axes.plot(*_with_gaps(_seconds(t_ns), error), color=colour, linewidth=1.3, label=label)
    _shade(axes, events, label=False)
    axes.set_title("error, mean over the joints that are there", **_STYLE)
    axes.set_ylabel("MPJPE  [mm]", color=INK)
    axes.set_xlabel("time  [s]", color=INK, labelpad=1)
    axes.set_ylim(bottom=0)
    _tidy(axes)


def _moment(rows: Aligned, events: Sequence[Event]) -> int:
    """The row to draw: in the middle of the misplaced limb if there is one, else where the input is worst."""
    flips = [event for event in events if event.offset_m is not None]
    t_s = rows.t_in_ns * 1e-9
    if flips and t_s[0] <= flips[0].start_s and flips[0].end_s <= t_s[-1]:
        return int(np.argmin(np.abs(t_s - 0.5 * (flips[0].start_s + flips[0].end_s))))
    distance = np.linalg.norm(rows.noisy - rows.truth_in, axis=-1)  # (T, J)
    present = np.isfinite(distance)
    return int(np.argmax(np.where(present.sum(-1) >= J // 2, np.nansum(distance, -1), -1.0)))


def _skeletons(axes: Any, rows: Aligned, events: Sequence[Event]) -> None:
    i = _moment(rows, events)
    turn = np.radians(55.0)  # from the side, where the depth error shows
    view = np.array([[np.cos(turn), 0.0, -np.sin(turn)], [0.0, 1.0, 0.0]])  # (2, 3) orthographic
    true = (rows.truth_out[i] - rows.truth_out[i, 0]) @ view.T
    here = rows.truth_in[i, 0]
    panels = (
        ("noisy input", (rows.noisy[i] - here) @ view.T, NOISY),
        ("refined", (rows.refined[i] - rows.truth_out[i, 0]) @ view.T, REFINED),
        ("true", true, "#616161"),
    )
    for place, (label, points, colour) in enumerate(panels):
        shift = np.array([1.35 * place, 0.0])
        if place < 2:
            _bones(axes, true + shift, TRUE, width=2.0, alpha=0.6)
        _bones(axes, points + shift, colour, width=2.6, alpha=1.0)
        below = true[:, 1].min() - 0.16
        axes.text(shift[0], below, label, ha="center", va="top", color=colour, fontsize=10, fontweight="bold")
    axes.set_title(f"skeletons at {rows.t_in_ns[i] * 1e-9:.1f} s  (grey behind: true)", **_STYLE)
    axes.set_aspect("equal")
    axes.margins(0.03)
    axes.axis("off")


def _bones(axes: Any, points: Floats, colour: str, *, width: float, alpha: float) -> None:
    """Bones between joints that are both there; a NaN end leaves its bone out."""
    for j in range(1, len(JOINTS)):
        ends = points[[PARENTS[j], j]]
        axes.plot(ends[:, 0], ends[:, 1], color=colour, linewidth=width, alpha=alpha, solid_capstyle="round")
    axes.plot(points[:, 0], points[:, 1], "o", color=colour, markersize=3.5, alpha=alpha)


def _latency(axes: Any, rows: Aligned, scores: Scores) -> None:
    ms = rows.latency_ns * 1e-6
    top = float(np.percentile(ms, 99.5)) * 1.15
    axes.hist(np.clip(ms, 0, top), bins=np.linspace(0, top, 46), color=REFINED, alpha=0.85)
    for value, name, height in ((scores.latency.p50, "p50", 0.97), (scores.latency.p99, "p99", 0.83)):
        axes.axvline(value, color=INK, linewidth=1.0, linestyle="--")
        axes.text(
            value,
            height,
            f" {name} {value:.2f} ms",
            transform=axes.get_xaxis_transform(),
            va="top",
            fontsize=9,
            color=INK,
        )
    axes.set_title("latency, frame sent → refined pose received", **_STYLE)
    axes.set_xlabel(f"[ms]    of which in the server {scores.filter.p50:.2f} ms (p50)", color=INK)
    axes.set_ylabel("poses", color=INK)
    _tidy(axes)
