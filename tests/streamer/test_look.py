"""``hpstm look``: what it says of each kind of file, and what it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.skeleton import INDEX, J, rest_offsets
from streamer.cli import main
from streamer.commands.look import drawing, look
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.sinks.recording import RecordingWriter
from streamer.sources.replay import read_take
from streamer.sources.synthetic import synthetic_take
from streamer.wire.protocol import Encoder
from tests.helpers.fuzz_files import mutated
from tests.helpers.rig_files import Z_UP, Rig, bvh, person


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    path = tmp_path / "walk.bvh"
    path.write_text(bvh((person().but(Neck=None), Rig(world=Z_UP, axes={"": np.eye(3)}))))
    return path


def test_a_motion_file(walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", str(walk)]) == 0
    out = capsys.readouterr().out
    said = "walk.bvh: BVH, 40 frames at 60 fps, 0.7 s|1.7|m tall|travel|pelvis 0.9|21 in the file|has no neck|z axis"
    for words in said.split("|"):
        assert words in out, words
    rows = [line.split() for line in out.splitlines()]
    assert ["LeftForeArm", "left_elbow"] in rows
    assert ["Spine2", "spine3,", "neck"] in rows
    assert "⡇" in out


def test_options_reach_the_reader(walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", str(walk), "--fps", "25", "--unit-m", "0.011", "--up", "z", "--root", "Hips"]) == 0
    out = capsys.readouterr().out
    assert "at 25 fps" in out
    assert "1.8" in out
    assert "z axis" not in out
    assert main(["look", str(walk), "--root", "Nobody"]) == 2
    assert "Nobody" in capsys.readouterr().err


def test_replay_takes_the_same_options(walk: Path) -> None:
    usual, told = read_take(walk), read_take(walk, fps=25.0, unit_m=0.011, up="z")
    assert (round(usual.fps), round(told.fps)) == (60, 25)
    body = slice(0, INDEX["left_hand"])  # the file has no hands
    np.testing.assert_allclose(told.frames[5].positions[body], 1.1 * usual.frames[5].positions[body], atol=1e-4)


def test_a_picture(walk: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert look(walk, png=tmp_path / "a" / "walk.png") == 0
    assert (tmp_path / "a" / "walk.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match="cannot be written"):
        look(walk, png=walk / "a.png")


def test_a_picture_without_matplotlib(walk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"hpstm-live\[bench\]"):
        look(walk, png=tmp_path / "walk.png")


def test_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take, pose_filter, encoder = synthetic_take(1.0), PoseFilter.load(), Encoder()
    path = tmp_path / "a.hpstm"
    with RecordingWriter(path) as writer:
        for n, frame in enumerate(take.frames):
            for message in (encoder.frame(frame), encoder.pose(pose_filter.push(frame))):
                writer.write(message, n)
        writer.write(b"frame.x\0nonsense", 0)
    assert look(path) == 0
    out = capsys.readouterr().out
    name, count = take.frames[0].actor, len(take.frames)
    assert f"a recording of {count} frames, {count} poses" in out
    assert "1 messages cannot be decoded" in out
    assert f"actor {name}: 1.0 s at {take.fps:.1f} Hz, smpl_24; poses: " in out
    assert "travel" in out
    frames_only = tmp_path / "b.hpstm"
    with RecordingWriter(frames_only) as writer:
        odd = Frame("b", 0, 0, np.zeros((5, 3), np.float32), layout="mine")
        for frame in (*take.frames, odd):
            writer.write(encoder.frame(frame), 0)
    assert look(frames_only) == 0
    out = capsys.readouterr().out
    assert "actor b: 0.0 s at no rate, mine" in out
    with RecordingWriter(tmp_path / "c.hpstm"):
        pass
    assert look(tmp_path / "c.hpstm") == 0


def test_landmarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.npz"
    world = np.random.default_rng(0).normal(size=(10, 33, 3)).astype(np.float32)
    world[0] = np.nan
    np.savez(path, world_m=world, visibility=np.ones((10, 33), np.float32), time_s=np.arange(10) / 30.0)
    assert look(path) == 0
    out = capsys.readouterr().out
    assert "MediaPipe landmarks, 10 frames at 30.0 fps" in out
    assert "90% of the frames" in out


@pytest.mark.parametrize("broken", ["missing", "time", "far", "shape", "text", "zip"])
def test_broken_landmarks_are_named(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "m.npz"
    data = {"world_m": np.zeros((4, 33, 3)), "visibility": np.ones((4, 33)), "time_s": np.arange(4.0)}
    if broken == "missing":
        del data["visibility"]
    elif broken == "time":
        data["time_s"][2] = np.inf
    elif broken == "far":
        data["world_m"][1, 2] = 1e300
    elif broken == "shape":
        data["time_s"] = np.zeros(())
    elif broken == "text":
        data["time_s"] = np.array(["a", "b", "c", "d"])
    np.savez(path, **data)  # type: ignore[arg-type]
    if broken == "zip":
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ConfigError, match=r"m\.npz"):
        look(path)


def test_mutated_landmarks_and_recordings_are_looked_at_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, encoder = np.random.default_rng(11), Encoder()
    landmarks, recording = tmp_path / "m.npz", tmp_path / "r.hpstm"
    world = rng.normal(size=(4, 33, 3)).astype(np.float32)
    np.savez(landmarks, world_m=world, visibility=np.ones((4, 33), np.float32), time_s=np.arange(4) / 30.0)
    with RecordingWriter(recording) as writer:
        for frame in synthetic_take(0.2).frames:
            writer.write(encoder.frame(frame), 0)
    seen, errors = 0, []
    for path in (landmarks, recording):
        raw = path.read_bytes()
        for n in range(150):
            broken = tmp_path / f"{n}{path.suffix}"
            broken.write_bytes(mutated(rng, raw, text=False))
            try:
                seen += look(broken) == 0
            except ConfigError as error:
                errors.append(str(error))
            capsys.readouterr()
    assert seen > 30
    assert len(errors) > 30
    assert all(str(tmp_path) in error for error in errors)


def test_drawing_leaves_out_what_is_missing() -> None:
    from model.kinematics import forward_kinematics

    pose = forward_kinematics(np.broadcast_to(np.eye(3), (J, 3, 3)), rest_offsets(), np.zeros(3))
    whole = drawing(pose)
    lines = whole.splitlines()
    assert len(lines) <= 20
    assert max(len(line) for line in lines) <= 68
    assert len(lines) >= 15
    part = pose.copy()
    part[20:] = np.nan
    assert 0 < sum(c != " " for c in drawing(part)) < sum(c != " " for c in whole)
    assert drawing(np.full((J, 3), np.nan)) == "(nothing is seen)"
