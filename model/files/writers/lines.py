"""JSON lines: one object a frame, in plain numbers, for whatever reads text."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import numpy as np

from model.files.animation import Animation

_DIGITS = {"rotations": 7, "positions": 6, "root": 6}
_SECOND_NS = 1_000_000_000


def line(**fields: Any) -> bytes:
    """One object as a line of JSON; numbers of an array to a micrometre, what is not finite as null."""
    plain = {key: _plain(value, _DIGITS.get(key, 6)) for key, value in fields.items()}
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any, digits: int) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    numbers = np.round(value.astype(np.float64), digits) + 0.0  # no -0.0
    if np.isfinite(numbers).all():
        return numbers.tolist()
    out = numbers.astype(object)
    out[~np.isfinite(numbers)] = None
    return out.tolist()


def write_lines(animation: Animation, file: BinaryIO, actor: str) -> None:
    """Writes each frame's actor, t_ns, root and positions [m], and rotations (local, xyzw)."""
    for n, positions in enumerate(animation.positions()):
        t_ns = animation.start_ns + round(n * _SECOND_NS / animation.fps)
        file.write(
            line(actor=actor, t_ns=t_ns, root=animation.root[n], positions=positions, rotations=animation.local[n])
        )
