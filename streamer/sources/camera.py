"""Pictures from a camera or a video file, each with the time at which it was captured.

A camera is read in a thread of its own, so that the newest picture is used and its stamp is when it arrived. Of a video
every picture is used, with the file's own times: it gives the same at every run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError

LIBRARIES = "libGL.so.1", "libEGL.so.1", "libGLESv2.so.2"
PACKAGES = "apt-get install libgl1 libegl1 libgles2"
OPENS_WITHIN_S = 10.0
GUESSED_HZ = 30.0  # of a video that does not say


Rgb = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    """One picture, and which one: ``number`` counts those that arrived, used or not."""

    number: int
    t_ns: int  # when it was captured [ns, our clock]
    rgb: Rgb  # (height, width, 3)


class Pictures(Protocol):
    """Where pictures come from."""

    name: str
    skipped: int  # that came and were not used, because a newer one was there
    ended: bool  # nothing will come any more

    def read(self, timeout_s: float) -> Picture | None:
        """The next picture; None when none came within ``timeout_s``."""

    def close(self) -> None: ...


class Camera:
    """The newest picture of a camera: a number of this machine, or the address of one in the network.

    Args:
        which: "0" is the first camera; http:// and rtsp:// addresses are read as streams.
    Raises:
        ConfigError: there is no such camera, or it gives no picture.
        ImportError: OpenCV is not installed.
    """

    def __init__(self, which: str) -> None:
        cv2 = load_opencv()
        self.name, self.skipped, self.ended = f"camera {which}", 0, False
        self._stop = False
        self._capture = cv2.VideoCapture(int(which) if which.isdecimal() else which)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where it is not obeyed, the thread below drains what waits
        self._rgb: Callable[[Any], Rgb] = lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        self._newest: tuple[int, int, Any] | None = None  # number, time, picture
        self._new = Condition()
        self._thread = Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()
        with self._new:
            self._new.wait_for(lambda: self._newest is not None or self.ended, OPENS_WITHIN_S)
            if self._newest is None:
                self._stop = True
                raise ConfigError(
                    f"--camera {which}: no picture comes; is it plugged in, free, and may this user read it? "
                    "Cameras are numbered from 0; without one: --video FILE"
                )

    def read(self, timeout_s: float) -> Picture | None:
        with self._new:
            self._new.wait_for(lambda: self._newest is not None or self.ended, timeout_s)
            newest, self._newest = self._newest, None
        if newest is None:
            return None
        number, t_ns, bgr = newest
        return Picture(number, t_ns, self._rgb(bgr))

    def close(self) -> None:
        self._stop = True
        self._thread.join(OPENS_WITHIN_S)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        number = 0
        while not self._stop and self._capture.grab():
            t_ns = now_ns()  # as it arrives; to decode it takes some milliseconds
            there, bgr = self._capture.retrieve()
            if not there:
                continue
            with self._new:
                self.skipped += self._newest is not None
                self._newest = number, t_ns, bgr
                self._new.notify()
            number += 1
        with self._new:
            self.ended = True
            self._new.notify()
        self._capture.release()


class Video:
    """Every picture of a video file, with the file's times, counted from when the first one is read.

    Args:
        fast: as they are asked for; else each not before its time.
    Raises:
        ConfigError: the file is missing or is no video.
        ImportError: OpenCV is not installed.
    """

    skipped = 0

    def __init__(self, path: str | Path, fast: bool = False) -> None:
        cv2 = load_opencv()
        if not Path(path).is_file():
            raise ConfigError(f"--video {path}: no such file")
        self.name, self.ended = Path(path).name, False
        self._fast = fast
        self._capture = cv2.VideoCapture(str(path))
        self._rgb: Callable[[Any], Rgb] = lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        self._at: Callable[[], int] = lambda: round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        self._step_ns = round(SECOND_NS / (self._capture.get(cv2.CAP_PROP_FPS) or GUESSED_HZ))
        self._read, self._last_ns = 0, -self._step_ns
        self._start_ns: int | None = None
        self._next = self._decoded()
        if self._next is None:
            raise ConfigError(f"--video {path}: no picture in it that can be read; is it a video?")

    def read(self, timeout_s: float) -> Picture | None:
        if self._next is None:
            return None
        if self._start_ns is None:
            self._start_ns = now_ns()
        number, after_ns, rgb = self._next
        t_ns = self._start_ns + after_ns
        if not self._fast:
            wait_s = (t_ns - now_ns()) / SECOND_NS
            time.sleep(max(0.0, min(wait_s, timeout_s)))
            if wait_s > timeout_s:
                return None
        self._next = self._decoded()
        self.ended = self._next is None
        return Picture(number, t_ns, rgb)

    def close(self) -> None:
        self._next, self.ended = None, True
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _decoded(self) -> Picture | None:
        """The next picture, its time from the file's beginning; each is later than the one before."""
        there, bgr = self._capture.read()
        if not there:
            return None
        at_ns = self._at()
        self._last_ns = at_ns if at_ns > self._last_ns else self._last_ns + self._step_ns
        self._read += 1
        return Picture(self._read - 1, self._last_ns, self._rgb(bgr))


def load_opencv() -> Any:
    """The module cv2.

    Raises:
        ImportError: it is not installed.
        ConfigError: it is, and a library that it needs is not.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # pages about every way it tried; what failed is said here
    try:
        import cv2
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
            raise
        raise ConfigError(f"OpenCV does not load ({error}); {PACKAGES}") from error
    return cv2
