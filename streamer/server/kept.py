"""Skeletons that outlive the server: a folder with one small JSON file for each actor, replaced whole or not at all.

Several servers may have the same folder: each reads what the others have written when an actor comes to it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from model.skeleton import JOINTS
from streamer.errors import ConfigError
from streamer.frames import Array

FORMAT = "hpstm-skeleton 1"
MOST_BYTES = 64 * 1024  # a file of ours has 3 kB
LONGEST_M = 3.0  # of a bone
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")

log = logging.getLogger("hpstm")


@dataclass(frozen=True)
class KeptSkeleton:
    """A skeleton that is known: what it is, and how well."""

    actor: str
    version: int  # of the bones, as published
    offsets_m: Array  # (24, 3) float32, rest-pose vector from the parent to each joint [m]
    measured_s: float  # how long it was measured for; 0: it was given
    saved_at: str = ""  # UTC, ISO 8601


def check_offsets(offsets_m: Array) -> str:
    """What is wrong with the offsets of a skeleton, "" if nothing."""
    if offsets_m.shape != (len(JOINTS), 3):
        return f"expected {len(JOINTS)} x 3 numbers, got shape {offsets_m.shape}"
    if not np.isfinite(offsets_m).all():
        return "a number is not finite"
    if np.abs(offsets_m[1:]).max() > LONGEST_M:
        return f"a bone is longer than {LONGEST_M:g} m; they are in metres"
    return ""


def file_name(actor: str) -> str:
    """A file name for any actor name, another one for each: also where case is not told apart, and for "..", "con"."""
    return "actor-" + "".join(chr(b) if b in _PLAIN else f"%{b:02x}" for b in actor.encode()) + ".json"


class KeptSkeletons:
    """The folder. Reading is at once; writing is a thread's work, and its failure is said and counted.

    Args:
        folder: made if need be.
        unsaved: called, in a thread, for each skeleton that could not be written.
    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, folder: str | Path, unsaved: Callable[[], None]) -> None:
        self._folder, self._unsaved = Path(folder), unsaved
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise ConfigError(f"--skeletons {folder}: cannot write there ({error.strerror or error})") from error
        self._writer = ThreadPoolExecutor(1, "hpstm-skeletons")
        self._mark = uuid.uuid4().hex  # of half-written files: another server may be writing of the same actor
        self._waiting: dict[str, KeptSkeleton | None] = {}  # to be written, or (None) removed: as good as done
        self._lock = Lock()

    def load(self, actor: str) -> KeptSkeleton | None:
        """What is kept of ``actor``; None if nothing, or nothing that can be used, which is said."""
        with self._lock:
            if actor in self._waiting:
                return self._waiting[actor]
        path = self._folder / file_name(actor)
        try:
            with path.open("rb") as file:
                return _read(file.read(MOST_BYTES), actor)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            log.warning("%s is not used, the skeleton is measured anew: %s", path, error)
            return None

    def save(self, skeleton: KeptSkeleton) -> None:
        self._have_done(skeleton.actor, skeleton)

    def forget(self, actor: str) -> None:
        self._have_done(actor, None)

    def _have_done(self, actor: str, skeleton: KeptSkeleton | None) -> None:
        with self._lock:
            self._waiting[actor] = skeleton
        self._writer.submit(self._do, actor, skeleton)

    def _do(self, actor: str, skeleton: KeptSkeleton | None) -> None:
        try:
            path = self._folder / file_name(actor)
            if skeleton is None:
                path.unlink(missing_ok=True)
            else:
                _write(path, _text(skeleton), self._mark)
        except OSError as error:
            log.warning("the skeleton of %r was not saved: %s", actor, error)
            self._unsaved()
        with self._lock:
            if self._waiting.get(actor) is skeleton:
                self._waiting.pop(actor, None)

    def close(self) -> None:
        """Returns when all is written."""
        self._writer.shutdown(wait=True)


def _write(path: Path, text: str, mark: str) -> None:
    """Writes a file whole, or leaves the one that is there. Raises OSError."""
    new = path.with_suffix(f".{mark}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _text(skeleton: KeptSkeleton) -> str:
    offsets = [[float(str(x)) for x in row] for row in skeleton.offsets_m.astype(np.float32)]  # shortest, and exact
    fields = {
        "format": FORMAT, "actor": skeleton.actor, "skeleton_version": skeleton.version,
        "measured_s": round(skeleton.measured_s, 3), "saved_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items()]
    joints = [f"    {json.dumps(name)}: {json.dumps(xyz)}" for name, xyz in zip(JOINTS, offsets, strict=True)]
    return "{\n" + ",\n".join(lines) + ',\n  "offsets_m": {\n' + ",\n".join(joints) + "\n  }\n}\n"


def _read(data: bytes, actor: str) -> KeptSkeleton:
    """Raises ValueError, KeyError, TypeError, OverflowError, RecursionError: it is not a skeleton of this actor."""
    raw: dict[str, Any] = json.loads(data)
    if raw["format"] != FORMAT or raw["actor"] != actor:
        raise ValueError(f"expected format {FORMAT!r} of actor {actor!r}")
    offsets = np.array([raw["offsets_m"][name] for name in JOINTS], np.float32)
    if wrong := check_offsets(offsets):
        raise ValueError(f"offsets_m: {wrong}")
    version, measured_s = int(raw["skeleton_version"]), float(raw["measured_s"])
    if not 0 < version < 2**62 or not 0 <= measured_s < 1e9:
        raise ValueError("skeleton_version or measured_s is out of range")
    return KeptSkeleton(actor, version, offsets, measured_s, str(raw["saved_at"])[:40])
