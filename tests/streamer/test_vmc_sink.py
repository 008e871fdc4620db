"""VMC out: what python-osc reads of it is the pose, in Unity's axes; who goes where; nobody has to listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from timeit import repeat

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.skeleton import INDEX
from streamer.errors import ConfigError
from streamer.sinks import vmc
from streamer.sinks.vmc import Encoder, Receivers, VmcSender
from streamer.wire.endpoints import host_and_port
from tests.helpers.vmc import NOBODY, OFFSETS, Listener, a_pose, any_pose, read

# Unity's humanoid and whose rotation each bone has, by hand: https://docs.unity3d.com/ScriptReference/HumanBodyBones.html
TORSO = {"Hips": "pelvis", "Spine": "spine1", "Chest": "spine2", "UpperChest": "spine3", "Neck": "neck", "Head": "head"}
SIDES = {"Shoulder": "collar", "UpperArm": "shoulder", "LowerArm": "elbow", "Hand": "wrist",
         "UpperLeg": "hip", "LowerLeg": "knee", "Foot": "ankle", "Toes": "foot"}  # fmt: skip
UNITY = TORSO | {
    f"{side}{bone}": f"{side.lower()}_{joint}" for bone, joint in SIDES.items() for side in ("Left", "Right")
}
ARM_UP = Rotation.from_euler("z", 60, degrees=True)  # about the axis ahead: +X, the left arm, towards +Y
HEAD_LEFT = Rotation.from_euler("y", 40, degrees=True)  # +Z, ahead, towards +X, left


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


def turned(bone: np.ndarray, vector: tuple[float, float, float]) -> np.ndarray:
    """A vector turned by a bone's quaternion: the formula is the same in Unity's axes as in any."""
    return np.asarray(Rotation.from_quat(bone[3:]).apply(vector))


def test_two_packets_hold_the_whole_pose_and_travel_in_one_piece(listener: Listener) -> None:
    with VmcSender(port=listener.port) as sender:
        sender.send(any_pose(1))
    packets = [listener.packet(), listener.packet()]
    assert listener.packet(0.0) is None
    assert all(packet is not None and len(packet) <= 1472 for packet in packets)
    messages = [message for packet in packets for message in read(packet or b"")]
    assert [address for address, _ in messages] == [
        "/VMC/Ext/OK", "/VMC/Ext/T", "/VMC/Ext/Root/Pos", *["/VMC/Ext/Bone/Pos"] * 22, "/VMC/Ext/Blend/Apply"
    ]  # fmt: skip
    assert messages[0][1] == [1, 3, 0, 1]
    assert messages[2][1] == ["root", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert {arguments[0] for address, arguments in messages[3:-1]} == set(UNITY)
    assert all(len(arguments) == 8 for address, arguments in messages[3:-1])


def test_numbers_are_the_pose_in_the_axes_of_unity(listener: Listener) -> None:
    pose = any_pose(2)
    with VmcSender(port=listener.port) as sender:
        sender.send(pose)
    bones = listener.bones()
    for bone, joint in UNITY.items():
        j = INDEX[joint]
        x, y, z = pose.root if bone == "Hips" else pose.offsets_m[j]
        qx, qy, qz, qw = pose.rotations[j]
        np.testing.assert_allclose(bones[bone], [-x, y, z, qx, -qy, -qz, qw], atol=1e-6)


def test_left_is_left_and_up_is_up_in_unity(listener: Listener) -> None:
    """There left is -X and ahead +Z, and a T-pose has the left hand at -X."""
    with VmcSender(port=listener.port) as sender:
        sender.send(a_pose({"left_shoulder": ARM_UP, "head": HEAD_LEFT}))
    bones = listener.bones()
    np.testing.assert_allclose(turned(bones["LeftUpperArm"], (-1, 0, 0)), [-0.5, np.sqrt(0.75), 0], atol=1e-6)
    np.testing.assert_allclose(turned(bones["Head"], (0, 0, 1))[[0, 2]], [-np.sin(0.6981), np.cos(0.6981)], atol=1e-4)
    np.testing.assert_allclose(turned(bones["RightUpperArm"], (1, 0, 0)), [1, 0, 0], atol=1e-6)
    assert bones["LeftLowerArm"][0] < -0.2 < 0.2 < bones["RightLowerArm"][0]
    assert bones["LeftLowerLeg"][1] < -0.3


def test_positions_of_the_hips_only_where_receivers_want_that(listener: Listener) -> None:
    with VmcSender(port=listener.port, bone_positions="hips") as sender:
        sender.send(a_pose(root=(1.0, 2.0, 3.0)))
    bones = listener.bones()
    np.testing.assert_allclose(bones.pop("Hips")[:3], [-1.0, 2.0, 3.0])
    assert all((bone[:3] == 0).all() for bone in bones.values())


def test_an_avatar_without_upper_chest_holds_its_head_and_arms_as_one_with_it(listener: Listener) -> None:
    pose = any_pose(4)
    with VmcSender(port=listener.port) as whole, VmcSender(port=listener.port, upper_chest=False) as lacking:
        whole.send(pose)
        lacking.send(pose)
    one, other = listener.bones(), listener.bones()
    upper = one.pop("UpperChest")
    assert set(other) == set(one)
    wanted = Rotation.from_quat(one["Chest"][3:]) * Rotation.from_quat(upper[3:])
    assert (wanted.inv() * Rotation.from_quat(other["Chest"][3:])).magnitude() < 1e-6
    for name in ("Neck", "LeftShoulder", "RightShoulder"):
        np.testing.assert_allclose(other[name], [*one[name][:3] + upper[:3], *one[name][3:]], atol=1e-6)
    for name in set(one) - {"Chest", "Neck", "LeftShoulder", "RightShoulder"}:
        np.testing.assert_array_equal(other[name], one[name])


def test_other_offsets_than_the_pose_has(listener: Listener) -> None:
    with VmcSender(port=listener.port) as sender:
        sender.send(a_pose(), 2 * OFFSETS)
    np.testing.assert_allclose(listener.bones()["LeftFoot"][:3], [0, 2 * OFFSETS[INDEX["left_ankle"], 1], 0], atol=1e-6)


def test_a_lost_actor_is_said_and_sends_no_bones(listener: Listener) -> None:
    with VmcSender(port=listener.port) as sender:
        sender.send(a_pose(status="calibrating"))
        sender.send(a_pose(status="lost", n=1))
        sender.send(a_pose(n=2))
    assert listener.messages()[0] == ("/VMC/Ext/OK", [1, 2, 0, 1])
    assert listener.messages(1)[0] == ("/VMC/Ext/OK", [1, 3, 0, 0])
    assert listener.packet(0.0) is not None
    assert [address for address, _ in listener.messages(1)][-1] == "/VMC/Ext/Blend/Apply"
    assert sender.sent == 3


def test_time_is_the_pose_s_from_the_first_on_and_begins_again_with_a_new_clock(listener: Listener) -> None:
    with VmcSender(port=listener.port) as sender:
        for n in (1_000_000, 1_000_060, 3):  # 16.7 ms each; then the source's clock begins again
            sender.send(a_pose(n=n))
    assert [listener.messages()[1][1][0] for _ in range(3)] == [pytest.approx(t, abs=1e-4) for t in (0.0, 1.0, 0.0)]


def test_a_receiver_that_is_not_there_costs_nothing() -> None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    with VmcSender(port=port) as sender:
        for n in range(200):
            sender.send(a_pose(n=n))
    assert (sender.sent, sender.failed) == (200, 0)


def test_a_packet_that_cannot_leave_is_counted_with_its_reason() -> None:
    said: list[str] = []
    with VmcSender(*NOBODY) as sender:
        receivers = Receivers([sender], (), said.append)
        sender.close()
        for n in range(3):
            receivers.send(a_pose(n=n))
    assert (sender.sent, sender.failed) == (0, 3)
    assert "descriptor" in sender.why
    assert said == ["a -> 127.0.0.1:9", f"a -> 127.0.0.1:9: cannot be sent ({sender.why})"]


def test_each_actor_has_a_receiver_of_its_own_and_who_has_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners, said = [Listener(), Listener()], []
    senders = [VmcSender(port=one.port) for one in listeners]
    receivers = Receivers(senders, (), said.append)
    for n in range(3):
        for actor, x in (("b", 1.0), ("a", 2.0), ("c", 3.0)):
            receivers.send(a_pose(actor=actor, root=(x, 1.0, 0.0), n=n))
    for one, x in zip(listeners, (1.0, 2.0)):
        assert [one.bones()["Hips"][0] for _ in range(3)] == [-x] * 3
        assert one.packet(0.0) is None
    first, second = (f"127.0.0.1:{one.port}" for one in listeners)
    assert said == [f"b -> {first}", f"a -> {second}", "c: no receiver is left for it; give another --to"]
    monkeypatch.setattr(vmc, "LEFT_NS", -1)  # and so all are gone by now
    receivers.send(a_pose(actor="c", root=(3.0, 1.0, 0.0)))
    assert said[-1] == f"c -> {first}"
    assert listeners[0].bones()["Hips"][0] == -3.0
    for one in [*senders, *listeners]:
        one.close()


def test_actors_go_where_they_are_told_to(listener: Listener) -> None:
    said: list[str] = []
    with VmcSender(port=listener.port) as sender:
        receivers = Receivers([sender], ["me"], said.append)
        receivers.send(a_pose(actor="other"))
        receivers.send(a_pose(actor="me"))
        assert listener.bones()
        assert listener.packet(0.0) is None
        with pytest.raises(ConfigError, match="as many --actor as --to"):
            Receivers([sender], ["a", "b"], said.append)
        with pytest.raises(ConfigError, match="twice"):
            Receivers([sender, sender], ["a", "a"], said.append)
    assert said == [f"me -> 127.0.0.1:{listener.port}"]


@pytest.mark.parametrize(
    "address", ["39539", "host:", ":1", "host:x", "host:0", "host:70000", "udp://host:1", "h:9999999"]
)
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        host_and_port(address)


def test_addresses() -> None:
    assert host_and_port("127.0.0.1:39539") == ("127.0.0.1", 39539)
    assert host_and_port("[::1]:1") == ("::1", 1)


@pytest.mark.timed
def test_encoding_a_pose_takes_some_microseconds() -> None:
    encoder, pose = Encoder(), any_pose(3)
    assert min(repeat(lambda: encoder.encode(pose), number=50, repeat=200)) / 50 < 10e-6
