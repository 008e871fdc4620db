"""A person found by the shape of its skeleton, where the joint names tell nothing (any script, any numbering).

Two joints fork into a pair of equal limbs each: the pelvis, and the chest above it. The longest two bones in a row of
a limb are thigh and shin, or upper arm and forearm; left and right follow from which way the feet point.
"""

from __future__ import annotations

import numpy as np

from model.files.landmarks import END, Rig, known_names, rig_of
from model.files.tree import RigError, Tree

_SAME = 0.25  # by which the two limbs of a pair may differ in length
_BRANCHES = 12  # of a joint, that are looked at
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
    shape = _Shape(tree)
    forks = [(node, *pair) for node in range(len(tree.names)) if (pair := shape.pair(node))]
    if len(forks) != 2 or forks[0][0] not in tree.path(forks[1][0]):
        raise RigError("joint names are not known, and the skeleton has not the shape of a person")
    (pelvis, *hips), (chest, *shoulders) = forks
    bent = {top: shape.bend(top) for top in (*hips, *shoulders)}
    head = shape.head(chest, shoulders)
    legs, arms = _sides(tree, [bent[top] for top in hips], [bent[top] for top in shoulders], pelvis, chest)
    paths = {side: tree.path(nodes[1]) for side, nodes in arms.items()}
    hands = {side: nodes[3] for side, nodes in arms.items()}
    return rig_of(tree, tree.path(head), paths, legs, {side: [-1, *nodes[:3]] for side, nodes in arms.items()}, hands)


class _Shape:
    """For each node, from the leaves up: its children, the longest chain below it, and where that forks.

    Attributes:
        chain: nodes of the longest chain that begins with the node. reach: its length, the node's own bone included.
        fork: longest second branch anywhere below. joints: most bones in a row below.
    """

    def __init__(self, tree: Tree) -> None:
        n = len(tree.names)
        self.tree, self.lengths = tree, np.linalg.norm(tree.offsets, axis=-1)
        self.children: list[list[int]] = [[] for _ in range(n)]
        for i, p in enumerate(tree.parents):
            if p >= 0:
                self.children[p].append(i)
        self.chain: list[list[int]] = [[i] for i in range(n)]
        self.reach, self.fork, self.joints = self.lengths.copy(), np.zeros(n), [0] * n
        for i in sorted(range(n), key=lambda i: -len(tree.path(i))):
            below = sorted(self.children[i], key=lambda c: -self.reach[c])
            if below:
                self.chain[i] = [i, *self.chain[below[0]]]
                self.reach[i] += self.reach[below[0]]
                second = [self.reach[c] for c in below[1:2]]
                self.fork[i] = max([*second, *(self.fork[c] for c in below)])
                self.joints[i] = 1 + max(self.joints[c] for c in below)

    def pair(self, node: int) -> tuple[int, int] | None:
        """The two branches of a node that are limbs as long as one another."""
        branches = sorted(self.children[node], key=lambda c: -self.reach[c])[:_BRANCHES]
        limbs = [c for c in branches if self.reach[c] > _LIMB * self.reach[1:].max() and self.joints[c] >= 2]
        limbs = [c for c in limbs if self.fork[c] <= 0.5 * self.reach[c]]
        differs = {(a, b): 1.0 - self.reach[b] / self.reach[a] for n, a in enumerate(limbs) for b in limbs[n + 1 :]}
        best = min(differs, key=lambda ab: differs[ab], default=None)
        return best if best is not None and differs[best] < _SAME else None

    def bend(self, top: int) -> list[int]:
        """[hip or shoulder, knee or elbow, ankle or wrist, toe or finger (-1: none)] of a limb."""
        chain = self.chain[top]
        at = max(range(1, len(chain) - 1), key=lambda k: min(self.lengths[chain[k]], self.lengths[chain[k + 1]]))
        return [*chain[at - 1 : at + 2], chain[at + 2] if at + 2 < len(chain) else -1]

    def head(self, chest: int, arms: list[int]) -> int:
        """The last joint of the longest branch of the chest that is no arm."""
        rest = [c for c in self.children[chest] if c not in arms]
        if not rest:
            raise RigError("joint names are not known, and the chest has no neck")
        chain = self.chain[max(rest, key=lambda c: self.reach[c])]
        joints = [i for i in chain if not self.tree.names[i].endswith(END)]
        return (joints or chain)[-1]


def _sides(
    tree: Tree, legs: list[list[int]], arms: list[list[int]], pelvis: int, chest: int
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """{"left": ..., "right": ...} of legs and arms, by which way toes point, else knees, over the clip."""
    where = tree.part(slice(None, None, max(1, len(tree.root) // 500))).positions()
    hip, knee, ankle, toe = (np.array(nodes) for nodes in zip(*legs))
    if (toe >= 0).all():
        forward = (where[:, toe] - where[:, ankle]).mean(1)
    else:
        forward = (where[:, knee] - 0.5 * (where[:, hip] + where[:, ankle])).mean(1)
    left = np.cross(where[:, chest] - where[:, pelvis], forward)  # (T, 3)
    out = []
    for a, b in (legs, arms):
        is_left = ((where[:, a[0]] - where[:, b[0]]) * left).sum() > 0.0
        out.append({"left": a, "right": b} if is_left else {"left": b, "right": a})
    return out[0], out[1]
