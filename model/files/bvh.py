"""BVH files as a Tree; the unit and the mapping to our joints are decided by joint names in rigs.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.files.asf import open_text
from model.files.retarget import ClipError, Floats, Tree, axis_rotation

_AXES = {"X": 0, "Y": 1, "Z": 2}


@dataclass
class _Header:
    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[list[float]] = field(default_factory=list)
    channels: list[list[str]] = field(default_factory=list)
    ends: dict[str, list[float]] = field(default_factory=dict)
    frames: int = 0
    frame_time: float = 0.0
    motion: str = ""
    motion_line: int = 0


class _Words:
    """The header's words with their line numbers: BVH ignores line breaks (a CHANNELS list may span two lines)."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.words = [(w, n) for n, line in enumerate(text.splitlines(), 1) for w in line.split()]
        self.at = 0

    def next(self, expected: str) -> str:
        if self.at >= len(self.words):
            raise self.error(f"the hierarchy ends where {expected} should stand; is the file complete?")
        self.at += 1
        return self.words[self.at - 1][0]

    def error(self, message: str) -> ClipError:
        return ClipError(self.path, f"line {self.words[max(self.at - 1, 0)][1]}", message)

    def expect(self, word: str) -> None:
        found = self.next(f"'{word}'")
        if found.upper() != word.upper():
            raise self.error(f"expected '{word}', found {found!r}")

    def number(self, expected: str) -> float:
        word = self.next(expected)
        try:
            return float(word)
        except ValueError:
            raise self.error(f"{expected} should be a number, found {word!r}") from None

    def vector(self, expected: str) -> list[float]:
        return [self.number(expected) for _ in range(3)]


def _joint(words: _Words, out: _Header, parent: int) -> None:
    """One ROOT or JOINT, its keyword already read, with everything below it."""
    at = len(out.names)
    out.names.append(words.next("a joint name"))
    out.parents.append(parent)
    out.offsets.append([0.0, 0.0, 0.0])
    out.channels.append([])
    words.expect("{")
    while (key := words.next("OFFSET, CHANNELS, JOINT or }").upper()) != "}":
        if key == "OFFSET":
            out.offsets[at] = words.vector("OFFSET")
        elif key == "CHANNELS":
            count = int(words.number("the number of CHANNELS"))
            out.channels[at] = [words.next("a channel name") for _ in range(count)]
        elif key == "JOINT":
            _joint(words, out, at)
        elif key == "END":
            words.expect("Site")
            words.expect("{")
            words.expect("OFFSET")
            out.ends[out.names[at]] = words.vector("OFFSET of an End Site")
            words.expect("}")
        else:
            raise words.error(f"unknown word {key!r} in joint '{out.names[at]}'")


def _read_header(path: Path) -> _Header:
    text = open_text(path)
    if not text.lstrip().upper().startswith("HIERARCHY"):
        raise ClipError(path, "line 1", "no HIERARCHY; is this a BVH file?")
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip().upper() == "MOTION"), len(lines) - 1)
    out = _Header()
    words = _Words(path, "\n".join(lines[: start + 1]))
    words.expect("HIERARCHY")
    words.expect("ROOT")
    _joint(words, out, -1)
    words.expect("MOTION")
    for n in range(start + 1, len(lines)):
        key, _, value = lines[n].partition(":")
        try:
            if key.strip().upper() == "FRAMES":
                out.frames = int(value)
            elif key.strip().upper() == "FRAME TIME":
                out.frame_time = float(value)
                out.motion, out.motion_line = "\n".join(lines[n + 1 :]), n + 2
                break
        except ValueError:
            raise ClipError(path, f"line {n + 1}", f"{key.strip()} should be a number, found {value!r}") from None
    if not out.frame_time > 0.0:
        raise ClipError(path, "Frame Time", "missing or not positive; pass fps= if you know it and repair the header")
    return out


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _motion(path: Path, header: _Header) -> Floats:
    """(T, channels) values of the frames.

    Raises:
        ClipError: a line with another number of columns, or not the number of frames that the header promises.
    """
    width = sum(len(c) for c in header.channels)
    try:
        values = np.array(header.motion.split(), dtype=np.float64)
        whole = values.size == width * header.frames
    except ValueError:
        whole = False
    if whole and header.frames:
        return values.reshape(header.frames, width)
    rows = [(n, line.split()) for n, line in enumerate(header.motion.splitlines(), header.motion_line) if line.strip()]
    for n, words in rows:
        if len(words) != width:
            raise ClipError(path, f"line {n}", f"{len(words)} columns, but the CHANNELS add up to {width}")
        for column, word in enumerate(words, 1):
            if not _is_number(word):
                raise ClipError(path, f"line {n}", f"column {column} is not a number: {word!r}")
    count = len(rows)
    raise ClipError(path, "Frames", f"the header says {header.frames}, the file holds {count}; it is cut off or wrong")


def read_bvh(path: Path) -> Tree:
    """The motion of a ``.bvh`` or ``.bvh.gz`` file as a Tree in the file's own unit, with the header's rate.

    Position channels of a joint other than the root give its offset (their median): bones are rigid here.
    """
    header = _read_header(path)
    values = _motion(path, header)
    frames, n = len(values), len(header.names)
    rot = np.empty((frames, n, 3, 3))
    offsets = np.array(header.offsets, dtype=np.float64).reshape(n, 3)
    root = np.broadcast_to(offsets[0], (frames, 3)).copy()
    column = 0
    for i in range(n):
        local = np.broadcast_to(np.eye(3), (frames, 3, 3))
        for channel in header.channels[i]:
            axis, kind = _AXES.get(channel[:1].upper(), -1), channel[1:].lower()
            if axis < 0 or kind not in ("rotation", "position"):
                raise ClipError(path, f"CHANNELS of '{header.names[i]}'", f"unknown channel {channel!r}")
            data = values[:, column]
            column += 1
            if kind == "rotation":
                local = local @ axis_rotation(axis, np.radians(data))
            elif i == 0:
                root[:, axis] = data
            else:
                offsets[i, axis] = np.median(data)
        p = header.parents[i]
        rot[:, i] = local if p < 0 else rot[:, p] @ local
    ends = {name: np.array(end) for name, end in header.ends.items()}
    names, parents = tuple(header.names), tuple(header.parents)
    return Tree(names, parents, offsets, rot, root, 1.0 / header.frame_time, ends)
