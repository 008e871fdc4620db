"""One file of an archive: read, refined, written, and a row that says so. It runs in a process of its own, anywhere.

Every worker is given the same plain words and answers with a plain row; the driver alone writes the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from model.contract import GRAPHS, WEIGHTS, sha256
from model.prepare import Animation, ClipError, find_asf, listed_fps, write_animation
from model.skeleton import J
from streamer.archive.passes import refined
from streamer.archive.streams import ACTOR, Stream, read_source
from streamer.commands.scores import bone_std_mm, canonical, jitter_m_s3
from streamer.errors import ConfigError, FrameError, HPSTMError
from streamer.frames import Array, Frame
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from streamer.sinks.files import file_of
from streamer.sources.told import Told

METHOD = 1  # grows when the same file and settings would give another answer
UNFINISHED = ".unfinished"  # in the folder of results: what is being written
_PARTS = 60  # of a take, for its drawing


@dataclass(frozen=True)
class Settings:
    """What the answer depends on beside the file. suffix: "" is the input's own kind, where it can be written."""

    suffix: str
    fps: float | None
    unit_m: float | None
    up: str | None
    runtime: str
    weights: str | None  # a model folder; None: the bundled one
    model: str  # its hash
    height_m: float | None = None  # of people, and how far the camera looks down: of MediaPipe's landmarks
    pitch_deg: float = 0.0


@dataclass(frozen=True)
class Task:
    """A file to refine.

    Attributes:
        path: the file. label: how it is called in the manifest: its way below the PATH that was given.
        out: the folder of results. target: way of the result below it, with its suffix.
        known, outputs: key and results of an earlier run.
    """

    path: str
    label: str
    out: str
    target: str
    settings: Settings
    known: str = ""
    outputs: tuple[str, ...] = ()


@dataclass
class Row:
    """What became of a file. status: "done", "skipped" (an earlier run did it) or "refused", for ``reason``."""

    input: str
    status: str
    reason: str = ""
    key: str = ""
    kind: str = ""
    mapped: str = ""
    notes: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    takes: list[dict[str, Any]] = field(default_factory=list)  # of each actor: see ``_measured``
    seconds: float = 0.0  # of motion
    took_s: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)


def model_hash(folder: Path | None) -> str:
    """Of the graphs in a model folder (None: the bundled one): another hash, another answer."""
    where = folder or WEIGHTS
    try:
        return _hash([sha256(where / f"{graph}.onnx") for graph in GRAPHS])
    except OSError as error:
        raise ConfigError(f"{where}: no model folder ({error.strerror}: {Path(str(error.filename)).name})") from error


def work(task: Task) -> Row:
    """Does a task, unless it was done: its results are all there, or none is new. Never raises for a bad file."""
    started, path = time.monotonic(), Path(task.path)
    try:
        key = _key(path, task.settings)
        if key == task.known and all((Path(task.out) / name).is_file() for name in task.outputs):
            return Row(task.label, "skipped", key=key)
        row = _refine(task, path, Row(task.label, "done", key=key))
    except (HPSTMError, ClipError, OSError, MemoryError) as error:
        return Row(task.label, "refused", " ".join((str(error) or type(error).__name__).split()))
    row.took_s = round(time.monotonic() - started, 3)
    return row


def _key(path: Path, settings: Settings) -> str:
    """Hash of all that the answer depends on: the file, its skeleton file, its listed rate, the model, the settings."""
    asked = asdict(settings) | {"weights": None}
    if settings.height_m is None and not settings.pitch_deg:  # what was done before there were these stays done
        del asked["height_m"], asked["pitch_deg"]
    parts: list[object] = [METHOD, asked, sha256(path)]
    if path.name.lower().removesuffix(".gz").endswith(".amc"):
        parts.append(sha256(find_asf(path)))
    return _hash([*parts, listed_fps(path)])


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _runtime(name: str, weights: str | None) -> Runtime:
    return load_runtime(name, None if weights is None else Path(weights), threads=1)


