"""Making a chip image from its parts. The same parts give the same bytes: no times, no random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import (
    Manifest,
    Segment,
    SignatureBlock,
)
from pcmedge.errors import ImageCorruptError, ImageError, InputShapeError, InputTypeError, InputValueError
from pcmedge.image import manifest as manifests
from pcmedge.image import tables
from pcmedge.image.format import HEADER_LENGTH, MAX_MANIFEST_LENGTH, Header, align, sha256
from pcmedge.image.manifest import BUFFER, COLUMNS, PROGRAM, REFERENCE, STATISTICS, TARGETS, TILES
from pcmedge.image.placement import Tile, target_layout
from pcmedge.image.reader import ChipImage
from pcmedge.image.signature import signature_bytes
from pcmedge.image.targets import DTYPES, INT16, Targets

Array = NDArray[Any]
Placed = tuple[Tile, Targets]


def build_image(
    *,
    manifest: Manifest,
    program: bytes,
    tile_targets: Sequence[Placed],
    weight_scales: Mapping[tuple[str, str], Array],
    reference_statistics: Mapping[str, tuple[str, Array, Array]],
    buffer: Mapping[str, Array] | None,
    reference: tuple[Mapping[str, Array], Mapping[str, Array]],
    signatures: SignatureBlock | None = None,
) -> ChipImage:
    """Put an image together and check it as a reader would.

    ``manifest``: everything but ``format_version`` and ``segments``; required features and, if ``kind`` is empty, the
    calibration buffer's description are filled in (a synthetic one needs ``kind``, ``samples`` and ``inputs`` set and
    ``buffer`` None). ``program``: serialized ONNX. ``tile_targets``: tiles numbered 0, 1, ... (offset, length and
    sha256 are filled in), each with [groups, rows, columns]: all int16 in -32767..32767, or all float32 in -1..1 (the
    image then requires ``float-targets-1``). ``weight_scales``: float32 [groups * columns] per (layer, block).
    ``reference_statistics``: node -> (layer, mean, variance). ``buffer`` and the
    two halves of ``reference``: arrays [samples, ...] per input and output.

    Raises InputShapeError, InputTypeError or InputValueError for an argument, ImageError for parts that contradict each
    other (``metadata["check"]`` names the rule of docs/image-format.md).
    """
    tiles, targets, dtype = _targets(tile_targets)
    complete = _described(manifest, reference_statistics, buffer, dtype)
    contents: dict[str, bytes | bytearray] = {
        PROGRAM: bytes(program),
        TILES: tables.write_table(TILES, _tile_columns(tiles)),
        COLUMNS: tables.write_table(COLUMNS, _scale_columns(complete, weight_scales)),
        STATISTICS: tables.write_table(STATISTICS, _statistics_columns(reference_statistics)),
        REFERENCE: tables.write_samples(_reference_columns(complete, reference)),
    }
    if buffer is not None:
        contents[BUFFER] = tables.write_samples(_ordered(buffer, [spec.name for spec in complete.model.inputs], BUFFER))
    contents[TARGETS] = targets
    data = _assemble(complete, contents, signature_bytes(signatures))
    try:
        image = ChipImage(memoryview(data).toreadonly(), path=None, verify=False)
        image.verify()
    except ImageCorruptError as error:
        raise ImageError(f"these parts do not make a chip image: {error.message}", **error.metadata) from error
    return image


def with_signatures(image: ChipImage, signatures: SignatureBlock) -> ChipImage:
    """The same image with another signature block; the manifest, which signatures sign, keeps its bytes."""
    block = signature_bytes(signatures)
    header = image.header
    signed = replace(
        header,
        file_length=header.signature_offset + len(block),
        signature_length=len(block),
        signature_sha256=sha256(block),
    )
    return ChipImage.from_bytes(signed.pack() + image.to_bytes()[HEADER_LENGTH : header.signature_offset] + block)


def rebuffered(
    image: ChipImage,
    buffer: Mapping[str, Array],
    statistics: Mapping[str, tuple[Array, Array]],
    version: int | None = None,
) -> ChipImage:
    """The same image with another stored calibration buffer and the digital statistics (node -> mean, variance) of it.

    See :func:`pcmedge.compiler.with_buffer`, which measures them.
    """
    version = image.version + 1 if version is None else version
    if isinstance(version, bool) or not isinstance(version, int) or not image.version < version < 2**64:
        raise InputValueError(
            f"expected a version larger than that of the image, {image.version}; found {version!r}", version=version
        )
    manifest = Manifest()
    manifest.CopyFrom(image.manifest)
    manifest.model.version = version
    manifest.provenance.rebuffered_from_sha256 = image.sha256
    manifest.ClearField("calibration_buffer")
    # Which features it needs follows from what it holds; a synthetic buffer's may be among those of before.
    kept = [name for name in manifest.required_features if name not in manifests.needed_features(image.manifest)]
    del manifest.required_features[:]
    manifest.required_features.extend(kept)
    layer_of = {layer.statistics_node: layer.name for layer in manifest.layers}
    return build_image(
        manifest=manifest,
        program=image.program(),
        tile_targets=[(tile, image.target(tile)) for tile in image.tiles()],
        weight_scales=image.weight_scales(),
        reference_statistics={node: (layer_of.get(node, ""), *pair) for node, pair in statistics.items()},
        buffer=buffer,
        reference=image.reference_set(),
    )


def resealed(image: ChipImage, change: Callable[[Manifest], None]) -> bytes:
    """The bytes of an image with a changed manifest, right hashes and no signatures; the change is not checked."""
    manifest = Manifest()
    manifest.CopyFrom(image.manifest)
    change(manifest)
    contents = {segment.name: image.segment(segment.name) for segment in image.manifest.segments}
    return bytes(_assemble(manifest, contents, b""))


def _described(
    manifest: Manifest, statistics: Mapping[str, Any], buffer: Mapping[str, Array] | None, dtype: str
) -> Manifest:
    """A copy of the manifest with version, features, calibration buffer and the targets' dtype filled in."""
    complete = Manifest()
    complete.CopyFrom(manifest)
    complete.format_version = manifests.FORMAT_VERSION
    del complete.segments[:]
    complete.segments.add(name=TARGETS, dtype=dtype)
    described = complete.calibration_buffer
    if not described.kind:
        described.kind = "none" if buffer is None else "stored"
    if (buffer is not None) != (described.kind == "stored"):
        raise InputValueError(
            f"a calibration buffer of kind {described.kind!r} {'takes no' if buffer is not None else 'needs'} samples"
        )
    if buffer is not None:
        described.samples = len(next(iter(buffer.values()), ()))
    described.has_reference_statistics = bool(statistics) and described.kind != "none"
    features = dict.fromkeys([*complete.required_features, *manifests.needed_features(complete)])
    del complete.required_features[:]
    complete.required_features.extend(sorted(features))
    return complete


