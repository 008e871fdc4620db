"""OSC 1.0 over UDP: packets read strictly, and messages built to be filled in later.

A packet is a message, or a bundle of messages and bundles; all of it comes in words of four bytes, big-endian. What the
messages of VMC say is in vmc.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack
from typing import Any, NamedTuple

from streamer.errors import ProtocolError

BUNDLE = b"#bundle\0"
AT_ONCE = b"\0\0\0\0\0\0\0\1"  # the time tag of a bundle that says no time
HEADER_BYTES = len(BUNDLE) + len(AT_ONCE)
MOST_NESTED = 4  # bundles in bundles; nobody sends more than one

_FIXED = {
    "i": Struct(">i"), "f": Struct(">f"), "h": Struct(">q"), "d": Struct(">d"), "t": Struct(">Q"), "c": Struct(">i"),
    "r": Struct(">I"), "m": Struct(">I"),
}  # fmt: skip
_EMPTY = {"T": True, "F": False, "N": None, "I": float("inf")}
_SIZE = Struct(">i")


class Message(NamedTuple):
    """One message: ``tags`` has one letter an argument."""

    address: str
    tags: str
    arguments: tuple[Any, ...]


def parse(packet: bytes) -> list[Message]:
    """The messages of a packet, in order.

    Raises:
        ProtocolError: with ``reason`` "empty", "size", "truncated", "text", "address", "tags" or "nested"; nothing
            else, whatever the bytes. Of a packet that is broken anywhere, nothing is used.
    """
    found: list[Message] = []
    _element(packet, 0, len(packet), found, 0)
    return found


def message(address: str, *arguments: str | int | float) -> bytes:
    """One message."""
    tags = "," + "".join("s" if isinstance(a, str) else "i" if isinstance(a, int) else "f" for a in arguments)
    body = [_text(a) if isinstance(a, str) else pack(">i" if isinstance(a, int) else ">f", a) for a in arguments]
    return b"".join([_text(address), _text(tags), *body])


def bundle(messages: Sequence[bytes]) -> bytes:
    """A bundle of messages, for at once."""
    return b"".join([BUNDLE, AT_ONCE, *(_SIZE.pack(len(one)) + one for one in messages)])


def _text(text: str) -> bytes:
    data = text.encode()
    return data + b"\0" * (4 - len(data) % 4)


def _element(packet: bytes, at: int, end: int, found: list[Message], depth: int) -> None:
    if at == end:
        raise ProtocolError("empty", "", "an OSC packet without a byte")
    if (end - at) % 4:
        raise ProtocolError("size", "", f"{end - at} bytes are no whole words of four: not OSC")
    if packet[at : at + 8] == BUNDLE:
        _bundle(packet, at + HEADER_BYTES, end, found, depth)
    else:
        found.append(_message(packet, at, end))


def _bundle(packet: bytes, at: int, end: int, found: list[Message], depth: int) -> None:
    if at > end:
        raise ProtocolError("truncated", "", "a bundle that ends in its header")
    if depth == MOST_NESTED:
        raise ProtocolError("nested", "", f"bundles in bundles, more than {MOST_NESTED} deep")
    while at < end:
        (size,) = _SIZE.unpack_from(packet, at)  # whole words: there are four bytes
        at += 4
        if size <= 0 or at + size > end:
            raise ProtocolError("truncated", "", f"an element of {size} bytes where {end - at} are left")
        _element(packet, at, at + size, found, depth + 1)
        at += size


def _message(packet: bytes, at: int, end: int) -> Message:
    address, at = _string(packet, at, end)
    if not address.startswith("/"):
        raise ProtocolError("address", "", f"{address[:40]!r} is no address: not OSC")
    tags, at = _string(packet, at, end) if at < end else (",", at)  # very old senders leave them out
    if not tags.startswith(","):
        raise ProtocolError("tags", address, f"{address[:80]}: type tags begin with a comma, not as {tags[:20]!r}")
    arguments: list[Any] = []
    for tag in tags[1:]:
        if (kind := _FIXED.get(tag)) is not None:
            if at + kind.size > end:
                raise ProtocolError("truncated", address, f"{address[:80]}: ends before its arguments do")
            arguments += kind.unpack_from(packet, at)
            at += kind.size
        elif tag in "sS":
            text, at = _string(packet, at, end)
            arguments.append(text)
        elif tag == "b":
            blob, at = _blob(packet, at, end, address)
            arguments.append(blob)
        elif tag in _EMPTY:
            arguments.append(_EMPTY[tag])
        else:
            raise ProtocolError("tags", address, f"{address[:80]}: no type {tag!r} is known")
    if at != end:
        raise ProtocolError("size", address, f"{address[:80]}: {end - at} bytes after its last argument")
    return Message(address, tags[1:], tuple(arguments))


def _string(packet: bytes, at: int, end: int) -> tuple[str, int]:
    stop = packet.find(b"\0", at, end)
    if stop < 0:
        raise ProtocolError("truncated", "", "a text without an end")
    try:
        return packet[at:stop].decode(), at + (stop - at) // 4 * 4 + 4
    except UnicodeDecodeError as error:
        raise ProtocolError("text", "", f"a text that is not UTF-8: {packet[at:stop][:40]!r}") from error


def _blob(packet: bytes, at: int, end: int, address: str) -> tuple[bytes, int]:
    size = _SIZE.unpack_from(packet, at)[0] if at + 4 <= end else -1
    after = at + 4 + (size + 3) // 4 * 4
    if size < 0 or after > end:
        raise ProtocolError("truncated", address, f"{address[:80]}: ends before its arguments do")
    return packet[at + 4 : at + 4 + size], after
