"""A user's own data for fine-tuning: motion files, or recordings of their estimator with truth; and who is held out.

Whole people are held out where three or more are named, else whole recordings: what is scored was never trained on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from model.files.listing import LISTING
from model.prepare import Clip, ClipError, listed_clips, load_packed, read_clip, split_at_jumps
from model.training.pair_files import PairError, recordings_in
from model.training.pairs import PairTake, take_of

T = TypeVar("T")

FEWEST, SHORTEST_S = 3, 60.0  # people or recordings, and seconds of them in all: less teaches nothing
LITTLE_S = 300.0  # below which the table is to be read with care
CLIP_S = 4.0  # shorter clips cannot be scored
HELD_OUT = (0.2, 0.4)  # share of the time: enough, and not more where it can be helped
_READ = (".bvh", ".amc", ".npz")


class OwnDataError(ValueError):
    """Data that nothing can be learned from: the message says what is needed."""


@dataclass(frozen=True)
class Own(Generic[T]):
    """One take. ``subject`` is "" where nobody says whose it is; takes of one ``recording`` stay together."""

    name: str
    subject: str
    recording: str
    seconds: float
    take: T


@dataclass(frozen=True)
class Split(Generic[T]):
    """Takes to learn from, and those that are only scored; ``groups`` are the held-out people or recordings."""

    train: list[Own[T]]
    held_out: list[Own[T]]
    groups: tuple[str, ...]
    by: str  # "subject" or "recording"


# -- reading


def clips_of(data: Path, say: Callable[[str], None]) -> list[Own[Clip]]:
    """The clips of a folder of motion files, or of a file that ``hpstm prepare`` packed; ``say`` gets what is left out.

    In a folder with a clips.csv those of its split "train", with their subjects; else every file below it, and the
    subject is the name of the folder it lies in, if it lies in one.

    Raises:
        OwnDataError: there is no such file or folder.
    """
    if data.is_dir():
        return [own for path, subject, fps in _files(data) for own in _read(path, subject, fps, say)]
    if data.is_file():
        try:
            packed = load_packed(data)
        except (OSError, ValueError, KeyError) as error:
            raise OwnDataError(f"--data {data}: not a file of `hpstm prepare`; or give a folder ({error})") from error
        return [own for clip in packed for own in _long_enough(clip, clip.subject, clip.name, data, say)]
    raise OwnDataError(f"--data {data}: no such file or folder")


def _files(folder: Path) -> Iterator[tuple[Path, str, float | None]]:
    """Path, subject and true rate, where it is known, of each file."""
    if (folder / LISTING).is_file():
        yield from ((row.path, row.subject, row.fps) for row in listed_clips(folder) if row.split == "train")
        return
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().removesuffix(".gz").endswith(_READ) and not name.startswith("."):
                below = Path(here).relative_to(folder).parts
                yield Path(here) / name, below[0] if below else "", None


def _read(path: Path, subject: str, fps: float | None, say: Callable[[str], None]) -> Iterator[Own[Clip]]:
    try:
        clip = read_clip(path, fps)
    except ClipError as error:
        say(f"left out: {error}")
        return
    if clip.world_rotations is None:
        say(f"left out: {path}: holds positions only, and training needs rotations")
        return
    for piece in split_at_jumps(clip):
        yield from _long_enough(piece, subject, clip.name, path, say)


def _long_enough(
    clip: Clip, subject: str, recording: str, path: Path, say: Callable[[str], None]
) -> Iterator[Own[Clip]]:
    seconds = len(clip) / clip.fps
    if seconds < CLIP_S:
        say(f"left out: {path}, {clip.name}: {seconds:.1f} s, and {CLIP_S:.0f} s are needed")
        return
    yield Own(clip.name, subject, f"{subject}/{recording}" if subject else recording, seconds, clip)


def pairs_of(files: Sequence[Path], say: Callable[[str], None]) -> list[Own[PairTake]]:
    """The takes of an estimator and the truth in some files; ``say`` gets what is left out.

    Raises:
        PairError: a file is none.
    """
    found: list[Own[PairTake]] = []
    for file in files:
        for recorded in recordings_in(file):
            take = take_of(recorded)
            if take is None:
                say(f"left out: {file}, {recorded.name}: hardly anything is seen in it")
                continue
            found.append(Own(recorded.name, recorded.subject, file.stem, float(take.times_s[-1]), take))
    return found


# -- who is held out


def split(takes: Sequence[Own[T]], what: str, wanted: Sequence[str] = ()) -> Split[T]:
    """Whole people or recordings held out: those that are ``wanted``, else some by a fixed draw.

    Args:
        what: the option that gave them, for the messages.
        wanted: names of subjects or recordings.
    Raises:
        OwnDataError: there is too little, or nothing is called as wanted.
    """
    seconds = sum(own.seconds for own in takes)
    subjects = {own.subject for own in takes}
    by = "subject" if "" not in subjects and (len(subjects) >= FEWEST or set(wanted) & subjects) else "recording"
    groups = sorted({getattr(own, by) for own in takes})
    if len(groups) < (2 if wanted else FEWEST) or seconds < SHORTEST_S:
        raise OwnDataError(
            f"{what}: too little to learn from: {len(groups)} recordings, {seconds:.0f} s; at least {FEWEST} "
            f"recordings, one of them to be held out, and {SHORTEST_S:.0f} s in all are needed; more is better"
        )
    held = _found(wanted, groups, what) if wanted else _chosen(takes, by, groups, seconds)
    parts: tuple[list[Own[T]], list[Own[T]]] = ([], [])
    for own in takes:
        parts[getattr(own, by) in held].append(own)
    if not parts[0]:
        raise OwnDataError(f"{what}: all is held out, and nothing is left to learn from")
    return Split(*parts, tuple(sorted(held)), by)


def _found(wanted: Sequence[str], groups: Sequence[str], what: str) -> set[str]:
    held = set(wanted) & set(groups)
    if not held:
        raise OwnDataError(f"{what}: nothing there is called {' or '.join(wanted)}; there are: {', '.join(groups)}")
    return held


def _chosen(takes: Sequence[Own[T]], by: str, groups: Sequence[str], seconds: float) -> set[str]:
    length = {group: sum(own.seconds for own in takes if getattr(own, by) == group) for group in groups}
    held: set[str] = set()
    for n in np.random.default_rng(0).permutation(len(groups)):
        now = sum(length[group] for group in held)
        if now < HELD_OUT[0] * seconds and now + length[groups[n]] <= HELD_OUT[1] * seconds:
            held.add(groups[n])
    return held or {min(groups, key=lambda group: length[group])}


__all__ = ["Own", "OwnDataError", "PairError", "Split", "clips_of", "pairs_of", "split"]
