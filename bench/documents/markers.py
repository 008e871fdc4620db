"""Places in a document that are written by a command: between ``<!-- bench: NAME -->`` and ``<!-- /bench -->``.

On lines of their own they hold a block; within a line, a figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from streamer.errors import ConfigError

MARKER = re.compile(r"(?<!`)<!-- *(?P<end>/)?bench\b:? *(?P<name>[\w-]*) *-->")


class Place(NamedTuple):
    """One place: its name, its line, what stands in it now, and where that begins and ends in the text."""

    name: str
    line: int
    text: str
    start: int
    stop: int

    @property
    def is_block(self) -> bool:
        """On lines of its own; else within a line."""
        return self.text.startswith("\n")


def places(text: str, document: str = "") -> list[Place]:
    """The places of a document, in order.

    Raises:
        ConfigError: a marker has no partner, or no name.
    """
    return list(_places(text, document))


def _places(text: str, document: str) -> Iterator[Place]:
    opened: re.Match[str] | None = None
    for found in MARKER.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["end"] is None:
            if opened is not None:
                raise ConfigError(f"{document}:{line}: {found[0]} within {opened[0]}; end that with <!-- /bench -->")
            if not found["name"]:
                raise ConfigError(f"{document}:{line}: {found[0]} has no name")
            opened = found
        elif opened is None:
            raise ConfigError(f"{document}:{line}: {found[0]} ends what has not begun")
        else:
            start, stop = opened.end(), found.start()
            yield Place(opened["name"], text.count("\n", 0, opened.start()) + 1, text[start:stop], start, stop)
            opened = None
    if opened is not None:
        line = text.count("\n", 0, opened.start()) + 1
        raise ConfigError(f"{document}:{line}: {opened[0]} has no end; write <!-- /bench --> behind it")


def filled(text: str, written: Callable[[str], str], document: str = "") -> str:
    """The document with each place as ``written(name)`` says. Raises ConfigError as ``places``."""
    parts, at = [], 0
    for place in places(text, document):
        said = written(place.name).strip("\n")
        parts += [text[at : place.start], f"\n\n{said}\n\n" if place.is_block else said]
        at = place.stop
    return "".join([*parts, text[at:]])
