"""``pcmedge conformance``: what it prints, writes and exits with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_process import run
from pcmedge.conformance import all_rules, is_intact
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import Lease
from pcmedge_emulator.service import serve
from service_devices import served


class Generous(Chip):
    """Gives a lease to everybody."""

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        return Lease(lease_id="yours", holder=holder, remaining_s=duration_s or 60.0)


def test_a_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.json"
    with served() as server:
        found = run(capsys, "conformance", server.address, "--rule", "R12", "--report", target, "--json")
        text = run(capsys, "conformance", "--device", server.address, "--rule", "R12.1", "--rule", "R38.4")
    assert found.code == 0
    assert found.document == json.loads(target.read_text())
    assert is_intact(found.document)
    assert [each["outcome"] for each in found.document["results"]] == ["passed"] * 3
    assert text.code == 0
    assert "R12.1" in text.out
    assert "1 passed, 1 skipped: the device conforms, as far as tested" in text.out
    assert text.out.startswith("pcmedge emulator, serial ")


def test_a_failure_says_what_was_expected_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with Generous(clock=Clock.manual()) as chip, serve(chip) as server:
        found = run(capsys, "conformance", server.address, "--rule", "R10.1", "--json")
        text = run(capsys, "conformance", server.address, "--rule", "R10.1")
    assert (found.code, text.code) == (1, 1)
    (result,) = found.document["results"]
    assert result["outcome"] == "failed"
    assert "LEASE_HELD" in result["expected"]
    assert "succeeded" in result["found"]
    assert "the device does not conform" in text.out


def test_a_restart_command_is_run_and_its_failure_is_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        arguments = ("conformance", server.address, "--rule", "R38.1", "--json", "--restart-cmd")
        good, bad = run(capsys, *arguments, "true"), run(capsys, *arguments, "false")
        missing = run(capsys, *arguments, "/nowhere/restart-it")
    assert (good.code, bad.code, missing.code) == (0, 1, 1)
    assert "restart command" in bad.document["results"][0]["expected"]


def test_the_checks_are_listed_without_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    listed: list[dict[str, Any]] = run(capsys, "conformance", "--list", "--json").document["rules"]
    assert [each["number"] for each in listed] == [rule.number for rule in all_rules()]


def test_wrong_arguments_are_said_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = run(capsys, "conformance", "--json")
    assert (nobody.code, nobody.error["reason"]) == (2, "INPUT_VALUE")
    nowhere = run(capsys, "conformance", "grpc://127.0.0.1:1", "--report", tmp_path / "no" / "report.json", "--json")
    assert (nowhere.code, nowhere.error["reason"]) == (2, "INPUT_VALUE")
    with served() as server:
        unknown = run(capsys, "conformance", server.address, "--rule", "R999", "--json")
    assert (unknown.code, unknown.error["reason"]) == (2, "INPUT_VALUE")
