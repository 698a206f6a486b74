"""Timing side by side: every contender runs in every round, in an order that rotates.

A machine's clock rate, its caches and its neighbours change within minutes. Contenders that take turns meet the same
conditions, so the ratio of two of them within a round is worth more than that of two medians taken one after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Contender:
    """``seconds()`` runs once and says how long it took; who measures elsewhere (a peer's process) reports its own."""

    name: str
    seconds: Callable[[], float]


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and extremes of ``runs`` values, in their unit."""

    median: float
    low: float
    high: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        if len(ordered) == 1:
            low = high = ordered[0]
        else:
            low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(statistics.median(ordered), low, high, ordered[0], ordered[-1], len(ordered))


def timed(function: Callable[[], object], calls: int = 1) -> Callable[[], float]:
    """Seconds of one call: the median of ``calls`` in a row, after one that brings its data back into the caches."""

    def seconds() -> float:
        if calls > 1:
            function()
        return statistics.median(_seconds_of(function) for _ in range(calls))

    return seconds


def _seconds_of(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def take_turns(
    contenders: Sequence[Contender], rounds: int, *, warm_up: int = 1, progress: Progress | None = None, what: str = ""
) -> dict[str, list[float]]:
    """Seconds of every contender in every round, by name; ``warm_up`` rounds before them are not kept."""
    taken: dict[str, list[float]] = {each.name: [] for each in contenders}
    for number in range(-warm_up, rounds):
        first = number % len(contenders)
        for each in (*contenders[first:], *contenders[:first]):
            seconds = each.seconds()
            if number >= 0:
                taken[each.name].append(seconds)
        if progress is not None:
            progress(what, max(0, number + 1), rounds)
    return taken


def ratio(taken: Mapping[str, Sequence[float]], name: str, to: str) -> Spread | None:
    """Time of ``name`` over that of ``to``, round by round; None if one of them did not run."""
    if not taken.get(name) or not taken.get(to):
        return None
    return Spread.of([mine / theirs for mine, theirs in zip(taken[name], taken[to], strict=True)])
