"""Two devices that answer as one: turning over, turning back, and what an application sees of it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from chip_models import digits, digits_image
from cli_process import PATIENCE_S, halted, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pcmedge import FallbackDevice
from pcmedge.device import Device, Policy, Turnover
from pcmedge.errors import (
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    ModelNotFoundError,
    UnavailableError,
)
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.server import serve
from service_devices import served, server_process
from service_models import LABELS, classifier, pictures, two_by_two

QUICK: dict[str, Any] = {"probe_first_s": 0.02, "probe_longest_s": 0.1, "stable_s": 0.05, "min_agreement": 0.0}
"""The untrained network's decisions are close ones: its agreement means nothing unless a test says so."""

YEAR_S = 31_536_000.0


def ideal(image: Any = None) -> Device:
    """What stands in for a digital device here: the same image without any of the physics."""
    return pcmedge.Emulator(image or classifier(), physics="ideal", converters="ideal", serial="digital")


@pytest.fixture
def chip() -> Iterator[Device]:
    with pcmedge.Emulator(classifier(), clock="manual", seed=2) as device:
        device.set_policy("manual")
        yield device


def reasons(device: FallbackDevice) -> list[tuple[str, str]]:
    return [(turnover.to_device, turnover.reason) for turnover in device.turnovers()]


def in_order(turnovers: tuple[Turnover, ...]) -> bool:
    """Numbered without gaps, each from where the one before went to, in the order of their times."""
    ends = ["primary", *(turnover.to_device for turnover in turnovers)]
    return (
        [turnover.sequence for turnover in turnovers] == list(range(1, len(turnovers) + 1))
        and [(turnover.from_device, turnover.to_device) for turnover in turnovers] == list(itertools.pairwise(ends))
        and all(turnover.from_device != turnover.to_device for turnover in turnovers)
        and all(a.time_unix_s <= b.time_unix_s for a, b in itertools.pairwise(turnovers))
    )


def test_the_primary_answers_while_it_can(chip: Device) -> None:
    with FallbackDevice(chip, ideal(), **QUICK) as device:
        result = device.infer_detailed(pictures(3))
        assert (result.answered_by, result.device_serial) == ("primary", "emulator-0")
        assert device.infer(pictures(3)).shape == (3, 4)
        assert device.classify(np.full((6, 6), 200, np.uint8), top_k=1)[0][0] in LABELS
        assert device.model_spec().name == "small"
        assert device.turnovers() == ()
        status = device.status()
        assert (status.in_force, status.turnovers, status.primary_problem) == ("primary", 0, "")
        assert status.primary_agreement == device.self_test().agreement


def test_a_primary_that_is_down_at_the_start_is_taken_when_it_comes() -> None:
    with Chip() as behind:
        behind.program(classifier())
        server = serve(behind)
        address = server.address
        server.stop(0)
        with FallbackDevice(address, ideal(), **QUICK) as device:
            result = device.infer_detailed(pictures(2))
            assert (result.answered_by, result.device_serial) == ("fallback", "digital")
            assert reasons(device) == [("fallback", "UNAVAILABLE")]
            assert address in device.status().primary_problem
            with serve(behind, address):
                wait_for(lambda: device.in_force == "primary")
                assert device.infer_detailed(pictures(2)).answered_by == "primary"
                assert reasons(device)[1:] == [("primary", "RECOVERED")]


def test_a_device_killed_under_load_and_brought_back_loses_no_request(tmp_path: Path) -> None:
    """Threads ask and a stream runs while the device is killed with SIGKILL and started again at the same address."""
    heard: list[Turnover] = []
    with contextlib.ExitStack() as processes:
        process, address = processes.enter_context(server_process(classifier(), tmp_path))
        device = processes.enter_context(FallbackDevice(address, ideal(), on_turnover=heard.append, **QUICK))
        over = threading.Event()
        answered: list[list[Any]] = [[] for _ in range(4)]
        failures: list[BaseException] = []
        streamed: list[tuple[int, Any]] = []

        def ask(mine: list[Any]) -> None:
            try:
                while not over.is_set():
                    mine.append(device.infer_detailed(pictures(2)))
            except BaseException as error:
                failures.append(error)

        def numbered() -> Iterator[Any]:
            for number in itertools.count():
                if over.is_set():
                    return
                yield np.full((1 + number % 5, 1, 6, 6), number % 7 / 7, np.float32)

        def stream() -> None:
            try:
                streamed.extend(enumerate(device.infer_stream(numbered(), detailed=True, window=4)))
            except BaseException as error:
                failures.append(error)

        threads = [*(threading.Thread(target=ask, args=(mine,)) for mine in answered), threading.Thread(target=stream)]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(len(mine) > 5 for mine in answered))
        process.kill()
        process.wait()
        wait_for(lambda: all(mine[-1].answered_by == "fallback" for mine in answered))
        assert heard[0].to_device == "fallback"
        processes.enter_context(server_process(classifier(), tmp_path, address))
        wait_for(lambda: all(mine[-1].answered_by == "primary" for mine in answered))
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        turnovers = device.turnovers()
    assert failures == []
    assert in_order(turnovers)
    assert tuple(heard) == turnovers
    assert [turnover.to_device for turnover in turnovers][-1] == "primary"
    assert [result.output.shape for _, result in streamed] == [(1 + number % 5, 4) for number, _ in streamed]
    assert {result.answered_by for _, result in streamed} == {"primary", "fallback"}


