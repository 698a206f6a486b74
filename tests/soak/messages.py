"""Messages of the contract made from its descriptors by Hypothesis: any fields, of any of a few telling values."""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from pcmedge.conformance import probe

DEEPEST = 4

_REALS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3600.0, 1e300, -1e300, float("inf"), float("-inf"), float("nan")])
_WHOLES = st.sampled_from([0, 1, 2, 3, 5, 255, 65535, 2**31 - 1])
_TEXTS = st.sampled_from(
    ["", "small", "x", "y", "scores", "FP32", "BYTES", "INT8", "off", "../../etc/passwd", "ü" * 200, "1", "\0",
     probe.NAME, "a" * 129]
)  # fmt: skip
_KINDS: dict[int, Any] = {
    FieldDescriptor.TYPE_DOUBLE: _REALS,
    FieldDescriptor.TYPE_FLOAT: st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf")]),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: st.sampled_from([b"", b"\x00", bytes(64), bytes(143), bytes(144), b"\xff" * 144]),
    FieldDescriptor.TYPE_INT64: _WHOLES | st.sampled_from([-1, -(2**63), 2**63 - 1, 6, 16, 36]),
    FieldDescriptor.TYPE_INT32: _WHOLES | st.just(-1),
    FieldDescriptor.TYPE_UINT64: _WHOLES | st.just(2**64 - 1),
    FieldDescriptor.TYPE_UINT32: _WHOLES | st.just(2**32 - 1),
    FieldDescriptor.TYPE_ENUM: st.sampled_from([0, 1, 2, 3, 4, 5, 77]),
}


@st.composite
def messages(draw: Any, kind: Any, depth: int = 0) -> Any:
    """Any message of a class."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if depth > DEEPEST or not draw(st.booleans()):
            continue
        target = getattr(message, field.name)
        if isinstance(target, MutableMapping):
            _fill_map(draw, target, field, depth)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill_messages(draw, target, depth)
        elif isinstance(target, MutableSequence):
            target.extend(draw(st.lists(_KINDS[field.type], max_size=4)))
        else:
            setattr(message, field.name, draw(_KINDS[field.type]))
    return message


def _fill_messages(draw: Any, target: Any, depth: int) -> None:
    if not isinstance(target, MutableSequence):
        target.MergeFrom(draw(messages(type(target), depth + 1)))
        target.SetInParent()
        return
    for _ in range(draw(st.integers(0, 2))):
        added = target.add()
        added.MergeFrom(draw(messages(type(added), depth + 1)))


def _fill_map(draw: Any, target: Any, field: Any, depth: int) -> None:
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for name in draw(st.lists(_KINDS[key.type], max_size=2)):
        if value.type == FieldDescriptor.TYPE_MESSAGE:
            target[name].MergeFrom(draw(messages(type(target[name]), depth + 1)))
        else:
            target[name] = draw(_KINDS[value.type])
