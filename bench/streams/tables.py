"""The streams bench for people: a table on the screen, the same with every bar in Markdown, the faults as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.report import machine_line
from bench.streams.case import Case, Fault, ServerCase
from bench.streams.stream import WARM_S

USUAL = ("tracking", "calibrating")  # the others are said
HELD, NOT_HELD = "held", "NOT HELD"
COLUMNS = ("case", "truth", "input", "One-Euro", "ours", "finite", "status", "counted", "bars")
NUMBERS = ("input", "One-Euro", "ours", "finite")
NOTE = (
    f"mm: mean error in the world of the joints that are shown, from the fault ({WARM_S:g} s) on; "
    "status: of the poses; of several people the worst stands for each bar"
)

Row = dict[str, Any]


def held_word(bars: Iterable[Row]) -> str:
    """How some bars are said to be: what is not due yet is said otherwise than what fails."""
    missed = [bar["due"] for bar in bars if not bar["held"]]
    if not missed:
        return HELD
    return f"not held ({missed[0]})" if all(missed) else NOT_HELD


def cells(row: Row) -> list[str]:
    """A row of the table."""
    return [
        row["case"], row["truth"], *(_mm(row[name]) for name in ("input_mm", "one_euro_mm", "ours_mm")),
        "-" if row["finite"] is None else f"{row['finite']:.3f}",
        _listed({name: f"{share:.0%}" for name, share in row["status"].items() if name not in USUAL}),
        _listed(row["counted"]), held_word(row["bars"]),
    ]  # fmt: skip


def show(result: dict[str, Any], screen: Console) -> None:
    """Prints the table, then every bar that is not held with what was measured."""
    table = Table(title="Streams as sources send them", caption=f"{NOTE}; {machine_line(result['machine'])}",
                  title_justify="left", caption_justify="left", title_style="bold", box=SIMPLE_HEAD)  # fmt: skip
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=column != "counted")
    for row in result["rows"]:
        table.add_row(*cells(row))
    screen.print(table)
    for row in result["rows"]:
        for bar in row["bars"]:
            if not bar["held"]:
                where = f"{row['case']}, {row['truth']}"
                screen.print(f"{held_word([bar])}: {where}: {bar['wanted']}; is {_number(bar['value'])}")
        if row["truth"] == "server":
            for line in row["words"]:
                screen.print(f"{row['case']}: {line}")
    for note in result["notes"]:
        screen.print(note)


def markdown(result: dict[str, Any]) -> str:
    """The table with every bar."""
    lines = ["# Streams as sources send them", "", f"`{result['command']}`", "", f"{NOTE}.", ""]
    lines += [*result["notes"], ""] if result["notes"] else []
    head = (*COLUMNS[:-1], "bars: measured")
    lines += [_line(head), _line(["---"] * len(head))]
    for row in result["rows"]:
        bars = "<br>".join(f"{bar['wanted']}: {_number(bar['value'])} {held_word([bar])}" for bar in row["bars"])
        lines.append(_line([*cells(row)[:-1], bars]))
    return "\n".join([*lines, "", f"{machine_line(result['machine'])}.", ""])


def faults_page(cases: Iterable[Case | ServerCase]) -> str:
    """docs/faults.md: one row a fault, in the order of the cases; what is counted is read off the bars."""
    rows: dict[Fault, list[Case | ServerCase]] = {}
    for case in cases:
        rows.setdefault(case.fault, []).append(case)
    head = ("what happens", "what you see", "what is counted", "how long", "cases")
    lines = [_line(head), _line(["---"] * len(head))]
    for fault, some in rows.items():
        counts = dict.fromkeys(bar.counts for case in some for bar in case.bars if bar.counts and bar.least > 0)
        names = ", ".join(f"`{case.name}`{_due(case)}" for case in some)
        counted = ", ".join(f"`{name}`" for name in counts) or "-"
        lines.append(_line([fault.what, fault.see, counted, fault.lasts, names]))
    return PAGE.format(table="\n".join(lines))


PAGE = """# What happens when

What a source or a network does wrong, and what comes of it. A frame that is refused is counted in
`PoseFilter.rejected` by its reason; what is noticed in frames that are taken, in `PoseFilter.counts`. Both, and the
server's own counters, are in the status reply and at `/metrics`; what is to be said in words is in
`PoseFilter.warnings(actor)` and in the status reply.

Every row is measured by `hpstm bench streams --case NAME...`: what is counted, and how long, are bars of its cases.
Many of these at once, for as long as you like, to a crowd of twenty through the server: `hpstm bench soak --server
MINUTES`, which also measures how soon everybody is back. This page is written by
`hpstm bench streams --faults docs/faults.md`; a test compares the two.

A case with a model's name behind it: what its row says does not hold yet; that model is to make it hold.

{table}
"""


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


def _due(case: Case | ServerCase) -> str:
    due = dict.fromkeys(bar.due for bar in case.bars if bar.due)
    return f" ({', '.join(due)})" if due else ""


def _listed(named: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items()) or "-"


def _mm(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.1f}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