def test_a_stream_switches_in_the_middle_and_keeps_its_order(chip: Device) -> None:
    """Each batch answered once, in order, whichever device it was; and back again."""
    batches = [pictures(1 + number % 3, seed=number) for number in range(60)]
    with FallbackDevice(chip, ideal(), **QUICK) as device, ideal() as oracle:

        def source() -> Iterator[Any]:
            for number, batch in enumerate(batches):
                if number == 15:
                    chip.deactivate("small")
                if number == 40:
                    chip.activate("small")
                    wait_for(lambda: device.in_force == "primary")
                yield batch

        answers = list(device.infer_stream(source(), detailed=True, window=3))
        for batch, answer in zip(batches, answers, strict=True):
            assert np.abs(answer.output - oracle.infer(batch)).max() < 0.5
            assert len(answer.output) == len(batch)
        by = [key for key, _ in itertools.groupby(answer.answered_by for answer in answers)]
        assert by == ["primary", "fallback", "primary"]
        assert reasons(device) == [("fallback", "NOT_PROGRAMMED"), ("primary", "RECOVERED")]


def test_a_stream_gives_answers_before_the_next_batch_is_there(chip: Device) -> None:
    taken = threading.Event()

    def camera() -> Iterator[Any]:
        yield pictures(1)
        assert taken.wait(30)
        yield pictures(2)

    with FallbackDevice(chip, ideal(), **QUICK) as device:
        answers = device.infer_stream(camera())
        assert next(answers).shape == (1, 4)
        taken.set()
        assert [answer.shape for answer in answers] == [(2, 4)]


def test_a_stream_ends_with_what_its_source_raises_and_places_the_callers_mistakes(chip: Device) -> None:
    def source() -> Iterator[Any]:
        yield pictures(1)
        yield np.zeros((1, 2), np.float32)
        yield pictures(2)
        raise RuntimeError("the camera is gone")

    with FallbackDevice(chip, ideal(), **QUICK) as device:
        answers = device.infer_stream(source(), errors="yield")
        assert next(answers).shape == (1, 4)
        assert isinstance(next(answers), InputShapeError)
        assert next(answers).shape == (2, 4)
        with pytest.raises(RuntimeError, match="camera"):
            next(answers)
        with pytest.raises(InputShapeError):
            list(device.infer_stream(source()))
        with pytest.raises(InputValueError, match="window"):
            next(device.infer_stream([], window=0))
        assert device.turnovers() == ()


def test_the_callers_mistakes_turn_nothing_over(chip: Device) -> None:
    with FallbackDevice(chip, ideal(), **QUICK) as device:
        with pytest.raises(InputShapeError):
            device.infer(np.zeros((1, 2), np.float32))
        with pytest.raises(InputValueError):
            device.infer(np.full((1, 1, 6, 6), np.nan, np.float32))
        with pytest.raises(ModelNotFoundError):
            device.infer(pictures(1), model="another")
        assert device.turnovers() == ()
        assert device.infer_detailed(pictures(1), model="small").answered_by == "primary"


def test_inputs_that_are_no_tensor_are_the_callers_mistake_also_while_the_primary_is_down(tmp_path: Path) -> None:
    with FallbackDevice(f"unix://{tmp_path}/nobody.sock", ideal(), **QUICK) as device:
        with pytest.raises(InputError):
            device.infer([[1.0], [1.0, 2.0]])
        assert device.infer_detailed(pictures(1)).answered_by == "fallback"


def test_a_device_that_lost_its_model_is_not_the_callers_mistake(chip: Device) -> None:
    with FallbackDevice(chip, ideal(), **QUICK) as device:
        chip.erase("small")
        chip.program(two_by_two())
        assert device.infer_detailed(pictures(1), model="small").answered_by == "fallback"
        assert reasons(device) == [("fallback", "MODEL_NOT_FOUND")]
        chip.program(classifier())
        chip.deactivate("pair")
        wait_for(lambda: device.in_force == "primary")
        assert device.infer_detailed(pictures(1), model="small").answered_by == "primary"


