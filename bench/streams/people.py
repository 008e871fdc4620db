"""Who moves in a case: somebody whose joints are known at any time, made by procedure or taken from a test clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.accuracy.takes import Take, load_takes
from bench.track import Floats, at_time
from model.kinematics import forward_kinematics
from model.motion.synthetic import SyntheticActor
from model.skeleton import PARENTS
from streamer.clock import SECOND_NS

HEIGHT_M = 1.7
LONG_ENOUGH_S = 14.0  # of a clip, so that it need not be played backwards within a case
ROOT = Path(__file__).resolve().parents[2]
_PARENT = [max(p, 0) for p in PARENTS]


@dataclass(frozen=True)
class Person:
    """A body that moves: ``pose`` gives world rotations (T, 24, 3, 3) and roots (T, 3) [m] at times (T,) [s].

    ``offsets_m`` (24, 3): rest-pose vector from the parent to each joint.
    """

    name: str
    offsets_m: Floats
    pose: Callable[[Floats], tuple[Floats, Floats]]

    def positions(self, t_s: Floats) -> Floats:
        """(T, 24, 3) joints in the world [m]."""
        rotations, root = self.pose(t_s)
        return np.asarray(forward_kinematics(rotations, self.offsets_m, root))

    def with_bones(self, offsets_m: Floats) -> Person:
        """Who moves the same on other bones (24, 3)."""
        return replace(self, offsets_m=np.asarray(offsets_m, np.float64))


People = Callable[[int, float], Person]  # (who, height [m]): somebody else for every number


def procedural(who: int, height_m: float = HEIGHT_M) -> Person:
    """A mover of model/motion/synthetic.py."""
    actor = SyntheticActor(who, height_m)
    return Person(f"procedural {who}", actor.offsets_m, actor.poses)


def from_clips(takes: Sequence[Take]) -> People:
    """People out of clips; a height other than the usual scales the whole motion."""

    def person(who: int, height_m: float = HEIGHT_M) -> Person:
        return _from_take(takes[who % len(takes)], height_m / HEIGHT_M)

    return person


def clip_people(data: Path, count: int) -> People:
    """``count`` people of the test split of a folder with clips.csv. Raises ConfigError, ClipError."""
    takes = (take for take in load_takes(data, "test", 4 * count) if take.rotations is not None)
    longest = sorted(takes, key=lambda take: take.native_ns[-1] < LONG_ENOUGH_S * SECOND_NS)  # long ones first, stable
    return from_clips(longest[:count])


def find_data() -> Path | None:
    """The folder of real motion that lies beside this project's workplace, if it is there."""
    places = (parent / "shared" / "data" for parent in ROOT.parents)
    return next((place for place in places if (place / "clips.csv").is_file()), None)


def _from_take(take: Take, scale: float) -> Person:
    assert take.rotations is not None
    bones = take.native - take.native[:, _PARENT]
    # In the parent's axes, where they are constant: the rest-pose offsets.
    offsets = np.einsum("tjba,tjb->tja", take.rotations[:, _PARENT], bones).mean(0)
    end_ns = int(take.native_ns[-1])

    def pose(t_s: Floats) -> tuple[Floats, Floats]:
        t_ns = np.round(np.asarray(t_s) * SECOND_NS).astype(np.int64) % (2 * end_ns)
        t_ns = np.where(t_ns > end_ns, 2 * end_ns - t_ns, t_ns)  # at its end a clip goes back the way it came
        assert take.rotations is not None
        turned = at_time(take.native_ns, take.rotations, t_ns)
        return _orthonormal(turned), scale * at_time(take.native_ns, take.native[:, 0], t_ns)

    return Person(take.name, scale * offsets, pose)


def _orthonormal(matrices: Floats) -> npt.NDArray[np.float64]:
    """The rotations nearest to matrices (..., 3, 3) between two neighbouring ones."""
    u, _, v = np.linalg.svd(matrices)
    return np.asarray(u @ v)
