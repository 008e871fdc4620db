"""Which nodes of a humanoid are its hips, knees, spine, neck, head and arms: by their names, or by the body's shape.

Knees, elbows, hands and feet are known by name; what lies between them and the root follows from the hierarchy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from model.files.tree import RigError, Tree

_HIP = ("thigh", "upleg", "upperleg", "hip")
_KNEE = ("knee", "lowerleg", "lowleg", "shin", "calf", "leg")
_ANKLE = ("ankle", "foot")
_SHOULDER = ("upperarm", "uparm", "arm", "shldr", "shoulder")
_ELBOW = ("elbow", "forearm", "lowerarm", "lowarm")
_WRIST = ("wrist", "hand")
_HEAD = ("head", "face", "skull")
_TOES = ("toebase", "toe", "toes", "ball")
_MIDDLE_FINGER = ("hand", "mid1", "middle1", "handmiddle1", "middle01", "fingerbase", "fingers", "index1", "handindex1")
END = " end"  # what is added to a joint's name for its End Site


@dataclass(frozen=True)
class Rig:
    """Node index of each landmark; legs, arms: side -> chain from the hip or collar outwards (-1: not in the file)."""

    root: int
    spine: list[int]
    neck: list[int]
    legs: dict[str, list[int]]
    arms: dict[str, list[int]]
    hands: dict[str, int]

    def renumbered(self, number: Mapping[int, int]) -> Rig:
        """The same landmarks in a part of the tree; ``number``: old index -> new."""
        new = {-1: -1, **number}
        legs, arms = ({s: [new[i] for i in chain] for s, chain in d.items()} for d in (self.legs, self.arms))
        spine, neck = [new[i] for i in self.spine], [new[i] for i in self.neck]
        return Rig(new[self.root], spine, neck, legs, arms, {s: new[i] for s, i in self.hands.items()})


_SIDES = (  # the ways in which a joint's name says its side
    re.compile(r"^(?P<side>[Ll]eft|LEFT|[Rr]ight|RIGHT)[_ .-]?(?P<name>.+)$"),
    re.compile(r"^(?P<side>[LlRr])[_ .-](?P<name>.+)$"),
    re.compile(r"^(?P<side>[lr])(?P<name>[A-Z].*)$"),
    re.compile(r"^(?P<side>[LR])(?P<name>[A-Z][a-z].*)$"),
    re.compile(r"^(?P<name>.+)[_ .-](?P<side>[LlRr])$"),
    re.compile(r"^(?P<name>.+?)[_ .-]?(?P<side>Left|LEFT|Right|RIGHT)$"),
    re.compile(r"^(?P<name>.+)[_ .-](?P<side>left|right)$"),
)


def plain_name(name: str) -> tuple[str, str]:
    """(side, name): ``mixamorig:LeftForeArm``, ``forearm.L``, ``l_forearm`` -> ("left", "forearm"); no side: ""."""
    word, side = re.split(r"[:|]", name)[-1], ""
    for pattern in _SIDES:
        found = pattern.match(word)
        if found:
            side = "left" if found["side"][0] in "lL" else "right"
            word = found["name"]
            break
    return side, "".join(c for c in word.lower() if c.isalnum())


def unprefixed(names: tuple[str, ...]) -> list[str]:
    """The names without what most of them begin with, mark by mark: ``mixamorig_``, ``Bip01 ``, ``CC_Base_``."""
    out = list(names)
    while heads := [found[0] for name in out if (found := re.match(r"^(?![LlRr][_ .-])[^_ .-]+[_ .-]", name))]:
        prefix, count = Counter(heads).most_common(1)[0]
        if count <= 0.6 * len(out) or re.match(r"(?i)left|right", prefix):
            break
        out = [name.removeprefix(prefix) for name in out]
    return [re.sub(r"^[Cc][_ .-]", "", name) for name in out]  # VRoid's centre


def known_names(tree: Tree) -> dict[tuple[str, str], int]:
    """(side, plain name) -> node; the first of several."""
    known: dict[tuple[str, str], int] = {}
    for i, name in enumerate(unprefixed(tree.names)):
        if not tree.names[i].endswith(END):
            known.setdefault(plain_name(name), i)
    return known


def with_ends(tree: Tree) -> Tree:
    """The tree with each End Site that has a length as a node of its own, named after its joint."""
    ends = [(tree.names.index(name), end) for name, end in tree.ends.items() if np.linalg.norm(end) > 1e-9]
    at = [i for i, _ in ends]
    return replace(
        tree, names=(*tree.names, *(tree.names[i] + END for i in at)), parents=(*tree.parents, *at), ends={},
        offsets=np.concatenate([tree.offsets, np.array([end for _, end in ends]).reshape(-1, 3)]),
        world_rot=np.concatenate([tree.world_rot, tree.world_rot[:, at]], axis=1),
    )  # fmt: skip


def _named(known: dict[tuple[str, str], int], side: str, aliases: tuple[str, ...]) -> int:
    return next((known[side, alias] for alias in aliases if (side, alias) in known), -1)


def _find(known: dict[tuple[str, str], int], side: str, aliases: tuple[str, ...], instead: int = -1) -> int:
    found = _named(known, side, aliases)
    if found < 0 and instead < 0:
        mark = " with a left/right mark" if side else ""
        raise RigError(f"no {side} {aliases[0]} found; looked for {', '.join(aliases)}{mark}".replace("no  ", "no "))
    return found if found >= 0 else instead


def _nearest(known: dict[tuple[str, str], int], side: str, aliases: tuple[str, ...], path: list[int]) -> int:
    """The node nearest to the end of ``path``, itself left out, that has one of the names; else the one before it."""
    named = {known[side, alias] for alias in aliases if (side, alias) in known}
    return next((i for i in path[-2::-1] if i in named), path[-2])


def _child(tree: Tree, node: int) -> list[int]:
    return [i for i, p in enumerate(tree.parents) if p == node]


def _end(tree: Tree, node: int) -> int:
    return next((i for i in _child(tree, node) if tree.names[i].endswith(END)), -1)


def find_rig(tree: Tree) -> Rig:
    """The landmarks of a humanoid tree by its joint names; its End Sites should be nodes (``with_ends``).

    Raises:
        RigError: names the landmark that is missing, and the names looked for.
    """
    known = known_names(tree)
    head = tree.path(_find(known, "", _HEAD))
    legs, arms, hands, paths = {}, {}, {}, {}
    for side in ("left", "right"):
        knee = _find(known, side, _KNEE)
        ankle = _find(known, side, _ANKLE, _end(tree, knee))
        toes = _child(tree, ankle)
        named = [known[side, alias] for alias in _TOES if known.get((side, alias)) in toes]
        legs[side] = [_nearest(known, side, _HIP, tree.path(knee)), knee, ankle, (named or toes or [-1])[0]]
        elbow = _find(known, side, _ELBOW)
        wrist = _find(known, side, _WRIST, _end(tree, elbow))
        paths[side] = tree.path(elbow)
        fingers = _child(tree, wrist)
        middle = [known[side, alias] for alias in _MIDDLE_FINGER if known.get((side, alias)) in fingers]
        hands[side] = (middle or fingers or [-1])[0]
        arms[side] = [-1, _nearest(known, side, _SHOULDER, paths[side]), elbow, wrist]
    return rig_of(tree, head, paths, legs, arms, hands)


def rig_of(
    tree: Tree, head: list[int], paths: dict[str, list[int]], legs: dict[str, list[int]], arms: dict[str, list[int]],
    hands: dict[str, int],
) -> Rig:  # fmt: skip
    """The rig from its limbs: pelvis, spine, collars and neck follow from where the ways to head and elbows part."""
    trunk = [a for a, b, c in zip(paths["left"], paths["right"], head, strict=False) if a == b == c]
    for side, path in paths.items():
        if arms[side][1] in trunk:
            raise RigError(f"no {side} shoulder joint between the chest and the elbow")
        between = path[len(trunk) : path.index(arms[side][1])]
        arms[side][0] = between[0] if between else -1
    for chain in (*(legs[side][:3] for side in legs), *(arms[side][1:] for side in arms)):
        for a, b in pairwise(chain):
            if a not in tree.path(b)[:-1]:
                raise RigError(f"joint '{tree.names[b]}' does not hang on '{tree.names[a]}'")
    ways = [tree.path(legs[side][0])[:-1] for side in legs]
    shared = [i for i in trunk if all(i in way for way in ways)]
    if not shared:
        raise RigError("legs and arms have no joint in common")
    root = shared[-1]
    spine = trunk[trunk.index(root) + 1 :]
    if not spine:
        raise RigError("no spine joint between the hips and the arms")
    if len(head) == len(trunk):
        raise RigError("the arms hang on the head")
    return Rig(root, spine, head[len(trunk) :], legs, arms, hands)
