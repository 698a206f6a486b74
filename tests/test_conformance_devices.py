"""Every device we make keeps the whole contract: the emulator however it is served, and the example of a driver."""

from __future__ import annotations

from pathlib import Path

from conformance_devices import digital_chip, ended, restartable
from pcmedge.conformance import Outcome, run_conformance
from pcmedge.device._grpc_common import Security
from pcmedge.image.profiles import get_profile
from pcmedge.protocol.roles import Role
from pcmedge.protocol.tokens import new_token
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.driver import DrivenChip
from pcmedge_emulator.service import serve
from pcmedge_emulator.service.scheduling import Scheduling

TOKENS = {"R46.1", "R46.2", "R46.3", "R46.4"}
"""Checks of a device that asks for tokens."""


def test_the_emulator_with_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    ours, user = (new_token(tokens, role, role.value) for role in (Role.OPERATE, Role.INFER))
    with Chip() as chip, serve(chip, tokens=tokens) as server:
        report = run_conformance(server.address, rules=["R1", "R46"], security=Security(token=ours), infer_token=user)
    assert {result.outcome for result in report.results} == {Outcome.PASSED}
    assert {result.number for result in report.results} > TOKENS


def test_the_emulator_with_its_lab_over_tcp() -> None:
    profile = get_profile("pcm-512x512")
    profile.tiles = 12
    with restartable(lambda: Chip(profile=profile, clock=Clock.manual()), lab=True) as device:
        report = run_conformance(device.address)
    assert ended(report, Outcome.FAILED) == {}
    assert set(ended(report, Outcome.NOT_APPLICABLE)) == {"R18.2", "R29.2", "R39.3", *TOKENS}
    assert {number.partition(".")[0] for number in ended(report, Outcome.SKIPPED)} == {"R7", "R35", "R38", "R44"}
    assert report.passed
    assert not report.complete


def test_the_emulator_with_batching_over_a_unix_socket_and_restarts(tmp_path: Path) -> None:
    scheduling = Scheduling(max_batch_size=8, max_queue_delay_s=0.002)

    def make() -> Chip:
        return Chip(store=tmp_path / "store", profile="hermes-256x256", technology="pcm-14nm")

    with restartable(make, f"unix://{tmp_path}/pcm.sock", scheduling=scheduling) as device:
        report = run_conformance(device.address, restart=device.restart)
    assert ended(report, Outcome.FAILED) == {}
    assert ended(report, Outcome.SKIPPED) == {}
    absent = {number.partition(".")[0] for number in ended(report, Outcome.NOT_APPLICABLE)}
    # Whether a self-test falls below its threshold (R41) is up to the chip's noise.
    assert absent - {"R41"} == {"R10", "R17", "R18", "R29", "R39", "R43", "R44", "R45", "R46"}
    assert report.passed
    assert report.complete


def test_the_example_of_a_hardware_driver(tmp_path: Path) -> None:
    with restartable(lambda: DrivenChip(digital_chip(), store=tmp_path / "store")) as device:
        report = run_conformance(device.address, restart=device.restart)
    assert ended(report, Outcome.FAILED) == {}
    assert ended(report, Outcome.SKIPPED) == {}
    assert report.counts["passed"] >= 145
    absent = ended(report, Outcome.NOT_APPLICABLE)
    known = ("capability", "guard", "list", "queue", "token")
    assert all(any(word in why for word in known) for why in absent.values()), absent
    assert not report.device.emulated
