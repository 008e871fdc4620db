"""Pairs: what a real estimator said of a motion and the truth of it, in one form, whatever file they come from.

A pair's file is an ``.npz`` of one take:

    noisy      (T, J, 3)  m, Y up, joints in the layout's order; NaN = missing
    truth      (T, 24, 3) the canonical joints, or (T, J, 3) in the layout's order; NaN = not known
    times_s    (T,)       rising
    layout     ()         name of the layout, or the path of its TOML file
    confidence (T, J)     0 to 1, 0 = missing; may be left out
    truth_rotations (T, 24, 3, 3) world_from_joint; may be left out
    name, subject, source ()  words; may be left out

``rendered/*.npz`` and ``aistpp/*.npz`` of the data folder are read as they are. numpy only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.layouts import LayoutError, get_layout
from model.skeleton import INDEX, J
from model.training.held_out import RENDERED_HELD_OUT
from model.training.stature import standing_height_m

Floats = npt.NDArray[np.floating[Any]]
File = dict[str, npt.NDArray[Any]]

HIPS = [INDEX["left_hip"], INDEX["right_hip"]]


class PairError(ValueError):
    """A file that is no pair: the message names it and the key."""


@dataclass(frozen=True)
class Recording:
    """One take: noisy (T, J, 3) [m] as the source sends it, confidence (T, J) or None, at times (T,) [s]; truth
    (T, 24, 3) [m], NaN where not known, and world_from_joint rotations (T, 24, 3, 3), or None; the person's height and
    how far the camera looks down, where they are known."""

    name: str
    source: str
    subject: str
    layout: str
    times_s: Floats
    noisy: Floats
    truth: Floats
    confidence: Floats | None = None
    rotations: Floats | None = None
    height_m: float | None = None
    pitch_deg: float | None = None


def read_recordings(files: Sequence[str | Path]) -> list[Recording]:
    """The takes of some files, in their order.

    Raises:
        PairError: a file is missing or is none of the kinds; the message names the file and the key.
    """
    takes: list[Recording] = []
    for file in map(Path, files):
        takes += recordings_in(file)
    twice = [name for name, count in Counter((take.source, take.name) for take in takes).items() if count > 1]
    if twice:
        raise PairError(f"two takes are called {' '.join(twice[0])}; give each a name of its own")
    return takes


def recordings_in(file: Path) -> list[Recording]:
    """The takes of one file."""
    try:
        with np.load(file, allow_pickle=False) as opened:
            data = {key: opened[key] for key in opened.files}
    except (OSError, ValueError) as error:
        raise PairError(f"{file}: not an npz that can be read ({error})") from error
    return list(_reader(file, data)(file, data))


def _reader(file: Path, data: File) -> Callable[[Path, File], Iterator[Recording]]:
    for keys, reader in _READERS:
        if keys <= data.keys():
            return reader
    raise PairError(f"{file}: has {', '.join(data)}; give noisy, truth, times_s, layout (see pair_files.py)")


def _neutral(file: Path, data: File) -> Iterator[Recording]:
    def word(key: str, default: str) -> str:
        return str(data[key]) if key in data else default

    name, layout = word("name", file.stem), str(data["layout"])
    times_s, noisy, truth = (np.asarray(data[key], np.float64) for key in ("times_s", "noisy", "truth"))
    try:
        joints = get_layout(layout).joints
    except LayoutError as error:
        raise PairError(f"{file}, layout: {error}") from error
    steps = len(times_s)
    own, canonical = (steps, len(joints)), (steps, J)
    allowed: dict[str, list[tuple[int, ...]]] = {
        "noisy": [(*own, 3)], "truth": [(*canonical, 3), (*own, 3)], "confidence": [own],
        "truth_rotations": [(*canonical, 3, 3)],
    }  # fmt: skip
    for key, shapes in allowed.items():
        if key in data and data[key].shape not in shapes:
            wanted = " or ".join(str(shape) for shape in shapes)
            raise PairError(f"{file}, {key}: the shape is {data[key].shape}, it must be {wanted}")
    if steps < 4 or not (np.diff(times_s) > 0).all():
        raise PairError(f"{file}, times_s: at least four rising times in seconds")
    if truth.shape[1] != J or (layout != "smpl_24" and len(joints) == J):
        truth = np.asarray(canonical_truth(layout, truth), np.float64)
    yield Recording(
        name, word("source", file.parent.name or "pairs"), word("subject", ""), layout, times_s, noisy, truth,
        data.get("confidence"), data.get("truth_rotations"),
    )  # fmt: skip


def _rendered(file: Path, data: File) -> Iterator[Recording]:
    """MediaPipe's axes turned to Y up. Its world has its origin between the hips: so has the truth then.

    Takes of subjects that training may use are a source of their own.
    """
    truth = data["truth_m"].astype(np.float64)
    truth -= truth[:, HIPS].mean(1, keepdims=True)
    noisy = data["world_m"].astype(np.float64) * (1.0, -1.0, -1.0)
    meta, rotations = json.loads(str(data["meta"])), data["truth_world_rot"].astype(np.float64)
    subject = str(meta["subject"])
    source = "rendered" if subject in RENDERED_HELD_OUT else "rendered (train)"
    yield Recording(
        file.stem, source, subject, "mediapipe_33", data["time_s"].astype(np.float64), noisy, truth,
        data["visibility"].astype(np.float64), rotations, standing_height_m(truth, rotations),
        float(np.degrees(meta["pitch_down_rad"])) if "pitch_down_rad" in meta else None,
    )  # fmt: skip


def _aistpp(file: Path, data: File) -> Iterator[Recording]:
    """One take for each subset of the cameras."""
    times_s = np.arange(len(data["truth_m"])) / float(data["fps"])
    truth = canonical_truth("coco_17", data["truth_m"].astype(np.float64))
    for k, cameras in enumerate(data["cameras"]):
        views = "".join(str(c) for c in cameras if c >= 0)
        noisy, confidence = data["noisy_m"][k].astype(np.float64), data["confidence"][k].astype(np.float64)
        subject = file.stem.split("_")[3]
        yield Recording(f"{file.stem} {views}", "aistpp", subject, "coco_17", times_s, noisy, truth, confidence)


_READERS: tuple[tuple[set[str], Callable[[Path, File], Iterator[Recording]]], ...] = (
    ({"world_m", "visibility", "time_s", "truth_m", "truth_world_rot", "meta"}, _rendered),
    ({"noisy_m", "confidence", "truth_m", "cameras", "fps"}, _aistpp),
    ({"noisy", "truth", "times_s", "layout"}, _neutral),
)


def canonical_truth(layout: str, truth: Floats) -> Floats:
    """(T, 24, 3) truth of the joints that a layout measures, from truth in its own order (T, J, 3); NaN elsewhere."""
    xyz, measured, _, _ = get_layout(layout).to_canonical(truth)
    return np.where(np.broadcast_to(measured, xyz.shape[:2])[..., None], xyz, np.nan).astype(np.float64)
