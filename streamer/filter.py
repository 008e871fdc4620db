"""PoseFilter: frames in, refined poses out, in this process; no socket, no thread, no torch.

The whole data path is ``PoseFilter._infer``: check the frames -> layout to canonical joints -> actors' rows (ring,
encoder step, pose head + FK) -> poses, all frames of a batch at each stage. The server is this plus sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from streamer.actors import LOST_NS, Actor, Actors
from streamer.batches import batches
from streamer.clock import SECOND_NS
from streamer.errors import ConfigError, FrameError
from streamer.frames import Frame, Pose
from streamer.intake import FARTHEST_NS, Intake, Seen
from streamer.poses import Poses
from streamer.profiles import Profile, Profiles, SkeletonInUse
from streamer.runtimes import load_runtime
from streamer.runtimes.block import F32, RowIndex, Runtime, row_index
from streamer.standing import Standing, Standings
from streamer.time_shift import TimeShift

MOST_FRAMES = 1024  # in one batch: its arrays are a megabyte or two


class PoseFilter:
    """Refines the pose streams of any number of actors; each actor's answer depends on its own frames alone."""

    def __init__(
        self, runtime: Runtime, delay_s: float = 0.0, predict_s: float = 0.0, max_actors: int = 64, source: bool = True,
        landmarks: bool = False, velocities: bool = False, foot_lock: bool = False,
    ) -> None:  # fmt: skip
        low, high = runtime.contract.tau_s
        self._shift = TimeShift((low, high), delay_s, predict_s)
        if max_actors < 1:
            raise ConfigError(f"max_actors must be at least 1, not {max_actors}")
        self.runtime = runtime
        self._reach_s, self._intake = (low, high), Intake()
        self._actors = Actors(runtime, max_actors, landmarks, foot_lock)
        self._block, self._skeletons = self._actors.block, self._actors.skeletons
        layout_of = self._intake.layout if source else None
        self._poses = Poses(self._actors, layout_of, velocities, round(high * SECOND_NS))
        self._profiles, self._standings = Profiles(self._actors), Standings()
        self.rejected: Counter[str] = Counter()

    @classmethod
    def load(
        cls, path: str | Path | None = None, runtime: str = "auto", threads: int = 1, delay_s: float = 0.0,
        predict_s: float = 0.0, max_actors: int = 64, source: bool = True, landmarks: bool = False,
        velocities: bool = False, foot_lock: bool = False, **options: Any,
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
                that are good: MediaPipe's, on rendered people, made feet better and head and hands worse.
            velocities: poses have ``velocity`` and ``angular_velocity``, which takes some 0.1 ms more a frame.
            foot_lock: planted feet stand still (foot_lock.py); only the legs of poses change, ``source`` does not.
        Raises:
            ConfigError, ContractError, RuntimeUnavailable: one line each that says what to do.
        """
        where = Path(path) if path is not None else None
        if runtime in ("tensorrt", "torch_cuda"):  # what they set up is for so many rows
            options = {"lanes": max_actors} | options
        made = load_runtime(runtime, where, threads, **options)
        return cls(made, delay_s, predict_s, max_actors, source, landmarks, velocities, foot_lock)

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
        return [answer if isinstance(answer, Pose) else None for answer in self.push_each(frames)]

    def push_each(self, frames: Iterable[Frame]) -> list[Pose | FrameError]:
        """As ``push_many``, with what is wrong with a frame in place of None."""
        answers: list[Pose | FrameError] = []
        remaining = iter(frames)
        while some := list(islice(remaining, MOST_FRAMES)):
            found: dict[int, Pose | FrameError] = {}
            for places in batches(some, self._actors):
                found |= zip(places, self._infer([some[i] for i in places]))
            answers += [found[i] for i in range(len(some))]
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
        wanted_ns = self._shift.wanted(rows, seen.t_ns)
        at = self._take_in(rows, seen, wanted_ns)
        if not self._actors.sound(at):
            kept = [i for i, row in enumerate(rows) if self._mended(row, seen, i, wanted_ns[i], errors)]
            if not kept:
                return {}
            rows, seen, wanted_ns = [rows[i] for i in kept], seen.at(kept), [wanted_ns[i] for i in kept]
        poses = self._poses.of(rows, seen.frames, wanted_ns, wanted_ns, seen)
        if self._standings:
            self._stand(rows, seen)
        return dict(zip(seen.places, poses))

    def _take_in(self, rows: list[int], seen: Seen, wanted_ns: list[int]) -> RowIndex:
        at = row_index(rows)
        dt_s = self._actors.fill(rows, seen)
        self._block.tau_s[at] = [(wanted - t_ns) / SECOND_NS for wanted, t_ns in zip(wanted_ns, seen.t_ns)]
        self._block.step(at)
        self._actors.learn(at, dt_s)
        return at

    def _mended(self, row: int, seen: Seen, i: int, wanted_ns: int, errors: dict[int, FrameError]) -> bool:
        """Whether the answer for frame ``i`` is finite, if need be of an actor begun anew: nothing else gets out."""
        if self._actors.sound(slice(row, row + 1)):
            return True
        first, name = self._actors.renew(row, seen, i), seen.frames[i].actor
        self._profiles.apply(name)
        self._take_in([row], first, [wanted_ns])
        if self._actors.sound(slice(row, row + 1)):
            return True
        self.reset(name)
        errors[seen.places[i]] = FrameError("nonfinite", "positions: the pose they give is not finite")
        return False

    def _coast(self, rows: list[int], seen: Seen, errors: dict[int, FrameError]) -> dict[int, Pose]:
        """Place -> the pose of actors that went on unseen: of what was seen before, for these frames' times."""
        wanted_ns = self._shift.wanted(rows, seen.t_ns)
        poses = self._reached(rows, seen.frames, wanted_ns)
        for row, pose, t_ns, wanted in zip(rows, poses, seen.t_ns, wanted_ns):
            if pose.velocity is not None and pose.t_ns < wanted:  # it stands still there
                pose.velocity, pose.angular_velocity = np.zeros_like(pose.velocity), np.zeros_like(pose.velocity)
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
        self._profiles.apply(name)
        return row

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
        poses = self._poses.of(rows, frames, t_ns, wanted_ns)
        for pose, beyond_s in zip(poses, (after_s - high_s).tolist()):
            if beyond_s > 0:  # nobody knows where people go: doubt grows with the time beyond reach
                pose.covariance += np.float32((0.5 * beyond_s) ** 2) * np.eye(3, dtype=np.float32)
        return poses

    # -- control

    @property
    def delay_s(self) -> float:
        return self._shift.delay_s

    @property
    def predict_s(self) -> float:
        return self._shift.predict_s

    def set_time(self, delay_s: float = 0.0, predict_s: float = 0.0) -> None:
        """Answer for another time from now on, as ``load`` says it: without a jump.

        From its next frame on, each actor's poses glide there, for 0.5 s (1 s from one end of the reach to the other):
        time goes slower or faster in them, never back. Each pose says which time it is for.

        Raises:
            ConfigError: it is out of reach, or two are given; nothing has changed.
        """
        rows = [row for name in self._actors if (row := self._actors.row(name)) is not None]
        self._shift.set(delay_s, predict_s, [row for row in rows if self._actors.tracks[row].frames])

    def wanted_ns(self, t_ns: int, actor: str) -> int:
        """The time that an actor's pose is for at ``t_ns`` on its own clock: ``delay_s`` before, or on the way there.

        For an output clock, which asks ``pose_at`` for it.
        """
        row = self._actors.row(actor)
        return self._shift.wanted((-1 if row is None else row,), (t_ns,))[0]

    def reset(self, actor: str) -> None:
        """Forget everything about an actor but its name, as if it had just appeared."""
        self._actors.reset(actor)
        self._standings.forget(actor)
        self._profiles.apply(actor)
        self._forget_glide(actor)

    def calibrate(self, actor: str, seconds: float | None = None) -> None:
        """Measure the actor's bones anew, without interrupting its stream.

        Args:
            seconds: the actor stands still for so long, in a T-pose or as people stand: then its bones are measured at
                once, better than in motion, and adopted; ``standing`` says what came of it, and until then the
                skeleton stays. None: in the next 4 s of any motion.
        Raises:
            KeyError: nobody of that name is there. ConfigError: so many seconds cannot be asked for.
        """
        if seconds is None:
            self._actors.calibrate(actor)
            self._profiles.drop(actor)
            self._standings.forget(actor)
        else:
            if actor not in self._actors:
                raise KeyError(actor)
            self._standings.begin(actor, seconds)

    def standing(self, actor: str) -> Standing | None:
        """How far a calibration of ``seconds`` is, or what came of the last one; None: it was not asked for."""
        return self._standings.of(actor)

    def _stand(self, rows: list[int], seen: Seen) -> None:
        """Frames of those who stand to be calibrated; the skeleton is used from the next frame on."""
        for row, frame, t_ns in zip(rows, seen.frames, seen.t_ns):
            joints, present = self._actors.shown(row)
            offsets_m = self._standings.take(t_ns, frame.actor, joints, present, self._skeletons.offsets_m[row])
            if offsets_m is not None:
                self._profiles.drop(frame.actor)
                measured = self._standings.of(frame.actor)
                self._actors.adopt(frame.actor, offsets_m, measured.seconds if measured is not None else 0.0)

    def remove(self, actor: str) -> None:
        """Drop an actor and its state; a skeleton that was set for it is kept for a while (see ``set_skeleton``)."""
        self._forget_glide(actor)
        self._actors.remove(actor)
        self._standings.forget(actor)
        self._profiles.left(actor)

    def _forget_glide(self, actor: str) -> None:
        row = self._actors.row(actor)
        if row is not None:
            self._shift.forget(row)

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
        self._profiles.keep(actor, Profile.checked(offsets_m, version))
        if actor in self._actors:
            self._profiles.apply(actor)