def test_a_primary_that_became_another_model_is_not_taken_back(chip: Device) -> None:
    with FallbackDevice(chip, ideal(), **QUICK) as device:
        chip.erase("small")
        device.infer(pictures(1))
        chip.program(two_by_two())
        wait_for(lambda: "cannot stand in" in device.status().primary_problem)
        assert device.infer_detailed(pictures(1)).answered_by == "fallback"


def test_a_slow_device_is_left_and_taken_back_when_it_is_quick(tmp_path: Path) -> None:
    with (
        server_process(classifier(), tmp_path) as (process, address),
        FallbackDevice(address, ideal(), deadline_s=3.0, **QUICK) as device,
    ):
        assert device.infer_detailed(pictures(1)).answered_by == "primary"
        with halted(process):
            assert device.infer_detailed(pictures(1)).answered_by == "fallback"
            assert reasons(device) == [("fallback", "DEADLINE_EXCEEDED")]
        wait_for(lambda: device.in_force == "primary")


def test_an_answer_that_came_late_is_used_and_the_next_is_asked_elsewhere(chip: Device) -> None:
    """Nothing takes an inference in process out of its run."""
    several = np.concatenate([pictures(2000)] * 40)
    with FallbackDevice(chip, ideal(), deadline_s=0.05, **(QUICK | {"probe_first_s": 60.0})) as device:
        assert device.in_force == "primary"
        assert device.infer_detailed(several).answered_by == "primary"
        assert reasons(device) == [("fallback", "DEADLINE_EXCEEDED")]
        assert device.infer_detailed(several).answered_by == "fallback"


def test_drift_below_the_threshold_turns_over_and_recalibration_turns_back() -> None:
    image = digits_image()
    with (
        pcmedge.Emulator(image, clock="manual", seed=1) as chip,
        FallbackDevice(chip, ideal(image), **(QUICK | {"min_agreement": 0.8, "self_test_interval_s": 0.05})) as device,
    ):
        chip.set_policy("manual")
        assert device.infer_detailed(digits()[2][:4]).answered_by == "primary"
        chip.lab.advance(YEAR_S)
        assert chip.self_test().agreement < 0.8
        wait_for(lambda: device.in_force == "fallback")
        assert reasons(device) == [("fallback", "SELF_TEST")]
        assert "below 0.8" in device.status().primary_problem
        assert device.infer_detailed(digits()[2][:4]).answered_by == "fallback"
        chip.recalibrate().raise_for_refusal()
        wait_for(lambda: device.in_force == "primary")
        agreement = device.status().primary_agreement
        assert agreement is not None
        assert agreement >= 0.8
        assert reasons(device) == [("fallback", "SELF_TEST"), ("primary", "RECOVERED")]


def test_without_a_share_of_its_own_the_device_judges_its_self_test(chip: Device) -> None:
    chip.set_policy(Policy(kind="manual", agreement_threshold=1.0))
    assert not chip.self_test().passed
    with FallbackDevice(chip, ideal(), **(QUICK | {"min_agreement": None})) as device:
        assert reasons(device) == [("fallback", "SELF_TEST")]
        chip.set_policy(Policy(kind="manual", agreement_threshold=0.1))
        wait_for(lambda: device.in_force == "primary")


def test_two_devices_that_do_not_fit_each_other_are_refused_with_every_difference(chip: Device) -> None:
    with ideal(two_by_two()) as other, pytest.raises(InputError) as caught:
        FallbackDevice(chip, other)
    assert "inputs are called x there and a, b here" in str(caught.value)
    assert "outputs are called scores there and p, q here" in str(caught.value)
    assert caught.value.metadata == {"argument": "fallback", "primary": "small", "fallback": "pair"}
    # Both are still the caller's.
    assert chip.infer(pictures(1)).shape == (1, 4)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("deadline_s", 0.0),
        ("min_agreement", 1.5),
        ("return_agreement", float("nan")),
        ("recovery_probes", 0),
        ("probe_first_s", -1.0),
        ("probe_longest_s", "soon"),
        ("self_test_interval_s", "soon"),
    ],
)
def test_impossible_options_are_refused(chip: Device, option: str, wrong: Any) -> None:
    with ideal() as digital, pytest.raises(InputError, match=option):
        FallbackDevice(chip, digital, **{option: wrong})


def test_a_fallback_that_is_not_there_is_an_error_at_once(chip: Device) -> None:
    with served() as server:
        address = server.address
    with pytest.raises(UnavailableError, match=address):
        FallbackDevice(chip, address)


def test_two_devices_that_cannot_answer_are_one_error_with_both_reasons(chip: Device) -> None:
    digital = ideal()
    with FallbackDevice(chip, digital, **QUICK) as device:
        chip.deactivate("small")
        digital.deactivate("small")
        for _ in range(2):
            with pytest.raises(UnavailableError, match="neither") as caught:
                device.infer(pictures(1))
            assert caught.value.metadata == {"primary": "NOT_PROGRAMMED", "fallback": "NOT_PROGRAMMED"}
        answers = list(device.infer_stream([pictures(1)] * 3, errors="yield"))
        assert [type(answer) for answer in answers] == [UnavailableError] * 3


