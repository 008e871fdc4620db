"""Reads an ONNX file without the onnx package: nodes, constants, names, metadata. Only what `hpstm export` writes.

ONNX is protobuf: a message is a list of (field number, value), a value a number or bytes that may hold a message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}  # TensorProto.DataType
_DATA = {1: 4, 6: 5, 7: 7, 9: 5}  # the field that holds a tensor's numbers when its raw bytes (field 9) are not there


@dataclass
class Node:
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, tuple[int | str | None, ...]] = field(default_factory=dict)  # with their shapes
    outputs: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def read_graph(path: Path) -> Graph:
    """The graph of a model file, in the order in which its nodes run.

    Raises:
        ValueError: the file is not what `hpstm export` writes.
    """
    graph = Graph()
    try:
        for number, value in _fields(memoryview(path.read_bytes())):
            if number == 7:
                _read_graph(value, graph)
            elif number == 14:
                entry = dict(_fields(value))
                graph.metadata[_text(entry[1])] = _text(entry[2])
    except (IndexError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f"{path} is not an ONNX file that this program reads ({error!r})") from error
    return graph


def _read_graph(data: memoryview, graph: Graph) -> None:
    for number, value in _fields(data):
        if number == 1:
            graph.nodes.append(_node(value))
        elif number == 5:
            name, array = _tensor(value)
            graph.constants[name] = array
        elif number == 11:
            entry = dict(_fields(value))
            graph.inputs[_text(entry[1])] = _shape(entry[2])
        elif number == 12:
            graph.outputs.append(_text(dict(_fields(value))[1]))


def _shape(data: memoryview) -> tuple[int | str | None, ...]:
    """Of a TypeProto: numbers, and names of what is not fixed."""
    tensor = dict(_fields(dict(_fields(data))[1]))
    sizes = [dict(_fields(size)) for number, size in _fields(tensor.get(2, memoryview(b""))) if number == 1]
    return tuple(size[1] if 1 in size else _text(size[2]) if 2 in size else None for size in sizes)


def _node(data: memoryview) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.op = _text(value)
        elif number == 5:
            parts: dict[int, list[Any]] = {}
            for key, part in _fields(value):
                parts.setdefault(key, []).append(part)
            node.attributes[_text(parts[1][0])] = _attribute(parts)
    return node


def _attribute(parts: dict[int, list[Any]]) -> Any:
    kind = parts[20][0]  # AttributeProto.AttributeType
    if kind == 1:
        return struct.unpack("<f", parts[2][0])[0]
    if kind == 2:
        return _signed(parts[3][0]) if 3 in parts else 0
    if kind == 3:
        return _text(parts[4][0])
    if kind == 7:
        return _numbers(parts.get(8, []))
    raise KeyError(f"attribute of type {kind}")


def _tensor(data: memoryview) -> tuple[str, Array]:
    parts: dict[int, list[Any]] = {}
    for number, value in _fields(data):
        parts.setdefault(number, []).append(value)
    shape, kind = _numbers(parts.get(1, [])), parts[2][0]
    array: Array
    if 9 in parts:
        array = np.frombuffer(parts[9][0], _DTYPES[kind])
    elif kind == 1:
        array = np.frombuffer(b"".join(parts.get(4, [])), np.float32)
    else:
        array = np.array(_numbers(parts.get(_DATA[kind], [])), _DTYPES[kind])
    return _text(parts[8][0]), array.reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: an unsigned number, or bytes, also for the fixed-width numbers."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[kind]
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _numbers(values: list[Any]) -> list[int]:
    """Repeated integers, packed into bytes or one field each."""
    out: list[int] = []
    for value in values:
        if isinstance(value, int):
            out.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            out.append(_signed(number))
    return out


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(value: Any) -> str:
    return bytes(value).decode()
