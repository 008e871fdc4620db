"""Wire protocol v1: one ZeroMQ frame = topic, NUL, msgpack map; arrays are raw little-endian float32 ``bin``.

PROTOCOL.md is the table this file implements, with sample bytes that tests/test_protocol.py checks against both
directions. Decoding validates here, at the edge, and names what is wrong; unknown keys are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, get_args

import msgpack  # type: ignore[import-untyped]

from streamer.errors import ProtocolError
from streamer.frames import Array, Frame, Pose, Status
from streamer.wire.fields import F4, MAX_JOINTS, floats, get, integer, joint_count, layout_name, shown, string

VERSION = 1
J_OUT = 24  # joints of a pose: smpl_24
MAX_MESSAGE_BYTES = 64 * 1024  # a pose takes 2.3 kB; the rest is room for later keys
MAX_KEYS = 64  # of a map
MAX_ACTOR_BYTES = 64
_STATUSES = frozenset(get_args(Status))
_NUL = b"\0"
BOOKS = b"books" + _NUL  # the topic that is about no actor


@dataclass(slots=True)
class Skeleton:
    """The skeleton a pose's rotations turn: ``offsets_m`` (24, 3) are the rest-pose vectors parent to joint [m]."""

    actor: str
    version: int
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    offsets_m: Array
    lengths_m: Array


@dataclass(slots=True)
class Books:
    """How many messages of each kind there were since the server's start: what a reader of all of them should have."""

    frames: int = 0  # of the input, which is passed on to whoever asks for it
    poses: int = 0
    skeletons: int = 0
    published_ns: int = 0  # server's clock


def topic(kind: str, actor: str) -> bytes:
    """What a message of ``kind`` ("frame", "pose", "skeleton") about ``actor`` starts with, NUL included."""
    return f"{kind}.{actor}".encode() + _NUL


def is_actor_name(name: str) -> bool:
    """True for 1 to 64 bytes of utf-8 without NUL, space or control characters."""
    if not 0 < len(name) <= MAX_ACTOR_BYTES or " " in name or not name.isprintable():
        return False
    return name.isascii() or len(name.encode()) <= MAX_ACTOR_BYTES


class Encoder:
    """Messages to bytes. One msgpack packer, kept; not thread-safe, like the sockets it feeds.

    Args:
        source_joints: poses go with the source's own joints, where they have them.
    """

    def __init__(self, source_joints: bool = False) -> None:
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._source_joints = source_joints

    def map(self, fields: dict[str, Any]) -> bytes:
        """A bare msgpack map with ``v`` (control requests and replies)."""
        return self._pack({"v": VERSION, **fields})

    def frame(self, frame: Frame) -> bytes:
        """Topic ``frame.<actor>``. Encodes what it is given; the receiver judges it."""
        fields = {
            "v": VERSION,
            "actor": frame.actor,
            "seq": frame.seq,
            "t_ns": frame.t_ns,
            "layout": frame.layout,
            "positions": _bytes(frame.positions),
        }
        if frame.confidence is not None:
            fields["confidence"] = _bytes(frame.confidence)
        if frame.rotations is not None:
            fields["rotations"] = _bytes(frame.rotations)
        return topic("frame", frame.actor) + self._pack(fields)

    def pose(self, pose: Pose) -> bytes:
        """Topic ``pose.<actor>``."""
        fields = {
            "v": VERSION,
            "actor": pose.actor,
            "seq": pose.seq,
            "t_ns": pose.t_ns,
            "status": pose.status,
            "positions": _bytes(pose.positions),
            "rotations": _bytes(pose.rotations),
            "root": _bytes(pose.root),
            "lengths": _bytes(pose.lengths_m),
            "offsets": _bytes(pose.offsets_m),
            "covariance": _bytes(pose.covariance),
            "contact": _bytes(pose.contact),
            "captured_ns": pose.captured_ns,
            "received_ns": pose.received_ns,
            "inferred_ns": pose.inferred_ns,
            "published_ns": pose.published_ns,
            "skipped": pose.skipped,
            "skeleton_version": pose.skeleton_version,
            "rotation_sigma": _bytes(pose.rotation_sigma),
        }
        if self._source_joints and pose.source is not None:
            fields["layout"], fields["source"] = pose.layout, _bytes(pose.source)
        if pose.velocity is not None and pose.angular_velocity is not None:
            fields["velocity"], fields["angular_velocity"] = _bytes(pose.velocity), _bytes(pose.angular_velocity)
        return topic("pose", pose.actor) + self._pack(fields)

    def books(self, books: Books) -> bytes:
        """Topic ``books``."""
        return BOOKS + self._pack(
            {
                "v": VERSION,
                "frames": books.frames,
                "poses": books.poses,
                "skeletons": books.skeletons,
                "published_ns": books.published_ns,
            }
        )

    def skeleton(self, skeleton: Skeleton) -> bytes:
        """Topic ``skeleton.<actor>``; carries the conventions in words, for whoever looks at raw messages."""
        return topic("skeleton", skeleton.actor) + self._pack(
            {
                "v": VERSION,
                "actor": skeleton.actor,
                "skeleton_version": skeleton.version,
                "joints": skeleton.joints,
                "parents": skeleton.parents,
                "offsets": _bytes(skeleton.offsets_m),
                "lengths": _bytes(skeleton.lengths_m),
                "units": "m",
                "axes": "right-handed, Y up; rest pose: T-pose facing +Z, left = +X",
                "rotations": "parent_from_joint, quaternion xyzw; the root's world_from_joint",
            }
        )


