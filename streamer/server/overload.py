"""What gives way when more comes in than can be done, and what is not worth sending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamer.frames import Frame, Pose


def newest_that_fit(frames: Sequence[Frame], room: int) -> tuple[list[Frame], list[Frame]]:
    """(kept, skipped), each in order: about ``room`` frames, shared evenly, and the newest of each actor in any case.

    Evenly, so that an actor whose source floods us loses its own frames and nobody else's.
    """
    behind: Counter[str] = Counter()  # how many newer frames of the same actor there are
    age = [0] * len(frames)
    for i in range(len(frames) - 1, -1, -1):
        age[i] = behind[frames[i].actor]
        behind[frames[i].actor] += 1
    freshest_first = sorted(range(len(frames)), key=age.__getitem__)
    taken = set(freshest_first[: max(room, len(behind))])
    kept = [frame for i, frame in enumerate(frames) if i in taken]
    return kept, [frame for i, frame in enumerate(frames) if i not in taken]


def newest_per_actor(poses: Sequence[Pose]) -> list[Pose]:
    """The last pose of each actor, in order of the actors' first."""
    return list({pose.actor: pose for pose in poses}.values())
