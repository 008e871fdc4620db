"""Pictures to frames: what is sent of whom, when, and where; a stand-in plays MediaPipe's part."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.layouts import get_layout
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.commands import doctor
from streamer.commands.mediapipe import source
from streamer.frames import Frame
from streamer.sources.camera import Picture
from streamer.sources.landmarker import Found
from streamer.sources.mediapipe import MediaPipeSource, open_mediapipe
from streamer.sources.people import PROVED
from streamer.sources.perspective import FOV_DEG, HIPS, camera_from_ray, focal_px

HZ = 30
WIDTH, HEIGHT = 640, 480
NAMES = get_layout("mediapipe_33").joints
BODY = np.random.default_rng(0).normal(0.0, (0.2, 0.5, 0.1), (33, 3))
BODY[[NAMES.index(f"{side}_{foot}") for side in ("left", "right") for foot in ("ankle", "heel", "foot_index")], 1] = 0.9
Place = tuple[float, float, float]


def before(camera: Place, body: np.ndarray = BODY) -> Found:
    """Somebody at a place in the camera's axes: right, down, away [m]."""
    points = body + camera
    image = focal_px(WIDTH, HEIGHT, FOV_DEG) * points[:, :2] / points[:, 2:] + (WIDTH / 2, HEIGHT / 2)
    camera_from_hips = camera_from_ray(image[list(HIPS)].mean(0), (WIDTH, HEIGHT), FOV_DEG)
    return Found(image, body @ camera_from_hips, np.linspace(0.5, 1.0, 33))


class Scene:
    """Pictures and what is found in them; closed or not."""

    name, skipped = "scene", 3

    def __init__(self, scenes: Sequence[Sequence[Place]], start_ns: int = 10**12) -> None:
        self._scenes, self._start_ns, self._n = scenes, start_ns, 0
        self.closed = 0

    @property
    def ended(self) -> bool:
        return self._n == len(self._scenes)

    def read(self, timeout_s: float) -> Picture | None:
        self._n += 1
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        return Picture(self._n - 1, self._start_ns + (self._n - 1) * SECOND_NS // HZ, rgb)

    def find(self, picture: Picture) -> list[Found]:
        return [before(place) for place in self._scenes[picture.number]]

    def close(self) -> None:
        self.closed += 1


def frames_of(source: MediaPipeSource) -> list[Frame]:
    frames = []
    while not source.ended:
        frame = source.receive(0.1)
        if frame is not None:
            frames.append(frame)
    return frames


def test_what_a_frame_holds() -> None:
    scene = Scene([[(0.0, 0.0, 4.0)]] * 40)
    with MediaPipeSource(scene, scene, actor="me") as source:
        frames = frames_of(source)
    assert scene.closed == 2
    assert [frame.seq for frame in frames] == list(range(PROVED - 1, 40))
    assert [frame.t_ns for frame in frames] == [10**12 + n * SECOND_NS // HZ for n in range(PROVED - 1, 40)]
    frame = frames[-1]
    assert (frame.actor, frame.layout, frame.positions.dtype) == ("me", "mediapipe_33", np.float32)
    np.testing.assert_allclose(frame.confidence, np.linspace(0.5, 1.0, 33), rtol=1e-6)  # type: ignore[arg-type]
    wanted = BODY * (1, -1, -1) + (0.0, 0.9, 0.0)
    np.testing.assert_allclose(frame.positions, wanted, atol=1e-5)
    assert source.status().startswith("scene: 40 pictures, nobody in 0; me 38 frames; estimator ")
    assert "3 pictures skipped" in source.status()


def test_people_walk_in_one_room_whose_origin_is_where_the_first_one_stood() -> None:
    first = [(-0.5, 0.0, 4.0)] * 60
    second = [(0.7, 0.0, 5.0 - 0.01 * n) for n in range(60)]
    scene = Scene(list(zip(second, first)))
    with MediaPipeSource(scene, scene, people=2) as source:
        last = {frame.actor: frame.positions.mean(0) - (BODY * (1, -1, -1)).mean(0) for frame in frames_of(source)}
    one, other = last["person-1"], last["person-2"]
    np.testing.assert_allclose(one, (0.0, 0.9, 0.0), atol=1e-3)  # nearer, so larger
    np.testing.assert_allclose(other, (1.2, 0.9, -0.5), atol=0.1)  # depth lags a little
    assert source.kinds() == (frozenset({"person-1", "person-2"}), True, False, False)


def test_without_a_root_people_stand_where_they_are() -> None:
    scene = Scene([[(0.01 * n, 0.0, 4.0 + 0.01 * n)] for n in range(30)])
    with MediaPipeSource(scene, scene, root=False) as source:
        for frame in frames_of(source):
            np.testing.assert_allclose(frame.positions, BODY * (1, -1, -1) + (0.0, 0.9, 0.0), atol=1e-5)


def test_what_is_not_sent_is_counted() -> None:
    scene = Scene([[]] * 5 + [[(0.0, 0.0, 4.0), (2.0, 0.0, 5.0)]] * 20)
    with MediaPipeSource(scene, scene) as source:
        frames = frames_of(source)
    assert {frame.actor for frame in frames} == {"person"}
    assert (source.pictures, source.empty, source.frames["person"]) == (25, 5, 20 - PROVED + 1)
    assert "times somebody beyond --people was seen" in source.status()


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "either --camera or --video"),
        ("--camera 0 --video x.mp4", "either --camera or --video"),
        ("--video x.mp4 --people 0", "--people must be between 1 and 8"),
        ("--video x.mp4 --fov 180", "--fov must be between"),
        ("--video x.mp4 --actor two\u00a0words\n", "--actor"),
    ],
)
def test_a_mistake_is_one_line_that_helps(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["source", "mediapipe", *line.split(" ")] if line else ["source", "mediapipe"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err


def test_where_mediapipe_is_missing_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["source", "mediapipe", "--video", "x.mp4"]) == 2
    assert "pip install 'hpstm-live[mediapipe]'" in capsys.readouterr().err


def test_the_default_field_of_view_is_the_same_everywhere() -> None:
    assert inspect.signature(source).parameters["fov_deg"].default == FOV_DEG
    assert inspect.signature(open_mediapipe).parameters["fov_deg"].default == FOV_DEG


def test_doctor_loads_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_loads", lambda name: name != "libEGL.so.1")
    monkeypatch.setattr("sys.platform", "linux")
    ((mark, what, said),) = doctor._mediapipe()
    assert (mark, what) == (doctor.ABSENT, "MediaPipe")
    assert "libEGL.so.1: apt-get install" in said
    assert "libGL.so.1" not in said


def test_a_library_that_does_not_load_is_not_there() -> None:
    assert doctor._loads("libc.so.6")
    assert not doctor._loads("libnothing-at-all.so.1")


# -- hpstm models mediapipe -------------------------------------------------------------------------------------------


def test_another_package_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    assert main(["models", "mediapipe", "--package", str(other), "--out", str(tmp_path)]) == 2
    assert "SHA-512" in capsys.readouterr().err
    assert main(["models", "mediapipe", "--package", str(tmp_path / "none.tgz")]) == 2
    assert "none.tgz" in capsys.readouterr().err
    assert main(["models", "mediapipe", "--out", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_without_npm_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["models", "mediapipe", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "Node.js" in err
    assert "--package" in err
