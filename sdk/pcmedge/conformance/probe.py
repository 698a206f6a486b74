"""The network the suite programs, and images that are wrong in one way each. Needs no onnx.

``scripts/make_conformance_probe.py`` compiled the two images: 16 inputs in four blocks of four, the brightest block
decides between four outputs, a batch norm lies in between. The second image has the outputs turned by one, so that an
answer tells which of them gave it; and the statistics of the batch norm decide how large the winning output is, so that
an answer tells which statistics gave it, through noise and drift.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.device_pb2 import ChipGeometry
from pcmedge._contract.image_pb2 import ChipProfile, Manifest
from pcmedge.image import ChipImage
from pcmedge.image.format import HEADER_LENGTH, sha256
from pcmedge.image.writer import resealed

NAME = "pcmedge-conformance"
INPUT, OUTPUT, CLASSES, WIDTH = "x", "y", 4, 16
Floats = NDArray[np.float32]


@functools.cache
def shipped(number: int) -> ChipImage:
    """Image 1, or image 2 with the outputs turned, as compiled for the profile pcm-512x512."""
    data = files("pcmedge.conformance").joinpath(f"data/probe-{number}.pcmi").read_bytes()
    return ChipImage.from_bytes(data)


def samples(count: int, level: float = 1.0, offset: float = 0.0) -> Floats:
    """[count, 16]: block i mod 4 of sample i is bright, the others dim; ``level`` scales all, ``offset`` adds."""
    inputs = np.full((count, CLASSES, WIDTH // CLASSES), 0.1, np.float32)
    for number in range(count):
        inputs[number, number % CLASSES] = 0.5 + 0.5 * ((number // CLASSES) % 4) / 3
    return np.asarray(np.clip(inputs.reshape(count, WIDTH) * level + offset, 0, 1), np.float32)


def classes(count: int, number: int = 1) -> NDArray[np.int64]:
    """The output that wins for each of ``samples(count)`` in image ``number``."""
    return (np.arange(count) + number - 1) % CLASSES


def image_for(geometry: ChipGeometry | None, number: int = 1, name: str = NAME, version: int | None = None) -> bytes:
    """A probe image for a chip; None, or a chip without a profile yet, takes the shipped profile.

    ADC steps are those of 8 bits.
    """

    def change(manifest: Manifest) -> None:
        manifest.model.name = name
        manifest.model.version = manifest.model.version if version is None else version
        if geometry is None or not geometry.tile_rows:
            return
        before = 2**manifest.profile.dac_bits - 1
        manifest.profile.CopyFrom(_profile(geometry))
        for layer in manifest.layers:
            for block in layer.blocks:
                block.dac_step *= before / (2**geometry.dac_bits - 1)

    return resealed(shipped(number), change)


def _profile(geometry: ChipGeometry) -> ChipProfile:
    return ChipProfile(
        name=geometry.profile,
        tile_rows=geometry.tile_rows,
        tile_columns=geometry.tile_columns,
        tiles=geometry.tiles,
        dac_bits=geometry.dac_bits,
        adc_bits=geometry.adc_bits,
        g_max_microsiemens=geometry.g_max_microsiemens,
    )


def norm_node() -> str:
    """The batch norm of the probe."""
    return next(layer.statistics_node for layer in shipped(1).manifest.layers if layer.statistics_node)


# --------------------------------------------------------------------------------------------- wrong in one way each


def requiring(data: bytes, feature: str) -> bytes:
    """The image with one more required feature."""
    return resealed(ChipImage.from_bytes(data), lambda manifest: manifest.required_features.append(feature))


def mentioning(data: bytes, feature: str) -> bytes:
    """The image with one more optional feature."""
    return resealed(ChipImage.from_bytes(data), lambda manifest: manifest.optional_features.append(feature))


def profiled(data: bytes, change: Callable[[ChipProfile], None]) -> bytes:
    """The image as if it had been compiled for another chip."""
    return resealed(ChipImage.from_bytes(data), lambda manifest: change(manifest.profile))


def of_container(data: bytes, version: int) -> bytes:
    """The image in a container of another version, its header hashed rightly."""
    changed = bytearray(data)
    changed[8:12] = version.to_bytes(4, "little")
    changed[HEADER_LENGTH - 32 : HEADER_LENGTH] = sha256(changed[: HEADER_LENGTH - 32])
    return bytes(changed)


def flipped(data: bytes, position: int) -> bytes:
    """The image with one bit turned over."""
    changed = bytearray(data)
    changed[position] ^= 0x10
    return bytes(changed)


def places(data: bytes) -> dict[str, int]:
    """A byte in every part of an image that something depends on."""
    image = ChipImage.from_bytes(data)
    found = {"the header": 20, "the manifest": HEADER_LENGTH + image.header.manifest_length // 2}
    for segment in image.manifest.segments:
        found[f"the segment {segment.name!r}"] = segment.offset + segment.length // 2
    return found
