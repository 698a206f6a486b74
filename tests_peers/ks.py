"""Two-sample Kolmogorov-Smirnov with a stated confidence for a whole family of comparisons.

The devices of a sample are independent but not identically distributed (each has its own target, the same on both
sides). That makes the distance of two equal models smaller than the bound assumes: the test is conservative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.999
"""That a family of comparisons of equal models passes as a whole (Bonferroni over its members)."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of two samples: the largest distance of their distribution functions."""

    quantity: str
    level: str
    moment: str
    size: int
    distance: float

    def critical(self, family: int) -> float:
        """The distance that equal models exceed in (1 - CONFIDENCE) / family of all cases at most."""
        return math.sqrt(-0.5 * math.log((1 - CONFIDENCE) / family / 2)) * math.sqrt(2 / self.size)

    def ratio(self, family: int) -> float:
        """Distance over critical distance: above 1 the samples differ."""
        return self.distance / self.critical(family)

    def power(self, family: int) -> float:
        """Estimated chance that another pair of samples would be told apart, if this distance is the true one.

        The distance of the empirical functions has a standard deviation of at most sqrt(1/2 / size) at any point.
        """
        return NormalDist().cdf((self.distance - self.critical(family)) / math.sqrt(0.5 / self.size))


def compare(quantity: str, level: str, moment: str, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Both samples one-dimensional; the smaller one's size counts for the critical distance."""
    first, second = np.sort(ours), np.sort(theirs)
    points = np.concatenate([first, second])
    share_first = np.searchsorted(first, points, side="right") / first.size
    share_second = np.searchsorted(second, points, side="right") / second.size
    distance = float(np.max(np.abs(share_first - share_second)))
    return Comparison(quantity, level, moment, min(first.size, second.size), distance)


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """The one that comes closest to telling the samples apart, or does so most clearly."""
    return max(comparisons, key=lambda each: each.ratio(len(comparisons)))


def assert_same(comparisons: Sequence[Comparison]) -> None:
    """No member of the family tells the two samples apart."""
    family = len(comparisons)
    apart = [each for each in comparisons if each.ratio(family) > 1]
    assert not apart, [f"{each}: at most {each.critical(family):.5f}" for each in apart]
