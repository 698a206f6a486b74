"""Synthetic calibration buffers: the same bits everywhere, the moments asked for, image-like."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge.image.synthetic import synthetic_buffer

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def make(generator: str = "three-scales-1", **changes: Any) -> Any:
    arguments = {"seed": 1, "samples": 16, "shape": (3, 24, 20), "dtype": np.float32, "mean": [0.5, 0.0, -2.0],
                 "std": [0.25, 1.0, 3.0], "minimum": -100.0, "maximum": 100.0}  # fmt: skip
    return synthetic_buffer(generator, **{**arguments, **changes})


# The definition of docs/image-format.md once more, number by number.


def mix(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def key(*path: int) -> int:
    found = 0
    for number in path:
        found = mix((found + (number + 1) * GAMMA) & MASK)
    return found


def noise(of: int, index: int) -> int:
    word = mix((of + (index + 1) * GAMMA) & MASK)
    return sum(word >> shift & 0xFFFF for shift in (0, 16, 32, 48)) - 131070


def lattice(of: int, height: int, width: int, distance: int) -> Callable[[int, int, int], int]:
    rows, columns = (height - 1) // distance + 2, (width - 1) // distance + 2

    def at(plane: int, y: int, x: int) -> int:
        (row, down), (column, right) = divmod(y, distance), divmod(x, distance)

        def point(r: int, c: int) -> int:
            return noise(of, (plane * rows + r) * columns + c)

        upper = point(row, column) * (distance - right) + point(row, column + 1) * right
        lower = point(row + 1, column) * (distance - right) + point(row + 1, column + 1) * right
        return upper * (distance - down) + lower * down

    return at


def three_scales(seed: int, stream: int, sample: int, shape: tuple[int, int, int]) -> list[int]:
    _, height, width = shape
    own = [lattice(key(seed, stream, sample, s, 0), height, width, d) for s, d in enumerate((1, 4, 16))]
    shared = [lattice(key(seed, stream, sample, s, 1), height, width, d) for s, d in enumerate((1, 4, 16))]
    factors = (1 * 256, 2 * 16, 4 * 1)
    return [
        sum(f * (o(c, y, x) + 3 * s(0, y, x)) for f, o, s in zip(factors, own, shared, strict=True))
        for c in range(shape[0]) for y in range(height) for x in range(width)
    ]  # fmt: skip


RADII = (416, 326, 269, 226, 193, 167, 145, 127, 112, 99, 88, 78, 70, 62, 56, 51)


def leaves(seed: int, stream: int, sample: int, shape: tuple[int, int, int]) -> list[int]:
    channels, height, width = shape
    values = []
    octaves = list(zip((1, 2, 4, 8, 16), (2, 3, 5, 7, 11), strict=True))
    own = [lattice(key(seed, stream, sample, 2 + j, 0), height, width, d) for j, (d, _) in enumerate(octaves)]
    shared = [lattice(key(seed, stream, sample, 2 + j, 1), height, width, d) for j, (d, _) in enumerate(octaves)]

    def painted(c: int, y: int, x: int) -> int:
        for leaf in range(80, -1, -1):
            n = [noise(key(seed, stream, sample, 1), leaf * (3 + channels) + i) for i in range(3 + channels)]
            if leaf == 0:
                return 2 * n[2] + n[3 + c]
            w = mix((key(seed, stream, sample, 0) + leaf * GAMMA) & MASK)
            dy = 64 * (2 * y + 1) - ((w & 0xFFFF) * 160 * height >> 16) + 16 * height
            dx = 64 * (2 * x + 1) - ((w >> 16 & 0xFFFF) * 160 * width >> 16) + 16 * width
            r = RADII[w >> 32 & 15] * max(height, width) // 8
            slim = r * (6 + (w >> 36 & 15)) // 21
            if w >> 40 & 1:
                long, short = (dx, dy) if w >> 41 & 1 else (dy, dx)
                hit = abs(long) < r and abs(short) < slim
            else:
                hit = dy * dy + dx * dx < r * r
            if hit:
                return 2 * n[2] + n[3 + c] + (n[0] * dy + n[1] * dx) // r
        raise AssertionError

    for c in range(channels):
        for y in range(height):
            for x in range(width):
                texture = sum(
                    weight * (16 // d) ** 2 * (own[j](c, y, x) + 3 * shared[j](0, y, x))
                    for j, (d, weight) in enumerate(octaves)
                )
                values.append(painted(c, y, x) + texture // 10240)
    return values


def standardised(fields: list[list[int]], mean: float, std: float, low: float, high: float) -> list[np.float32]:
    values = [value for field in fields for value in field]
    n, total, squares = len(values), sum(values), sum(v * v for v in values)
    deviation = math.sqrt((n * squares - total * total) / (n * n))
    centre, scale = total / n, std / deviation
    return [np.float32(min(max((value - centre) * scale + mean, low), high)) for value in values]


@pytest.mark.parametrize(("generator", "defined"), [("three-scales-1", three_scales), ("leaves-1", leaves)])
def test_image_like_samples_are_those_of_the_definition(generator: str, defined: Callable[..., list[int]]):
    shape, seed, stream = (2, 19, 5), 2**64 - 3, 1
    moments = {"mean": [0.5, -1.0], "std": [1.0, 0.125], "maximum": 0.9}
    made = make(generator, seed=seed, stream=stream, samples=2, shape=shape, chosen=(5, 2), **moments)
    fields = [defined(seed, stream, sample, shape) for sample in (5, 2)]
    plane = 19 * 5
    for channel, (mean, std) in enumerate([(0.5, 1.0), (-1.0, 0.125)]):
        part = [field[channel * plane : (channel + 1) * plane] for field in fields]
        assert made[:, channel].reshape(-1).tolist() == standardised(part, mean, std, -100.0, 0.9)


@pytest.mark.parametrize("generator", ["three-scales-1", "white-1", "leaves-1"])
def test_vectors_are_plain_noise(generator: str):
    made = make(generator, samples=3, shape=(40,), mean=[1.0], std=[2.0])
    fields = [[noise(key(1, 0, sample), i) for i in range(40)] for sample in range(3)]
    assert made.reshape(-1).tolist() == standardised(fields, 1.0, 2.0, -100.0, 100.0)


def test_golden_hashes():
    def digest(array: Any) -> str:
        return hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:16]

    assert digest(make()) == "dc3394ed25d1898f"
    assert digest(make("white-1", shape=(3, 24, 20))) == "caa6cd9f53ca036d"
    assert digest(make(shape=(7,), mean=[0.0], std=[1.0])) == "3ac63196d0d54cad"
    assert digest(make("leaves-1")) == "faca2875665caf41"


@pytest.mark.parametrize("generator", ["three-scales-1", "white-1", "leaves-1"])
def test_moments_are_those_asked_for(generator: str):
    made = make(generator).astype(np.float64)
    assert np.allclose(made.mean((0, 2, 3)), [0.5, 0.0, -2.0], atol=1e-5)
    assert np.allclose(made.std((0, 2, 3)), [0.25, 1.0, 3.0], rtol=1e-5)


def test_samples_are_clipped_rounded_and_typed():
    made = make(minimum=-1.0, maximum=1.0)
    assert (made.min(), made.max(), made.dtype) == (-1.0, 1.0, np.float32)
    pixels = make(dtype=np.uint8, mean=[128.0] * 3, std=[80.0] * 3, minimum=0.0, maximum=255.0)
    assert (pixels.dtype, pixels.min(), pixels.max()) == (np.uint8, 0, 255)
    tokens = make("white-1", dtype=np.int64, shape=(9,), mean=[5.0], std=[3.0], minimum=0.0, maximum=11.0)
    assert (tokens.dtype, tokens.shape) == (np.int64, (16, 9))
    assert set(np.unique(tokens)) <= set(range(12))


def test_seed_sample_and_stream_give_different_noise():
    base = make(samples=2)
    assert not np.array_equal(base[0], base[1])
    assert not np.array_equal(base, make(samples=2, seed=2))
    assert not np.array_equal(base, make(samples=2, stream=1))
    assert np.array_equal(base, make(samples=2))


def test_chosen_samples_are_those_of_their_numbers():
    apart = {"shape": (1, 12, 12), "mean": [0.0], "std": [1.0]}
    whole, part = make("leaves-1", samples=6, **apart), make("leaves-1", samples=2, chosen=(1, 4), **apart)
    for place, number in enumerate((1, 4)):
        assert np.corrcoef(part[place].ravel(), whole[number].ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("generator", ["three-scales-1", "leaves-1"])
def test_pictures_are_smooth_and_their_colours_go_together(generator: str):
    made = make(generator, samples=64, shape=(3, 32, 32), mean=[0.0] * 3, std=[1.0] * 3)
    neighbours = np.corrcoef(made[..., 1:].ravel(), made[..., :-1].ravel())[0, 1]
    colours = np.corrcoef(made[:, 0].ravel(), made[:, 1].ravel())[0, 1]
    white = make("white-1", samples=64, shape=(3, 32, 32), mean=[0.0] * 3, std=[1.0] * 3)
    assert neighbours > 0.7
    assert colours > 0.7
    assert abs(np.corrcoef(white[..., 1:].ravel(), white[..., :-1].ravel())[0, 1]) < 0.02


def test_a_channel_that_never_varied_stays_constant():
    made = make(std=[0.0, 1.0, 1.0])
    assert (made[:, 0] == 0.5).all()
    assert make(shape=(1,), samples=1, mean=[3.0], std=[2.0]).tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (InputValueError, {"generator": "magic-1"}),
        (InputValueError, {"seed": -1}),
        (InputValueError, {"seed": 2**64}),
        (InputValueError, {"samples": 0}),
        (InputValueError, {"chosen": (1, 2)}),
        (InputValueError, {"chosen": (2**20,) * 16}),
        (InputValueError, {"shape": (3, 0, 4)}),
        (InputValueError, {"std": [-1.0, 1.0, 1.0]}),
        (InputValueError, {"mean": [math.nan, 1.0, 1.0]}),
        (InputValueError, {"minimum": 1.0, "maximum": 0.0}),
        (InputShapeError, {"mean": [1.0]}),
        (InputShapeError, {"std": [1.0] * 4}),
    ],
)
def test_wrong_arguments_are_typed_errors(kind: type, changes: dict[str, Any]):
    with pytest.raises(kind):
        make(**changes)
