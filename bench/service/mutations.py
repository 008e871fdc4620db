"""Messages that are nearly right: frames, poses, requests and subscriptions, harmed in ways that know their form."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from model.layouts import get_layout
from model.skeleton import JOINTS, PARENTS, ancestor_matrix, rest_offsets
from streamer.clock import SECOND_NS
from streamer.frames import Frame, Pose
from streamer.server.control import COMMANDS
from streamer.wire.protocol import Books, Encoder, Skeleton

LAYOUTS = ("smpl_24", "smpl_22", "h36m_17", "coco_17", "mediapipe_33", "vrm")
BODY = (ancestor_matrix() @ rest_offsets() + (0.0, 0.9, 0.0)).astype(np.float32)
NAMES = ("a", "b", "c", "Ünï", "x" * 64, "..", "%")
FLOATS = [struct.pack("<f", x) for x in (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-20, 4.0, 1e3, 1e5, 1e20, 3.4e38)] + [
    bytes.fromhex(x) for x in ("0000c07f", "0000807f", "000080ff", "ffffffff", "0100807f")
]  # NaN, the infinities, and other patterns that are no numbers
INTS = (0, 1, -1, 127, 128, 2**31 - 1, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
DEPTHS = (2, 8, 100, 500, 900, 1000, 1023, 1024, 1025, 3000)

Harm = Callable[[Random, bytes], bytes]


def frame(rng: Random, n: int, actor: str) -> bytes:
    """A good frame of some layout, the ``n``-th at 240 Hz."""
    form = (actor, rng.randrange(len(LAYOUTS)), rng.randrange(4))
    if form not in _FORMS:
        _FORMS[form] = _form(*form)
    head, middle, tail = _FORMS[form]
    return head + n.to_bytes(8, "big") + middle + (n * SECOND_NS // 240).to_bytes(8, "big") + tail


def _form(actor: str, layout: int, kind: int) -> tuple[bytes, bytes, bytes]:
    """A frame's bytes around its number and its time."""
    number, time_ns = 2**62 + 1, 2**62 + 2
    joints = len(get_layout(LAYOUTS[layout]).joints)
    positions = BODY[np.arange(joints) % 24] + np.float32(0.01 * kind)
    confidence = None if kind % 2 else np.ones(joints, np.float32)
    message = _ENCODER.frame(Frame(actor, number, time_ns, positions, confidence, LAYOUTS[layout]))
    head, _, rest = message.partition(number.to_bytes(8, "big"))
    middle, _, tail = rest.partition(time_ns.to_bytes(8, "big"))
    return head, middle, tail


def answer(rng: Random) -> bytes:
    """A good pose, skeleton or books message, as a client reads them."""
    return _ANSWERS[rng.randrange(len(_ANSWERS))]


def request(rng: Random) -> bytes:
    """A good request; never the one that ends the server."""
    fields: dict[str, Any] = {"cmd": rng.choice([c for c in COMMANDS if c != "shutdown"])}
    if rng.random() < 0.8:
        fields["actor"] = rng.choice(NAMES)
    if rng.random() < 0.5:
        fields["offsets"] = rest_offsets().astype("<f4").tobytes()
    return _ENCODER.map(fields)


def subscription(rng: Random) -> bytes:
    kind = rng.choice((b"\x00", b"\x01", b"\x02", b"", b"\xff"))
    return kind + rng.choice((b"frame.", b"pose.", b"frame.a\0", b"", b"skeleton.", rng.randbytes(rng.randrange(200))))


def harmed(rng: Random, message: bytes, times: int = 2) -> bytes:
    """The message after one to ``times`` harms."""
    for _ in range(rng.randint(1, times)):
        message = HARMS[rng.randrange(len(HARMS))](rng, message)
    return message


# -- harms ------------------------------------------------------------------------------------------------------------


def flip_bits(rng: Random, message: bytes) -> bytes:
    raw = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        if raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def overwrite(rng: Random, message: bytes) -> bytes:
    at = rng.randrange(len(message) + 1)
    some = rng.randbytes(rng.randint(1, 8))
    return message[:at] + some + message[at + len(some) :]


def insert(rng: Random, message: bytes) -> bytes:
    at = rng.randrange(len(message) + 1)
    return message[:at] + rng.randbytes(rng.randint(1, 16)) + message[at:]


def delete(rng: Random, message: bytes) -> bytes:
    at = rng.randrange(len(message) + 1)
    return message[:at] + message[at + rng.randint(1, 16) :]


def cut_off(rng: Random, message: bytes) -> bytes:
    return message[: rng.randrange(len(message) + 1)]


