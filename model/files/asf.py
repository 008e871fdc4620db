"""Acclaim motion, AMC with its ASF (CMU, HDM05), as a Tree; the mapping to our joints is in rigs.py.

A bone of the file becomes a node at the bone's start, so its offset is its parent's bone; bone ends are kept as `ends`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.files.asf_skeleton import AXES, Asf, read_asf
from model.files.retarget import ClipError, axis_rotation
from model.files.source import MAX_NUMBER, check_size, read_text
from model.files.tree import Floats, Tree

AMC_FPS = 120.0  # neither ASF nor AMC states a rate; the CMU and HDM05 captures are at 120
_log = logging.getLogger(__name__)
Row = tuple[int, list[str]]  # a line's number and its words


def find_asf(amc: Path) -> Path:
    """The skeleton of an AMC file: 001_01.amc -> 001.asf, HDM_bd_walk.amc -> bd.asf, or the folder's only .asf."""
    stem = amc.name.split(".")[0]
    parts = stem.split("_")
    for candidate in (stem, parts[0], *parts[1:2]):
        for suffix in (".asf", ".asf.gz"):
            if (amc.parent / (candidate + suffix)).exists():
                return amc.parent / (candidate + suffix)
    found = sorted(p for p in amc.parent.glob("*.asf*") if p.name.endswith((".asf", ".asf.gz")))
    if len(found) == 1:
        return found[0]
    raise ClipError(amc, "skeleton", f"no {parts[0]}.asf(.gz) beside it; put the subject's .asf file in {amc.parent}")


@dataclass(frozen=True)
class _Layout:
    """What every frame repeats: the rows of the first one; and radians per unit of angle."""

    shape: list[list[str]]
    scale: float

    @property
    def starts(self) -> Floats:
        """Column of each row's first word in a frame, and how many there are."""
        return np.cumsum([0] + [len(words) for words in self.shape])


def _amc_rows(path: Path) -> tuple[list[Row], _Layout]:
    """All rows from the first frame number on, empty ones left out, and how a frame is laid out."""
    rows = [(n, line.split()) for n, line in enumerate(read_text(path).split("\n"), 1)]
    rows = [row for row in rows if row[1]]
    numbered = (i for i, (_, words) in enumerate(rows) if len(words) == 1 and words[0].isdigit())
    first = next(numbered, -1)
    if first < 0:
        raise ClipError(path, "frames", "no frame number found; is this an AMC file, and complete?")
    degrees = any(words[0].upper() == ":DEGREES" for _, words in rows[:first])
    frame = rows[first : next(numbered, len(rows))]
    return rows[first:], _Layout([words for _, words in frame], np.pi / 180 if degrees else 1.0)


def _amc_columns(path: Path, asf: Asf) -> tuple[dict[str, Floats], float, tuple[str, ...]]:
    """Bone name -> (T, dof) values as in the file, radians per unit of angle, and what is to be said about the end."""
    rows, layout = _amc_rows(path)
    _check_bones(path, asf, rows[: len(layout.shape)])
    starts = layout.starts
    tokens = [word for _, words in rows for word in words]
    frames, rest = divmod(len(tokens), int(starts[-1]))
    check_size(path, frames, len(asf.names))
    table = np.array(tokens[: frames * starts[-1]], dtype=object).reshape(frames, -1)
    names = starts[1:-1]
    fault = _amc_fault(path, rows, layout.shape) if rest or (table[:, names] != table[0, names]).any() else None
    if fault is not None:
        raise fault
    notes: tuple[str, ...] = ()
    if rest:  # CMU's own 07_12 ends like this: all whole frames are good
        notes = (f"line {rows[-1][0]}: the last frame is cut off and left out; {frames} frames read",)
        _log.warning("%s: %s", path, notes[0])
    try:
        bones = zip(layout.shape[1:], names, strict=True)
        columns = {w[0]: table[:, at + 1 : at + len(w)].astype(np.float64) for w, at in bones}
    except ValueError:
        raise _amc_fault(path, rows, layout.shape) or ClipError(path, "frames", "not all numbers") from None
    for k, (words, _) in enumerate(zip(layout.shape[1:], names, strict=True), 1):
        bad = ~(np.abs(columns[words[0]]) <= MAX_NUMBER).all(1)
        if bad.any():
            line, found = rows[int(bad.argmax()) * len(layout.shape) + k]
            problem = f"a value that is not finite, or beyond {MAX_NUMBER:g}"
            raise ClipError(path, f"line {line}", f"bone '{found[0]}' has {problem}; cut the clip there")
    return columns, layout.scale, notes


