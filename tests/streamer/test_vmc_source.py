"""VMC in: joints of what a performer sends, whatever packets it makes of a frame; its time; what cannot be used."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc.udp_client import SimpleUDPClient
from scipy.spatial.transform import Rotation

from model.layouts import get_layout
from model.skeleton import INDEX, JOINTS, ancestor_matrix
from streamer.errors import ConfigError
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.sinks.vmc import Encoder, VmcSender
from streamer.sources import vmc
from streamer.sources.performer import OF_LATE, Captured, Performer
from streamer.sources.vmc import SenderClock, VmcReceiver
from streamer.wire.osc import parse
from tests.helpers.vmc import OFFSETS, a_pose, any_pose, bundle_of, read, world_of

VRM = get_layout("vrm").joints
REST = ancestor_matrix() @ OFFSETS
OURS = [JOINTS.index(JOINTS[int(j)]) for j in get_layout("vrm").weights.argmax(0)]
UP, IDENTITY = (0.0, 0.9, 0.0), (0.0, 0.0, 0.0, 1.0)
MS = 1_000_000


@pytest.fixture
def receiver() -> Iterator[VmcReceiver]:
    with VmcReceiver(port=0, actor="me") as one:
        yield one


def unity(degrees: float, axis: tuple[int, int, int]) -> tuple[float, ...]:
    """Quaternion.AngleAxis of Unity."""
    half = np.radians(degrees) / 2
    return (*(np.sin(half) * np.array(axis)).tolist(), float(np.cos(half)))


def angle_deg(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def bone(
    name: str, place: Sequence[float] = (0.0, 0.0, 0.0), turn: Sequence[float] = IDENTITY
) -> tuple[str, list[Any]]:
    return "/VMC/Ext/Bone/Pos", [name, *map(float, place), *map(float, turn)]


def body(
    turns: dict[str, Sequence[float]] | None = None, without: Sequence[str] = (), hips: Sequence[float] = UP
) -> list[tuple[str, list[Any]]]:
    """All bones of a performer that sends no positions but the hips', as SlimeVR without a model."""
    names = [name[0].upper() + name[1:] for name in VRM if name not in without]
    return [bone(name, hips if name == "Hips" else (0, 0, 0), (turns or {}).get(name, IDENTITY)) for name in names]


def joints(messages: Sequence[tuple[str, list[Any]]]) -> dict[str, np.ndarray]:
    """VRM's name -> position, of one frame."""
    performer = Performer()
    performer.feed(parse(bundle_of(messages)), 0)
    ((captured,), _) = performer.feed(parse(bundle_of([("/VMC/Ext/Blend/Apply", [])])), 0)
    return dict(zip(VRM, captured.joints()[0]))


# -- joints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_what_goes_out_comes_in_again_over_real_sockets(seed: int, receiver: VmcReceiver) -> None:
    pose = any_pose(seed)
    with VmcSender(port=receiver.port) as sender:
        sender.send(pose)
        frame = receiver.receive(5.0)
    assert frame is not None
    assert (frame.actor, frame.layout, frame.seq) == ("me", "vrm", 0)
    np.testing.assert_allclose(frame.positions, pose.positions[OURS], atol=1e-4)
    performer = Performer()
    (captured,) = [one for packet in Encoder().encode(pose) for one in performer.feed(parse(bytes(packet)), 0)[0]]
    there, back = world_of(list(Rotation.from_quat(pose.rotations))), Rotation.from_quat(captured.joints()[1])
    assert np.degrees(max((there[j].inv() * r).magnitude() for j, r in zip(OURS, back))) < 0.1


