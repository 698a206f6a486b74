"""When a device recalibrates on its own.

A policy is a value; deciding is a function of it, the age and what was measured last. Running it is the chip's
business (a background thread on a running clock, ``advance`` on a manual one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from pcmedge.errors import InputValueError

from pcmedge_emulator.arguments import whole
from pcmedge_emulator.calibration.adabs import MOST_READS
from pcmedge_emulator.outcomes import Method

T0_S = 20.0
"""Offset of the logarithmic age axis: drift counts from the first read, 20 s after programming (aihwkit, t_0)."""

CHECK_RATIO = 1.25
"""Policies that look at a measurement look whenever age + T0_S has grown by this ratio."""


class PolicyKind(StrEnum):
    MANUAL = "manual"
    INTERVAL = "interval"
    LOG_TIME = "log-time"
    DRIFT = "drift"
    SELF_TEST = "self-test"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to recalibrate and how.

    ``interval_s``: INTERVAL, device seconds between recalibrations. ``log_time_ratio``: LOG_TIME, growth of
    (age + 20 s) since the last one; larger than 1. ``reads``: of the chip, that statistics are averaged over; 0 for the
    method's default. ``drift_threshold``: DRIFT, relative change of the median drift
    factor since the last one. ``agreement_threshold``: SELF_TEST, recalibrate when self-test agreement is below it.

    >>> Policy(kind=PolicyKind.INTERVAL, interval_s=3600.0)
    """

    kind: PolicyKind = PolicyKind.LOG_TIME
    method: Method = Method.DEFAULT
    interval_s: float = 3600.0
    log_time_ratio: float = 2.0
    drift_threshold: float = 0.05
    agreement_threshold: float = 0.9
    reads: int = 0

    def __post_init__(self) -> None:
        def check(name: str, value: float, ok: bool, expected: str) -> None:
            if not (math.isfinite(value) and ok):
                raise InputValueError(f"{name} of a recalibration policy is {expected}, got {value!r}.", field=name)

        check("interval_s", self.interval_s, self.interval_s > 0.0, "larger than 0 seconds")
        check("log_time_ratio", self.log_time_ratio, self.log_time_ratio > 1.0, "larger than 1")
        check("drift_threshold", self.drift_threshold, self.drift_threshold > 0.0, "larger than 0")
        whole("reads of a recalibration policy", self.reads, 0, MOST_READS)
        check("agreement_threshold", self.agreement_threshold, 0.0 <= self.agreement_threshold <= 1.0, "0 to 1")

    @property
    def measures(self) -> bool:
        """Whether being due means to look first (DRIFT, SELF_TEST) rather than to recalibrate."""
        return self.kind in (PolicyKind.DRIFT, PolicyKind.SELF_TEST)


MANUAL = Policy(kind=PolicyKind.MANUAL)
DEFAULT_POLICY = Policy()
"""Of a freshly programmed image: whenever age + 20 s has doubled; 20 recalibrations in the first year."""


def grow(age_s: float, ratio: float) -> float:
    """The age at which age + T0_S has grown by ``ratio``. Seconds."""
    return (age_s + T0_S) * ratio - T0_S


def next_due_age_s(policy: Policy, last_run_age_s: float, last_check_age_s: float) -> float:
    """The age at which the policy next wants to act (recalibrate, or look); infinity for MANUAL. Seconds.

    ``last_run_age_s``: of the last recalibration, committed or refused; 0 if there was none. ``last_check_age_s``: of
    the last look of a policy that measures.
    """
    match policy.kind:
        case PolicyKind.MANUAL:
            return math.inf
        case PolicyKind.INTERVAL:
            return last_run_age_s + policy.interval_s
        case PolicyKind.LOG_TIME:
            return grow(last_run_age_s, policy.log_time_ratio)
        case PolicyKind.DRIFT | PolicyKind.SELF_TEST:
            return grow(max(last_run_age_s, last_check_age_s), CHECK_RATIO)


def drift_moved(policy: Policy, factor: float, factor_at_last_run: float) -> bool:
    """Whether the median drift factor has moved enough for a DRIFT policy. Factors have unit 1."""
    return abs(factor / factor_at_last_run - 1.0) > policy.drift_threshold
