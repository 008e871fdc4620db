"""OSC packets: python-osc reads what we write and writes what we read; nothing but named errors for anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc.osc_message_builder import OscMessageBuilder

from streamer.errors import ProtocolError
from streamer.wire.osc import bundle, message, parse
from tests.helpers.vmc import bundle_of, read

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)
FLOAT = st.floats(width=32, allow_nan=False)
INT = st.integers(-(2**31), 2**31 - 1)
ADDRESS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(lambda text: f"/{text}")
MESSAGES = st.lists(st.tuples(ADDRESS, st.lists(st.one_of(TEXT, FLOAT, INT), max_size=9)), max_size=6)


@given(MESSAGES)
def test_python_osc_reads_what_we_write(messages: list[tuple[str, list[Any]]]) -> None:
    packet = bundle([message(address, *arguments) for address, arguments in messages])
    assert read(packet) == messages
    assert [(m.address, list(m.arguments)) for m in parse(packet)] == messages


@given(MESSAGES)
def test_we_read_what_python_osc_writes(messages: list[tuple[str, list[Any]]]) -> None:
    assert [(m.address, list(m.arguments)) for m in parse(bundle_of(messages))] == messages


def test_every_type_that_python_osc_writes_is_read() -> None:
    builder = OscMessageBuilder("/types")
    values = [(1, "i"), (2.5, "f"), ("three", "s"), (b"four!", "b"), (True, "T"), (False, "F"), (None, "N"),
              (2**40, "h"), (0.1, "d")]  # fmt: skip
    for value, tag in values:
        builder.add_arg(value, tag)
    (found,) = parse(builder.build().dgram)
    assert found.arguments == tuple(value for value, _ in values)
    assert found.tags == "".join(tag for _, tag in values)


def test_bundles_in_bundles_are_read_in_order() -> None:
    inner = bundle([message("/b", 2), message("/c", 3)])
    assert [m.address for m in parse(bundle([message("/a"), inner, message("/d")]))] == ["/a", "/b", "/c", "/d"]


GOOD = bundle([message("/VMC/Ext/Bone/Pos", "Hips", *[0.5] * 7), message("/VMC/Ext/T", 1.0)])
DEEP = message("/a")
for _ in range(6):
    DEEP = bundle([DEEP])


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "empty"),
        (b"abc", "size"),
        (b"hello, world", "truncated"),
        (b"noslash\0,\0\0\0", "address"),
        (b"/a\0\0i\0\0\0\0\0\0\1", "tags"),
        (b"/a\0\0,i\0\0", "truncated"),
        (b"/a\0\0,x\0\0", "tags"),
        (b"/a\0\0,s\0\0abcd", "truncated"),
        (b"/a\0\0,b\0\0\0\0\0\x08abcd", "truncated"),
        (b"/a\0\0,b\0\0\xff\xff\xff\xff", "truncated"),
        (b"/a\0\0,i\0\0\0\0\0\1\0\0\0\2", "size"),
        (b"/\xff\xfe\0,\0\0\0", "text"),
        (b"#bundle\0\0\0\0\0", "truncated"),
        (GOOD[:-4], "truncated"),
        (GOOD[:16] + b"\0\0\0\0" + GOOD[16:], "truncated"),
        (GOOD[:16] + b"\xff\xff\xff\xfc" + GOOD[20:], "truncated"),
        (DEEP, "nested"),
    ],
)
def test_a_broken_packet_has_a_named_reason(packet: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(packet)
    assert caught.value.reason == reason
    assert str(caught.value)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255))))
def test_whatever_the_bytes_nothing_but_a_named_error(harm: bytes | tuple[int, int]) -> None:
    packet = harm
    if isinstance(packet, tuple):
        at, value = packet
        packet = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    reason = ""
    try:
        parse(packet)
    except ProtocolError as error:
        reason = error.reason
    assert reason in {"", "empty", "size", "truncated", "text", "address", "tags", "nested"}
