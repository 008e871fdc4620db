"""Lists of clips: which file is whose, its true rate, and in which split it is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.files.retarget import ClipError

LISTING = "clips.csv"


@dataclass(frozen=True)
class ListedClip:
    """A row of clips.csv; ``path`` is absolute, ``fps`` the true rate."""

    set: str
    subject: str
    path: Path
    fps: float
    split: str


def listed_clips(data_dir: Path, listing: str = LISTING) -> tuple[ListedClip, ...]:
    """The rows of ``data_dir``/clips.csv, or of another list of this form beside it.

    Raises:
        ClipError: no such file, or a column is missing.
    """
    return _rows_of(data_dir / listing)


def _rows_of(listing: Path) -> tuple[ListedClip, ...]:
    if not listing.is_file():
        raise ClipError(listing, "file", "not found; point to the folder that holds it")
    stamp = listing.stat()
    return _read(listing, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _read(listing: Path, *_: int) -> tuple[ListedClip, ...]:
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClipError(listing, "file", f"cannot be read ({error})") from error
    return tuple(_listed(listing, number, row) for number, row in enumerate(rows, 2))


def _listed(listing: Path, line: int, row: dict[str, str]) -> ListedClip:
    try:
        fps = float(row["fps"])
        return ListedClip(row["set"], row["subject"], listing.parent / row["file"], fps, row["split"])
    except (KeyError, TypeError, ValueError) as error:
        raise ClipError(listing, f"line {line}", f"column {error} missing or wrong") from error


def listed_fps(path: Path) -> float | None:
    """The rate that a list of clips in a parent folder (clips.csv, more_clips.csv) gives this file, if any does."""
    here = path.resolve()
    for folder in here.parents:
        lists = sorted(folder.glob("*" + LISTING))
        if lists:
            return next((row.fps for each in lists for row in _rows_of(each) if row.path == here), None)
    return None
