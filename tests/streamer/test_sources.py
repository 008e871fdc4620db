"""Sources and recordings: files become the frames they hold, in our axes and times; a recording replays as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.service.child import ServerProcess
from model.prepare import read_clip
from streamer.cli import main
from streamer.clock import SECOND_NS, ClockMap, Ticker
from streamer.commands.replay import accel_mm, bone_std_mm, jitter_m_s3
from streamer.errors import ConfigError, RecordingError
from streamer.sinks.recording import MAGIC, RecordingWriter, read_recording, record
from streamer.sources.replay import read_take
from streamer.sources.synthetic import synthetic_take
from streamer.wire.protocol import Encoder
from tests.helpers.live import body_frame, status, streaming


def write_recording(path: Path, frames: int = 5) -> bytes:
    encoder = Encoder()
    with RecordingWriter(path) as writer:
        for n in range(frames):
            writer.write(encoder.frame(body_frame("a", n, 10**15 + n * SECOND_NS // 50)), 1000 + n)
    return path.read_bytes()


def write_until_it_fails(writer: RecordingWriter) -> None:
    encoder = Encoder()
    for n in range(10_000):
        writer.write(encoder.frame(body_frame("a", n)), n)


# -- files ------------------------------------------------------------------------------------------------------------


def test_mediapipe_is_turned_upright(tmp_path: Path) -> None:
    world_m = np.zeros((4, 33, 3), np.float32)
    world_m[..., :] = (0.1, -0.6, 0.2)  # to the image's right, above the hips (y is down), away from the camera
    np.savez(tmp_path / "x.npz", world_m=world_m, visibility=np.full((4, 33), 0.9), time_s=5.0 + np.arange(4) / 25)
    take = read_take(tmp_path / "x.npz", actor="anna")
    assert [frame.t_ns for frame in take.frames] == [0, 40_000_000, 80_000_000, 120_000_000]
    assert take.fps == pytest.approx(25.0)
    frame = take.frames[2]
    assert (frame.actor, frame.seq, frame.layout) == ("anna", 2, "mediapipe_33")
    np.testing.assert_allclose(frame.positions, np.broadcast_to((0.1, 0.6, -0.2), (33, 3)), atol=1e-7)
    np.testing.assert_allclose(frame.confidence, 0.9)


def test_real_mediapipe_recording_stands_upright(shared_data: Path) -> None:
    take = read_take(shared_data / "mediapipe" / "walk_sagittal_30hz.npz")
    positions = np.stack([frame.positions for frame in take.frames])
    assert np.nanmedian(positions[:, 0, 1]) > 0.4  # the nose, above the hips
    assert np.nanmedian(positions[:, 27:29, 1]) < -0.4  # the ankles, below
    assert take.fps == pytest.approx(30.0)


def test_motion_clip_becomes_frames_at_its_true_rate(shared_data: Path) -> None:
    path = sorted((shared_data / "cmu").glob("*/*.amc.gz"))[0]
    take, clip = read_take(path), read_clip(path)
    assert len(take.frames) == len(clip.positions)
    np.testing.assert_array_equal(take.frames[7].positions, clip.positions[7].astype(np.float32))
    assert take.frames[-1].t_ns == round((len(take.frames) - 1) * SECOND_NS / clip.fps)
    assert take.first(1.0).frames[-1].t_ns < SECOND_NS


@pytest.mark.parametrize("name", ["none.npz", "x.txt", "empty.npz"])
def test_what_cannot_be_read_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.txt").write_text("hello")
    np.savez(tmp_path / "empty.npz", world_m=np.zeros((3, 33, 3)))
    with pytest.raises(ConfigError):
        read_take(tmp_path / name)
    assert main(["replay", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err.strip()
    assert name in said
    assert "\n" not in said


def test_synthetic_take_is_the_same_for_the_same_seed() -> None:
    a, b, c = synthetic_take(1.0, seed=3), synthetic_take(1.0, seed=3), synthetic_take(1.0, seed=4)
    assert len(a.frames) == 60
    np.testing.assert_array_equal(a.frames[9].positions, b.frames[9].positions)
    assert not np.array_equal(a.frames[9].positions, c.frames[9].positions)


def test_noise_is_added_in_the_size_asked_for_and_is_repeatable() -> None:
    take = synthetic_take(4.0)
    one, two = take.noisy(0.02), take.noisy(0.02)
    errors = np.stack([n.positions - f.positions for n, f in zip(one.frames, take.frames, strict=True)])
    assert errors.std() == pytest.approx(0.02, rel=0.05)
    np.testing.assert_array_equal(one.frames[9].positions, two.frames[9].positions)
    assert take.noisy(0.0) is take


# -- recordings -------------------------------------------------------------------------------------------------------


def test_recording_gives_back_the_same_frames(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.hpstm")
    frames = read_recording(tmp_path / "a.hpstm").frames
    assert [(f.seq, f.t_ns, f.received_ns) for f in frames] == [
        (n, 10**15 + n * 20_000_000, 1000 + n) for n in range(5)
    ]
    np.testing.assert_array_equal(frames[3].positions, body_frame("a", 3).positions)
    assert [frame.t_ns for frame in read_take(tmp_path / "a.hpstm").frames] == [n * 20_000_000 for n in range(5)]


def test_recording_cut_off_anywhere_is_read_up_to_its_last_whole_message(tmp_path: Path) -> None:
    whole = write_recording(tmp_path / "a.hpstm")
    size = (len(whole) - len(MAGIC)) // 5
    for cut in range(len(MAGIC), len(whole), 17):
        (tmp_path / "cut").write_bytes(whole[:cut])
        recording = read_recording(tmp_path / "cut")
        frames, rest = divmod(cut - len(MAGIC), size)
        assert (len(recording.frames), recording.truncated) == (frames, rest > 0), cut


def test_recording_is_never_overwritten_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hpstm").write_text("diary")
    with pytest.raises(ConfigError, match="exists"):
        RecordingWriter(tmp_path / "a.hpstm")
    with pytest.raises(ConfigError, match="not an HPSTM recording"):
        read_recording(tmp_path / "a.hpstm")
    assert (tmp_path / "a.hpstm").read_text() == "diary"


FULL = """
import resource, signal, sys
from streamer.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit of a file's size is POSIX's")
def test_a_disk_that_is_full_is_one_line_and_what_was_written_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "full.hpstm"
    with ServerProcess() as server, streaming(server, "a", 240.0):
        command = [sys.executable, "-c", FULL, "record", str(path), "--out", server.out_endpoint, "--seconds", "20"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    said = re.fullmatch(r"hpstm: .*full\.hpstm: .*; the first (\d+) messages are safe in it\n", done.stderr)
    assert said, done.stderr
    recording = read_recording(path)
    assert not recording.truncated
    assert len(recording.frames) + len(recording.poses) + len(recording.skeletons) == int(said[1]) > 50


def test_a_recording_whose_disk_runs_full_in_the_middle_of_a_message_ends_before_it(tmp_path: Path) -> None:
    """On a file system of its own, where that is allowed: the real error."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with RecordingWriter(disk / "a.hpstm") as writer:
            with pytest.raises(RecordingError, match="No space left") as caught:
                write_until_it_fails(writer)
            written = writer.messages
        assert f"the first {written} messages are safe" in str(caught.value)
        recording = read_recording(disk / "a.hpstm")
        assert (len(recording.frames), recording.truncated) == (written, False)
        assert written > 20
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("where", ["missing/a.hpstm", "file/a.hpstm", "folder"])
def test_a_recording_that_cannot_be_made_is_one_line(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert main(["record", str(tmp_path / where), "--seconds", "1"]) == 2
    said = capsys.readouterr().err
    assert where in said
    assert said.count("\n") == 1


def test_damaged_message_is_counted_and_the_rest_read(tmp_path: Path) -> None:
    whole = bytearray(write_recording(tmp_path / "a.hpstm"))
    whole[len(MAGIC) + 12 + 9] ^= 0xFF  # first byte of the first map
    (tmp_path / "b").write_bytes(whole)
    recording = read_recording(tmp_path / "b")
    assert (len(recording.frames), recording.bad) == (4, 1)


def test_what_a_server_saw_is_recorded_and_replays_through_another(tmp_path: Path) -> None:
    path, report = tmp_path / "live.hpstm", tmp_path / "report.json"
    with ServerProcess() as server:
        with streaming(server, "anna", rate_hz=60.0) as sent:
            recorded = record(server.out_endpoint, path, frames=True, seconds=1.0, stopped=lambda: False)
        counts = recorded.counts
        assert 30 <= counts["frame"] <= sent[0]
        assert counts["skeleton"] >= 1
        assert abs(counts["frame"] - counts["pose"]) <= 5  # of two frames in one drain only the newest has a pose
    assert main(["replay", str(path), "--fast", "--start-server", "--json", str(report)]) == 0
    said = json.loads(report.read_text())
    assert (said["frames_in"], said["poses_out"]) == (counts["frame"], counts["frame"])
    assert list(said["actors"]) == ["anna"]
    assert said["rejected"] == {}


def test_replay_through_a_running_server_leaves_it_running(tmp_path: Path) -> None:
    with ServerProcess() as server:
        ends = ["--in", server.in_endpoint, "--out", server.out_endpoint, "--control", server.control_endpoint]
        assert main(["replay", "synthetic", "--seconds", "1", *ends, "--json", str(tmp_path / "r.json")]) == 0
        assert status(server)["counters"]["frames_in"] == 60
    said = json.loads((tmp_path / "r.json").read_text())
    assert said["poses_out"] >= 50
    assert 0 < said["latency_ms"]["p50"] < 1000


# -- scores and clocks ------------------------------------------------------------------------------------------------


def test_scores_of_motions_known_in_closed_form() -> None:
    t = np.arange(40.0)[:, None, None] / 20.0
    still = np.zeros((40, 24, 3)) + np.arange(24)[:, None] * (0.1, 0.0, 0.0)
    assert accel_mm(still) == jitter_m_s3(still, 20.0) == pytest.approx(0.0, abs=1e-9)
    assert bone_std_mm(still) == pytest.approx(0.0, abs=1e-9)
    assert accel_mm(still + t**2 * (1.0, 0, 0)) == pytest.approx(1e3 * 2.0 / 20.0**2)
    assert jitter_m_s3(still + t**3 * (0, 1.0, 0), 20.0) == pytest.approx(6.0)
    gappy = still + t**2 * (1.0, 0, 0)
    gappy[10, 3] = np.nan
    assert accel_mm(gappy) == pytest.approx(1e3 * 2.0 / 20.0**2)


def test_ticker_never_drifts_and_never_catches_up_in_a_burst() -> None:
    ticker = Ticker(90.0, start_ns=5)
    ticks = [now for now in range(5, 10 * SECOND_NS + 5, 1_000_000) if ticker.due(now)]
    assert len(ticks) == 900
    assert ticks[899] - 5 == pytest.approx(899 * SECOND_NS / 90, abs=1_000_000)
    assert ticker.due(60 * SECOND_NS)
    assert not ticker.due(60 * SECOND_NS)


def test_clock_map_takes_the_least_delay_and_follows_a_jump() -> None:
    clock = ClockMap()
    rng = np.random.default_rng(0)
    delays = 2_000_000 + (1e7 * rng.exponential(size=500)).astype(int)
    for n, delay in enumerate(delays):
        clock.update(n * 10_000_000, 7 * SECOND_NS + n * 10_000_000 + int(delay))
    assert 0 <= clock.offset_ns - (7 * SECOND_NS + 2_000_000) < 1_000_000
    assert clock.update(100 * SECOND_NS, 107 * SECOND_NS + 52_000_000) == pytest.approx(50_000_000, abs=1_000_000)
    clock.update(500 * SECOND_NS, 115 * SECOND_NS)  # the source's clock was set forward
    assert clock.offset_ns == -385 * SECOND_NS
