"""PoseFilter: frames in, refined poses out, in this process; no socket, no thread, no torch.

The whole data path: check the frame -> layout to canonical joints -> actor (ring, encoder step) -> pose head + FK.
The server is this plus sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.layouts import Layout, LayoutError, get_layout
from streamer.actor import BODY_M, FARTHEST_M, Actor, Taken
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError, FrameError
from streamer.frames import Array, Frame, Pose
from streamer.runtimes import F32, Runtime, load_runtime, step_many


class PoseFilter:
    """Refines the pose streams of any number of actors; each actor's answer depends on its own frames alone."""

    def __init__(self, runtime: Runtime, delay_s: float = 0.0, predict_s: float = 0.0, max_actors: int = 64) -> None:
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
        self._max_actors = max_actors
        self._actors: dict[str, Actor] = {}
        self._profiles: dict[str, F32] = {}
        self._layouts: dict[str, Layout] = {}
        self.rejected: Counter[str] = Counter()

    @classmethod
    def load(
        cls, path: str | Path | None = None, runtime: str = "onnx", threads: int = 1, delay_s: float = 0.0,
        predict_s: float = 0.0, max_actors: int = 64, **options: Any,
    ) -> PoseFilter:  # fmt: skip
        """A filter on the bundled model, or on the model folder ``path``.

        Args:
            runtime: "onnx" (CPU, default), "native" (compiled here; needs a C compiler), "auto" (native where it runs,
                else onnx), "tensorrt" (NVIDIA GPU; needs the tensorrt extra), "torch" (the reference; needs the train
                extra) or "torch_cuda" (the same on a GPU).
            threads: threads of one step; one is best for one actor.
            delay_s: answer for this long ago, 0..0.2 s: smoother, because what came after is known.
            predict_s: answer for this far ahead, 0..0.15 s: hides the latency of what comes after.
            max_actors: actors beyond this are rejected.
        Raises:
            ConfigError, ContractError, RuntimeUnavailable: one line each that says what to do.
        """
        where = Path(path) if path is not None else None
        if runtime in ("tensorrt", "torch_cuda"):  # where actors are rows of one block of memory
            options = {"lanes": max_actors} | options
        return cls(load_runtime(runtime, where, threads, **options), delay_s, predict_s, max_actors)

    @property
    def actors(self) -> Mapping[str, Actor]:
        return self._actors

    def push(self, frame: Frame) -> Pose:
        """The refined pose for this frame's time (less delay_s, plus predict_s).

        Raises:
            FrameError: the frame is unusable; ``reason`` says why, it is counted in ``rejected`` and changes nothing.
        """
        try:
            taken = self._take(frame)
        except FrameError as error:
            self.rejected[error.reason] += 1
            raise
        return self._infer([taken])[0]

    def push_many(self, frames: Iterable[Frame]) -> list[Pose | None]:
        """One pose for each frame, in order; None for a rejected one, counted in ``rejected``.

        Frames of different actors that follow each other go through the network together, where the runtime can.
        """
        answers: list[Pose | None] = []
        together: dict[str, tuple[int, Taken]] = {}  # actor -> place of its answer, frame

        def infer() -> None:
            poses = self._infer([taken for _, taken in together.values()])
            for (place, _), pose in zip(together.values(), poses, strict=True):
                answers[place] = pose
            together.clear()

        for frame in frames:
            if frame.actor in together:
                infer()
            answers.append(None)
            try:
                together[frame.actor] = (len(answers) - 1, self._take(frame))
            except FrameError as error:
                self.rejected[error.reason] += 1
        infer()
        return answers

    def _infer(self, frames: Sequence[Taken]) -> list[Pose]:
        """Poses of frames that their actors, all different, have taken."""
        if not frames:
            return []
        poses = []
        for taken, answer in zip(frames, step_many(self.runtime, [taken.ask for taken in frames]), strict=True):
            pose = taken.actor.told(taken, answer)
            pose.inferred_ns = now_ns()
            poses.append(pose)
        return poses

    def pose_at(self, t_ns: int, actor: str) -> Pose:
        """The pose of an actor for a time on its own clock, within 0.2 s before and 0.15 s after its newest frame.

        Outside that reach the pose is for the reach's end (see its ``t_ns``); ahead of it the covariance grows.

        Raises:
            KeyError: nobody of that name was seen, or not since its reset.
        """
        pose = self._actors[actor].pose_at(t_ns)
        pose.inferred_ns = now_ns()
        return pose

    def reset(self, actor: str) -> None:
        """Forget everything about an actor but its name, as if it had just appeared."""
        self._actors[actor].reset()
        self._apply_profile(actor)

    def calibrate(self, actor: str) -> None:
        """Measure the actor's bones anew, without interrupting its stream."""
        self._profiles.pop(actor, None)
        self._actors[actor].calibrator.restart()

    def remove(self, actor: str) -> None:
        """Drop an actor and its state."""
        self._actors.pop(actor, None)

    def set_skeleton(self, actor: str, offsets_m: F32) -> None:
        """Use a known skeleton for an actor: (24, 3) rest-pose vector from the parent to each joint [m]."""
        offsets = np.asarray(offsets_m, np.float32)
        if offsets.shape != (24, 3) or not np.isfinite(offsets).all():
            raise ConfigError(f"offsets_m must be 24 x 3 finite metres, not shape {offsets.shape}")
        self._profiles[actor] = offsets
        if actor in self._actors:
            self._apply_profile(actor)

    def _apply_profile(self, actor: str) -> None:
        if actor in self._profiles:
            self._actors[actor].calibrator.give(self._profiles[actor])

    def _take(self, frame: Frame) -> Taken:
        layout = self._layout(frame.layout)
        positions, confidence = _checked(frame, layout)
        if type(frame.t_ns) is not int:  # numpy's integers overflow, and the wire does not know them
            frame = replace(frame, t_ns=int(frame.t_ns))
        xyz, measured, derived, trust = layout.to_canonical(positions, confidence)
        visible = measured | derived
        seen = xyz[visible]
        if len(seen) and (seen.max(0) - seen.min(0)).max() > BODY_M:
            _mask_absurd(xyz, visible)
            measured, derived = measured & visible, derived & visible
        actor = self._actors.get(frame.actor)
        if actor is None:
            actor = self._new_actor(frame, visible)
        xyz = np.where(visible[:, None], xyz, 0.0).astype(np.float32)
        given, made = measured.astype(np.float32), derived.astype(np.float32)
        return actor.take(frame, xyz, trust, given, made, self._shift_ns)

    def _new_actor(self, frame: Frame, visible: np.ndarray[Any, Any]) -> Actor:
        if not visible.any():
            raise FrameError("empty", "positions: the actor's first frame has no usable joint")
        if len(self._actors) >= self._max_actors:
            raise FrameError("too_many_actors", f"actor {frame.actor!r}: {self._max_actors} actors are there already")
        actor = self._actors[frame.actor] = Actor(self.runtime)
        self._apply_profile(frame.actor)
        return actor

    def _layout(self, name: str) -> Layout:
        layout = self._layouts.get(name)
        if layout is None:
            try:
                layout = get_layout(name)
            except (LayoutError, OSError) as error:
                raise FrameError("layout", f"layout: {error}") from error
            self._layouts[name] = layout
        return layout


