"""Calibration samples made from a seed, the same on every machine, bit for bit.

Everything random is integer arithmetic on 64-bit words; the few float64 operations after it (division, square root,
multiplication, addition, rounding to the element type) are correctly rounded by IEEE 754 and never summed. The
definition is in docs/image-format.md, "Synthetic buffers".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import Manifest
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge.image.datatypes import numpy_dtype
from pcmedge.image.leaves import leaves

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

THREE_SCALES: Final = "three-scales-1"
WHITE: Final = "white-1"
LEAVES: Final = "leaves-1"
GENERATORS: Final = (THREE_SCALES, WHITE, LEAVES)
MOST_CHOSEN: Final = 2**20
"""Numbers of chosen samples are below this."""

# Odd constants of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_MASK: Final = 2**64 - 1
# Distance of lattice points in pixels, and weight, of each scale. Photographs have most power at the coarsest one.
_SCALES: Final = ((1, 1), (4, 2), (16, 4))
# Share of a pixel that all channels have in common, in quarters: the colours of photographs go together.
_SHARED_QUARTERS: Final = 3


def synthetic_buffer(
    generator: str,
    seed: int,
    samples: int,
    shape: Sequence[int],
    dtype: np.dtype[Any] | type[np.generic] | str,
    mean: Sequence[float],
    std: Sequence[float],
    minimum: float,
    maximum: float,
    *,
    stream: int = 0,
    chosen: Sequence[int] = (),
) -> NDArray[Any]:
    """Samples of one model input, an array [samples, *shape] of ``dtype``.

    ``generator``: "leaves-1" paints occluding discs and boxes with a fine texture; "three-scales-1" sums noise on
    lattices of 1, 4 and 16 pixels over the last two axes, most of it common to all channels; both for samples of rank 3
    or more with channels first (others fall back to "white-1"); "white-1" is independent noise, nearly Gaussian. Every
    channel is then given ``mean`` and ``std`` over the whole buffer (units of the input; channels are the first axis of
    a sample of rank >= 3, otherwise there is one) and clipped to ``minimum`` .. ``maximum``, which moves them a little;
    integer types are rounded half to even. ``stream`` is the position of the input in the model. ``chosen``: the
    numbers of the samples, which may be any; by default they are 0, 1, ... ``samples`` - 1.

    Raises InputValueError for an unknown generator, seed, or moments no data has, InputShapeError for their number.
    """
    shape = tuple(shape)
    kind = np.dtype(dtype)
    _check(generator, seed, samples, shape, mean, std, minimum, maximum)
    numbers = tuple(chosen) or tuple(range(samples))
    if len(numbers) != samples or not all(0 <= number < MOST_CHOSEN for number in numbers):
        raise InputValueError(f"expected the numbers of {samples} samples, 0 to {MOST_CHOSEN - 1}, found {numbers}")
    channels = shape[0] if len(shape) >= 3 else 1
    pixels = (channels, math.prod(shape) // channels)
    field = np.empty((samples, *pixels), dtype=np.int64)
    for place, sample in enumerate(numbers):
        path = (seed, stream, sample)
        if len(shape) < 3 or generator == WHITE:
            field[place] = _white(path, pixels)
        elif generator == LEAVES:
            field[place] = _leaves(path, shape).reshape(pixels)
        else:
            field[place] = _three_scales(path, shape).reshape(pixels)
    values = np.empty(field.shape, dtype=kind)
    for channel in range(channels):
        values[:, channel] = _standardised(field[:, channel], mean[channel], std[channel], minimum, maximum, kind)
    return values.reshape(samples, *shape)


def buffer_from_manifest(manifest: Manifest) -> dict[str, NDArray[Any]]:
    """The synthetic calibration buffer a manifest describes: {model input: read-only samples [n, ...]}."""
    buffer = manifest.calibration_buffer
    arrays = {}
    for stream, (made, spec) in enumerate(zip(buffer.inputs, manifest.model.inputs, strict=True)):
        arrays[made.name] = synthetic_buffer(
            buffer.generator, buffer.seed, buffer.samples, made.shape, numpy_dtype(spec.datatype),
            made.mean, made.std, made.minimum, made.maximum, stream=stream, chosen=buffer.chosen,
        )  # fmt: skip
        arrays[made.name].flags.writeable = False
    return arrays


def _check(
    generator: str, seed: int, samples: int, shape: tuple[int, ...],
    mean: Sequence[float], std: Sequence[float], minimum: float, maximum: float,
) -> None:  # fmt: skip
    if generator not in GENERATORS:
        raise InputValueError(
            f"expected one of the generators {', '.join(GENERATORS)}, found {generator!r}", generator=generator
        )
    if not 0 <= seed <= _MASK or samples < 1 or any(size < 1 for size in shape):
        raise InputValueError(
            f"expected a seed of 64 bits and at least one sample and value, found {seed}, {samples}, {shape}"
        )
    channels = shape[0] if len(shape) >= 3 else 1
    if len(mean) != channels or len(std) != channels:
        raise InputShapeError(f"expected {channels} means and deviations, found {len(mean)} and {len(std)}")
    if not all(map(math.isfinite, (*mean, *std, minimum, maximum))) or min(std) < 0 or minimum > maximum:
        raise InputValueError("expected finite moments, no negative deviation and minimum <= maximum")


def _mix(words: Words) -> Words:
    """SplitMix64's output function, modulo 2^64."""
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def _key(*path: int) -> int:
    """One word from a path of numbers: key = mix(key + (number + 1) * gamma), beginning with 0."""
    key = 0
    for number in path:
        word = np.array([(key + (number + 1) * _GAMMA) & _MASK], dtype=np.uint64)
        key = int(_mix(word)[0])
    return key