def test_left_is_left_and_up_is_up(receiver: VmcReceiver) -> None:
    """As Unity sends it, through python-osc: the left arm raised, which there is about -Z, the head turned left."""
    turns = {"LeftUpperArm": unity(-60, (0, 0, 1)), "Head": unity(-40, (0, 1, 0))}
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        for _, arguments in [
            *body(turns, hips=(-0.5, 0.9, 0.2)),
            *body()[:1],
        ]:  # a bone that comes again ends the frame
            client.send_message("/VMC/Ext/Bone/Pos", arguments)
    frame = receiver.receive(5.0)
    assert frame is not None
    found = dict(zip(VRM, frame.positions))
    np.testing.assert_allclose(found["hips"], [0.5, 0.9, 0.2], atol=1e-6)
    arm = found["leftHand"] - found["leftUpperArm"]
    np.testing.assert_allclose(arm / np.linalg.norm(arm), [0.5, np.sqrt(0.75), 0], atol=1e-6)
    assert found["rightHand"][0] < found["hips"][0] - 0.4
    assert abs(found["rightHand"][1] - found["rightUpperArm"][1]) < 1e-6
    assert found["leftToes"][2] > found["leftFoot"][2] + 0.05

    performer = Performer()
    performer.feed(parse(bundle_of(body(turns))), 0)
    ((captured,), _) = performer.feed(parse(bundle_of([("/VMC/Ext/T", [1.0])])), 0)
    ahead = Rotation.from_quat(captured.joints()[1][VRM.index("head")]).apply([0, 0, 1])
    np.testing.assert_allclose(ahead, [np.sin(np.radians(40)), 0, np.cos(np.radians(40))], atol=1e-6)


def test_the_root_carries_the_hips() -> None:
    found = joints(
        [("/VMC/Ext/Root/Pos", ["root", -1.0, 0.0, 2.0, *unity(90, (0, 1, 0))]), *body(hips=(0.0, 0.9, 1.0))]
    )
    np.testing.assert_allclose(found["hips"], [1.0 - 1.0, 0.9, 2.0], atol=1e-6)  # ahead is now to the right
    assert found["leftHand"][2] > 2.4  # facing right now, left is ahead of before


def test_positions_are_those_of_the_sender_and_without_any_our_rest_pose() -> None:
    np.testing.assert_allclose(np.stack([*joints(body()).values()]), REST[OURS] + UP, atol=1e-6)
    sent = [*body()[:1], bone("LeftUpperLeg", (-0.2, -0.1, 0.0)), bone("LeftLowerLeg", (0.0, -0.6, 0.0))]
    np.testing.assert_allclose(joints(sent)["leftLowerLeg"], [0.2, 0.2, 0.0], atol=1e-6)


def test_a_humanoid_without_what_it_may_lack_stands_as_tall() -> None:
    lacking = ("chest", "upperChest", "neck", "leftShoulder", "rightShoulder", "leftToes", "rightToes")
    found = joints(body({"Spine": unity(90, (0, 0, 1))}, without=lacking))  # bent to its left
    whole = joints(body({"Spine": unity(90, (0, 0, 1))}))
    for name, place in found.items():
        if name in lacking:
            assert np.isnan(place).all()
        else:
            np.testing.assert_allclose(place, whole[name], atol=1e-6)


def test_below_a_bone_that_is_missing_nothing_is_placed() -> None:
    found = joints(body(without=("spine", "leftLowerArm", "rightLowerLeg")))
    assert {name for name, place in found.items() if np.isfinite(place).all()} == {
        "hips", "leftUpperLeg", "rightUpperLeg", "leftLowerLeg", "leftFoot", "leftToes"
    }  # fmt: skip


def test_names_as_vrm_writes_them_and_fingers_are_no_fault() -> None:
    small = [bone("leftUpperLeg", (-0.3, 0, 0)), bone("LeftIndexProximal"), bone("rightEye"), bone("Jaw")]
    _, faults = Performer().feed(parse(bundle_of([*body()[:1], *small])), 0)
    assert not faults
    np.testing.assert_allclose(joints([*body()[:1], *small])["leftUpperLeg"], [0.3, 0.9, 0.0], atol=1e-6)


# -- rotations --------------------------------------------------------------------------------------------------------


