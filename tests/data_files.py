"""Tiny data sets in the forms CIFAR-10 comes in, made up on the spot."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Pictures = np.ndarray[Any, np.dtype[np.uint8]]


def pictures(count: int, *, seed: int = 0) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def labels(count: int, classes: int = 10) -> list[int]:
    return [index % classes for index in range(count)]


def encoded(picture: Pictures, form: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, form, **options)
    return data.getvalue()


def parquet(
    path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None, rows_per_group: int = 7
) -> Path:
    table = pa.table(dict(columns)).replace_schema_metadata(dict(metadata or {}))
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def class_folders(folder: Path, found: Pictures, truth: list[int], names: list[str], ending: str = "png") -> Path:
    for index, (picture, label) in enumerate(zip(found, truth, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:04d}.{ending}").write_bytes(encoded(picture, "PNG" if ending == "png" else "JPEG"))
    return folder


def planes(found: Pictures) -> bytes:
    return found.transpose(0, 3, 1, 2).tobytes()


def _short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def python2_batch(data: bytes, truth: list[int], *, shape: tuple[int, int] | None = None, kind: bytes = b"u1") -> bytes:
    """The bytes Python 2's cPickle wrote (protocol 2): a dictionary with str keys and a numpy array."""
    rows, columns = shape or (len(truth), 3072)
    numbers = b"".join(b"K" + bytes([each]) for each in truth)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85" + _short(b"b") + b"\x87R"
        b"(K\x01" + b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        b"cnumpy\ndtype\nq\x06" + _short(kind) + b"K\x00K\x01\x87R"
        b"(K\x03" + _short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )
    return (
        b"\x80\x02}q\x01("
        + (_short(b"batch_label") + _short(b"training batch 1 of 5"))
        + (_short(b"labels") + b"](" + numbers + b"e")
        + (_short(b"data") + array)
        + (_short(b"filenames") + b"](" + b"".join(_short(b"a_%d.png" % index) for index in range(len(truth))) + b"e")
        + b"u."
    )
