"""``hpstm live``: real processes with a source at one end and sinks at the other; dead sinks hold up nobody."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.skeleton import INDEX, PARENTS
from streamer.cli import COMMANDS
from streamer.client import PoseSubscriber
from streamer.clock import now_ns
from streamer.frames import Pose
from streamer.sinks.vmc import VmcSender
from tests.helpers.live import BODY, beside, next_pose, wait_until
from tests.helpers.live_command import WITHIN_S, Live, recording
from tests.helpers.viewing import comes_in
from tests.helpers.vmc import Listener, a_pose


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
