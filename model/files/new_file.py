"""A new file that is there whole or not at all, and never instead of one that was there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from model.files.retarget import ClipError


def check_new(path: Path) -> None:
    """Raises ClipError where a file of that name exists, or its folder does not."""
    if path.exists() or path.is_symlink():
        raise ClipError(path, "file", "exists; it is left as it is, give another name")
    if not path.parent.is_dir():
        raise ClipError(path, "folder", f"there is no folder {path.parent}; make it first")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes ``path`` when all of it is written, and is gone when that fails.

    Raises:
        ClipError: a file of that name exists, or it cannot be written (the disk is full, the folder is read-only).
    """
    check_new(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".new", dir=path.parent)
    except OSError as error:
        raise ClipError(path, "file", f"cannot be written ({error.strerror or error})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's is for the owner alone
        check_new(path)  # it may have come meanwhile
        os.replace(name, path)
    except OSError as error:
        raise ClipError(path, "file", f"cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