def _targets(placed: Sequence[Placed]) -> tuple[list[Tile], bytearray, str]:
    """The tiles with place and hash filled in, the segment "targets" and its dtype."""
    dtype = np.dtype(placed[0][1].dtype.newbyteorder("<") if placed else INT16)
    for tile, target in placed:
        if dtype.str not in DTYPES.values() or target.dtype != dtype:
            raise InputTypeError(
                f"tile {tile.tile}: expected targets that are all int16 or all float32, found {target.dtype}",
                tile=tile.tile,
            )
        if target.shape != tile.shape:
            raise InputShapeError(
                f"tile {tile.tile}: expected targets of shape {tile.shape}, found {target.shape}", tile=tile.tile
            )
    offsets, length = target_layout((tile for tile, _ in placed), dtype.itemsize)
    data = bytearray(length)
    tiles = []
    for (tile, target), offset in zip(placed, offsets, strict=True):
        raw = np.ascontiguousarray(target, dtype=dtype).tobytes()
        data[offset : offset + len(raw)] = raw
        tiles.append(replace(tile, offset=offset, length=len(raw), sha256=sha256(raw)))
    return tiles, data, dtype.str


def _tile_columns(tiles: Sequence[Tile]) -> dict[str, list[Any]]:
    names = tables.schema(TILES).names
    return {name: [getattr(tile, name) for tile in tiles] for name in names}


def _scale_columns(manifest: Manifest, scales: Mapping[tuple[str, str], Array]) -> dict[str, Any]:
    """The table "columns", in the order of the manifest; blocks it does not know come last (and are refused)."""
    known = [(layer.name, block.name) for layer in manifest.layers for block in layer.blocks]
    keys = [*(key for key in known if key in scales), *(key for key in scales if key not in known)]
    return {
        "layer": [layer for layer, _ in keys],
        "block": [block for _, block in keys],
        "weight_scale": [_float32(scales[key], f"weight scales of {key}") for key in keys],
    }