def _refine(task: Task, path: Path, row: Row) -> Row:
    asked = task.settings
    source = read_source(path, asked.fps, asked.unit_m, asked.up)
    known = Told(asked.height_m, asked.pitch_deg)
    row.kind, row.mapped, row.notes = source.kind, source.mapped, list(source.notes)
    runtime, out = _runtime(asked.runtime, asked.weights), Path(task.out)
    places = {stream.actor: _place(task.target, stream, len(source.streams)) for stream in source.streams}
    if len(set(places.values())) < len(places):
        raise ConfigError(f"{path}: two actors have names that differ only in what no file's name may hold")
    (out / UNFINISHED).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out / UNFINISHED))
    try:
        ready = []
        for stream in source.streams:
            try:
                stream = replace(stream, frames=[known.frame(frame) for frame in stream.frames])
                animation = refined(path.stem, stream.frames, stream.fps, stream.count, runtime, stream.offsets_m)
            except (ConfigError, FrameError) as error:
                raise ConfigError(f"{path}: {stream.actor + ': ' if stream.actor else ''}{error}") from error
            new = folder / Path(places[stream.actor]).name
            write_animation(animation, new, stream.actor or ACTOR)
            row.takes.append(_measured(stream, animation, sha256(new)))
            row.seconds += len(animation) / animation.fps
            ready.append((new, out / places[stream.actor]))
        for new, place in ready:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(new, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    row.outputs, row.seconds = list(places.values()), round(row.seconds, 3)
    return row


def _place(target: str, stream: Stream, actors: int) -> str:
    """A result's way below the folder of results; where there are several actors, with their name."""
    path = Path(target)
    named = path.with_name(f"{path.stem}-{{actor}}{path.suffix}") if actors > 1 else path
    return file_of(named, stream.actor).as_posix()


def _measured(stream: Stream, animation: Animation, digest: str) -> dict[str, Any]:
    """How steady one actor was and is, over the joints that its source shows; None: it cannot be said."""
    raw = np.stack([_shown(frame) for frame in stream.frames])
    new = np.stack(list(animation.positions()))
    unseen = np.isnan(raw)
    same = np.where(unseen if len(raw) == len(new) else unseen.all(0), np.nan, new)
    rate = stream.fps if len(raw) == len(new) else _median_fps(stream)
    return {
        "actor": stream.actor, "sha256": digest, "frames": len(new), "fps": animation.fps,
        "joints": int((~unseen.all((0, 2))).sum()),
        "jitter_m_s3": {"in": _plain(jitter_m_s3(raw, rate)), "out": _plain(jitter_m_s3(same, animation.fps))},
        "bone_std_mm": {"in": _plain(bone_std_mm(raw)), "out": _plain(bone_std_mm(new))},
        "over_time": {"in": _over_time(raw, rate), "out": _over_time(same, animation.fps)},
    }  # fmt: skip


def _shown(frame: Frame) -> Array:
    """(24, 3) what ``canonical`` says; nothing where the frame was none, which the filter has rejected."""
    try:
        return canonical(frame)
    except ValueError:
        return np.full((J, 3), np.nan)


def _median_fps(stream: Stream) -> float:
    steps = np.diff([frame.t_ns for frame in stream.frames])
    return 1e9 / float(np.median(steps)) if len(steps) else stream.fps


def _over_time(positions: Array, fps: float) -> list[float | None]:
    """The largest jitter in each part of a take [m/s^3]."""
    sizes = fps**3 * np.linalg.norm(np.diff(positions, n=3, axis=0), axis=-1)
    sizes = np.where(np.isfinite(sizes), sizes, -1.0).max(1, initial=-1.0)
    parts = np.array_split(sizes, min(_PARTS, len(sizes))) if len(sizes) else []
    return [_plain(float(part.max())) if part.max() >= 0.0 else None for part in parts]


def _plain(value: float) -> float | None:
    return float(f"{round(value, 6):.4g}") if np.isfinite(value) else None  # no noise of rounding
