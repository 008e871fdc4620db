"""``hpstm convert``, and ``hpstm record`` into a file of motion: from recordings, also broken ones, and live."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.prepare import SUFFIXES, read_clip
from model.skeleton import PARENTS, J, rest_offsets
from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.filter import PoseFilter
from streamer.frames import Frame, Pose
from streamer.sinks.files import file_of
from streamer.sinks.recording import RecordingWriter
from streamer.wire.protocol import Encoder
from tests.helpers.animations import Seen, assert_raised, by_scipy, of_bvh, of_glb, of_lines, of_npz, raised
from tests.helpers.live import streaming
from tests.helpers.networks import noisy_stream

T0 = 10**15  # of the sources' clock
READERS: dict[str, Callable[[Path, list[int]], list[Seen]]] = {
    ".bvh": of_bvh, ".glb": of_glb, ".vrma": of_glb, ".npz": of_npz, ".jsonl": of_lines,
}  # fmt: skip


def posed(n: int, local: np.ndarray, root: np.ndarray, actor: str) -> Pose:
    """A pose of 30 Hz with given turns, on the mean skeleton."""
    positions = by_scipy(local, root, rest_offsets()).at
    lengths = np.linalg.norm(rest_offsets(), axis=-1)
    covariance, t_ns = np.tile(1e-4 * np.eye(3), (J, 1, 1)), T0 + round(n * SECOND_NS / 30)
    contact = np.zeros(2)
    return Pose(actor, n, t_ns, "tracking", positions, local, root, lengths, rest_offsets(), covariance, contact)


def poses_of_raised(actor: str = "anna") -> list[Pose]:
    return [posed(n, raised().local[n], raised().root[n], actor) for n in range(31)]


def write(path: Path, *messages: Pose | Frame | bytes) -> Path:
    encoder = Encoder()
    with RecordingWriter(path) as writer:
        for n, message in enumerate(messages):
            if isinstance(message, bytes):
                writer.write(message, n)
            else:
                writer.write(encoder.pose(message) if isinstance(message, Pose) else encoder.frame(message), n)
    return path


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return write(tmp_path / "take.hpstm", *poses_of_raised())


def converted(*words: str | Path) -> int:
    return main(["convert", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line of a conversion that fails."""
    assert converted(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# -- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_raised_left_arm_in_a_recording_is_one_in_every_file(suffix: str, take: Path, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    assert converted(take, out) == 0
    assert_raised(*READERS[suffix](out, [0, 30]), tolerance_m=2e-6)


@pytest.mark.parametrize("suffix", [".bvh", ".npz"])
def test_a_recording_comes_back_through_read_clip(suffix: str, tmp_path: Path) -> None:
    """The filter's own poses of a noisy stream: within 0.5 mm and 0.1 degrees, on the skeleton it ended with."""
    pose_filter = PoseFilter.load()
    frames = [replace(f, t_ns=T0 + round(n * SECOND_NS / 60)) for n, f in enumerate(noisy_stream(3, 300))]
    poses = [pose for frame in frames if (pose := pose_filter.push(frame)) is not None]
    assert len({pose.skeleton_version for pose in poses}) > 2  # they were measured meanwhile
    out = tmp_path / f"out{suffix}"
    assert converted(write(tmp_path / "a.hpstm", *poses), out) == 0
    clip = read_clip(out)
    assert (len(clip), clip.fps) == (len(poses), pytest.approx(60.0))
    assert clip.world_rotations is not None
    for n in range(0, len(poses), 7):
        local = poses[n].rotations.astype(np.float64)
        want = by_scipy(local, poses[n].root, poses[-1].offsets_m.astype(np.float64)).at
        assert np.linalg.norm(clip.positions[n] - want, axis=-1).max() < 0.0005
        world = [Rotation.from_quat(local[0])]
        for j in range(1, J):
            world.append(world[PARENTS[j]] * Rotation.from_quat(local[j]))
        got = Rotation.from_matrix(clip.world_rotations[n])
        assert np.degrees((got.inv() * Rotation.concatenate(world)).magnitude().max()) < 0.1
    np.testing.assert_allclose(clip.positions[-1], poses[-1].positions, atol=0.0005)


def test_a_motion_file_becomes_another(take: Path, tmp_path: Path) -> None:
    """From BVH to npz and back, at another rate: the same motion."""
    assert converted(take, tmp_path / "a.bvh") == 0
    assert converted(tmp_path / "a.bvh", tmp_path / "b.npz") == 0
    assert converted(tmp_path / "b.npz", tmp_path / "c.glb", "--fps", "60") == 0
    seen = of_glb(tmp_path / "c.glb", [0, 60])
    assert_raised(*seen, tolerance_m=2e-6)


def test_json_lines_hold_what_was_sent(take: Path, tmp_path: Path) -> None:
    frame = Frame(
        "anna", 9, T0, np.array([[0.1, 0.2, np.nan], [1.0, 2.0, 3.0]], np.float32), np.array([0.0, 1.0]), "mine"
    )
    path = write(tmp_path / "b.hpstm", *poses_of_raised(), frame)
    assert converted(path, tmp_path / "b.jsonl") == 0
    poses = [json.loads(text) for text in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [pose["t_ns"] for pose in poses] == [T0 + round(n * SECOND_NS / 30) for n in range(31)]
    keys = "actor seq t_ns status root positions rotations deviation_m contact offsets_m"
    assert list(poses[0]) == keys.split()
    assert (poses[4]["actor"], poses[4]["seq"], poses[4]["status"]) == ("anna", 4, "tracking")
    np.testing.assert_allclose(poses[4]["deviation_m"], 0.01, atol=1e-6)
    assert converted(path, tmp_path / "f.jsonl", "--from", "frames") == 0
    (line,) = [json.loads(text) for text in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert line["positions"] == [[0.1, 0.2, None], [1.0, 2.0, 3.0]]
    assert (line["layout"], line["confidence"]) == ("mine", [0.0, 1.0])
    assert converted(path, tmp_path / "r.jsonl", "--fps", "90") == 0
    even = [json.loads(text) for text in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert len(even) == 91
    assert even[90]["t_ns"] == T0 + SECOND_NS
    assert list(even[0]) == ["actor", "t_ns", "root", "positions", "rotations"]


# -- several actors ---------------------------------------------------------------------------------------------------


def test_one_actor_is_chosen_or_each_gets_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["anna", "a/b", "..", "Zoë"]
    path = write(tmp_path / "r.hpstm", *(pose for name in names for pose in poses_of_raised(name)))
    said = refused(capsys, path, tmp_path / "o.bvh")
    assert "4 actors are in it: anna, a/b, .., Zoë; choose one by --actor" in said
    assert "o-{actor}.bvh" in said
    assert "of: anna, a/b, .., Zoë" in refused(capsys, path, tmp_path / "o.bvh", "--actor", "bob")
    assert converted(path, tmp_path / "o.bvh", "--actor", "a/b") == 0
    assert converted(path, tmp_path / "{actor}.jsonl") == 0
    made = {file.name for file in tmp_path.iterdir()}
    assert made == {"r.hpstm", "o.bvh", "anna.jsonl", "a%2Fb.jsonl", "...jsonl", "Zoë.jsonl"}
    assert json.loads((tmp_path / "a%2Fb.jsonl").read_text().splitlines()[0])["actor"] == "a/b"
    capsys.readouterr()
    assert "exists" in refused(capsys, path, tmp_path / "{actor}.jsonl")  # and none is written over


def test_actors_have_different_files() -> None:
    names = ["a/b", "a_b", "a%2Fb", "a\\b", "a:b", 'a"b', "a?b", "..", "."]
    files = {file_of(Path("x/take-{actor}.bvh"), name) for name in names}
    assert len(files) == len(names)
    assert {file.parent for file in files} == {Path("x")}


# -- recordings as they are -------------------------------------------------------------------------------------------


def test_what_was_decided_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = poses_of_raised()
    grown = [replace(pose, offsets_m=1.1 * pose.offsets_m, skeleton_version=1) for pose in poses[4:]]
    odd = [replace(poses[9], rotations=0.0 * poses[9].rotations), replace(poses[9], root=poses[9].root * np.nan)]
    path = write(tmp_path / "r.hpstm", *poses[:4], *grown[:5], *odd, *grown[20:], b"pose.anna\0nonsense", grown[-1])
    path.write_bytes(path.read_bytes() + b"\1\2\3")
    assert converted(path, tmp_path / "o.npz") == 0
    out = capsys.readouterr().out
    said = ("anna, 31 frames at 30 fps, 1.0 s|from 16 poses at 30.00 Hz|1 gaps, the longest 0.53 s|changed 1 times|"
            "1 messages do not decode|2 poses are not finite|cut off")  # fmt: skip
    for words in said.split("|"):
        assert words in out, words
    clip = read_clip(tmp_path / "o.npz")
    want = by_scipy(raised().local[0], raised().root[0], 1.1 * rest_offsets()).at
    np.testing.assert_allclose(clip.positions[0], want, atol=1e-5)


def test_a_clock_that_goes_back_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = poses_of_raised()
    restarted = [replace(pose, t_ns=pose.t_ns - T0) for pose in poses[16:]]
    assert converted(write(tmp_path / "r.hpstm", *poses[:16], *restarted), tmp_path / "o.bvh") == 0
    assert "the clock went back 1 times" in capsys.readouterr().out
    assert_raised(*of_bvh(tmp_path / "o.bvh", [0, 30]), tolerance_m=2e-6)


def test_a_clock_that_jumps_a_year_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = poses_of_raised()
    late = [replace(pose, t_ns=pose.t_ns + 365 * 86_400 * SECOND_NS) for pose in poses[16:]]
    path = write(tmp_path / "r.hpstm", *poses[:16], *late)
    said = refused(capsys, path, tmp_path / "o.bvh")
    assert "anna reach over 31536001 s" in said
    assert ".jsonl" in said
    assert converted(path, tmp_path / "o.jsonl") == 0


def test_a_recording_of_one_pose(tmp_path: Path) -> None:
    assert converted(write(tmp_path / "r.hpstm", poses_of_raised()[0]), tmp_path / "o.bvh") == 0
    assert len(read_clip(tmp_path / "o.bvh")) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("missing.hpstm o.bvh", "missing.hpstm: no such file"),
        ("take.hpstm o.fbx", "write .glb, and let Blender"),
        ("take.hpstm o.xyz", "unknown kind '.xyz'"),
        ("take.hpstm nowhere/o.bvh", "make it first"),
        ("take.hpstm take.bvh", "exists"),
        ("take.hpstm o.bvh --fps 0", "--fps 0"),
        ("take.hpstm o.bvh --fps nan", "--fps nan"),
        ("take.hpstm o.bvh --from frames", "write .jsonl"),
        ("take.hpstm o.jsonl --from frames", "no frames are in it, but poses are; give --from poses"),
        ("take.hpstm o.bvh --up z", "--up"),
        ("frames.hpstm o.bvh", "no poses are in it, but frames are; give --from frames"),
        ("empty.hpstm o.bvh", "no poses are in it"),
        ("nan.hpstm o.bvh", "no pose of actor anna can be used: 1 poses are not finite"),
        ("plain.npz o.bvh", "without rotations"),
        ("take.bvh o.glb", "take.bvh"),
        ("plain.npz o.jsonl --from frames", "--from frames is for recordings"),
    ],
)
def test_a_mistake_is_one_line(
    words: str,
    said: str,
    take: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pose = poses_of_raised()[0]
    write(Path("frames.hpstm"), Frame("anna", 0, 0, np.zeros((24, 3), np.float32)))
    write(Path("empty.hpstm"))
    write(Path("nan.hpstm"), replace(pose, offsets_m=pose.offsets_m * np.nan))
    np.savez("plain.npz", positions=np.tile(pose.positions, (3, 1, 1)), fps=30.0)
    Path("take.bvh").write_text("diary")
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert said in refused(capsys, *words.split())
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before


FULL = """
import resource, sys
from streamer.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit of a file's size is POSIX's")
@pytest.mark.parametrize("suffix", [".bvh", ".npz", ".jsonl"])
def test_a_full_disk_is_one_line_and_leaves_nothing(suffix: str, take: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, "convert", str(take), str(tmp_path / f"o{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["take.hpstm"]


# -- record -----------------------------------------------------------------------------------------------------------


def test_recording_into_files_of_motion(tmp_path: Path) -> None:
    """Two actors at once, each into a file; without a choice the recording is kept, and its line leads on."""
    with ServerProcess() as server, streaming(server, "anna", 60.0), streaming(server, "bob", 60.0):
        record = [sys.executable, "-m", "streamer", "record", "--out", server.out_endpoint]
        each = popen(*record, str(tmp_path / "take-{actor}.glb"), "--fps", "30")
        both = popen(*record, str(tmp_path / "o.bvh"), "--seconds", "1")
        with each, both:
            _, err = both.communicate(timeout=60)
            raw = tmp_path / "take-actors.glb.hpstm"
            wait_for(lambda: raw.exists() and raw.stat().st_size > 100_000)
            each.send_signal(signal.SIGINT)
            said, _ = each.communicate(timeout=60)
    assert each.returncode == 0
    assert "take-anna.glb: actor anna" in said
    assert "at 30 fps" in said
    assert both.returncode == 2
    line = err.strip().rpartition("; the recording is kept, for: hpstm ")[2]
    assert {path.name for path in tmp_path.iterdir()} == {"take-anna.glb", "take-bob.glb", "o.bvh.hpstm"}
    assert main([*shlex.split(line), "--actor", "bob"]) == 0
    assert len(read_clip(tmp_path / "o.bvh")) > 20
    (seen,) = of_glb(tmp_path / "take-anna.glb", [0])
    assert 0.8 < seen.at[0, 1] < 1.1


def popen(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [("there.bvh", "exists"), ("x.fbx", "Blender"), ("x.usd", "Blender"), ("x.hpstm --fps 30", "files of motion"),
     ("x.bvh --fps 0", "--fps 0"), ("nowhere/x.bvh", "make it first"), ("old.bvh", "old.bvh.hpstm exists")],
)  # fmt: skip
def test_a_recording_that_cannot_become_a_file_is_not_begun(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.bvh", "old.bvh.hpstm"):
        Path(name).write_text("diary")
    assert main(["record", *words.split(), "--seconds", "1"]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert (out, err.count("\n")) == ("", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"there.bvh", "old.bvh.hpstm"}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"diary"}
