"""Humanoid BVH (LAFAN1, Mixamo-like, our own names) on the canonical skeleton: joints found by name and by topology.

Knees, elbows, hands and feet are known by name; what lies between them and the root follows from the hierarchy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from model.files.retarget import Floats, Recipe, Tree, new_recipe, set_joint, unit
from model.kinematics import frame_from_axes
from model.skeleton import INDEX, rest_directions

_KNEE = ("knee", "leg", "lowerleg", "shin", "calf")
_ELBOW = ("elbow", "forearm", "lowerarm")
_WRIST = ("wrist", "hand")
_ANKLE = ("ankle", "foot")
_MIDDLE_FINGER = ("hand", "mid1", "middle1", "handmiddle1", "middle01", "fingerbase", "fingers", "index1", "handindex1")
# Thigh plus shin of a person, in each unit that BVH files use [m per unit]: the ranges do not overlap.
_UNITS = (
    (0.5, 1.3, 1.0),
    (8.0, 19.0, 0.0254 / 0.45),
    (19.0, 49.0, 0.0254),
    (50.0, 130.0, 0.01),
    (500.0, 1300.0, 0.001),
)


@dataclass(frozen=True)
class _Rig:
    """Node index of each landmark; legs, arms: side -> chain from the hip or collar outwards (-1: not in the file)."""

    root: int
    spine: list[int]
    neck: list[int]
    legs: dict[str, list[int]]
    arms: dict[str, list[int]]
    hands: dict[str, int]


_SIDES = (  # the ways in which a joint's name says its side
    re.compile(r"^(?P<side>[Ll]eft|LEFT|[Rr]ight|RIGHT)[_ .]?(?P<name>.+)$"),
    re.compile(r"^(?P<side>[LlRr])[_ .](?P<name>.+)$"),
    re.compile(r"^(?P<side>[lr])(?P<name>[A-Z].*)$"),
    re.compile(r"^(?P<name>.+)[_ .](?P<side>[LlRr])$"),
)


def plain_name(name: str) -> tuple[str, str]:
    """(side, name): ``mixamorig:LeftForeArm``, ``forearm.L``, ``l_forearm`` -> ("left", "forearm"); no side: ""."""
    word, side = name.split(":")[-1], ""
    for pattern in _SIDES:
        found = pattern.match(word)
        if found:
            side = "left" if found["side"][0] in "lL" else "right"
            word = found["name"]
            break
    return side, re.sub(r"[^a-z0-9]", "", word.lower())


def _find(known: dict[tuple[str, str], int], side: str, aliases: tuple[str, ...]) -> int:
    for alias in aliases:
        if (side, alias) in known:
            return known[side, alias]
    raise LookupError(f"no {side} {aliases[0]} found; looked for {', '.join(aliases)} with a left/right mark")


def _path(tree: Tree, node: int) -> list[int]:
    """Nodes from the root to ``node``, both included."""
    out = [node]
    while tree.parents[out[0]] >= 0:
        out.insert(0, tree.parents[out[0]])
    return out


def find_rig(tree: Tree) -> _Rig:
    """The landmarks of a humanoid tree.

    Raises:
        LookupError: names the landmark that is missing, and the names looked for.
    """
    known: dict[tuple[str, str], int] = {}
    for i, name in enumerate(tree.names):
        known.setdefault(plain_name(name), i)
    head = _path(tree, _find(known, "", ("head",)))
    legs, arms, hands, paths = {}, {}, {}, {}
    for side in ("left", "right"):
        knee, ankle = _find(known, side, _KNEE), _find(known, side, _ANKLE)
        toes = [i for i, p in enumerate(tree.parents) if p == ankle]
        legs[side] = [tree.parents[knee], knee, ankle, toes[0] if toes else -1]
        elbow, wrist = _find(known, side, _ELBOW), _find(known, side, _WRIST)
        paths[side] = _path(tree, elbow)
        fingers = [i for i, p in enumerate(tree.parents) if p == wrist]
        named = [known[side, alias] for alias in _MIDDLE_FINGER if known.get((side, alias)) in fingers]
        hands[side] = (named or fingers or [-1])[0]
        arms[side] = [-1, paths[side][-2], elbow, wrist]
    trunk = [a for a, b, c in zip(paths["left"], paths["right"], head, strict=False) if a == b == c]
    for side, path in paths.items():
        arms[side][0] = path[len(trunk)] if len(path) - len(trunk) > 2 else -1
    root = tree.parents[legs["left"][0]]
    while not set(_path(tree, legs["right"][0])) >= {root}:
        root = tree.parents[root]
    spine = trunk[trunk.index(root) + 1 :] if root in trunk else []
    if not spine:
        raise LookupError("no spine joint between the hips and the arms")
    if len(head) - len(trunk) < 2:
        raise LookupError("no neck joint between the arms and the head")
    return _Rig(root, spine, head[len(trunk) :], legs, arms, hands)


def unit_of(tree: Tree, rig: _Rig) -> float:
    """Metres per unit, from the length of thigh and shin: metres, CMU's unit, inches, centimetres or millimetres."""
    _, knee, ankle, _ = rig.legs["left"]
    leg = float(np.linalg.norm(tree.offsets[[knee, ankle]], axis=-1).sum())
    for low, high, metres in _UNITS:
        if low <= leg < high:
            return metres
    raise LookupError(f"thigh and shin are {leg:.3g} units long, which fits no unit; pass unit_m=")


