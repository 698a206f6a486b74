"""Gaussian numbers for read noise, from a bank drawn once per process.

Drawing fresh normals for every MVM costs several times the inference itself. Instead each call reads consecutive,
disjoint slices of one large precomputed bank from a random start. The bank holds what a call needs where memory allows;
at its end the call goes on from the front between two session runs, never inside one: the engine makes micro-batches
small enough for that.
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
# What many calls cannot average away is the bank's own sampling error, which falls with its size: 2^22 are 16 MiB.
_SMALLEST = 1 << 22
_LARGEST = 1 << 28
# A walk that passes the end loses up to two session runs of numbers there, a micro-batch each.
_SPARE_SAMPLES = 64

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


def bank_size(per_sample: int, largest_slice: int, limit: int, samples: int = 1) -> int:
    """How large a bank serves a call of ``samples`` samples that each need ``per_sample`` numbers.

    A power of two: what the call takes with some room to spare, at least 2^22 numbers and 256 samples' worth, but no
    more than ``limit`` unless one sample or the ``largest_slice`` (one MVM of a measurement batch) needs it. Raises
    :class:`InputShapeError` beyond 2^28 numbers (1 GiB).
    """
    least = max(2 * per_sample, 2 * largest_slice)
    if least > _LARGEST:
        raise InputShapeError(
            f"read noise needs {per_sample} numbers for one sample and {largest_slice} for one product, "
            f"expected at most {_LARGEST // 2}; use smaller inputs or batches"
        )
    wanted = max(least, min(limit, max(_SMALLEST, 256 * per_sample, (samples + _SPARE_SAMPLES) * per_sample)))
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
    """One call's walk through the bank: consecutive slices from a random start, and on from the front at the end.

    ``needed`` is what the call takes in all. A walk of at most half the bank stays in one piece; a longer one uses no
    number twice unless it needs more than the bank holds.
    """

    def __init__(self, bank: FloatArray, rng: np.random.Generator, needed: int) -> None:
        self._bank, self._rng = bank, rng
        # Two calls that start at one place have the same noise, so a long walk starts anywhere, too.
        self._position = self._up_to(self.size - needed if 2 * needed <= self.size else self.size)

    @property
    def size(self) -> int:
        """Numbers in the bank."""
        return self._bank.size

    def slices(self, plan: NoisePlan) -> list[FloatArray]:
        """The numbers of one session run, as views of the bank: in a row and disjoint if the bank holds as many."""
        if plan.total <= self.size:
            self._make_room(plan.total)
        found = []
        for shape, count in zip(plan.shapes, plan.counts, strict=True):
            self._make_room(count)
            found.append(self._bank[self._position : self._position + count].reshape(shape))
            self._position += count
        return found

    def _make_room(self, needed: int) -> None:
        if self._position + needed > self.size:
            # Not at 0: a second round would repeat the first one, number for number.
            self._position = self._up_to(min(needed, self.size - needed))

    def _up_to(self, last: int) -> int:
        return int(self._rng.integers(last + 1))
