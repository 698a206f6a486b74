"""Changes of a protobuf message that keep it well-formed: hostile values, things copied, swapped and lost."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from .random_bytes import Rng, some_bytes

INTEGERS = (
    0, 1, -1, 2, 3, -2, 7, 16, 64, 127, 128, 255, 65_536, 2**24, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**40, 2**62,
    2**63 - 1, -(2**63),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, 1e300, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "x", "y", "../../etc/passwd", "a" * 5000, "\0", "N", "é" * 40)
_RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1), Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1), Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}  # fmt: skip


def mutate(rng: Rng, message: Any) -> None:
    """One to three changes, in place, anywhere in the message."""
    for _ in range(int(rng.integers(1, 4))):
        places, texts = _survey(message)
        if not places:
            return
        owner, field = places[int(rng.integers(len(places)))]
        try:
            _change(rng, owner, field, texts)
        except (ValueError, TypeError):  # what protobuf itself refuses to hold (text that is not UTF-8, a range)
            continue


def _survey(message: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Every (message, set field) in it, maps by their values, and every text."""
    places: list[tuple[Any, Any]] = []
    texts: list[Any] = []
    waiting = [message]
    while waiting:
        owner = waiting.pop()
        for field, value in owner.ListFields():
            if isinstance(value, MutableMapping):
                waiting.extend(each for each in value.values() if isinstance(each, Message))
                continue
            places.append((owner, field))
            values = value if _repeated(field) else [value]
            if field.cpp_type == Field.CPPTYPE_MESSAGE:
                waiting.extend(values)
            elif field.type == Field.TYPE_STRING:
                texts.extend(values)
    return places, texts


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _change(rng: Rng, owner: Any, field: Any, texts: list[Any]) -> None:
    dice = rng.random()
    if dice < 0.08:
        owner.ClearField(field.name)
    elif dice < 0.14:
        unset = [each for each in owner.DESCRIPTOR.fields if not _repeated(each)]
        _set(rng, owner, unset[int(rng.integers(len(unset)))], texts)
    elif not _repeated(field):
        _set(rng, owner, field, texts)
    else:
        _change_list(rng, getattr(owner, field.name), field, texts)


def _set(rng: Rng, owner: Any, field: Any, texts: list[Any]) -> None:
    if field.cpp_type == Field.CPPTYPE_MESSAGE:
        getattr(owner, field.name).SetInParent()
    else:
        setattr(owner, field.name, _value(rng, field, getattr(owner, field.name), texts))


def _change_list(rng: Rng, values: Any, field: Any, texts: list[Any]) -> None:
    one, other = (int(each) for each in rng.integers(0, max(1, len(values)), 2))
    dice = rng.random()
    if field.cpp_type == Field.CPPTYPE_MESSAGE:
        copy = type(values[one])()
        copy.CopyFrom(values[one])
        if dice < 0.35:
            values.append(copy)
        elif dice < 0.65:
            values[one].CopyFrom(values[other])
            values[other].CopyFrom(copy)
        elif dice < 0.8:
            values[one].CopyFrom(values[other])
        else:
            del values[one]
    elif dice < 0.6:
        values[one] = _value(rng, field, values[one], texts)
    elif dice < 0.8:
        values.append(_value(rng, field, values[one], texts))
    else:
        del values[one]


def _value(rng: Rng, field: Any, old: Any, texts: list[Any]) -> Any:
    if field.type == Field.TYPE_STRING:
        pool = texts if texts and rng.random() < 0.8 else TEXTS
        return pool[int(rng.integers(len(pool)))]
    if field.type == Field.TYPE_BYTES:
        return _bytes(rng, old)
    if field.cpp_type == Field.CPPTYPE_ENUM:
        return int(rng.integers(0, 30)) if rng.random() < 0.9 else 9999
    if field.cpp_type == Field.CPPTYPE_BOOL:
        return not old
    if field.cpp_type in (Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE):
        return FLOATS[int(rng.integers(len(FLOATS)))] if rng.random() < 0.8 else -2 * old
    low, high = _RANGES[field.cpp_type]
    near = (old + 1, old - 1, 2 * old, -old)
    pool = [each for each in (near if rng.random() < 0.4 else INTEGERS) if low <= each <= high]
    return pool[int(rng.integers(len(pool)))] if pool else 0


def _bytes(rng: Rng, old: bytes) -> bytes:
    dice = rng.random()
    if not old or dice < 0.1:
        return b"" if old else b"\xff" * 8
    if dice < 0.3:
        return old[: int(rng.integers(len(old)))]
    if dice < 0.4:
        return old + old
    if dice < 0.6:
        # As 64-bit numbers: shapes, axes and repeats are.
        at = 8 * int(rng.integers(max(1, len(old) // 8)))
        number = INTEGERS[int(rng.integers(len(INTEGERS)))]
        return (old[:at] + (number & (2**64 - 1)).to_bytes(8, "little") + old[at + 8 :])[: max(len(old), 8)]
    return some_bytes(rng, old)
