"""The synthetic pictures "leaves-1": occluding discs and boxes with a fine texture, in integers.

A dead-leaves picture (Matheron 1968; Lee, Mumford, Huang 2001) has what noise of the right spectrum lacks: edges, areas
of one colour, occlusion. The definition is in docs/image-format.md, "Synthetic buffers".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LEAVES: Final = 80
"""On each picture, the background not counted."""

RADII: Final = (416, 326, 269, 226, 193, 167, 145, 127, 112, 99, 88, 78, 70, 62, 56, 51)
"""Half the size of a leaf in 1,024ths of the longer side: few large ones, many small ones down to 1.6 of 32 pixels."""

OCTAVES: Final = ((1, 2), (2, 3), (4, 5), (8, 7), (16, 11))
"""Lattice distance in pixels, and weight, of the texture: amplitude ~ 1 / frequency^1.6."""

SHARED_COLOUR: Final = 2
SHARED_TEXTURE: Final = 3
"""What all channels have in common, to 1 of their own: the colours of photographs go together."""

TEXTURE_DIVISOR: Final = 10240
"""Makes the texture's deviation a third of the colours'."""

Words = Callable[[int, int], NDArray[np.uint64]]
Noise = Callable[[int, int], Integers]
Lattice = Callable[[int, int, int, int, int], Integers]
Key = Callable[..., int]


def leaves(
    path: tuple[int, ...], shape: tuple[int, ...], *, key: Key, words: Words, noise: Noise, lattice: Lattice
) -> Integers:
    """Integers of a sample's shape: channels first, pictures on the last two axes, a picture for each plane between."""
    channels, *between, height, width = shape
    pictures = math.prod(between)
    geometry = words(key(*path, 0), pictures * LEAVES).reshape(pictures, LEAVES)
    colours = noise(key(*path, 1), pictures * (LEAVES + 1) * (3 + channels)).reshape(pictures, LEAVES + 1, 3 + channels)
    total = np.empty((channels, pictures, height, width), dtype=np.int64)
    for picture in range(pictures):
        total[:, picture] = _painted(geometry[picture], colours[picture], channels, height, width)
    texture = np.zeros((channels, pictures, height, width), dtype=np.int64)
    for octave, (distance, weight) in enumerate(OCTAVES):
        own = lattice(key(*path, 2 + octave, 0), channels * pictures, height, width, distance)
        shared = lattice(key(*path, 2 + octave, 1), pictures, height, width, distance)
        both = own.reshape(texture.shape) + SHARED_TEXTURE * shared[None]
        texture += weight * (16 // distance) ** 2 * both
    total += texture // TEXTURE_DIVISOR
    return total.reshape(shape)


def _painted(geometry: NDArray[np.uint64], colours: Integers, channels: int, height: int, width: int) -> Integers:
    """One picture, int64 [channels, height, width]. Lengths are in 128ths of a pixel."""

    def bits(first: int, count: int) -> list[int]:
        return [int(word) >> first & (1 << count) - 1 for word in geometry]

    y = (2 * np.arange(height, dtype=np.int64) + 1) * 64
    x = (2 * np.arange(width, dtype=np.int64) + 1) * 64
    fill = SHARED_COLOUR * colours[:, 2:3] + colours[:, 3:]
    painted = np.empty((channels, height, width), dtype=np.int64)
    painted[:] = fill[0][:, None, None]
    places = zip(bits(0, 16), bits(16, 16), bits(32, 4), bits(36, 4), bits(40, 1), bits(41, 1), strict=True)
    for leaf, (down, right, size, slimness, box, lying) in enumerate(places, start=1):
        radius = RADII[size] * max(height, width) // 8
        dy = y - ((down * 160 * height >> 16) - 16 * height)
        dx = x - ((right * 160 * width >> 16) - 16 * width)
        if box:
            slim = radius * (6 + slimness) // 21
            long, short = (dx, dy) if lying else (dy, dx)
            inside = (np.abs(long) < radius), (np.abs(short) < slim)
            rows, columns = inside[::-1] if lying else inside
        else:
            rows, columns = np.abs(dy) < radius, np.abs(dx) < radius
        at = np.ix_(rows, columns)
        ramp = (colours[leaf, 0] * dy[rows][:, None] + colours[leaf, 1] * dx[columns][None]) // radius
        patch = fill[leaf][:, None, None] + ramp
        if not box:
            covered = dy[rows][:, None] ** 2 + dx[columns][None] ** 2 < radius * radius
            patch = np.where(covered, patch, painted[:, at[0], at[1]])
        painted[:, at[0], at[1]] = patch
    return painted
