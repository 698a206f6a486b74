"""Checks that can fail: chips that break one promise each, and what the suite does to devices it does not own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_devices import ended
from pcmedge.conformance import Outcome, Report, all_rules, is_intact, probe, run_conformance
from pcmedge.errors import DeviceStateError, InputValueError, UnauthenticatedError, UnavailableError
from pcmedge.image import ChipImage
from pcmedge.image.profiles import get_profile
from pcmedge.protocol.tokens import new_token
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import InferOutcome, ModelInfo
from pcmedge_emulator.service import serve


def put_to(chip: Chip, *rules: str, **options: Any) -> Report:
    with chip, serve(chip) as server:
        return run_conformance(server.address, rules=rules, **options)


class GrowsYounger(Chip):
    """Its models tell an age that falls from call to call."""

    def __init__(self) -> None:
        super().__init__(clock=Clock.manual())
        self._calls = itertools.count()

    def models(self) -> tuple[ModelInfo, ...]:
        age_s = 1000.0 - next(self._calls)
        return tuple(replace(model, age_s=age_s) for model in super().models())


class TurnsBatchesRound(Chip):
    """The rows of a batch come in the wrong order."""

    def infer(self, name: str, inputs: Mapping[str, Any]) -> InferOutcome:
        found = super().infer(name, inputs)
        return replace(found, outputs={key: values[::-1] for key, values in found.outputs.items()})


class KnowsNoOrder(Chip):
    """Answers are those of another sample, now and then: the last request's inputs."""

    def __init__(self) -> None:
        super().__init__(clock=Clock.manual())
        self._last: Mapping[str, Any] | None = None

    def infer(self, name: str, inputs: Mapping[str, Any]) -> InferOutcome:
        asked = inputs if self._last is None else self._last
        self._last = inputs
        same = all(np.shape(asked[key]) == np.shape(values) for key, values in inputs.items())
        return super().infer(name, asked if same else inputs)


@pytest.mark.parametrize(
    ("kind", "rules", "broken"),
    [
        (GrowsYounger, ("R33.1", "R2.1", "R21.1"), {"R33.1"}),
        (TurnsBatchesRound, ("R21.6", "R22.1", "R23.1", "R24.1"), {"R21.6", "R22.1"}),
        (KnowsNoOrder, ("R24.1", "R31.1", "R23.1", "R25.1"), {"R24.1", "R31.1"}),
    ],
)
def test_a_broken_promise_is_found_and_no_other_one_blamed(
    kind: type[Chip], rules: tuple[str, ...], broken: set[str]
) -> None:
    failed = ended(put_to(kind(), *rules), Outcome.FAILED)
    assert set(failed) == broken
    assert all("expected" in said and "found" in said for said in failed.values())


def test_a_device_that_goes_away_fails_its_checks_and_ends_no_run() -> None:
    with Chip(clock=Clock.manual()) as chip, serve(chip) as server:
        report = run_conformance(
            server.address,
            rules=("R34.1", "R38.4", "R38.5"),
            restart=lambda: server.stop(0.0),
            restart_wait_s=0.5,
            timeout_s=2.0,
        )
    failed = ended(report, Outcome.FAILED)
    assert set(failed) == {"R38.4", "R38.5"}
    assert "within 0.5 s of the restart" in failed["R38.4"]
    assert "UNAVAILABLE" in failed["R38.5"]
    assert report.counts["passed"] == 1


def others() -> ChipImage:
    return ChipImage.from_bytes(probe.image_for(None, 1, "somebody-elses"))


def test_images_of_others_are_left_alone_unless_it_is_allowed() -> None:
    with Chip(clock=Clock.manual()) as chip, serve(chip) as server:
        chip.program(others())
        before = chip.models()
        report = run_conformance(server.address, rules=("R11.1", "R27.1", "R3.3"))
        assert chip.models() == before
        assert set(ended(report, Outcome.SKIPPED)) == {"R11.1"}
        assert "somebody-elses" in ended(report, Outcome.SKIPPED)["R11.1"]
        assert report.passed
        allowed = run_conformance(server.address, rules=("R11.1",), allow_destructive=True)
        assert allowed.counts["passed"] == 1
        assert allowed.notes == ()
        assert chip.models() == before


def test_room_is_made_only_if_that_is_allowed() -> None:
    profile = get_profile("pcm-512x512")
    profile.tiles = 6
    with Chip(profile=profile, clock=Clock.manual()) as chip, serve(chip) as server:
        chip.program(others())
        report = run_conformance(server.address, rules=("R14.3",), allow_destructive=True)
        assert report.passed
        assert "somebody-elses" in report.notes[0]
        assert chip.models() == ()
    profile.tiles = 5
    with pytest.raises(DeviceStateError, match="6 free tiles"):
        put_to(Chip(profile=profile, clock=Clock.manual()))


def test_the_probe_is_gone_afterwards() -> None:
    with Chip(clock=Clock.manual()) as chip, serve(chip) as server:
        assert run_conformance(server.address, rules=("R23", "R10.1")).passed
        assert chip.models() == ()
        lease = chip.acquire_lease("the next one")
    assert lease.remaining_s > 0


def test_a_report_tells_when_it_was_changed() -> None:
    document = put_to(Chip(clock=Clock.manual()), "R5.1", "R23.1").document()
    assert is_intact(document)
    assert document["device"]["serial"] == "emulator-0"
    assert document["complete"] is False
    changed = {**document, "results": [{**each, "outcome": "passed"} for each in document["results"]]}
    assert is_intact(changed)
    for each in changed["results"]:
        each["found"] = "nothing to see here"
    assert not is_intact(changed)


def test_numbers_choose_rules_and_single_checks() -> None:
    report = put_to(Chip(clock=Clock.manual()), "R3", "r27.1")
    assert [result.number for result in report.results] == ["R3.1", "R3.2", "R3.3", "R3.4", "R27.1"]
    for wrong in ("R9999", "R3.99", "seven"):
        with pytest.raises(InputValueError, match="R12"):
            put_to(Chip(clock=Clock.manual()), wrong)


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="no device"):
        run_conformance("grpc://127.0.0.1:1", timeout_s=2.0)


def test_a_device_that_wants_a_token_is_there_and_says_so(tmp_path: Path) -> None:
    new_token(tmp_path / "tokens", "infer", "one")
    with Chip() as chip, serve(chip, tokens=tmp_path / "tokens") as server, pytest.raises(UnauthenticatedError):
        run_conformance(server.address, timeout_s=10.0)


def needs() -> Iterator[Sequence[str]]:
    for rule in all_rules():
        yield rule.needs


def test_checks_need_capabilities_the_contract_knows() -> None:
    from pcmedge_emulator.capabilities import CAPABILITIES, LAB_CAPABILITIES

    known = {*CAPABILITIES, *LAB_CAPABILITIES}
    assert {name for names in needs() for name in names} <= known
