"""Frames of layout ``mediapipe_33`` from a camera or a video, by MediaPipe: whose they are, when, and where they stand.

Pictures: camera.py; people in one: landmarker.py; who is who: people.py; where in the room: perspective.py; what is
known of their size and of the camera's pitch: told.py.
"""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.frames import Array, Frame
from streamer.server.metrics import Histogram
from streamer.sources.camera import Camera, Picture, Pictures, Video
from streamer.sources.landmarker import Found, Landmarker
from streamer.sources.people import People
from streamer.sources.perspective import FOV_DEG, HIPS, Place, camera_from_ray, standing, translation
from streamer.sources.told import NOTHING, Told

LAYOUT = "mediapipe_33"
MOST_PEOPLE = 8  # MediaPipe's time grows with each
SETTLES_NS = SECOND_NS // 2  # what is found at first is the least sure: until then the first person stays at the origin
LATEST = 100  # pictures, of which times are told


class Finder(Protocol):
    """What finds people in pictures: a Landmarker."""

    def find(self, picture: Picture) -> list[Found]: ...

    def close(self) -> None: ...


class Times(NamedTuple):
    """Of one picture [ns, our clock]."""

    captured_ns: int
    taken_ns: int  # by the estimator
    found_ns: int  # it was done


class MediaPipeSource:
    """Frames of the people before a camera, as VmcReceiver gives those of a performer. Not thread-safe.

    ``receive`` runs the estimator, in its caller's thread: it takes as long as that, beyond its time-out. Positions are
    Y up, z towards the camera, in metres. Where the first person first stood is x = z = 0, the ground y = 0; without
    ``root`` the middle of the hips stays above that place, and the lowest foot on the ground.

    Attributes:
        frames: how many were made, of each actor.
        pictures, empty: how many were looked at, and in how many nobody was found.
        skipped: how many were not looked at, since a newer one was there.
        ended: the video is over, or the camera gone.
        times: of the last pictures, the newest last.
        latency: of every picture, until the estimator took it (camera), and until it was done (estimator).
    Args:
        pictures: a Camera or a Video; closed with the source.
        finder: a Landmarker; closed with the source.
        people: the most who are followed; the others are counted, and wait until one of these is gone for 2 s.
        actor: name of the one, or, with a number from 1 ("me-1"), of each.
        fov_deg: the camera's field of view across the longer side of the picture.
        root: whether people move in the room.
        told: what is known of people's height and the camera's pitch.
    """

    descriptor: int | None = None

    def __init__(
        self, pictures: Pictures, finder: Finder, people: int = 1, actor: str = "person", fov_deg: float = FOV_DEG,
        root: bool = True, told: Told = NOTHING,
    ) -> None:  # fmt: skip
        self.frames: Counter[str] = Counter()
        self.pictures = self.empty = 0
        self.times: deque[Times] = deque(maxlen=LATEST)
        self.name, self.latency = pictures.name, {"camera": Histogram(), "estimator": Histogram()}
        self._from, self._finder, self._people = pictures, finder, People(people)
        self._names = [actor] if people == 1 else [f"{actor}-{n + 1}" for n in range(people)]
        self._fov_deg, self._root, self._told = fov_deg, root, told
        self._places: dict[int, Place] = {}
        self._first: tuple[int, int] | None = None  # the first person's number, since when
        self._origin = np.zeros(3)
        self._ready: deque[Frame] = deque()

    @property
    def skipped(self) -> int:
        return self._from.skipped

    @property
    def ended(self) -> bool:
        return self._from.ended and not self._ready

    def receive(self, timeout_s: float) -> Frame | None:
        """The next frame; None when no picture came within ``timeout_s``, or nobody is in it."""
        if not self._ready:
            picture = self._from.read(timeout_s)
            if picture is not None:
                self._look(picture)
        return self._ready.popleft() if self._ready else None

    def rehearse(self) -> None:
        """Nothing: it has no descriptor."""

    def lost(self) -> dict[str, int]:
        """Pictures in which nobody was looked for."""
        return {"pictures": self.skipped}

    def kinds(self) -> tuple[object, ...]:
        """What ``status`` names, without the numbers."""
        return (frozenset(self.frames), self.skipped > 0, self._people.doubles > 0, self._people.others > 0)

    def status(self) -> str:
        """What was seen, and what of it is not sent, in one line."""
        took = [t.found_ns - t.taken_ns for t in self.times]
        after = [t.found_ns - t.captured_ns for t in self.times]
        parts = [f"{self._from.name}: {self.pictures} pictures, nobody in {self.empty}"]
        parts += [", ".join(f"{actor} {n} frames" for actor, n in sorted(self.frames.items()))] * bool(self.frames)
        if took:
            parts.append(
                f"estimator {np.median(took) / 1e6:.0f} ms, done {np.median(after) / 1e6:.0f} ms after capture"
            )
        for n, what in (
            (self.skipped, "pictures skipped for newer ones"),
            (self._people.doubles, "times somebody was found twice"),
            (self._people.others, "times somebody beyond --people was seen"),
        ):
            parts += [f"{n} {what}"] * (n > 0)
        return "; ".join(parts)

    def close(self) -> None:
        self._from.close()
        self._finder.close()

    def __enter__(self) -> MediaPipeSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _look(self, picture: Picture) -> None:
        taken_ns = now_ns()
        found = self._finder.find(picture)
        times = Times(picture.t_ns, taken_ns, now_ns())
        self.times.append(times)
        self.latency["camera"].observe(times.taken_ns - times.captured_ns)
        self.latency["estimator"].observe(times.found_ns - times.taken_ns)
        self.pictures += 1
        self.empty += not found
        numbered = self._people.number(picture.t_ns, found)
        self._places = {n: self._places.get(n, Place(self._told)) for n in self._people.followed}
        for n, one in numbered.items():
            one = self._in_camera_axes(one, picture)
            positions = self._placed(n, one, picture) if self._root else standing(self._told.upright(one.world_m))
            confidence = one.visibility.astype(np.float32)
            actor = self._names[n]
            self._ready.append(
                Frame(actor, picture.number, picture.t_ns, positions.astype(np.float32), confidence, LAYOUT)
            )
            self.frames[actor] += 1

    def _in_camera_axes(self, one: Found, picture: Picture) -> Found:
        """MediaPipe looks at a square around the hips, and gives landmarks as if the camera looked straight there."""
        turn = camera_from_ray(one.image_px[HIPS, :].mean(0), _size_px(picture), self._fov_deg)
        return one._replace(world_m=one.world_m @ turn.T)

    def _placed(self, n: int, one: Found, picture: Picture) -> Array:
        size_px = _size_px(picture)
        at = translation(self._told.scaled(one.world_m), one.image_px, one.visibility, size_px, self._fov_deg)
        place = self._places[n]
        placed = place.put(picture.t_ns, self._told.upright(one.world_m), at)
        if self._first is None:
            self._first = n, picture.t_ns
        if n == self._first[0] and picture.t_ns - self._first[1] < SETTLES_NS:
            self._origin = place.at_m
        return placed - self._origin


