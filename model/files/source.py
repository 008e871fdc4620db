"""Bytes, text and arrays out of files that may be broken: every size is checked before it is allocated.

All limits of the readers stand here. A file beyond one is refused with a ClipError that names the limit.
"""

from __future__ import annotations

import gzip
import lzma
import math
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from model.files.retarget import ClipError
from model.files.tree import Floats

MAX_BYTES = 512 << 20  # of a file, and of what it unpacks to
MAX_HEADER = 8 << 20  # characters of a skeleton's description
MAX_JOINTS = 1024
MAX_DEPTH = 128  # joints from the root to a fingertip
MAX_FRAMES = 1_000_000
MAX_CELLS = 40_000_000  # frames times joints: a rotation each
MAX_NUMBER = 1e6  # lengths in the file's unit, angles in degrees
MAX_FPS = 10_000.0
_CHUNK = 1 << 20
_BROKEN = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, OverflowError, struct.error, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile,
)  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """A plain or gzipped file, unpacked, at most MAX_BYTES of it.

    Raises:
        ClipError: it cannot be read, is cut off, or is too large.
    """
    parts, size = [], 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise ClipError(path, "file", f"larger than {MAX_BYTES >> 20} MiB unpacked, the most that is read")
                parts.append(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise ClipError(path, "file", f"cannot be read ({error}); is it complete?") from error
    return b"".join(parts)


def read_text(path: Path) -> str:
    """The text of a plain or gzipped file: UTF-8 or UTF-16 by its mark, else UTF-8, else Latin-1."""
    raw = read_bytes(path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def check_size(path: Path, frames: int, joints: int) -> None:
    """Raises a ClipError where a motion is longer than is read, or would need too much memory."""
    if frames > MAX_FRAMES:
        raise ClipError(path, "frames", f"{frames} frames, but at most {MAX_FRAMES} are read; cut the file")
    if frames * joints > MAX_CELLS:
        found = f"{frames} frames of {joints} joints"
        raise ClipError(path, "frames", f"{found} are more than {MAX_CELLS} rotations; cut the file")


def number(word: str) -> float:
    """A finite number within MAX_NUMBER, else a ValueError that says which it is not."""
    value = float(word)
    if not abs(value) <= MAX_NUMBER:  # NaN, too
        raise ValueError(f"{word} is out of range (finite, at most {MAX_NUMBER:g})")
    return value


def numbers(text: str) -> Floats | None:
    """All numbers of a text, or None where a word of it is none."""
    if not text.strip():
        return np.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


class Arrays:
    """The arrays of an ``.npz`` by key, each read when it is asked for; what nobody asks for is never unpacked.

    numpy's own loader believes the sizes that a file states, and evaluates its headers; this one does neither.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        except _BROKEN as error:
            raise ClipError(path, "file", f"not a readable npz ({error}); is it complete?") from error

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def keys(self) -> list[str]:
        return sorted(self._members)

    def __getitem__(self, key: str) -> np.ndarray[Any, Any]:
        """The array of a key.

        Raises:
            ClipError: no such key, Python objects in it, or more or fewer bytes than it promises.
        """
        if key not in self._members:
            raise self._error(key, "missing")
        try:
            with self._zip.open(self._members[key]) as stream:
                dtype, order, shape = self._header(key, stream)
                size = math.prod(shape) * dtype.itemsize
                if size > min(MAX_BYTES, self._members[key].file_size):
                    raise self._error(key, f"{size} bytes promised; the file holds fewer, or more than {MAX_BYTES}")
                raw = stream.read(size)
                if len(raw) != size or stream.read(1):
                    raise self._error(key, f"should hold {size} bytes, and does not; is the file complete?")
            return np.frombuffer(raw, dtype).reshape(shape, order=order)
        except ClipError:
            raise
        except _BROKEN as error:
            raise self._error(key, f"cannot be read ({error}); is the file complete?") from error

    def _header(self, key: str, stream: Any) -> tuple[np.dtype[Any], Any, tuple[int, ...]]:
        start = stream.read(8)
        if start[:6] != b"\x93NUMPY":
            raise self._error(key, "not a numpy array")
        wide = start[6:7] != b"\x01"
        (length,) = struct.unpack("<I" if wide else "<H", stream.read(4 if wide else 2))
        text = stream.read(min(length, _CHUNK)).decode("latin-1")
        descr = re.search(r"'descr': '([<>|=]?[a-zA-Z?]\d*)'", text)
        shape = re.search(r"'shape': \(((?:\d{1,18},? ?){0,8})\)", text)
        if descr is None or shape is None:
            raise self._error(key, "its header is broken, or not of plain numbers")
        if descr[1].lstrip("<>|=")[0] not in "?biufcSU":
            raise self._error(key, f"holds Python objects ({descr[1]}), which are never loaded")
        order = "F" if "'fortran_order': True" in text else "C"
        try:
            return np.dtype(descr[1]), order, tuple(int(n) for n in re.findall(r"\d+", shape[1]))
        except TypeError:
            raise self._error(key, f"of an unknown type {descr[1]!r}") from None

    def _error(self, key: str, message: str) -> ClipError:
        return ClipError(self.path, f"key '{key}'", message)
