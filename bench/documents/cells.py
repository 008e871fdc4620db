"""Tables in Markdown and the cells that several of them have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]
GONE = "not measured"
TUNED = ("One-Euro", "Kalman", "Holt", "Savitzky-Golay")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, words: Sequence[str] = ()) -> str:
    """A table whose first ``left`` columns and those named in ``words`` are aligned left, the others right."""
    ruler = ["---" if n < left or name in words else "--:" for n, name in enumerate(head)]
    lines = [head, None, *rows]
    return "\n".join(f"|{'|'.join(ruler)}|" if line is None else f"| {' | '.join(line)} |" for line in lines)


def when(at_s: float) -> str:
    """The time that a pose is for."""
    return f"{1e3 * at_s:+.0f} ms" if at_s else "now"


def bold(text: str) -> str:
    return f"**{text}**" if text else text


def errors(scores: Row | None) -> str:
    """MPJPE / Accel; nothing where there are none."""
    return "" if scores is None else f"{scores['mpjpe_root_mm']:.1f} / {scores['accel_mm']:.1f}"


def interval(low_high: Sequence[float]) -> str:
    low, high = low_high
    return f"{low:.0f}-{high:.0f}"


def command(*typed: str) -> str:
    """Command lines as a block of code, broken where they are long."""
    return "\n".join(_broken(one) for one in typed)


def _broken(typed: str, width: int = 150) -> str:
    lines, indent = [""], "    "
    for word in typed.split(" "):
        if len(lines[-1]) + len(word) > width and word.startswith("-"):
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return " \\\n".join(f"{indent}{'    ' if n else ''}{line}" for n, line in enumerate(lines))
