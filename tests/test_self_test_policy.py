"""Self-tests as a policy: when they trigger, how often at most, beside what else; and the history of their findings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from chip_models import INPUT, OUTPUT, digits, digits_image
from cli_process import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from image_parts import tiny_image
from pcmedge import device as client
from pcmedge.errors import DeviceStateError, InputValueError
from pcmedge_emulator.calibration.policy import MANUAL, Policy, PolicyKind
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import Event, Method, SelfTestRecord
from service_devices import served

DAY_S, YEAR_S = 86_400.0, 31_536_000.0


def new_chip(policy: Policy = MANUAL, **options: Any) -> Chip:
    chip = Chip(**{"clock": Clock.manual(), "default_policy": policy, "seed": 1} | options)
    if not chip.models():
        chip.program(digits_image())
    return chip


@pytest.fixture
def chip() -> Iterator[Chip]:
    with new_chip() as made:
        yield made


def history(chip: Chip) -> tuple[SelfTestRecord, ...]:
    return chip.telemetry(include_self_tests=True).models[0].self_tests


def runs(chip: Chip) -> list[Event]:
    return [event for event in chip.events() if event.kind in ("recalibrated", "recalibration-refused")]


def ages(events: list[Event]) -> list[float]:
    return [float(event.details["age_s"]) for event in events]


def test_a_policy_recalibrates_below_the_threshold_and_says_why(chip: Chip) -> None:
    chip.set_policy("digits", Policy(kind=PolicyKind.SELF_TEST, agreement_threshold=0.8))
    chip.advance(YEAR_S)
    causes = [(event.details["cause"], event.details["why"]) for event in runs(chip)]
    assert causes
    assert all(cause == "self-test" and why.endswith("below 0.8") for cause, why in causes)
    # Each is the answer to a self-test at that very age, and nothing else is.
    low = [record.age_s for record in history(chip) if record.cause == "policy" and record.agreement < 0.8]
    assert ages(runs(chip)) == pytest.approx(low, abs=1e-3)
    failed = [event for event in chip.events() if event.kind == "self-test-failed"]
    assert failed[0].details["age_s"] == runs(chip)[0].details["age_s"]


def test_without_recalibration_the_journal_tells_once_and_again_when_it_passes() -> None:
    with new_chip(Policy(kind=PolicyKind.MANUAL, self_test_interval_s=10 * DAY_S, agreement_threshold=0.7)) as chip:
        assert chip.advance(60 * DAY_S).recalibrations == 0
        tested = [record for record in history(chip) if record.cause == "policy"]
        assert [record.age_s for record in tested] == pytest.approx([10 * DAY_S * n for n in range(1, 7)])
        assert all(record.agreement < 0.7 for record in tested)
        chip.recalibrate("digits")
        chip.advance(20 * DAY_S)
        assert history(chip)[-1].agreement >= 0.7
        told = [event for event in chip.events() if event.kind.startswith("self-test")]
        assert [event.kind for event in told] == ["self-test-failed", "self-test-passed"]
        assert ages(told) == pytest.approx([10 * DAY_S, 70 * DAY_S])


def test_a_drop_is_measured_from_right_after_programming(chip: Chip) -> None:
    first = history(chip)[0]
    assert (first.cause, first.age_s) == ("programmed", 0.0)
    policy = Policy(kind=PolicyKind.SELF_TEST, agreement_threshold=0.0, agreement_drop=0.2, method=Method.GDC)
    chip.set_policy("digits", policy)
    assert chip.self_test("digits").threshold == pytest.approx(first.agreement - 0.2)
    chip.advance(30 * DAY_S)
    triggers = [record for record in history(chip) if record.cause == "policy"]
    assert runs(chip)
    assert min(record.agreement for record in triggers) < first.agreement - 0.2
    assert ages(runs(chip))[0] == pytest.approx(
        next(record.age_s for record in triggers if record.agreement < first.agreement - 0.2), abs=1e-3
    )


def test_the_higher_of_threshold_and_drop_counts() -> None:
    policy = Policy(agreement_threshold=0.9, agreement_drop=0.05)
    assert policy.agreement_floor(1.0) == pytest.approx(0.95)
    assert policy.agreement_floor(0.92) == 0.9
    # Of an image that was programmed before anybody measured, the threshold alone.
    assert policy.agreement_floor(-1.0) == 0.9


def test_a_chip_that_cannot_be_healed_is_left_alone_for_longer_each_time() -> None:
    """No chip agrees on all reference inputs for ever: the spacing doubles while recalibrating does not help."""
    # Drift compensation against statistics of the image cannot reach 100 % after a month of programming noise.
    policy = Policy(
        kind=PolicyKind.SELF_TEST,
        agreement_threshold=1.0,
        self_test_interval_s=600.0,
        self_test_spacing_s=600.0,
        method=Method.GDC,
    )
    with new_chip(technology="pcm-14nm-single", seed=3) as chip:
        chip.advance(YEAR_S)
        assert chip.self_test("digits").agreement < 1.0
        chip.set_policy("digits", policy)
        chip.advance(200 * 600.0)
        tested = [record for record in history(chip) if record.cause == "policy"]
        assert len(tested) > 150
        gaps = np.diff(ages(runs(chip)))
        in_vain = 1
        for age_s, gap_s in zip(ages(runs(chip)), gaps, strict=False):
            passed = [r for r in tested if age_s < r.age_s <= age_s + gap_s - 1.0 and r.agreement >= 1.0]
            in_vain = 0 if passed else in_vain
            assert gap_s >= 600.0 * 2**in_vain - 1e-3
            in_vain += 1
        assert 2 <= len(gaps) < 20


def test_the_first_trigger_waits_for_nothing_and_the_next_for_the_spacing(chip: Chip) -> None:
    chip.set_policy(
        "digits",
        Policy(
            kind=PolicyKind.SELF_TEST, agreement_threshold=1.0, self_test_interval_s=60.0, self_test_spacing_s=1800.0
        ),
    )
    chip.advance(7200.0)
    at = ages(runs(chip))
    assert at[0] < 1800.0
    assert all(gap >= 1800.0 - 1e-3 for gap in np.diff(at))


def test_a_self_test_goes_beside_the_policy_of_age() -> None:
    """Both causes occur, at their own moments, and a recalibration counts as a self-test."""
    policy = Policy(
        kind=PolicyKind.INTERVAL, interval_s=20 * DAY_S, self_test_interval_s=3 * DAY_S, agreement_threshold=0.8
    )
    with new_chip(policy) as chip:
        assert chip.policy("digits")[1] == pytest.approx(3 * DAY_S)
        chip.advance(45 * DAY_S)
        causes = [event.details["cause"] for event in runs(chip)]
        assert causes[0] == "self-test"
        assert "interval" in causes
        by_cause = dict(zip(causes, ages(runs(chip)), strict=True))
        assert by_cause["interval"] == pytest.approx(
            20 * DAY_S + max(age for age in ages(runs(chip)) if age < by_cause["interval"] - 1.0), rel=1e-6
        )


@settings(max_examples=8, deadline=None)
@given(
    interval_h=st.integers(5, 40),
    tests_h=st.integers(5, 40),
    steps_h=st.lists(st.integers(0, 40), min_size=1, max_size=4),
)
def test_whatever_the_steps_of_time_actions_come_at_their_own_moments(
    interval_h: int, tests_h: int, steps_h: list[int]
) -> None:
    """Nothing that is due is left undone, and nothing is done twice, in however many steps time moves."""
    policy = Policy(
        kind=PolicyKind.INTERVAL,
        interval_s=3600.0 * interval_h,
        self_test_interval_s=3600.0 * tests_h,
        agreement_threshold=0.0,
        method=Method.GDC,
    )
    with new_chip(policy) as chip:
        # Half an hour, so that no step ends just when something is due.
        chip.advance(1800.0)
        for step_h in steps_h:
            chip.advance(3600.0 * step_h)
        expected, run_h, test_h = [], interval_h, tests_h
        while (now_h := min(run_h, test_h)) <= sum(steps_h):
            expected.append(("recalibration" if run_h <= test_h else "policy", 3600.0 * now_h))
            run_h = now_h + interval_h if run_h <= test_h else run_h
            test_h = now_h + tests_h
        assert [(record.cause, record.age_s) for record in history(chip)[1:]] == [
            (cause, pytest.approx(age_s)) for cause, age_s in expected
        ]


def test_an_accelerated_clock_tests_itself_beside_requests() -> None:
    policy = Policy(kind=PolicyKind.SELF_TEST, agreement_threshold=0.85, self_test_spacing_s=60.0)
    with new_chip(policy, clock=Clock.accelerated(2e6)) as chip:
        seen: list[Event] = []
        while not any(event.details.get("cause") == "self-test" for event in seen):
            assert chip.infer("digits", {INPUT: digits()[2][:1]}).outputs[OUTPUT].shape == (1, 10)
            seen = [*seen, *chip.wait_events(seen[-1].sequence if seen else 0, 30.0)]
        wait_for(lambda: any(record.cause == "policy" for record in history(chip)))


def test_a_self_test_disturbs_no_request() -> None:
    """Two chips that differ in nothing but self-tests answer bit for bit the same, noise included."""
    answers = []
    for tests in (False, True):
        with new_chip(Policy(kind=PolicyKind.MANUAL, self_test_ratio=1.5 if tests else 0.0)) as chip:
            got = []
            for _ in range(3):
                got.append(chip.infer("digits", {INPUT: digits()[2][:8]}).outputs[OUTPUT])
                if tests:
                    chip.self_test("digits")
                chip.advance(500.0)
            model = chip.models()[0]
            assert (model.program_generation, model.statistics_generation) == (1, 0)
            answers.append(np.concatenate(got))
    np.testing.assert_array_equal(*answers)


def test_the_history_is_bounded_ordered_and_survives_a_restart(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with new_chip(store=store) as chip:
        for _ in range(260):
            chip.self_test("digits")
        before = history(chip)
        assert len(before) == 256
        assert {record.cause for record in before} == {"request"}
        assert all(record.mean_absolute_difference > 0 for record in before)
    with new_chip(store=store) as chip:
        assert history(chip) == before
        chip.self_test("digits")
        assert history(chip)[:-1] == before[1:]
    with new_chip(store=store) as chip:
        assert len(history(chip)) == 256
        chip.program(digits_image())
        assert [record.cause for record in history(chip)] == ["programmed"]
    with new_chip(store=store) as chip:
        assert [record.cause for record in history(chip)] == ["programmed"]


def test_a_snapshot_brings_back_the_model_and_its_history_goes_on(chip: Chip) -> None:
    chip.snapshot("fresh")
    chip.advance(DAY_S)
    chip.self_test("digits")
    before = history(chip)
    chip.restore("fresh")
    assert history(chip) == before
    chip.program(digits_image())
    chip.restore("fresh")
    assert history(chip) == before


def test_recalibrations_are_in_the_history_with_what_they_left(chip: Chip) -> None:
    chip.advance(YEAR_S)
    outcome = chip.recalibrate("digits")
    last = history(chip)[-1]
    assert (last.cause, last.age_s, last.agreement) == ("recalibration", YEAR_S, outcome.agreement_after)
    assert last.statistics_generation == outcome.statistics_generation


def test_telemetry_has_the_history_only_when_asked() -> None:
    with served(digits_image()) as server, pcmedge.connect(server.address) as device:
        result = device.self_test()
        assert device.telemetry().models[0].self_tests == ()
        (_, record) = device.telemetry(self_tests=True).models[0].self_tests
        assert isinstance(record, client.SelfTestRecord)
        assert (record.agreement, record.mean_absolute_difference) == (
            result.agreement,
            result.mean_absolute_difference,
        )
        watched = next(device.watch_telemetry(self_tests=True))
        assert watched.models[0].self_tests == device.telemetry(self_tests=True).models[0].self_tests


def test_policies_travel_whole() -> None:
    with served(digits_image()) as server, pcmedge.connect(server.address) as device:
        wanted = client.Policy(kind="log-time", self_test_interval_s=60.0, agreement_drop=0.1, self_test_spacing_s=5.0)
        got = device.set_policy(wanted)
        assert got == device.policy()
        assert (got.self_test_interval_s, got.agreement_drop, got.self_test_spacing_s) == (60.0, 0.1, 5.0)
        assert got.agreement_threshold == 0.0
        assert got.next_in_s == pytest.approx(20.0)
        assert device.set_policy("self-test").agreement_threshold == 0.9


@pytest.mark.parametrize(
    "wrong",
    [{"self_test_interval_s": -1.0}, {"self_test_ratio": 1.0}, {"agreement_drop": 1.5}, {"self_test_spacing_s": 0.0}],
)
def test_impossible_figures_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputValueError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]


def test_an_image_without_reference_inputs_takes_no_policy_that_tests_it() -> None:
    nothing = ({"x": np.empty((0, 2, 4, 4), np.float32)}, {"y": np.empty((0, 5), np.float32)})
    with Chip(clock=Clock.manual(), default_policy=MANUAL) as chip:
        chip.program(tiny_image(reference=nothing))
        assert history(chip) == ()
        for policy in (Policy(kind=PolicyKind.SELF_TEST), Policy(self_test_interval_s=60.0)):
            with pytest.raises(DeviceStateError, match="no reference inputs"):
                chip.set_policy("tiny", policy)
        assert chip.policy("tiny")[0] == MANUAL
