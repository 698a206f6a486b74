"""Changes behind the hashes of a chip image: sealed again, so that what reads the contents is reached."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from image_parts import contents_of, seal
from pcmedge._contract.image_pb2 import Manifest
from pcmedge.image import ChipImage
from pcmedge.image.tables import _to_file

from . import messages, onnx_graphs
from .messages import FLOATS, INTEGERS, TEXTS
from .random_bytes import MUTATIONS as RANDOM
from .random_bytes import Rng

Mutation = Callable[[Rng, bytes], bytes]
TABLES = ("tiles", "columns", "statistics", "buffer", "reference")


@functools.lru_cache(64)
def _opened(data: bytes) -> tuple[ChipImage, dict[str, bytes]]:
    image = ChipImage.from_bytes(data)
    return image, contents_of(image)


def manifest(rng: Rng, data: bytes) -> bytes:
    """Fields of the manifest; half of the time after the writer has laid the segments out, so that those lie too."""
    image, contents = _opened(data)

    def change(found: Manifest) -> None:
        messages.mutate(rng, found)

    return _sealed(image, contents, change)


def layers(rng: Rng, data: bytes) -> bytes:
    """Fields of one layer, one input or one output."""
    image, contents = _opened(data)

    def change(found: Manifest) -> None:
        held = [*found.layers, *found.model.inputs, *found.model.outputs, found.profile]
        messages.mutate(rng, held[int(rng.integers(len(held)))])

    return _sealed(image, contents, change)


def manifest_bytes(rng: Rng, data: bytes) -> bytes:
    image, _ = _opened(data)
    length = image.header.manifest_length
    made = _random(rng, data[192 : 192 + length])[:length].ljust(length, b"\0")
    return _hashed(data[:192] + made + data[192 + length :], made)


def header(rng: Rng, data: bytes) -> bytes:
    first = _random(rng, data[:160])[:160].ljust(160, b"\0")
    return first + hashlib.sha256(first).digest() + data[192:]


def segment_bytes(rng: Rng, data: bytes) -> bytes:
    image, contents = _opened(data)
    name = list(contents)[int(rng.integers(len(contents)))]
    return seal(image, contents={name: _random(rng, contents[name])})


def program(rng: Rng, data: bytes) -> bytes:
    """The ONNX program, changed as ONNX models are."""
    image, contents = _opened(data)
    known = list(onnx_graphs.MUTATIONS.values())
    return seal(image, contents={"program": known[int(rng.integers(len(known)))](rng, contents["program"])})


def cells(rng: Rng, data: bytes) -> bytes:
    """One to three cells of an Arrow table; where it is the tiles', also their order and number."""
    image, contents = _opened(data)
    name = str(rng.choice([name for name in TABLES if name in contents]))
    table = pa.ipc.open_file(contents[name]).read_all()
    columns = {field.name: table.column(field.name).to_pylist() for field in table.schema}
    for _ in range(int(rng.integers(1, 4))):
        column = columns[str(rng.choice(list(columns)))]
        if column:
            at = int(rng.integers(len(column)))
            column[at] = _cell(rng, column[at], column)
    rows = max((len(column) for column in columns.values()), default=0)
    dice = rng.random()
    if rows and dice < 0.2:
        at = int(rng.integers(rows))
        for column in columns.values():
            column.append(column[at]) if dice < 0.1 else column.pop(at)
    try:
        arrays = [pa.array(columns[field.name], type=field.type) for field in table.schema]
        made = _to_file(pa, pa.table(arrays, schema=table.schema))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        made = _random(rng, contents[name])
    return seal(image, contents={name: made})


def targets(rng: Rng, data: bytes) -> bytes:
    """Other conductances under right hashes, the tile table's included: an image that is whole, and another one."""
    image, contents = _opened(data)
    held = bytearray(contents["targets"])
    table = pa.ipc.open_file(contents["tiles"]).read_all()
    rows = table.to_pylist()
    row = rows[int(rng.integers(len(rows)))]
    start, length = row["offset"], row["length"]
    at = start + 2 * int(rng.integers(length // 2))
    held[at : at + 2] = int(rng.choice([-32768, -32767, 0, 1, 32767])).to_bytes(2, "little", signed=True)
    row["sha256"] = hashlib.sha256(held[start : start + length]).digest()
    arrays = [pa.array([each[field.name] for each in rows], type=field.type) for field in table.schema]
    made = _to_file(pa, pa.table(arrays, schema=table.schema))
    return seal(image, contents={"targets": bytes(held), "tiles": made})


def _cell(rng: Rng, old: Any, column: list[Any]) -> Any:
    dice = rng.random()
    if dice < 0.3:
        return column[int(rng.integers(len(column)))]
    if isinstance(old, list) and old:
        made = list(old)
        if dice < 0.5:
            return made[:-1]
        at = int(rng.integers(len(made)))
        made[at] = _cell(rng, made[at], made)
        return made
    if isinstance(old, float):
        return FLOATS[int(rng.integers(len(FLOATS)))]
    if isinstance(old, str):
        return TEXTS[int(rng.integers(len(TEXTS)))]
    if isinstance(old, bytes):
        return rng.bytes(len(old))
    return int(old) + int(rng.integers(-3, 4)) if dice < 0.7 else INTEGERS[int(rng.integers(len(INTEGERS)))]


def _random(rng: Rng, data: bytes) -> bytes:
    known = list(RANDOM.values())
    return known[int(rng.integers(len(known)))](rng, data) if data else b"\0"


def _sealed(image: ChipImage, contents: dict[str, bytes], change: Callable[[Manifest], None]) -> bytes:
    """Sealed with the change; where the change breaks the loop that lays segments out, with the old layout."""
    changed = Manifest()
    changed.CopyFrom(image.manifest)
    change(changed)
    made = changed.SerializeToString(deterministic=True)
    data = image.to_bytes()
    room = image.manifest.segments[0].offset - 192
    if len(made) <= room:
        return _hashed(data[:192] + made.ljust(room, b"\0") + data[192 + room :], made)
    return seal(image, change=lambda found: found.CopyFrom(changed), contents=contents)


def _hashed(data: bytes, manifest: bytes) -> bytes:
    """With the header's length and hashes of a manifest that is in place."""
    found = bytearray(data)
    found[40:48] = len(manifest).to_bytes(8, "little")
    found[64:96] = hashlib.sha256(manifest).digest()
    found[160:192] = hashlib.sha256(found[:160]).digest()
    return bytes(found)


MUTATIONS: dict[str, Mutation] = {
    made.__name__: made for made in (manifest, layers, manifest_bytes, header, segment_bytes, program, cells, targets)
}
