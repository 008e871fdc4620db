"""SONIC's end of the pose stream, written from its own: what its reader takes, what its sender would have sent.

From github.com/NVlabs/GR00T-WholeBodyControl, whose licence for code is Apache-2.0; nothing of it is copied:
input_interface/zmq_packed_message_subscriber.hpp (the frame), zmq_endpoint_interface.hpp (what version 3 must hold),
streamed_motion_merger.hpp (when playback jumps), gear_sonic/scripts/pico_manager_thread_server.py (the human, wrists).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

HEADER = 1280
SIZES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "i16": 2, "f16": 2, "i8": 1, "u8": 1, "bool": 1}
# Parents of SMPL-X's joints: body, jaw and eyes, five fingers of each hand.
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
PARENTS += [parent for wrist, first in ((20, 25), (21, 40)) for n in range(first, first + 15, 3)
            for parent in (wrist, n, n + 1)]  # fmt: skip
CHOSEN = [*range(22), 39, 54]


def unpacked(frame: bytes, topic: bytes = b"pose") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a message, as their subscriber parts it."""
    assert frame.startswith(topic)
    rest = frame[len(topic) :]
    assert len(rest) >= HEADER
    header = json.loads(rest[:HEADER].split(b"\0", 1)[0])
    assert set(rest[:HEADER].split(b"\0", 1)[1]) <= {0}
    at, arrays = HEADER, {}
    for one in header["fields"]:
        size = int(np.prod(one["shape"])) * SIZES[one["dtype"]]
        assert at + size <= len(rest)
        kind = np.dtype(one["dtype"][0] + str(SIZES[one["dtype"]])).newbyteorder(
            "<" if header["endian"] == "le" else ">"
        )
        arrays[one["name"]] = np.frombuffer(rest[at : at + size], kind).reshape(one["shape"])
        at += size
    assert at == len(rest)
    return header, arrays


def checked(frame: bytes) -> dict[str, np.ndarray]:
    """The arrays of a message of version 3 that holds what their endpoint asks for."""
    header, arrays = unpacked(frame)
    assert header["v"] == 3
    n = len(arrays["smpl_joints"])
    assert n > 0
    assert arrays["smpl_joints"].shape == (n, 24, 3)
    assert arrays["smpl_pose"].shape == (n, 21, 3)
    assert arrays["joint_pos"].shape == arrays["joint_vel"].shape == (n, 29)
    assert arrays["body_quat"].shape == (n, 4)
    assert arrays["frame_index"].shape == (n,)
    assert arrays["frame_index"].dtype in (np.dtype("<i8"), np.dtype("<i4"))
    assert all(np.isfinite(array).all() for array in arrays.values())
    return arrays


@dataclass
class Player:
    """Frames that a robot would play, merged as theirs; and how often it jumped to what came."""

    frames: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    jumps: int = 0

    def take(self, frame: bytes) -> None:
        arrays = checked(frame)
        first, last = int(arrays["frame_index"][0]), int(arrays["frame_index"][-1])
        assert (np.diff(arrays["frame_index"]) == 1).all()
        if not self.frames or first <= min(self.frames) or last <= max(self.frames) or first > max(self.frames) + 1:
            self.jumps += 1  # "catch-up"
        for n, index in enumerate(arrays["frame_index"]):
            self.frames[int(index)] = {name: value[n] for name, value in arrays.items() if len(value) > 1}

    def track(self, name: str) -> np.ndarray:
        return np.stack([self.frames[index][name] for index in sorted(self.frames)])


def as_theirs(smpl_pose: np.ndarray, root: Rotation, human: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """body_quat wxyz, smpl_joints (24, 3) and joint_pos (29,) that their sender makes of SMPL's rotations.

    Args:
        smpl_pose: (21, 3) axis-angle. root: of SMPL, Y up. human: (55, 3) its joints in the rest pose.
    """
    up = Rotation.from_rotvec([np.pi / 2, 0, 0]) * root
    local = [up, *Rotation.from_rotvec(smpl_pose), *[Rotation.identity()] * 33]
    world, places = [], []
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            world.append(local[joint])
            places.append(human[joint])
        else:
            world.append(world[parent] * local[joint])
            places.append(places[parent] + world[parent].apply(human[joint] - human[parent]))
    body = up * Rotation.from_quat([0.5, 0.5, 0.5, 0.5]).inv()
    wrists = np.zeros(29)
    for elbow, wrist, sign, roll, pitch, yaw in ((17, 19, 1, 23, 25, 27), (18, 20, -1, 24, 26, 28)):
        x, y, z, w = Rotation.from_rotvec(smpl_pose[elbow]).as_quat()
        swing = Rotation.from_quat([0, y, 0, w]).inv() * Rotation.from_quat([x, y, z, w])
        forearm, hand = swing.as_euler("XYZ"), Rotation.from_rotvec(smpl_pose[wrist]).as_euler("XYZ")
        wrists[[roll, pitch, yaw]] = sign * (forearm[0] + hand[0]), sign * hand[1], forearm[2] + hand[2]
    x, y, z, w = body.as_quat()
    return np.array([w, x, y, z]), body.inv().apply(np.array(places)[CHOSEN]), wrists
