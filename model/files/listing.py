"""Lists of clips: which file is whose, its true rate, and in which split it is; made up where a folder has none."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.files.retarget import ClipError

LISTING = "clips.csv"
KINDS = (".bvh", ".bvh.gz", ".amc", ".amc.gz", ".npz")
TESTED = 5  # every so-manieth person of a folder without a list is kept for tests


@dataclass(frozen=True)
class ListedClip:
    """A row of clips.csv; ``path`` is absolute, ``fps`` the true rate, None: as the file says."""

    set: str
    subject: str
    path: Path
    fps: float | None
    split: str


def listed_clips(data_dir: Path, listing: str = LISTING) -> tuple[ListedClip, ...]:
    """The rows of ``data_dir``/clips.csv, or of another list of this form beside it; without clips.csv ``found_clips``.

    Raises:
        ClipError: no such file and no clips, or a column is missing.
    """
    path = data_dir / listing
    return found_clips(data_dir) if listing == LISTING and not path.exists() else _rows_of(path)


def found_clips(folder: Path) -> tuple[ListedClip, ...]:
    """A row for each motion file below a folder that has no list.

    Files of one folder below it are one person's; each that lies in it itself is another's. Every fifth person,
    or the last of fewer, is in split "test", the others in "train"; one alone is in "train".

    Raises:
        ClipError: there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(KINDS) and path.is_file())
    if not paths:
        raise ClipError(folder, "files", f"no {LISTING} and no motion files here ({', '.join(KINDS)})")
    below = [path.relative_to(folder) for path in paths]
    whose = [one.parent.as_posix() if one.parent.name else one.name.partition(".")[0] for one in below]
    people = sorted(set(whose))
    tested = people[TESTED - 1 :: TESTED] or people[1:][-1:]
    name = folder.resolve().name
    return tuple(
        ListedClip(name, one, path, None, "test" if one in tested else "train")
        for path, one in zip(paths, whose, strict=True)
    )


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
