"""What the tests of VMC share: poses by their rotations, what performers send, and python-osc, written by others."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from scipy.spatial.transform import Rotation

from model.layouts import get_layout
from model.skeleton import INDEX, PARENTS, J, rest_offsets
from streamer.frames import Pose, Status
from tests.helpers.reference import forward_kinematics

OFFSETS = rest_offsets()
NOBODY = ("127.0.0.1", 9)  # the port of "discard", at which nobody listens
VRM = get_layout("vrm").joints
UP, IDENTITY = (0.0, 0.9, 0.0), (0.0, 0.0, 0.0, 1.0)


def a_pose(
    turns: Mapping[str, Rotation] | None = None, root: Sequence[float] = (0.0, 0.9, 0.0), offsets: np.ndarray = OFFSETS,
    actor: str = "a", n: int = 0, status: Status = "tracking",
) -> Pose:  # fmt: skip
    """A pose of the skeleton, its joints turned (parent_from_joint) as ``turns`` says, in float64."""
    local = [(turns or {}).get(name, Rotation.identity()) for name in INDEX]
    world = world_of(local)
    positions = forward_kinematics(np.array([r.as_matrix() for r in world]), offsets, np.array(root))
    return Pose(
        actor=actor, seq=n, t_ns=n * 16_666_667, status=status, positions=positions, root=np.array(root),
        rotations=np.array([r.as_quat() for r in local]), lengths_m=np.linalg.norm(offsets, axis=-1), offsets_m=offsets,
        covariance=np.zeros((J, 3, 3)), contact=np.zeros(2),
    )  # fmt: skip


def world_of(local: Sequence[Rotation]) -> list[Rotation]:
    """world_from_joint of each joint, from parent to child."""
    out: list[Rotation] = []
    for joint, turn in enumerate(local):
        out.append(turn if PARENTS[joint] < 0 else out[PARENTS[joint]] * turn)
    return out


def any_pose(seed: int, **changes: Any) -> Pose:
    """Every joint turned by anything, a body like no other, somewhere."""
    rng = np.random.default_rng(seed)
    turns = dict(zip(INDEX, Rotation.random(J, random_state=seed)))
    offsets = OFFSETS * rng.uniform(0.7, 1.3, (J, 1)) + rng.normal(0.0, 0.02, (J, 3))
    return a_pose(turns, root=rng.normal(0.0, 2.0, 3), offsets=offsets, **changes)


def bundle_of(messages: Sequence[tuple[str, Sequence[Any]]]) -> bytes:
    """A bundle as python-osc builds it."""
    builder = OscBundleBuilder(IMMEDIATELY)
    for address, arguments in messages:
        one = OscMessageBuilder(address)
        for value in arguments:
            one.add_arg(value)
        builder.add_content(one.build())
    return bytes(builder.build().dgram)


def read(packet: bytes) -> list[tuple[str, list[Any]]]:
    """Messages of a packet as python-osc reads them."""
    found = list(OscBundle(packet)) if OscBundle.dgram_is_bundle(packet) else [OscMessage(packet)]
    assert all(isinstance(one, OscMessage) for one in found)
    return [(one.address, list(one.params)) for one in found]


class Listener:
    """A UDP port of this machine, and the messages that come there."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def packet(self, timeout_s: float = 5.0) -> bytes | None:
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(65_535)
        except (TimeoutError, BlockingIOError):
            return None

    def messages(self, packets: int = 2) -> list[tuple[str, list[Any]]]:
        """Of so many packets, which must come."""
        found: list[tuple[str, list[Any]]] = []
        for _ in range(packets):
            packet = self.packet()
            assert packet is not None
            found += read(packet)
        return found

    def bones(self, packets: int = 2) -> dict[str, np.ndarray]:
        """Unity's name of each bone -> its 7 numbers."""
        return {a[0]: np.array(a[1:]) for name, a in self.messages(packets) if name == "/VMC/Ext/Bone/Pos"}

    def close(self) -> None:
        self._socket.close()


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


def frame_of(n: int) -> list[tuple[str, list[Any]]]:
    """A body whose every bone says which frame it is of."""
    mark = (float(n + 1), 0.0, 0.0)
    return [("/VMC/Ext/Root/Pos", ["root", *mark, *IDENTITY]), *(bone(one[1][0], mark) for one in body())]


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
