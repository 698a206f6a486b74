"""When a device recalibrates on its own.

A policy is a value; deciding is a function of it, the age and what was measured last. Running it is the chip's
business (a background thread on a running clock, ``advance`` on a manual one).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pcmedge.errors import InputValueError

from pcmedge_emulator.arguments import whole
from pcmedge_emulator.calibration.adabs import MOST_READS
from pcmedge_emulator.outcomes import Method

T0_S = 20.0
"""Offset of the logarithmic age axis: drift counts from the first read, 20 s after programming (aihwkit, t_0)."""

CHECK_RATIO = 1.25
"""DRIFT looks whenever age + T0_S has grown by this ratio, and SELF_TEST unless it says when."""

SPACING_S = 3600.0
MOST_DOUBLINGS = 40
"""2^40 hours are more than the longest device time."""


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
    factor since the last one.

    With any kind the device may test itself: every ``self_test_interval_s`` device seconds, or whenever (age + 20 s)
    has grown by ``self_test_ratio`` (the interval counts if both are given; 0 and 0: never, but SELF_TEST takes 1.25).
    Every kind but MANUAL recalibrates when agreement is below the floor, the larger of ``agreement_threshold`` and, if
    ``agreement_drop`` is larger than 0, the agreement right after programming less that drop. It does so at most every
    ``self_test_spacing_s`` device seconds; each time that did not help doubles them, until a self-test passes.

    >>> Policy(kind=PolicyKind.INTERVAL, interval_s=3600.0)
    """

    kind: PolicyKind = PolicyKind.LOG_TIME
    method: Method = Method.DEFAULT
    interval_s: float = 3600.0
    log_time_ratio: float = 2.0
    drift_threshold: float = 0.05
    agreement_threshold: float = 0.9
    reads: int = 0
    self_test_interval_s: float = 0.0
    self_test_ratio: float = 0.0
    agreement_drop: float = 0.0
    self_test_spacing_s: float = SPACING_S

    def __post_init__(self) -> None:
        def check(name: str, ok: Callable[[float], bool], expected: str) -> None:
            value = getattr(self, name)
            if not (math.isfinite(value) and ok(value)):
                raise InputValueError(f"{name} of a recalibration policy is {expected}, got {value!r}.", field=name)

        check("interval_s", lambda value: value > 0.0, "larger than 0 seconds")
        check("log_time_ratio", lambda value: value > 1.0, "larger than 1")
        check("drift_threshold", lambda value: value > 0.0, "larger than 0")
        whole("reads of a recalibration policy", self.reads, 0, MOST_READS)
        check("agreement_threshold", lambda value: 0.0 <= value <= 1.0, "0 to 1")
        check("self_test_interval_s", lambda value: value >= 0.0, "larger than 0 seconds, or 0 for none")
        check("self_test_ratio", lambda value: value == 0.0 or value > 1.0, "larger than 1, or 0 for none")
        check("agreement_drop", lambda value: 0.0 <= value <= 1.0, "0 to 1")
        check("self_test_spacing_s", lambda value: value > 0.0, "larger than 0 seconds")

    @property
    def tests_itself(self) -> bool:
        return self.kind is PolicyKind.SELF_TEST or self.self_test_interval_s > 0.0 or self.self_test_ratio > 0.0

    def agreement_floor(self, as_programmed: float) -> float:
        """The least agreement that is good enough; ``as_programmed`` is negative if nobody measured it. Unit: 1."""
        if self.agreement_drop > 0.0 and as_programmed >= 0.0:
            return max(self.agreement_threshold, as_programmed - self.agreement_drop)
        return self.agreement_threshold

    def self_test_pause_s(self, in_vain: int) -> float:
        """Least device seconds between a recalibration and the next one for a self-test, after ``in_vain`` of them."""
        return float(self.self_test_spacing_s * 2.0 ** min(in_vain, MOST_DOUBLINGS))


MANUAL = Policy(kind=PolicyKind.MANUAL)
DEFAULT_POLICY = Policy()
"""Of a freshly programmed image: whenever age + 20 s has doubled; 20 recalibrations in the first year."""


def grow(age_s: float, ratio: float) -> float:
    """The age at which age + T0_S has grown by ``ratio``. Seconds."""
    return (age_s + T0_S) * ratio - T0_S


def next_run_age_s(policy: Policy, last_run_age_s: float, last_check_age_s: float) -> float:
    """The age at which the policy next recalibrates for its age (DRIFT: looks at the drift factor); infinity for never.

    ``last_run_age_s``: of the last recalibration, committed or refused; 0 if there was none. ``last_check_age_s``: of
    the last look at the drift factor. Seconds.
    """
    match policy.kind:
        case PolicyKind.MANUAL | PolicyKind.SELF_TEST:
            return math.inf
        case PolicyKind.INTERVAL:
            return last_run_age_s + policy.interval_s
        case PolicyKind.LOG_TIME:
            return grow(last_run_age_s, policy.log_time_ratio)
        case PolicyKind.DRIFT:
            return grow(max(last_run_age_s, last_check_age_s), CHECK_RATIO)


def next_self_test_age_s(policy: Policy, last_age_s: float) -> float:
    """The age of the policy's next self-test; infinity for never. ``last_age_s``: of the last one, or of the last
    recalibration, whose guard measures the same. Seconds.
    """
    if not policy.tests_itself:
        return math.inf
    if policy.self_test_interval_s > 0.0:
        return last_age_s + policy.self_test_interval_s
    return grow(last_age_s, policy.self_test_ratio or CHECK_RATIO)


def drift_moved(policy: Policy, factor: float, factor_at_last_run: float) -> bool:
    """Whether the median drift factor has moved enough for a DRIFT policy. Factors have unit 1."""
    return abs(factor / factor_at_last_run - 1.0) > policy.drift_threshold