def _check_bones(path: Path, asf: Asf, frame: list[Row]) -> None:
    """Raises if the first frame does not fit the skeleton."""
    seen = {"": 0}
    for line, words in frame[1:]:
        if words[0] not in asf.names:
            raise ClipError(path, f"line {line}", f"bone '{words[0][:40]}' is not in the .asf beside it")
        dof = len(asf.root_order) if words[0] == "root" else len(asf.dofs[asf.names.index(words[0])])
        if len(words) - 1 != dof:
            found = f"bone '{words[0]}' has {len(words) - 1} values, but the .asf gives it {dof}"
            raise ClipError(path, f"line {line}", f"{found}; is it the subject's .asf, and the file complete?")
        if seen.setdefault(words[0], line) != line:
            raise ClipError(path, f"line {line}", f"bone '{words[0]}' stands twice in the first frame")
    missing = [n for n, dof in zip(asf.names, asf.dofs, strict=True) if (dof or n == "root") and n not in seen]
    if missing:
        where = f"line {frame[-1][0]}"
        raise ClipError(path, where, f"the first frame ends without bone '{missing[0]}'; is it cut off?")


def _amc_fault(path: Path, rows: list[Row], shape: list[list[str]]) -> ClipError | None:
    """The error for the first line that differs from the first frame's pattern; a last line cut short is none."""
    for at, (line, words) in enumerate(rows):
        want = shape[at % len(shape)]
        heading = at % len(shape) == 0
        ok = len(words) == len(want) and (words[0].isdigit() if heading else words[0] == want[0])
        try:
            [float(word) for word in words[1:]]
        except ValueError:
            ok = False
        if not ok and (at < len(rows) - 1 or len(words) >= len(want)):
            name = "a frame number" if heading else f"bone '{want[0]}' with {len(want) - 1} values"
            found = " ".join(words)[:40]
            return ClipError(path, f"line {line}", f"expected {name}, found {found!r}; repair or cut the file")
    return None


def read_amc(path: Path, asf_path: Path | None = None, unit_m: float | None = None) -> Tree:
    """The motion of an ``.amc`` or ``.amc.gz`` file as a Tree in metres at 120 fps; ``unit_m``: not the ASF's unit.

    Raises:
        ClipError: no skeleton beside it, or frames that do not match it.
    """
    asf = read_asf(asf_path or find_asf(path))
    columns, scale, notes = _amc_columns(path, asf)
    frames, n = len(columns["root"]), len(asf.names)
    root = dict(zip(asf.root_order, columns["root"].T, strict=True))
    rot = np.empty((frames, n, 3, 3))
    turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
    for key in [key for key in asf.root_order if key in AXES]:
        turn = axis_rotation(AXES[key], root[key] * scale) @ turn
    rot[:, 0] = turn @ asf.root_axis
    for i in range(1, n):
        parent = rot[:, asf.parents[i]]
        if asf.names[i] not in columns:
            rot[:, i] = parent
            continue
        local = np.broadcast_to(asf.axes[i].T, (frames, 3, 3))
        for key, angle in zip(asf.dofs[i], columns[asf.names[i]].T, strict=True):
            local = axis_rotation(AXES[key], angle * scale) @ local
        rot[:, i] = parent @ asf.axes[i] @ local
    where = np.stack([root.get(k, np.zeros(frames)) for k in ("tx", "ty", "tz")], -1) * asf.unit_m + asf.root_position
    offsets = np.array([asf.ends[p] if p >= 0 else np.zeros(3) for p in asf.parents])
    leaves = {name: end for name, end in zip(asf.names, asf.ends, strict=True) if name != "root"}
    tree = Tree(asf.names, asf.parents, offsets, rot, where, AMC_FPS, leaves, notes=notes)
    return tree if unit_m is None else tree.scaled(unit_m / asf.unit_m)
