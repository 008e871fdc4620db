"""MediaPipe's pose landmarker bundle (.task) from the two TensorFlow Lite models that it consists of.

A bundle is a zip, not compressed. MediaPipe takes a model only if its metadata say how pictures are to be scaled, which
those of the npm package lack. Both formats are FlatBuffers: tables that point forward, by distances. So what is new
is put before the old file: a new root, which points to the old one's parts, and not a byte of these moves or changes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamer.errors import ConfigError

DETECTOR, LANDMARKS = "pose_detector.tflite", "pose_landmarks_detector.tflite"  # as MediaPipe names them
SCALES = {DETECTOR: (127.5, 127.5), LANDMARKS: (0.0, 255.0)}  # mean, standard deviation of the colours that go in
KEY = b"TFLITE_METADATA"
MODEL, MODEL_METADATA = b"TFL3", b"M001"  # what the two formats are known by
BUFFERS, METADATA, FIELDS = 4, 6, 8  # of the root of a model: the numbers of two fields, how many there are
RGB, IMAGE, NORMALIZATION = 1, 2, 1  # ColorSpaceType, ContentProperties, ProcessUnitOptions
ALIGNED = 16  # as the buffers of the old file are


def bundle(detector: bytes, landmarks: bytes) -> bytes:
    """A .task file of the two models, which have no metadata yet; the same bytes from the same models.

    Raises:
        ConfigError: one of them is no TensorFlow Lite model.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, model in ((DETECTOR, detector), (LANDMARKS, landmarks)):
            described = with_metadata(model, name, *SCALES[name])
            file.writestr(zipfile.ZipInfo(name), described)  # ZipInfo: of no date
    return out.getvalue()


def with_metadata(model: bytes, name: str, mean: float, deviation: float) -> bytes:
    """``model`` (.tflite) with metadata: its input is an RGB picture, each colour (0..255 - mean) / deviation.

    Raises:
        ConfigError: it is no TensorFlow Lite model.
    Source: tensorflow/lite/schema, mediapipe/tasks/metadata. Oracle: MediaPipe's own readers, in the tests.
    """
    try:
        root, buffers, metadata = _read(model)
    except (struct.error, IndexError) as error:
        raise ConfigError(f"{name}: no TensorFlow Lite model, or a broken one") from error
    described = _file(_metadata(name, mean, deviation), MODEL_METADATA)
    entry = _table(_text(KEY), len(buffers))
    parts: list[int | Part | Old | None] = list(root)
    parts[BUFFERS] = _vector([*map(Old, buffers), _table(_bytes(described))])
    parts[METADATA] = _vector([*map(Old, metadata), entry])
    return _file(_table(*parts), MODEL, model)


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(model: bytes) -> tuple[list[int | Old | None], list[int], list[int]]:
    """Of a model's root: its fields (the first is a number), and where its buffers and its metadata are."""
    if model[4:8] != MODEL:
        raise IndexError
    root = _u32(model, 0)
    shape = root - struct.unpack_from("<i", model, root)[0]
    known = (struct.unpack_from("<H", model, shape)[0] - 4) // 2
    at = [struct.unpack_from("<H", model, shape + 4 + 2 * n)[0] if n < known else 0 for n in range(FIELDS)]
    places = [root + offset if offset else None for offset in at]
    fields: list[int | Old | None] = [None if place is None else Old(place + _u32(model, place)) for place in places]
    if places[0] is not None:
        fields[0] = _u32(model, places[0])  # the format's version
    return fields, _items(model, places[BUFFERS]), _items(model, places[METADATA])


def _items(model: bytes, place: int | None) -> list[int]:
    """Where the tables are that a vector holds, to which the field at ``place`` points."""
    if place is None:
        return []
    vector = place + _u32(model, place)
    items = range(vector + 4, vector + 4 + 4 * _u32(model, vector), 4)
    return [item + _u32(model, item) for item in items]


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


# -- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Old:
    """A place in the old file."""

    at: int


@dataclass
class Part:
    """Bytes, a multiple of 4, where in them others point to, and where they point to the old file."""

    data: bytearray
    start: int = 0
    far: list[tuple[int, Old]] = field(default_factory=list)

    def point(self, slot: int, to: Part | Old) -> None:
        """The four bytes at ``slot`` point to a part, which is put at the end, or to a place in the old file."""
        if isinstance(to, Old):
            self.far.append((slot, to))
            return
        at = len(self.data)
        struct.pack_into("<I", self.data, slot, at + to.start - slot)
        self.data += to.data
        self.far += [(at + place, old) for place, old in to.far]


def _table(*fields: int | Part | Old | None) -> Part:
    """A table; numbers take four bytes each, of which a reader of smaller ones takes the first."""
    sizes = [4 + 2 * len(fields), 4 + 4 * len(fields)]
    offsets = [0 if value is None else 4 + 4 * n for n, value in enumerate(fields)]
    shape = struct.pack(f"<{2 + len(fields)}H", *sizes, *offsets)
    start = len(shape) + -len(shape) % 4
    part = Part(bytearray(shape.ljust(start, b"\0") + struct.pack("<i", start) + bytes(4 * len(fields))), start)
    for n, value in enumerate(fields):
        slot = start + 4 + 4 * n
        if isinstance(value, int):
            struct.pack_into("<I", part.data, slot, value)
        elif value is not None:
            part.point(slot, value)
    return part


def _vector(items: Sequence[Part | Old]) -> Part:
    part = Part(bytearray(struct.pack("<I", len(items)) + bytes(4 * len(items))))
    for n, item in enumerate(items):
        part.point(4 + 4 * n, item)
    return part


def _bytes(data: bytes) -> Part:
    return Part(bytearray(struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)))


def _text(text: bytes) -> Part:
    part = _bytes(text + b"\0")
    struct.pack_into("<I", part.data, 0, len(text))
    return part


def _floats(*values: float) -> Part:
    return Part(bytearray(struct.pack(f"<I{len(values)}f", len(values), *values)))


def _metadata(name: str, mean: float, deviation: float) -> Part:
    """ModelMetadata of one picture that goes in."""
    scale = _table(NORMALIZATION, _table(_floats(mean), _floats(deviation)))
    content = _table(IMAGE, _table(RGB))
    tensor = _table(_text(b"image"), None, None, content, _vector([scale]))
    graph = _table(None, None, _vector([tensor]))
    return _table(_text(name.encode()), None, None, _vector([graph]))


def _file(root: Part, known_by: bytes, old: bytes = b"") -> bytes:
    """A file of a root, and what it points to; then the old file."""
    whole = Part(bytearray(4) + known_by)
    whole.point(0, root)
    whole.data += bytes(-len(whole.data) % ALIGNED)
    for slot, to in whole.far:
        struct.pack_into("<I", whole.data, slot, len(whole.data) + to.at - slot)
    return bytes(whole.data) + old
