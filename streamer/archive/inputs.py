"""Which files are to be refined, and where the result of each goes: the same below DIR as below the PATH given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from model.prepare import SUFFIXES, is_named_joints
from streamer.archive.task import Row, Settings, Task
from streamer.errors import ConfigError
from streamer.sinks.recording import SUFFIX

_ALONE = (".npz", SUFFIX)
_ZIPPED_TOO = (".bvh", ".amc")
_ELSE = ".npz"  # of results whose input is of a kind that cannot be written


def is_take(path: Path) -> bool:
    """Whether a file's name is that of a kind that is read; in folders, others are passed over."""
    name = path.name.lower()
    return name.endswith(_ALONE) or name.removesuffix(".gz").endswith(_ZIPPED_TOO) or is_named_joints(path)


def files_in(paths: Sequence[Path], out: Path) -> list[tuple[Path, str]]:
    """(file, its way below the path that was given) for each file, folders searched in the order of their names.

    Raises:
        ConfigError: a path is not there, or a folder holds no file that is read.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            below = [(file, file.relative_to(path).as_posix()) for file in _walk(path, out.resolve())]
            if not below:
                raise ConfigError(f"{path}: no file in it that is read: .bvh, .amc, .npz, .hpstm, .trc, .csv")
            found += below
        elif path.is_file():
            found.append((path, path.name))
        else:
            raise ConfigError(f"{path}: no such file or folder")
    return found


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (Path(here) / n).resolve() != out)
        yield from (path for name in sorted(names) if is_take(path := Path(here) / name) and not name.startswith("."))


def tasks_for(
    files: Iterable[tuple[Path, str]], out: Path, settings: Settings, done: dict[str, Row]
) -> tuple[list[Task], list[Row]]:
    """The tasks, with what earlier runs did; and the refused, whose result would be another's."""
    tasks, refused, owner = [], [], dict[str, str]()
    for path, label in files:
        target = target_of(label, settings.suffix)
        if target in owner:
            refused.append(Row(label, "refused", f"{path}: its result would be that of {owner[target]}: {target}; "
                                                 "give it another --out"))  # fmt: skip
            continue
        owner[target] = str(path)
        before = done.get(label)
        known = () if before is None else tuple(before.outputs)
        tasks.append(Task(str(path.absolute()), label, str(out.absolute()), target, settings,
                          "" if before is None else before.key, known))  # fmt: skip
    return tasks, refused


def target_of(label: str, suffix: str) -> str:
    """The result's way below DIR; ``suffix`` "": of the input's own kind, or .npz where that cannot be written."""
    path = Path(label)
    plain = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    own = Path(plain).suffix.lower()
    return path.with_name(Path(plain).stem + (suffix or (own if own in SUFFIXES else _ELSE))).as_posix()