def _points_along(tree: Tree, rig: _Rig, axis: int) -> bool:
    """Whether every limb bone lies along one local axis: a zero pose that is no T-pose (LAFAN1)."""
    bones = [rig.legs["left"][1], rig.legs["right"][1], rig.spine[-1], rig.arms["left"][2], rig.arms["right"][2]]
    return bool((unit(tree.offsets[bones])[:, axis] > 0.99).all())


def _bone_axis_frames(tree: Tree, rig: _Rig) -> Floats:
    """(n, 3, 3) world_from_node in a T-pose for LAFAN1's axes: x along the bone, knees and elbows bend about -z.

    The hinge axes were read off the motion: over four clips the mean rotation of knees and elbows is about -z within
    15 degrees, that of the ankle about +z; pelvis, spine and head have x up, y forward, z left.
    """
    x, y, z = np.eye(3)
    out = np.broadcast_to(np.stack([y, z, x], -1), (len(tree.names), 3, 3)).copy()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hip, knee, ankle, toe = rig.legs[side]
        foot = rest_directions()[INDEX[f"{side}_foot"]]
        out[[hip, knee]] = np.stack([-y, z, -x], -1)
        out[ankle] = frame_from_axes(foot, np.cross(-x, foot))
        if toe >= 0:
            out[toe] = np.stack([z, y, -x], -1)
        arm = [i for i in rig.arms[side] if i >= 0]
        out[arm] = np.stack([sign * x, -z, sign * y], -1)
        for finger in (i for i, p in enumerate(tree.parents) if p == arm[-1]):
            out[finger] = out[arm[-1]]
    return out


def _axes_to_ours(tree: Tree, rig: _Rig) -> Floats:
    """(3, 3) turn by right angles from the file's axes to ours, from which way its zero pose stands and faces."""
    left = _span(tree, rig.root, rig.legs["left"][0]) - _span(tree, rig.root, rig.legs["right"][0])
    up = -tree.offsets[rig.legs["left"][1]] - tree.offsets[rig.legs["right"][1]]
    rows = np.zeros((3, 3))
    rows[0, np.abs(left).argmax()] = np.sign(left[np.abs(left).argmax()])
    rows[1, np.abs(up).argmax()] = np.sign(up[np.abs(up).argmax()])
    if np.abs(rows[0] @ rows[1]) > 0.5:
        raise LookupError("the zero pose is no T-pose or A-pose; export the file with one")
    rows[2] = np.cross(rows[0], rows[1])
    return rows


def _span(tree: Tree, ancestor: int, node: int) -> Floats:
    """Vector from ``ancestor`` to ``node`` in the zero pose."""
    path = _path(tree, node)
    return tree.offsets[path[path.index(ancestor) + 1 :]].sum(0)  # type: ignore[no-any-return]


def _in_t_pose(tree: Tree, rig: _Rig) -> Tree:
    """The tree with every node's axes re-gauged: the identity in the T-pose, world Y up."""
    if _points_along(tree, rig, 0):
        rest, world = _bone_axis_frames(tree, rig), np.eye(3)
    else:
        world = _axes_to_ours(tree, rig)
        rest = np.broadcast_to(world, (len(tree.names), 3, 3))
    parents = [max(p, 0) for p in tree.parents]
    offsets = (rest[parents] @ tree.offsets[..., None])[..., 0]
    ends = {name: rest[tree.names.index(name)] @ end for name, end in tree.ends.items()}
    rot = world @ tree.world_rot @ np.swapaxes(rest, -1, -2)
    return replace(tree, offsets=offsets, ends=ends, world_rot=rot, root=tree.root @ world.T)


