"""LabStreamingLayer in and out, through real streams of pylsl, whose library is not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.service.child import ServerProcess
from model.layouts import get_layout
from model.skeleton import INDEX, JOINTS
from streamer.cli import main
from streamer.clock import now_ns
from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.wire.lsl import Channel, Reading, pose_channels, pose_sample
from tests.helpers.program import HPSTM, Program
from tests.helpers.vmc import a_pose, any_pose, world_of

MS = 1_000_000
SECOND = 1_000_000_000
STILL = a_pose()
SUIT, ANNA = f"suit-{os.getpid()}", f"anna-{os.getpid()}"  # streams are seen by everybody on the network
pytestmark = pytest.mark.xdist_group("lsl")


@pytest.fixture(scope="module")
def pylsl() -> ModuleType:
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"pylsl cannot be loaded (extra: lsl): {error}")
    return pylsl


def described(layout: str, unit: str = "meters", turns: bool = False, trust: bool = False) -> list[Channel]:
    """Channels as another program names them: labels alone say what is whose, in its own spelling."""
    out = []
    for joint in get_layout(layout).joints:
        kinds = [("PositionX", unit), ("PositionY", unit), ("PositionZ", unit)]
        kinds += [(f"Orientation{letter}", "") for letter in "ABCD"] if turns else []
        kinds += [("Confidence", "normalized")] if trust else []
        out += [Channel(f"{joint.upper()}_{kind}", "", kind, of) for kind, of in kinds]
    return out


# -- what channels mean -----------------------------------------------------------------------------------------------


def test_channels_of_a_pose_are_named_as_the_recommendation_has_it() -> None:
    channels = pose_channels()
    assert len({one.label for one in channels}) == len(channels) == len(pose_sample(any_pose(0)))
    assert channels[0] == Channel("pelvis_x", "pelvis", "PositionX", "meters")
    assert channels[3] == Channel("pelvis_qx", "pelvis", "OrientationB", "quaternion")
    scalar = channels[INDEX["head"] * 8 + 6]
    assert (scalar.marker, scalar.type) == ("head", "OrientationA")
    assert channels[-1].unit == "0 calibrating, 1 tracking, 2 coasting, 3 lost"


def test_a_sample_holds_places_and_turns_in_the_world() -> None:
    arm = Rotation.from_euler("z", 60, degrees=True)
    pose = a_pose({"left_shoulder": arm, "head": Rotation.from_euler("y", 40, degrees=True)})
    by = dict(zip((one.label for one in pose_channels()), pose_sample(pose).tolist()))
    assert by["left_wrist_y"] > by["left_shoulder_y"] + 0.3
    elbow = Rotation.from_quat([by[f"left_elbow_q{axis}"] for axis in "xyzw"])  # turned with the shoulder, in the world
    assert (elbow.inv() * arm).magnitude() < 1e-3
    ahead = Rotation.from_quat([by[f"head_q{axis}"] for axis in "xyzw"]).apply([0, 0, 1])
    assert ahead[0] > 0.6  # to the left
    lost = pose_sample(replace(pose, status="lost"))
    assert np.isnan(lost[:-1]).all()
    assert lost[-1] == 3


def test_what_we_send_is_read_as_what_it_was() -> None:
    pose = any_pose(3)
    reading = Reading(pose_channels())
    positions, rotations, confidence = reading.read(pose_sample(pose).tolist())
    assert reading.layout.name == "smpl_24"
    assert not reading.missing
    assert confidence is None
    assert rotations is not None
    np.testing.assert_allclose(positions, pose.positions, atol=1e-6)
    world = world_of([Rotation.from_quat(q) for q in pose.rotations])
    assert max((a.inv() * Rotation.from_quat(b)).magnitude() for a, b in zip(world, rotations)) < 1e-3


@pytest.mark.parametrize("layout", ["mediapipe_33", "h36m_17", "coco_17", "vrm", "xsens_23"])
def test_names_in_another_spelling_tell_the_layout(layout: str) -> None:
    reading = Reading(described(layout, trust=True))
    joints = len(get_layout(layout).joints)
    assert reading.layout.name == layout
    sample = np.arange(4.0 * joints)
    positions, rotations, confidence = reading.read(sample.tolist())
    np.testing.assert_array_equal(positions[-1], sample[-4:-1])
    assert rotations is None
    assert confidence is not None
    assert (confidence[0], confidence[-1]) == (1.0, 1.0)  # 3, and what is more, is 1


def test_units_and_what_is_missing() -> None:
    layout = get_layout("h36m_17")
    channels = [
        one for one in described("h36m_17", "millimeters") if not one.label.startswith(layout.joints[5].upper())
    ]
    reading = Reading(channels, layout)
    positions, _, _ = reading.read(np.full(48, 1500.0).tolist())
    assert reading.missing == [layout.joints[5]]
    assert np.isnan(positions[5]).all()
    np.testing.assert_allclose(np.delete(positions, 5, 0), 1.5)


def test_turns_that_are_none_are_not_known() -> None:
    sample = np.tile([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0], 22)
    sample[3:7] = 0.0
    sample[10:14] = 0.3, 0.0, 0.0, 0.0
    _, rotations, _ = Reading(described("smpl_22", turns=True)).read(sample.tolist())
    assert rotations is not None
    assert np.isnan(rotations[:2]).all()
    np.testing.assert_array_equal(rotations[2:], [[0, 0, 0, 1]] * 20)  # the scalar comes first there


@pytest.mark.parametrize(
    ("channels", "layout", "said"),
    [
        ([Channel("")] * 51, None, "give --layout"),
        ([Channel("")] * 50, "h36m_17", "50 channels.*51.*68"),
        (described("h36m_17"), "mediapipe_33", "none of layout mediapipe_33"),
        ([Channel("Fz", "", "EEG")] * 8, None, "give --layout"),
        ([Channel("a", "a", kind) for kind in ("PositionX", "PositionY", "PositionZ")], None, "no known layout"),
    ],
)
def test_channels_that_are_no_body_are_one_line(channels: list[Channel], layout: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Reading(channels, None if layout is None else get_layout(layout))


# -- what may be missing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["source", "sink"])
def test_a_library_that_cannot_be_loaded_is_one_line(pylsl: ModuleType, tmp_path: Path, command: str) -> None:
    (tmp_path / "liblsl.so").write_text("not a library")
    environment = os.environ | {"PYLSL_LIB": str(tmp_path / "liblsl.so")}
    done = subprocess.run([*HPSTM, command, "lsl"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("hpstm: liblsl cannot be loaded (")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install --upgrade pylsl" in done.stderr


def test_without_the_extra_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    assert main(["sink", "lsl"]) == 2
    assert "pip install 'hpstm-live[lsl]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [("--actor a\u0007", "--actor"), ("--layout nosuch", "--layout"), ("--layout no.toml", "--layout")],
)
def test_a_mistake_is_one_line(pylsl: ModuleType, words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["source", "lsl", *words.split(" ")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("hpstm: ")
    assert said in err
    assert len(err.splitlines()) == 1


# -- real streams -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(pylsl: ModuleType) -> object:
    """An outlet of a body of layout smpl_22 with orientations, as another program makes it."""
    channels = described("smpl_22", "millimeters", turns=True)
    info = pylsl.StreamInfo(SUIT, "MoCap", len(channels), 60.0, pylsl.cf_float32, SUIT)
    node = info.desc().append_child("channels")
    for one in channels:
        channel = node.append_child("channel")
        for name in ("label", "type", "unit"):
            channel.append_child_value(name, getattr(one, name))
    return pylsl.StreamOutlet(info)


def suit(n: int) -> list[float]:
    """Every joint at (0, 1500 + n, 0) mm, turned by nothing."""
    return [0.0, 1500.0 + n, 0.0, 1.0, 0.0, 0.0, 0.0] * 22


def standing(n: int) -> list[float]:
    """Somebody in a T-pose who sways [mm]."""
    places = 1000 * (STILL.positions[:22] + np.array([0.0, 0.01 * np.sin(0.1 * n), 0.0]))
    return [number for place in places.tolist() for number in (*place, 1.0, 0.0, 0.0, 0.0)]


def frames_of(receiver: object, count: int, timeout_s: float = 10.0) -> list[Frame]:
    frames: list[Frame] = []
    end = time.monotonic() + timeout_s
    while len(frames) < count and time.monotonic() < end:
        frame = receiver.receive(0.1)  # type: ignore[attr-defined]
        frames += [] if frame is None else [frame]
    return frames


def test_a_stream_of_another_program_becomes_frames_at_their_own_times(pylsl: ModuleType, stream: object) -> None:
    from streamer.sources.lsl import LslReceiver

    with LslReceiver(SUIT, actor="me") as receiver:
        assert receiver.status() == f"no stream {SUIT} is there"
        while receiver.reading is None:
            assert receiver.receive(0.1) is None
        begin, lsl_s = now_ns(), pylsl.local_clock()
        for n in range(30):
            stream.push_sample(suit(n), lsl_s + n / 60 - 1.0)  # type: ignore[attr-defined]
        frames = frames_of(receiver, 30)
        status = receiver.status()
    assert [frame.seq for frame in frames] == list(range(30))
    assert {(frame.actor, frame.layout) for frame in frames} == {("me", "smpl_22")}
    np.testing.assert_allclose([frame.positions[7, 1] for frame in frames], 1.5 + np.arange(30) / 1000, atol=1e-6)
    np.testing.assert_array_equal(frames[0].rotations, [[0, 0, 0, 1]] * 22)
    wanted = begin - SECOND + np.arange(30) * SECOND / 60
    assert np.abs(np.array([frame.t_ns for frame in frames]) - wanted).max() < 2 * MS
    assert status.startswith(f"{SUIT} of ")
    assert "30 frames, layout smpl_22, with rotations" in status


def test_samples_that_are_no_later_are_counted_of_a_stream(pylsl: ModuleType, stream: object) -> None:
    from streamer.sources.lsl import LslReceiver

    with LslReceiver(SUIT) as receiver:
        while receiver.reading is None:
            receiver.receive(0.1)
        for at in (0.0, 0.1, 0.1, 0.05, 0.2):
            stream.push_sample(suit(0), 1000.0 + at)  # type: ignore[attr-defined]
        assert len(frames_of(receiver, 4, 1.0)) == 3
        assert "not used: no later than the one before (2)" in receiver.status()


def test_without_a_name_it_is_a_stream_of_the_type_that_bodies_have(pylsl: ModuleType, stream: object) -> None:
    from streamer.sources.lsl import LslReceiver

    with LslReceiver() as receiver:
        for _ in range(50):
            receiver.receive(0.1)
            if receiver.reading is not None:
                break
        assert receiver.reading is not None  # whoever else on the network may send one, too


def test_poses_are_a_stream_that_others_find_with_names_units_and_times(pylsl: ModuleType) -> None:
    from streamer.sinks.lsl import LslOutlets

    with LslOutlets() as outlets:
        pose = a_pose({"left_shoulder": Rotation.from_euler("z", 60, degrees=True)}, actor=ANNA)
        outlets.send(replace(pose, t_ns=now_ns() - SECOND // 2, captured_ns=now_ns() - SECOND // 2))
        (info,) = pylsl.resolve_byprop("name", ANNA, timeout=10)
        inlet = pylsl.StreamInlet(info)
        inlet.open_stream(10)
        full = inlet.info(10)
        assert (full.type(), full.nominal_srate(), full.channel_count()) == ("MoCap", 0.0, len(pose_channels()))
        assert full.get_channel_labels() == [one.label for one in pose_channels()]
        assert full.get_channel_units() == [one.unit for one in pose_channels()]
        assert full.get_channel_types() == [one.type for one in pose_channels()]
        begin = now_ns()
        ours = [begin - 100 * MS + n * 10 * MS for n in range(5)]
        for at in ours:  # seen some time before it comes, on this machine's clock
            outlets.send(replace(pose, t_ns=at, captured_ns=at))
        got = [inlet.pull_sample(5.0) for _ in range(5)]
        ahead_s = pylsl.local_clock() - now_ns() / 1e9
        np.testing.assert_allclose([at for _, at in got], np.array(ours) / 1e9 + ahead_s, atol=2e-3)
        np.testing.assert_allclose(got[0][0], pose_sample(pose), atol=1e-6)
        inlet.close_stream()


def test_times_of_a_source_with_its_own_clock_are_those_of_the_least_delay(pylsl: ModuleType) -> None:
    from streamer.sinks.lsl import PoseTimes

    pose, times = a_pose(), PoseTimes()
    rng = np.random.default_rng(0)
    late = rng.integers(0, 9 * MS, 300)
    late[5] = 0
    got = [
        times.of(replace(pose, t_ns=n * 10 * MS, captured_ns=n * 10 * MS), 5_000 * SECOND + n * 10 * MS + int(more))
        for n, more in enumerate(late)
    ]
    np.testing.assert_array_equal(got[6:], [5_000 * SECOND + n * 10 * MS for n in range(6, 300)])
    ahead = times.of(replace(pose, t_ns=3_050 * MS, captured_ns=3_000 * MS), 5_003 * SECOND)
    assert ahead == 5_003 * SECOND + 50 * MS  # predicted: later than what was seen


def test_commands_from_a_stream_through_a_server_into_a_stream(pylsl: ModuleType, stream: object) -> None:
    with ServerProcess() as server:
        source = [*HPSTM, "source", "lsl", "--stream", SUIT, "--actor", ANNA, "--to", server.in_endpoint]
        sink = [*HPSTM, "sink", "lsl", "--out", server.out_endpoint]
        with Program(source) as first, Program(sink) as second:
            assert first.stdout.readline().startswith(f"ready stream={SUIT}")
            assert second.stdout.readline().startswith("ready")
            assert stream.wait_for_consumers(60)  # type: ignore[attr-defined]
            inlet, got, sent, lsl_s = None, [], 0, pylsl.local_clock()
            while len(got) < 5 and sent < 3000:  # far more than it takes, on a busy machine
                stream.push_sample(standing(sent), lsl_s + sent / 60)  # type: ignore[attr-defined]
                sent += 1
                time.sleep(1 / 60)
                if inlet is not None:
                    sample, at = inlet.pull_sample(0.0)
                    got += [] if sample is None else [(sample, at)]
                elif sent % 20 == 0 and (found := pylsl.resolve_byprop("name", ANNA, timeout=0.1)):
                    inlet = pylsl.StreamInlet(found[0])
                    inlet.open_stream(10)
            assert len(got) == 5
            sample, at = got[-1]
            second.send_signal(signal.SIGINT)
            first.send_signal(signal.SIGINT)
            assert (first.wait(20), second.wait(20)) == (0, 130)
            assert second.stdout.read() == f"{ANNA} -> LSL stream {ANNA}, type MoCap\n"
            assert "layout smpl_22, with rotations" in first.stdout.read()
    assert lsl_s - 0.1 < at < lsl_s + sent / 60 + 1.0
    by = dict(zip((one.label for one in pose_channels()), sample))
    assert by["left_wrist_x"] > by["pelvis_x"] + 0.3
    assert by["status"] in (0, 1)


def test_joints_of_ours_are_in_the_order_of_the_skeleton() -> None:
    assert [one.marker for one in pose_channels()[:192:8]] == list(JOINTS)
