"""The wire: what is encoded is decoded again, what is wrong is named, and PROTOCOL.md's bytes are these bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamer
from model.skeleton import JOINTS, PARENTS
from streamer.errors import ProtocolError
from streamer.frames import Frame, Pose
from streamer.wire.protocol import MAX_MESSAGE_BYTES, Books, Encoder, Skeleton, decode, decode_frame, is_actor_name

ENCODER = Encoder()
PROTOCOL_MD = Path(streamer.__file__).with_name("PROTOCOL.md")


def sample_frame() -> Frame:
    positions = np.tile(np.array([0.0, 1.0, -0.5], np.float32), (17, 1))
    return Frame("a", 7, 1_000_000_000, positions, np.ones(17, np.float32), "coco_17")


def sample_pose() -> Pose:
    return Pose(
        actor="a", seq=7, t_ns=1_000_000_000, status="tracking",
        positions=np.zeros((24, 3), np.float32), rotations=np.tile(np.array([0, 0, 0, 1], np.float32), (24, 1)),
        root=np.zeros(3, np.float32), lengths_m=np.ones(24, np.float32), offsets_m=np.zeros((24, 3), np.float32),
        covariance=np.zeros((24, 3, 3), np.float32), contact=np.ones(2, np.float32), captured_ns=1_000_000_000,
        received_ns=2_000_000_000, inferred_ns=2_000_400_000, published_ns=2_000_500_000, skipped=0, skeleton_version=1,
        sigma_rad=np.full(24, 0.25, np.float32),
    )  # fmt: skip


def sample_pose_with_source() -> Pose:
    """Of ``sample_frame``, but that its nose was never given."""
    source = sample_frame().positions.copy()
    source[0] = np.nan
    return replace(sample_pose(), layout="coco_17", source=source)


def sample_skeleton() -> Skeleton:
    return Skeleton("a", 1, JOINTS, PARENTS, np.zeros((24, 3), np.float32), np.ones(24, np.float32))


def sample_books() -> Books:
    return Books(frames=70, poses=68, skeletons=3, published_ns=2_000_600_000)


SAMPLES: dict[str, tuple[Any, Callable[[Any], bytes]]] = {
    "frame": (sample_frame(), ENCODER.frame),
    "pose": (sample_pose(), ENCODER.pose),
    "source": (sample_pose_with_source(), Encoder(source_joints=True).pose),
    "skeleton": (sample_skeleton(), ENCODER.skeleton),
    "books": (sample_books(), ENCODER.books),
}


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for field in fields_of(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y, field.name


def random_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    pose = sample_pose()
    for name in ("positions", "rotations", "root", "lengths_m", "offsets_m", "covariance", "contact"):
        setattr(pose, name, rng.standard_normal(getattr(pose, name).shape).astype(np.float32))
    return pose


def changed(message: bytes, **changes: Any) -> bytes:
    """The message with keys replaced, or dropped where the value is ``...``."""
    name, _, body = message.partition(b"\0")
    fields = {**msgpack.unpackb(body), **changes}
    return name + b"\0" + msgpack.packb({key: value for key, value in fields.items() if value is not ...})


# -- what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SAMPLES)
def test_round_trip(kind: str) -> None:
    message, encode = SAMPLES[kind]
    assert_same(decode(encode(message)), message)


@given(st.integers(0, 2**32 - 1))
def test_any_pose_survives_bit_for_bit(seed: int) -> None:
    pose = random_pose(seed)
    assert_same(decode(ENCODER.pose(pose)), pose)


def test_float64_and_strided_arrays_are_sent_as_contiguous_float32() -> None:
    wide = np.arange(24 * 6, dtype=np.float64).reshape(24, 6)[:, ::2]
    frame = decode_frame(ENCODER.frame(Frame("a", 0, 0, wide)))
    assert frame.positions.dtype == np.float32
    np.testing.assert_array_equal(frame.positions, wide)


def test_missing_joints_travel_as_nan_and_absent_confidence_as_none() -> None:
    positions = np.zeros((24, 3), np.float32)
    positions[3] = np.nan
    frame = decode_frame(ENCODER.frame(Frame("a", 0, 0, positions)))
    np.testing.assert_array_equal(frame.positions, positions)
    assert frame.confidence is None


def test_unknown_keys_are_ignored() -> None:
    message, encode = SAMPLES["frame"]
    assert_same(decode(changed(encode(message), hair_colour="blue", later=[1, 2])), message)


def test_velocities_come_in_pairs_of_numbers_for_every_joint() -> None:
    velocity, angular = np.random.default_rng(0).standard_normal((2, 24, 3)).astype(np.float32)
    pose = replace(sample_pose(), velocity=velocity, angular_velocity=angular)
    message = ENCODER.pose(pose)
    assert_same(decode(message), pose)
    for key, value, reason in (
        ("velocity", bytes(12), "joint_count"), ("velocity", [0.0] * 72, "type:velocity"),
        ("angular_velocity", ..., "missing:angular_velocity"),
    ):  # fmt: skip
        with pytest.raises(ProtocolError) as caught:
            decode(changed(message, **{key: value}))
        assert (caught.value.reason, caught.value.field) == (reason, key)


def test_the_sources_joints_are_sent_to_who_asked_alone() -> None:
    assert ENCODER.pose(sample_pose_with_source()) == ENCODER.pose(sample_pose())
    assert Encoder(source_joints=True).pose(sample_pose()) == ENCODER.pose(sample_pose())


SOURCE = SAMPLES["source"][1](sample_pose_with_source())


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (changed(SOURCE, source=[0.0] * 51), "type:source", "source"),
        (changed(SOURCE, source=b""), "joint_count", "source"),
        (changed(SOURCE, source=bytes(13)), "joint_count", "source"),
        (changed(SOURCE, source=bytes(12 * 257)), "joint_count", "source"),
        (changed(SOURCE, layout=...), "missing:layout", "layout"),
        (changed(SOURCE, layout="../../etc/passwd"), "layout", "layout"),
    ],
)
def test_bad_joints_of_the_source_are_named(message: bytes, reason: str, field: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(message)
    assert (caught.value.reason, caught.value.field) == (reason, field)


# -- PROTOCOL.md ------------------------------------------------------------------------------------------------------


def documented_bytes(kind: str) -> bytes:
    """The ```hex <kind>``` block: hex digits, (xx*n) means xx n times."""
    found = re.search(rf"```hex {kind}\n(.*?)```", PROTOCOL_MD.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"PROTOCOL.md has no sample of a {kind}"
    text = re.sub(r"\(([0-9a-f]+)\*(\d+)\)", lambda m: m[1] * int(m[2]), re.sub(r"\s", "", found[1]))
    return bytes.fromhex(text)


@pytest.mark.parametrize("kind", SAMPLES)
def test_documented_bytes_are_what_is_sent_and_read(kind: str) -> None:
    message, encode = SAMPLES[kind]
    assert encode(message) == documented_bytes(kind)
    assert_same(decode(documented_bytes(kind)), message)


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_key_sent_is_documented(kind: str) -> None:
    message, encode = SAMPLES[kind]
    text = PROTOCOL_MD.read_text(encoding="utf-8")
    for key in msgpack.unpackb(encode(message).partition(b"\0")[2]):
        assert re.search(rf"^\| [^|]*`{key}`[^|]* \|", text, re.MULTILINE), key


# -- what is wrong is named -------------------------------------------------------------------------------------------

FRAME = ENCODER.frame(sample_frame())
DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]
KEYS = ("actor", "seq", "t_ns", "layout", "positions")


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (b"", "topic", ""),
        (b"frame.a", "topic", ""),
        (b"frame.a\0", "not_msgpack", ""),
        (b"frame.a\0\xc1", "not_msgpack", ""),
        (b"frame.a\0" + b"\x91" * 5000, "not_msgpack", ""),
        (changed(FRAME, actor=DEEP), "actor_name", "actor"),
        (changed(FRAME, v=DEEP), "version", "v"),
        (b"frame.a\0\x93\x01\x02\x03", "not_map", ""),
        (b"frame.a\0\x81\x01\x02", "not_msgpack", ""),  # a key that is no string
        (b"pose.a\0" + FRAME.partition(b"\0")[2], "topic", ""),
        (b"frame.b\0" + FRAME.partition(b"\0")[2], "topic", "actor"),
        (b"frame.a\0" + bytes(MAX_MESSAGE_BYTES), "too_large", ""),
        (changed(FRAME, v=...), "missing:v", "v"),
        (changed(FRAME, v=2), "version", "v"),
        (changed(FRAME, v=True), "version", "v"),
        (changed(FRAME, positions=[0.0] * 51), "type:positions", "positions"),
        (changed(FRAME, positions=b""), "joint_count", "positions"),
        (changed(FRAME, positions=bytes(13)), "joint_count", "positions"),
        (changed(FRAME, positions=bytes(12 * 257)), "joint_count", "positions"),
        (changed(FRAME, positions=bytes(12 * 16)), "joint_count", "confidence"),
        (changed(FRAME, confidence="high"), "type:confidence", "confidence"),
        (changed(FRAME, rotations=[0.0] * 68), "type:rotations", "rotations"),
        (changed(FRAME, rotations=bytes(16 * 16)), "joint_count", "rotations"),
        (changed(FRAME, t_ns=1.5), "type:t_ns", "t_ns"),
        (changed(FRAME, t_ns=True), "type:t_ns", "t_ns"),
        (changed(FRAME, t_ns=2**63), "value:t_ns", "t_ns"),
        (changed(FRAME, seq=None), "type:seq", "seq"),
        (changed(FRAME, layout=17), "type:layout", "layout"),
        (changed(FRAME, layout="../../etc/passwd"), "layout", "layout"),
        (changed(FRAME, layout="mine.toml"), "layout", "layout"),
        (changed(FRAME, actor=b"a"), "actor_name", "actor"),
        (changed(FRAME, actor=""), "actor_name", "actor"),
        (changed(FRAME, actor="a b"), "actor_name", "actor"),
        (changed(FRAME, actor="a\n"), "actor_name", "actor"),
        (changed(FRAME, actor="x" * 65), "actor_name", "actor"),
        *[(changed(FRAME, **{key: ...}), f"missing:{key}", key) for key in KEYS],
    ],
)
def test_bad_frames_are_named(message: bytes, reason: str, field: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_frame(message)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["pose", "skeleton", "books"])
def test_each_key_of_a_reply_is_required_by_name(kind: str) -> None:
    message, encode = SAMPLES[kind]
    for key in msgpack.unpackb(encode(message).partition(b"\0")[2]):
        if key in ("v", "units", "axes", "rotation_sigma") or (kind, key) == ("skeleton", "rotations"):
            continue  # v is tested above, rotation_sigma below, the others are words for people
        with pytest.raises(ProtocolError) as caught:
            decode(changed(encode(message), **{key: ...}))
        assert caught.value.field == key


def test_a_frame_brings_rotations() -> None:
    rotations = np.random.default_rng(0).standard_normal((17, 4)).astype(np.float32)
    rotations[3] = np.nan
    frame = sample_frame()
    assert decode_frame(ENCODER.frame(frame)).rotations is None
    frame.rotations = rotations.astype(np.float64)
    np.testing.assert_array_equal(decode_frame(ENCODER.frame(frame)).rotations, rotations)


def test_an_older_server_does_not_say_how_sure_rotations_are() -> None:
    """Then it follows from the covariance, as where nothing but joints was seen."""
    old = decode(changed(ENCODER.pose(sample_pose()), rotation_sigma=...))
    new = sample_pose()
    new.sigma_rad = None
    np.testing.assert_array_equal(old.rotation_sigma, new.rotation_sigma)


def decodes_or_names_it(data: bytes) -> None:
    """Fails if anything but a ProtocolError comes out."""
    with contextlib.suppress(ProtocolError):
        decode(data)


@given(st.binary(max_size=400), st.sampled_from([b"", b"frame.a\0", b"pose.a\0", b"skeleton.a\0", b"books\0", b"\0"]))
def test_random_bytes_raise_nothing_else(data: bytes, start: bytes) -> None:
    decodes_or_names_it(start + data)


@given(st.data(), st.sampled_from(list(SAMPLES)))
def test_mutated_messages_raise_nothing_else(data: st.DataObject, kind: str) -> None:
    message, encode = SAMPLES[kind]
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_names_it(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
VALUES = st.recursive(
    SCALARS | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(list(SAMPLES)), st.data())
def test_any_value_under_any_key_raises_nothing_else(kind: str, data: st.DataObject) -> None:
    message, encode = SAMPLES[kind]
    keys = list(msgpack.unpackb(encode(message).partition(b"\0")[2]))
    decodes_or_names_it(changed(encode(message), **{data.draw(st.sampled_from(keys)): data.draw(VALUES)}))


@given(st.text(max_size=80))
def test_an_actor_name_can_stand_in_a_topic(name: str) -> None:
    if is_actor_name(name):
        assert 0 < len(name.encode()) <= 64
        assert not set(name) & {"\0", " ", "\n", "\t", "\x7f"}
