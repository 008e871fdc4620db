"""What a document in Markdown holds that can be checked: links, anchors, blocks of code, command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^( *)```([^`\s]*)[^`]*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
INLINE = re.compile(r"`hpstm ([^`]+)`")
HEADING = re.compile(r"^#{1,6} +(.*?)\s*$")
SEPARATORS = ("|", "&&", "&", ";")


class Block(NamedTuple):
    """A block of code: its language ("" for an indented one), its first line's number, its text."""

    language: str
    line: int
    text: str


def split(text: str) -> tuple[list[str], list[Block]]:
    """The lines that are prose, and the blocks of code, fenced or indented by four after an empty line."""
    prose, blocks = [], []
    lines, n = text.splitlines(), 0
    while n < len(lines):
        fence = FENCE.match(lines[n])
        first, indent = n, "    "
        if fence:
            end = next(k for k in range(n + 1, len(lines)) if lines[k].strip() == "```")
            inside = [line.removeprefix(fence[1]) for line in lines[n + 1 : end]]
            blocks.append(Block(fence[2] or "text", n + 2, "\n".join(inside)))
            n = end + 1
        elif lines[n].startswith(indent) and (n == 0 or not lines[n - 1].strip()):
            while n < len(lines) and (lines[n].startswith(indent) or not lines[n].strip()):
                n += 1
            blocks.append(
                Block("", first + 1, "\n".join(line.removeprefix(indent) for line in lines[first:n]).rstrip())
            )
        else:
            prose.append(lines[n])
            n += 1
    return prose, blocks


def links(text: str) -> list[str]:
    """Targets of the links and pictures of the prose; what is in code is none."""
    prose = "\n".join(split(text)[0])
    return LINK.findall(CODE.sub("", prose))


def anchors(text: str) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    found: set[str] = set()
    for line in split(text)[0]:
        heading = HEADING.match(line)
        if heading:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            count = sum(one == name or re.fullmatch(rf"{re.escape(name)}-\d+", one) is not None for one in found)
            found.add(f"{name}-{count}" if count else name)
    return found


def python_blocks(text: str) -> list[Block]:
    return [block for block in split(text)[1] if block.language == "python"]


def command_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and words after ``hpstm`` of every command line in a block; ends of pipes are lines of their own."""
    for block in split(text)[1]:
        if block.language not in ("", "sh", "bash", "console", "text"):
            continue
        lines = enumerate(block.text.splitlines(), block.line)
        for number, line in lines:
            while line.endswith("\\"):
                line = line[:-1] + next(lines)[1]
            for words in _commands(line):
                if words and words[0] == "hpstm" and len(words) > 1:
                    yield number, [word for word in words[1:] if word != "..."]


def _commands(line: str) -> list[list[str]]:
    """The commands of a line of shell; none if it is something else, such as a message."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        words = list(lexer)
    except ValueError:  # a quote that is not closed: prose
        return []
    commands: list[list[str]] = [[]]
    for word in words:
        if word in SEPARATORS:
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def inline_commands(text: str) -> list[str]:
    """What stands after ``hpstm`` in code within the prose: often without what a command must have."""
    return INLINE.findall("\n".join(split(text)[0]))


def documents(root: Path) -> list[Path]:
    """The documents that people read: those at the top, of docs/, and the protocol."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").glob("*.md")), root / "streamer" / "PROTOCOL.md"]
