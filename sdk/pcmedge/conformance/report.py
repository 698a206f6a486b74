"""What came out: a result per check, who was tested, and a digest over both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    """The device lacks a capability, or the promise says nothing about such a device."""
    SKIPPED = "skipped"
    """It could not be tried: no way to restart, or others' images would have been touched."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check. ``expected`` and ``found``: of a failure; ``why``: of one that was not made. Seconds."""

    number: str
    text: str
    area: str
    outcome: Outcome
    expected: str = ""
    found: str = ""
    why: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DeviceUnderTest:
    """The identity of the device, as it gave it."""

    address: str
    vendor: str
    product: str
    serial: str
    firmware_version: str
    contract_version: int
    emulated: bool
    technology: str
    profile: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run of the suite. ``date``: UTC, ISO 8601. ``complete``: every check was tried, none skipped or left out.

    ``notes``: what the run did to the device beyond its own images.
    """

    device: DeviceUnderTest
    sdk_version: str
    suite_version: int
    date: str
    results: tuple[Result, ...]
    complete: bool
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """No check failed, and at least one was made."""
        outcomes = [result.outcome for result in self.results]
        return Outcome.PASSED in outcomes and Outcome.FAILED not in outcomes

    @property
    def counts(self) -> dict[str, int]:
        """Results by outcome."""
        return {outcome.value: sum(r.outcome is outcome for r in self.results) for outcome in Outcome}

    @property
    def sha256(self) -> str:
        """SHA-256 over device, versions, date and results, hexadecimal: two reports of one digest say the same."""
        return digest(self.content())

    def content(self) -> dict[str, Any]:
        """What the digest is taken over."""
        return {
            "device": asdict(self.device) | {"capabilities": list(self.device.capabilities)},
            "sdk_version": self.sdk_version,
            "suite_version": self.suite_version,
            "date": self.date,
            "complete": self.complete,
            "notes": list(self.notes),
            "results": [asdict(result) | {"outcome": result.outcome.value} for result in self.results],
        }

    def document(self) -> dict[str, Any]:
        """The report as written with --json and --report."""
        return {
            "format": FORMAT,
            "passed": self.passed,
            "counts": self.counts,
            **self.content(),
            "signed_off": {"algorithm": "sha256", "digest": self.sha256},
        }


FORMAT = "pcmedge-conformance-1"


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON (keys sorted, no spaces, ASCII) of what a report says."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_intact(document: Mapping[str, Any]) -> bool:
    """Whether a report read from a file still is what was signed off."""
    outside = ("format", "passed", "counts", "signed_off")
    content = {key: value for key, value in document.items() if key not in outside}
    signed = document.get("signed_off")
    return isinstance(signed, Mapping) and signed.get("digest") == digest(content)
