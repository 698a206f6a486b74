"""Goals, and whether a measurement reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.measuring.rounds import Spread

Verdict = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure must be. ``direction``: "<=" or ">=" ``limit``; ``stretch``: a harder limit, said beside it."""

    what: str
    limit: float
    direction: Literal["<=", ">="] = "<="
    unit: str = "x"
    stretch: float | None = None

    def met_by(self, value: float, limit: float | None = None) -> bool:
        wanted = self.limit if limit is None else limit
        return value <= wanted if self.direction == "<=" else value >= wanted

    def __str__(self) -> str:
        harder = "" if self.stretch is None else f" (stretch {self.stretch:g})"
        return f"{self.direction} {self.limit:g} {self.unit}{harder}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A goal beside what was measured. ``found`` is None where nothing was, and ``why`` says why."""

    goal: Goal
    found: Spread | None
    why: str = ""

    @property
    def verdict(self) -> Verdict:
        """Judged by the median."""
        if self.found is None:
            return "not measured"
        return "reached" if self.goal.met_by(self.found.median) else "missed"

    @property
    def stretched(self) -> bool:
        """Whether the harder limit is reached, too."""
        limit = self.goal.stretch
        return self.found is not None and limit is not None and self.goal.met_by(self.found.median, limit)


def judged(goal: Goal, found: Spread | None, why: str = "") -> Outcome:
    """The outcome; ``why`` is kept only where nothing was measured."""
    return Outcome(goal=goal, found=found, why="" if found is not None else why or "not measured in this run")
