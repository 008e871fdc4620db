"""A person found by the shape of its skeleton, where the joint names tell nothing (any script, any numbering).

Two joints fork into a pair of equal limbs each: the pelvis, and the chest above it. The longest two bones in a row of
a limb are thigh and shin, or upper arm and forearm; left and right follow from which way the feet point.
"""

from __future__ import annotations

import numpy as np

from model.files.landmarks import END, Rig, known_names, rig_of
from model.files.tree import Floats, RigError, Tree

_SAME = 0.25  # by which the two limbs of a pair may differ in length
_LIMB = 0.3  # of the longest chain, below which a branch is no limb
_WORDS = {
    "knee", "leg", "shin", "calf", "lowerleg", "ankle", "foot", "elbow", "forearm", "lowerarm", "wrist", "hand", "head",
    "thigh", "upleg", "hips", "pelvis", "spine",
}  # fmt: skip


def is_named(tree: Tree) -> bool:
    """Whether some joints have names that are known: then their names decide, and what is missing is named."""
    return len({name for _, name in known_names(tree)} & _WORDS) >= 3


def rig_by_shape(tree: Tree) -> Rig:
    """The landmarks of a tree with End Sites as nodes, by the lengths of its bones and its posed body.

    Raises:
        RigError: the skeleton has not the shape of a person.
    """
    chains = _longest_chains(tree)
    reach = np.array([sum(np.linalg.norm(tree.offsets[i]) for i in chain) for chain in chains])
    forks = [pair for node in range(len(tree.names)) if (pair := _limbs(tree, reach, node)) is not None]
    if len(forks) != 2 or forks[0][0] not in tree.path(forks[1][0]):
        raise RigError("joint names are not known, and the skeleton has not the shape of a person")
    (_, *legs), (chest, *arms) = forks
    bent = {top: _bend(tree, chains[top]) for top in (*legs, *arms)}
    forward = _forward(tree, [bent[top] for top in legs])
    where = tree.positions()[:: max(1, len(tree.root) // 500)]
    up = (where[:, chest] - where[:, forks[0][0]]).mean(0)
    sides = []
    for a, b in ((legs[0], legs[1]), (arms[0], arms[1])):
        across = (where[:, bent[a][0]] - where[:, bent[b][0]]).mean(0)
        sides.append({"left": a, "right": b} if across @ np.cross(up, forward) > 0.0 else {"left": b, "right": a})
    head = _head(tree, chest, arms, reach, chains)
    paths = {side: tree.path(bent[top][1]) for side, top in sides[1].items()}
    limbs = {side: bent[top] for side, top in sides[0].items()}
    reaches = {side: bent[top] for side, top in sides[1].items()}
    hands = {side: nodes[3] for side, nodes in reaches.items()}
    return rig_of(tree, tree.path(head), paths, limbs, {s: [-1, *nodes[:3]] for s, nodes in reaches.items()}, hands)


def _longest_chains(tree: Tree) -> list[list[int]]:
    """For each node the chain of nodes below it whose bones are longest in sum, itself first."""
    best: list[list[int]] = [[i] for i in range(len(tree.names))]
    lengths = np.linalg.norm(tree.offsets, axis=-1)
    total = lengths.copy()
    for i in sorted(range(len(tree.names)), key=lambda i: -len(tree.path(i))):
        p = tree.parents[i]
        if p >= 0 and (len(best[p]) == 1 or total[i] + lengths[p] > total[p]):
            best[p], total[p] = [p, *best[i]], total[i] + lengths[p]
    return best


def _limbs(tree: Tree, reach: Floats, node: int) -> tuple[int, int, int] | None:
    """(node, limb, limb) where two of its branches are as long as one another; each limb is at its first node."""
    branches = sorted((i for i, p in enumerate(tree.parents) if p == node), key=lambda i: -reach[i])
    branches = [i for i in branches if reach[i] > _LIMB * reach[1:].max()]
    pairs = [
        (abs(reach[a] - reach[b]) / reach[a], a, b)
        for n, a in enumerate(branches) for b in branches[n + 1 :]
        if abs(reach[a] - reach[b]) < _SAME * reach[a] and _is_limb(tree, reach, a) and _is_limb(tree, reach, b)
    ]  # fmt: skip
    return (node, *min(pairs)[1:]) if pairs else None


def _is_limb(tree: Tree, reach: Floats, node: int) -> bool:
    """Whether at least three bones follow, and no second long branch leaves them before the hand."""
    below = [i for i in range(len(tree.names)) if node in tree.path(i)]
    for i in below:
        long = [c for c in below if tree.parents[c] == i and reach[c] > 0.5 * reach[node]]
        if len(long) > 1:
            return False
    return max(len(tree.path(i)) for i in below) - len(tree.path(node)) >= 2


def _bend(tree: Tree, chain: list[int]) -> list[int]:
    """[hip or shoulder, knee or elbow, ankle or wrist, toe or finger (-1: none)] of a limb's chain."""
    lengths = [float(np.linalg.norm(tree.offsets[i])) for i in chain]
    at = max(range(1, len(chain) - 1), key=lambda k: min(lengths[k], lengths[k + 1]))
    return [chain[at - 1], chain[at], chain[at + 1], chain[at + 2] if at + 2 < len(chain) else -1]


def _forward(tree: Tree, legs: list[list[int]]) -> Floats:
    """(3,) mean way that the toes point, else the knees, in the world."""
    some = tree.part(slice(None, None, max(1, len(tree.root) // 500)))
    where = some.positions()
    hip, knee, ankle, toe = (np.array(nodes) for nodes in zip(*legs))
    if (toe >= 0).all():
        return (where[:, toe] - where[:, ankle]).mean((0, 1))  # type: ignore[no-any-return]
    return (where[:, knee] - 0.5 * (where[:, hip] + where[:, ankle])).mean((0, 1))  # type: ignore[no-any-return]


def _head(tree: Tree, chest: int, arms: list[int], reach: Floats, chains: list[list[int]]) -> int:
    """The last joint of the longest branch of the chest that is no arm."""
    rest = [i for i, p in enumerate(tree.parents) if p == chest and i not in arms]
    if not rest:
        raise RigError("joint names are not known, and the chest has no neck")
    chain = chains[max(rest, key=lambda i: reach[i])]
    joints = [i for i in chain if not tree.names[i].endswith(END)]
    return (joints or chain)[-1]
