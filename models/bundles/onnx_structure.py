"""Refuses ONNX files that refer to other files.

OpenVINO reads an external tensor of a network in memory from any path that the file names, so a
hostile file could read the server's files. The format is a protocol buffer (onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

from models.errors import BundleInvalid

_MAX_DEPTH = 64  # graphs within graphs
_IR_VERSION, _GRAPH = 1, 7  # fields of ModelProto
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types

# Message -> the fields that lead to a tensor, and the message in each.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto


def check_onnx(content: bytes, name: str) -> None:
    """Raise BundleInvalid unless the bytes are an ONNX model that contains all its tensors."""
    try:
        fields = {number for number, _ in _read_fields(memoryview(content))}
        if not {_IR_VERSION, _GRAPH} <= fields:
            raise ValueError("it has no graph")
        external = _has_external_tensor(memoryview(content), "model", 0)
    except (ValueError, IndexError) as error:
        raise BundleInvalid(
            f"{name} is not an ONNX model, or is damaged ({error}). Export it again."
        ) from error
    if external:
        raise BundleInvalid(
            f"{name} keeps tensors in other files. Export the network as one file, or convert it"
            " to OpenVINO IR with `ovc`."
        )


def _has_external_tensor(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    if kind == "tensor":
        return any(
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
            for number, value in _read_fields(message)
        )
    paths = _PATHS[kind]
    return any(
        number in paths
        and isinstance(value, memoryview)
        and _has_external_tensor(value, paths[number], depth + 1)
        for number, value in _read_fields(message)
    )


def _read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field. Raises ValueError, IndexError on damage."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        if key >= 1 << 32:  # protobuf would drop the upper bits, and see another field
            raise ValueError("it has a field of an unknown type")
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _read_varint(message, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _read_varint(message, place)
        elif wire in (_FIXED_64, _FIXED_32):
            length = 8 if wire == _FIXED_64 else 4
        else:
            raise ValueError("it has a field of an unknown type")
        if length > len(message) - place:
            raise ValueError("a field extends past the end of the file")
        yield number, message[place : place + length]
        place += length


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for position in range(10):
        byte = message[place + position]
        value |= (byte & 127) << (7 * position)
        if byte < 128:
            return value, place + position + 1
    raise ValueError("it has a number of more than ten bytes")