def _checked(frame: Frame, layout: Layout) -> tuple[Array, Array | None]:
    """Positions and confidence of a frame that has the layout's shape and lies on this planet."""
    if isinstance(frame.t_ns, bool) or not isinstance(frame.t_ns, (int, np.integer)):
        raise FrameError("time", f"t_ns must be integer nanoseconds, not {type(frame.t_ns).__name__}")
    positions = _numbers(frame.positions, np.float64, "joint_count", "positions")
    if positions.shape != (len(layout.joints), 3):
        raise FrameError("joint_count", f"positions: {layout.name} has {len(layout.joints)} x 3, not {positions.shape}")
    if np.fmax.reduce(np.abs(positions), axis=None) > FARTHEST_M:  # infinity included, NaN passed over
        raise FrameError("absurd", f"positions: a coordinate lies beyond {FARTHEST_M:g} m; positions are in metres")
    if frame.confidence is None:
        return positions, None
    confidence = _numbers(frame.confidence, np.float32, "confidence", "confidence")
    if confidence.shape != (len(layout.joints),):
        raise FrameError("confidence", f"confidence: {len(layout.joints)} numbers, one a joint, not {confidence.shape}")
    return positions, np.clip(np.nan_to_num(confidence, nan=0.0), 0.0, 1.0)


def _numbers(value: Any, dtype: Any, reason: str, field: str) -> Array:
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise FrameError(reason, f"{field}: not an array of numbers ({error})") from error


def _mask_absurd(xyz: np.ndarray[Any, Any], visible: np.ndarray[Any, Any]) -> None:
    """Hide joints that lie metres off the body, in place; a frame that is mostly so is rejected."""
    away = np.linalg.norm(xyz - np.median(xyz[visible], 0), axis=-1)
    far = visible & (away > BODY_M)
    if 2 * far.sum() > visible.sum():
        raise FrameError("absurd", "positions: most joints lie metres apart; positions are in metres, not mm or cm")
    visible &= ~far
