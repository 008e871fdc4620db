"""Height and pitch that a camera source is told: a person comes back in true size, upright, where they stand."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.contract import sha256
from model.landmarks import landmarks
from model.motion.synthetic import SyntheticActor
from model.prepare import listed_fps, read_clip
from model.skeleton import INDEX
from streamer.archive.task import METHOD, Settings, _key
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.commands.live_options import SourceOptions
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.sources.camera import Picture
from streamer.sources.landmarker import Found
from streamer.sources.mediapipe import MediaPipeSource
from streamer.sources.perspective import FEET, FOV_DEG, focal_px
from streamer.sources.replay import read_take
from streamer.sources.told import MEDIAPIPE_HEIGHT_M, NOTHING, Told
from streamer.wire.protocol import decode_frame
from tests.helpers.archives import seen, write_npz
from tests.helpers.program import HPSTM, Program

HZ = 30
SIZE_PX = (640, 480)
HEIGHT_M, PITCH_DEG, CAMERA_M = 1.42, 20.0, 1.9  # a child; the camera on a shelf, and how high that is
FLIP = np.array([1.0, -1.0, -1.0])  # between our axes and a level camera's


def camera_from_level(pitch_deg: float) -> Rotation:
    """Axes x right, y down, z away. A camera that looks down sees what is straight ahead above its middle."""
    return Rotation.from_euler("x", pitch_deg, degrees=True)


class Camera:
    """A pitched camera before which somebody small walks; the estimator gives them the size that it gives everybody."""

    name, skipped = "camera", 0

    def __init__(self, body_m: np.ndarray, pitch_deg: float = PITCH_DEG, height_m: float = HEIGHT_M) -> None:
        """``body_m``: (T, 33, 3) in the room, Y up, seen from ``CAMERA_M`` above its origin."""
        level = (body_m - (0.0, CAMERA_M, 0.0)) * FLIP
        self._points = camera_from_level(pitch_deg).apply(level.reshape(-1, 3)).reshape(level.shape)
        self._estimated = MEDIAPIPE_HEIGHT_M / height_m
        self._n = 0

    @property
    def ended(self) -> bool:
        return self._n == len(self._points)

    def read(self, timeout_s: float) -> Picture | None:
        self._n += 1
        t_ns = 10**12 + (self._n - 1) * SECOND_NS // HZ
        return Picture(self._n - 1, t_ns, np.zeros((*SIZE_PX[::-1], 3), np.uint8))

    def find(self, picture: Picture) -> list[Found]:
        points = self._points[picture.number]
        seen = focal_px(*SIZE_PX, FOV_DEG) * points[:, :2] / points[:, 2:] + np.array(SIZE_PX) / 2
        hips = seen[[23, 24]].mean(0) - np.array(SIZE_PX) / 2
        straight, _ = Rotation.align_vectors([[0.0, 0.0, 1.0]], [[*hips, focal_px(*SIZE_PX, FOV_DEG)]])  # looks at them
        return [Found(seen, self._estimated * straight.apply(points - points[[23, 24]].mean(0)), np.ones(33))]

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    """(90, 33, 3) somebody who walks towards the camera in the room, the lowest foot of all on the ground."""
    times_s = np.arange(90) / HZ
    actor = SyntheticActor(4)
    rotations, _ = actor.poses(times_s)
    joints = actor.positions(times_s)
    joints = joints - joints[:, :1] * (1.0, 0.0, 1.0)
    body = landmarks("mediapipe_33").at(joints, rotations)
    body = np.where(np.isfinite(body), body, joints[:, :1])
    body[..., 1] -= body[:, FEET, 1].min()
    return np.asarray(body + np.array([0.3, 0.0, -4.0]) + times_s[:, None, None] * (0.0, 0.0, 0.5))


def frames_of(source: MediaPipeSource) -> list[Frame]:
    with source:
        frames = []
        while not source.ended:
            frame = source.receive(0.1)
            frames += [] if frame is None else [frame]
    return frames


def relative(xyz: np.ndarray) -> np.ndarray:
    return np.asarray(xyz - xyz[[23, 24]].mean(0))


@settings(deadline=None, max_examples=50)
@given(st.floats(0.5, 2.8), st.floats(-90.0, 90.0))
def test_size_and_gravity_come_back(height_m: float, pitch_deg: float) -> None:
    upright = np.random.default_rng(0).normal(0.0, 0.5, (5, 33, 3)).astype(np.float32)
    seen = camera_from_level(pitch_deg).apply((upright * FLIP).reshape(-1, 3)).reshape(upright.shape)
    back = Told(height_m, pitch_deg).upright(seen * MEDIAPIPE_HEIGHT_M / height_m)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, upright, atol=2e-6)


def test_told_nothing_changes_nothing() -> None:
    world = np.random.default_rng(1).normal(0.0, 0.5, (33, 3))
    np.testing.assert_array_equal(NOTHING.upright(world), (world * FLIP).astype(np.float32))
    np.testing.assert_array_equal(Told(MEDIAPIPE_HEIGHT_M).upright(world), NOTHING.upright(world))


@pytest.mark.parametrize("root", [True, False])
def test_a_small_person_before_a_pitched_camera_comes_back(walk: np.ndarray, root: bool) -> None:
    camera = Camera(walk)
    for frame in frames_of(MediaPipeSource(camera, camera, root=root, told=Told(HEIGHT_M, PITCH_DEG))):
        np.testing.assert_allclose(relative(frame.positions), relative(walk[frame.seq]), atol=1e-4)


def test_they_walk_on_the_ground_as_far_as_they_did(walk: np.ndarray) -> None:
    camera, untold = Camera(walk), Camera(walk)
    frames = frames_of(MediaPipeSource(camera, camera, told=Told(HEIGHT_M, PITCH_DEG)))
    first, last = (frame.positions[[23, 24]].mean(0) for frame in (frames[30], frames[-1]))
    way = walk[frames[-1].seq, [23, 24]].mean(0) - walk[frames[30].seq, [23, 24]].mean(0)
    np.testing.assert_allclose(last - first, way, atol=0.02)  # depth is smoothed, the ground found
    frames = frames_of(MediaPipeSource(untold, untold, told=Told(pitch_deg=PITCH_DEG)))
    larger = (frames[-1].positions - frames[30].positions)[[23, 24], 2].mean() / way[2]
    assert larger == pytest.approx(MEDIAPIPE_HEIGHT_M / HEIGHT_M, rel=0.02)


def test_bones_are_as_long_in_the_first_frame_as_in_the_last(walk: np.ndarray) -> None:
    camera = Camera(walk)
    frames = frames_of(MediaPipeSource(camera, camera, told=Told(HEIGHT_M, PITCH_DEG)))
    shins = [float(np.linalg.norm(frame.positions[25] - frame.positions[27])) for frame in frames]
    true = np.linalg.norm(walk[0, 25] - walk[0, 27])
    assert max(abs(b - a) for a, b in pairwise(shins)) < 1e-6
    assert shins[0] == pytest.approx(true, abs=1e-5)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--height 0", "--height must be between 0.5 and 2.8 metres, not 0;"),
        ("--height 17.5", "metres, not 17.5;"),
        ("--height 175", "give a person's height as 1.75"),
        ("--height nan", "not nan"),
        ("--pitch 200", "--pitch must be between -90 and 90 degrees, not 200;"),
        ("--pitch=-91", "not -91"),
    ],
)
@pytest.mark.parametrize("command", ["source mediapipe", "live"])
def test_a_mistake_is_one_line_that_helps(
    command: str, line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = "--in tcp://127.0.0.1:0 --out tcp://127.0.0.1:0 --control tcp://127.0.0.1:0" if command == "live" else ""
    assert main([*command.split(), "--video", str(tmp_path / "x.mp4"), *line.split(), *ports.split()]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("options", [SourceOptions(vmc_in=1, height_m=1.7), SourceOptions(vmc_in=1, pitch_deg=5.0)])
def test_a_source_that_has_no_camera_takes_neither(options: SourceOptions) -> None:
    with pytest.raises(ConfigError, match="--height and --pitch are for a camera's landmarks, not for --vmc-in"):
        options.check()


# -- landmarks that somebody else's program made: lines of JSON, files -------------------------------------------------


KNOWN = ["--height", str(HEIGHT_M), "--pitch", str(PITCH_DEG)]


@pytest.fixture(scope="module")
def landmarks_m(walk: np.ndarray) -> np.ndarray:
    """(90, 33, 3) what MediaPipe says of the walk, in its own axes."""
    body = (walk - walk[:, [23, 24]].mean(1, keepdims=True)) * FLIP
    seen = camera_from_level(PITCH_DEG).apply(body.reshape(-1, 3)).reshape(body.shape)
    return np.asarray(seen * MEDIAPIPE_HEIGHT_M / HEIGHT_M, np.float32)


@pytest.fixture
def file(landmarks_m: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "walk.npz"
    np.savez(path, world_m=landmarks_m, visibility=np.ones((90, 33), np.float32), time_s=np.arange(90) / HZ)
    return path


def test_a_frame_of_landmarks_is_as_its_landmarks(landmarks_m: np.ndarray) -> None:
    known, turn = Told(HEIGHT_M, PITCH_DEG), Rotation.random(33, rng=1)
    untold = Frame("a", 3, 7, NOTHING.upright(landmarks_m[5]), np.ones(33, np.float32), "mediapipe_33")
    frame = known.frame(replace(untold, rotations=turn.as_quat().astype(np.float32)))
    np.testing.assert_allclose(frame.positions, known.upright(landmarks_m[5]), atol=1e-6)
    assert (frame.actor, frame.seq, frame.t_ns, frame.confidence) == ("a", 3, 7, untold.confidence)
    # A joint's axis, tipped with the body: turned, it is where the turned body has it.
    tipped, assured = turn.apply([0.3, 0.5, -0.2]), Rotation.from_quat(frame.rotations).apply([0.3, 0.5, -0.2])
    np.testing.assert_allclose(known.level(tipped), assured, atol=1e-6)
    assert NOTHING.frame(untold) is untold


def test_what_is_missing_stays_missing(landmarks_m: np.ndarray) -> None:
    positions = NOTHING.upright(landmarks_m[0])
    positions[4], positions[7] = np.nan, 0.0
    frame = Told(HEIGHT_M, PITCH_DEG).frame(Frame("a", 0, 0, positions, None, "mediapipe_33"))
    assert np.isnan(frame.positions[4]).all()
    np.testing.assert_array_equal(frame.positions[7], 0.0)


def test_lines_of_landmarks_reach_the_server_upright(landmarks_m: np.ndarray, walk: np.ndarray) -> None:
    lines = [
        json.dumps({"layout": "mediapipe_33", "t": n / HZ, "positions": NOTHING.upright(xyz).tolist()})
        for n, xyz in enumerate(landmarks_m)
    ]
    strange = json.dumps({"layout": "coco_17", "t": 9.0, "positions": [[0.1, 0.2, 0.3]] * 17})
    with zmq.Context() as context, context.socket(zmq.SUB) as server:
        server.subscribe(b"")
        port = server.bind_to_random_port("tcp://127.0.0.1")
        command = [*HPSTM, "source", "stdin", "--to", f"tcp://127.0.0.1:{port}", "--paced", *KNOWN]
        with Program(command) as program:
            program.feed("\n".join([strange, *lines]) + "\n")
            frames: list[Frame] = []
            while len(frames) < 30 and server.poll(10_000):
                frames.append(decode_frame(server.recv()))
            said = program.said(signal.SIGINT)
    assert len(frames) == 30
    for frame in frames:
        np.testing.assert_allclose(frame.positions, relative(walk[round(frame.t_ns / 1e9 * HZ)]), atol=1e-5)
    assert "hpstm: line 1: --height and --pitch are for the landmarks of mediapipe_33, not for coco_17" in said


def test_a_file_of_landmarks_is_replayed_upright(file: Path, walk: np.ndarray) -> None:
    take = Told(HEIGHT_M, PITCH_DEG).take(read_take(file))
    np.testing.assert_allclose([frame.positions for frame in take.frames], [relative(xyz) for xyz in walk], atol=1e-5)
    source = SourceOptions(replay=file, height_m=HEIGHT_M, pitch_deg=PITCH_DEG).open(False, print)
    frame = source.receive(1.0)
    assert frame is not None
    np.testing.assert_array_equal(frame.positions, take.frames[0].positions)


def test_a_file_of_landmarks_is_refined_in_true_size(file: Path, tmp_path: Path, walk: np.ndarray) -> None:
    for out, known in (("told", KNOWN), ("untold", [])):
        assert main(["refine", str(file), "--out", str(tmp_path / out), "--format", "npz", "--jobs", "1", *known]) == 0
    shins = {}
    for out in ("told", "untold"):
        (result,) = (tmp_path / out).glob("*.npz")
        joints = read_clip(result).positions
        shins[out] = np.linalg.norm(joints[-1, INDEX["left_knee"]] - joints[-1, INDEX["left_ankle"]])
    true = np.linalg.norm(walk[-1, 25] - walk[-1, 27])
    assert shins["told"] == pytest.approx(true, rel=0.02)
    assert shins["untold"] == pytest.approx(true * MEDIAPIPE_HEIGHT_M / HEIGHT_M, rel=0.02)


def test_a_file_of_others_is_refused_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "synthetic", *KNOWN]) == 2
    assert capsys.readouterr().err == (
        "hpstm: synthetic: --height and --pitch are for the landmarks of mediapipe_33, not for smpl_24\n"
    )
    take = write_npz(tmp_path / "take.npz", seen(60))
    assert main(["refine", str(take), "--out", str(tmp_path / "out"), "--jobs", "1", *KNOWN]) == 1
    assert "--height and --pitch are for the landmarks of mediapipe_33" in capsys.readouterr().err
    assert main(["refine", str(take), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0


def test_runs_of_refine_from_before_stay_done(file: Path) -> None:
    """The key of who told nothing is as it was without the two options."""
    untold = Settings("", None, None, None, "onnx", None, "hash")
    keys = {_key(file, untold), _key(file, replace(untold, height_m=1.8)), _key(file, replace(untold, pitch_deg=5.0))}
    assert len(keys) == 3
    asked = {key: value for key, value in asdict(untold).items() if key not in ("height_m", "pitch_deg")}
    parts = [METHOD, asked, sha256(file), listed_fps(file)]
    assert _key(file, untold) == hashlib.sha256(json.dumps(parts).encode()).hexdigest()
