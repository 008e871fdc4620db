"""The tree that all formats share: a source's skeleton and motion, before anything is mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class RigError(LookupError):
    """A skeleton that cannot be mapped: says what was looked for and not found. ClipError adds the file."""


@dataclass(frozen=True)
class Tree:
    """A source's skeleton and motion, in the source's unit; the parent of a node stands before it.

    Attributes:
        names: node names, each once; parents: index of each node's parent, -1 for the root.
        offsets: (n, 3) vector from the parent in the zero pose; the root's is unused.
        world_rot: (T, n, 3, 3) world_from_node; the identity in the zero pose.
        root: (T, 3) root position in the world.
        ends: end point of a leaf in the leaf's axes, where the file gives one.
        moves: (T, 3) vector from the parent, in its axes, of each node that has one of its own in every frame.
        notes: what the reader had to decide, one sentence each.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Floats
    world_rot: Floats
    root: Floats
    fps: float
    ends: Mapping[str, Floats] = field(default_factory=dict)
    moves: Mapping[int, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rot(self, name: str) -> Floats:
        out: Floats = self.world_rot[:, self.names.index(name)]
        return out

    def offset(self, name: str) -> Floats:
        out: Floats = self.offsets[self.names.index(name)]
        return out

    def positions(self) -> Floats:
        """(T, n, 3) node positions in the world, as the file has them: with ``moves``."""
        out = np.empty((*self.world_rot.shape[:2], 3))
        for i, p in enumerate(self.parents):
            if p < 0:
                out[:, i] = self.root
            elif i in self.moves:
                out[:, i] = out[:, p] + (self.world_rot[:, p] @ self.moves[i][..., None])[..., 0]
            else:
                out[:, i] = out[:, p] + self.world_rot[:, p] @ self.offsets[i]
        return out

    def scaled(self, factor: float) -> Tree:
        """The same in another unit of length."""
        ends = {name: end * factor for name, end in self.ends.items()}
        moves = {i: move * factor for i, move in self.moves.items()}
        return replace(self, offsets=self.offsets * factor, root=self.root * factor, ends=ends, moves=moves)

    def part(self, frames: slice) -> Tree:
        """Some of the frames."""
        moves = {i: move[frames] for i, move in self.moves.items()}
        return replace(self, world_rot=self.world_rot[frames], root=self.root[frames], moves=moves)

    def path(self, node: int) -> list[int]:
        """Nodes from the root to ``node``, both included."""
        out = [node]
        while self.parents[out[-1]] >= 0:
            out.append(self.parents[out[-1]])
        return out[::-1]

    def span(self, ancestor: int, node: int) -> Floats:
        """Vector from ``ancestor`` to ``node`` in the zero pose."""
        path = self.path(node)
        return self.offsets[path[path.index(ancestor) + 1 :]].sum(0)  # type: ignore[no-any-return]

    def distance(self, ancestor: int, node: int) -> float:
        """Length of the bones from ``ancestor`` to ``node``."""
        path = self.path(node)
        return float(np.linalg.norm(self.offsets[path[path.index(ancestor) + 1 :]], axis=-1).sum())

    def below(self, node: int) -> Tree:
        """The tree that begins at ``node``, which goes where it goes, whatever moves it from above."""
        if node == 0:
            return self
        root = self.root
        for i in self.path(node)[1:]:
            move = self.moves.get(i, self.offsets[i])
            root = root + (self.world_rot[:, self.parents[i]] @ np.broadcast_to(move, root.shape)[..., None])[..., 0]
        keep = [i for i in range(len(self.names)) if node in self.path(i)]
        place = {i: at for at, i in enumerate(keep)}
        names = tuple(self.names[i] for i in keep)
        return replace(
            self, names=names, parents=tuple(place.get(self.parents[i], -1) for i in keep), root=root,
            offsets=self.offsets[keep], world_rot=self.world_rot[:, keep],
            ends={name: end for name, end in self.ends.items() if name in names},
            moves={place[i]: move for i, move in self.moves.items() if i in place and i != node},
        )  # fmt: skip
