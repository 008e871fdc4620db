"""A VMC performer's messages, made frames; and a frame's bones, made joints.

VMC has no frames: bones come one by one, in one packet or in several. A frame ends

1. with the packet that brings the last of the bones that its sender has sent of late, the root among them: as soon as
   it can. At first, when it is not known yet which there are, and when one is lost on the way, it ends
2. with ``/VMC/Ext/Blend/Apply``, which senders put behind the bones, or ``/VMC/Ext/T``, which comes once a frame,
   before them or behind, or
3. when a bone comes again: what came before was a frame.

What is missing in a frame is missing: no bone of the frame before stands in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, sqrt

import numpy as np
import numpy.typing as npt

from streamer.wire.osc import Message
from streamer.wire.vmc import (
    APPLY,
    BONE,
    BONES,
    FLIP_POSITION,
    FLIP_QUATERNION,
    MAY_LACK,
    OTHERS,
    PARENT,
    REST_M,
    ROOT,
    SMALL_BONES,
    STATE,
    TIME,
    N,
    Numbers,
    times,
)

F64 = npt.NDArray[np.float64]

ROOT_KEY = -1  # the root among the bones
OF_LATE = 30  # frames in which a bone was missing before it is no more waited for
FARTHEST_M = 1e5  # that a bone may be away
UNIT_WITHIN = 0.1  # of a quaternion's length; beyond, it is none
_INDEX = {name.lower(): n for n, name in enumerate(BONES)}  # some senders write them as VRM does
_IDENTITY = (0.0, 0.0, 0.0, 1.0)
_COS_ASTRAY = cos(0.5)  # [rad] by which a limb's bone may lie elsewhere in its parent's axes than in our T-pose
_LIMBS = [n for n, name in enumerate(BONES) if name.endswith(("LowerArm", "Hand", "LowerLeg", "Foot"))]
_BONE_M = REST_M - REST_M[list(PARENT)]
_ALONG = {n: (_BONE_M[n] / np.linalg.norm(_BONE_M[n])).tolist() for n in _LIMBS}  # of limbs, in the rest pose
_FLIP = (*FLIP_POSITION.tolist(), *FLIP_QUATERNION.tolist())


@dataclass(slots=True)
class Captured:
    """The bones of one frame, in our axes.

    Attributes:
        bones: index in ``BONES`` -> local position [m] and rotation, 7 numbers; ``ROOT_KEY``: the root's, in the world.
        exist: bones that its sender has sent of late, in this frame or not.
        arrived_ns: when the last of them came, on our clock.
        sender_s: /VMC/Ext/T of one of its packets, None when it did not come with them.
        tracked: False when the sender says that what it sends is none of the person.
    """

    arrived_ns: int
    tracked: bool = True
    sender_s: float | None = None
    bones: dict[int, Numbers] = field(default_factory=dict)
    exist: frozenset[int] = frozenset()

    def joints(self) -> tuple[F64, F64]:
        """Where the bones are.

        A bone's place in its parent is what was sent; where that is zero, our rest pose's. Bones that a humanoid may
        lack and that never come are left out of the chain; below any other that is missing nothing is placed.

        Returns:
            (N, 3) positions [m] in the world, Y up, in the order of layout ``vrm``, and (N, 4) rotations
            world_from_joint, xyzw, relative to a T-pose; NaN where a joint is not placed.
        Source: forward kinematics along the chain. Oracle: tests/helpers/reference.py.
        """
        root = self.bones.get(ROOT_KEY)
        world: dict[int, tuple[Numbers, Numbers]] = {}
        for n in range(N):
            bone, up = self.bones.get(n), self._up(n)
            if bone is None or (up is not None and up not in world):
                continue
            place, turn = bone[:3], bone[3:]
            if up is None:
                origin, around = (root[:3], root[3:]) if root is not None else ((0.0, 0.0, 0.0), _IDENTITY)
            else:
                origin, around = world[up]
                if not any(place):
                    place = tuple((REST_M[n] - REST_M[up]).tolist())
            world[n] = _moved(origin, around, place), times(around, turn)
        positions, rotations = np.full((N, 3), np.nan), np.full((N, 4), np.nan)
        for n, (position, rotation) in world.items():
            positions[n], rotations[n] = position, rotation
        return positions, rotations

    @property
    def of_t_pose(self) -> bool:
        """Whether the rotations may be relative to a T-pose: no place that was sent of a limb's bone lies elsewhere."""
        for n, (ax, ay, az) in _ALONG.items():
            x, y, z = self.bones.get(n, _IDENTITY)[:3]
            if ax * x + ay * y + az * z < _COS_ASTRAY * sqrt(x * x + y * y + z * z):
                return False
        return True

    def _up(self, n: int) -> int | None:
        """The bone that this one hangs on; None: the root."""
        up = PARENT[n]
        while up in MAY_LACK and up not in self.exist and up not in self.bones:
            up = PARENT[up]
        return up if up >= 0 else None


