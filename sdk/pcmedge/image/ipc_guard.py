"""What an Arrow IPC file claims, read before Arrow reads it: compressed buffers can ask for any amount of memory.

Walks the flatbuffer footer to the record batches and dictionaries with bounds-checked reads of Python integers. Layout:
Apache Arrow columnar format, "IPC File Format" and format/Message.fbs, format/File.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from pcmedge.image.format import corrupt

_MAGIC: Final = b"ARROW1"
_MAX_BATCHES: Final = 64
# Slots of the fields in their flatbuffer tables, and values of the union MessageHeader.
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_KIND, _MESSAGE_HEADER = 1, 2
_DICTIONARY_DATA = 1
_BATCH_COMPRESSION = 3
_KIND_DICTIONARY, _KIND_BATCH = 2, 3


def check_uncompressed(data: memoryview, name: str) -> None:
    """Raise ImageCorruptError (``table-format``) unless ``data`` is an IPC file whose batches are not compressed."""
    if len(data) < 24 or bytes(data[:8]) != _MAGIC + b"\0\0" or bytes(data[-6:]) != _MAGIC:
        raise corrupt("table-format", f"segment {name!r} is not an Arrow IPC file", segment=name)
    try:
        compressed = any(_is_compressed(data, *block) for block in _blocks(data))
    except (struct.error, ValueError) as error:
        raise corrupt("table-format", f"segment {name!r} is not an intact Arrow IPC file: {error}") from error
    if compressed:
        raise corrupt("table-format", f"segment {name!r} is a compressed Arrow file, which images do not allow")


def _blocks(data: memoryview) -> Iterator[tuple[int, int]]:
    """(offset, length) of the metadata of every dictionary and record batch."""
    (length,) = struct.unpack_from("<i", data, len(data) - 10)
    if not 0 < length <= len(data) - 18:
        raise ValueError("footer length")
    footer = data[len(data) - 10 - length : len(data) - 10]
    root = _root(footer)
    for slot in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES):
        field = _field(footer, root, slot)
        if field is None:
            continue
        vector = _follow(footer, field)
        (count,) = struct.unpack_from("<I", footer, vector)
        if count > _MAX_BATCHES:
            raise ValueError(f"{count} batches, at most {_MAX_BATCHES}")
        for index in range(count):
            offset, metadata_length = struct.unpack_from("<qi", footer, vector + 4 + 24 * index)
            if not (8 <= offset <= len(data) and 0 <= metadata_length <= len(data) - offset):
                raise ValueError("batch outside the file")
            yield offset, metadata_length


def _is_compressed(data: memoryview, offset: int, length: int) -> bool:
    marker, size = struct.unpack_from("<Ii", data, offset)
    if marker != 0xFFFFFFFF or not 0 < size <= length - 8:
        raise ValueError("message header")
    message = data[offset + 8 : offset + 8 + size]
    root = _root(message)
    kind_at, header_at = _field(message, root, _MESSAGE_KIND), _field(message, root, _MESSAGE_HEADER)
    if kind_at is None or header_at is None:
        raise ValueError("message without a header")
    kind, batch = message[kind_at], _follow(message, header_at)
    if kind == _KIND_DICTIONARY:
        batch_at = _field(message, batch, _DICTIONARY_DATA)
        if batch_at is None:
            raise ValueError("dictionary without data")
        batch = _follow(message, batch_at)
    elif kind != _KIND_BATCH:
        raise ValueError(f"message of kind {kind}")
    return _field(message, batch, _BATCH_COMPRESSION) is not None


def _root(buffer: memoryview) -> int:
    return _follow(buffer, 0)


def _follow(buffer: memoryview, position: int) -> int:
    (step,) = struct.unpack_from("<I", buffer, position)
    return position + int(step)


def _field(buffer: memoryview, table: int, slot: int) -> int | None:
    """Position of a table's field, or None if it is absent."""
    (back,) = struct.unpack_from("<i", buffer, table)
    vtable = table - back
    if vtable < 0:
        raise ValueError("vtable outside the message")
    (vtable_length,) = struct.unpack_from("<H", buffer, vtable)
    entry = 4 + 2 * slot
    if entry + 2 > vtable_length:
        return None
    (relative,) = struct.unpack_from("<H", buffer, vtable + entry)
    if relative == 0:
        return None
    position = table + int(relative)
    if position >= len(buffer):
        raise ValueError("field outside the message")
    return position
