"""Motion files in, canonical clips out: `read_clip`, packing of whole splits for training, and the mean rest pose.

Formats are in asf.py, bvh.py and amass.py, the mapping of their joints in rigs.py, the re-gauging in retarget.py.
numpy only: the streamer may read clips without torch.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.files.amass import read_npz
from model.files.asf import read_amc
from model.files.bvh import read_bvh
from model.files.retarget import Clip, ClipError, Floats, Recipe, align, retarget, unit
from model.files.rigs import recipe_of
from model.skeleton import INDEX, MIRROR

__all__ = [
    "Clip",
    "ClipError",
    "ListedClip",
    "jumps",
    "listed_clips",
    "load_packed",
    "measure_rest",
    "prepare",
    "read_clip",
    "split_at_jumps",
]

_LISTING = "clips.csv"


@dataclass(frozen=True)
class ListedClip:
    """A row of clips.csv; ``path`` is absolute, ``fps`` the true rate."""

    set: str
    subject: str
    path: Path
    fps: float
    split: str


@lru_cache(maxsize=8)
def listed_clips(data_dir: Path) -> tuple[ListedClip, ...]:
    """The rows of ``data_dir``/clips.csv.

    Raises:
        ClipError: no such file, or a column is missing.
    """
    listing = data_dir / _LISTING
    if not listing.is_file():
        raise ClipError(listing, "file", "not found; point to the folder that holds clips.csv")
    with listing.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(_listed(listing, number, row) for number, row in enumerate(rows, 2))


def _listed(listing: Path, line: int, row: dict[str, str]) -> ListedClip:
    try:
        fps = float(row["fps"])
        return ListedClip(row["set"], row["subject"], listing.parent / row["file"], fps, row["split"])
    except (KeyError, TypeError, ValueError) as error:
        raise ClipError(listing, f"line {line}", f"column {error} missing or wrong") from error


def _listed_fps(path: Path) -> float | None:
    """The rate that a clips.csv in a parent folder gives this file, if any does."""
    for folder in path.resolve().parents:
        if (folder / _LISTING).is_file():
            return next((row.fps for row in listed_clips(folder) if row.path == path.resolve()), None)
    return None


def _kind(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _recipe(path: Path, unit_m: float | None = None) -> tuple[Recipe, float]:
    """The recipe of a BVH or AMC file and the file's own rate."""
    tree = read_amc(path) if _kind(path) == ".amc" else read_bvh(path)
    try:
        return recipe_of(tree, unit_m), tree.fps
    except LookupError as error:
        raise ClipError(path, "joint names", str(error)) from error


def read_clip(path: str | Path, fps: float | None = None, unit_m: float | None = None) -> Clip:
    """The motion of a ``.bvh``, ``.amc`` or ``.npz`` file (or the same with ``.gz``) on the canonical skeleton.

    Args:
        path: the file; an ``.amc`` finds its ``.asf`` beside it.
        fps: true frame rate; else the one of a clips.csv in a parent folder, else the file's (AMC: 120).
        unit_m: metres per unit of a BVH whose joint names tell nothing of its unit.
    Returns:
        Clip with float64 arrays; forward_kinematics(world_rotations, offsets_m, positions[:, 0]) == positions.
    Raises:
        ClipError: names the file, the line or field, and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise ClipError(path, "file", "not found")
    rate = fps if fps is not None else _listed_fps(path)
    if rate is not None and not rate > 0.0:
        raise ClipError(path, "fps", f"{rate} is not a frame rate; it must be positive")
    name = path.name.split(".")[0]
    kind = _kind(path)
    if kind in (".bvh", ".amc"):
        recipe, own = _recipe(path, unit_m)
        return retarget(recipe, name, own if rate is None else rate)
    if kind == ".npz":
        found = read_npz(path, rate)
        return found if isinstance(found, Clip) else retarget(found[0], name, found[1])
    raise ClipError(path, "file name", f"unknown kind '{kind}'; give .bvh, .amc (both may end in .gz) or .npz")


def measure_rest(data_dir: Path, split: str = "train") -> Floats:
    """(24, 3) mean rest offsets [m] over the subjects of a split, left/right symmetric.

    Legs straight down and arms straight out define the T-pose; the trunk and the foot are measured, the foot in the
    axes of its shin. Source of model.skeleton's constants; test: tests/test_readers.py.
    """
    subjects = {(row.set, row.subject): row.path for row in reversed(listed_clips(data_dir)) if row.split == split}
    bones = np.array([_straightened(_recipe(path)[0].bones) for path in subjects.values()])
    mean: Floats = bones.mean(0)
    mirrored = mean[list(MIRROR)] * (-1.0, 1.0, 1.0)
    return 0.5 * (mean + mirrored)


def _straightened(bones: Floats) -> Floats:
    """(24, 3) bones of a T-pose with legs down, arms out, each as long as measured."""
    out = bones.copy()
    for side, x in (("left", 1.0), ("right", -1.0)):
        out[INDEX[f"{side}_foot"]] = (
            align(unit(bones[INDEX[f"{side}_ankle"]]), np.array([0.0, -1.0, 0.0])) @ bones[INDEX[f"{side}_foot"]]
        )
        for joint in ("knee", "ankle"):
            j = INDEX[f"{side}_{joint}"]
            out[j] = (0.0, -np.linalg.norm(bones[j]), 0.0)
        for joint in ("shoulder", "elbow", "wrist", "hand"):
            j = INDEX[f"{side}_{joint}"]
            out[j] = (x * np.linalg.norm(bones[j]), 0.0, 0.0)
    return out


def jumps(clip: Clip) -> npt.NDArray[np.int64]:
    """Frames t between which and t - 1 the capture jumps: a marker swap or an Euler flip, not motion.

    A joint turns faster than 4800 deg/s, or moves faster than 25 m/s, or faster than 10 m/s and thrice as fast as both
    in the step before and in the step after. Found in about one clip in eight of CMU.
    """
    step = np.linalg.norm(np.diff(clip.positions, axis=0), axis=-1) * clip.fps  # (T-1, J) m/s
    around = np.pad(step, ((1, 1), (0, 0)), mode="edge")
    around[0], around[-1] = 0.0, 0.0
    lonely = (step > 10.0) & (step > 3.0 * np.maximum(around[:-2], around[2:]))
    bad = (lonely | (step > 25.0)).any(1)
    if clip.world_rotations is not None:
        a, b = clip.world_rotations[:-1], clip.world_rotations[1:]
        trace = np.einsum("tjik,tjik->tj", a, b)
        turn = np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))) * clip.fps
        bad |= (turn > 4800.0).any(1)
    return np.flatnonzero(bad) + 1


def split_at_jumps(clip: Clip, shortest_s: float = 0.5) -> list[Clip]:
    """The pieces of a clip between its jumps, those of at least ``shortest_s``; named clip, clip#1, ..."""
    cuts = [0, *jumps(clip), len(clip)]
    pieces = [(a, b) for a, b in itertools.pairwise(cuts) if b - a >= max(2, shortest_s * clip.fps)]
    if len(cuts) == 2:
        return [clip]
    rot = clip.world_rotations
    return [
        replace(clip, name=f"{clip.name}#{i}" if i else clip.name, positions=clip.positions[a:b],
                world_rotations=None if rot is None else rot[a:b])
        for i, (a, b) in enumerate(pieces)
    ]  # fmt: skip


