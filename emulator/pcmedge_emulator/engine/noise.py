"""Gaussian numbers for read noise, from a bank drawn once per process.

Drawing fresh normals for every MVM costs several times the inference itself. Instead each call reads consecutive,
disjoint slices of one large precomputed bank from a random start. A call never wraps inside one session run as long as
the bank holds what the run needs; the engine makes micro-batches small enough for that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError

FloatArray = npt.NDArray[np.float32]

# Any fixed key: every process has the same bank, and what differs between calls is where they start.
_BANK_KEY = 0x70636D65646765
_SMALLEST = 1 << 18
_LARGEST = 1 << 28

_lock = threading.Lock()
_bank: FloatArray = np.zeros(0, np.float32)


def gaussian_bank(size: int) -> FloatArray:
    """The first ``size`` standard normal numbers of the bank, float32, read-only; drawn on first use."""
    global _bank
    with _lock:
        if _bank.size < size:
            grown = np.random.Generator(np.random.SFC64(_BANK_KEY)).standard_normal(size, dtype=np.float32)
            grown.flags.writeable = False
            _bank = grown
        return _bank[:size]


def bank_size(per_sample: int, largest_slice: int, limit: int) -> int:
    """How large a bank serves an engine that needs ``per_sample`` numbers for one sample.

    A power of two between 2^18 and ``limit``, above ``limit`` only if one sample or the ``largest_slice`` (one MVM of a
    measurement batch) needs it. Raises :class:`InputShapeError` beyond 2^28 numbers (1 GiB).
    """
    least = max(2 * per_sample, 2 * largest_slice, _SMALLEST)
    if least > _LARGEST:
        raise InputShapeError(
            f"read noise needs {per_sample} numbers for one sample and {largest_slice} for one product, "
            f"expected at most {_LARGEST // 2}; use smaller inputs or batches"
        )
    wanted = max(least, min(limit, 64 * per_sample))
    return 1 << (wanted - 1).bit_length()


@dataclass(frozen=True)
class NoisePlan:
    """What one session run takes from the bank: a slice of ``counts[i]`` numbers in ``shapes[i]`` per noise input."""

    shapes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    total: int
    largest: int

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]]) -> NoisePlan:
        """The plan for these shapes."""
        counts = tuple(math.prod(shape) for shape in shapes)
        return cls(tuple(shapes), counts, sum(counts), max(counts, default=0))


class NoiseCursor:
    """One call's walk through the bank: consecutive slices, and a new random start when the end is reached."""

    def __init__(self, bank: FloatArray, rng: np.random.Generator, needed: int) -> None:
        self._bank, self._rng = bank, rng
        self._position = self._start(needed)

    @property
    def size(self) -> int:
        """Numbers in the bank."""
        return self._bank.size

    def slices(self, plan: NoisePlan) -> list[FloatArray]:
        """The numbers of one session run, as views of the bank: in a row and disjoint if the bank holds as many."""
        self._reserve(plan.total)
        found = []
        for shape, count in zip(plan.shapes, plan.counts, strict=True):
            self._reserve(count)
            found.append(self._bank[self._position : self._position + count].reshape(shape))
            self._position += count
        return found

    def _reserve(self, needed: int) -> None:
        if self._position + needed > self._bank.size:
            self._position = self._start(needed)

    def _start(self, needed: int) -> int:
        return int(self._rng.integers(max(self._bank.size - needed, 0) + 1))