def performed(receiver: VmcReceiver, turns: dict[str, Sequence[float]], seconds: float = 1.0) -> list[Frame]:
    """Somebody who sways and keeps some bones turned, as python-osc sends it, 60 times a second."""
    frames = []
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        for n in range(round(60 * seconds)):
            sway = (0.01 * np.sin(n / 9), 0.9, 0.0)
            messages = [*body(turns, hips=sway), ("/VMC/Ext/Blend/Apply", [])]
            for address, arguments in messages:
                client.send_message(address, arguments)
            frame = receiver.receive(5.0)
            assert frame is not None
            frames.append(replace(frame, t_ns=n * 16_666_667))  # as if they had come at this rate
    return frames


def test_twists_that_a_performer_sends_are_published(receiver: VmcReceiver) -> None:
    """Turns that no joint shows: the head to its left, forearm and thigh about their own bones, a thumb up."""
    turns = {
        "Head": unity(-40, (0, 1, 0)),
        "LeftLowerArm": unity(70, (1, 0, 0)),
        "RightUpperLeg": unity(-30, (0, 1, 0)),
        "RightHand": unity(-90, (1, 0, 0)),
    }
    frames, pose_filter = performed(receiver, turns), PoseFilter.load()
    pose = [pose_filter.push(frame) for frame in frames][-1]
    world = world_of([Rotation.from_quat(q) for q in pose.rotations])
    sin, cos = np.sin(np.radians(40)), np.cos(np.radians(40))
    assert angle_deg(world[INDEX["head"]].apply([0, 0, 1]), [sin, 0, cos]) < 3  # ours: left is +X
    back = world[INDEX["left_elbow"]].apply([0, 1, 0])  # a turn about x is the same in Unity's axes and ours
    assert angle_deg(back, [0, np.cos(np.radians(70)), np.sin(np.radians(70))]) < 4
    toes = world[INDEX["right_hip"]].apply([0, 0, 1])
    assert angle_deg(toes, [0.5, 0, np.sqrt(0.75)]) < 5
    assert angle_deg(world[INDEX["right_elbow"]].apply([0, 1, 0]), [0, 1, 0]) < 4
    thumb = world[INDEX["right_wrist"]].apply([0, 0, 1])  # VRM's has no joint beyond a wrist: where the hand points is
    assert angle_deg(thumb, [0, 1, 0]) < 12  # the network's guess, how it is turned about that is not

    plain = PoseFilter.load().push(replace(frames[-1], rotations=None))
    blind = world_of([Rotation.from_quat(q) for q in plain.rotations])
    assert angle_deg(blind[INDEX["head"]].apply([0, 0, 1]), [sin, 0, cos]) > 20  # positions alone do not show it


def test_bones_that_are_missing_have_no_rotation(receiver: VmcReceiver) -> None:
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        for address, arguments in [*body(without=("leftLowerArm",)), ("/VMC/Ext/Blend/Apply", [])]:
            client.send_message(address, arguments)
    frame = receiver.receive(5.0)
    assert frame is not None
    assert frame.rotations is not None
    known = {name for name, q in zip(VRM, frame.rotations) if np.isfinite(q).all()}
    assert known == set(VRM) - {"leftLowerArm", "leftHand"}


def test_rotations_relative_to_another_pose_are_not_believed_and_it_is_said(receiver: VmcReceiver) -> None:
    """A model whose bones lie along their own Y, as many do: its places say so."""
    own = [bone("LeftLowerArm", (0, 0.25, 0)) if one[1][0] == "LeftLowerArm" else one for one in body()]
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        for address, arguments in [*own, ("/VMC/Ext/Blend/Apply", [])]:
            client.send_message(address, arguments)
    frame = receiver.receive(5.0)
    assert frame is not None
    assert frame.rotations is None
    assert "not used: rotations from another rest pose than a T-pose (1)" in receiver.status()


# -- frames -----------------------------------------------------------------------------------------------------------


