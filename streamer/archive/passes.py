"""The filter over a whole take, offline: its bones first, then forwards and backwards in time at once, and both joined.

The state, the window and the head are those of the live filter: an actor that is played backwards is one more actor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.prepare import Animation, continuous_turns, sampled, turns_between
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Array, Frame, Pose
from streamer.runtimes.block import F32, Runtime

DELAY_S = 0.2  # the farthest back that the model was trained to answer for
_DELAY_NS = round(DELAY_S * SECOND_NS)
Times = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def refined(
    name: str, frames: Sequence[Frame], fps: float, count: int, runtime: Runtime, offsets_m: Array | None = None
) -> Animation:
    """One actor's take, each frame of it answered from what came before and after.

    Args:
        frames: in growing time.
        fps, count: of the animation, which begins at the first frame's time.
        offsets_m: (24, 3) the actor's bones, if they are known [m]; None: they are measured over the take.
    Raises:
        ConfigError: no frame shows enough of a body for a pose.
    """
    bones = measured_bones(frames, runtime) if offsets_m is None else np.asarray(offsets_m, np.float32)
    start_ns, end_ns = frames[0].t_ns, frames[-1].t_ns
    wanted_ns = start_ns + np.round(np.arange(count) / fps * SECOND_NS).astype(np.int64)
    forwards = _Pass("forwards", frames, wanted_ns)
    backwards = _Pass("backwards", _reversed(frames, end_ns), (end_ns - wanted_ns)[::-1])
    run([forwards, backwards], runtime, bones)
    return _joined(name, wanted_ns, fps, bones, forwards, backwards.turned_round())


def measured_bones(frames: Sequence[Frame], runtime: Runtime) -> F32:
    """(24, 3) bones as the filter measures them: over the first seconds of motion, or all there is [m].

    Raises:
        ConfigError: no frame can be used; says why of the first.
    """
    pose_filter = PoseFilter(runtime, max_actors=1, source=False)
    for frame in frames:
        pose_filter.push_many([frame])
        found = pose_filter.get_skeleton(frame.actor)
        if found is not None and found.done:
            break
    else:
        found = pose_filter.get_skeleton(frames[0].actor)
    if found is None:
        reasons = ", ".join(f"{reason} {n}" for reason, n in pose_filter.rejected.most_common()) or "no frames"
        raise ConfigError(f"no frame shows a body that can be refined (rejected: {reasons})")
    return found.offsets_m


def _reversed(frames: Sequence[Frame], end_ns: int) -> list[Frame]:
    """The frames as a source would send them whose time goes backwards from ``end_ns``."""
    return [replace(frame, seq=n, t_ns=end_ns - frame.t_ns) for n, frame in enumerate(reversed(frames))]


class _Pass:
    """One direction of a take: frames to push, times to be answered, and the answers.

    Attributes:
        local: (T, 24, 4) turns. root: (T, 3) [m]. answered: (T,) where they are.
    """

    def __init__(self, actor: str, frames: Sequence[Frame], wanted_ns: Times) -> None:
        self.actor = actor
        self.frames = [replace(frame, actor=actor) for frame in frames]
        self._wanted_ns = wanted_ns.tolist()
        self._next = 0
        self.local = np.zeros((len(wanted_ns), J, 4))
        self.local[..., 3] = 1.0
        self.root = np.zeros((len(wanted_ns), 3))
        self.answered = np.zeros(len(wanted_ns), np.bool_)

    def due_ns(self, n: int) -> int | None:
        """The next time to be answered now that frame ``n`` is in, for which the next frame would come too late."""
        if self._next == len(self._wanted_ns):
            return None
        t_ns = int(self._wanted_ns[self._next])
        last = n + 1 >= len(self.frames)
        return t_ns if last or self.frames[n + 1].t_ns - t_ns > _DELAY_NS else None

    def take(self, pose: Pose | None) -> None:
        """The answer for the time that was due: none where nobody was there, or no frame was near."""
        at, self._next = self._next, self._next + 1
        if pose is not None and pose.t_ns == self._wanted_ns[at]:
            self.local[at], self.root[at] = pose.rotations, pose.root
            self.answered[at] = True

    def turned_round(self) -> _Pass:
        """The answers in the order of a take that was played backwards."""
        self.local, self.root, self.answered = self.local[::-1], self.root[::-1], self.answered[::-1]
        return self


def run(passes: Sequence[_Pass], runtime: Runtime, bones: F32) -> None:
    """Pushes the frames of all passes, side by side, and asks for every time when 0.2 s after it are in."""
    pose_filter = PoseFilter(runtime, max_actors=len(passes), delay_s=DELAY_S, source=False)
    for each in passes:
        pose_filter.set_skeleton(each.actor, bones)
    for n in range(max(len(each.frames) for each in passes)):
        pose_filter.push_many([each.frames[n] for each in passes if n < len(each.frames)])
        while due := {each.actor: t_ns for each in passes if (t_ns := each.due_ns(n)) is not None}:
            poses = pose_filter.poses_at(due)
            for each in passes:
                if each.actor in due:
                    each.take(poses.get(each.actor))


def _joined(name: str, wanted_ns: Times, fps: float, bones: F32, a: _Pass, b: _Pass) -> Animation:
    """The middle of both directions, or the one that has an answer; where none has, the way between its neighbours."""
    known = a.answered | b.answered
    if not known.any():
        raise ConfigError("no frame shows a body that can be refined")
    fade = max(1, round(DELAY_S * fps))
    first, second = faded(a.answered, fade)[known], faded(b.answered, fade)[known]
    share = second / (first + second)
    local = turns_between(a.local[known], b.local[known], np.broadcast_to(share[:, None], (len(share), J)))
    root = a.root[known] + share[:, None] * (b.root[known] - a.root[known])
    offsets = bones.astype(np.float64)
    offsets[0] = 0.0
    whole_s = (wanted_ns - wanted_ns[0]) / SECOND_NS
    return _everywhere(Animation(name, fps, continuous_turns(local), root, offsets, int(wanted_ns[0])), whole_s, known)


def _everywhere(some: Animation, times_s: Array, known: Bools) -> Animation:
    """The animation at all of some times, from its frames at the ``known`` ones; before and after them it stands."""
    if known.all():
        return some
    at = times_s[known]
    ends = np.concatenate([times_s[:1], at, times_s[-1:]])
    local, root = (np.concatenate([x[:1], x, x[-1:]]) for x in (some.local, some.root))
    grows = np.concatenate([[at[0] > times_s[0]], np.full(len(at), True), [at[-1] < times_s[-1]]])
    return sampled(some.name, ends[grows], local[grows], root[grows], some.offsets_m, some.fps, some.start_ns)


def faded(answered: Bools, fade: int) -> Array:
    """(T,) weights of a direction: 0 where it has no answer, from there rising to 1 over ``fade`` frames both ways."""
    gone = np.flatnonzero(~answered)
    if not len(gone):
        return np.ones(len(answered))
    here = np.arange(len(answered))
    after = np.searchsorted(gone, here)
    left = np.where(after > 0, here - gone[np.maximum(after - 1, 0)], fade)
    right = np.where(after < len(gone), gone[np.minimum(after, len(gone) - 1)] - here, fade)
    return np.clip(np.minimum(left, right) / fade, 0.0, 1.0)
