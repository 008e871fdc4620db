"""What a camera cannot see and a person can tell: how tall people are, and how far the camera looks down.

MediaPipe's world landmarks are those of a person of one size, whoever is seen: on 53 rendered people of 1.4 to 1.9 m
their legs and trunks differ by 2 %, without regard to the true ones. So a told height gives the scale at once, and
measuring the landmarks' bones would only make it tremble: the factor is the same from the first frame to the last, and
bones stay as long as they were. The told pitch turns joints from the camera's axes (perspective.py) to gravity's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamer.errors import ConfigError, FrameError
from streamer.frames import Array, Frame
from streamer.sources.replay import Take, canonical_axes

# How tall the person is of whom MediaPipe's world landmarks are: of least error on the training subjects of rendered/.
MEDIAPIPE_HEIGHT_M = 1.67
LAYOUT = "mediapipe_33"
SHORTEST_M, TALLEST_M = 0.5, 2.8
STEEPEST_DEG = 90.0


@dataclass(frozen=True)
class Told:
    """What is known of a camera and of the people before it. Camera axes: x right, y down, z away [m].

    Args:
        height_m: how tall everybody is, standing, without shoes; None: not known, the landmarks' size stays.
        pitch_deg: how far the camera looks down, 0 when level, negative when it looks up.
    Raises:
        ConfigError: nobody is so tall, or no camera can look so far down.
    """

    height_m: float | None = None
    pitch_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.height_m is not None and not SHORTEST_M <= self.height_m <= TALLEST_M:
            raise ConfigError(
                f"--height must be between {SHORTEST_M:g} and {TALLEST_M:g} metres, not {self.height_m:g}; "
                "give a person's height as 1.75"
            )
        if not -STEEPEST_DEG <= self.pitch_deg <= STEEPEST_DEG:
            raise ConfigError(
                f"--pitch must be between {-STEEPEST_DEG:g} and {STEEPEST_DEG:g} degrees, not {self.pitch_deg:g}; "
                "0 is a level camera, 10 one that looks down a little"
            )

    @property
    def scale(self) -> float:
        """True size over the landmarks' size."""
        return 1.0 if self.height_m is None else self.height_m / MEDIAPIPE_HEIGHT_M

    def scaled(self, world_m: Array) -> Array:
        """World landmarks (..., 3) in true size, in the camera's axes still."""
        return world_m * self.scale

    def level(self, points_m: Array) -> Array:
        """Points (..., 3) in the axes of a level camera in the same place: y straight down, z away on the level.

        The same of axes with y up and z towards the camera.

        Source: a turn about x by the pitch. Oracle: tests/streamer/test_told.py, by scipy.
        """
        x, y, z = np.moveaxis(points_m, -1, 0)
        sine, cosine = np.sin(np.radians(self.pitch_deg)), np.cos(np.radians(self.pitch_deg))
        return np.stack([x, cosine * y + sine * z, cosine * z - sine * y], axis=-1)

    def upright(self, world_m: Array) -> Array:
        """World landmarks (..., 33, 3) in true size and our axes: Y up against gravity, z towards the camera."""
        return canonical_axes(self.level(self.scaled(world_m)))

    def frame(self, frame: Frame) -> Frame:
        """A frame of MediaPipe's world landmarks in our axes, in true size and against gravity.

        Raises:
            FrameError: it is of another layout: how large those are is not known, nor which way their camera looks.
        """
        if self == NOTHING:
            return frame
        if frame.layout != LAYOUT:
            raise FrameError(
                "layout", f"--height and --pitch are for the landmarks of {LAYOUT}, not for {frame.layout}"
            )
        positions = self.level(self.scaled(np.asarray(frame.positions, np.float64))).astype(np.float32)
        return replace(frame, positions=positions, rotations=self._turned(frame.rotations))

    def take(self, take: Take) -> Take:
        """``frame`` by frame. Raises ConfigError: it is of another layout."""
        try:
            return replace(take, frames=[self.frame(frame) for frame in take.frames])
        except FrameError as error:
            raise ConfigError(f"{take.name}: {error}") from error

    def _turned(self, rotations: Array | None) -> Array | None:
        """Quaternions (J, 4) xyzw turned as ``level`` turns points."""
        if rotations is None:
            return None
        half = np.radians(self.pitch_deg) / 2
        x, y, z, w = np.moveaxis(np.asarray(rotations, np.float64), -1, 0)
        sine, cosine = -np.sin(half), np.cos(half)
        turned = (cosine * x + sine * w, cosine * y - sine * z, cosine * z + sine * y, cosine * w - sine * x)
        return np.stack(turned, axis=-1).astype(np.float32)


NOTHING = Told()
