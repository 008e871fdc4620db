"""The accuracy bench for people: tables on the screen and in Markdown, from the result that is written to JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.accuracy.methods import FILTER
from bench.report import machine_line

Row = dict[str, Any]
Column = tuple[str, str, int]  # part of a row ("all", "settled", or "" for the row itself), score, digits


@dataclass(frozen=True)
class Sheet:
    """A table as text: cells of every row, and what the screen leaves to the Markdown file."""

    title: str
    header: list[str]
    rows: list[list[str]]
    detail: bool = False  # for the file only
    wraps: bool = False  # cells may be long


ACCURACY: dict[str, Column] = {
    "world": ("all", "mpjpe_world_mm", 1),
    "PA": ("all", "pa_mpjpe_mm", 1),
    "Accel": ("all", "accel_mm", 1),
    "lag ms": ("all", "lag_ms", 0),
    "MPJPE'": ("settled", "mpjpe_root_mm", 1),
    "bones'": ("settled", "bone_std_mm", 2),
    "1 sigma'": ("settled", "in_1_sigma", 3),
}
GAPS: dict[str, Column] = {"world": ("all", "gap_world_mm", 1), "joints lost": ("all", "gap_samples", 0)}
DETAILS: dict[str, Column] = {
    "slow": ("all", "slow_mm", 1),
    "medium": ("all", "medium_mm", 1),
    "fast": ("all", "fast_mm", 1),
    "jitter": ("all", "jitter_m_s3", 1),
    "(true)": ("all", "jitter_true_m_s3", 1),
    "feet": ("all", "foot_sliding_mm_s", 0),
    "(true) ": ("all", "foot_sliding_true_mm_s", 0),
    "swing": ("all", "swing_deg", 1),
    "twist": ("all", "twist_deg", 1),
    "leaves": ("all", "leaf_deg", 1),
    "in .683": ("settled", "in_0.6827", 3),
    "in .90": ("settled", "in_0.9", 3),
    "in .954": ("settled", "in_0.9545", 3),
}
RECORDED: dict[str, Column] = {
    "Accel": ("", "accel_mm", 2),
    "bones": ("", "bone_std_mm", 3),
    "bones'": ("", "bone_std_settled_mm", 3),
    "lag ms": ("", "lag_ms", 0),
}
NOTE = """mm, Accel mm/frame². MPJPE: joints from their own pelvis, and its interval over clips; world: where they
are; PA: after the best rotation, scale and shift; lag: of the motion, for the time the pose is for; bones: standard
deviation of a bone's length; 1 sigma: share of coordinates inside, .683 when honest. ': without each clip's first
{calibration_s:g} s, when the bones are measured. All but HPSTM Live hold a missing joint in its last place: the
input is "hold", too. One-Euro, Kalman (constant velocity, fixed lag), Holt, Savitzky-Golay: tuned for each noise,
rate and time on {tuned}."""
GAP_NOTE = """gap: mean error on the lost joints while they are lost, from the pelvis, and its interval over clips;
world: where they are. lost_*: the realistic noise without losses of its own, and in every 3 s one joint, arm from
the elbow, leg from the knee or everything gone for 0.1 to 1 s."""
DETAIL_NOTE = """slow, medium, fast: MPJPE of joints that move at less than 0.3, at less than 1.5, or at more m/s.
Jitter m/s³, feet: sliding of standing feet mm/s, each beside the truth's own. Swing and twist in degrees, of the joints
that have a child; leaves: the whole angle of the others, which positions do not show. in: share of joints inside their
ellipsoid of that probability, without each clip's first seconds."""
RECORDED_NOTE = """No truth here: steadiness only, of the joints that the source measures. Lag against the input."""


def notes(settings: Row) -> str:
    """What the columns of the first table mean, and what the baselines were tuned on."""
    tuned = settings["tuned"]
    rates = "/".join(f"{rate:g}" for rate in tuned["rates_hz"])
    return NOTE.format(**settings | {"tuned": f"clips of {', '.join(tuned['data'])} at {rates} Hz"})


