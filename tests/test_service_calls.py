"""Every call of the contract over TCP, over a unix socket and in process: the same Device, the same answers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_process import wait_for
from pcmedge._contract import device_pb2
from pcmedge.device import Device, Mutation, Policy, ProgramAndVerify, Progress
from pcmedge.device._calls import Call
from pcmedge.errors import (
    CancelledError,
    DeviceStateError,
    GenerationMismatchError,
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    LeaseHeldError,
    ModelNotFoundError,
    NotProgrammedError,
    StoreUnwritableError,
    UnimplementedError,
)
from pcmedge.protocol.services import METHODS
from pcmedge_emulator.chip import Chip
from service_devices import WAYS, device_by
from service_models import LABELS, classifier, large, pictures, two_by_two


@pytest.fixture(params=WAYS)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """With the classifier on it, no noise, and nothing recalibrating by itself."""
    with device_by(request.param, classifier(), read_noise="off") as made:
        made.set_policy(Policy(kind="manual"))
        yield made


@pytest.fixture(params=WAYS)
def empty(request: pytest.FixtureRequest) -> Iterator[Device]:
    with device_by(request.param) as made:
        yield made


def test_identity_names_the_chip_and_what_it_can_do(device: Device) -> None:
    identity = device.identity()
    assert (identity.serial, identity.technology, identity.emulated) == ("emulator-0", "pcm-90nm", True)
    assert identity.contract_version == 1
    assert identity.geometry.tile_rows == 256
    assert identity.geometry.free_tiles == identity.geometry.tiles - 2
    assert {"program", "infer.stream", "recalibrate.paired", "lab.clock", "lab.faults", "diagnose"} <= set(
        identity.capabilities
    )
    assert "lab.temperature" not in identity.capabilities


def test_an_empty_device_says_so(empty: Device) -> None:
    assert empty.models() == ()
    with pytest.raises(NotProgrammedError, match="program an image"):
        empty.infer(pictures(1))


def test_programming_reports_tiles_and_the_result(empty: Device) -> None:
    seen: list[Progress] = []
    result = empty.program(large(), progress=seen.append)
    assert result.model.name == "large"
    assert result.model.image_sha256 == large().sha256.hex()
    assert len(result.tiles) == result.model.tiles == 16
    assert all(tile.rms_error_microsiemens > 0 for tile in result.tiles)
    assert {progress.kind for progress in seen} == {"program"}
    assert len({progress.operation_id for progress in seen}) == 1
    assert seen[-1].state == "succeeded"
    assert {progress.unit for progress in seen if progress.phase == "program"} == {"tiles"}


def test_images_come_as_path_bytes_or_object(empty: Device, tmp_path: Any) -> None:
    path = tmp_path / "image.pcmi"
    classifier().save(path)
    for image in (str(path), path, path.read_bytes(), classifier()):
        assert empty.program(image).model.image_sha256 == classifier().sha256.hex()
    assert [model.program_generation for model in empty.models()] == [4]


def test_program_and_verify_comes_closer(empty: Device) -> None:
    once = empty.program(classifier())
    iterated = empty.program(classifier(), program_and_verify=ProgramAndVerify(margin_microsiemens=0.2))
    assert iterated.tiles[1].rms_error_microsiemens < once.tiles[1].rms_error_microsiemens


def test_an_image_can_rest_and_be_woken(device: Device) -> None:
    assert device.program(two_by_two(), activate=False).model.active is False
    assert device.infer(pictures(2)).shape == (2, 4)  # one active model needs no name
    assert device.activate("pair").active
    with pytest.raises(InputError, match="pair, small"):
        device.infer(pictures(2))
    assert device.infer(pictures(2), model="small").shape == (2, 4)
    assert not device.deactivate("small").active
    with pytest.raises(NotProgrammedError):
        device.infer(pictures(2), model="small")
    assert device.erase("pair") == 2
    assert [model.name for model in device.models()] == ["small"]


def test_several_inputs_and_outputs_go_by_name(empty: Device) -> None:
    empty.program(two_by_two())
    outputs = empty.infer({"a": np.zeros((3, 8), np.float32), "b": np.zeros((3, 5), np.float32)})
    assert {name: array.shape for name, array in outputs.items()} == {"p": (3, 3), "q": (3, 2)}
    with pytest.raises(InputError, match="2 inputs"):
        empty.infer(np.zeros((3, 8), np.float32))


def test_floats_of_another_width_and_lists_are_taken(device: Device) -> None:
    batch = pictures(2)
    expected = device.infer(batch)
    np.testing.assert_array_equal(device.infer(batch.astype(np.float64)), expected)
    np.testing.assert_array_equal(device.infer(batch.tolist()), expected)
    expected[0] = 0  # answers belong to the caller


def test_an_answer_says_where_it_came_from(device: Device) -> None:
    device.lab.advance("1h")
    device.recalibrate(force=True)
    result = device.infer_detailed(pictures(3))
    assert (result.model, result.device_serial, result.noise) == ("small", "emulator-0", False)
    assert (result.program_generation, result.statistics_generation) == (1, 1)
    assert result.age_s == pytest.approx(3600)
    assert 0 < result.latency_s < 60
    assert result.output.shape == (3, 4)
    assert result.output.dtype == np.float32
    device.lab.set_noise("additive")
    assert device.infer_detailed(pictures(3)).noise


def test_the_spec_of_a_model(device: Device) -> None:
    spec = device.model_spec()
    assert (spec.name, spec.inputs[0].name, spec.inputs[0].datatype, spec.inputs[0].shape) == (
        "small", "x", "FP32", (-1, 1, 6, 6),
    )  # fmt: skip
    with pytest.raises(ModelNotFoundError, match="small"):
        device.model_spec("other")


def test_streams_keep_order_and_a_bounded_number_under_way(device: Device) -> None:
    batches = [pictures(1 + number % 3, seed=number) for number in range(40)]
    taken = 0

    def camera() -> Iterator[Any]:
        nonlocal taken
        for batch in batches:
            taken += 1
            yield batch

    for number, answer in enumerate(device.infer_stream(camera(), window=3)):
        np.testing.assert_array_equal(answer, device.infer(batches[number]))
        assert taken <= number + 1 + 3 + 1
    assert number == 39


def test_a_stream_may_be_left_early(device: Device) -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield pictures(1)

    answers = device.infer_stream(endless())
    assert next(answers).shape == (1, 4)
    answers.close()
    assert device.infer(pictures(1)).shape == (1, 4)


def test_a_failed_batch_ends_the_stream_or_takes_its_place(device: Device) -> None:
    batches = [pictures(1), np.zeros((1, 1, 5, 5), np.float32), pictures(2)]
    answers = device.infer_stream(batches)
    assert next(answers).shape == (1, 4)
    with pytest.raises(InputShapeError) as caught:
        next(answers)
    first, second, third = device.infer_stream(batches, errors="yield", detailed=True)
    assert (first.output.shape, third.output.shape) == ((1, 4), (2, 4))
    assert (type(second), second.message, second.metadata) == (
        InputShapeError,
        caught.value.message,
        caught.value.metadata,
    )


def test_what_the_callers_own_iterable_raises_reaches_the_caller(device: Device) -> None:
    def broken() -> Iterator[Any]:
        yield pictures(1)
        raise LookupError("camera unplugged")

    answers = device.infer_stream(broken())
    assert next(answers).shape == (1, 4)
    with pytest.raises(LookupError, match="camera unplugged"):
        next(answers)


def test_pictures_are_classified_by_the_images_own_preprocessing(device: Device) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (6, 6), dtype=np.uint8)
    ranked = device.classify(picture, top_k=3)
    scores = device.infer((picture[None, None] / 255).astype(np.float32))[0]
    assert ranked[0][0] == LABELS[int(scores.argmax())]
    assert [probability for _, probability in ranked] == sorted((p for _, p in ranked), reverse=True)
    assert sum(probability for _, probability in device.classify(picture)) == pytest.approx(1)
    device.program(two_by_two())
    with pytest.raises(InputError, match="preprocessing"):
        device.classify(picture, model="pair")


def test_recalibration_reports_commits_and_rolls_back(device: Device) -> None:
    device.lab.advance("30d")
    seen: list[Progress] = []
    result = device.recalibrate("gdc", progress=seen.append)
    assert result.committed
    assert (result.method, result.statistics_generation) == ("gdc", 1)
    assert result.median_drift_factor > 1
    assert result.age_s == pytest.approx(30 * 86400)
    assert seen[-1].state == "succeeded"
    result.raise_for_refusal()
    assert device.rollback() == 2
    assert device.recalibrate(reads=3, force=True).reads == 3
    with pytest.raises(InputError, match="gdc-per-column"):
        device.recalibrate("magic")


def test_policies_are_set_and_foresee(device: Device) -> None:
    device.lab.advance("1h")
    set_to = device.set_policy(Policy(kind="interval", interval_s=7200, method="gdc"))
    assert device.policy() == set_to
    assert (set_to.kind, set_to.method, set_to.interval_s) == ("interval", "gdc", 7200)
    assert set_to.next_in_s == pytest.approx(3600)
    assert device.lab.advance("1d").recalibrations == 12
    assert device.set_policy(Policy(kind="manual")).next_in_s is None
    assert device.set_policy("log-time").kind == "log-time"
    assert device.set_policy(Policy(kind="log-time", reads=5)).reads == 5
    assert device.set_policy("manual") == device.policy()
    with pytest.raises(InputTypeError, match="Policy"):
        device.set_policy(3600)
    with pytest.raises(InputError, match="log-time"):
        device.set_policy(Policy(kind="sometimes"))


def test_the_calibration_buffer_is_replaced_and_grows(device: Device) -> None:
    assert device.calibration_buffer().source == "image"
    replaced = device.replace_calibration_buffer(pictures(10), statistics=False)
    assert (replaced.source, replaced.samples, replaced.has_reference_statistics) == ("application", 10, False)
    assert device.append_calibration_buffer(pictures(5)).samples == 15
    assert device.calibration_buffer().samples == 15


def test_the_self_test_counts_agreement(device: Device) -> None:
    result = device.self_test()
    assert result.reference_inputs == 16
    assert 0.5 <= result.agreement <= 1
    assert result.passed == (result.agreement >= result.threshold)


def test_telemetry_once_and_watched(device: Device) -> None:
    device.infer(pictures(4))
    telemetry = device.telemetry(tiles=True)
    assert (telemetry.sequence, telemetry.requests_served, telemetry.models[0].inferences) == (0, 1, 4)
    assert telemetry.models[0].last_recalibration_age_s is None
    assert {tile.layer for tile in telemetry.models[0].tiles} == {"conv", "classifier"}
    watched = device.watch_telemetry(interval_s=0.01)
    assert [next(watched).sequence for _ in range(3)] == [1, 2, 3]
    watched.close()
    assert dataclasses.asdict(telemetry)["models"][0]["name"] == "small"


def test_a_degraded_device_says_why(device: Device) -> None:
    assert device.telemetry().degraded_reasons == ()
    device.set_policy(Policy(kind="manual", agreement_threshold=1.0))
    device.lab.advance("1y")
    agreement = device.self_test().agreement
    assert agreement < 1.0
    telemetry = device.telemetry()
    assert telemetry.state == "degraded"
    assert telemetry.degraded_reasons == (f"self-test agreement of 'small' is {agreement:.4g}, below 1",)

    def serves() -> bool:
        device.infer(pictures(1))
        return device.telemetry().state == "serving"  # for a second or two

    wait_for(serves)
    assert device.telemetry().degraded_reasons == telemetry.degraded_reasons


def test_the_journal_once_and_watched(device: Device) -> None:
    events = device.events()
    assert [event.kind for event in events] == ["started", "programmed", "policy-changed"]
    assert [event.sequence for event in device.events(after=events[0].sequence, limit=1)] == [events[1].sequence]
    watched = device.watch_events(after=events[-1].sequence)
    device.deactivate("small")
    event = next(watched)
    assert (event.kind, event.model) == ("deactivated", "small")
    watched.close()


def test_a_tile_is_read_back_in_bands(empty: Device) -> None:
    empty.program(large())
    tile = empty.telemetry(tiles=True).models[0].tiles[3].tile
    readout = empty.read_tile(tile)
    assert readout.g_plus_microsiemens.shape == readout.g_minus_microsiemens.shape == (256, 256)
    assert 0 <= readout.g_plus_microsiemens.min() < 5 < readout.g_plus_microsiemens.max() < 40


def test_the_lab_moves_time_and_keeps_states(device: Device) -> None:
    assert device.lab.clock().mode == "manual"
    device.lab.snapshot("fresh")
    young = device.infer(pictures(4))
    assert device.lab.advance("1y").clock.device_time_s == pytest.approx(31536000)
    assert not np.array_equal(device.infer(pictures(4)), young)
    assert device.lab.restore("fresh").models == ("small",)
    np.testing.assert_array_equal(device.infer(pictures(4)), young)
    assert [snapshot.name for snapshot in device.lab.snapshots()] == ["fresh"]
    device.lab.delete_snapshot("fresh")
    assert device.lab.snapshots() == ()
    assert device.lab.set_clock("accelerated", rate=60).rate == 60


@pytest.mark.parametrize(
    ("call", "capability"),
    [
        (lambda lab: lab.set_temperature(40), "lab.temperature"),
    ],
)
def test_what_this_device_lacks_is_absent_from_its_capabilities(device: Device, call: Any, capability: str) -> None:
    with pytest.raises(UnimplementedError) as caught:
        call(device.lab)
    assert caught.value.metadata["capability"] == capability
    assert capability not in device.identity().capabilities


def test_a_lease_keeps_others_out_until_it_is_given_back(device: Device) -> None:
    lease = device.acquire_lease("bench 3", duration_s=30)
    assert 0 < lease.remaining_s <= 30
    with pytest.raises(LeaseHeldError, match="bench 3"):
        device.program(two_by_two())
    with pytest.raises(LeaseHeldError):
        device.erase("small")
    device.program(two_by_two(), mutation=Mutation(lease_id=lease.lease_id))
    assert device.renew_lease(lease, duration_s=100).remaining_s > 50
    device.release_lease(lease)
    device.erase("small")


@pytest.mark.parametrize(
    ("refusal", "size", "kind"),
    [
        ("lease", 1 << 20, LeaseHeldError),
        ("a lease that lapsed", 1 << 20, LeaseHeldError),
        ("generation", 1 << 20, GenerationMismatchError),
        ("request id", 1 << 20, InputValueError),
        ("size", 1 << 40, InputValueError),
    ],
)
def test_what_the_header_tells_is_refused_before_any_chunk(
    device: Device, refusal: str, size: int, kind: type[Exception]
) -> None:
    mutation = device_pb2.Mutation()
    if refusal == "lease":
        device.acquire_lease("bench 3")
    elif refusal == "a lease that lapsed":
        mutation.lease_id = "long ago"
    elif refusal == "generation":
        mutation.expected_program_generation = 77
    elif refusal == "request id":
        device.deactivate("small", mutation=Mutation(request_id="used"))
        mutation.request_id = "used"
    over, sent = threading.Event(), []

    def requests() -> Iterator[device_pb2.ProgramRequest]:
        yield device_pb2.ProgramRequest(header=device_pb2.ProgramHeader(mutation=mutation, image_size=size))
        over.wait(25.0)
        if not over.is_set():
            sent.append("a chunk")

    call = Call(method=METHODS["Program"], request=requests(), timeout_s=30.0)
    with pytest.raises(kind):
        list(device._transport.stream(call))
    over.set()
    assert sent == []


def test_an_image_larger_than_the_store_may_grow_is_refused_at_the_header(tmp_path: Path) -> None:
    with Chip(store=tmp_path / "store", store_max_bytes=1 << 16) as chip:
        with pytest.raises(StoreUnwritableError, match="65536"):
            chip.check_program(1 << 20)
        chip.check_program(1 << 10)


def test_repeating_a_programming_is_not_refused_for_what_it_did_itself(device: Device) -> None:
    mutation = Mutation(request_id="mine", expected_program_generation=1)
    first = device.program(two_by_two(), mutation=mutation)
    assert device.program(two_by_two(), mutation=mutation) == first


def test_a_repeated_request_id_does_nothing_twice(device: Device) -> None:
    mutation = Mutation(request_id="once")
    first = device.program(two_by_two(), mutation=mutation)
    again = device.program(two_by_two(), mutation=mutation)
    assert again.model.program_generation == first.model.program_generation
    assert [event.kind for event in device.events()].count("programmed") == 2
    with pytest.raises(InputError, match="once"):
        device.erase("pair", mutation=mutation)


def test_finished_operations_can_be_looked_at(device: Device) -> None:
    operation = device.operations()[0] if device.operations() else None
    device.recalibrate("gdc", force=True)
    last = device.operations()[-1]
    assert (last.kind, last.state) == ("recalibrate", "succeeded")
    assert operation is None or operation.operation_id != last.operation_id
    assert list(device.watch_operation(last.operation_id))[-1].state == "succeeded"
    assert device.cancel_operation(last.operation_id).state == "succeeded"


SLOW = ProgramAndVerify(margin_microsiemens=0.0005, max_iterations=1000)


def test_ctrl_c_during_programming_leaves_the_old_state(device: Device) -> None:
    before = device.models()

    def interrupt(progress: Progress) -> None:
        if progress.phase == "program":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.program(large(), program_and_verify=SLOW, progress=interrupt)
    operation = list(device.watch_operation(device.operations()[-1].operation_id))[-1]
    assert operation.state == "cancelled"
    assert device.models() == before
    assert device.infer(pictures(1)).shape == (1, 4)


def test_an_operation_is_cancelled_by_id_from_elsewhere(device: Device) -> None:
    before = device.models()

    def cancel(progress: Progress) -> None:
        if progress.phase == "program" and progress.state == "running":
            device.cancel_operation(progress.operation_id)

    with pytest.raises(CancelledError):
        device.program(large(), program_and_verify=SLOW, progress=cancel)
    assert device.models() == before


def test_nothing_to_roll_back_is_a_state_error(device: Device) -> None:
    with pytest.raises(DeviceStateError):
        device.rollback()
