"""Turn what the library returns into plain JSON values.

One rule per kind: protobuf messages and dataclasses become objects with their own field names, bytes become hex,
enumerations their name (protobuf) or value (Python), arrays nested lists, numbers that JSON has no word for null.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_plain(value: Any) -> Any:
    """``value`` as dict, list, str, int, float, bool or None, all the way down."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "DESCRIPTOR"):
        return _message(value)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "__iter__"):
        return [to_plain(item) for item in value]
    return str(value)


def _message(message: Any) -> dict[str, Any]:
    """A protobuf message with every scalar field, also those at their default, and the messages that are present."""
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        if field.has_presence and not repeated and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if repeated and not isinstance(value, Mapping):
            document[field.name] = [to_plain(item) for item in value]
        elif field.enum_type is not None and not repeated:
            document[field.name] = enum_name(field.enum_type, value)
        else:
            document[field.name] = to_plain(value)
    return document


def enum_name(descriptor: Any, number: int) -> str:
    """``POLICY_KIND_LOG_TIME`` of the enumeration PolicyKind as ``log_time``; an unknown number as its digits."""
    known = descriptor.values_by_number.get(number)
    if known is None:
        return str(number)
    zero = descriptor.values_by_number.get(0)
    prefix = zero.name.removesuffix("UNSPECIFIED") if zero is not None else ""
    return str(known.name).removeprefix(prefix).lower()