def sheets(result: Row) -> Iterator[tuple[Sheet, str]]:
    """The tables of a result that have something in them, each with its note."""
    s, rows = result["settings"], result["rows"]
    rates = "/".join(f"{rate:g}" for rate in s["rate_hz"])
    title = f"{s['model']}: {s['clips']} clips of {s['data']}, {s['minutes']:.1f} min at {rates} fps"
    many = len(s["rate_hz"]) > 1
    yield _sheet(title, ["MPJPE", "95 %", *ACCURACY], rows, _accuracy, many), notes(s)
    lossy = [row for row in rows if row["noise"].startswith("lost_")]
    if lossy:
        yield _sheet("Through gaps", ["gap", "95 %", *GAPS], lossy, _gaps, many), GAP_NOTE
    detail = _sheet("More measures", list(DETAILS), rows, lambda row: cells_of(row, DETAILS), many)
    yield Sheet(detail.title, detail.header, detail.rows, detail=True), DETAIL_NOTE
    recorded = result["recordings"]
    if recorded:
        body = [[row["recording"], f"{row['rate_hz']:.0f} Hz", row["method"], *cells_of(row, RECORDED)]
                for row in recorded]  # fmt: skip
        yield Sheet("Recordings", ["recording", "rate", "method", *RECORDED], body), RECORDED_NOTE


def _sheet(title: str, columns: list[str], rows: list[Row], cells: Callable[[Row], list[str]], many: bool) -> Sheet:
    body = [[row["noise"] + f" {row['rate_hz']:g} Hz" * many, when(row["at_s"]), row["method"], *cells(row)]
            for row in rows]  # fmt: skip
    return Sheet(title, ["noise", "pose for", "method", *columns], body)


def when(at_s: float) -> str:
    return f"{1e3 * at_s:+.0f} ms" if at_s else "now"


def cells_of(row: Row, columns: dict[str, Column]) -> list[str]:
    cells = []
    for part, name, digits in columns.values():
        value = (row[part] if part else row).get(name)
        cells.append("-" if value is None else f"{value:.{digits}f}")
    return cells


def _with_interval(row: Row, name: str) -> list[str]:
    if name not in row["all"]:
        return ["-", "-"]
    low, high = row["all"][f"{name}_95"]
    return [f"{row['all'][name]:.1f}", f"{low:.1f}-{high:.1f}"]


def _accuracy(row: Row) -> list[str]:
    return _with_interval(row, "mpjpe_root_mm") + cells_of(row, ACCURACY)


def _gaps(row: Row) -> list[str]:
    return _with_interval(row, "gap_mm") + cells_of(row, GAPS)


Pages = Callable[[Row], Iterator[tuple[Sheet, str]]]


def show(result: Row, screen: Console, pages: Pages = sheets) -> None:
    """Prints the tables and what they rest on."""
    for sheet, note in pages(result):
        if sheet.detail:
            continue
        table = Table(title=sheet.title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
        for n, name in enumerate(sheet.header):
            table.add_column(name, no_wrap=not sheet.wraps, justify="left" if n < 3 or sheet.wraps else "right")
        for row, after in zip(sheet.rows, [*sheet.rows[1:], [""]], strict=True):
            table.add_row(
                *row,
                style="bold" if str(row[2]).startswith(FILTER) else "",
                end_section=sheet.wraps or row[:2] != after[:2],
            )
        screen.print(table)
        screen.print(note, soft_wrap=True)
    screen.print(machine_line(result["machine"]))


def markdown(result: Row, pages: Pages = sheets) -> str:
    """The same as a Markdown document, with all that the screen leaves out."""
    lines = ["# Accuracy", ""]
    for sheet, note in pages(result):
        lines += [f"## {sheet.title}", "", "| " + " | ".join(sheet.header) + " |"]
        lines.append("|" + "---|" * 3 + "---:|" * (len(sheet.header) - 3))
        for row in sheet.rows:
            cells = [*row[:2], f"**{row[2]}**" if row[2].startswith(FILTER) else row[2], *row[3:]]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *note.splitlines(), ""]
    lines.append(f"{machine_line(result['machine'])}; weights {result['settings']['weights_sha256'][:12]}.")
    return "\n".join(lines) + "\n"
