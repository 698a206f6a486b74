"""Changes that know nothing of the format: what bad disks, bad lines and dumb fuzzers do."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
WORDS = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def some_bytes(rng: Rng, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        found[int(rng.integers(len(found)))] = int(rng.integers(256))
    return bytes(found)


def some_bits(rng: Rng, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
    return bytes(found)


def cut(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data)))]


def inserted(rng: Rng, data: bytes) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return data[:at] + rng.bytes(int(rng.integers(1, 65))) + data[at:]


def block_moved(rng: Rng, data: bytes) -> bytes:
    """Two blocks swapped, or one copied over the other."""
    size = int(rng.integers(1, 65))
    one, other = sorted(int(each) for each in rng.integers(0, max(1, len(data) - size), 2))
    found = bytearray(data)
    first, second = data[one : one + size], data[other : other + size]
    found[other : other + len(first)] = first
    if rng.random() < 0.5:
        found[one : one + len(second)] = second
    return bytes(found)


def block_doubled(rng: Rng, data: bytes) -> bytes:
    size, at = int(rng.integers(1, 129)), int(rng.integers(len(data)))
    return data[: at + size] + data[at : at + size] + data[at + size :]


def run(rng: Rng, data: bytes) -> bytes:
    """A run of 0x00 or 0xFF."""
    size, at = int(rng.integers(1, 129)), int(rng.integers(len(data)))
    fill = b"\0" if rng.random() < 0.5 else b"\xff"
    return data[:at] + fill * min(size, len(data) - at) + data[at + size :]


def words(rng: Rng, data: bytes) -> bytes:
    """Aligned 32-bit words replaced: in a FlatBuffer those are offsets, lengths, shapes and scalars.

    Among the values are an offset to itself, one backwards, one to the end, and those of other words.
    """
    found = bytearray(data[: len(data) // 4 * 4] or b"\0\0\0\0")
    for _ in range(int(rng.integers(1, 4))):
        at = 4 * int(rng.integers(len(found) // 4))
        other = 4 * int(rng.integers(len(found) // 4))
        own = (0, -at, len(found) - at, len(found), other - at, -4, struct.unpack_from("<I", found, other)[0])
        value = int(rng.choice(own) if rng.random() < 0.5 else rng.choice(WORDS))
        struct.pack_into("<I", found, at, value & 0xFFFFFFFF)
    return bytes(found)


MUTATIONS: dict[str, Callable[[Rng, bytes], bytes]] = {
    made.__name__: made for made in (some_bytes, some_bits, cut, inserted, block_moved, block_doubled, run, words)
}
