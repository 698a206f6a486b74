"""Devices that break the device contract fail the conformance suite, each by a rule it breaks; the good one passes.

Each is put to one check here: the quickest of those it failed in the whole suite (docs/results/wrong-devices.json). The
whole suite against each of them is ``python -m tests.wrong_devices``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pcmedge.conformance import all_rules
from wrong_devices import GOOD_DEVICE, WRONG_DEVICES, WrongDevice, first_sight, table
from wrong_devices.judging import judged

DOCS = Path(__file__).resolve().parent.parent / "docs"
ROWS = {row["device"]: row for row in table.stored(DOCS / "results")}
CONTRACT = (DOCS / "device-contract.md").read_text(encoding="utf-8")
CHECKS = {rule.number: rule for rule in all_rules()}

ASKED_FOR = (
    "stale-statistics", "wrong-status-for-shape", "erases-first", "state-lost-at-restart", "mixed-rows",
    "age-restarts-at-recalibration", "every-call-is-new", "lease-ignored", "wrong-digest-accepted",
    "unknown-feature-accepted", "generation-not-counted", "telemetry-frozen", "rollback-to-image",
    "streams-reordered", "errors-without-reason",
)  # fmt: skip
"""The faults a suite for hardware has to find at the very least."""


@pytest.mark.parametrize("device", WRONG_DEVICES, ids=lambda device: device.name)
def test_a_wrong_device_is_caught_by_a_rule_it_breaks(device: WrongDevice) -> None:
    check = ROWS[device.name]["check"]
    assert check.partition(".")[0] in device.rules
    verdict = judged(device, [check], restarts=CHECKS[check].restarts, timeout_s=5.0)
    assert verdict.by == (check,), f"{device.story} {check} did not notice"


def test_the_device_without_a_fault_passes_the_same_checks() -> None:
    checks = {ROWS[device.name]["check"] for device in WRONG_DEVICES}
    for restarts in (False, True):
        some = sorted(check for check in checks if CHECKS[check].restarts is restarts)
        assert judged(GOOD_DEVICE, some, restarts=restarts).failed == ()


def test_the_table_has_every_device_and_the_one_without_a_fault() -> None:
    assert list(ROWS) == [GOOD_DEVICE.name, *(device.name for device in WRONG_DEVICES)]
    assert ROWS[GOOD_DEVICE.name]["failed"] == []
    assert [row["device"] for row in ROWS.values() if row["breaks"] and not row["caught"]] == []
    for device in WRONG_DEVICES:
        assert ROWS[device.name]["breaks"] == list(device.rules), device.name
        assert set(ROWS[device.name]["failed"]) <= set(CHECKS), device.name


def test_devices_say_what_they_break() -> None:
    rules = {f"R{number}" for number in re.findall(r"^(\d+)\. ", CONTRACT, re.MULTILINE)}
    names = [device.name for device in WRONG_DEVICES]
    assert len(set(names)) == len(names)
    assert set(ASKED_FOR) <= set(names)
    for device in WRONG_DEVICES:
        assert device.rules, device.name
        assert set(device.rules) <= rules, device.name
        assert device.story.endswith("."), device.name
    missed = [*first_sight.OTHER_RULE, *first_sight.DID_NOT_SHOW, *first_sight.CLOSED_BY, *first_sight.WITH_ITS_CHECK]
    assert set(missed) <= set(names)
    assert set(first_sight.CLOSED_BY.values()) <= set(CHECKS)
