"""MediaPipe's pose landmarker (Tasks API): people in one picture, as landmarks in the picture and in metres."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import ConfigError
from streamer.frames import Array
from streamer.sources.camera import PACKAGES, Picture, Rgb, load_opencv

LANDMARKS = 33
LEAST_ASKED = 2  # poses: MediaPipe smooths the landmarks of one, with a filter of its own


class Found(NamedTuple):
    """One person in one picture."""

    image_px: Array  # (33, 2) landmarks in the picture: right, down [px]
    world_m: Array  # (33, 3) around the middle of the hips: right, down, away for a camera that looks right there [m]
    visibility: Array  # (33,) 0..1


class Landmarker:
    """People in the pictures of one camera, in running mode VIDEO, which follows them from picture to picture.

    Args:
        model: a pose landmarker bundle (.task).
        people: how many are looked for.
    Raises:
        ConfigError: the bundle is missing or MediaPipe does not take it, or a library that MediaPipe needs is missing.
        ImportError: MediaPipe is not installed.
    """

    def __init__(self, model: str | Path, people: int = 1) -> None:
        vision, mediapipe = load_mediapipe()
        if not Path(model).is_file():
            raise ConfigError(
                f"--model {model}: no such file; `hpstm models mediapipe` makes one, as is MediaPipe's "
                "pose_landmarker_full.task"
            )
        base = mediapipe.tasks.BaseOptions(model_asset_path=str(model))
        options = vision.PoseLandmarkerOptions(
            base_options=base, running_mode=vision.RunningMode.VIDEO, num_poses=max(LEAST_ASKED, people)
        )
        try:
            with _without_its_words():
                self._landmarker = vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            said = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"--model {model}: MediaPipe cannot use it ({said}); it takes pose landmarker bundles (.task): "
                "hpstm models mediapipe"
            ) from error
        except OSError as error:  # its library is loaded only now
            raise ConfigError(f"MediaPipe does not load ({error}); {PACKAGES}") from error
        self._image: Callable[[Rgb], Any] = lambda rgb: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=rgb
        )
        self._first_ns: int | None = None
        self._last_ms = -1

    def find(self, picture: Picture) -> list[Found]:
        """Everybody who is found in a picture; the same person may be found twice, and nobody be taken for one."""
        if self._first_ns is None:
            self._first_ns = picture.t_ns
        self._last_ms = max(self._last_ms + 1, (picture.t_ns - self._first_ns) // 1_000_000)
        result = self._landmarker.detect_for_video(self._image(picture.rgb), self._last_ms)
        height, width = picture.rgb.shape[:2]
        found = []
        for image, world in zip(result.pose_landmarks, result.pose_world_landmarks):
            at = np.array([(one.x * width, one.y * height) for one in image])
            metres = np.array([(one.x, one.y, one.z) for one in world])
            visibility = np.array([one.visibility for one in world])
            if at.shape == (LANDMARKS, 2) and metres.shape == (LANDMARKS, 3) and np.isfinite(metres).all():
                found.append(Found(at, metres, np.clip(visibility, 0.0, 1.0)))
        return found

    def close(self) -> None:
        with _without_its_words():
            self._landmarker.close()


def load_mediapipe() -> tuple[Any, Any]:
    """MediaPipe's modules ``mediapipe.tasks.vision`` and ``mediapipe``.

    Raises:
        ImportError: it is not installed.
        ConfigError: it is, and does not load.
    """
    load_opencv()
    try:
        import mediapipe
        from mediapipe.tasks.python import vision
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "mediapipe":
            raise
        raise ConfigError(f"MediaPipe does not load ({error}); pip install 'mediapipe>=1.2'") from error
    return vision, mediapipe


@contextmanager
def _without_its_words() -> Iterator[None]:
    """Nothing reaches stderr meanwhile: MediaPipe writes some fifty lines about itself when it starts and ends.

    What is wrong it says by exceptions.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
