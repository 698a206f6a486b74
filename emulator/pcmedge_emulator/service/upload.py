"""Taking in what clients stream: a chip image in chunks, calibration samples. Bounded, and verified before use."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge._contract import device_pb2, image_pb2
from pcmedge.errors import ImageCorruptError, InputError, InputShapeError, InputValueError, StoreUnwritableError
from pcmedge.image import ChipImage
from pcmedge.protocol import tensors

MAX_IMAGE_BYTES = 4 << 30
MAX_CHUNK_BYTES = 1 << 20
MAX_BUFFER_BYTES = 256 << 20
MAX_STATISTICS_NODES = 1 << 16
MAX_STATISTICS_VALUES = 1 << 22
_IN_MEMORY_BYTES = 32 << 20


def program_header(requests: Iterator[device_pb2.ProgramRequest], most: int) -> device_pb2.ProgramHeader:
    """The first message of a Program stream. InputError if it is not a header with a size of at most ``most`` bytes."""
    first = next(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InputError("the first message of Program must be the header")
    if first.header.image_size == 0:
        raise ImageCorruptError(
            "chip image refused (truncated): it has no bytes at all; copy it again", check="truncated"
        )
    if not 0 < first.header.image_size <= most:
        raise InputValueError(f"expected an image of 1 to {most} bytes, the header announces {first.header.image_size}")
    return first.header


@contextlib.contextmanager
def received_image(requests: Iterator[device_pb2.ProgramRequest], size: int) -> Iterator[ChipImage]:
    """The verified image of a Program stream; large ones wait in a temporary file.

    ImageCorruptError if the stream ends early, is longer or shorter than announced, or its digest is wrong, and for
    every fault the image's own hashes find.
    """
    if size <= _IN_MEMORY_BYTES:
        data = bytearray()
        _receive(requests, size, data.extend)
        yield ChipImage.from_bytes(bytes(data))
        return
    with _temporary_file(size) as file:
        try:
            _receive(requests, size, file.write)
            file.flush()
        except OSError as error:
            raise _no_room(size, error) from error
        yield ChipImage.open(file.name)


def _temporary_file(size: int) -> tempfile._TemporaryFileWrapper[bytes]:
    try:
        return tempfile.NamedTemporaryFile(suffix=".pcmi")
    except OSError as error:
        raise _no_room(size, error) from error


def _no_room(size: int, error: OSError) -> StoreUnwritableError:
    return StoreUnwritableError(
        f"an image of {size} bytes does not fit into {tempfile.gettempdir()}: {error.strerror}; free space there, or "
        "point TMPDIR elsewhere"
    )


def _receive(requests: Iterator[device_pb2.ProgramRequest], size: int, write: Any) -> None:
    digest = hashlib.sha256()
    received = 0
    for request in requests:
        part = request.WhichOneof("part")
        if part == "end":
            _check_end(request.end, size, received, digest.digest())
            return
        if part != "chunk":
            raise InputError(f"after the header, Program takes chunks and then the end; found {part or 'nothing'}")
        if len(request.chunk) > MAX_CHUNK_BYTES:
            raise InputValueError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes; found {len(request.chunk)}")
        received += len(request.chunk)
        if received > size:
            raise ImageCorruptError(f"the header announced {size} bytes, more arrived", check="size", expected=size)
        digest.update(request.chunk)
        write(request.chunk)
    raise ImageCorruptError(
        f"the stream ended after {received} of {size} bytes, before its end message; send the image again",
        check="complete",
        expected=size,
        found=received,
    )


def _check_end(end: device_pb2.ProgramEnd, size: int, received: int, digest: bytes) -> None:
    if received != size:
        raise ImageCorruptError(
            f"expected {size} bytes as the header announced, received {received}; send the image again",
            check="size",
            expected=size,
            found=received,
        )
    if end.image_sha256 != digest:
        raise ImageCorruptError(
            "the SHA-256 of what arrived is not the one sent at its end; send the image again",
            check="digest",
            expected=end.image_sha256.hex(),
            found=digest.hex(),
        )


def buffer_header(requests: Iterator[device_pb2.CalibrationBufferRequest]) -> device_pb2.CalibrationBufferHeader:
    first = next(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InputError("the first message of a calibration buffer must be the header")
    return first.header


Statistics = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def received_buffer(
    requests: Iterator[device_pb2.CalibrationBufferRequest], model: image_pb2.Model
) -> tuple[dict[str, NDArray[Any]], Statistics | None, bytes]:
    """Samples of every input [samples, ...] from a stream; their digital statistics (None if none came) and the SHA-256
    of the image those were measured on. InputShapeError if the bytes do not fit the model.
    """
    parts: dict[str, list[NDArray[Any]]] = {spec.name: [] for spec in model.inputs}
    statistics: Statistics = {}
    image, received, values = b"", 0, 0
    for request in requests:
        part = request.WhichOneof("part")
        if part == "statistics":
            image = _image_of(request.statistics, image)
            values = _add_statistics(statistics, request.statistics, values)
            continue
        if part != "samples":
            raise InputError("after the header, a calibration buffer takes samples and their statistics only")
        samples = request.samples
        if len(samples.inputs) != len(model.inputs):
            raise InputError(
                f"model {model.name!r} has {len(model.inputs)} inputs, the samples carry {len(samples.inputs)}"
            )
        received += sum(len(data) for data in samples.inputs)
        if received > MAX_BUFFER_BYTES:
            raise InputValueError(f"a calibration buffer has at most {MAX_BUFFER_BYTES} bytes; send fewer samples")
        for spec, data in zip(model.inputs, samples.inputs, strict=True):
            parts[spec.name].append(_samples(spec, samples.count, data))
    if not any(len(part) for part in next(iter(parts.values()))):
        raise InputShapeError("expected at least one calibration sample, found none")
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, statistics if image else None, image


def _image_of(statistics: device_pb2.CalibrationStatistics, before: bytes) -> bytes:
    """The image that statistics are of; every message of a stream must say the same."""
    found = statistics.image_sha256
    if len(found) != 32 or (before and found != before):
        raise InputValueError(
            "statistics of a calibration buffer must say which image they were measured on: expected its SHA-256 "
            f"(32 bytes), the same in every message; found {found.hex() or 'nothing'}"
        )
    return found


def _add_statistics(known: Statistics, message: device_pb2.CalibrationStatistics, values: int) -> int:
    """Adds what came to what is known, which has this many values; returns how many it has then."""
    for each in message.nodes:
        if each.node in known:
            raise InputValueError(f"statistics of {each.node!r} came twice; send each node once", node=each.node)
        known[each.node] = (np.array(each.mean, np.float32), np.array(each.variance, np.float32))
        values += len(each.mean) + len(each.variance)
    if len(known) > MAX_STATISTICS_NODES or values > MAX_STATISTICS_VALUES:
        raise InputValueError(
            f"statistics of a calibration buffer have at most {MAX_STATISTICS_NODES} nodes and {MAX_STATISTICS_VALUES} "
            f"values; found {len(known)} and {values}"
        )
    return values


def _samples(spec: image_pb2.TensorSpec, count: int, data: bytes) -> NDArray[Any]:
    shape = (count, *spec.shape[1:])
    if any(dimension < 0 for dimension in shape):
        raise InputShapeError(
            f"input {spec.name!r} has shape {list(spec.shape)}; a calibration buffer needs only the batch free",
            tensor=spec.name,
        )
    return tensors.unpack(spec.datatype, shape, data, spec.name)