def prepare(data_dir: Path, out_path: Path, split: str = "train", progress: bool = False) -> int:
    """Packs every clip of a split into one ``.npz`` (no pickle), cut at jumps, and returns the number of frames.

    Arrays: root (N, 3) f32 [m], rotations (N, 24, 3, 2) f32 (first two columns of the world rotations, 6D),
    starts (C + 1,) i64, fps (C,), offsets (C, 24, 3), names (C,), sets (C,), subjects (C,).
    """
    rows = [row for row in listed_clips(Path(data_dir)) if row.split == split]
    if not rows:
        raise ClipError(Path(data_dir) / _LISTING, "split", f"no clip is in split '{split}'")
    clips, labels = [], []
    for row in _tracked(rows, progress):
        for piece in split_at_jumps(read_clip(row.path, fps=row.fps)):
            assert piece.world_rotations is not None
            clips.append(replace(piece, positions=piece.positions[:, 0].astype(np.float32),
                                 world_rotations=piece.world_rotations[..., :2].astype(np.float32)))  # fmt: skip
            labels.append((row.set, row.subject))
    starts = np.cumsum([0, *(len(clip) for clip in clips)])
    out_path = Path(out_path)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        out_path, root=np.concatenate([clip.positions for clip in clips]), starts=starts,
        rotations=np.concatenate([clip.world_rotations for clip in clips if clip.world_rotations is not None]),
        offsets=np.array([clip.offsets_m for clip in clips]), fps=np.array([clip.fps for clip in clips]),
        names=np.array([clip.name for clip in clips]), sets=np.array([label[0] for label in labels]),
        subjects=np.array([label[1] for label in labels]),
    )  # fmt: skip
    return int(starts[-1])


def _tracked(rows: Sequence[ListedClip], progress: bool) -> Iterable[ListedClip]:
    if not progress:
        return rows
    from rich.progress import track

    return track(rows, description="reading clips")


@dataclass(frozen=True)
class PackedClip(Clip):
    """A clip of a packed split, with the set and subject it comes from."""

    set: str = ""
    subject: str = ""


def load_packed(path: str | Path) -> list[PackedClip]:
    """The clips that ``prepare`` packed, float32, positions by forward kinematics."""
    from model.kinematics import forward_kinematics

    with np.load(path, allow_pickle=False) as pack:
        data = {key: pack[key] for key in pack.files}
    clips = []
    for i, (a, b) in enumerate(zip(data["starts"][:-1], data["starts"][1:], strict=True)):
        x, y = np.moveaxis(data["rotations"][a:b], -1, 0)
        rot = np.stack([x, y, np.cross(x, y)], -1)
        offsets = data["offsets"][i].astype(np.float32)
        positions = forward_kinematics(rot, offsets, data["root"][a:b])
        labels = {"set": str(data["sets"][i]), "subject": str(data["subjects"][i])}
        clips.append(PackedClip(str(data["names"][i]), positions, rot, float(data["fps"][i]), offsets, **labels))
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """``hpstm prepare DATA OUT``: packs each split into OUT/<split>.npz; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hpstm prepare", description="Pack motion files for training and scoring.")
    parser.add_argument("data", type=Path, help="folder with clips.csv and the motion files it lists")
    parser.add_argument("out", type=Path, help="folder for <split>.npz")
    parser.add_argument(
        "--split", nargs="+", default=["train", "test"], help="splits of clips.csv (default: train test)"
    )
    arguments = parser.parse_args(argv)
    try:
        for split in arguments.split:
            path = arguments.out / f"{split}.npz"
            frames = prepare(arguments.data, path, split, progress=sys.stderr.isatty())
            print(f"{path}: {frames} frames")
    except ClipError as error:
        print(f"hpstm prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
