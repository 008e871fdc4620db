"""VMC in: joints and rotations of what a performer sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pythonosc.udp_client import SimpleUDPClient
from scipy.spatial.transform import Rotation

from model.layouts import get_layout
from model.skeleton import INDEX, JOINTS, ancestor_matrix
from streamer.filter import PoseFilter
from streamer.frames import Frame
from streamer.sinks.vmc import Encoder, VmcSender
from streamer.sources.performer import Performer
from streamer.sources.vmc import VmcReceiver
from streamer.wire.osc import parse
from tests.helpers.vmc import OFFSETS, UP, VRM, any_pose, body, bone, bundle_of, read, world_of

REST = ancestor_matrix() @ OFFSETS
OURS = [JOINTS.index(JOINTS[int(j)]) for j in get_layout("vrm").weights.argmax(0)]


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


def test_python_osc_reads_every_packet_of_a_long_stream() -> None:
    encoder, n = Encoder(), 0
    for n in range(50):
        bones = [m for packet in encoder.encode(any_pose(n, n=n)) for m in read(bytes(packet)) if "Bone" in m[0]]
        assert len(bones) == 22
