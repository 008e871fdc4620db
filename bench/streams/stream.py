"""What a source sends, beside what is true: frames in the order and at the times they are sent, and how to spoil them.

``seen`` makes a good stream of a person; every method gives a changed copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.streams.people import Person
from bench.track import Floats, Times
from model.layouts import get_layout
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame

Bools = npt.NDArray[np.bool_]
Where = slice | Bools | Sequence[int] | int

RATE_HZ = 30.0
WARM_S = 6.0  # of good frames before a fault: the bones are measured after 4
START_NS = 1_000 * SECOND_NS  # of the source's clock
ACTOR = "a"


def _nothing(_: PoseFilter) -> None:
    pass


@dataclass(frozen=True)
class Stream:
    """N frames as they are sent.

    Args:
        at_s: (N,) when each was captured and sent, on nobody's broken clock.
        truth: (N, 24, 3) where the joints of the frame's actor are then [m]; NaN: nobody is there.
        shown: (N, 24) the joints that the frame shows, be it with noise: over these errors are taken.
        tell: what is told to the filter before the first frame.
        twin: the same without the fault, or told otherwise: ours are compared with the poses for it.
        noise: whose settings the One-Euro filter has.
    """

    frames: list[Frame]
    at_s: Floats
    truth: Floats
    shown: Bools
    tell: Callable[[PoseFilter], object] = _nothing
    twin: Stream | None = None
    noise: str = "clean"

    def __len__(self) -> int:
        return len(self.frames)

    def between(self, start_s: float, end_s: float = np.inf) -> Bools:
        """(N,) the frames sent in that time, its end left out."""
        return np.asarray((self.at_s >= start_s - 1e-9) & (self.at_s < end_s - 1e-9))

    def index(self, at_s: float) -> int:
        """The first frame sent then or later."""
        return int(np.searchsorted(self.at_s, at_s - 1e-9))

    def at(self, where: Where) -> Stream:
        """These frames alone, or in another order."""
        chosen = np.arange(len(self))[where]
        return replace(self, frames=[self.frames[i] for i in np.atleast_1d(chosen)], at_s=self.at_s[chosen],
                       truth=self.truth[chosen], shown=self.shown[chosen])  # fmt: skip

    def without(self, where: Bools) -> Stream:
        """What comes when those frames are never sent."""
        return self.at(~where)

    def showing(self, where: Where, positions: Any, shown: bool = False) -> Stream:
        """With other positions in some frames: (J, 3), (n, J, 3), or a function of those that were there."""
        chosen = np.atleast_1d(np.arange(len(self))[where])
        now = np.stack([self.frames[i].positions for i in chosen])
        new = np.broadcast_to(positions(now) if callable(positions) else positions, now.shape).astype(np.float32)
        frames, seen = list(self.frames), self.shown.copy()
        for i, xyz in zip(chosen.tolist(), new):
            frames[i] = replace(frames[i], positions=xyz)
        if not shown:
            seen[chosen] = False
        return replace(self, frames=frames, shown=seen)

    def stamped(self, t_ns: Times) -> Stream:
        """With other stamps (N,)."""
        return replace(self, frames=[replace(f, t_ns=int(t)) for f, t in zip(self.frames, t_ns)])

    def told(self, **changes: Any) -> Stream:
        """With other fields in every frame: actor, layout."""
        return replace(self, frames=[replace(frame, **changes) for frame in self.frames])

    def stamps(self) -> Times:
        """(N,) t_ns of the frames."""
        return np.array([frame.t_ns for frame in self.frames], np.int64)

    def with_(self, other: Stream) -> Stream:
        """Both, in the order of their times."""
        order = np.argsort(np.concatenate([self.at_s, other.at_s]), kind="stable")
        both = replace(
            self, frames=[*self.frames, *other.frames], at_s=np.concatenate([self.at_s, other.at_s]),
            truth=np.concatenate([self.truth, other.truth]), shown=np.concatenate([self.shown, other.shown]),
        )  # fmt: skip
        return both.at(order.tolist())


def even(start_s: float, end_s: float, rate_hz: float = RATE_HZ) -> Floats:
    """Times of frames at an even rate, the end left out."""
    return np.asarray(np.arange(round(start_s * rate_hz), round(end_s * rate_hz)) / rate_hz)


def seen(person: Person, at_s: Floats, noise_mm: float = 0.0, layout: str = "smpl_24", seed: int = 0) -> Stream:
    """A good stream of somebody at those times, with white noise per coordinate."""
    truth = person.positions(at_s)
    noise = np.random.default_rng(seed).normal(0.0, noise_mm / 1e3, truth.shape) if noise_mm else 0.0
    positions, shown = in_layout(layout, truth + noise)
    frames = [
        Frame(ACTOR, seq, START_NS + round(float(t) * SECOND_NS), xyz.astype(np.float32), layout=layout)
        for seq, (t, xyz) in enumerate(zip(at_s, positions))
    ]
    kind = "white10" if noise_mm else "clean"
    return Stream(frames, np.asarray(at_s, np.float64), truth, np.tile(shown, (len(at_s), 1)), noise=kind)


def in_layout(name: str, canonical: Floats) -> tuple[Floats, Bools]:
    """(N, J, 3) what a source of a built-in layout sends of joints (N, 24, 3); (24,) which of them it measures."""
    layout = get_layout(name)
    positions = np.full((len(canonical), len(layout.joints), 3), np.nan)
    for joint in np.flatnonzero(layout.measured):
        positions[:, np.flatnonzero(layout.weights[joint])[0]] = canonical[:, joint]
    return positions, layout.measured.copy()


def nobody(at_s: Floats) -> Floats:
    """(N, 24, 3) of NaN: the truth of frames that show no one."""
    return np.full((len(at_s), J, 3), np.nan)
