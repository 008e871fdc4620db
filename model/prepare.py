"""Motion files in, canonical clips out: `read_clip`, and packing of whole splits for training. Animations into files.

Formats, mappings and checks are in files/; this is what the rest of the project imports of them. numpy only: the
streamer may read and write clips without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.files.animation import MOST_FRAMES, Animation, animation_of, frames_at, resampled, sampled, usual_fps
from model.files.asf import find_asf
from model.files.jumps import jumps, split_at_jumps
from model.files.listing import LISTING, ListedClip, listed_clips, listed_fps
from model.files.named import NamedJoints, is_named_joints, read_named
from model.files.new_file import new_file
from model.files.quaternions import between as turns_between
from model.files.quaternions import continuous as continuous_turns
from model.files.read import Reading, read_clip, read_file
from model.files.rest import measure_rest
from model.files.retarget import Clip, ClipError
from model.files.source import Arrays
from model.files.stance import UP_AXES, stature_m
from model.files.write import BY_BLENDER, LINES, SUFFIXES, check_out, write_animation
from model.files.writers.lines import line

__all__ = [
    "BY_BLENDER",
    "LINES",
    "MOST_FRAMES",
    "SUFFIXES",
    "UP_AXES",
    "Animation",
    "Arrays",
    "Clip",
    "ClipError",
    "ListedClip",
    "NamedJoints",
    "Reading",
    "animation_of",
    "check_out",
    "continuous_turns",
    "find_asf",
    "frames_at",
    "is_named_joints",
    "jumps",
    "line",
    "listed_clips",
    "listed_fps",
    "load_packed",
    "measure_rest",
    "new_file",
    "prepare",
    "read_clip",
    "read_file",
    "read_named",
    "resampled",
    "sampled",
    "split_at_jumps",
    "stature_m",
    "turns_between",
    "usual_fps",
    "write_animation",
]


def prepare(
    data_dir: Path, out_path: Path, split: str = "train", progress: bool = False, fps: float | None = None,
    unit_m: float | None = None, up: str | None = None, skip: Callable[[ClipError], None] | None = None,
    listings: Sequence[str] = (LISTING,),
) -> int:  # fmt: skip
    """Packs every clip of a split into one ``.npz`` (no pickle), cut at jumps, and returns the number of frames.

    Arrays: root (N, 3) f32 [m], rotations (N, 24, 3, 2) f32 (first two columns of the world rotations, 6D),
    starts (C + 1,) i64, fps (C,), offsets (C, 24, 3), names (C,), sets (C,), subjects (C,).

    Args:
        fps, unit_m, up: as of ``read_clip``, for every file; None: as each says.
        skip: called with the error of a file that cannot be read, which is left out; None: the first one is raised.
        listings: the lists of clips in ``data_dir``.
    Raises:
        ClipError: a list cannot be read, no clip is in the split, or none could be read.
    """
    rows = [row for listing in listings for row in listed_clips(Path(data_dir), listing) if row.split == split]
    if not rows:
        raise ClipError(
            Path(data_dir), "split", f"no clip is in '{split}'; without {LISTING} one person is all 'train'"
        )
    clips, labels = [], []
    for row in _tracked(rows, progress):
        try:
            pieces = _pieces(row, fps, unit_m, up)
        except ClipError as error:
            if skip is None:
                raise
            skip(error)
            continue
        for piece in pieces:
            assert piece.world_rotations is not None
            clips.append(replace(piece, positions=piece.positions[:, 0].astype(np.float32),
                                 world_rotations=piece.world_rotations[..., :2].astype(np.float32)))  # fmt: skip
            labels.append((row.set, row.subject))
    if not clips:
        raise ClipError(Path(data_dir) / listings[0], "split", f"none of {len(rows)} clips in '{split}' can be read")
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


def _pieces(row: ListedClip, fps: float | None, unit_m: float | None, up: str | None) -> list[Clip]:
    """The clip of a row, cut at jumps."""
    clip = read_clip(row.path, row.fps if fps is None else fps, unit_m, up)
    if clip.world_rotations is None:
        raise ClipError(row.path, "rotations", "holds positions only, and training needs rotations")
    return split_at_jumps(clip)


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
        name, set_, subject = (str(data[key][i]) for key in ("names", "sets", "subjects"))
        clips.append(PackedClip(name, positions, rot, float(data["fps"][i]), offsets, set=set_, subject=subject))
    return clips


def command(
    data: Path, out: Path, /, *, split: tuple[str, ...] = ("train", "test"), listing: tuple[str, ...] = (LISTING,),
    strict: bool = False, fps: float | None = None, unit_m: float | None = None, up: str | None = None,
) -> int:  # fmt: skip
    """Pack motion files for training and scoring: each split into OUT/<split>.npz.

    A file that cannot be read is named and left out; all of them are listed at the end. Without clips.csv the
    files of each folder are one person's, or each file is, and every fifth person is for tests.

    Args:
        data: Folder of motion files; with or without clips.csv, which says whose they are and their splits.
        out: Folder for <split>.npz.
        split: Splits to pack.
        listing: Lists of clips in DATA.
        strict: Stop at the first file that cannot be read.
        fps: True frame rate of all files, if the list's and the files' are wrong.
        unit_m: Metres per unit of all files, if the bodies' sizes mislead.
        up: Axis that points up in all files (x, y, z, -x, -y, -z), if the bodies' stances mislead.
    Returns:
        The exit code.
    """
    skipped: list[str] = []

    def skip(error: ClipError) -> None:
        skipped.append(str(error))
        print(f"hpstm prepare: left out: {error}", file=sys.stderr)

    may_skip = None if strict else skip
    try:
        for each in split:
            path = out / f"{each}.npz"
            frames = prepare(data, path, each, sys.stderr.isatty(), fps, unit_m, up, may_skip, listing)
            print(f"{path}: {frames} frames")
    except ClipError as error:
        from cyclopts import CycloptsError  # here: who reads clips needs no command line

        raise CycloptsError(str(error)) from error
    finally:
        if skipped:
            print(f"{len(skipped)} files could not be read and are left out:", *skipped, sep="\n  ", file=sys.stderr)
    return 0
