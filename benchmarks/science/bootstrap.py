"""Paired bootstrap over chips and images.

A result is a sum of mean accuracies with signs, for instance baseline - chip. Images and chips are drawn with
replacement, each draw the same images and the same chips for every term ("pigeonhole" bootstrap of crossed factors; A.
Owen, Annals of Applied Statistics 2007, doi 10.1214/07-AOAS122, shows that it errs on the side of too wide intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Term = tuple[float, NDArray[np.float32]]
"""(coefficient, share of reads in which an image was right [chips, images]); one row: no chip in it."""


@dataclass(frozen=True)
class Interval:
    """``low`` to ``high``: 95 % of the draws; ``stderr``: their standard deviation. In the unit of the coefficients."""

    estimate: float
    low: float
    high: float
    stderr: float


def interval(terms: Sequence[Term], *, draws: int = 4000, seed: int = 0) -> Interval:
    """The sum of coefficient x mean over chips and images, and its 95 % interval.

    All terms share the images; those with more than one row share the chips, which must be equally many.
    """
    images = {values.shape[1] for _, values in terms}
    chips = {values.shape[0] for _, values in terms} - {1}
    if len(images) != 1 or len(chips) > 1:
        raise ValueError(f"terms must share images and chips, found {images} images and {chips} chips")
    by_image = _weights(images.pop(), draws, seed)
    by_chip = _weights(chips.pop(), draws, seed + 1) if chips else np.ones((1, draws), np.float32)
    drawn = np.zeros(draws)
    for coefficient, values in terms:
        means = values.astype(np.float32) @ by_image
        drawn += coefficient * np.sum(means * (by_chip if len(values) > 1 else 1.0), axis=0)
    estimate = sum(coefficient * float(values.mean(dtype=np.float64)) for coefficient, values in terms)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(estimate, float(low), float(high), float(drawn.std(ddof=1)))


@lru_cache(maxsize=8)
def _weights(count: int, draws: int, seed: int) -> NDArray[np.float32]:
    """Shares [count, draws] that ``count`` things get when ``count`` of them are drawn with replacement."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = np.empty((count, draws), np.float32)
    for draw in range(draws):
        weights[:, draw] = np.bincount(rng.integers(count, size=count), minlength=count)
    return weights / np.float32(count)
