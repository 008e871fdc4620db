"""Where a pose's time goes, from bytes to bytes: decode, checks, features, encoder, pose head + FK, encode.

The network's own stages are measured on its own runtime by cutting the step short (cuts.py): a stage is what the
longer graph takes more than the shorter one, at the same percentile, so that the three add up to the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.drive import Pushing
from bench.report import Percentiles
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.wire.protocol import Encoder, decode_frame

CUTTABLE = ("native", "onnx")  # runtimes that run step.onnx as it lies in the folder
HOW = {
    "decode": "bytes of a frame -> Frame, by itself",
    "checks, layout, fill": "each push less the step in it: also the time features, and the copies of the pose",
    "features": "the step cut at the encoder's input, on the same runtime, its call included",
    "encoder": "the step cut at its latent, less features",
    "pose head + FK": "the whole step, less the step cut at its latent",
    "encode": "Pose -> bytes, by itself",
    "step": "features, encoder, pose head + FK: cut only on " + " and ".join(CUTTABLE) + ", with the onnx package",
}

Stages = dict[str, Any]  # name -> Percentiles, or {"mean", "p50", "p90"} [ms] of a difference


class Codec:
    """Frames decoded from the wire's bytes, and poses encoded to them, one of each a turn."""

    def __init__(self, frames: Sequence[Frame], poses: Sequence[Pose]) -> None:
        self._encoder = Encoder()
        self._messages = [self._encoder.frame(frame) for frame in frames]
        self._poses = poses
        self.decode_ns: list[int] = []
        self.encode_ns: list[int] = []

    @classmethod
    def over(cls, pose_filter: PoseFilter, frames: Sequence[Frame]) -> Codec:
        """The frames, and the filter's poses of them."""
        return cls(frames, [pose_filter.push(frame) for frame in frames])

    def advance(self, turns: int) -> None:
        """Decode and encode so many."""
        for _ in range(turns):
            turn = len(self.decode_ns)
            message, pose = self._messages[turn % len(self._messages)], self._poses[turn % len(self._poses)]
            started = perf_counter_ns()
            decode_frame(message)
            between = perf_counter_ns()
            self._encoder.pose(pose)
            self.encode_ns.append(perf_counter_ns() - between)
            self.decode_ns.append(between - started)

    def forget(self) -> None:
        """Drop what was timed so far: it was the warm-up."""
        self.decode_ns.clear()
        self.encode_ns.clear()


def stages_of(codec: Codec, whole: Pushing, cuts: tuple[Pushing, Pushing] | None) -> Stages:
    """The stages of one actor's pose on one runtime, in order; ``cuts``: the same frames on the step cut short."""
    step = Percentiles.of_ns(whole.step_ns)
    around = np.array(whole.push_ns) - np.array(whole.step_ns)
    network: Stages = {"step": step}
    if cuts is not None:
        features, encoded = (Percentiles.of_ns(cut.step_ns) for cut in cuts)
        network = {"features": features, "encoder": _more(encoded, features), "pose head + FK": _more(step, encoded)}
    return {
        "decode": Percentiles.of_ns(codec.decode_ns), "checks, layout, fill": Percentiles.of_ns(around), **network,
        "encode": Percentiles.of_ns(codec.encode_ns),
    }  # fmt: skip


def _more(longer: Percentiles, shorter: Percentiles) -> dict[str, float]:
    """What the longer graph takes more; in the tails, differences of two runs would say nothing."""
    return {name: getattr(longer, name) - getattr(shorter, name) for name in ("mean", "p50", "p90")}


def p50(stage: Any) -> float:
    """The median [ms] of a stage of either kind."""
    return float(stage.p50 if isinstance(stage, Percentiles) else stage["p50"])
