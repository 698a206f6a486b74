"""Changes of a TFLite model that its own writer would make: a well-formed FlatBuffer that says something hostile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .messages import FLOATS, INTEGERS, TEXTS
from .random_bytes import Rng, words


def edited(rng: Rng, data: bytes) -> bytes:
    """One to three fields of any table set to something else: shapes, indices, options, codes, scales, buffers."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    for _ in range(int(rng.integers(1, 4))):
        places = _survey(model)
        owner, name = places[int(rng.integers(len(places)))]
        before = getattr(owner, name)
        setattr(owner, name, _changed(rng, before))
        if not _packs(model):
            setattr(owner, name, before)
    return _pack(model)


def rewired(rng: Rng, data: bytes) -> bytes:
    """Operators that read or write other tensors: cycles, two writers, tensors that nothing computes."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    graph = model.subgraphs[0]
    for _ in range(int(rng.integers(1, 4))):
        operator = graph.operators[int(rng.integers(len(graph.operators)))]
        owner, side = (operator, "inputs") if rng.random() < 0.5 else (operator, "outputs")
        if rng.random() < 0.2:
            owner, side = graph, str(rng.choice(["inputs", "outputs"]))
        numbers = [int(each) for each in getattr(owner, side)]
        near = (-1, len(graph.tensors), int(rng.integers(len(graph.tensors))), int(rng.integers(len(graph.tensors))))
        numbers[int(rng.integers(len(numbers)))] = near[int(rng.integers(len(near)))]
        setattr(owner, side, numbers)
    if rng.random() < 0.3:
        graph.operators = [graph.operators[int(at)] for at in rng.permutation(len(graph.operators))]
    return _pack(model)


def retyped(rng: Rng, data: bytes) -> bytes:
    """Operators that are others, tensors of other types or shapes, with buffers that fit or do not."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    graph = model.subgraphs[0]
    tensor = graph.tensors[int(rng.integers(len(graph.tensors)))]
    dice = rng.random()
    if dice < 0.3:
        code = model.operatorCodes[int(rng.integers(len(model.operatorCodes)))]
        code.builtinCode = int(rng.integers(0, 210))
        code.deprecatedBuiltinCode = min(127, code.builtinCode)
    elif dice < 0.5:
        tensor.type = int(rng.integers(0, 20))
    elif dice < 0.8 and tensor.shape is not None and len(tensor.shape):
        shape = [int(each) for each in tensor.shape]
        shape[int(rng.integers(len(shape)))] = int(rng.choice([-1, 0, 1, 2, 3, 5, 1000, 2**15, 2**24, 2**31 - 1]))
        tensor.shape = shape
    else:
        buffer = model.buffers[int(rng.integers(len(model.buffers)))]
        held = np.zeros(0, np.uint8) if buffer.data is None else np.asarray(buffer.data, np.uint8)
        buffer.data = np.concatenate([held, held[:8]]) if dice < 0.9 else held[: len(held) // 2]
    return _pack(model)


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _packs(model: Any) -> bool:
    """Whether the writer can write it at all (a number beyond its field, it cannot)."""
    try:
        _pack(model)
    except Exception:
        return False
    return True


def _survey(root: Any) -> list[tuple[Any, str]]:
    """Every (table, field) of the object tree that is set."""
    places: list[tuple[Any, str]] = []
    waiting = [root]
    while waiting:
        owner = waiting.pop()
        for name, value in vars(owner).items():
            if value is None:
                continue
            places.append((owner, name))
            several = value if isinstance(value, list) else [value]
            waiting.extend(each for each in several if hasattr(each, "Pack"))
    return places


def _changed(rng: Rng, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, np.integer)):
        near = (int(value) + 1, int(value) - 1, int(rng.integers(0, 40)))
        pool = near if rng.random() < 0.5 else INTEGERS
        return int(pool[int(rng.integers(len(pool)))])
    if isinstance(value, (float, np.floating)):
        return FLOATS[int(rng.integers(len(FLOATS)))]
    if isinstance(value, bytes | str):
        return TEXTS[int(rng.integers(len(TEXTS)))].encode()
    if isinstance(value, (list, np.ndarray)) and len(value):
        return _changed_list(rng, value)
    return None


def _changed_list(rng: Rng, value: Any) -> Any:
    values = list(value)
    at, dice = int(rng.integers(len(values))), rng.random()
    if dice < 0.2:
        del values[at]
    elif dice < 0.4:
        values.insert(at, values[int(rng.integers(len(values)))])
    elif dice < 0.5:
        values = []
    elif hasattr(values[at], "Pack"):
        values[at] = values[int(rng.integers(len(values)))]
    else:
        values[at] = _changed(rng, values[at])
    if isinstance(value, np.ndarray):
        limits = np.iinfo(value.dtype) if value.dtype.kind in "iu" else None
        kept = [each if limits is None else min(max(int(each), limits.min), limits.max) for each in values]
        return np.array(kept, value.dtype)
    return values


MUTATIONS: dict[str, Callable[[Rng, bytes], bytes]] = {
    "edited": edited, "rewired": rewired, "retyped": retyped, "offsets": words,
}  # fmt: skip
