"""Meshes of which the bodies are made: a rod along +Y of length and radius 1, a ball of radius 1; and the colours."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.frames import Array

Colour = tuple[int, int, int]

ACTORS: tuple[Colour, ...] = (
    (64, 156, 255),
    (255, 159, 64),
    (178, 120, 255),
    (64, 214, 190),
    (255, 120, 170),
    (230, 215, 80),
)
NOISY: Colour = (255, 92, 92)
STANDING: Colour = (40, 210, 90)  # a foot on the ground
LOST: Colour = (120, 124, 132)
GROUND: Colour = (30, 33, 40)


class Mesh(NamedTuple):
    vertices: Array  # (V, 3)
    faces: Array  # (F, 3) counter-clockwise from outside


def rod(sides: int = 16) -> Mesh:
    """Without lids: balls close it."""
    angles = np.arange(sides) * 2.0 * np.pi / sides
    ring = np.stack([np.sin(angles), np.zeros(sides), np.cos(angles)], -1)
    a = np.arange(sides)
    b = (a + 1) % sides
    faces = np.concatenate([np.stack([a, b, a + sides], -1), np.stack([b, b + sides, a + sides], -1)])
    half = np.array([0.0, 0.5, 0.0])
    return Mesh(np.concatenate([ring - half, ring + half]).astype(np.float32), faces)


def ball(rings: int = 10, sides: int = 18) -> Mesh:
    """From the south pole to the north pole."""
    down, round_ = np.meshgrid(
        np.linspace(0.0, np.pi, rings + 1), np.arange(sides) * 2.0 * np.pi / sides, indexing="ij"
    )
    points = np.stack([np.sin(down) * np.sin(round_), -np.cos(down), np.sin(down) * np.cos(round_)], -1)
    a = np.arange(rings * sides).reshape(rings, sides)
    b = np.roll(a, -1, 1)
    faces = np.concatenate([np.stack([a, b, a + sides], -1), np.stack([b, b + sides, a + sides], -1)]).reshape(-1, 3)
    return Mesh(points.reshape(-1, 3).astype(np.float32), faces)


def colour_of(order: int) -> Colour:
    """Of the actor who came as number ``order``."""
    return ACTORS[order % len(ACTORS)]


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """``colour`` with ``share`` 0..1 of the other."""
    r, g, b = (round(x + (y - x) * share) for x, y in zip(colour, other, strict=True))
    return r, g, b


def linear(colours: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """sRGB colours (..., 3) of 0..255 as light, which is what viser takes at the ends of lines."""
    return np.round(255.0 * (colours / 255.0) ** 2.2).astype(np.uint8)
