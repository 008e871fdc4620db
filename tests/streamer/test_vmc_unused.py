"""VMC in: what cannot be used is counted, named and said; who else sends; who is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from pythonosc.udp_client import SimpleUDPClient

from streamer.errors import ConfigError
from streamer.frames import Frame
from streamer.sinks.vmc import VmcSender
from streamer.sources import vmc
from streamer.sources.vmc import VmcReceiver
from tests.helpers.vmc import a_pose, body, bone, bundle_of, frame_of, packets_of


@pytest.fixture
def receiver() -> Iterator[VmcReceiver]:
    with VmcReceiver(port=0, actor="me") as one:
        yield one


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
