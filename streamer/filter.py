"""PoseFilter: frames in, refined poses out, in this process; no socket, no thread, no torch.

The whole data path is ``PoseFilter._infer``: check the frames -> layout to canonical joints -> actors' rows (ring,
encoder step, pose head + FK) -> poses, all frames of a batch at each stage. The server is this plus sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.actors import LOST_NS, Actor, Actors
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame, Pose, Status
from streamer.intake import FARTHEST_NS, Intake, Seen
from streamer.runtimes import load_runtime
from streamer.runtimes.block import F32, RowIndex, Runtime, row_index
from streamer.source_joints import Told
from streamer.vetting import POINT_M

LONGEST_BONE_M = 1000.0
MOST_FRAMES = 1024  # in one batch: its arrays are a megabyte or two


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


class PoseFilter:
    """Refines the pose streams of any number of actors; each actor's answer depends on its own frames alone."""

    def __init__(
        self, runtime: Runtime, delay_s: float = 0.0, predict_s: float = 0.0, max_actors: int = 64, source: bool = True,
        landmarks: bool = False,
    ) -> None:  # fmt: skip
        low, high = runtime.contract.tau_s
        if not 0 <= delay_s <= -low:
            raise ConfigError(f"delay_s must lie in 0..{-low:g} s, not {delay_s:g}")
        if not 0 <= predict_s <= high:
            raise ConfigError(f"predict_s must lie in 0..{high:g} s, not {predict_s:g}")
        if delay_s and predict_s:
            raise ConfigError("give delay_s or predict_s, not both: a pose is for one time")
        if max_actors < 1:
            raise ConfigError(f"max_actors must be at least 1, not {max_actors}")
        self.runtime = runtime
        self._shift_ns = round((predict_s - delay_s) * SECOND_NS)
        self._reach_s, self._ahead_ns = (low, high), round(high * SECOND_NS)
        self._intake, self._with_source = Intake(), source
        self._actors = Actors(runtime, max_actors, landmarks)
        self._block, self._skeletons = self._actors.block, self._actors.skeletons
        self._profiles: dict[str, Profile] = {}
        self.rejected: Counter[str] = Counter()

    @classmethod
    def load(
        cls, path: str | Path | None = None, runtime: str = "auto", threads: int = 1, delay_s: float = 0.0,
        predict_s: float = 0.0, max_actors: int = 64, source: bool = True, landmarks: bool = False, **options: Any,
    ) -> PoseFilter:  # fmt: skip
        """A filter on the bundled model, or on the model folder ``path``.

        Args:
            runtime: "native" (compiled at the first start; needs a C compiler), "onnx" (ONNX Runtime), "auto" (default:
                native where it runs, else onnx), "tensorrt" (NVIDIA GPU; needs the tensorrt extra), "torch" (the
                reference; needs the train extra) or "torch_cuda" (the same on a GPU).
            threads: of one step; one is best for one actor, all cores for a crowd.
            delay_s: answer for this long ago, 0..0.2 s: smoother, because what came after is known.
            predict_s: answer for this far ahead, 0..0.15 s: hides the latency of what comes after.
            max_actors: actors beyond this are rejected.
            source: whether poses have ``source``. A layout with points that the model does not know (face, fingers)
                costs a tenth of a millisecond less a frame without.
            landmarks: turn head, hands and feet as landmarks around them say (face, fingers, heels). Only for landmarks
                that are good: MediaPipe's, on rendered people, were no better than the model's own guess.
        Raises:
            ConfigError, ContractError, RuntimeUnavailable: one line each that says what to do.
        """
        where = Path(path) if path is not None else None
        if runtime in ("tensorrt", "torch_cuda"):  # what they set up is for so many rows
            options = {"lanes": max_actors} | options
        return cls(load_runtime(runtime, where, threads, **options), delay_s, predict_s, max_actors, source, landmarks)

    @property
    def actors(self) -> Mapping[str, Actor]:
        """Who is there, and what is known of each."""
        return self._actors

    @property
    def counts(self) -> Counter[str]:
        """How often what happened that is no rejection: clock_resets, cuts, repeated, new_bodies, two_sources, ..."""
        return self._actors.warnings.counts

    def warnings(self, actor: str | None = None) -> list[str]:
        """What is to be said about an actor's stream, or everybody's: sentences that name who; none if all is well."""
        return self._actors.warnings.of(actor)

    # -- the data path

    def push(self, frame: Frame) -> Pose:
        """The refined pose for this frame's time (less delay_s, plus predict_s).

        Raises:
            FrameError: the frame is unusable; ``reason`` says why, it is counted in ``rejected`` and changes nothing.
        """
        (answer,) = self._infer([frame])
        if isinstance(answer, FrameError):
            raise answer
        return answer

    def push_many(self, frames: Iterable[Frame]) -> list[Pose | None]:
        """One pose for each frame, in order; None for a rejected one, counted in ``rejected``.

        Frames of different actors go through every stage together; an actor's own go one after the other.
        """
        answers: list[Pose | None] = []
        remaining = iter(frames)
        while some := list(islice(remaining, MOST_FRAMES)):
            start = len(answers)
            answers += [None] * len(some)
            for places in batches(some, self._actors):
                for place, answer in zip(places, self._infer([some[i] for i in places])):
                    answers[start + place] = answer if isinstance(answer, Pose) else None
        return answers

    def _infer(self, frames: Sequence[Frame]) -> list[Pose | FrameError]:
        """A pose, or what is wrong, for each of some frames of different actors: the whole data path."""
        errors: dict[int, FrameError] = {}
        seen = self._intake.read(frames, errors)  # checked, on canonical joints
        rows, seen = self._admit(seen, errors)  # of actors known and new
        rows, seen = self._actors.follow(rows, seen, errors)  # in time; tracks begin
        poses: dict[int, Pose] = {}
        held = self._actors.sift(rows, seen)  # repeated, or astray: no observation
        if held:
            poses = self._coast([rows[i] for i in held], seen.at(held), errors)
            fresh = [i for i in range(len(rows)) if i not in held]
            rows, seen = [rows[i] for i in fresh], seen.at(fresh)
        if rows:
            poses |= self._observe(rows, seen, errors)
        if errors:
            for place, error in errors.items():
                self.rejected[error.reason] += 1
                self._actors.warnings.rejected(error.reason, frames[place].actor, str(error))
        answers = errors | poses
        return [answers[i] for i in range(len(frames))]

    def _observe(self, rows: list[int], seen: Seen, errors: dict[int, FrameError]) -> dict[int, Pose]:
        """Place -> the pose on what frames show."""
        at = self._take_in(rows, seen)
        if not self._actors.sound(at):
            kept = [i for i, row in enumerate(rows) if self._mended(row, seen, i, errors)]
            if not kept:
                return {}
            rows, seen = [rows[i] for i in kept], seen.at(kept)
        wanted_ns = [t_ns + self._shift_ns for t_ns in seen.t_ns]
        return dict(zip(seen.places, self._poses(rows, seen.frames, wanted_ns, wanted_ns, seen)))

    def _take_in(self, rows: list[int], seen: Seen) -> RowIndex:
        at = row_index(rows)
        dt_s = self._actors.fill(rows, seen)
        self._block.tau_s[at] = 0.0  # what is learned of a frame is learned of its own time, whatever is asked for
        self._block.step(at)
        if self._shift_ns:
            self._block.tau_s[at] = self._shift_ns / SECOND_NS
            self._block.pose(at)
        self._actors.learn(at, dt_s)
        return at

    def _mended(self, row: int, seen: Seen, i: int, errors: dict[int, FrameError]) -> bool:
        """Whether the answer for frame ``i`` is finite, if need be of an actor begun anew: nothing else gets out."""
        if self._actors.sound(slice(row, row + 1)):
            return True
        first, name = self._actors.renew(row, seen, i), seen.frames[i].actor
        self._apply_profile(name)
        self._take_in([row], first)
        if self._actors.sound(slice(row, row + 1)):
            return True
        self.reset(name)
        errors[seen.places[i]] = FrameError("nonfinite", "positions: the pose they give is not finite")
        return False

    def _coast(self, rows: list[int], seen: Seen, errors: dict[int, FrameError]) -> dict[int, Pose]:
        """Place -> the pose of actors that went on unseen: of what was seen before, for these frames' times."""
        wanted_ns = [t_ns + self._shift_ns for t_ns in seen.t_ns]
        poses = self._reached(rows, seen.frames, wanted_ns)
        for row, pose, t_ns, wanted in zip(rows, poses, seen.t_ns, wanted_ns):
            pose.t_ns = wanted  # beyond the reach, too, where nothing is known of the time since
            pose.status = "lost" if t_ns - self._actors.tracks[row].seen_ns > LOST_NS else "coasting"
        for name in self._unsound(rows, [frame.actor for frame in seen.frames]):
            i = next(i for i, frame in enumerate(seen.frames) if frame.actor == name)
            errors[seen.places[i]] = FrameError("nonfinite", "positions: the pose they give is not finite")
        return {place: pose for place, pose in zip(seen.places, poses) if place not in errors}

    def _admit(self, seen: Seen, errors: dict[int, FrameError]) -> tuple[list[int], Seen]:
        """The rows of the frames' actors; a new actor gets one if it shows a joint and there is room."""
        rows = [self._actors.row(frame.actor) for frame in seen.frames]
        for i, row in enumerate(rows):
            if row is None:
                try:
                    rows[i] = self._new_actor(seen, i)
                except FrameError as error:
                    errors[seen.places[i]] = error
        admitted = [row for row in rows if row is not None]
        if len(admitted) < len(rows):
            seen = seen.at([i for i, row in enumerate(rows) if row is not None])
        return admitted, seen

    def _new_actor(self, seen: Seen, i: int) -> int:
        if not seen.joints[i, 3].any():
            raise FrameError("empty", "positions: the actor's first frame has no usable joint")
        name = seen.frames[i].actor
        row = self._actors.open(name)
        self._apply_profile(name)
        return row

    def _poses(
        self, rows: list[int], frames: Sequence[Frame], t_ns: list[int], wanted_ns: list[int], seen: Seen | None = None
    ) -> list[Pose]:
        """What the block has just answered, as poses for ``t_ns``, where ``wanted_ns`` was asked for.

        ``frames``: the newest of each actor; ``seen`` where it has just taken them in. A pose's arrays are its own:
        whoever keeps it keeps nothing of others.
        """
        block, actors, skeletons, at = self._block, self._actors, self._skeletons, row_index(rows)
        positions = block.positions[at] + actors.origin[at, None]
        rotations, shown = actors.turned(rows, t_ns, wanted_ns)
        block.previous[at] = rotations
        arrays = (
            positions, rotations, positions[:, 0], skeletons.lengths_m[at], skeletons.offsets_m[at],
            block.covariance[at], block.contact[at],
        )  # fmt: skip
        known = skeletons.done[at].tolist(), skeletons.version[at].tolist()
        sources: Sequence[tuple[str, F32 | None]] = [(frame.layout, None) for frame in frames]
        if self._with_source:
            told = Told(t_ns, block.frame[at], block.source[at], arrays[1], actors.origin[at])
            sources = actors.points.answer(rows, told, seen, self._intake.layout)
        poses, inferred_ns = [], now_ns()
        for row, frame, t, wanted, (layout, source), done, version, *own in zip(
            rows, frames, t_ns, wanted_ns, sources, *known, *arrays
        ):
            a = [array.astype(np.float32) for array in own]
            track = actors.tracks[row]
            status = self._status(wanted, track.last_ns, track.seen_ns, done)
            poses.append(
                Pose(
                    frame.actor, frame.seq, t, status, a[0], a[1], a[2], a[3], a[4], a[5], a[6],
                    track.last_ns, frame.received_ns, inferred_ns,
                    skeleton_version=version, layout=layout, source=source, sigma_rad=shown.get(row),
                )
            )  # fmt: skip
        return poses

    def _status(self, t_ns: int, last_ns: int, seen_ns: int, done: bool) -> Status:
        if max(t_ns, last_ns) - seen_ns > LOST_NS:
            return "lost"
        if seen_ns != last_ns or t_ns - last_ns > self._ahead_ns:
            return "coasting"
        return "tracking" if done else "calibrating"

    # -- other times

    def pose_at(self, t_ns: int, actor: str) -> Pose:
        """The pose of an actor for a time on its own clock, within 0.2 s before and 0.15 s after its newest frame.

        Outside that reach the pose is for the reach's end (see its ``t_ns``); ahead of it the covariance grows.

        Raises:
            KeyError: nobody of that name was seen, or not since its reset.
        """
        return self.poses_at({actor: t_ns})[actor]

    def poses_at(self, times_ns: Mapping[str, int]) -> dict[str, Pose]:
        """As ``pose_at``, for several actors together: name -> pose, of those that have been seen since their reset."""
        actors = self._actors
        known = {name: row for name in times_ns if (row := actors.row(name)) is not None and actors.tracks[row].frames}
        if not known:
            return {}
        wanted_ns = [min(max(int(times_ns[name]), -FARTHEST_NS), FARTHEST_NS) for name in known]
        rows = list(known.values())
        newest = [frame for row in rows if (frame := actors.tracks[row].newest) is not None]  # of all of them
        poses = dict(zip(known, self._reached(rows, newest, wanted_ns)))
        for name in self._unsound(rows, list(known)):
            del poses[name]
        return poses

    def _unsound(self, rows: list[int], names: list[str]) -> list[str]:
        """Whose last answer is not finite: they begin anew."""
        if self._actors.sound(row_index(rows)):
            return []
        found = [name for name, row in zip(names, rows) if not self._actors.sound(slice(row, row + 1))]
        for name in found:
            self._actors.warnings.count("nonfinite_poses", name, "its pose was not finite: begun anew, with new bones")
            self.reset(name)
        return found

    def _reached(self, rows: list[int], frames: Sequence[Frame], wanted_ns: list[int]) -> list[Pose]:
        """The rows' poses for times, or for the end of the reach that is nearest."""
        at, (low_s, high_s) = row_index(rows), self._reach_s
        last_ns = np.array([self._actors.tracks[row].last_ns for row in rows], np.int64)
        after_s = (np.array(wanted_ns, np.int64) - last_ns) / SECOND_NS
        tau_s = np.fmin(np.fmax(after_s, low_s), high_s)
        self._block.tau_s[at] = tau_s
        self._block.pose(at)
        t_ns = (last_ns + np.rint(tau_s * SECOND_NS).astype(np.int64)).tolist()
        poses = self._poses(rows, frames, t_ns, wanted_ns)
        for pose, beyond_s in zip(poses, (after_s - high_s).tolist()):
            if beyond_s > 0:  # nobody knows where people go: doubt grows with the time beyond reach
                pose.covariance += np.float32((0.5 * beyond_s) ** 2) * np.eye(3, dtype=np.float32)
        return poses

    # -- control

    def reset(self, actor: str) -> None:
        """Forget everything about an actor but its name, as if it had just appeared."""
        self._actors.reset(actor)
        self._apply_profile(actor)

    def calibrate(self, actor: str) -> None:
        """Measure the actor's bones anew, without interrupting its stream."""
        self._profiles.pop(actor, None)
        self._actors.calibrate(actor)

    def remove(self, actor: str) -> None:
        """Drop an actor and its state; a skeleton that was set for it is kept for a while (see ``set_skeleton``)."""
        self._actors.remove(actor)
        if actor in self._profiles:
            self._keep_profile(actor, self._profiles[actor])

    def get_skeleton(self, actor: str) -> SkeletonInUse | None:
        """The actor's bones, to be kept and set again; None if it is not there, or was never seen."""
        row, bones = self._actors.row(actor), self._skeletons
        if row is None:
            return None
        offsets, version = bones.offsets_m[row].copy(), int(bones.version[row])
        return SkeletonInUse(offsets, version, bones.measured_s(row), bool(bones.done[row]))

    def set_skeleton(self, actor: str, offsets_m: F32, version: int | None = None) -> None:
        """Use a known skeleton for an actor: (24, 3) rest-pose vector from the parent to each joint [m].

        Of actors that are not there, the skeletons of ``max_actors`` are kept: of those set or gone last.

        Args:
            version: what ``get_skeleton`` said of one that was measured. It is measured anew where another body comes,
                and the version goes on from there, never the same for other bones. Without, nothing but ``calibrate``
                changes the skeleton.
        """
        offsets = np.array(offsets_m, np.float32)
        if offsets.shape != (24, 3) or not np.isfinite(offsets).all() or np.abs(offsets).max() > LONGEST_BONE_M:
            raise ConfigError(f"offsets_m must be 24 x 3 finite metres, not shape {offsets.shape} of other numbers")
        if np.abs(offsets).sum() < POINT_M:
            raise ConfigError("offsets_m are all zero: a skeleton has bones")
        if version is not None and not 0 < version < 2**62:
            raise ConfigError(f"version must be that of a skeleton that was saved, not {version}")
        self._keep_profile(actor, Profile(offsets, version))
        if actor in self._actors:
            self._apply_profile(actor)

    def _apply_profile(self, actor: str) -> None:
        if actor in self._profiles:
            self._actors.give(actor, *self._profiles[actor])

    def _keep_profile(self, actor: str, profile: Profile) -> None:
        self._profiles.pop(actor, None)
        self._profiles[actor] = profile  # in order of age
        absent = [name for name in self._profiles if name not in self._actors]
        for name in absent[: -self._actors.capacity]:
            del self._profiles[name]


def batches(frames: Sequence[Frame], known: Actors) -> Iterator[list[int]]:
    """Places of frames that may go together, in an order that tells each actor's story as it was.

    An actor's n-th frame goes with the others' n-th. But whether an actor that is not ``known`` may come in depends on
    who came before: the second frame of one waits until all before it are done.
    """
    waiting: list[list[int]] = []
    turns: dict[str, int] = {}
    for place, frame in enumerate(frames):
        turn = turns.get(frame.actor, 0)
        if turn and frame.actor not in known:
            yield from waiting
            waiting, turns, turn = [], {}, 0
        if turn == len(waiting):
            waiting.append([])
        waiting[turn].append(place)
        turns[frame.actor] = turn + 1
    yield from waiting