def _statistics_columns(statistics: Mapping[str, tuple[str, Array, Array]]) -> dict[str, Any]:
    for node, (_, mean, variance) in statistics.items():
        if np.shape(mean) != np.shape(variance):
            raise InputShapeError(
                f"statistics of {node!r}: expected one mean and variance per channel, found shapes "
                f"{np.shape(mean)} and {np.shape(variance)}",
                node=node,
            )
    return {
        "node": list(statistics),
        "layer": [layer for layer, _, _ in statistics.values()],
        "reference_mean": [_float32(mean, f"means of {node!r}") for node, (_, mean, _) in statistics.items()],
        "reference_variance": [_float32(var, f"variances of {node!r}") for node, (_, _, var) in statistics.items()],
    }


def _float32(values: Array, what: str) -> Array:
    if np.ndim(values) != 1:
        raise InputShapeError(f"{what}: expected one axis, found shape {np.shape(values)}")
    return np.asarray(values, dtype=np.float32)


def _reference_columns(
    manifest: Manifest, reference: tuple[Mapping[str, Array], Mapping[str, Array]]
) -> dict[str, Array]:
    inputs = _ordered(reference[0], [spec.name for spec in manifest.model.inputs], "reference inputs")
    outputs = _ordered(reference[1], [spec.name for spec in manifest.model.outputs], "reference outputs")
    columns = {f"input:{name}": array for name, array in inputs.items()}
    columns |= {f"output:{name}": array for name, array in outputs.items()}
    if len({len(array) for array in columns.values()}) > 1:
        counts = {name: len(array) for name, array in columns.items()}
        raise InputShapeError(f"reference inputs and outputs have different numbers of samples: {counts}")
    return columns


def _ordered(arrays: Mapping[str, Array], names: Sequence[str], what: str) -> dict[str, Array]:
    if set(arrays) != set(names):
        raise InputValueError(f"{what}: expected arrays for {', '.join(names)}, found {', '.join(arrays) or 'none'}")
    found = {name: np.asarray(arrays[name]) for name in names}
    if len({len(array) if array.ndim else 0 for array in found.values()}) > 1:
        raise InputShapeError(f"{what}: the arrays have different numbers of samples")
    return found


def _assemble(manifest: Manifest, contents: Mapping[str, bytes | bytearray | memoryview], block: bytes) -> bytearray:
    """The whole file. Offsets are in the manifest and depend on its length: repeat until they agree.

    A larger start makes offsets, and so the manifest, at most longer: the loop grows from below to a fixed point.
    """
    complete = Manifest()
    complete.CopyFrom(manifest)
    hashes = {name: sha256(content) for name, content in contents.items()}
    start, encoded = 0, b""
    while start != align(HEADER_LENGTH + len(encoded)):
        start = align(HEADER_LENGTH + len(encoded))
        end = _place(complete, contents, hashes, start)
        encoded = complete.SerializeToString(deterministic=True)
    if len(encoded) > MAX_MANIFEST_LENGTH:
        raise InputValueError(f"the manifest has {len(encoded)} bytes, at most {MAX_MANIFEST_LENGTH} are allowed")
    signature_offset = align(end)
    header = Header(
        file_length=signature_offset + len(block),
        manifest_length=len(encoded),
        manifest_sha256=sha256(encoded),
        signature_offset=signature_offset,
        signature_length=len(block),
        signature_sha256=sha256(block),
    )
    data = bytearray(header.file_length)
    data[:HEADER_LENGTH] = header.pack()
    data[HEADER_LENGTH : HEADER_LENGTH + len(encoded)] = encoded
    for segment in complete.segments:
        data[segment.offset : segment.offset + segment.length] = contents[segment.name]
    data[signature_offset:] = block
    return data


def _place(manifest: Manifest, contents: Mapping[str, Any], hashes: Mapping[str, bytes], start: int) -> int:
    """Fill in the segments from position ``start`` on; returns the end of the last one.

    The dtype of the targets is that of the segment the manifest has already.
    """
    dtype = next(segment.dtype for segment in manifest.segments if segment.name == TARGETS)
    del manifest.segments[:]
    end = start
    for name, content in contents.items():
        segment = Segment(name=name, offset=align(end), length=len(content), sha256=hashes[name])
        segment.kind = manifests.KINDS[name]
        if name == TARGETS:
            segment.dtype = dtype
            segment.shape.append(len(content) // np.dtype(dtype).itemsize)
        manifest.segments.append(segment)
        end = segment.offset + segment.length
    return end