def frame_of(n: int) -> list[tuple[str, list[Any]]]:
    """A body whose every bone says which frame it is of."""
    mark = (float(n + 1), 0.0, 0.0)
    return [("/VMC/Ext/Root/Pos", ["root", *mark, *IDENTITY]), *(bone(one[1][0], mark) for one in body())]


def numbers_of(captured: Sequence[Captured]) -> list[set[int]]:
    return [{round(-bone[0]) - 1 for bone in one.bones.values()} for one in captured]


@cache
def packets_of(style: str, n: int) -> list[bytes]:
    """A frame as different programs send it."""
    root, *bones = frame_of(n)
    ok, time, apply = ("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [n / 60]), ("/VMC/Ext/Blend/Apply", [])
    face = ("/VMC/Ext/Blend/Val", ["Joy", 0.5])
    groups = {
        "one bundle, as SlimeVR": [[time, ok, root, *bones]],
        "one bundle of bones, the rest alone, as the protocol's sample": [[root], bones, [face, apply], [ok], [time]],
        "several bundles": [[root], bones[:9], bones[9:18], bones[18:], [face, apply], [ok], [time]],
        "as ours": [[ok, time, root, *bones[:15]], [*bones[15:], apply]],
        "each message alone": [[one] for one in (ok, root, *bones, time)],
        "no marks, each bone alone": [[one] for one in bones],
        "no marks, two bundles": [bones[:11], bones[11:]],
    }
    return [bundle_of(group) for group in groups[style]]


STYLES = (
    "one bundle, as SlimeVR", "one bundle of bones, the rest alone, as the protocol's sample", "several bundles",
    "as ours", "each message alone", "no marks, each bone alone", "no marks, two bundles",
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_each_frame_is_whole_and_ends_with_its_last_bone(style: str) -> None:
    performer, ended = Performer(), []
    for n in range(6):
        packets = packets_of(style, n)
        last_bone = max(k for k, packet in enumerate(packets) if b"Bone/Pos" in packet)
        for k, packet in enumerate(packets):
            found, faults = performer.feed(parse(packet), 1000 * n + k)
            assert not faults
            ended += found
            if n > 1 and k == last_bone:
                assert found  # as soon as it can
                assert found[-1].arrived_ns == 1000 * n + k
    assert numbers_of(ended) == [{n} for n in range(6)]
    assert all(len(one.bones) >= 22 for one in ended)


@pytest.mark.parametrize("style", STYLES[:5])
@given(lost=st.sets(st.integers(0, 300)), first=st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_no_frame_is_made_of_two_whatever_is_lost(style: str, lost: set[int], first: int) -> None:
    """And every frame of which nothing was lost comes out. Where the sender marks its frames, and its marks arrive."""
    performer, ended, whole, k = Performer(), [], set(), 0
    for n in range(12):
        packets = packets_of(style, n)
        marks = [k + i for i, packet in enumerate(packets) if b"Ext/T" in packet or b"Apply" in packet]
        gone = {k + i for i in range(len(packets)) if k + i < first or k + i in lost} - set(marks)
        whole |= {n} if not gone else set()
        for packet in packets:
            if k not in gone:
                ended += performer.feed(parse(packet), k)[0]
            k += 1
    ended += performer.feed(parse(packets_of(style, 99)[0]), k)[0]
    ended += performer.feed(parse(bundle_of([("/VMC/Ext/T", [9.0])])), k)[0]
    found = [one for one in numbers_of(ended) if one != {99}]
    assert all(len(one) == 1 for one in found)
    assert whole <= {n for one in found for n in one}


def test_a_frame_that_lost_a_packet_shows_it_and_the_next_one_is_as_soon() -> None:
    performer, ended = Performer(), []
    for n in range(8):
        for k, packet in enumerate(packets_of("as ours", n)):
            if (n, k) != (4, 1):
                ended += performer.feed(parse(packet), 1000 * n + k)[0]
    assert [one.arrived_ns for one in ended] == [1, 1001, 2001, 3001, 4000, 5001, 6001, 7001]
    seen = [np.isfinite(one.joints()[0][:, 0]).sum() for one in ended]
    assert seen == [22] * 4 + [seen[4]] + [22] * 3
    assert seen[4] < 22


def test_bones_that_are_sent_no_more_are_not_waited_for() -> None:
    performer, ended = Performer(), []
    for n in range(OF_LATE + 9):
        bones = frame_of(n)[: 23 if n < 4 else 20]
        before = len(ended)
        ended += performer.feed(parse(bundle_of(bones)), n)[0]
    assert len(ended) == before + 1  # at once again
    assert ended[-1].arrived_ns == n
    assert numbers_of(ended) == [{n} for n in range(OF_LATE + 9)]


# -- time -------------------------------------------------------------------------------------------------------------


def test_times_are_the_sender_s_where_it_says_them_with_its_bones() -> None:
    rng, clock = random.Random(1), SenderClock()
    stamps = [clock.stamp(np.float32(n / 60 + 5), 10**12 + n * 16_666_667 + rng.randrange(9 * MS)) for n in range(600)]
    steps = np.diff(stamps[60:])
    assert clock.used
    assert np.abs(steps - 16_666_667).max() < 1.5 * MS  # once the least delay is known, and to a float's precision
    assert abs(stamps[-1] - 10**12 - 599 * 16_666_667) < MS


@pytest.mark.parametrize(
    "said",
    [lambda n: None, lambda n: 3.0, lambda n: n / 30, lambda n: n * 16.7, lambda n: -1.0, lambda n: 9000 + n / 60],
    ids=["nothing", "one time", "half", "milliseconds", "negative", "too long ago for a float"],
)
def test_a_clock_that_is_none_is_not_believed(said: Any) -> None:
    clock = SenderClock()
    arrived = [10**12 + n * 16_666_667 for n in range(600)]
    stamps = [clock.stamp(said(n), at) for n, at in enumerate(arrived)]
    assert max(abs(a - b) for a, b in zip(stamps, arrived)) <= vmc.LATE_NS
    assert min(np.diff(stamps)) > 0


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(allow_nan=True, width=32)), st.integers(0, 10**9)), max_size=50)
)
def test_stamps_rise_whatever_the_sender_says(frames: list[tuple[float | None, int]]) -> None:
    clock, now, stamps = SenderClock(), 10**12, []
    for said, step in frames:
        now += step
        stamps.append(clock.stamp(said, now))
    assert all(b > a for a, b in pairwise(stamps))
    assert all(abs(stamp - 10**12) <= 50 * 10**9 for stamp in stamps)


