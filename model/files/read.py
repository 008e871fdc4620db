"""Which reader a file goes to, and what is checked of every clip: its size, which way is up, that it is where it was.

A file that is wrong raises a ClipError; what had to be decided is a note of the clip.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from model.files.amass import read_npz
from model.files.asf import read_amc
from model.files.bvh import read_bvh
from model.files.listing import listed_fps
from model.files.retarget import Clip, ClipError, Recipe, in_our_rest_pose, retarget, turned
from model.files.rigs import recipe_of
from model.files.source import MAX_FPS
from model.files.stance import is_person, posed_up, stature_m, turn_up
from model.files.tree import Floats, RigError, Tree
from model.skeleton import INDEX

_log = logging.getLogger(__name__)
_OFF_M = 0.005  # by which a joint may stand beside the file's before it is said
_WRONG_M = 0.1  # and before the file is refused


@dataclass(frozen=True)
class Reading:
    """A clip and where it comes from.

    Attributes:
        clip: the motion on the canonical skeleton.
        kind: the format, in words.
        joints: the file's joints, (name, depth below the root) in its order; empty where it names none.
        nodes: our joint -> the file's joint that drives it.
    """

    clip: Clip
    kind: str
    joints: tuple[tuple[str, int], ...] = ()
    nodes: dict[str, str] = field(default_factory=dict)


def read_clip(
    path: str | Path, fps: float | None = None, unit_m: float | None = None, up: str | None = None,
    root: str | None = None,
) -> Clip:  # fmt: skip
    """The motion of a ``.bvh``, ``.amc`` or ``.npz`` file (or the same with ``.gz``) on the canonical skeleton.

    Args:
        path: the file; an ``.amc`` finds its ``.asf`` beside it.
        fps: true frame rate; else the one of a clips.csv in a parent folder, else the file's (AMC: 120).
        unit_m: metres per unit; else the unit in which the posed body is as tall as a person (AMC: the ASF's).
        up: the file's axis that points up: x, y, z, -x, -y or -z; else the one along which the posed body stands.
        root: the ROOT to read of a BVH that holds several persons.
    Returns:
        Clip with float64 arrays; forward_kinematics(world_rotations, offsets_m, positions[:, 0]) == positions.
    Raises:
        ClipError: names the file, the line or field, and what to do.
    """
    return read_file(path, fps, unit_m, up, root).clip


def read_file(
    path: str | Path, fps: float | None = None, unit_m: float | None = None, up: str | None = None,
    root: str | None = None,
) -> Reading:  # fmt: skip
    """As ``read_clip``, with the file's own joints and what was made of them."""
    path = Path(path)
    if not path.is_file():
        raise ClipError(path, "file", "not found")
    if unit_m is not None and not 0.0 < unit_m < 1e3:
        raise ClipError(path, "unit_m", f"{unit_m} is no unit; it is metres per unit, such as 0.01")
    rate = fps if fps is not None else listed_fps(path)
    if rate is not None and not 0.0 < rate <= MAX_FPS:
        raise ClipError(path, "fps", f"{rate} is not a frame rate; it must be positive")
    kind = _kind(path)
    try:
        if kind == ".npz":
            reading = _npz(path, rate, unit_m, up)
        elif kind in (".bvh", ".amc"):
            reading = _tree_file(path, kind, rate, unit_m, up, root)
        else:
            known = "give .bvh, .amc (both may end in .gz) or .npz; .glb and .vrma are written, not read"
            raise ClipError(path, "file name", f"unknown kind '{kind}'; {known}")
    except RigError as error:
        raise ClipError(path, "joint names", str(error)) from error
    for note in reading.clip.notes:
        _log.info("%s: %s", path, note)
    return replace(reading, clip=_checked(path, reading.clip))


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _name(path: Path) -> str:
    return path.name.split(".")[0]


def _checked(path: Path, clip: Clip) -> Clip:
    """Raises where a clip cannot be a person's."""
    if not is_person(clip):
        raise ClipError(path, "size", f"the body would be {stature_m(clip):.3g} m tall; pass unit_m= (metres per unit)")
    if clip.world_rotations is not None and not np.isfinite(clip.positions).all():
        raise ClipError(path, "motion", "not finite everywhere; cut the clip there")
    return clip


def bones_of(path: Path) -> Floats:
    """(24, 3) bones of a BVH's or AMC's skeleton in its T-pose [m]."""
    return _person(path, _trees(path), None, None)[1].bones


def _trees(path: Path, unit_m: float | None = None) -> list[Tree]:
    return read_bvh(path) if _kind(path) == ".bvh" else [read_amc(path, unit_m=unit_m)]


def _tree_file(
    path: Path, kind: str, rate: float | None, unit_m: float | None, up: str | None, root: str | None
) -> Reading:
    tree, recipe = _person(path, _trees(path, unit_m), unit_m, root)
    clip = retarget(recipe, _name(path), tree.fps if rate is None else rate)
    asked = up is not None or (kind == ".bvh" and not in_our_rest_pose(recipe.bones))  # ours may lie down: Y is up
    turn = _turn(clip, recipe, up) if asked else None
    if turn is not None:
        recipe = turned(recipe, turn)
        clip = retarget(recipe, clip.name, clip.fps)
    clip = _compared(path, recipe, clip)
    joints = tuple((name, len(tree.path(i)) - 1) for i, name in enumerate(tree.names))
    return Reading(clip, "BVH" if kind == ".bvh" else "ASF/AMC", joints, recipe.nodes)


def _person(path: Path, trees: list[Tree], unit_m: float | None, root: str | None) -> tuple[Tree, Recipe]:
    """The ROOT that is asked for, else the only one that is a person, and its recipe."""
    names = ", ".join(tree.names[0] for tree in trees)
    if root is not None:
        trees = [tree for tree in trees if tree.names[0] == root]
        if not trees:
            raise ClipError(path, "ROOT", f"none is called '{root}'; there are: {names}")
    found, reasons = [], []
    for tree in trees:
        try:
            found.append((tree, recipe_of(tree, unit_m)))
        except RigError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    if len(found) > 1:
        raise ClipError(path, "ROOT", f"{len(found)} persons are in the file; choose by root= one of: {names}")
    tree, recipe = found[0]
    if len(trees) > 1:
        recipe.notes = (*recipe.notes, f"of the ROOTs {names} only '{tree.names[0]}' is a person")
    return tree, recipe


def _turn(clip: Clip, recipe: Recipe, up: str | None) -> Floats | None:
    """(3, 3) by which the recipe's world is still to be turned, None where it is Y up; notes what was decided."""
    if up is None:
        axis = recipe.world.T @ posed_up(clip)
        if axis @ recipe.world[1] > 0.5:
            return None
        which = int(np.abs(axis).argmax())
        up = ("-" if axis[which] < 0.0 else "") + "xyz"[which]
        recipe.notes = (
            *recipe.notes,
            f"the body stands along the file's {up} axis, which was taken as up; else pass up=",
        )
    elif recipe.world.T[:, 1] @ turn_up(up)[1] > 0.5:
        return None
    return turn_up(up) @ recipe.world.T


def _compared(path: Path, recipe: Recipe, clip: Clip) -> Clip:
    """The clip, with a note where a joint came out some mm from where the file has it; refused where it is far."""
    off = {j: float(np.linalg.norm(clip.positions[:, INDEX[j]] - at, axis=-1).max()) for j, at in recipe.points.items()}
    worst = max(off, key=lambda j: off[j], default="")
    if not worst or off[worst] <= _OFF_M:
        return clip
    found = f"'{recipe.nodes[worst]}' comes out up to {off[worst] * 1e3:.0f} mm off"
    if off[worst] > _WRONG_M:
        raise ClipError(path, "skeleton", f"{found}: the skeleton is not rigid there, and such a one is not read")
    return replace(clip, notes=(*clip.notes, f"{found}: the skeleton is not rigid there"))


def _npz(path: Path, rate: float | None, unit_m: float | None, up: str | None) -> Reading:
    found = read_npz(path, rate)
    if isinstance(found, Clip):
        turn, scale = turn_up(up or "y"), 1.0 if unit_m is None else unit_m
        rot = None if found.world_rotations is None else turn @ found.world_rotations
        positions, offsets = scale * found.positions @ turn.T, scale * found.offsets_m
        return Reading(replace(found, positions=positions, world_rotations=rot, offsets_m=offsets), "joint positions")
    recipe, own = found
    if up is not None:
        recipe = turned(recipe, turn_up(up) @ recipe.world.T)
    return Reading(retarget(recipe, _name(path), own), "AMASS")