def decode(data: bytes) -> Frame | Pose | Skeleton | Books:
    """The Frame, Pose, Skeleton or Books in one message; arrays are read-only views of ``data``'s copy.

    Raises:
        ProtocolError: with ``reason`` and ``field`` set; nothing else, whatever the bytes.
    """
    name, fields = _split(data)
    kind = name.partition(b".")[0]
    if kind == b"frame":
        return _frame(name, fields)
    if kind == b"pose":
        return _pose(name, fields)
    if kind == b"skeleton":
        return _skeleton(name, fields)
    if name == b"books":
        return Books(*[integer(fields, key) for key in ("frames", "poses", "skeletons", "published_ns")])
    raise ProtocolError("topic", "", f"unknown topic {name[:80]!r}")


def decode_frame(data: bytes) -> Frame:
    """The Frame in one message. Raises ProtocolError for anything else."""
    name, fields = _split(data)
    if not name.startswith(b"frame."):
        raise ProtocolError("topic", "", f"expected frame.<actor>, got {name[:80]!r}")
    return _frame(name, fields)


def decode_map(data: bytes, most_bytes: int = MAX_MESSAGE_BYTES, most_keys: int = MAX_KEYS) -> dict[str, Any]:
    """A bare msgpack map of our version (control requests and replies). Raises ProtocolError."""
    if len(data) > most_bytes:
        raise ProtocolError("too_large", "", f"{len(data)} bytes, limit {most_bytes}")
    return _unpack(data, most_keys)


def _split(data: bytes) -> tuple[bytes, dict[str, Any]]:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("too_large", "", f"{len(data)} bytes, limit {MAX_MESSAGE_BYTES}")
    name, nul, body = data.partition(_NUL)
    if not nul:
        raise ProtocolError("topic", "", "no NUL between topic and map")
    return name, _unpack(body)


_UNREADABLE = (
    ValueError, TypeError, OverflowError, MemoryError, RecursionError, msgpack.exceptions.UnpackException,
)  # fmt: skip


def _unpack(body: bytes, most_keys: int = MAX_KEYS) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_map_len=most_keys,
            max_array_len=max(MAX_JOINTS, most_keys),
            max_ext_len=0,
        )
    except _UNREADABLE as error:
        raise ProtocolError("not_msgpack", "", str(error) or type(error).__name__) from error
    if type(fields) is not dict:
        raise ProtocolError("not_map", "", f"expected a map, got {type(fields).__name__}")
    if "v" not in fields:
        raise ProtocolError("missing:v", "v")
    if fields["v"] != VERSION or type(fields["v"]) is not int:
        raise ProtocolError("version", "v", f"this is version {VERSION}, the message says {shown(fields['v'])}")
    return fields


