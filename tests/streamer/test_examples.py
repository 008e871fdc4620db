"""What lies in examples/ runs as it is: programs at the ends of real pipes and sockets, fed with samples made here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.service.child import ServerProcess
from model.landmarks import landmarks
from model.motion.synthetic import SyntheticActor
from model.skeleton import INDEX
from streamer.frames import Frame, Pose
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.wire.protocol import Encoder
from tests.helpers.live import next_pose, poses, streaming, subscribed
from tests.helpers.program import HPSTM, Program
from tests.helpers.project import ROOT

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.timed
FRAMES, FPS = 30, 30.0
NEAR_M = 0.08  # of the true joint, while the bones are still being measured
FIRST = 3  # frames in which they are unknown


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["--evict", "30"]) as running:
        yield running


def body(layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 24, 3) of somebody, and what a source of a layout sees of it (T, J, 3), both ours [m]."""
    actor, times = SyntheticActor(4), np.arange(FRAMES) / FPS
    true = actor.positions(times)
    return true, landmarks(layout).at(true, actor.poses(times)[0])


def piped(server: ServerProcess, example: Sequence[str], actor: str, count: int) -> tuple[list[Pose], str, str]:
    """The poses of an example's lines, and what it and the source said on stderr."""
    source = [*HPSTM, "source", "stdin", "--to", server.in_endpoint, "--paced"]
    with (
        subscribed(server, actor) as subscriber,
        Program([sys.executable, *example], cwd=EXAMPLES) as first,
        Program(source, stdin=first.stdout) as second,
    ):
        first.stdout.close()
        came = [next_pose(subscriber)]
        came += poses(subscriber, least=count // 2)  # a busy machine may skip some
        came += poses(subscriber, seconds=1.0)
        assert (first.wait(30), second.wait(30)) == (0, 0)
        return came, first.stderr.read(), second.stderr.read()


def check(came: list[Pose], true: np.ndarray, joints: Sequence[str]) -> None:
    assert len(came) >= FRAMES // 2
    for pose in came[FIRST:]:
        n = round(pose.captured_ns * 1e-9 * FPS)
        for joint in joints:
            off = np.linalg.norm(pose.positions[INDEX[joint]] - true[n, INDEX[joint]])
            assert off < NEAR_M, (n, joint, off)


LIMBS = [f"{side}_{part}" for side in ("left", "right") for part in ("elbow", "wrist", "knee", "ankle")]


def test_openpose(server: ServerProcess, tmp_path: Path) -> None:
    true, seen = body("body_25")
    for n, (x, y, z) in enumerate(np.moveaxis(1000.0 * seen, -1, 1)):
        rows = np.stack([x, -y, -z, np.full(25, 0.9)], -1)
        rows[3] = rows[3] if n % 4 else 0.0  # an elbow that is not found
        someone = {"person_id": [-1], "pose_keypoints_2d": [], "pose_keypoints_3d": rows.ravel().tolist()}
        text = json.dumps({"version": 1.3, "people": [someone]})
        (tmp_path / f"take_{n:012d}_keypoints.json").write_text(text if n != 7 else text[:50])
    came, said, summary = piped(server, ["openpose_lines.py", str(tmp_path)], "person0", FRAMES - 1)
    check(came, true, LIMBS)
    assert "take_000000000007_keypoints.json: left out" in said
    assert f"{FRAMES - 1} lines, {FRAMES - 1} frames sent" in summary


def test_freemocap(server: ServerProcess, tmp_path: Path) -> None:
    true, seen = body("freemocap_33")
    x, y, z = np.moveaxis(1000.0 * seen, -1, 0)
    whole = np.concatenate([np.stack([x, -z, y], -1), np.zeros((FRAMES, 42, 3))], axis=1)  # hands behind the body
    whole[::4, 13] = np.nan  # an elbow
    np.save(tmp_path / "mediapipe_body_3d_xyz.npy", whole)
    words = ["freemocap_lines.py", str(tmp_path / "mediapipe_body_3d_xyz.npy")]
    came, _, summary = piped(server, words, "freemocap", FRAMES)
    check(came, true, LIMBS)
    assert "broken" not in summary


def lines_of(process: Program, count: int) -> list[str]:
    found = [process.stdout.readline().strip() for _ in range(count)]
    assert all(found), process.stderr.read()
    return found


def test_the_subscriber_in_python(server: ServerProcess) -> None:
    words = [sys.executable, "subscriber.py", "mover", server.out_endpoint]
    with streaming(server, "mover", 60.0), Program(words, cwd=EXAMPLES) as program:
        for line in lines_of(program, 5):
            assert re.fullmatch(r"\w+ [\d.]+ s  head [+-][\d.]+ \+[12]\.\d+ [+-][\d.]+", line)


def node(*words: str) -> list[str]:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node here")
    return [found, *words]


def test_the_subscriber_in_javascript(server: ServerProcess) -> None:
    command = node("subscriber.mjs", "mover", server.out_endpoint)
    if not (EXAMPLES / "node_modules" / "zeromq").is_dir():
        pytest.skip("zeromq is not installed: cd examples && npm install zeromq @msgpack/msgpack")
    with streaming(server, "mover", 60.0), Program(command, cwd=EXAMPLES) as program:
        for line in lines_of(program, 5):
            assert re.fullmatch(r"\w+ [\d.]+ s  head -?[\d.]+ [12]\.\d+ -?[\d.]+", line)


# -- the page ---------------------------------------------------------------------------------------------------------

# Of a browser, as much as the page uses; what it draws is counted.
BROWSER = """{
const element = () => ({ style: {}, textContent: "", getContext: () => pen });
const drawn = { strokes: 0, points: [] };
const pen = { beginPath() {}, moveTo(x, y) { drawn.points.push(x, y); }, lineTo(x, y) { drawn.points.push(x, y); },
              stroke() { drawn.strokes += 1; } };
const elements = { view: element(), said: element() };
globalThis.document = { getElementById: (id) => elements[id] };
globalThis.location = { search: "?url=" + encodeURIComponent(process.argv[2]) };
globalThis.innerWidth = 800; globalThis.innerHeight = 600;
globalThis.addEventListener = () => {};
globalThis.requestAnimationFrame = (next) => setTimeout(() => {
  const whole = drawn.strokes === 14 + 23 && elements.said.textContent.startsWith("mover");
  if (whole && drawn.points.every(Number.isFinite)) {
    console.log(JSON.stringify({ said: elements.said.textContent, points: drawn.points.slice(14 * 4) }));
    process.exit(0);
  }
  drawn.strokes = 0; drawn.points = [];
  next();
}, 16);
}"""


def test_the_page_draws_the_skeleton_that_comes(server: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed (extra: websocket)")
    html = (EXAMPLES / "browser.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    (tmp_path / "page.js").write_text(BROWSER + script)
    words = [*HPSTM, "sink", "websocket", "--port", "0", "--out", server.out_endpoint]
    with streaming(server, "mover", 60.0), Program(words) as sink:
        (ready,) = lines_of(sink, 1)
        command = node("--experimental-websocket", str(tmp_path / "page.js"), ready.partition("=")[2])
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    drawn = json.loads(done.stdout)
    assert re.match(r"mover  (calibrating|tracking)", drawn["said"])
    points = np.reshape(drawn["points"], (23, 2, 2))
    assert (points >= 0).all()
    assert (points[..., 0] <= 800).all()
    assert (points[..., 1] <= 600).all()
    head, ankle = points[INDEX["head"] - 1, 1], points[INDEX["left_ankle"] - 1, 1]
    assert head[1] + 150 < ankle[1]  # pixels grow downwards


def said_by(example: str, *words: str) -> str:
    """What an example prints that needs nobody else."""
    command = [sys.executable, str(EXAMPLES / example), *words]
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=where)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_robots_filter_is_nearer_with_poses_as_measurements_than_the_last_pose() -> None:
    said = said_by("robot_kalman.py", "--seconds", "3")
    assert re.match(r"right_hand now at ([+-]\d\.\d{3} ){3}m, within \d+ mm an axis\n", said)
    last, filtered = (float(mm) for mm in re.findall(r": ([\d.]+) mm off, 201 ticks", said))
    assert filtered < 0.8 * last


def test_a_recording_is_played_again_with_other_delays(tmp_path: Path) -> None:
    times = np.arange(120) / FPS
    seen = SyntheticActor(4).positions(times) + 0.01 * np.random.default_rng(0).standard_normal((len(times), 24, 3))
    take, out = tmp_path / "take.hpstm", tmp_path / "out.hpstm"
    with RecordingWriter(take) as writer:
        for n, positions in enumerate(seen):
            writer.write(Encoder().frame(Frame("a", n, round(1e9 * times[n]), positions)), n)
    said = said_by("time_shifted_replay.py", str(take), "--delay", "0", "0.1", "--out", str(out))
    rows = re.findall(r"delay (\d+) ms: 120 poses, acceleration ([\d.]+) m/s\^2, ([\d.]+) mm", said)
    assert [row[0] for row in rows] == ["0", "100"]
    assert float(rows[1][1]) < 0.7 * float(rows[0][1])
    assert 2.0 < float(rows[0][2]) < 50.0
    assert float(rows[1][2]) == 0.0
    poses_ = read_recording(out).poses
    assert [pose.t_ns for pose in poses_] == [round(1e9 * t) - 100_000_000 for t in times]


def test_the_page_asks_no_other_host() -> None:
    html = (EXAMPLES / "browser.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://(?!127\.0\.0\.1)", html)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", html)
    assert "import" not in html
