"""Where a person stands before a camera: from landmarks in metres and in the picture, and the camera's field of view.

Camera axes: x right, y down, z away. The camera is taken to be without distortion, its axis in the middle of the
picture, and level unless its pitch is told. How far away somebody is follows from how large they look, so it is as
wrong as the field of view, and as MediaPipe's idea of the person's size unless their height is told: approximate.
"""

from __future__ import annotations

import numpy as np

from streamer.clock import SECOND_NS
from streamer.frames import Array
from streamer.sources.told import NOTHING, Told

FOV_DEG = 60.0  # across the longer side of the picture: webcams have 55 to 70, telephones 60 to 70
LEAST_WEIGHT = 3.0  # of all landmarks together; below, nothing is said
NEAREST_M, FARTHEST_M = 0.2, 50.0
HIPS = (23, 24)
FEET = (27, 28, 29, 30, 31, 32)  # ankles, heels, toes
STEADY_S = 0.25  # of the depth
SINKS_S, RISES_S = 0.1, 4.0  # of the ground


def focal_px(width: int, height: int, fov_deg: float) -> float:
    """The focal length [px] of a camera that sees ``fov_deg`` across the longer side of its picture."""
    return float(max(width, height) / 2 / np.tan(np.radians(fov_deg) / 2))


def camera_from_ray(at_px: Array, size_px: tuple[int, int], fov_deg: float) -> Array:
    """(3, 3) from the axes of a camera that would look straight at a point of the picture, ``at_px`` (2,), to those of
    this one: the smallest turn, which leaves the picture's up where it is.

    An estimator that looks at a part of the picture around a person does not know where in the picture that is: it
    sees them as such a camera would.

    Source: Rodrigues. Oracle: tests/streamer/test_perspective.py, by scipy; MediaPipe itself: test_mediapipe_real.py.
    """
    right, down = (at_px - np.array(size_px) / 2) / focal_px(*size_px, fov_deg)
    x, y, z = np.array([right, down, 1.0]) / np.sqrt(right**2 + down**2 + 1.0)
    cross = np.array([[0.0, 0.0, x], [0.0, 0.0, y], [-x, -y, 0.0]])  # by the axis (-y, x, 0), times the angle's sine
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z))


def translation(
    world_m: Array, image_px: Array, weight: Array, size_px: tuple[int, int], fov_deg: float
) -> Array | None:
    """Where the origin of ``world_m`` is in the camera's axes (3,) [m], by weighted least squares.

    A point X at T sees u = f (X + T)_x / (X + T)_z, so f T_x - u T_z = u X_z - f X_x, linear in T; the same for y.

    Args:
        world_m: (N, 3) points around their own origin, in the camera's axes [m].
        image_px: (N, 2) where they are in the picture, from its upper left corner [px].
        weight: (N,) how much each counts, 0 or more.
        size_px: width and height of the picture.
        fov_deg: across its longer side.
    Returns:
        None when too little is seen, or it would be nowhere: behind the camera, or farther than it can see people.
    Source: pinhole camera. Oracle: tests/streamer/test_perspective.py projects points.
    """
    if weight.sum() < LEAST_WEIGHT:
        return None
    focal = focal_px(*size_px, fov_deg)
    seen = image_px - np.array(size_px) / 2  # (N, 2)
    left, right, root = np.zeros((len(seen), 2, 3)), seen * world_m[:, 2:] - focal * world_m[:, :2], np.sqrt(weight)
    left[:, 0, 0] = left[:, 1, 1] = focal
    left[:, :, 2] = -seen
    left, right = left * root[:, None, None], right * root[:, None]
    at, *_ = np.linalg.lstsq(left.reshape(-1, 3), right.reshape(-1), rcond=None)
    return at if NEAREST_M < at[2] < FARTHEST_M else None


class Place:
    """Where one person is in the room, over time: on the ground, which is y = 0. Y up, z towards the camera [m].

    Depth, the least sure of the three, is that of the last ``STEADY_S`` or so. The ground is where the lowest foot was
    of late: it sinks with it soon, and rises after it slowly, so that a jump is one.

    Attributes:
        at_m: (3,) where they are on the ground, from the camera.
    Args:
        told: what is known of the camera.
    """

    def __init__(self, told: Told = NOTHING) -> None:
        self._told = told
        self._t_ns: int | None = None
        self._depth_m, self._ground_m = 0.0, np.nan
        self.at_m = np.zeros(3)
        self._ray: Array = np.zeros(2)  # right, down, for each metre away
        self._known = False

    def put(self, t_ns: int, body_m: Array, at: Array | None) -> Array:
        """``body_m`` (N, 3), turned upright, in the room.

        Args:
            at: where its origin is in the camera's axes, as ``translation`` says; None: not known, as before.
        """
        gone_s = 0.0 if self._t_ns is None else (t_ns - self._t_ns) / SECOND_NS
        self._t_ns = t_ns
        if at is not None:
            depth = float(at[2])
            self._depth_m += (_share(gone_s, STEADY_S) if self._known else 1.0) * (depth - self._depth_m)
            self._ray = at[:2] / depth
            self._known = True
        right, down, away = self._told.level(np.array([*self._ray, 1.0]) * self._depth_m)
        self.at_m = np.array([right, 0.0, -away])
        placed = body_m + self.at_m - np.array([0.0, down, 0.0])
        lowest = float(placed[FEET, 1].min())
        if np.isnan(self._ground_m):
            self._ground_m = lowest
        above_m = lowest - self._ground_m
        self._ground_m += _share(gone_s, RISES_S if above_m > 0 else SINKS_S) * above_m
        return np.asarray(placed - np.array([0.0, self._ground_m, 0.0]))


def standing(body_m: Array) -> Array:
    """``body_m`` (N, 3), turned upright, with its lowest foot on the ground, y = 0."""
    return np.asarray(body_m - np.array([0.0, float(body_m[FEET, 1].min()), 0.0]))


def _share(gone_s: float, constant_s: float) -> float:
    """Of what is new, in a running mean with that time constant."""
    return float(1.0 - np.exp(-gone_s / constant_s))