def _size_px(picture: Picture) -> tuple[int, int]:
    """Width and height."""
    height, width = picture.rgb.shape[:2]
    return width, height


def open_mediapipe(
    camera: str | None, video: Path | None, model: str | Path, people: int = 1, actor: str = "person",
    fov_deg: float = FOV_DEG, root: bool = True, fast: bool = False, told: Told = NOTHING,
) -> MediaPipeSource:  # fmt: skip
    """A source of a camera or a video, one of the two; what they are: Camera, Video, Landmarker, MediaPipeSource.

    Raises:
        ConfigError: a value is wrong, or camera, video or model cannot be used.
        ImportError: MediaPipe is not installed.
    """
    if (camera is None) == (video is None):
        raise ConfigError("give either --camera or --video")
    if not 1 <= people <= MOST_PEOPLE:
        raise ConfigError(f"--people must be between 1 and {MOST_PEOPLE}, not {people}")
    if not 1.0 <= fov_deg <= 170.0:
        raise ConfigError(f"--fov must be between 1 and 170 degrees, not {fov_deg:g}")
    finder = Landmarker(model, people)
    try:
        pictures: Pictures = Camera(camera) if video is None else Video(video, fast)  # type: ignore[arg-type]
    except ConfigError:
        finder.close()
        raise
    return MediaPipeSource(pictures, finder, people, actor, fov_deg, root, told)
