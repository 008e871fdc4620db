"""``hpstm live``: real processes with a source at one end and sinks at the other; what it says, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import free_endpoints
from model.skeleton import INDEX, PARENTS
from streamer.cli import COMMANDS, main
from streamer.client import PoseSubscriber
from streamer.clock import SECOND_NS, now_ns
from streamer.commands.pipeline import Pipeline
from streamer.commands.terminal import Screen
from streamer.errors import ConfigError
from streamer.frames import Frame, Pose
from streamer.server.config import ServerConfig
from streamer.server.control import request
from streamer.server.metrics import Histogram
from streamer.server.server import Server
from streamer.sinks import view
from streamer.sinks.recorder import Recorder
from streamer.sinks.recording import RecordingWriter, read_recording
from streamer.sinks.vmc import VmcSender
from streamer.wire.protocol import Encoder
from tests.helpers.fetched import pose_package, video
from tests.helpers.live import BODY, beside, body_frame, next_pose, wait_until
from tests.helpers.program import HPSTM, Program
from tests.helpers.viewing import comes_in
from tests.helpers.vmc import Listener, a_pose

WITHIN_S = 60.0  # for a process to start, on a machine as busy as it likes
ANYWHERE = [f"--{name}=tcp://127.0.0.1:*" for name in ("in", "out", "control")]


class Live(Program):
    """A running ``hpstm live``, ready. ``ends``: its endpoints by name."""

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__([*HPSTM, "live", *ANYWHERE, *words], **options)
        people = self.stderr if "--jsonl" in words else self.stdout
        ready = people.readline()
        assert ready.startswith("ready "), ready + self.stderr.read()
        self.ends = dict(pair.split("=") for pair in ready.split()[1:])
        self.reading = people.readline()

    def counter(self, name: str) -> int:
        return int((request(self.ends["control"], "status", WITHIN_S) or {})["counters"][name])

    def end(self, number: int = signal.SIGINT) -> tuple[str, str]:
        """What it says once a signal has ended it."""
        self.send_signal(number)
        return self.communicate(timeout=WITHIN_S)


@contextmanager
def performing(port: int, turns: dict[str, Rotation]) -> Iterator[None]:
    """A performer that holds a pose and sways a little, 60 times a second."""

    def send(stop: threading.Event) -> None:
        with VmcSender("127.0.0.1", port) as sender:
            n = 0
            while not stop.wait(1 / 60):
                sender.send(a_pose(turns, root=(-0.3, 0.9 + 0.01 * np.sin(n / 9), 0.1), n=n))
                n += 1

    with beside(send):
        yield


def away_deg(turn: Rotation, wanted: Rotation) -> float:
    return float(np.degrees((turn.inv() * wanted).magnitude()))


def to_world(pose: Pose, joint: str) -> Rotation:
    turn, at = Rotation.identity(), INDEX[joint]
    while at >= 0:
        turn, at = Rotation.from_quat(pose.rotations[at]) * turn, PARENTS[at]
    return turn


# -- from a performer to an avatar ------------------------------------------------------------------------------------


def test_a_raised_left_arm_a_head_turned_left_and_a_thumb_up_stay_so_and_ctrl_c_ends_it() -> None:
    arm, head = Rotation.from_euler("z", 70, degrees=True), Rotation.from_euler("y", 40, degrees=True)
    thumb = Rotation.from_euler("x", -90, degrees=True)  # of the right hand, which points ahead in the rest pose
    avatar = Listener()
    with Live("--vmc-in=0", "--actor=me", f"--vmc=127.0.0.1:{avatar.port}") as live:
        port = int(re.search(r"UDP port (\d+)", live.reading)[1])  # type: ignore[index]
        with performing(port, {"left_shoulder": arm, "head": head, "right_wrist": thumb}):
            subscriber = PoseSubscriber(live.ends["out"])  # others are served as by any server
            pose = next_pose(subscriber)
            wait_until(lambda: live.counter("poses_out") > 90, WITHIN_S)
            pose = next_pose(subscriber)
            subscriber.close()
            while avatar.packet(0.001) is not None:  # from before
                pass
            bones: dict[str, np.ndarray] = {}
            for _ in range(4):
                bones |= avatar.bones(1)
        out, err = live.end()
    avatar.close()
    assert (live.returncode, err) == (0, "")
    assert pose.actor == "me"
    turned = {
        name: Rotation.from_quat(pose.rotations[INDEX[name]]) for name in ("left_shoulder", "right_shoulder", "head")
    }
    assert away_deg(turned["left_shoulder"], arm) < 12
    assert away_deg(turned["right_shoulder"], Rotation.identity()) < 12
    assert away_deg(turned["head"], head) < 8
    assert to_world(pose, "right_wrist").apply([0, 0, 1])[1] > np.cos(np.radians(20))
    # As python-osc reads it, on Unity's axes: left = -X, and a turn about Y or Z goes the other way.
    unity = {name: Rotation.from_quat(numbers[3:]) for name, numbers in bones.items()}
    assert away_deg(unity["LeftUpperArm"], Rotation.from_euler("z", -70, degrees=True)) < 12
    assert away_deg(unity["RightUpperArm"], Rotation.identity()) < 12
    assert away_deg(unity["Head"], Rotation.from_euler("y", -40, degrees=True)) < 8
    np.testing.assert_allclose(bones["Hips"][:3], [0.3, 0.9, 0.1], atol=0.05)
    hand = unity["RightUpperArm"] * unity["RightLowerArm"] * unity["RightHand"]
    assert hand.apply([0, 0, 1])[1] > np.cos(np.radians(20))
    assert not [name for name in bones if "Thumb" in name]  # fingers are not carried: the avatar keeps its own
    last = out.splitlines()[-1]
    assert re.fullmatch(
        r"\d+ frames, \d+ poses: [\d.]+ frames/s  actors 1  p50/p99 ms: filter [\d.]+/[\d.]+  vmc [\d.]+/[\d.]+"
        r"  lost \d+( \(.*\))?  warned \d+",
        last,
    ), last
    assert f"me -> 127.0.0.1:{avatar.port}" in out
    assert "22 bones" in out  # the source's own words, as there is something new


# -- sinks that are dead ----------------------------------------------------------------------------------------------


def test_dead_sinks_hold_up_nobody() -> None:
    """Nobody at the VMC port, nobody reads the pipe, nobody at the WebSocket: poses come as they should."""
    words = ["--stdin", "--layout=smpl_24", "--vmc=127.0.0.1:9", "--jsonl"]
    with Live(*words) as live, PoseSubscriber(live.ends["out"], "a", every=True) as subscriber:
        ages_ms = []
        wait_until(lambda: live.counter("subscriptions") >= 3, WITHIN_S)  # one of --jsonl, two of ours
        for n in range(400):  # 700 kB of lines out: ten times what a pipe holds
            line = {"actor": "a", "positions": (BODY + 0.01 * n / 400).tolist()}
            live.feed(json.dumps(line) + "\n")
            pose = next_pose(subscriber)
            assert pose.seq == n
            ages_ms.append((now_ns() - pose.captured_ns) / 1e6)
        live.stdin.close()
        assert live.wait(WITHIN_S) == 0
        said = live.stderr.read()
    assert np.median(ages_ms) < 100
    assert "jsonl: whoever reads it takes nothing; it is left behind" in said
    assert "400 frames, 400 poses" in said


def test_a_reader_that_left_and_browsers_that_come() -> None:
    websockets = pytest.importorskip("websockets.sync.client", reason="websockets is not installed (extra: websocket)")
    with Live("--stdin", "--layout=smpl_24", "--jsonl", "--websocket=0") as live:
        url = live.stderr.readline().strip().partition("ready websocket=")[2]
        with websockets.connect(url, compression=None) as browser:
            stop = threading.Event()

            def feed() -> None:
                n = 0
                while not stop.wait(1 / 60):
                    live.feed(json.dumps({"actor": "a", "positions": (BODY + 0.001 * (n % 9)).tolist()}) + "\n")
                    n += 1

            feeding = threading.Thread(target=feed, daemon=True)
            feeding.start()
            seen, read = json.loads(browser.recv(timeout=WITHIN_S)), json.loads(live.stdout.readline())
            for said in (seen, read):
                assert (said["actor"], np.shape(said["positions"])) == ("a", (24, 3))
            live.stdout.close()
            line = ""
            while "jsonl: whoever read it has left" not in line:
                line = live.stderr.readline()
                assert line
            json.loads(browser.recv(timeout=WITHIN_S))  # goes on
        stop.set()
        feeding.join(5)
        live.send_signal(signal.SIGTERM)
        assert live.wait(WITHIN_S) == 0


def test_a_page_in_the_browser(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="viser is not installed (extra: view)")
    if "view" not in COMMANDS:
        pytest.skip("this version has no hpstm view")
    recording(tmp_path / "a.hpstm", 2000)
    with Live(f"--replay={tmp_path / 'a.hpstm'}", "--view") as live:
        line = ""
        while not line.startswith("ready view="):
            line = live.stdout.readline()
            assert line
        url = line.strip().partition("=")[2]
        with urlopen(url, timeout=WITHIN_S) as page:
            assert page.status == 200
        live.end()
        assert live.returncode == 0
    with pytest.raises(URLError):  # it is gone, too
        urlopen(url, timeout=5)


def test_pages_that_are_named_come_in_to_the_view_and_the_websocket() -> None:
    pytest.importorskip("viser", reason="viser is not installed (extra: view)")
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    named, other = "https://example.org", "https://other.org"
    with Live("--stdin", "--layout=smpl_24", "--websocket=0", "--view", f"--origin={named}", "--origin=null") as live:
        urls = dict(live.stdout.readline().removeprefix("ready ").strip().split("=", 1) for _ in range(2))
        with connect(urls["websocket"], origin=named):
            pass
        with pytest.raises(InvalidStatus):
            connect(urls["websocket"], origin=other)
        assert comes_in(urls["view"], named)
        assert comes_in(urls["view"], "null")
        assert not comes_in(urls["view"], other)
        out, err = live.end()
    refused = f"refused a web page of {other!r}; to let it in: --origin {other}"
    assert refused in out  # by the WebSocket
    assert err == f"hpstm: {refused}\n"  # by the view


def test_without_viser_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    monkeypatch.setattr(view, "find_spec", lambda name: None)
    assert main(["live", *ANYWHERE, "--stdin", "--view"]) == 2
    assert "pip install 'hpstm-live[view]'" in capsys.readouterr().err


# -- the source -------------------------------------------------------------------------------------------------------


class Breaking:
    """A camera that is pulled out after ten pictures."""

    name, descriptor = "camera 7", None

    def __init__(self) -> None:
        self.latency, self.ended, self.n = {"camera": Histogram()}, False, 0

    def receive(self, timeout_s: float) -> Frame | None:
        if self.n == 10:
            raise ConfigError("camera 7: it is gone; plug it in again")
        time.sleep(0.03)
        self.n += 1
        self.latency["camera"].observe(1_000_000)
        return body_frame("a", self.n)

    def rehearse(self) -> None:
        pass

    def lost(self) -> dict[str, int]:
        return {"pictures": 3}

    def kinds(self) -> tuple[object, ...]:
        return ()

    def status(self) -> str:
        return self.name

    def close(self) -> None:
        pass


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_source_that_breaks_ends_all_in_one_line_and_the_recording_is_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server(ServerConfig(*free_endpoints(3), runtime="onnx"))
    before = threading.active_count()
    with Recorder(tmp_path / "a.hpstm") as recorder:
        screen = Screen()
        with pytest.raises(ConfigError, match="plug it in again"):
            Pipeline(Breaking(), server, None, [recorder], screen, []).run()
        said = list(recorder.finish())
    assert "10 frames" in said[0]
    assert [frame.seq for frame in read_recording(tmp_path / "a.hpstm").frames] == list(range(1, 11))
    last = capfd.readouterr().out.splitlines()[-1]
    assert "camera 1.37/1.37  filter " in last  # the bound of its bucket
    assert "lost 3 (pictures 3)" in last
    assert threading.active_count() <= before + 1  # the screen's own writer


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


def recording(path: Path, frames: int) -> list[Frame]:
    """A minute's beginning of somebody who walks."""
    encoder, sent = Encoder(), []
    with RecordingWriter(path) as writer:
        for n in range(frames):
            sent.append(body_frame("walker", n, 10**15 + n * SECOND_NS // 30))
            writer.write(encoder.frame(sent[-1]), 1000 + n)
    return sent


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


# -- the line ---------------------------------------------------------------------------------------------------------


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


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "give one source: --camera N, --video FILE"),
        ("--stdin --vmc-in 0", "not --vmc-in PORT and --stdin"),
        ("--vmc-in 39540 --vmc 127.0.0.1:39540", "is where --vmc-in listens"),
        ("--stdin --websocket 70000", "--websocket must be between"),
        ("--stdin --vmc 39539", "HOST:PORT"),
        ("--stdin --view --curve keys", "--view has no key"),
        ("--stdin --origin null", "--origin lets web pages in to --websocket and --view"),
        ("--stdin --vmc 127.0.0.1:1 --vmc 127.0.0.1:1", "--vmc: an address given twice"),
        ("--stdin --layout smpl24", "did you mean 'smpl_24'"),
        ("--replay nothing.hpstm --record {tmp}/new.hpstm", "nothing.hpstm: no such file"),
        ("--stdin --record {tmp}/old.hpstm", "old.hpstm exists"),
        ("--stdin --record {tmp}/new.fbx", "new.fbx"),
        ("--vmc-in 0 --actor a\u0007", "--actor"),
        ("--video nothing.mp4", "mediapipe"),  # it is not installed, or the model is missing
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    (tmp_path / "old.hpstm").touch()
    assert main(["live", *ANYWHERE, *words.format(tmp=tmp_path).split()]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["old.hpstm"]


def test_a_port_that_is_taken_is_a_mistake_too(capsys: pytest.CaptureFixture[str], signals: None) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed (extra: websocket)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["live", *ANYWHERE, "--vmc-in=0", f"--websocket={taken.getsockname()[1]}"]) == 2
    assert "cannot listen there" in capsys.readouterr().err
