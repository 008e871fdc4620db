"""BVH files as Trees, one for each ROOT, in the file's own unit; the mapping to our joints is in rigs.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.files.bvh_header import Motion, Node, read_header
from model.files.retarget import ClipError, axis_rotation
from model.files.source import MAX_FPS, MAX_NUMBER, check_size, numbers
from model.files.tree import Floats, Tree

_SPARE_ROWS = 1  # by which Rokoko's Frames and rows differ


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _rows(motion: Motion) -> list[tuple[int, list[str]]]:
    """(line, words) of each row that is not empty."""
    lines = enumerate(motion.text.splitlines(), motion.line)
    return [(n, line.split()) for n, line in lines if line.strip()]


def _table(path: Path, nodes: list[Node], motion: Motion) -> tuple[Floats, tuple[str, ...]]:
    """(T, channels) values of the frames, and what is to be said about their number.

    Raises:
        ClipError: a line with another number of columns, a word that is no number or out of range, or not the number
            of frames that the header promises, give or take one.
    """
    width = sum(len(node.channels) for node in nodes)
    values = numbers(motion.text)
    if values is None or width == 0 or values.size % width:
        _raise_fault(path, width, motion)
    assert values is not None
    frames = values.size // width
    if not frames or abs(frames - motion.frames) > _SPARE_ROWS:
        found = f"the header says {motion.frames}, the file holds {frames}"
        raise ClipError(path, "Frames", f"{found}; it is cut off or wrong")
    check_size(path, frames, len(nodes))
    values = values.reshape(frames, width)
    if not (np.abs(values) <= MAX_NUMBER).all():
        row, column = np.argwhere(~(np.abs(values) <= MAX_NUMBER))[0]
        owner = [node.name for node in nodes for _ in node.channels][column]
        found = f"column {column + 1} ('{owner}') is {values[row, column]:g}"
        limit = f"not finite, or beyond {MAX_NUMBER:g}"
        raise ClipError(path, f"line {_line_of(motion, int(row), width)}", f"{found}: {limit}; cut the clip there")
    if frames == motion.frames:
        return values, ()
    return values, (f"the header says {motion.frames} frames, and {frames} are there and were read",)


def _line_of(motion: Motion, row: int, width: int) -> int:
    """The line of a row of the table."""
    seen = 0
    for line, words in _rows(motion):
        seen += len(words)
        if seen > row * width:
            return line
    return motion.line


def _raise_fault(path: Path, width: int, motion: Motion) -> None:
    for n, words in _rows(motion):
        if len(words) != width:
            raise ClipError(path, f"line {n}", f"{len(words)} columns, but the CHANNELS add up to {width}")
        for column, word in enumerate(words, 1):
            if not _is_number(word):
                raise ClipError(path, f"line {n}", f"column {column} is not a number: {word[:40]!r}")
    raise ClipError(path, f"line {motion.line}", "the motion is not all numbers, row by row; is the file complete?")


def _place(node: Node, data: Floats) -> Floats | None:
    """(T, 3) a node's own place in every frame, or None where its OFFSET holds."""
    moving = [c for c, (_, turns) in enumerate(node.channels) if not turns]
    if not moving or (node.parent >= 0 and any(node.offset) and not data[:, moving].any()):
        return None  # all zero: an exporter that counts them from the OFFSET
    out = np.tile(np.array(node.offset), (len(data), 1))
    for c in moving:
        out[:, node.channels[c][0]] = data[:, c]
    return out


def _trees(path: Path, nodes: list[Node], values: Floats, fps: float, notes: tuple[str, ...]) -> list[Tree]:
    frames = len(values)
    rot = np.empty((frames, len(nodes), 3, 3))
    offsets = np.array([node.offset for node in nodes])
    moves: dict[int, Floats] = {}
    column = 0
    for i, node in enumerate(nodes):
        data = values[:, column : column + len(node.channels)]
        column += len(node.channels)
        local = np.broadcast_to(np.eye(3), (frames, 3, 3))
        for c, (axis, turns) in enumerate(node.channels):
            if turns:
                local = local @ axis_rotation(axis, np.radians(data[:, c]))
        rot[:, i] = local if node.parent < 0 else rot[:, node.parent] @ local
        place = _place(node, data)
        if place is not None and node.parent >= 0:
            offsets[i] = np.median(place, axis=0)
            if np.ptp(place, axis=0).any():
                moves[i] = place
        elif place is not None:
            moves[i] = place
    starts = [i for i, node in enumerate(nodes) if node.parent < 0]
    out = []
    for a, b in zip(starts, [*starts[1:], len(nodes)]):
        own = {i - a: move for i, move in moves.items() if a < i < b}
        root = moves.get(a, np.tile(offsets[a], (frames, 1)))
        ends = {node.name: np.array(node.end) for node in nodes[a:b] if node.end is not None}
        parents = tuple(max(node.parent - a, -1) for node in nodes[a:b])
        names = tuple(node.name for node in nodes[a:b])
        out.append(Tree(names, parents, offsets[a:b], rot[:, a:b], root, fps, ends, own, notes))
    return out


def read_bvh(path: Path) -> list[Tree]:
    """The motion of a ``.bvh`` or ``.bvh.gz`` file as a Tree for each ROOT, in the file's own unit and rate.

    Position channels of a joint other than the root give its offset (their median), and its ``moves``.

    Raises:
        ClipError: names the line, and the joint where there is one.
    """
    nodes, motion = read_header(path)
    if not motion.frame_time > 1.0 / MAX_FPS:
        raise ClipError(
            path, "Frame Time", f"{motion.frame_time:g} s is no time from frame to frame; repair the header"
        )
    values, notes = _table(path, nodes, motion)
    return _trees(path, nodes, values, 1.0 / motion.frame_time, notes)