def repeat(rng: Random, message: bytes) -> bytes:
    """A part of it twice, or many times."""
    start = rng.randrange(len(message) + 1)
    part = message[start : start + rng.randint(1, 64)]
    return message[:start] + part * rng.choice((2, 2, 2, 100)) + message[start:]


def change_topic(rng: Random, message: bytes) -> bytes:
    name, nul, body = message.partition(b"\0")
    other = rng.choice((b"", b"frame.", b"frame", b"pose.a", b"books", b"frame." + rng.randbytes(8), name + b" "))
    return other + nul + body


def change_fields(rng: Random, message: bytes) -> bytes:
    """Keys dropped, renamed, made up, or with any value that msgpack can hold."""
    name, nul, fields = _fields(message)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(list(fields)) if fields else "v"
        what = rng.randrange(4)
        if what == 0:
            fields.pop(key, None)
        elif what == 1:
            fields[key * 2 if isinstance(key, str) else key] = fields.pop(key, None)
        else:
            fields[key if what == 2 else "".join(rng.choices("avseqt_n", k=3))] = _value(rng, 3)
    return name + nul + bytes(msgpack.packb(fields))


def change_numbers(rng: Random, message: bytes) -> bytes:
    """Arrays of the right size with numbers that nobody measured, and times that no clock shows."""
    name, nul, fields = _fields(message)
    arrays = [key for key, value in fields.items() if isinstance(value, bytes)]
    if arrays:
        raw = bytearray(fields[key := rng.choice(arrays)])
        whole = rng.random() < 0.2
        for i in range(len(raw) // 4) if whole else [rng.randrange(len(raw) // 4 + 1) for _ in range(6)]:
            raw[4 * i : 4 * i + 4] = rng.choice(FLOATS) if rng.random() < 0.7 or whole else rng.randbytes(4)
        if rng.random() < 0.3:
            raw[:] = (rng.choice(FLOATS) * 3 + bytes(raw[:12]))[:12] * (len(raw) // 12)  # all joints in one place
        fields[key] = bytes(raw)
    if rng.random() < 0.3:
        fields[rng.choice(("t_ns", "seq", "v"))] = rng.choice(INTS)
    return name + nul + bytes(msgpack.packb(fields))


def nest(rng: Random, message: bytes) -> bytes:
    """A list in a list in a list ... or maps, in place of some byte of the map."""
    name, nul, body = message.partition(b"\0")
    at = rng.randrange(len(body) + 1)
    return name + nul + body[:at] + rng.choice((b"\x91", b"\x81\xa1a", b"\x92\xc0")) * rng.choice(DEPTHS) + body[at:]


HARMS: tuple[Harm, ...] = (
    flip_bits, overwrite, insert, delete, cut_off, repeat, change_topic, change_fields, change_fields, change_numbers,
    change_numbers, change_numbers, nest,
)  # fmt: skip


def _fields(message: bytes) -> tuple[bytes, bytes, dict[Any, Any]]:
    """Topic, NUL and the map, an empty one if it cannot be read any more; of a request: nothing, nothing, the map."""
    name, nul, body = (
        message.partition(b"\0") if b"." in message[:9] or message[:5] == b"books" else (b"", b"", message)
    )
    try:
        fields = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
        fields = {}
    return name, nul, fields if isinstance(fields, dict) else {}


def _value(rng: Random, depth: int) -> Any:
    kind = rng.randrange(9 if depth else 7)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(INTS)
    if kind == 2:
        return rng.choice((0.0, 1.5, float("nan"), float("inf"), 1e308))
    if kind == 3:
        return rng.choice(("", "a", "smpl_24", "tracking", "é" * 40, "\0", "../x", "x" * 3000))
    if kind == 4:
        return rng.randbytes(rng.choice((0, 1, 12, 288, 3072, 5000)))
    if kind == 5:
        return msgpack.ExtType(rng.randrange(128), rng.randbytes(4))
    if kind == 6:
        return rng.randint(-(2**63), 2**64 - 1)
    if kind == 7:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(("v", "a", "cmd")): _value(rng, depth - 1) for _ in range(rng.randrange(3))}


def _answers() -> list[bytes]:
    def zeros(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    pose = Pose(
        "a", 1, 1, "tracking", zeros(24, 3), zeros(24, 4), zeros(3), zeros(24), zeros(24, 3), zeros(24, 3, 3), zeros(2)
    )
    skeleton = Skeleton("a", 1, JOINTS, PARENTS, zeros(24, 3), zeros(24))
    return [_ENCODER.pose(pose), _ENCODER.skeleton(skeleton), _ENCODER.books(Books(1, 2, 3, 4))]


_ENCODER = Encoder()
_FORMS: dict[tuple[str, int, int], tuple[bytes, bytes, bytes]] = {}
_ANSWERS = _answers()