def test_a_fallback_that_fails_meanwhile_is_helped_out_by_the_primary(chip: Device) -> None:
    digital = ideal()
    with FallbackDevice(chip, digital, **(QUICK | {"probe_first_s": 60.0})) as device:
        chip.deactivate("small")
        assert device.infer_detailed(pictures(1)).answered_by == "fallback"
        chip.activate("small")
        digital.deactivate("small")
        assert device.infer_detailed(pictures(1)).answered_by == "primary"
        assert len(device.turnovers()) == 1


def test_listeners_hear_everything_in_order_even_if_one_call_fails(
    chip: Device, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Turnover] = []

    def listener(turnover: Turnover) -> None:
        heard.append(turnover)
        raise ValueError("a mistake of the listener's")

    with FallbackDevice(chip, ideal(), on_turnover=listener, **QUICK) as device:
        watched: list[Turnover] = []
        watcher = threading.Thread(target=lambda: watched.extend(device.watch_turnovers()))
        watcher.start()
        for _ in range(2):
            chip.deactivate("small")
            device.infer(pictures(1))
            chip.activate("small")
            wait_for(lambda: device.in_force == "primary")
        turnovers = device.turnovers()
    watcher.join(PATIENCE_S)
    assert len(turnovers) == 4
    assert in_order(turnovers)
    assert tuple(heard) == tuple(watched) == turnovers
    assert "a mistake of the listener's" in caplog.text
    assert device.turnovers(after=3) == turnovers[3:]


def test_other_calls_go_to_the_device_in_force(chip: Device) -> None:
    with FallbackDevice(chip, ideal(), **(QUICK | {"probe_first_s": 60.0})) as device:
        assert device.identity().serial == "emulator-0"
        assert device.lab.clock().mode == "manual"
        chip.deactivate("small")
        device.infer(pictures(1))
        assert device.identity().serial == "digital"
        with pytest.raises(AttributeError, match="no_such_call"):
            device.no_such_call()
    with pytest.raises(UnavailableError, match="closed"):
        device.infer(pictures(1))
    with pytest.raises(UnavailableError, match="closed"):
        device.identity()
    with pytest.raises(UnavailableError, match="closed"):
        chip.models()


STEPS = st.lists(
    st.sampled_from(["break", "mend", "drift", "heal", "ask", "ask many", "wait"]), min_size=3, max_size=12
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_whatever_happens_to_the_primary_every_request_is_answered(steps: list[str]) -> None:
    """Turn-overs alternate, only the reasons that were given occur, and a whole primary comes back."""
    with pcmedge.Emulator(classifier(), seed=2) as chip, ideal() as digital:
        chip.set_policy(Policy(kind="manual", agreement_threshold=0.1))
        options = QUICK | {"min_agreement": None, "self_test_interval_s": 0.01, "probe_first_s": 0.005}
        with FallbackDevice(chip, digital, **options) as device:
            gone, low = False, False
            for step in steps:
                match step:
                    case "break" | "mend":
                        gone = step == "break"
                        (chip.deactivate if gone else chip.activate)("small")
                    case "drift" | "heal":
                        low = step == "drift"
                        chip.set_policy(Policy(kind="manual", agreement_threshold=1.0 if low else 0.1), model="small")
                    case "ask":
                        answered = device.infer_detailed(pictures(1))
                        assert answered.output.shape == (1, 4)
                        assert not (gone and answered.answered_by == "primary")
                    case "ask many":
                        shapes = [answer.shape for answer in device.infer_stream(pictures(n) for n in (1, 2, 3, 4))]
                        assert shapes == [(n, 4) for n in (1, 2, 3, 4)]
                    case "wait":
                        wanted = "fallback" if gone or low else "primary"
                        wait_for(lambda wanted=wanted: device.in_force == wanted)
            chip.activate("small")
            chip.set_policy(Policy(kind="manual", agreement_threshold=0.1))
            wait_for(lambda: device.in_force == "primary")
            turnovers = device.turnovers()
            assert in_order(turnovers)
            assert len(turnovers) % 2 == 0
            assert {turnover.reason for turnover in turnovers if turnover.to_device == "fallback"} <= {
                reason for step, reason in (("break", "NOT_PROGRAMMED"), ("drift", "SELF_TEST")) if step in steps
            }


def test_a_pair_of_one_device_or_of_none_is_refused(chip: Device) -> None:
    with pytest.raises(InputValueError, match="the same device"):
        FallbackDevice(chip, chip)
    with pytest.raises(InputTypeError, match="NoneType"):
        FallbackDevice(chip, None)  # type: ignore[arg-type]