# -- what cannot be used ----------------------------------------------------------------------------------------------


def sent_to(receiver: VmcReceiver, *packets: bytes, source: socket.socket | None = None) -> list[Frame]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for packet in packets:
            (source or one).sendto(packet, ("127.0.0.1", receiver.port))
        frames = []
        while (frame := receiver.receive(0.05)) is not None:
            frames.append(frame)
    return frames


def test_what_cannot_be_used_is_counted_by_name_and_said(receiver: VmcReceiver) -> None:
    assert receiver.status() == f"nothing has come to UDP port {receiver.port}"
    good = packets_of("one bundle, as SlimeVR", 0)[0]
    bad = [("/VMC/Ext/Bone/Pos", ["Hips", 1.0]), bone("Hips", turn=(0, 0, 0, 0)), bone("Hips", (float("nan"), 0, 0)),
           bone("Tail"), ("/avatar/parameters/X", [1.0]), ("/VMC/Ext/Bone/Pos", [1.0] * 8), ("/VMC/Ext/Hmd/Pos", ["x"]),
           ("/VMC/Ext/T", []), bone("Spine", (1e38, 0, 0))]  # fmt: skip
    assert not sent_to(receiver, good[:-4], b"nonsense", b"", bundle_of(bad))
    assert sum(receiver.broken.values()) == 8
    assert dict(receiver.unknown) == {"bone Tail": 1, "/avatar/parameters/X": 1}
    said = receiver.status()
    for what in ("0 frames", "truncated", "/VMC/Ext/Bone/Pos Hips", "bone Tail (1)", "/avatar/parameters/X (1)"):
        assert what in said
    assert len(said.splitlines()) == 1


