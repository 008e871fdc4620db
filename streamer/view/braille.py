"""Drawings in a terminal: dots of Braille characters, two by four in each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamer.frames import Array

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Dots:
    """A field of dots, (0, 0) at its lower left; ``columns`` by ``rows`` characters."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = 2 * columns, 4 * rows
        self._set: npt.NDArray[np.bool_] = np.zeros((self.height, self.width), bool)

    def line(self, start: Array, end: Array) -> None:
        """Sets the dots from one place (2,) to another, right and up; what is outside is left out."""
        at = np.linspace(start, end, 2 + int(min(np.abs(end - start).max() * 2, 1e4))).astype(int)
        at = at[(at >= 0).all(-1) & (at < (self.width, self.height)).all(-1)]
        self._set[self.height - 1 - at[:, 1], at[:, 0]] = True

    def codes(self) -> list[list[int]]:
        """Which dots each character has, row by row from the top; 0: none."""
        cells = self._set.reshape(self.height // 4, 4, self.width // 2, 2).transpose(0, 2, 1, 3)
        codes: list[list[int]] = (cells * _DOTS).sum((2, 3)).tolist()
        return codes

    def rows(self) -> list[str]:
        """As lines of text, without spaces at their ends."""
        return ["".join(map(character, row)).rstrip() for row in self.codes()]


def character(code: int) -> str:
    return chr(0x2800 + code) if code else " "
