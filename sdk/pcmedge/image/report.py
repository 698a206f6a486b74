"""What a verification of an image looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One named check. ``detail`` says what was looked at or, if ``outcome`` is "skipped", what is missing for it."""

    name: str
    outcome: Literal["passed", "skipped"]
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """All checks of an intact image, in the order they ran. A failed one raises ImageCorruptError instead."""

    checks: tuple[Check, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing was skipped for want of an optional package."""
        return all(check.outcome == "passed" for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(f"{check.outcome:8} {check.name}: {check.detail}" for check in self.checks)
