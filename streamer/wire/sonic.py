"""The packed messages that SONIC's deployment reads from ZeroMQ: a topic, a header of JSON, arrays.

    pose | {"v":3,"endian":"le","count":1,"fields":[{"name":...,"dtype":"f32","shape":[5,24,3]}, ...]} NUL ... | arrays

One frame of ZeroMQ: the topic (no NUL behind it), the header in exactly 1,280 bytes, then the arrays one behind the
other in the header's order, row-major and little-endian. Version 3 of the pose stream, N frames a message:

    body_quat            f32 [N, 4]      the root in the world, Z up, SMPL's base rotation taken off; wxyz
    frame_index          i64 [N]         rises by one a frame, 50 a second
    smpl_joints          f32 [N, 24, 3]  joints of their human in the root's axes [m]
    smpl_pose            f32 [N, 21, 3]  rotations of joints 1 to 21, parent_from_joint, axis times angle [rad]
    joint_pos, joint_vel f32 [N, 29]     the G1's joints in IsaacLab's order [rad, rad/s]: wrists at 23 to 28, else zero
    timestamp_monotonic  f64 [1]         when it was sent [s], may be left out: how old it is, for a reader on this host

All of the others are required. The version may not change while a reader streams.
Source: github.com/NVlabs/GR00T-WholeBodyControl: docs/source/tutorials/zmq.md ("Stream Protocol Versions"),
gear_sonic/utils/teleop/zmq/zmq_planner_sender.py (pack_pose_message), and of gear_sonic_deploy's input_interface/
zmq_packed_message_subscriber.hpp and zmq_endpoint_interface.hpp. Oracle: their reader, in tests/helpers/sonic.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

TOPIC = b"pose"
VERSION = 3
HEADER_BYTES = 1280
PORT = 5556  # where their reader connects to when nobody says otherwise
RATE_HZ = 50
G1_JOINTS = 29
# Of the left and the right wrist, in IsaacLab's order.
ROLL, PITCH, YAW = (23, 24), (25, 26), (27, 28)

_TYPES = {"f4": "f32", "f8": "f64", "i4": "i32", "i8": "i64"}


def pack(fields: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """One message. The arrays' types (float32, float64, int32, int64) and shapes are told in its header."""
    arrays = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in fields.items()}
    header = {
        "v": VERSION, "endian": "le", "count": 1,
        "fields": [
            {"name": name, "dtype": _TYPES[array.dtype.str[1:]], "shape": list(array.shape)}
            for name, array in arrays.items()
        ],
    }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) < HEADER_BYTES
    return b"".join((TOPIC, text.ljust(HEADER_BYTES, b"\0"), *(array.tobytes() for array in arrays.values())))
