"""Programming, serving and erasing on a chip, and what survives a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chip_models import INPUT, OUTPUT, accuracy, digits, digits_image
from pcmedge.errors import (
    CancelledError,
    CapacityError,
    GenerationMismatchError,
    ImageProfileError,
    ImageTooLargeError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    LeaseHeldError,
    ModelNotFoundError,
    NotFoundError,
    NotProgrammedError,
    StoreError,
    StoreUnwritableError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import Mutation, ProgramAndVerify

SMALL = profile("pcm-512x512", name="small", tiles=5)


def new_chip(**options: object) -> Chip:
    return Chip(**{"clock": Clock.manual(), "default_policy": MANUAL, "seed": 1} | options)  # type: ignore[arg-type]


@pytest.fixture
def chip() -> Iterator[Chip]:
    with new_chip() as made:
        yield made


def scores(chip: Chip, name: str = "digits") -> np.ndarray:
    return np.asarray(chip.infer(name, {INPUT: digits()[2]}).outputs[OUTPUT])


def test_a_programmed_chip_answers_nearly_as_well_as_the_network(chip: Chip) -> None:
    phases: list[tuple[str, int, int]] = []
    outcome = chip.program(digits_image(), progress=lambda *step: phases.append(step))
    assert [step for step in phases if step[0] == "program"] == [("program", n, 3) for n in (1, 2, 3)]
    assert [tile.layer for tile in outcome.tiles] == ["dense0", "dense1", "classifier"]
    assert all(0.3 < tile.rms_error_microsiemens < 1.2 for tile in outcome.tiles)
    answer = chip.infer("digits", {INPUT: digits()[2]})
    assert accuracy(answer.outputs[OUTPUT], digits()[3]) > 0.85
    assert (answer.program_generation, answer.statistics_generation, answer.age_s) == (1, 0, 0.0)
    assert answer.noise
    assert chip.identity().geometry.free_tiles == chip.identity().geometry.tiles - 3


def test_the_same_serial_and_seed_are_the_same_device() -> None:
    results = []
    for serial in ("a", "a", "b"):
        with new_chip(serial=serial) as chip:
            chip.program(digits_image())
            results.append(scores(chip))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_program_and_verify_programs_more_precisely(chip: Chip) -> None:
    once = chip.program(digits_image()).tiles
    verified = chip.program(digits_image(), program_and_verify=ProgramAndVerify(margin_microsiemens=0.3)).tiles
    for before, after in zip(once, verified, strict=True):
        assert after.rms_error_microsiemens < 0.6 * before.rms_error_microsiemens
        assert 0.9 < after.converged_fraction <= 1.0


def test_no_physics_and_ideal_converters_give_the_digital_outputs() -> None:
    with new_chip(technology="ideal", converters="ideal", read_noise="off") as chip:
        chip.program(digits_image())
        inputs, outputs = digits_image().reference_set()
        answer = chip.infer("digits", inputs)
        assert not answer.noise
        wanted = outputs[OUTPUT]
        assert np.abs(answer.outputs[OUTPUT] - wanted).max() / np.abs(wanted).max() < 1e-3


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_both_engines_serve(engine: str) -> None:
    with new_chip(engine=engine, read_noise="off") as chip:
        chip.program(digits_image())
        answer = chip.infer("digits", {INPUT: digits()[2][:64]})
        assert accuracy(answer.outputs[OUTPUT], digits()[3][:64]) > 0.8
        assert chip.recalibrate("digits").committed


def test_several_models_share_the_chip(chip: Chip) -> None:
    chip.program(digits_image("one"))
    chip.program(digits_image("two"))
    assert [model.name for model in chip.models()] == ["one", "two"]
    assert [model.program_generation for model in chip.models()] == [1, 2]
    before = scores(chip, "one")
    assert chip.erase("two").freed_tiles == 3
    assert [model.name for model in chip.models()] == ["one"]
    assert before.shape == scores(chip, "one").shape
    with pytest.raises(ModelNotFoundError, match="one"):
        chip.infer("two", {INPUT: digits()[2]})


def test_deactivated_models_keep_their_tiles_and_do_not_answer(chip: Chip) -> None:
    with pytest.raises(NotProgrammedError):
        chip.infer("digits", {INPUT: digits()[2]})
    chip.program(digits_image(), activate=False)
    with pytest.raises(NotProgrammedError, match="Activate"):
        chip.infer("digits", {INPUT: digits()[2]})
    chip.advance(1000.0)
    assert chip.activate("digits").active
    assert chip.infer("digits", {INPUT: digits()[2]}).age_s == 1000.0
    assert not chip.deactivate("digits").active
    assert chip.telemetry().requests_failed == 2


def test_bad_inputs_are_typed_errors(chip: Chip) -> None:
    chip.program(digits_image())
    pictures = digits()[2]
    for error, inputs in (
        (InputShapeError, {INPUT: pictures[0]}),
        (InputShapeError, {INPUT: pictures[:, :60]}),
        (InputTypeError, {INPUT: pictures.astype(np.float64)}),
        (InputValueError, {INPUT: np.full_like(pictures, np.nan)}),
        (InputValueError, {"other": pictures}),
    ):
        with pytest.raises(error):
            chip.infer("digits", inputs)


def test_an_image_for_other_converters_is_refused_and_named(chip: Chip) -> None:
    with new_chip(profile=profile("pcm-512x512", name="coarse", adc_bits=6)) as coarse:
        with pytest.raises(ImageProfileError, match=r"adc_bits 8 \(chip: 6\)") as caught:
            coarse.program(digits_image())
        assert caught.value.metadata["different"] == "adc_bits"
        assert coarse.events()[-1].kind == "failed"
    assert chip.identity().geometry.profile == ""


def test_a_full_chip_needs_replace_and_reports_the_outage() -> None:
    with new_chip(profile=SMALL) as chip:
        chip.program(digits_image("one"))
        with pytest.raises(CapacityError):
            chip.program(digits_image("two"))
        seen: list[type[Exception]] = []

        def look(phase: str, done: int, total: int) -> None:
            if phase == "program":
                try:
                    chip.infer("one", {INPUT: digits()[2][:1]})
                except UnavailableError as error:
                    seen.append(type(error))

        outcome = chip.program(digits_image("two"), replace=True, progress=look)
        assert outcome.replaced_models == ("one",)
        assert outcome.outage_s > 0.0
        assert seen == [UnavailableError] * 3
        assert [model.name for model in chip.models()] == ["two"]


def test_a_new_version_beside_the_old_one_means_no_outage(chip: Chip) -> None:
    chip.program(digits_image())
    answered: list[int] = []

    def look(phase: str, done: int, total: int) -> None:
        if phase == "program":
            answered.append(chip.infer("digits", {INPUT: digits()[2][:1]}).program_generation)

    outcome = chip.program(digits_image(version=2), progress=look)
    assert (outcome.replaced_models, outcome.outage_s) == (("digits",), 0.0)
    assert answered == [1, 1, 1]
    assert chip.infer("digits", {INPUT: digits()[2][:1]}).program_generation == 2
    assert chip.identity().geometry.free_tiles == chip.identity().geometry.tiles - 3


def test_an_image_larger_than_the_chip_never_fits() -> None:
    with new_chip(profile=profile("pcm-512x512", name="tiny", tiles=2)) as chip, pytest.raises(ImageTooLargeError):
        chip.program(digits_image(), replace=True)


@pytest.mark.parametrize("store", [True, False])
def test_a_cancelled_programming_leaves_the_old_state_whole(tmp_path: Path, store: bool) -> None:
    with new_chip(profile=SMALL, store=tmp_path if store else None) as chip:
        chip.program(digits_image("one"))
        before = chip.models()
        stop = threading.Event()
        with pytest.raises(CancelledError, match="2 of 3 tiles"):
            chip.program(
                digits_image("two"),
                replace=True,
                progress=lambda phase, done, total: stop.set() if (phase, done) == ("program", 2) else None,
                cancelled=stop.is_set,
            )
        assert chip.models() == before
        assert scores(chip, "one").shape == (len(digits()[2]), 10)
        assert chip.events()[-1].kind == "cancelled"


def test_a_full_store_leaves_the_old_state(tmp_path: Path) -> None:
    with new_chip(store=tmp_path, store_max_bytes=500_000) as chip:
        chip.program(digits_image("one"))
        before = chip.models()
        with pytest.raises(StoreUnwritableError):
            chip.program(digits_image("two"))
        assert chip.models() == before
        assert chip.infer("one", {INPUT: digits()[2]}).program_generation == 1


def test_a_restart_keeps_conductances_and_age(tmp_path: Path) -> None:
    with new_chip(store=tmp_path, read_noise="off") as chip:
        chip.program(digits_image())
        chip.advance(5000.0)
        chip.recalibrate("digits")
        chip.advance(7000.0)
        before, model = scores(chip), chip.models()
    with new_chip(store=tmp_path, read_noise="off", seed=None) as chip:
        assert chip.models() == model
        assert chip.models()[0].age_s == 12000.0
        assert np.array_equal(scores(chip), before)
        assert chip.events()[-1].kind == "started"
        chip.rollback("digits")


def test_a_store_is_one_device(tmp_path: Path) -> None:
    with new_chip(store=tmp_path, seed=1, technology="pcm-14nm"):
        pass
    for other in ({"seed": 2}, {"technology": "pcm-90nm"}, {"serial": "x"}):
        with pytest.raises(StoreError, match=next(iter(other))):
            new_chip(store=tmp_path, **other)
    with new_chip(store=tmp_path, seed=None) as chip:
        assert chip.identity().technology == "pcm-14nm"


def test_a_repeated_request_id_returns_the_first_outcome_and_does_nothing(tmp_path: Path) -> None:
    mutation = Mutation(request_id="program-1")
    with new_chip(store=tmp_path) as chip:
        first = chip.program(digits_image(), mutation=mutation)
        assert chip.program(digits_image(), mutation=mutation) == first
        advanced = chip.advance(10.0, mutation=Mutation(request_id="advance"))
    with new_chip(store=tmp_path) as chip:
        assert chip.program(digits_image(), mutation=mutation) == first
        assert chip.advance(10.0, mutation=Mutation(request_id="advance")) == advanced
        assert chip.clock().device_time_s == 10.0
        assert chip.models()[0].program_generation == 1
        with pytest.raises(InputValueError, match="program-1"):
            chip.erase("digits", mutation=mutation)


def test_a_caller_with_other_expectations_is_refused(chip: Chip) -> None:
    chip.program(digits_image())
    for mutation in (Mutation(expected_program_generation=2), Mutation(expected_statistics_generation=1)):
        with pytest.raises(GenerationMismatchError):
            chip.erase("digits", mutation=mutation)
    with pytest.raises(GenerationMismatchError):
        chip.program(digits_image(), mutation=Mutation(expected_program_generation=0))
    chip.erase("digits", mutation=Mutation(expected_program_generation=1, expected_statistics_generation=0))


def test_only_the_holder_of_the_lease_programs(chip: Chip) -> None:
    lease = chip.acquire_lease("first", 30.0, request_id="a")
    assert chip.acquire_lease("first", 30.0, request_id="a").lease_id == lease.lease_id
    with pytest.raises(LeaseHeldError, match="first"):
        chip.acquire_lease("second")
    with pytest.raises(LeaseHeldError, match="first"):
        chip.program(digits_image())
    chip.program(digits_image(), mutation=Mutation(lease_id=lease.lease_id))
    with pytest.raises(LeaseHeldError):
        chip.erase("digits", mutation=Mutation(lease_id="stranger"))
    assert chip.renew_lease(lease.lease_id, 60.0).remaining_s > 30.0
    chip.release_lease(lease.lease_id)
    chip.erase("digits")
    with pytest.raises(LeaseHeldError, match="lapsed"):
        chip.renew_lease(lease.lease_id)


def test_two_programmings_at_once_are_one_and_a_refusal(chip: Chip) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def wait(phase: str, done: int, total: int) -> None:
        inside.set()
        assert go_on.wait(20.0)

    thread = threading.Thread(target=lambda: chip.program(digits_image(), progress=wait))
    thread.start()
    assert inside.wait(20.0)
    try:
        with pytest.raises(LeaseHeldError, match="programming 'digits'"):
            chip.program(digits_image("other"))
        assert chip.telemetry().state == "programming"
    finally:
        go_on.set()
        thread.join()
    assert [model.name for model in chip.models()] == ["digits"]


def test_a_tile_reads_back_what_was_programmed(chip: Chip) -> None:
    chip.program(digits_image())
    tile = digits_image().tiles()[0]
    readout = chip.read_tile("digits", 0)
    wanted = digits_image().target(tile)[0].astype(np.float32) / 32767 * 25.0
    assert (readout.layer, readout.rows, readout.columns, readout.age_s) == ("dense0", 64, 96, 0.0)
    assert np.corrcoef((readout.g_plus - readout.g_minus).ravel(), wanted.ravel())[0, 1] > 0.97
    assert not np.array_equal(readout.g_plus, chip.read_tile("digits", 0).g_plus)
    with pytest.raises(NotFoundError, match="tile 99"):
        chip.read_tile("digits", 99)


def test_adc_spread_belongs_to_the_chip() -> None:
    results = []
    for spread in (0.0, 0.07):
        with new_chip(profile=profile("pcm-512x512", adc_gain_spread=spread), read_noise="off") as chip:
            chip.program(digits_image())
            results.append(scores(chip))
    assert not np.array_equal(results[0], results[1])
    assert np.corrcoef(results[0].ravel(), results[1].ravel())[0, 1] > 0.9


def test_an_operation_reports_and_cancels(chip: Chip) -> None:
    operation = chip.operations.start(
        "program", lambda progress, cancelled: chip.program(digits_image(), progress=progress, cancelled=cancelled)
    )
    updates = list(operation.updates())
    assert updates[-1].state.value == "succeeded"
    assert updates[-1].outcome.model.name == "digits"
    asked = threading.Event()

    def work(progress: object, stop: Callable[[], bool]) -> object:
        assert asked.wait(20.0)
        return chip.recalibrate("digits", cancelled=stop)

    cancelled = chip.operations.start("recalibrate", work)
    cancelled.cancel()
    asked.set()
    with pytest.raises(CancelledError):
        cancelled.result()
    assert [update.state.value for update in chip.operations.list()] == ["succeeded", "cancelled"]
    with pytest.raises(NotFoundError):
        chip.operations.get("unknown")


def test_the_device_keeps_its_own_copy_of_an_image_file(chip: Chip, tmp_path: Path) -> None:
    path = tmp_path / "digits.pcmi"
    digits_image().save(path)
    chip.program(ChipImage.open(path))
    path.write_bytes(b"")
    assert chip.image("digits").sha256 == digits_image().sha256
    assert chip.recalibrate("digits").committed


def test_ir_drop_belongs_to_the_chip() -> None:
    wired = profile("pcm-512x512", ir_drop=1.0)
    pictures = {INPUT: digits()[2][:20]}
    answers = []
    for chosen in ("pcm-512x512", wired):
        with new_chip(profile=chosen, read_noise="off", engine="reference") as chip:
            chip.program(digits_image())
            answers.append(chip.infer("digits", pictures).outputs[OUTPUT])
    assert not np.array_equal(answers[0], answers[1])
    with new_chip(profile=wired) as chip:
        with pytest.raises(UnimplementedError, match="IR drop"):
            chip.program(digits_image())
        assert chip.models() == ()
