"""Frozen dataclasses to JSON and back, and arrays to bytes and back: how the store writes values.

No pickle: a store is a file that others may have touched.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _typed(kind: Any, value: Any) -> Any:
    """``value`` as read from JSON, as ``kind``: a dataclass, enum, bytes, tuple[X, ...], Mapping[str, X], X | None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _typed(next(a for a in arguments if a is not types.NoneType), value)
    if origin is tuple:
        return tuple(_typed(arguments[0], item) for item in value)
    if origin is not None:
        return {_typed(arguments[0], key): _typed(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _fields(kind)
        return kind(**{name: _typed(hints[name], item) for name, item in value.items() if name in hints})
    return bytes.fromhex(value) if kind is bytes else kind(value)


def encode(value: Any) -> bytes:
    """A dataclass (nested, with tuples, mappings, enums, bytes) as JSON. Infinities are kept, arrays are refused."""
    return json.dumps(_plain(value), separators=(",", ":")).encode()


def decode(data: bytes, kind: type[Value]) -> Value:
    """What :func:`encode` wrote. Fields that the dataclass no longer has are dropped, missing ones take defaults."""
    typed: Value = _typed(kind, json.loads(data))
    return typed


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as one uncompressed npz. Names are kept in an array of their own: any text will do."""
    names = np.frombuffer(json.dumps(list(arrays)).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, names=names, **{f"a{i}": array for i, array in enumerate(arrays.values())})
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """What :func:`pack` wrote. Never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names = json.loads(arrays["names"].tobytes())
        return {name: arrays[f"a{i}"] for i, name in enumerate(names)}
