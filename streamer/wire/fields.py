"""The values of a message's map, each checked: what is wrong is named by a ProtocolError. For protocol.py."""

from __future__ import annotations

from math import prod
from reprlib import Repr
from typing import Any

import numpy as np

from streamer.errors import ProtocolError
from streamer.frames import Array

MAX_JOINTS = 256  # of any input layout
MAX_NAME_BYTES = 64
INT_MAX = 2**63 - 1
F4 = np.dtype("<f4")

# What was sent, for an error's message: whatever it is, however deep, some 40 characters of it.
_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 2, 40, 40, 40


def shown(value: Any, most: int = 80) -> str:
    """Some characters that show ``value``, which may be anything that msgpack holds."""
    return _REPR.repr(value)[:most]


def get(fields: dict[str, Any], key: str) -> Any:
    """The value of a key that must be there."""
    try:
        return fields[key]
    except KeyError:
        raise ProtocolError(f"missing:{key}", key) from None


def integer(fields: dict[str, Any], key: str) -> int:
    """An integer of 64 bits with a sign."""
    value = get(fields, key)
    if type(value) is not int:
        raise ProtocolError(f"type:{key}", key, f"{key}: expected an integer, got {type(value).__name__}")
    if not -INT_MAX <= value <= INT_MAX:
        raise ProtocolError(f"value:{key}", key, f"{key}: does not fit 64 bits with a sign")
    return value


def string(fields: dict[str, Any], key: str) -> str:
    """A short string."""
    value = get(fields, key)
    if type(value) is not str or len(value) > MAX_NAME_BYTES:
        raise ProtocolError(f"type:{key}", key, f"{key}: expected a string of at most {MAX_NAME_BYTES} characters")
    return value


def layout_name(fields: dict[str, Any]) -> str:
    """A layout's name."""
    # A name, never a path: what comes from a socket must not make the server open files.
    name = string(fields, "layout")
    if not name.replace("-", "_").isidentifier():
        raise ProtocolError("layout", "layout", f"not a layout name: {shown(name)}")
    return name


def joint_count(fields: dict[str, Any], key: str) -> int:
    """How many joints (J, 3) an array of a key has."""
    value = get(fields, key)
    size = len(value) if type(value) is bytes else 12  # another type is floats' to name
    joints, rest = divmod(size, 12)
    if rest or not 0 < joints <= MAX_JOINTS:
        raise ProtocolError("joint_count", key, f"{key}: {size} bytes are not float32 (J, 3), J <= {MAX_JOINTS}")
    return joints


def floats(fields: dict[str, Any], key: str, shape: tuple[int, ...]) -> Array:
    """A float32 array of a shape, on the bytes as they came: not to be written to."""
    value = get(fields, key)
    if type(value) is not bytes:
        raise ProtocolError(f"type:{key}", key, f"{key}: expected bin (float32 bytes), got {type(value).__name__}")
    if len(value) != 4 * prod(shape):
        raise ProtocolError("joint_count", key, f"{key}: {len(value)} bytes are not float32 {shape}")
    return np.ndarray(shape, F4, value)
