"""What has been done in a folder of results: a line of JSON a file, added as soon as its result is there.

Only the driver writes it, and one driver at a time. A line that a crash cut off is left out: its file is done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

from streamer.archive.task import UNFINISHED, Row
from streamer.errors import ConfigError

NAME = "manifest.jsonl"


class Manifest:
    """The manifest of a folder, open for adding; ``done``: label -> the newest row of a file that is done."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.done: dict[str, Row] = {}
        text = file.read()
        for line in text.splitlines():
            row = _row(line)
            if row is not None and row.status == "done":
                self.done[row.input] = row
        if text and not text.endswith(b"\n"):
            file.write(b"\n")  # the last line was cut off

    def add(self, row: Row) -> None:
        """Keeps a row of a file that is done; it is on the disk when this returns.

        Raises:
            ConfigError: the disk is full, or gone. What was added before is safe.
        """
        self.done[row.input] = row
        try:
            self._file.write(row.to_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigError(f"{NAME}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def open_manifest(out: Path) -> Iterator[Manifest]:
    """The manifest of the folder ``out``, which is made if it is not there, and is nobody else's meanwhile.

    Raises:
        ConfigError: the folder holds other things, cannot be written, or another run is at work in it.
    """
    with _locked(out) as file:
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)  # of a run that was killed
        try:
            yield Manifest(file)
        finally:
            shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _locked(out: Path) -> BinaryIO:
    """The file, to read and to add to."""
    path = out / NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not path.exists() and any(out.iterdir()):
            raise ConfigError(f"--out {out}: holds other things, and no {NAME}; give a new or an empty folder")
        file = path.open("a+b")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: nothing keeps two runs out of one folder
        pass
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise ConfigError(f"--out {out}: another `hpstm refine` is at work in it; wait for it") from error
        raise ConfigError(f"--out {out}: cannot be locked ({error.strerror or error})") from error
    file.seek(0)
    return file


def _row(line: bytes) -> Row | None:
    """A row, None where the line is none of ours."""
    try:
        raw = json.loads(line)
        return Row(**{field.name: raw[field.name] for field in fields(Row)})
    except (ValueError, KeyError, TypeError):
        return None
