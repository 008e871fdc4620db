"""Motion Analysis' TRC (Track Row Column), which OpenSim, OpenCap and Pose2Sim write: places of named points.

Three lines of header (the second names what the third holds), a line of names, one of X1 Y1 Z1 ..., perhaps an empty
one, then a line a frame: its number, its time and three columns a point, blank where it is missing.
"""

from __future__ import annotations

from pathlib import Path

from model.files.retarget import ClipError
from model.files.source import check_size, read_text
from model.files.table import Table, cells, growing

_UNITS = {"m": 1.0, "meters": 1.0, "metres": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "inches": 0.0254}
_SPARE_ROWS = 1  # by which NumFrames and the rows may differ


def read_trc(path: Path) -> Table:
    """The points of a ``.trc`` file, in its unit and axes.

    Raises:
        ClipError: it is no TRC, cut off, or a line is wrong: says which.
    """
    lines = read_text(path).split("\n")
    if len(lines) < 6 or not lines[0].startswith("PathFileType"):
        raise ClipError(path, "line 1", "no TRC file: it should begin with PathFileType")
    header = dict(zip((word.lower() for word in lines[1].split()), lines[2].split(), strict=False))
    names = _names(path, lines[3])
    marks = _whole(path, header, "nummarkers")
    if marks is not None and marks != len(names):
        raise ClipError(path, "line 4", f"names {len(names)} points, but NumMarkers is {marks}")
    start = next((n for n in range(5, len(lines)) if lines[n].strip()), len(lines))
    rows = [(n, line.split("\t") if "\t" in line else line.split())
            for n, line in enumerate(lines[start:], start + 1) if line.strip()]  # fmt: skip
    frames = _whole(path, header, "numframes")
    if not rows or (frames is not None and abs(frames - len(rows)) > _SPARE_ROWS):
        raise ClipError(
            path, "NumFrames", f"the header says {frames}, the file holds {len(rows)}; it is cut off or wrong"
        )
    check_size(path, len(rows), len(names))
    values = cells(path, rows, 2 + 3 * len(names))
    unit = header.get("units", "").lower()
    if unit not in _UNITS:
        raise ClipError(path, "Units", f"'{unit}' is none of: {', '.join(_UNITS)}")
    positions = values[:, 2:].reshape(len(values), len(names), 3)
    return Table(names, positions, growing(path, "Time", values[:, 1]), _UNITS[unit])


def _names(path: Path, line: str) -> tuple[str, ...]:
    """Of the points: each stands over the first of its three columns."""
    words = line.split("\t") if "\t" in line else line.split()
    names = tuple(word.strip() for word in words[2:] if word.strip())
    if words[0].strip().lower() not in ("frame#", "frame") or not names:
        raise ClipError(path, "line 4", "should be Frame#, Time and the points' names")
    return names


def _whole(path: Path, header: dict[str, str], key: str) -> int | None:
    """A whole number of the header, None where it has none of that name."""
    if key not in header:
        return None
    try:
        return int(float(header[key]))
    except (ValueError, OverflowError):
        raise ClipError(path, "line 3", f"'{header[key][:40]}' is no number ({key})") from None
