"""Somebody synthetic as any layout shows them, and what comes out of ``Pose.source``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.landmarks import landmarks
from model.layouts import LAYOUTS, get_layout
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.runtimes import load_runtime
from streamer.runtimes.block import Runtime
from tests.helpers.networks import BUNDLED, NOT_BUNDLED, SECOND_NS

FPS = 30
SETTLED = 4 * FPS  # frames after which clean input is clean output
MEDIAPIPE = get_layout("mediapipe_33").joints
NOSE, HEEL = MEDIAPIPE.index("nose"), MEDIAPIPE.index("left_heel")
bundled = pytest.mark.skipif(not BUNDLED, reason=NOT_BUNDLED)


@cache
def runtime() -> Runtime:
    return load_runtime("onnx")


@cache
def body(seconds: float, yaw_rad_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 24, 3) and world rotations of somebody who moves, and besides turns about the vertical."""
    times = np.arange(round(seconds * FPS)) / FPS
    actor = SyntheticActor(3)
    turn = Rotation.from_rotvec(np.outer(yaw_rad_s * times, [0.0, 1.0, 0.0])).as_matrix()[:, None]
    return actor.positions(times) @ turn[:, 0].swapaxes(1, 2), turn @ actor.poses(times)[0]


def seen(layout: str, seconds: float = 8.0, yaw_rad_s: float = 0.0, nod_rad: float = 0.0) -> np.ndarray:
    """(T, J, 3) that person as a layout shows them; ``nod_rad``: the head shakes beside."""
    positions, rotations = body(seconds, yaw_rad_s)
    angle = nod_rad * np.sin(2 * np.pi * 0.7 * np.arange(len(positions)) / FPS)
    shake = Rotation.from_rotvec(angle[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()
    rotations = rotations.copy()
    rotations[:, INDEX["head"]] = rotations[:, INDEX["head"]] @ shake
    return landmarks(layout).at(positions, rotations)


def stream(xyz: np.ndarray, layout: str, start: int = 0) -> list[Frame]:
    """Frames of points in the world, sent in the layout's own axes and unit."""
    turn = get_layout(layout).world_from_source if layout in LAYOUTS else None  # an own one: sent as it is
    xyz = xyz if turn is None else xyz @ np.linalg.inv(turn).T
    return [
        Frame("a", start + k, round((start + k) * SECOND_NS / FPS), x.astype(np.float32), layout=layout)
        for k, x in enumerate(xyz)
    ]


def pushed(xyz: np.ndarray, layout: str, **settings: float) -> np.ndarray:
    """(T, J, 3) what comes out of the poses' source."""
    filter_ = PoseFilter(runtime(), **settings)  # type: ignore[arg-type]
    return sources([filter_.push(frame) for frame in stream(xyz, layout)])


def sources(answers: Sequence[Pose]) -> np.ndarray:
    return np.stack([pose.source for pose in answers if pose.source is not None])
