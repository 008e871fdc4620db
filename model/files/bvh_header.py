"""The header of a BVH file: its hierarchy of joints, word by word, and what it says of its frames."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from model.files.retarget import ClipError
from model.files.source import MAX_DEPTH, MAX_HEADER, MAX_JOINTS, number, read_text

_AXES = {"X": 0, "Y": 1, "Z": 2}
_MOTION = re.compile(r"^[ \t]*MOTION[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_NAME_WORDS = 8  # "Bip01 L Thigh" is a name; a missing brace is none


@dataclass
class Node:
    """A joint of the file: ``parent`` is an index, -1 for a ROOT; ``channels`` say axis, and whether it turns."""

    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: list[tuple[int, bool]] = field(default_factory=list)
    end: list[float] | None = None


@dataclass
class Motion:
    """How many frames the header promises, how far apart [s], the rows as text, and the line at which they begin."""

    frames: int
    frame_time: float
    text: str
    line: int


class _Words:
    """The header's words with their line numbers: BVH ignores line breaks (a CHANNELS list may span two lines)."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        spaced = text.replace("{", " { ").replace("}", " } ")
        self.words = [(w, n) for n, line in enumerate(spaced.splitlines(), 1) for w in line.split()]
        self.at = 0

    def next(self, expected: str) -> str:
        if self.at >= len(self.words):
            raise self.error(f"the hierarchy ends where {expected} should stand; is the file complete?")
        self.at += 1
        return self.words[self.at - 1][0]

    def error(self, message: str) -> ClipError:
        line = self.words[min(max(self.at - 1, 0), len(self.words) - 1)][1] if self.words else 1
        return ClipError(self.path, f"line {line}", message)

    def expect(self, word: str) -> None:
        found = self.next(f"'{word}'")
        if found.upper() != word.upper():
            raise self.error(f"expected '{word}', found {found[:40]!r}")

    def name(self, expected: str) -> str:
        """The words before a brace: some names have spaces."""
        out: list[str] = []
        while (word := self.next(f"{expected}, then '{{'")) != "{":
            out.append(word)
            if len(out) > _NAME_WORDS:
                raise self.error(f"expected {expected}, then '{{', found {' '.join(out)[:40]!r}")
        return " ".join(out)

    def number(self, expected: str) -> float:
        word = self.next(expected)
        try:
            return number(word)
        except ValueError as error:
            raise self.error(f"{expected} should be a number, found {word[:40]!r} ({error})") from None

    def vector(self, expected: str) -> list[float]:
        return [self.number(expected) for _ in range(3)]


def _channels(words: _Words, name: str) -> list[tuple[int, bool]]:
    count = words.number(f"the number of CHANNELS of '{name}'")
    if not 0 <= count <= 12 or count != int(count):
        raise words.error(f"'{name}' has {count:g} CHANNELS; 0 to 6 are usual, 12 the most that is read")
    out = []
    for _ in range(int(count)):
        word = words.next(f"a channel name of '{name}'")
        axis, kind = _AXES.get(word[:1].upper(), -1), word[1:].lower()
        if axis < 0 or kind not in ("rotation", "position"):
            raise words.error(f"CHANNELS of '{name}': unknown channel {word[:40]!r}")
        out.append((axis, kind == "rotation"))
    return out


def _hierarchy(words: _Words) -> list[Node]:
    """The nodes of all ROOTs, every parent before its children."""
    nodes: list[Node] = []
    stack: list[int] = []
    names: set[str] = set()
    words.expect("HIERARCHY")
    while (key := words.next("ROOT, OFFSET, CHANNELS, JOINT or }").upper()) != "MOTION" or stack:
        if key in ("ROOT", "JOINT") and (key == "JOINT") == bool(stack):
            name = words.name("a joint name") or "?"
            if len(nodes) >= MAX_JOINTS or len(stack) >= MAX_DEPTH:
                raise words.error(f"more than {MAX_JOINTS} joints, or {MAX_DEPTH} in one chain, the most that is read")
            while name in names:
                name += "'"
            names.add(name)
            nodes.append(Node(name, stack[-1] if stack else -1))
            stack.append(len(nodes) - 1)
        elif not stack:
            raise words.error(f"expected ROOT or MOTION, found {key[:40]!r}")
        elif key == "OFFSET":
            nodes[stack[-1]].offset = words.vector(f"OFFSET of '{nodes[stack[-1]].name}'")
        elif key == "CHANNELS":
            nodes[stack[-1]].channels = _channels(words, nodes[stack[-1]].name)
        elif key == "END":
            words.name("Site")
            words.expect("OFFSET")
            nodes[stack[-1]].end = words.vector(f"OFFSET of the End Site of '{nodes[stack[-1]].name}'")
            words.expect("}")
        elif key == "}":
            stack.pop()
        else:
            raise words.error(f"unknown word {key[:40]!r} in joint '{nodes[stack[-1]].name}'")
    if not nodes:
        raise words.error("no ROOT before MOTION")
    return nodes


def read_header(path: Path) -> tuple[list[Node], Motion]:
    """The nodes of every ROOT in a BVH file, and its motion still as text.

    Raises:
        ClipError: names the line, and the joint where there is one.
    """
    text = read_text(path)
    if text.lstrip()[:9].upper() != "HIERARCHY":
        raise ClipError(path, "line 1", "no HIERARCHY; is this a BVH file?")
    found = _MOTION.search(text, 0, MAX_HEADER)
    if found is None and len(text) > MAX_HEADER:
        raise ClipError(path, "MOTION", f"not in the first {MAX_HEADER} characters, the longest hierarchy that is read")
    end = found.end() if found else len(text)
    nodes = _hierarchy(_Words(path, text[:end]))
    return nodes, _motion(path, text[end:].partition("\n")[2], text.count("\n", 0, end) + 2)


def _motion(path: Path, text: str, number_of_line: int) -> Motion:
    """What stands before the rows: ``Frames:`` and ``Frame Time:``, in this order and nothing else."""
    frames, line = 0, ""
    while (text and ":" in (line := text.partition("\n")[0])) or (text and not line.strip()):
        text = text.partition("\n")[2]
        key, _, value = line.partition(":")
        try:
            if key.strip().upper() == "FRAMES":
                frames = int(value)
            elif key.strip().upper() == "FRAME TIME":
                return Motion(frames, number(value), text, number_of_line + 1)
        except ValueError as error:
            raise ClipError(path, f"line {number_of_line}", f"{key.strip()} should be a number ({error})") from None
        number_of_line += 1
    raise ClipError(path, "Frame Time", "missing; repair the header")
