"""One device before the suite: which checks fail, and whether one of them belongs to a rule the device breaks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pcmedge.conformance import Outcome, run_conformance

from wrong_devices import GOOD_DEVICE, WRONG_DEVICES, WrongDevice


@dataclass(frozen=True)
class Verdict:
    """``failed``: numbers of the checks that failed; ``by``: those of them that belong to a rule the device breaks, the
    quickest first. ``check``: the first of these that fails alone too, not only after others did. ``found``: what the
    suite says about it."""

    device: WrongDevice
    failed: tuple[str, ...]
    by: tuple[str, ...]
    found: str
    seconds: float
    check: str = ""

    @property
    def caught(self) -> bool:
        return bool(self.by)

    def row(self) -> dict[str, Any]:
        return {
            "device": self.device.name,
            "fault": self.device.story,
            "breaks": list(self.device.rules),
            "needs_restart": self.device.needs_restart,
            "failed": list(self.failed),
            "by": list(self.by),
            "caught": self.caught,
            "check": self.check,
            "found": self.found,
            "seconds": round(self.seconds, 1),
        }


def judged(
    device: WrongDevice, rules: Sequence[str] = (), *, restarts: bool = True, timeout_s: float = 10.0
) -> Verdict:
    """Runs these rules, or the whole suite; ``restarts``: with a way to restart the device; ``timeout_s``: of calls."""
    started_s = time.monotonic()
    with device.start(persistent=restarts) as running:
        report = run_conformance(
            running.address, rules=rules, restart=running.restart if restarts else None, timeout_s=timeout_s
        )
    failed = [result for result in report.results if result.outcome is Outcome.FAILED]
    by = sorted(
        (result for result in failed if result.number.partition(".")[0] in device.rules),
        key=lambda result: result.duration_s,
    )
    return Verdict(
        device=device,
        failed=tuple(result.number for result in failed),
        by=tuple(result.number for result in by),
        found=f"expected {by[0].expected}; found {by[0].found}" if by else "",
        seconds=time.monotonic() - started_s,
    )


def confirmed(verdict: Verdict) -> Verdict:
    """The verdict with the check that needs no other one before it."""
    for check in verdict.by:
        alone = judged(verdict.device, [check])
        if alone.caught:
            return replace(verdict, check=check, found=alone.found)
    return verdict


def named(name: str) -> WrongDevice:
    return next(device for device in (GOOD_DEVICE, *WRONG_DEVICES) if device.name == name)
