"""How fast joints move and turn, at the time that a pose is for: asked of the model, not of differences of its answers.

Its head answers for any time from one frame. So two answers that rest on the same frames, for two times around, say
what it takes the motion to be; noise that differs from frame to frame is not in their difference. Where the head
changes between what was seen and what comes after (at the newest frame), a small step would show the change and not the
motion, so the step is a wide one and reaches back into what was seen. Both answers have their feet where foot_lock.py
has them in the pose, and where those go from there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model.skeleton import PARENTS
from streamer.actors import Actors
from streamer.clock import SECOND_NS
from streamer.runtimes.block import F32, row_index
from streamer.skeletons import F64

SPAN_S = 1 / 30  # of a step, on each side that was seen. Measured: `hpstm bench velocity`
_ROOT = len(PARENTS)  # stands for the root's parent, which the world is


class Velocities(NamedTuple):
    """Of B poses, in the axes of the world."""

    velocity: F32  # (B, 24, 3) of the joints [m/s]
    angular: F32  # (B, 24, 3) of the joints' rotations in the world: along the axis, right-handed [rad/s]


def ends_s(tau_s: F64, earliest_s: float) -> tuple[F64, F64]:
    """The two times that speak for the speed at ``tau_s`` (B,), all from the newest frame.

    Each changes with ``tau_s`` steadily: a time that glides has no jump in its speeds.
    """
    first = np.maximum(np.minimum(tau_s, 0.0) - SPAN_S, earliest_s)
    return first, np.maximum(tau_s, np.minimum(tau_s + SPAN_S, 0.0))


def measure(actors: Actors, rows: list[int], t_ns: list[int], wanted_ns: list[int]) -> Velocities:
    """The speeds of the poses that the block has just answered for ``t_ns``, where ``wanted_ns`` was asked for.

    Asks the block for other times of these rows.
    """
    block, at = actors.block, row_index(rows)
    tau_s = block.tau_s[at].astype(np.float64)
    first, last = ends_s(tau_s, actors.earliest_s)
    positions, turned = [], []
    for end_s in (last, first):
        if not np.array_equal(end_s, tau_s):  # else that is what it has just answered
            block.tau_s[at] = end_s
            block.pose(at)
        moved_ns = np.rint((end_s - tau_s) * SECOND_NS).astype(np.int64).tolist()
        t, wanted = ([ns + by for ns, by in zip(some, moved_ns)] for some in (t_ns, wanted_ns))
        positions.append(block.positions[at].copy())
        turned.append(actors.turned(rows, t, wanted, positions[-1])[0].copy())
    if actors.feet is not None:
        origin, reach_s = actors.origin[at, None], (first - tau_s, last - tau_s)
        placed = [some + origin for some in positions]
        actors.feet.carry(rows, t_ns, reach_s, placed[::-1], turned[::-1])
        positions = [(some - origin).astype(np.float32) for some in placed]
    per_s = (1.0 / (last - first))[:, None, None].astype(np.float32)
    after, before = world_rotations(np.stack(turned))
    return Velocities((positions[0] - positions[1]) * per_s, rotation_vectors(after, before) * per_s)


def _product() -> F32:
    """(16, 4) products of a number of one quaternion xyzw and one of another -> the quaternion of both turns."""
    out: F32 = np.zeros((4, 4, 4), np.float32)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[i, 3, i] = out[3, i, i] = out[j, k, i] = 1.0
        out[k, j, i] = out[i, i, 3] = -1.0
    out[3, 3, 3] = 1.0
    return out.reshape(16, 4)


def _jumps() -> list[np.ndarray]:
    """Of each round, whom each joint takes in: the joint above all that it holds already. Twice as many each time."""
    above, rounds = np.array([*(p if p >= 0 else _ROOT for p in PARENTS), _ROOT]), []
    while (above != _ROOT).any():
        rounds.append(above)
        above = above[above]
    return rounds


_PRODUCT, _JUMPS = _product(), _jumps()
_NONE: F32 = np.array([0.0, 0.0, 0.0, 1.0], np.float32)
_BACK: F32 = np.array([-1.0, -1.0, -1.0, 1.0], np.float32)
_TINY = np.float32(1e-12)  # below the sine of any angle but none


def product(p: F32, q: F32) -> F32:
    """(..., 4) the turn q and then p, in the axes that p turns in."""
    pairs: F32 = p[..., :, None] * q[..., None, :]
    out: F32 = pairs.reshape(*p.shape[:-1], 16) @ _PRODUCT
    return out


def world_rotations(local: F32) -> F32:
    """(..., 24, 4) world_from_joint quaternions of (..., 24, 4) parent_from_joint ones, all xyzw.

    Oracle: scipy in tests/streamer/test_velocities.py.
    """
    out = np.empty((*local.shape[:-2], _ROOT + 1, 4), np.float32)
    out[..., :_ROOT, :], out[..., _ROOT, :] = local, _NONE
    for above in _JUMPS:
        out = product(out.take(above, -2), out)
    return out[..., :_ROOT, :]


def rotation_vectors(after: F32, before: F32) -> F32:
    """(..., 3) the turn from one quaternion to the other, in the axes of the world [rad], less than half a turn."""
    turn = product(after, before * _BACK)
    axis, cosine = turn[..., :3], turn[..., 3]
    sine = np.sqrt((axis * axis).sum(-1))
    angle = 2.0 * np.arctan2(np.copysign(sine, cosine), np.abs(cosine))
    out: F32 = axis * (angle / np.maximum(sine, _TINY))[..., None]
    return out