def _words(key: int, count: int) -> Words:
    """``count`` words; word i is mix(key + (i + 1) * gamma)."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    return _mix(np.uint64(key) + index * np.uint64(_GAMMA))


def _noise(key: int, count: int) -> Integers:
    """``count`` integers -131070 .. 131070, the sums of the four 16-bit parts of words."""
    words = _words(key, count)
    parts = [(words >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
    return np.asarray((parts[0] + parts[1] + parts[2] + parts[3]).astype(np.int64) - 131070)


def _white(path: tuple[int, ...], pixels: tuple[int, int]) -> Integers:
    return np.asarray(_noise(_key(*path), math.prod(pixels)).reshape(pixels))


def _three_scales(path: tuple[int, ...], shape: tuple[int, ...]) -> Integers:
    """Integers of a sample's shape: the last two axes are the picture, the axes between channels and them separate."""
    *planes, height, width = shape
    total = np.zeros(shape, dtype=np.int64)
    for scale, (distance, weight) in enumerate(_SCALES):
        own = _lattice(_key(*path, scale, 0), math.prod(planes), height, width, distance)
        shared = _lattice(_key(*path, scale, 1), math.prod(planes[1:]), height, width, distance)
        mixed = (4 - _SHARED_QUARTERS) * own.reshape(shape) + _SHARED_QUARTERS * shared.reshape(shape[1:])
        total += weight * (16 // distance) * (16 // distance) * mixed
    return total


def _leaves(path: tuple[int, ...], shape: tuple[int, ...]) -> Integers:
    return leaves(path, shape, key=_key, words=_words, noise=_noise, lattice=_lattice)


def _lattice(key: int, planes: int, height: int, width: int, distance: int) -> Integers:
    """Bilinear interpolation between noise on a lattice, times distance^2 so that it stays integer."""
    rows, columns = (height - 1) // distance + 2, (width - 1) // distance + 2
    points = _noise(key, planes * rows * columns).reshape(planes, rows, columns)
    row, part = np.divmod(np.arange(height), distance)
    lines = points[:, row] * (distance - part)[:, None] + points[:, row + 1] * part[:, None]
    column, part = np.divmod(np.arange(width), distance)
    return np.asarray(lines[:, :, column] * (distance - part) + lines[:, :, column + 1] * part)


def _standardised(
    field: Integers, mean: float, std: float, minimum: float, maximum: float, kind: np.dtype[Any]
) -> NDArray[Any]:
    """(field - its mean) / its deviation * std + mean, clipped; the moments of the field come from exact integers."""
    count = field.size
    total = sum(int(part.sum()) for part in field)
    squares = sum(_exact_square_sum(part) for part in field)
    # Python divides integers with one rounding; count^2 * variance is an integer.
    centre = total / count
    deviation = math.sqrt((count * squares - total * total) / (count * count))
    scale = std / deviation if deviation > 0 else 0.0
    values = np.clip((field - centre) * scale + mean, minimum, maximum)
    return np.asarray(np.rint(values) if kind.kind in "iub" else values, dtype=kind)


def _exact_square_sum(field: Integers) -> int:
    """Sum of squares without overflow: |field| < 2^31, so 2^16 squares at a time fit in 64 bits after splitting."""
    flat = np.abs(field.reshape(-1))
    high, low = (flat >> 16), flat & 0xFFFF
    return (int((high * high).sum()) << 32) + (int((high * low).sum()) << 17) + int((low * low).sum())
