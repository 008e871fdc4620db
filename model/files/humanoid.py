"""Humanoid BVH (LAFAN1, Mixamo-like, Blender's, our own names) on the canonical skeleton, from its landmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.files.by_shape import is_named, rig_by_shape
from model.files.landmarks import Rig, find_rig, plain_name, with_ends
from model.files.retarget import Recipe, align, new_recipe, set_joint, unit
from model.files.stance import in_t_pose, metres_per_unit
from model.files.tree import Floats, RigError, Tree

__all__ = ["humanoid_recipe", "plain_name"]

_NECK = 0.55  # of the way from chest to head, where a file has no neck
_AT_M = 0.01  # what is nearer to its parent begins in it
_NO_BONE_M = 0.15  # what moves further against its parent is no bone


def humanoid_recipe(tree: Tree, unit_m: float | None = None) -> Recipe:
    """A humanoid BVH on our joints; joints that both have are exact.

    Args:
        tree: in the file's unit. unit_m: metres per unit, else the one in which the body is as tall as a person.
    Raises:
        RigError: a landmark or the unit cannot be found, or the file moves joints instead of turning them.
    """
    tree = with_ends(tree)
    named = is_named(tree)
    rig = find_rig(tree) if named else rig_by_shape(tree)
    if not named:
        tree = replace(tree, notes=(*tree.notes, "joint names are not known: the body was found by its shape"))
    whole, tree = tree, tree.below(rig.root)
    place = {name: i for i, name in enumerate(tree.names)}
    rig = rig.renumbered({i: place[name] for i, name in enumerate(whole.names) if name in place})
    size = (rig.root, rig.legs["left"][0], rig.legs["left"][2], rig.neck[-1])
    tree = tree.scaled(metres_per_unit(tree, size) if unit_m is None else unit_m)
    _check_bones(tree, rig)
    tree, world = in_t_pose(tree, rig)
    where = dict(zip(tree.names, np.moveaxis(tree.positions(), 1, 0), strict=True))
    recipe = new_recipe(tree)
    recipe.world = world
    _spine(tree, rig, recipe, where)
    _with_hips(tree, rig, recipe)
    _neck(tree, rig, recipe, where)
    for side in ("left", "right"):
        _leg(tree, rig, recipe, side)
        _arm(tree, rig, recipe, side)
    recipe.points = {joint: where[node] for joint, node in recipe.nodes.items() if joint in _exact(tree, rig)}
    return recipe


def _check_bones(tree: Tree, rig: Rig) -> None:
    """Raises where a bone of a tree in metres changes its length by so much that it is none."""
    mapped = {*rig.spine, *rig.neck, *(i for chain in (*rig.legs.values(), *rig.arms.values()) for i in chain)}
    for i in mapped & set(tree.moves):
        off = float(np.abs(tree.moves[i] - tree.offsets[i]).max())
        if off > _NO_BONE_M:
            found = f"joint '{tree.names[i]}' moves by {off:.2f} m against its parent"
            raise RigError(f"{found}: the file has positions where bones should turn; export it with rotations")


def _with_hips(tree: Tree, rig: Rig, recipe: Recipe) -> None:
    """Lets the pelvis turn with hips that sway against it, where the spine begins in it and does not mind."""
    hips = [rig.legs[side][0] for side in ("left", "right")]
    if any(tree.parents[i] != rig.root or i not in tree.moves for i in hips):
        return
    if np.linalg.norm(tree.offsets[rig.spine[0]]) > _AT_M:
        return
    across, usual = tree.moves[hips[0]] - tree.moves[hips[1]], tree.offsets[hips[0]] - tree.offsets[hips[1]]
    if np.linalg.norm(across, axis=-1).min() > _AT_M:
        recipe.rot[:, 0] = tree.world_rot[:, rig.root] @ align(unit(usual), unit(across))


def _exact(tree: Tree, rig: Rig) -> set[str]:
    """The joints that must come out where the file has them."""
    out = {f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle", "elbow", "wrist")}
    out |= {"pelvis", "head", "left_shoulder", "right_shoulder"}
    return out | ({"neck"} if len(rig.neck) > 1 else set()) | ({"spine3"} if len(rig.spine) < 4 else set())


def _spine(tree: Tree, rig: Rig, recipe: Recipe, where: dict[str, Floats]) -> None:
    """Three spine joints from however many the file has: bones are halved, or joints left out and aimed past."""
    chain, n, names = rig.spine, len(rig.spine), tree.names
    set_joint(recipe, "pelvis", tree, names[rig.root])
    first = tree.span(rig.root, chain[0])
    if n == 1:
        for joint in ("spine1", "spine2"):
            set_joint(recipe, joint, tree, names[rig.root], first / 3.0)
        set_joint(recipe, "spine3", tree, names[chain[0]], first / 3.0)
    elif n == 2:
        half = 0.5 * tree.offsets[chain[1]]
        set_joint(recipe, "spine1", tree, names[chain[0]], first)
        set_joint(recipe, "spine2", tree, names[chain[0]], half)
        set_joint(recipe, "spine3", tree, names[chain[1]], half)
    else:
        middle = chain[(n - 1) // 2] if n > 3 else chain[1]
        set_joint(recipe, "spine1", tree, names[chain[0]], first)
        set_joint(recipe, "spine2", tree, names[middle], tree.span(chain[0], middle))
        set_joint(recipe, "spine3", tree, names[chain[-1]], tree.span(middle, chain[-1]))
        if n > 3:
            recipe.aims.update(spine2=where[names[middle]], spine3=where[names[chain[-1]]])


def _neck(tree: Tree, rig: Rig, recipe: Recipe, where: dict[str, Floats]) -> None:
    first, last, chest = rig.neck[0], rig.neck[-1], rig.spine[-1]
    if len(rig.neck) == 1:  # no neck: ours stands on the way, and turns with the chest
        reach = tree.span(chest, last)
        set_joint(recipe, "neck", tree, tree.names[chest], _NECK * reach)
        set_joint(recipe, "head", tree, tree.names[last], (1.0 - _NECK) * reach)
        recipe.notes = (*recipe.notes, "the file has no neck: it was put on the way from chest to head")
        return
    set_joint(recipe, "neck", tree, tree.names[first], tree.span(chest, first))
    set_joint(recipe, "head", tree, tree.names[last], tree.span(first, last))
    if len(rig.neck) > 2:
        recipe.aims["head"] = where[tree.names[last]]


def _leg(tree: Tree, rig: Rig, recipe: Recipe, side: str) -> None:
    hip, knee, ankle, toe = rig.legs[side]
    set_joint(recipe, f"{side}_hip", tree, tree.names[hip], tree.span(rig.root, hip))
    set_joint(recipe, f"{side}_knee", tree, tree.names[knee], tree.span(hip, knee))
    set_joint(recipe, f"{side}_ankle", tree, tree.names[ankle], tree.span(knee, ankle))
    bone = tree.offsets[toe] if toe >= 0 else None
    set_joint(recipe, f"{side}_foot", tree, tree.names[toe if toe >= 0 else ankle], bone)


def _arm(tree: Tree, rig: Rig, recipe: Recipe, side: str) -> None:
    collar, shoulder, elbow, wrist = rig.arms[side]
    chest = rig.spine[-1]
    reach = tree.span(chest, shoulder)
    if collar >= 0:
        set_joint(recipe, f"{side}_collar", tree, tree.names[collar], tree.span(chest, collar))
        set_joint(recipe, f"{side}_shoulder", tree, tree.names[shoulder], tree.span(collar, shoulder))
    else:  # a chest that carries the arms itself: our collar stands on the way, and turns with the chest
        set_joint(recipe, f"{side}_collar", tree, tree.names[chest], 0.4 * reach)
        set_joint(recipe, f"{side}_shoulder", tree, tree.names[shoulder], 0.6 * reach)
    set_joint(recipe, f"{side}_elbow", tree, tree.names[elbow], tree.span(shoulder, elbow))
    set_joint(recipe, f"{side}_wrist", tree, tree.names[wrist], tree.span(elbow, wrist))
    hand = rig.hands[side]
    bone = tree.offsets[hand] if hand >= 0 else None
    set_joint(recipe, f"{side}_hand", tree, tree.names[hand if hand >= 0 else wrist], bone)
