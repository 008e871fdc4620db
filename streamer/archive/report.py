"""What a run did, for people (report.md, with plots of the worst) and for programs (report.json)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.prepare import ClipError, new_file
from streamer.archive.task import Row
from streamer.errors import ConfigError

_MOST_ROWS = 200  # of a table for people
_WORST = 3
_MARKDOWN, _JSON, _PLOTS = "report.md", "report.json", "worst-{}.png"


@dataclass(frozen=True)
class Run:
    """Rows of all files, also of refused ones, and of skipped ones as they were done; settings: as it was called."""

    rows: Sequence[Row]
    settings: dict[str, Any]
    wall_s: float

    def count(self, status: str) -> int:
        return sum(row.status == status for row in self.rows)

    def __str__(self) -> str:
        moved = sum(row.seconds for row in self.rows if row.status == "done")
        said = (
            f"{self.count('done')} refined, {self.count('skipped')} were done before, {self.count('refused')} refused"
        )
        return f"{said}; {moved:.0f} s of motion in {self.wall_s:.1f} s"


def write_report(run: Run, out: Path) -> Path:
    """Writes report.md and report.json into ``out``, instead of those of an earlier run, and plots of the worst.

    Raises:
        ConfigError: they cannot be written.
    """
    try:
        plots = _plots(worst(run.rows), out)
        _replace(out / _JSON, _json(run))
        _replace(out / _MARKDOWN, _markdown(run, plots))
    except (ClipError, OSError) as error:
        raise ConfigError(f"the results are there, but no report: {error}") from error
    return out / _MARKDOWN


def worst(rows: Sequence[Row]) -> list[tuple[Row, dict[str, Any]]]:
    """The few takes that still shake most, the worst first."""
    takes = [(row, take) for row in rows for take in row.takes if take["jitter_m_s3"]["out"] is not None]
    return sorted(takes, key=lambda pair: (-pair[1]["jitter_m_s3"]["out"], pair[0].input))[:_WORST]


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with new_file(path) as file:
        file.write(text.encode())


def _json(run: Run) -> str:
    counts = {status: run.count(status) for status in ("done", "skipped", "refused")}
    head = {"settings": run.settings, "counts": counts, "wall_s": round(run.wall_s, 3)}
    return json.dumps(head | {"files": [asdict(row) for row in run.rows]}, indent=1, allow_nan=False) + "\n"


def _markdown(run: Run, plots: Sequence[str]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in run.settings.items() if value not in (None, "", 0.0))
    lines = ["# hpstm refine", "", f"{run}.", "", f"Settings: {settings}.", "", *_kinds(run.rows)]
    refused = [row for row in run.rows if row.status == "refused"]
    if refused:
        lines += ["", "## Refused", "", *(f"- {row.reason}" for row in refused)]
    lines += ["", "## Before and after", "", *_takes(run.rows)]
    if plots:
        lines += ["", "## The worst", "", "Jitter that is left, the largest first.", ""]
        lines += [f"![{name}]({name})" for name in plots]
    return "\n".join(lines) + "\n"


def _kinds(rows: Sequence[Row]) -> list[str]:
    kinds = Counter((row.kind, row.mapped) for row in rows if row.takes)
    lines = ["| read | files | mapped |", "| --- | ---: | --- |"]
    return lines + [f"| {kind} | {n} | {mapped} |" for (kind, mapped), n in sorted(kinds.items())] if kinds else []


def _takes(rows: Sequence[Row]) -> list[str]:
    takes = [(row, take) for row in rows for take in row.takes]
    if not takes:
        return ["Nothing was refined."]
    lines = [
        "Over the joints that the source shows. Bones of a result do not change.", "",
        "| file | actor | frames | fps | jitter [m/s^3] before | after | bones' std [mm] before | after | notes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    lines += [_line(row, take) for row, take in takes[:_MOST_ROWS]]
    left = len(takes) - _MOST_ROWS
    return [*lines, "", f"{left} more are in {_JSON}."] if left > 0 else lines


def _line(row: Row, take: dict[str, Any]) -> str:
    jitter, bones = take["jitter_m_s3"], take["bone_std_mm"]
    numbers = (_number(value) for pair in (jitter, bones) for value in (pair["in"], pair["out"]))
    cells = (row.input, take["actor"], take["frames"], f"{take['fps']:g}", *numbers, "; ".join(row.notes))
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def _plots(takes: Sequence[tuple[Row, dict[str, Any]]], out: Path) -> list[str]:
    """Names of the pictures written, none where matplotlib (the bench extra) is not there."""
    for n in range(1, _WORST + 1):
        (out / _PLOTS.format(n)).unlink(missing_ok=True)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return []
    names = []
    for n, (row, take) in enumerate(takes, 1):
        figure = Figure(figsize=(9, 2.6), dpi=100, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        seconds = take["frames"] / take["fps"]
        for which, color in (("in", "#90a4ae"), ("out", "#c62828")):
            values = [float("nan") if value is None else value for value in take["over_time"][which]]
            times = [(i + 0.5) / max(1, len(values)) * seconds for i in range(len(values))]
            axes.plot(times, values, color=color, label={"in": "before", "out": "after"}[which], linewidth=1.5)
        axes.set_title(f"{row.input} {take['actor']}: the largest jitter of a joint", fontsize=9)
        axes.set_xlabel("time [s]", fontsize=8)
        axes.set_ylabel("jitter [m/s³]", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=8)
        names.append(_PLOTS.format(n))
        figure.savefig(out / names[-1])
    return names
