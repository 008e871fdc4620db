"""``hpstm live`` with lines and files at its ends, and what it says in a terminal."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from streamer.cli import main
from streamer.clock import SECOND_NS
from streamer.sinks.recording import read_recording
from tests.helpers.fetched import pose_package, video
from tests.helpers.live import BODY
from tests.helpers.live_command import ANYWHERE, WITHIN_S, Live, recording
from tests.helpers.program import HPSTM, Program
from tests.helpers.vmc import Listener

# -- lines ------------------------------------------------------------------------------------------------------------


def test_broken_lines_are_lost_by_name_and_warnings_are_said_once() -> None:
    """A source that counts in millimetres: every frame is refused, and it is said why."""
    with Live("--stdin", "--layout=smpl_24") as live:
        for n in range(80):
            live.feed(json.dumps({"t": n / 30, "positions": (1e3 * BODY + 3.0 * n).tolist()}) + "\n")
            time.sleep(0.02)
        live.feed("oops\n")
        live.stdin.close()
        assert live.wait(WITHIN_S) == 1  # not a pose
        out = live.stdout.read()
    assert out.count("warning: actor 'actor': ") == 1
    assert "(scale)" in out
    assert "line 81: not JSON" in out
    assert re.search(r"lost 81 \(broken lines \(json\) 1, rejected absurd 80\)  warned 1$", out.splitlines()[-1]), out


def test_lines_are_recorded_as_they_came(tmp_path: Path) -> None:
    """The loop reads them itself: whoever records the input gets them all the same."""
    with Live("--stdin", "--layout=smpl_24", f"--record={tmp_path / 'a.hpstm'}") as live:
        for n in range(30):
            live.feed(json.dumps({"t": n / 30, "positions": (BODY + 0.01 * n).tolist()}) + "\n")
            time.sleep(0.01)
        live.stdin.close()
        assert live.wait(WITHIN_S) == 0
    frames = read_recording(tmp_path / "a.hpstm").frames
    assert [frame.seq for frame in frames] == list(range(30))
    np.testing.assert_array_equal(frames[7].positions, (BODY + 0.07).astype(np.float32))


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_recording_is_played_in_its_own_time_and_recorded_again(tmp_path: Path) -> None:
    frames = recording(tmp_path / "a.hpstm", 45)
    begun = time.monotonic()
    with Live(f"--replay={tmp_path / 'a.hpstm'}", f"--record={tmp_path / 'b.hpstm'}") as live:
        assert live.wait(WITHIN_S) == 0
        out = live.stdout.read()
    assert time.monotonic() - begun > 44 / 30
    assert f"{tmp_path / 'b.hpstm'}: " in out.splitlines()[-1]
    again = read_recording(tmp_path / "b.hpstm")
    assert [frame.seq for frame in again.frames] == list(range(45))
    for old, new in zip(frames, again.frames):
        np.testing.assert_array_equal(old.positions, new.positions)
        assert new.t_ns - again.frames[0].t_ns == old.t_ns - frames[0].t_ns
    assert again.poses[-1].seq == 44
    assert {pose.captured_ns for pose in again.poses} <= {frame.t_ns for frame in again.frames}


def test_into_a_file_of_motion(tmp_path: Path) -> None:
    recording(tmp_path / "a.hpstm", 20)
    with Live(f"--replay={tmp_path / 'a.hpstm'}", f"--record={tmp_path / 'b.bvh'}", "--actor=anna") as live:
        assert live.wait(WITHIN_S) == 0
    assert (tmp_path / "b.bvh").read_text().startswith("HIERARCHY")
    assert not list(tmp_path.glob("b.bvh.*"))


def test_a_video_moves_an_avatar(tmp_path: Path) -> None:
    """Real MediaPipe on 40 pictures of a real video: every one is used, at the video's own times."""
    cv2 = pytest.importorskip("cv2", reason="mediapipe is not installed (extra: mediapipe)")
    pytest.importorskip("mediapipe", reason="mediapipe is not installed (extra: mediapipe)")
    assert main(["models", "mediapipe", "--out", str(tmp_path), "--package", str(pose_package())]) == 0
    whole = cv2.VideoCapture(str(video()))
    clip = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (1280, 720))
    for _ in range(40):
        clip.write(cv2.resize(whole.read()[1], (1280, 720)))
    clip.release()
    avatar = Listener()
    seen = [f"--video={tmp_path / 'a.mp4'}", f"--model={tmp_path / 'pose_landmarker_full.task'}"]
    with Live(*seen, f"--vmc=127.0.0.1:{avatar.port}", f"--record={tmp_path / 'a.hpstm'}") as live:
        out, _ = live.communicate(timeout=WITHIN_S)
        assert live.returncode == 0, out
    assert "Hips" in avatar.bones()
    avatar.close()
    frames = read_recording(tmp_path / "a.hpstm").frames
    assert {frame.layout for frame in frames} == {"mediapipe_33"}
    assert 20 <= len(frames) <= 40  # people come into it
    steps = np.diff([frame.t_ns for frame in frames]) * 30 / SECOND_NS
    np.testing.assert_allclose(steps, np.round(steps), atol=0.05)
    assert re.search(r"camera [\d.]+/[\d.]+  estimator [\d.]+/[\d.]+  filter ", out), out


# -- the terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals to pretend")
def test_in_a_terminal_one_line_is_rewritten(tmp_path: Path) -> None:
    recording(tmp_path / "a.hpstm", 75)
    ours, theirs = os.openpty()
    words = [*HPSTM, "live", *ANYWHERE, f"--replay={tmp_path / 'a.hpstm'}", "--vmc=127.0.0.1:9"]
    with Program(words, stdout=theirs, env={**os.environ, "COLUMNS": "60"}) as live:
        os.close(theirs)
        text = b""
        while True:
            try:
                text += os.read(ours, 4096)
            except OSError:  # all that was said has been read
                break
        assert live.wait(WITHIN_S) == 0
    os.close(ours)
    shown = [part for part in re.split("[\r\n]", text.decode()) if "frames/s" in part]
    assert len(shown) >= 3, text  # about one a second
    assert all(part.endswith("\033[K") for part in shown[:-1])
    assert all(len(part.removesuffix("\033[K")) < 60 for part in shown)  # none is broken into two
    assert text.count(b"\n") == 4, text  # ready, what is read, who goes where; the end of the line