def _frame(name: bytes, fields: dict[str, Any]) -> Frame:
    joints = joint_count(fields, "positions")
    has_confidence = fields.get("confidence") is not None
    return Frame(
        actor=_actor(name, b"frame.", fields),
        seq=integer(fields, "seq"),
        t_ns=integer(fields, "t_ns"),
        positions=floats(fields, "positions", (joints, 3)),
        confidence=floats(fields, "confidence", (joints,)) if has_confidence else None,
        layout=layout_name(fields),
        rotations=floats(fields, "rotations", (joints, 4)) if fields.get("rotations") is not None else None,
    )


def _pose(name: bytes, fields: dict[str, Any]) -> Pose:
    status = string(fields, "status")
    if status not in _STATUSES:
        raise ProtocolError("value:status", "status", f"unknown status {shown(status)}")
    has_source = fields.get("source") is not None
    pose = Pose(
        actor=_actor(name, b"pose.", fields),
        seq=integer(fields, "seq"),
        t_ns=integer(fields, "t_ns"),
        status=cast(Status, status),
        positions=floats(fields, "positions", (J_OUT, 3)),
        rotations=floats(fields, "rotations", (J_OUT, 4)),
        root=floats(fields, "root", (3,)),
        lengths_m=floats(fields, "lengths", (J_OUT,)),
        offsets_m=floats(fields, "offsets", (J_OUT, 3)),
        covariance=floats(fields, "covariance", (J_OUT, 3, 3)),
        contact=floats(fields, "contact", (2,)),
        captured_ns=integer(fields, "captured_ns"),
        received_ns=integer(fields, "received_ns"),
        inferred_ns=integer(fields, "inferred_ns"),
        published_ns=integer(fields, "published_ns"),
        skipped=integer(fields, "skipped"),
        skeleton_version=integer(fields, "skeleton_version"),
        layout=layout_name(fields) if has_source else "",
        source=floats(fields, "source", (joint_count(fields, "source"), 3)) if has_source else None,
    )
    if "rotation_sigma" in fields:  # older servers do not say it
        pose.sigma_rad = floats(fields, "rotation_sigma", (J_OUT,))
    if fields.get("velocity") is not None:  # where the server was asked for it
        pose.velocity = floats(fields, "velocity", (J_OUT, 3))
        pose.angular_velocity = floats(fields, "angular_velocity", (J_OUT, 3))
    return pose


def _skeleton(name: bytes, fields: dict[str, Any]) -> Skeleton:
    joints, parents = get(fields, "joints"), get(fields, "parents")
    if type(joints) is not list or any(type(j) is not str for j in joints):
        raise ProtocolError("type:joints", "joints", "expected a list of names")
    if type(parents) is not list or len(parents) != len(joints) or any(type(p) is not int for p in parents):
        raise ProtocolError("type:parents", "parents", "expected one integer for each joint")
    return Skeleton(
        actor=_actor(name, b"skeleton.", fields),
        version=integer(fields, "skeleton_version"),
        joints=tuple(joints),
        parents=tuple(parents),
        offsets_m=floats(fields, "offsets", (len(joints), 3)),
        lengths_m=floats(fields, "lengths", (len(joints),)),
    )


def _bytes(array: Array) -> bytes:
    # `is` first: comparing dtypes costs more than the copy.
    return array.tobytes() if array.dtype is F4 else array.astype(F4).tobytes()


def _actor(name: bytes, prefix: bytes, fields: dict[str, Any]) -> str:
    actor = get(fields, "actor")
    if type(actor) is not str or not is_actor_name(actor):
        raise ProtocolError("actor_name", "actor", f"not an actor name: {shown(actor)}")
    if name != prefix + actor.encode():
        raise ProtocolError("topic", "actor", f"topic {name[:80]!r} is not about actor {actor!r}")
    return actor
