"""Named joints in comma-separated tables: a column of time, and three columns a joint, such as ``left_hip_x``.

What is read is what spreadsheets, FreeMoCap (``nose_x``), anipose (``nose_x``, ``nose_score``) and the like write: one
header line, one line a frame. Separators are commas, semicolons or tabs; empty cells and NaN are missing.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from model.files.retarget import ClipError
from model.files.source import check_size, read_text
from model.files.table import Table, cells, growing
from model.files.tree import Floats

_COORDINATE = re.compile(r"^(?P<name>.+?)[ _.:/-]*[\[(]?(?P<axis>[xyzXYZ])[\])]?$")
_TRUST = re.compile(r"^(?P<name>.+?)[ _.:/-]+(confidence|conf|score|likelihood|visibility)$", re.IGNORECASE)
_TIMES = {  # column of time, without case and marks -> seconds per unit
    **dict.fromkeys(("time", "times", "t", "ts", "timestamp", "timestamps", "seconds", "sec"), 1.0),
    **dict.fromkeys(("timems", "tms", "timestampms"), 1e-3),
    **dict.fromkeys(("timeus", "tus", "timestampus"), 1e-6),
    **dict.fromkeys(("timens", "tns", "timestampns"), 1e-9),
}


def read_joints_csv(path: Path, fps: float | None = None) -> Table:
    """The joints of a table, in its unit and axes.

    Args:
        fps: of a table without a column of time [Hz].
    Raises:
        ClipError: no joint, no time, a cell that is no number, or times that do not grow.
    """
    text = read_text(path)
    first = text[: text.find("\n")] if "\n" in text else text
    mark = max(",;\t", key=first.count)
    try:
        lines = enumerate(csv.reader(text.splitlines(), delimiter=mark), 1)
        rows = [(n, row) for n, row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ClipError(path, "file", f"no table of comma-separated values ({error})") from error
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    joints = _joints(head)
    if not joints:
        raise ClipError(
            path, "line 1", "names no joint: three columns a joint are read, such as nose_x, nose_y, nose_z"
        )
    if len(rows) < 2:
        raise ClipError(path, "file", "holds no frame")
    check_size(path, len(rows) - 1, len(joints))
    values = _numeric(path, rows[1:], head)
    names = tuple(joints)
    positions = np.stack([values[:, joints[name]] for name in names], axis=1)
    trust = {found["name"]: n for n, word in enumerate(head) if (found := _TRUST.match(word))}
    confidence = None
    if any(name in trust for name in names):
        confidence = np.stack([values[:, trust[n]] if n in trust else np.ones(len(values)) for n in names], axis=1)
        confidence = np.nan_to_num(confidence, nan=0.0)
    return Table(names, positions, _times(path, head, values, fps), None, confidence)


def _numeric(path: Path, rows: list[tuple[int, list[str]]], head: list[str]) -> Floats:
    """(T, columns) numbers; columns that are neither time nor joint are NaN: they may hold words."""
    used = [n for n, word in enumerate(head) if _plain(word) in _TIMES or _COORDINATE.match(word) or _TRUST.match(word)]
    return cells(path, [(n, [row[i] if i in used else "" for i in range(len(row))]) for n, row in rows], len(head))


def _plain(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


def _joints(head: list[str]) -> dict[str, list[int]]:
    """Joint -> its columns of x, y and z, in the order of the table."""
    found: dict[str, dict[str, int]] = {}
    for n, word in enumerate(head):
        match = _COORDINATE.match(word)
        if match:
            found.setdefault(match["name"], {}).setdefault(match["axis"].lower(), n)
    return {name: [axes[a] for a in "xyz"] for name, axes in found.items() if len(axes) == 3}


def _times(path: Path, head: list[str], values: Floats, fps: float | None) -> Floats:
    for n, word in enumerate(head):
        if _plain(word) in _TIMES:
            return growing(path, f"column '{word}'", values[:, n] * _TIMES[_plain(word)])
    if fps is None:
        raise ClipError(path, "line 1", "no column of time; add one called time_s, or pass fps=")
    return np.arange(len(values)) / fps
