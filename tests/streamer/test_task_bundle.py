"""The .task of MediaPipe: metadata before a model that stays as it is. The judges are the FlatBuffers library's reader
and, where it is installed, MediaPipe's own schemas."""

from __future__ import annotations

import io
import zipfile

import flatbuffers
import numpy as np
import pytest
from flatbuffers.table import Table

from streamer.errors import ConfigError
from streamer.sources.task_bundle import DETECTOR, LANDMARKS, SCALES, bundle, with_metadata

WEIGHTS = [np.arange(40, dtype=np.uint8), np.frombuffer(b"another buffer, not the same", np.uint8)]


def a_model(metadata: bool = True) -> bytes:
    """A .tflite of two buffers, a description, and metadata of its own, by the FlatBuffers library."""
    builder = flatbuffers.Builder(0)
    buffers = []
    for data in WEIGHTS:
        builder.StartVector(1, len(data), 16)  # force_align: 16
        for byte in data[::-1]:
            builder.PrependByte(int(byte))
        vector = builder.EndVector()
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        buffers.append(builder.EndObject())
    entries = []
    if metadata:
        name = builder.CreateString("min_runtime_version")
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, name, 0)
        builder.PrependUint32Slot(1, 1, 0)
        entries.append(builder.EndObject())
    vectors = {}
    for field, tables in ((4, buffers), (6, entries)):
        builder.StartVector(4, len(tables), 4)
        for one in reversed(tables):
            builder.PrependUOffsetTRelative(one)
        vectors[field] = builder.EndVector()
    description = builder.CreateString("a model")
    builder.StartObject(7 if metadata else 5)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(3, description, 0)
    builder.PrependUOffsetTRelativeSlot(4, vectors[4], 0)
    if metadata:
        builder.PrependUOffsetTRelativeSlot(6, vectors[6], 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def field(table: Table, number: int) -> int:
    """Where a field is, as the library says; it must be there."""
    offset = table.Offset(4 + 2 * number)
    assert offset
    return int(offset)


def child(table: Table, number: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + field(table, number)))


def item(table: Table, number: int, n: int) -> Table:
    """The n-th table in a field that is a vector of them."""
    at = table.Vector(field(table, number)) + 4 * n
    return Table(table.Bytes, table.Indirect(at))


def count(table: Table, number: int) -> int:
    return int(table.VectorLen(field(table, number)))


def text(table: Table, number: int) -> bytes:
    return bytes(table.String(table.Pos + field(table, number)))


def number(table: Table, which: int, flags: type) -> float:
    return float(table.Get(flags, table.Pos + field(table, which)))


def root(data: bytes) -> Table:
    return Table(bytearray(data), int.from_bytes(data[:4], "little"))


def data_of(table: Table) -> bytes:
    start, length = table.Vector(field(table, 0)), count(table, 0)
    return bytes(table.Bytes[start : start + length])


@pytest.mark.parametrize("own", [True, False])
def test_the_model_is_as_it_was_and_says_how_pictures_are_scaled(own: bool) -> None:
    from flatbuffers.number_types import Float32Flags, Uint8Flags, Uint32Flags

    old = a_model(own)
    new = with_metadata(old, "named", 127.5, 100.0)
    assert new.endswith(old)
    assert (len(new) - len(old)) % 16 == 0  # so that buffers are aligned as they were
    assert new[4:8] == b"TFL3"
    model = root(new)
    assert number(model, 0, Uint32Flags) == 3
    assert text(model, 3) == b"a model"
    assert count(model, 4) == len(WEIGHTS) + 1
    assert [data_of(item(model, 4, n)) for n in range(len(WEIGHTS))] == [bytes(w) for w in WEIGHTS]
    entries = {text(item(model, 6, n), 0): number(item(model, 6, n), 1, Uint32Flags) for n in range(count(model, 6))}
    assert entries == ({b"min_runtime_version": 1} if own else {}) | {b"TFLITE_METADATA": 2}
    said = data_of(item(model, 4, 2))
    assert said[4:8] == b"M001"
    described = root(said)
    assert text(described, 0) == b"named"
    picture = item(item(described, 3, 0), 2, 0)
    assert number(child(picture, 3), 0, Uint8Flags) == 2  # ImageProperties
    assert number(child(child(picture, 3), 1), 0, Uint8Flags) == 1  # RGB
    unit = item(picture, 4, 0)
    assert number(unit, 0, Uint8Flags) == 1  # NormalizationOptions
    scale = child(unit, 1)
    for which, wanted in ((0, 127.5), (1, 100.0)):
        assert count(scale, which) == 1
        assert scale.Get(Float32Flags, scale.Vector(field(scale, which))) == wanted


def test_mediapipes_schemas_read_the_same() -> None:
    schema = pytest.importorskip("mediapipe.tasks.metadata.schema_py_generated", reason="mediapipe is not installed")
    described = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(with_metadata(a_model(), "named", 0.0, 255.0), 0))
    assert [bytes(buffer.data) for buffer in model.buffers[:2]] == [bytes(w) for w in WEIGHTS]
    said = bytes(model.buffers[model.metadata[-1].buffer].data)
    assert described.ModelMetadata.ModelMetadataBufferHasIdentifier(said, 0)
    metadata = described.ModelMetadataT.InitFromObj(described.ModelMetadata.GetRootAs(said, 0))
    (picture,) = metadata.subgraphMetadata[0].inputTensorMetadata
    assert picture.content.contentProperties.colorSpace == described.ColorSpaceType.RGB
    (unit,) = picture.processUnits
    assert isinstance(unit.options, described.NormalizationOptionsT)
    assert (list(unit.options.mean), list(unit.options.std)) == ([0.0], [255.0])


def test_a_bundle_is_a_zip_that_is_not_compressed_and_always_the_same() -> None:
    made = bundle(a_model(), a_model(False))
    assert made == bundle(a_model(), a_model(False))
    with zipfile.ZipFile(io.BytesIO(made)) as file:
        assert file.namelist() == [DETECTOR, LANDMARKS]
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.read(LANDMARKS) == with_metadata(a_model(False), LANDMARKS, *SCALES[LANDMARKS])
    assert SCALES == {DETECTOR: (127.5, 127.5), LANDMARKS: (0.0, 255.0)}


@pytest.mark.parametrize(
    "broken", [b"", b"TFL3", b"PK\3\4" + bytes(60), a_model()[:40], b"\xff\xff\xff\x7fTFL3" + bytes(60)]
)
def test_what_is_no_model_is_named(broken: bytes) -> None:
    with pytest.raises(ConfigError, match=r"named: no TensorFlow Lite model"):
        with_metadata(broken, "named", 0.0, 1.0)