def test_a_flood_of_what_is_no_frame_does_not_keep_the_reader(receiver: VmcReceiver) -> None:
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        for _ in range(50):
            client.send_message("/noise", 1)
    assert receiver.receive(0.0) is None
    assert receiver.unknown.total() == 1


def test_names_without_end_are_not_remembered_without_end(receiver: VmcReceiver) -> None:
    packets = [bundle_of([(f"/never/{50 * n + k}", []) for k in range(50)]) for n in range(10)]
    sent_to(receiver, *packets)
    assert receiver.unknown.total() == 500
    assert len(receiver.unknown) <= vmc.MOST_KINDS + 1
    assert "others" in receiver.status()


def test_another_sender_is_not_mixed_in_and_follows_when_the_first_has_stopped(
    receiver: VmcReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [packet for n in range(3) for packet in packets_of("as ours", n)]
    theirs = [packet for n in range(3) for packet in packets_of("as ours", 50 + n)]
    face = bundle_of([("/VMC/Ext/Blend/Val", ["Joy", 1.0]), ("/VMC/Ext/Blend/Apply", []), ("/VMC/Ext/T", [7.0])])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as me,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as they,
    ):
        frames = []
        for a, b in zip(mine, theirs):
            frames += sent_to(receiver, a, source=me)
            frames += sent_to(receiver, face, b, source=they)
        assert [round(frame.positions[0, 0]) for frame in frames] == [-2, -4, -6]  # root and hips: both say n + 1
        assert "of another sender" in receiver.status()
        monkeypatch.setattr(vmc, "QUIET_NS", 0)
        frames = sent_to(receiver, *theirs, source=they)
        assert [round(frame.positions[0, 0]) for frame in frames] == [-102, -104, -106]
        assert f":{they.getsockname()[1]}: 6 frames, 22 bones" in receiver.status()


def test_frames_of_a_person_who_is_lost_or_without_hips_are_not_used(receiver: VmcReceiver) -> None:
    lost = bundle_of([("/VMC/Ext/OK", [1, 3, 0, 0]), *body(), ("/VMC/Ext/Blend/Apply", [])])
    found = bundle_of([("/VMC/Ext/OK", [1, 3, 0, 1]), *body(), ("/VMC/Ext/Blend/Apply", [])])
    without = bundle_of([*body()[1:], ("/VMC/Ext/Blend/Apply", [])])
    only_root = bundle_of([frame_of(0)[0], ("/VMC/Ext/Blend/Apply", [])])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as me:
        assert len(sent_to(receiver, lost, found, without, only_root, source=me)) == 1
    assert sorted(receiver.unused.values()) == [1, 1]
    assert "tracking is bad" in receiver.status()
    assert "without the bone Hips" in receiver.status()


def test_a_lost_actor_of_ours_makes_no_frame(receiver: VmcReceiver) -> None:
    with VmcSender(port=receiver.port) as sender:
        sender.send(a_pose())
        assert receiver.receive(5.0) is not None
        sender.send(a_pose(n=1, status="lost"))
        assert receiver.receive(0.05) is None
        sender.send(a_pose(n=2))
        assert receiver.receive(5.0) is not None
    assert not receiver.unused + receiver.unknown + receiver.broken


def test_a_port_that_is_taken_is_one_line(receiver: VmcReceiver) -> None:
    with pytest.raises(ConfigError, match=f"UDP port {receiver.port} .*--port"):
        VmcReceiver(receiver.port)


def test_python_osc_reads_every_packet_of_a_long_stream() -> None:
    encoder, n = Encoder(), 0
    for n in range(50):
        bones = [m for packet in encoder.encode(any_pose(n, n=n)) for m in read(bytes(packet)) if "Bone" in m[0]]
        assert len(bones) == 22