class Performer:
    """One sender's messages, made frames. ``reset()`` forgets the sender."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new."""
        self._frame: Captured | None = None
        self._number = 0
        self._seen: dict[int, int] = {}  # bone -> number of the last frame that it came in
        self._tracked = True

    def feed(self, messages: Sequence[Message], arrived_ns: int) -> tuple[list[Captured], list[tuple[str, str]]]:
        """The frames that end with a packet, and what of it cannot be used: ("broken" | "unknown", what)."""
        ended: list[Captured] = []
        faults: list[tuple[str, str]] = []
        sender_s = next((m.arguments[0] for m in messages if m.address == TIME and m.tags.startswith("f")), None)
        for one in messages:
            if one.address in (BONE, ROOT):
                key, numbers, fault = _bone(one)
                if numbers is None:
                    faults += [fault] if fault is not None else []
                    continue
                if self._frame is not None and key in self._frame.bones:
                    ended.append(self._end())
                if self._frame is None:
                    self._frame = Captured(arrived_ns, self._tracked)
                self._frame.bones[key] = numbers
                self._frame.arrived_ns = arrived_ns
                if sender_s is not None:
                    self._frame.sender_s = sender_s
            elif one.address in (TIME, APPLY):
                if self._frame is not None:
                    ended.append(self._end())
            elif one.address == STATE:
                self._tracked = not (one.tags.startswith("iiii") and one.arguments[3] == 0)
            elif not one.address.startswith(OTHERS):
                faults.append(("unknown", one.address))
        if self._frame is not None and self._expected and self._expected <= set(self._frame.bones):
            ended.append(self._end())
        return ended, faults

    @property
    def _expected(self) -> frozenset[int]:
        return frozenset(key for key, number in self._seen.items() if self._number - number <= OF_LATE)

    def _end(self) -> Captured:
        frame, self._frame = self._frame, None
        assert frame is not None
        self._number += 1
        self._seen.update(dict.fromkeys(frame.bones, self._number))
        frame.exist = self._expected
        return frame


def _bone(one: Message) -> tuple[int, Numbers | None, tuple[str, str] | None]:
    """Which bone, its seven numbers in our axes, or why there are none: a finger's are left out without a word."""
    if not one.tags.startswith("sfffffff"):
        return 0, None, ("broken", f"{one.address} with {one.tags or 'nothing'}")
    name, key = one.arguments[0].lower(), ROOT_KEY
    if one.address == BONE and (key := _INDEX.get(name, ROOT_KEY)) == ROOT_KEY:
        return 0, None, None if name in SMALL_BONES else ("unknown", f"bone {one.arguments[0]}")
    numbers = one.arguments[1:8]
    length = sqrt(sum(x * x for x in numbers[3:])) if all(abs(x) <= FARTHEST_M for x in numbers) else 0.0  # NaN is not
    if abs(length - 1.0) > UNIT_WITHIN:
        return 0, None, ("broken", f"{one.address} {one.arguments[0]}: no place, or no rotation")
    scale = (1.0, 1.0, 1.0) + (1.0 / length,) * 4
    return key, tuple(x * sign * s for x, sign, s in zip(numbers, _FLIP, scale)), None


def _moved(origin: Numbers, around: Numbers, place: Numbers) -> Numbers:
    """origin + around * place."""
    x, y, z, w = around
    px, py, pz = place
    tx, ty, tz = 2 * (y * pz - z * py), 2 * (z * px - x * pz), 2 * (x * py - y * px)
    return (
        origin[0] + px + w * tx + y * tz - z * ty,
        origin[1] + py + w * ty + z * tx - x * tz,
        origin[2] + pz + w * tz + x * ty - y * tx,
    )
