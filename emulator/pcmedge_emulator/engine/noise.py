"""Gaussian numbers for read noise, from a bank drawn once per process, with signs drawn for every call.

Drawing fresh normals for every MVM costs several times the inference itself. Instead each call reads consecutive,
disjoint slices of one large precomputed bank from a random start, and multiplies them with random signs of its own: one
for each picture and channel of a convolution, one for each vector of a matrix product. A normal number times a sign is
the same normal number; but where two calls read the same slices, the signs make them uncorrelated, and an average over
pictures has the variance of independent ones however many calls share the bank.

At the end of the bank a call goes on from its front between two session runs, never inside one. Where one run takes
more than a comfortable bank holds (a measurement of a large calibration buffer, which cannot be cut), each layer begins
at a place of its own: pictures of a batch share nothing still, and where two layers meet, their signs differ. A bank
smaller than what one layer takes of it is refused, and so is one smaller than a run where its size was asked for.
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

# Any fixed key: every process has the same bank, and what differs between calls is where they start, and their signs.
_BANK_KEY = 0x70636D65646765
# Averages over the positions of one plane see the bank's own sampling error, which falls with its size: 16 MiB.
_SMALLEST = 1 << 22
# What calls may make of it: 64 MiB. Only a layer that takes more in one run that cannot be cut does, up to 1 GiB.
_COMFORTABLE = 1 << 24
_LARGEST = 1 << 28
_STEP = 1 << 20
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


def bank_bytes() -> int:
    """Memory of the bank of this process. It grows with what calls need and does not shrink."""
    return _bank.nbytes


def bank_size(per_sample: int, run: int, samples: int = 1, limit: int | None = None, largest: int | None = None) -> int:
    """How large a bank serves a call of ``samples`` samples that each need ``per_sample`` numbers.

    What the call takes with some room to spare, at least 2^22 numbers and 256 samples' worth, but no more than 2^24.
    One session run takes ``run`` numbers, its largest layer ``largest`` of them (all, by default): a bank that does not
    hold the run holds that layer. ``limit``: the largest bank allowed; such a one holds the run. Raises
    :class:`InputShapeError` if that, or a layer of more than 2^28 numbers (1 GiB), cannot be.
    """
    most = _LARGEST if limit is None else limit
    needed = run if limit is not None or largest is None else largest
    if needed > most:
        what = "layer" if needed < run else "batch"
        raise InputShapeError(
            f"read noise needs {needed} numbers for one {what}, expected at most {most}, what its bank may hold; use "
            "smaller inputs or batches",
            needed=needed,
            limit=most,
        )
    wanted = min(_COMFORTABLE, max(_SMALLEST, 256 * per_sample, (samples + _SPARE_SAMPLES) * per_sample))
    # A run that fills the bank still needs places to start from.
    wanted = max(wanted, (run if run <= _COMFORTABLE else needed) + _STEP)
    return min(most, -(-wanted // _STEP) * _STEP)


@dataclass(frozen=True)
class NoisePlan:
    """What one session run takes: per noise input a slice of ``counts[i]`` numbers of the bank in ``shapes[i]``, and
    ``sign_counts[i]`` signs in ``sign_shapes[i]``; ``total`` numbers in all, of one input ``largest`` at most."""

    shapes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    total: int
    largest: int
    sign_shapes: tuple[tuple[int, ...], ...]
    sign_counts: tuple[int, ...]

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]], planes: Sequence[bool] = ()) -> NoisePlan:
        """The plan for these shapes; ``planes[i]`` as :class:`pcmedge_emulator.engine.analog.NoiseInput` (or False)."""
        kinds = planes or [False] * len(shapes)
        counts = tuple(math.prod(shape) for shape in shapes)
        signs = tuple(
            (*shape[:2], *(1 for _axis in shape[2:])) if plane else (*shape[:-1], 1)
            for shape, plane in zip(shapes, kinds, strict=True)
        )
        return cls(
            tuple(shapes),
            counts,
            sum(counts),
            max(counts, default=0),
            signs,
            tuple(math.prod(shape) for shape in signs),
        )


class NoiseCursor:
    """One call's walk through the bank: consecutive slices from a random start, and on from the front at the end.

    ``needed`` is what the call takes in all. A walk of at most half the bank stays in one piece; a longer one uses no
    number twice unless it needs more than the bank holds, and then with other signs.
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
        """The numbers of one session run, as views of the bank: in a row and disjoint, if the bank holds as many."""
        assert plan.largest <= self.size  # bank_size
        apart = plan.total > self.size
        if not apart:
            self._make_room(plan.total)
        found = []
        for shape, count in zip(plan.shapes, plan.counts, strict=True):
            if apart:
                self._position = self._up_to(self.size - count)
            found.append(self._bank[self._position : self._position + count].reshape(shape))
            self._position += count
        return found

    def signs(self, plan: NoisePlan) -> list[FloatArray]:
        """Fresh signs, 1 or -1, for one session run."""
        count = sum(plan.sign_counts)
        bits = np.unpackbits(np.frombuffer(self._rng.bytes(-(-count // 8)), np.uint8), count=count)
        signs = np.where(bits, np.float32(1), np.float32(-1))
        found, first = [], 0
        for shape, size in zip(plan.sign_shapes, plan.sign_counts, strict=True):
            found.append(signs[first : first + size].reshape(shape))
            first += size
        return found

    def _make_room(self, needed: int) -> None:
        if self._position + needed > self.size:
            # Not at 0: a second round would repeat the first one, number for number.
            self._position = self._up_to(min(needed, self.size - needed))

    def _up_to(self, last: int) -> int:
        return int(self._rng.integers(last + 1))
