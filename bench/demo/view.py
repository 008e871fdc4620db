"""What the demo shows: a live table on a terminal, a line a second elsewhere, a summary at the end."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from bench.report import machine, machine_line
from bench.track import Scores, Track


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _table(title: str, caption: str) -> Table:
    """Empty, and at most 78 columns wide when filled."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("", no_wrap=True, min_width=22)
    table.add_column("in: noisy", justify="right", style="dark_orange3", no_wrap=True, min_width=10)
    table.add_column("out: refined", justify="right", style="bold dodger_blue1", no_wrap=True, min_width=12)
    table.add_column("truth", justify="right", style="grey62", no_wrap=True)
    table.add_column("unit", style="dim", no_wrap=True)
    return table


def _fill(table: Table, scores: Scores) -> None:
    rows = (
        ("error (MPJPE)", scores.error_in, scores.error_out, math.nan, 1, "mm"),
        ("error of lost joints", math.nan, scores.error_out_missing, math.nan, 1, "mm"),
        ("jitter", scores.jitter_in, scores.jitter_out, scores.jitter_true, 2, "mm/frame²"),
        ("bone-length change", scores.bones_in, scores.bones_out, 0.0, 3, "mm"),
    )
    for name, before, after, true, digits, unit in rows:
        table.add_row(name, _number(before, digits), _number(after, digits), _number(true, digits), unit)
    table.add_section()
    for name, durations in (("latency, sent → back", scores.latency), ("  in the server", scores.filter)):
        table.add_row(name, f"p50 {durations.p50:.2f}", f"p99 {durations.p99:.2f}", "", "ms", style="default")


def live_table(track: Track, scores: Scores | None, elapsed_s: float, seconds: float) -> Table:
    """The table shown while the demo runs; scores are of the last seconds, None before the first pose."""
    status = track.newest.status if track.newest else "waiting for the first pose"
    done = round(24 * min(1.0, elapsed_s / seconds))
    bar = f"{'━' * done}{'╌' * (24 - done)}  {min(elapsed_s, seconds):4.1f} of {seconds:g} s"
    title = f"frames sent {track.frames:5d}   poses received {track.poses:5d}   {status}"
    table = _table(title, bar)
    if scores is None:
        table.add_row("waiting", "", "", "", "")
    else:
        _fill(table, scores)
    return table


def plain_line(track: Track, scores: Scores | None, elapsed_s: float) -> str:
    """The same in one line, for a pipe or a log."""
    head = f"{elapsed_s:5.1f} s  frames {track.frames:4d}  poses {track.poses:4d}"
    if scores is None:
        return f"{head}  waiting for the first pose"
    return (
        f"{head}  error {scores.error_in:5.1f} -> {scores.error_out:5.1f} mm"
        f"  jitter {scores.jitter_in:5.2f} -> {scores.jitter_out:4.2f} (true {scores.jitter_true:4.2f}) mm/frame^2"
        f"  bones {_number(scores.bones_in, 1)} -> {_number(scores.bones_out, 3)} mm"
        f"  latency p50 {scores.latency.p50:.2f} p99 {scores.latency.p99:.2f} ms"
    )


def summary(track: Track, scores: Scores, rate_hz: float, server_status: dict[str, Any]) -> Table:
    """The table at the end, with how many frames and poses it rests on."""
    states = ", ".join(f"{name} {count}" for name, count in track.status.most_common())
    rejected, books = server_status.get("rejected") or "none", server_status.get("books", {})
    overtaken = books.get("superseded", 0) + books.get("skipped", 0)
    caption = (
        f"{track.frames} frames sent at {rate_hz:g} Hz, {track.poses} poses back\n"
        f"{rejected} rejected, {overtaken or 'none'} not answered since a newer one had come\n"
        f"({states})\n"
        "error in the world; jitter: mean second difference; bones: std over time\n"
        f"{machine_line(machine())}"
    )
    table = _table("The whole run", caption)
    _fill(table, scores)
    return table
