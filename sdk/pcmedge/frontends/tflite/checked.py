"""Guarded access to a FlatBuffer: tables and vectors are checked to lie within the file before anything is read.

The generated accessors of the schema package trust every offset. FlatBuffers for Python has no verifier, so this is
one: a table passes :func:`check_table` before its first field is read, and vectors are asked for with a limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pcmedge.errors import CompileError

MAX_NAME = 1024
MAX_RANK = 8
_VTABLE_HEADER = 4


def damaged(what: str) -> CompileError:
    """The error for a file that is not what a converter writes."""
    return CompileError(
        f"The TFLite file is damaged or not a valid model: {what}. Convert the model again, or fetch the file again."
    )


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Whatever reading beyond the buffer, or a nonsensical value, makes Python raise is one typed error."""
    try:
        yield
    except (
        struct.error,
        IndexError,
        KeyError,
        ValueError,
        TypeError,
        OverflowError,
        ZeroDivisionError,
        AttributeError,
        AssertionError,
    ) as error:
        raise damaged(f"{what}: {error or type(error).__name__}") from error


def check_table(table: Any) -> Any:
    """``table`` (an object of the schema package) if its fields and its vtable lie within the buffer."""
    from flatbuffers import encode, packer

    data, position = table._tab.Bytes, int(table._tab.Pos)
    if not 0 <= position <= len(data) - 4:
        raise damaged("a table lies outside the file")
    vtable = position - encode.Get(packer.soffset, data, position)
    if not 0 <= vtable <= len(data) - _VTABLE_HEADER:
        raise damaged("the description of a table lies outside the file")
    described = encode.Get(packer.voffset, data, vtable)
    inline = encode.Get(packer.voffset, data, vtable + 2)
    if described < _VTABLE_HEADER or described % 2 or vtable + described > len(data):
        raise damaged("the description of a table is cut off")
    if inline < 4 or position + inline > len(data):
        raise damaged("a table is cut off")
    fields = np.frombuffer(data, "<u2", (described - _VTABLE_HEADER) // 2, vtable + _VTABLE_HEADER)
    if np.any((fields != 0) & ((fields < 4) | (fields >= inline))):
        raise damaged("a field lies outside its table")
    return table


def length(table: Any, field: str, limit: int) -> int:
    """Number of elements of a vector field; 0 if it is absent."""
    count = int(getattr(table, f"{field}Length")())
    if not 0 <= count <= limit:
        raise damaged(f"{count} entries in '{field}', at most {limit} are read")
    return count


def tables(table: Any, field: str, limit: int) -> list[Any]:
    """The tables in a vector field, each checked."""
    get = getattr(table, field)
    return [check_table(get(index)) for index in range(length(table, field, limit))]


def integers(table: Any, field: str, limit: int) -> tuple[int, ...]:
    """A vector of integers."""
    if not length(table, field, limit):
        return ()
    return tuple(int(value) for value in getattr(table, f"{field}AsNumpy")())


def numbers(table: Any, field: str, limit: int) -> np.ndarray[Any, np.dtype[Any]]:
    """A vector of numbers, as an array that shares the file's memory."""
    if not length(table, field, limit):
        return np.zeros(0)
    return np.asarray(getattr(table, f"{field}AsNumpy")())


def text(value: bytes | None) -> str:
    """A name out of the file: at most 1024 characters, whatever bytes they were."""
    return (value or b"")[:MAX_NAME].decode("utf-8", "replace")
