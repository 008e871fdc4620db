"""What a table of named points says, and numbers out of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.files.retarget import ClipError
from model.files.source import MAX_NUMBER
from model.files.tree import Floats


@dataclass(frozen=True)
class Table:
    """Points by name, in the file's unit and axes.

    Attributes:
        names: (J) of the points.
        positions: (T, J, 3), NaN: missing.
        times_s: (T,) growing [s].
        unit_m: metres per unit, None: the file does not say.
        confidence: (T, J) 0..1, None: the file has none.
    """

    names: tuple[str, ...]
    positions: Floats
    times_s: Floats
    unit_m: float | None = None
    confidence: Floats | None = None


def cells(path: Path, rows: Sequence[tuple[int, Sequence[str]]], columns: int) -> Floats:
    """(T, columns) numbers of rows, (line, cells) each; empty cells are NaN, and those that a line's end leaves out.

    Raises:
        ClipError: a cell is no number, or a line has too many.
    """
    out = np.full((len(rows), columns), np.nan)
    for n, (line, row) in enumerate(rows):
        if len(row) > columns and any(word.strip() for word in row[columns:]):
            raise ClipError(path, f"line {line}", f"{len(row)} columns, but the header has {columns}")
        for column, word in enumerate(row[:columns]):
            if not word or word.isspace():
                continue
            try:
                out[n, column] = float(word)
            except ValueError:
                raise ClipError(path, f"line {line}", f"column {column + 1}: '{word[:40]}' is no number") from None
    return out


def growing(path: Path, where: str, times_s: Floats) -> Floats:
    """``times_s`` (T,) from its first [s].

    Raises:
        ClipError: a time is missing, or not later than the one before.
    """
    steps = np.diff(times_s)
    wrong = np.flatnonzero(~(steps > 0.0))
    if not np.isfinite(times_s).all() or len(wrong):
        at = int(wrong[0]) + 2 if len(wrong) else 1
        raise ClipError(path, where, f"frame {at}: the time is missing, or not later than the one before")
    out: Floats = times_s - times_s[0]
    return out


def checked(path: Path, table: Table) -> Table:
    """Raises where a coordinate is no place."""
    far = np.abs(table.positions) > MAX_NUMBER  # NaN is not
    if far.any():
        frame, joint, _ = (int(n) for n in np.argwhere(far)[0])
        found = f"frame {frame + 1}: joint '{table.names[joint]}' is beyond {MAX_NUMBER:g}"
        raise ClipError(path, "positions", f"{found}; cut the file there")
    return table
