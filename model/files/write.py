"""Which writer a file goes to, by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from model.files.animation import Animation
from model.files.new_file import check_new, new_file
from model.files.retarget import ClipError
from model.files.writers.amass import write_amass
from model.files.writers.bvh import write_bvh
from model.files.writers.gltf import write_glb
from model.files.writers.lines import write_lines
from model.files.writers.vrma import write_vrma

LINES = ".jsonl"
_WRITERS: dict[str, Callable[[Animation, BinaryIO], None]] = {
    ".bvh": write_bvh, ".glb": write_glb, ".vrma": write_vrma, ".npz": write_amass,
}  # fmt: skip
SUFFIXES = (*_WRITERS, LINES)
# What people ask for and no writer of ours makes: Blender makes them of a .glb.
BY_BLENDER = (".fbx", ".usd", ".usda", ".usdc", ".usdz", ".gltf", ".blend", ".abc", ".dae")


def check_out(path: Path) -> None:
    """Raises ClipError where a file cannot be written under that name: of no kind we write, or it exists."""
    kind = path.suffix.lower()
    if kind in BY_BLENDER:
        raise ClipError(path, "file name", f"{kind} is not written here; write .glb, and let Blender (docs/files.md)")
    if kind not in SUFFIXES:
        raise ClipError(path, "file name", f"unknown kind '{kind}'; give {', '.join(SUFFIXES)}")
    check_new(path)


def write_animation(animation: Animation, path: Path, actor: str = "actor") -> None:
    """Writes an animation to a new file of the kind that its suffix says.

    Args:
        actor: name of who moves, where the kind has a place for it.
    Raises:
        ClipError: of no kind we write, a file of that name exists, or it cannot be written.
    """
    check_out(path)
    kind = path.suffix.lower()
    with new_file(path) as file:
        if kind == LINES:
            write_lines(animation, file, actor)
        else:
            _WRITERS[kind](animation, file)
