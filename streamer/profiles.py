"""Skeletons that are set for actors: what is a skeleton at all, and whose are kept."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

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
        """Raises ConfigError for what is no skeleton, or no version of one."""
        offsets = np.array(offsets_m, np.float32)
        if offsets.shape != (24, 3) or not np.isfinite(offsets).all() or np.abs(offsets).max() > LONGEST_BONE_M:
            raise ConfigError(f"offsets_m must be 24 x 3 finite metres, not shape {offsets.shape} of other numbers")
        if np.abs(offsets).sum() < POINT_M:
            raise ConfigError("offsets_m are all zero: a skeleton has bones")
        if version is not None and not 0 < version < 2**62:
            raise ConfigError(f"version must be that of a skeleton that was saved, not {version}")
        return cls(offsets, version)


def keep(profiles: dict[str, Profile], actor: str, profile: Profile, present: Container[str], most: int) -> None:
    """Put in an actor's profile; of those who are not ``present``, the ``most`` set or gone last stay."""
    profiles.pop(actor, None)
    profiles[actor] = profile  # in order of age
    absent = [name for name in profiles if name not in present]
    for name in absent[:-most]:
        del profiles[name]
