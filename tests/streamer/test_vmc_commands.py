"""``hpstm source vmc`` and ``hpstm sink vmc`` around a real server: a performer at one end, an avatar at the other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import numpy as np
from pythonosc.udp_client import SimpleUDPClient
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from tests.helpers.live import beside, status, wait_until
from tests.helpers.project import ROOT
from tests.helpers.vmc import Listener

TREE = {"Spine": "Hips", "Chest": "Spine", "UpperChest": "Chest", "Neck": "UpperChest", "Head": "Neck",
        "LeftShoulder": "UpperChest",
        "LeftUpperArm": "LeftShoulder", "RightShoulder": "UpperChest", "RightUpperArm": "RightShoulder"}  # fmt: skip
BODY = ["Hips", "Spine", "Chest", "UpperChest", "Neck", "Head", *(f"{side}{bone}" for side in ("Left", "Right")
        for bone in ("Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes"))]  # fmt: skip


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command, ended by Ctrl-C; what it says goes to its pipes."""
    command = [sys.executable, "-u", "-m", "streamer", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def performing(port: int) -> Iterator[None]:
    """A performer that raises its left arm and turns its head to the left, message by message, 60 times a second."""
    arm, still = Rotation.from_euler("z", -70, degrees=True).as_quat(), [0.0, 0.0, 0.0, 1.0]
    head = Rotation.from_euler("y", -40, degrees=True).as_quat()

    def send(stop: Event) -> None:
        with SimpleUDPClient("127.0.0.1", port) as client:
            for n in range(10**6):
                sway = [-0.3, 0.9 + 0.01 * float(np.sin(n / 9)), 0.1]
                for name in BODY:
                    turn = arm.tolist() if name == "LeftUpperArm" else head.tolist() if name == "Head" else still
                    place = sway if name == "Hips" else [0.0, 0.0, 0.0]
                    client.send_message("/VMC/Ext/Bone/Pos", [name, *place, *turn])
                client.send_message("/VMC/Ext/T", n / 60)
                if n == 0:
                    client.send_message("/somebody/else", 1)
                if stop.wait(1 / 60):
                    return

    with beside(send):
        yield


def test_an_arm_that_a_performer_raises_is_raised_at_the_avatar() -> None:
    avatar = Listener()
    with (
        ServerProcess() as server,
        running("source", "vmc", "--port", "0", "--to", server.in_endpoint, "--actor", "me") as source,
        running("sink", "vmc", "--to", f"127.0.0.1:{avatar.port}", "--out", server.out_endpoint) as sink,
    ):
        assert source.stdout is not None
        assert sink.stdout is not None
        ready = source.stdout.readline()
        port = int(ready.split("port=")[1].split()[0])
        with performing(port):
            assert sink.stdout.readline() == f"me -> 127.0.0.1:{avatar.port}\n"
            end = time.monotonic() + 10
            bones: dict[str, np.ndarray] = {}
            while time.monotonic() < end and status(server)["counters"]["poses_out"] < 60:
                bones |= avatar.bones(1)
            wait_until(lambda: bool(bones))
        source.send_signal(2)
        out, err = source.communicate(timeout=20)
        assert (source.returncode, err) == (0, "")
        sink.send_signal(2)
        assert sink.wait(20) == 130
    avatar.close()

    def world(name: str) -> Rotation:
        local = Rotation.from_quat(bones[name][3:])
        return world(TREE[name]) * local if name in TREE else local

    def off_deg(name: str, rest: tuple[int, int, int], where: list[float]) -> float:
        return float(np.degrees(np.arccos(np.clip(world(name).apply(rest) @ np.array(where), -1.0, 1.0))))

    assert off_deg("LeftUpperArm", (-1, 0, 0), [-np.cos(np.radians(70)), np.sin(np.radians(70)), 0]) < 10
    assert off_deg("RightUpperArm", (1, 0, 0), [1, 0, 0]) < 10
    # Left is -X in Unity. No joint shows where the head looks; the performer's rotation does.
    assert off_deg("Head", (0, 0, 1), [-np.sin(np.radians(40)), 0, np.cos(np.radians(40))]) < 5
    np.testing.assert_allclose(bones["Hips"][:3], [-0.3, 0.9, 0.1], atol=0.05)
    assert "22 bones" in out.splitlines()[-1]
    assert "unknown: /somebody/else (1)" in out.splitlines()[-1]
    assert "no server took 0" in out.splitlines()[-1]
