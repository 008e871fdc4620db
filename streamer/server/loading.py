"""What a server has before its first socket opens: the filter that its settings ask for, warm, and kept skeletons."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from model.skeleton import ancestor_matrix, rest_offsets
from streamer.clock import SECOND_NS
from streamer.frames import Frame
from streamer.server.config import ServerConfig
from streamer.server.kept import KeptSkeletons
from streamer.server.metrics import Metrics

if TYPE_CHECKING:
    from streamer.filter import PoseFilter


def load_filter(config: ServerConfig) -> PoseFilter:
    """The filter the settings ask for."""
    from streamer.filter import PoseFilter

    return PoseFilter.load(
        config.weights, runtime=config.runtime, threads=config.threads, delay_s=config.delay_s,
        predict_s=config.predict_s, max_actors=config.max_actors, source=config.source_joints,
        landmarks=config.landmarks, velocities=config.velocities, foot_lock=config.foot_lock,
    )  # fmt: skip


def open_kept(config: ServerConfig, metrics: Metrics) -> KeptSkeletons | None:
    """The folder of skeletons that the settings name. Raises ConfigError when nothing can be written there."""
    if config.skeletons is None:
        return None
    return KeptSkeletons(config.skeletons, partial(metrics.count, "skeletons_unsaved"))


def warm_up(pose_filter: PoseFilter, frames: int = 8) -> None:
    """Run real shapes through the filter, then keep the garbage collector off everything loaded so far."""
    positions = (ancestor_matrix() @ rest_offsets()).astype(np.float32)
    for n in range(frames):
        pose_filter.push_many([Frame("warm-up", n, n * SECOND_NS // 60, positions)])
    pose_filter.remove("warm-up")
    gc.collect()
    gc.freeze()
