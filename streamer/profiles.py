"""Skeletons that are set for actors, also for those who will come or come back; filter.py uses them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamer.actors import Actors
from streamer.errors import ConfigError
from streamer.runtimes.block import F32
from streamer.vetting import POINT_M

LONGEST_BONE_M = 1000.0


class SkeletonInUse(NamedTuple):
    """An actor's bones now; ``set_skeleton(actor, offsets_m, version)`` brings them back."""

    offsets_m: F32  # (24, 3) rest-pose vector from the parent to each joint [m]
    version: int
    measured_s: float  # seconds of motion that they rest on: 4 when done, 0 where they were given
    done: bool  # calibrated or given: they change no more, but for another body


class Profile(NamedTuple):
    """A skeleton that was set for an actor."""

    offsets_m: F32
    version: int | None  # None: by somebody's word, not measured

    @classmethod
    def checked(cls, offsets_m: F32, version: int | None) -> Profile:
        """Raises ConfigError: it is no skeleton, or ``version`` none of one."""
        offsets = np.array(offsets_m, np.float32)
        if offsets.shape != (24, 3) or not np.isfinite(offsets).all() or np.abs(offsets).max() > LONGEST_BONE_M:
            raise ConfigError(f"offsets_m must be 24 x 3 finite metres, not shape {offsets.shape} of other numbers")
        if np.abs(offsets).sum() < POINT_M:
            raise ConfigError("offsets_m are all zero: a skeleton has bones")
        if version is not None and not 0 < version < 2**62:
            raise ConfigError(f"version must be that of a skeleton that was saved, not {version}")
        return cls(offsets, version)


class Profiles:
    """By actor, in order of age; of those who are absent, as many as there may be actors."""

    def __init__(self, actors: Actors) -> None:
        self._actors = actors
        self._of: dict[str, Profile] = {}

    def __len__(self) -> int:
        return len(self._of)

    def keep(self, actor: str, profile: Profile) -> None:
        self._of.pop(actor, None)
        self._of[actor] = profile
        absent = [name for name in self._of if name not in self._actors]
        for name in absent[: -self._actors.capacity]:
            del self._of[name]

    def apply(self, actor: str) -> None:
        """Gives an actor who is there the skeleton that was set for it, if one was."""
        if actor in self._of:
            self._actors.give(actor, *self._of[actor])

    def drop(self, actor: str) -> None:
        self._of.pop(actor, None)

    def left(self, actor: str) -> None:
        """Who left: its skeleton is the newest of the absent."""
        if actor in self._of:
            self.keep(actor, self._of[actor])
