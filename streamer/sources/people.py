"""Who is who from picture to picture, by place and pose: an estimator gives people in any order.

The rules:

1. Who is followed is looked for near where they should be: the last place, moved on at the last speed, which fades. The
   distance is in body sizes, and what differs in size and pose counts, too; the pose the less, the longer ago it was.
   The nearest pair is taken first, then the next. What is farther than can be reached since then is somebody else.
2. Who is not seen keeps their number for ``KEPT_NS``, 2 s. Nobody else gets it meanwhile. After that it is free.
3. Somebody new gets the lowest free number when seen in ``PROVED`` pictures in a row: the largest first. When there is
   none they are nobody, and counted; they take over when a number becomes free.
4. Poses in the same place, of the same size, are one person found twice, often with left and right exchanged: the one
   that is most like somebody who is followed is kept. So of two who pass each other one is not seen for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from streamer.clock import SECOND_NS
from streamer.frames import Array
from streamer.sources.landmarker import Found

KEPT_NS = 2 * SECOND_NS
PROVED = 3
TORSO = (11, 12, 23, 24)  # shoulders and hips
REACH = 1.0  # how far somebody may be from where they should be, in body sizes (some 0.5 m),
REACH_A_S = 3.0  # and how much more with each second that they were not seen
SAME = 0.4  # two poses so near each other, in body sizes, are one person's
FADES_S = 0.5  # of the last speed, and of what the last pose says
POSE_M = 0.3  # a mean difference of the poses that counts as much as one body size
SIZES = 1.5  # a ratio of sizes that counts as much


@dataclass
class Followed:
    """What is known of somebody who is followed."""

    seen_ns: int
    place_px: Array  # (2,) middle of shoulders and hips
    size_px: float
    pose_m: Array  # (33, 3)
    speed_px_s: Array = field(default_factory=lambda: np.zeros(2))
    seen: int = 1  # in how many pictures

    def expected(self, t_ns: int) -> Array:
        """(2,) where they should be at a time [px]."""
        gone_s = (t_ns - self.seen_ns) / SECOND_NS
        return np.asarray(self.place_px + self.speed_px_s * FADES_S * (1.0 - np.exp(-gone_s / FADES_S)))

    def distance(self, t_ns: int, found: Found) -> float:
        """How unlike them somebody who is found is, from 0; infinite where it cannot be them."""
        gone_s = (t_ns - self.seen_ns) / SECOND_NS
        size = size_of(found)
        far = float(np.linalg.norm(place_of(found) - self.expected(t_ns))) / max(size, self.size_px)
        if far > REACH + REACH_A_S * gone_s:
            return np.inf
        larger = float(abs(np.log(size / self.size_px)) / np.log(SIZES))
        other = float(np.sqrt(np.square(found.world_m - self.pose_m).sum(1).mean())) / POSE_M
        return far + larger + other * float(np.exp(-gone_s / FADES_S))

    def update(self, t_ns: int, found: Found) -> None:
        """They were found there."""
        gone_s = max((t_ns - self.seen_ns) / SECOND_NS, 1e-3)
        place = place_of(found)
        speed = (place - self.place_px) / gone_s
        self.speed_px_s = self.speed_px_s + (1.0 - np.exp(-gone_s / 0.2)) * (speed - self.speed_px_s)
        self.seen_ns, self.place_px, self.size_px, self.pose_m = t_ns, place, size_of(found), found.world_m
        self.seen += 1


class People:
    """Numbers people, from 0, and keeps the numbers; the rules stand at the top of the module.

    Attributes:
        doubles: how often somebody was found twice in a picture.
        others: how often somebody was seen who could have no number: there are ``most`` already.
    Args:
        most: how many numbers there are.
    """

    def __init__(self, most: int = 1) -> None:
        self.followed: dict[int, Followed] = {}
        self.doubles = self.others = 0
        self._most = most
        self._new: list[Followed] = []

    def number(self, t_ns: int, found: Sequence[Found]) -> dict[int, Found]:
        """Who is seen in the picture of time ``t_ns``: number -> as what; times grow from call to call."""
        self.followed = {n: one for n, one in self.followed.items() if t_ns - one.seen_ns <= KEPT_NS}
        left = self._without_doubles(t_ns, found)
        numbered: dict[int, Found] = {}
        for n, place in _nearest(t_ns, self.followed, left):
            self.followed[n].update(t_ns, left[place])
            numbered[n] = left[place]
        numbered |= self._newcomers(t_ns, [one for one in left if not any(one is other for other in numbered.values())])
        return dict(sorted(numbered.items()))

    def _without_doubles(self, t_ns: int, found: Sequence[Found]) -> list[Found]:
        """Everybody once: first who is like those who are followed, then the largest."""
        known = [*self.followed.values(), *self._new]
        likeness = [min((one.distance(t_ns, other) for one in known), default=np.inf) for other in found]
        kept: list[Found] = []
        for place in sorted(range(len(found)), key=lambda i: (likeness[i], -size_of(found[i]))):
            if any(_is_double(found[place], other) for other in kept):
                self.doubles += 1
            else:
                kept.append(found[place])
        return kept

    def _newcomers(self, t_ns: int, found: list[Found]) -> dict[int, Found]:
        """Of people whom nobody knows, largest first, those who get a number now."""
        before, self._new = dict(enumerate(self._new)), []
        pairs = {place: n for n, place in _nearest(t_ns, before, found)}
        numbered = {}
        for place, one in enumerate(found):
            known = before[pairs[place]] if place in pairs else None
            if known is None:
                known = Followed(t_ns, place_of(one), size_of(one), one.world_m)
            else:
                known.update(t_ns, one)
            free = min(set(range(self._most)) - self.followed.keys(), default=None)
            if free is not None and known.seen >= PROVED:
                self.followed[free], numbered[free] = known, one
                continue
            self.others += free is None
            self._new.append(known)
        return numbered


def place_of(found: Found) -> Array:
    """(2,) the middle of shoulders and hips in the picture [px]."""
    return np.asarray(found.image_px[TORSO, :].mean(0))


def size_of(found: Found) -> float:
    """How large somebody is in the picture: root mean square distance of the landmarks from their middle [px]."""
    return max(1.0, float(np.sqrt(np.square(found.image_px - found.image_px.mean(0)).sum(1).mean())))


def _is_double(one: Found, other: Found) -> bool:
    larger, smaller = max(size_of(one), size_of(other)), min(size_of(one), size_of(other))
    apart = float(np.linalg.norm(place_of(one) - place_of(other)))
    return apart < SAME * larger and larger < SIZES * smaller


def _nearest(t_ns: int, followed: dict[int, Followed], found: Sequence[Found]) -> list[tuple[int, int]]:
    """Pairs of a number and a place in ``found``, the nearest first, each in one pair at most."""
    away = {(n, place): followed[n].distance(t_ns, found[place]) for n, place in product(followed, range(len(found)))}
    pairs: list[tuple[int, int]] = []
    for n, place in sorted((pair for pair in away if np.isfinite(away[pair])), key=lambda pair: (away[pair], pair)):
        if not any(n == a or place == b for a, b in pairs):
            pairs.append((n, place))
    return pairs