def _spine(tree: Tree, rig: _Rig, recipe: Recipe, where: Floats) -> None:
    """Three spine joints from however many the file has: bones are halved, or joints left out and aimed past."""
    rot, chain, n = tree.world_rot, rig.spine, len(rig.spine)
    set_joint(recipe, "pelvis", rot[:, rig.root])
    first = _span(tree, rig.root, chain[0])
    if n == 1:
        for joint in ("spine1", "spine2"):
            set_joint(recipe, joint, rot[:, rig.root], first / 3.0)
        set_joint(recipe, "spine3", rot[:, chain[0]], first / 3.0)
    elif n == 2:
        half = 0.5 * tree.offsets[chain[1]]
        set_joint(recipe, "spine1", rot[:, chain[0]], first)
        set_joint(recipe, "spine2", rot[:, chain[0]], half)
        set_joint(recipe, "spine3", rot[:, chain[1]], half)
    else:
        middle = chain[(n - 1) // 2] if n > 3 else chain[1]
        set_joint(recipe, "spine1", rot[:, chain[0]], first)
        set_joint(recipe, "spine2", rot[:, middle], _span(tree, chain[0], middle))
        set_joint(recipe, "spine3", rot[:, chain[-1]], _span(tree, middle, chain[-1]))
        if n > 3:
            recipe.aims.update(spine2=where[:, middle], spine3=where[:, chain[-1]])


def humanoid_recipe(tree: Tree, unit_m: float | None = None) -> Recipe:
    """A humanoid BVH on our joints; joints that both have are exact.

    Args:
        tree: in the file's unit. unit_m: metres per unit, else the one that the legs' length tells (unit_of).
    Raises:
        LookupError: a landmark, the unit or the T-pose cannot be found.
    """
    rig = find_rig(tree)
    metres = unit_of(tree, rig) if unit_m is None else unit_m
    ends = {name: end * metres for name, end in tree.ends.items()}
    tree = _in_t_pose(replace(tree, offsets=tree.offsets * metres, root=tree.root * metres, ends=ends), rig)
    where, rot = tree.positions(), tree.world_rot
    recipe = new_recipe(len(tree.root), where[:, rig.root])
    _spine(tree, rig, recipe, where)
    fork = rig.spine[-1]
    set_joint(recipe, "neck", rot[:, rig.neck[0]], tree.offsets[rig.neck[0]])
    set_joint(recipe, "head", rot[:, rig.neck[-1]], _span(tree, rig.neck[0], rig.neck[-1]))
    if len(rig.neck) > 2:
        recipe.aims["head"] = where[:, rig.neck[-1]]
    for side in ("left", "right"):
        _leg(tree, rig, recipe, side)
        _arm(tree, rig, recipe, side, fork)
    return recipe


def _leg(tree: Tree, rig: _Rig, recipe: Recipe, side: str) -> None:
    hip, knee, ankle, toe = rig.legs[side]
    set_joint(recipe, f"{side}_hip", tree.world_rot[:, hip], _span(tree, rig.root, hip))
    set_joint(recipe, f"{side}_knee", tree.world_rot[:, knee], tree.offsets[knee])
    set_joint(recipe, f"{side}_ankle", tree.world_rot[:, ankle], _span(tree, knee, ankle))
    bone = tree.offsets[toe] if toe >= 0 else tree.ends.get(tree.names[ankle], np.zeros(3))
    set_joint(recipe, f"{side}_foot", tree.world_rot[:, toe if toe >= 0 else ankle], bone)


def _arm(tree: Tree, rig: _Rig, recipe: Recipe, side: str, fork: int) -> None:
    collar, shoulder, elbow, wrist = rig.arms[side]
    reach = _span(tree, fork, shoulder)
    if collar >= 0:
        set_joint(recipe, f"{side}_collar", tree.world_rot[:, collar], _span(tree, fork, collar))
        set_joint(recipe, f"{side}_shoulder", tree.world_rot[:, shoulder], _span(tree, collar, shoulder))
    else:  # a chest that carries the arms itself: our collar stands on the way, and turns with the chest
        set_joint(recipe, f"{side}_collar", tree.world_rot[:, fork], 0.4 * reach)
        set_joint(recipe, f"{side}_shoulder", tree.world_rot[:, shoulder], 0.6 * reach)
    set_joint(recipe, f"{side}_elbow", tree.world_rot[:, elbow], tree.offsets[elbow])
    set_joint(recipe, f"{side}_wrist", tree.world_rot[:, wrist], _span(tree, elbow, wrist))
    hand = rig.hands[side]
    bone = tree.offsets[hand] if hand >= 0 else tree.ends.get(tree.names[wrist], np.zeros(3))
    set_joint(recipe, f"{side}_hand", tree.world_rot[:, hand if hand >= 0 else wrist], bone)
