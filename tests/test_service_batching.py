"""Dynamic batching and the bounded queue: a real server, real clients at the same time.

Nothing here depends on who is faster: a batch waits an hour for company, so that it is computed when it is full or when
the service drains, and what is asserted are counts of runs of the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pcmedge
import pytest
from numpy.typing import NDArray
from pcmedge._contract import inference_pb2
from pcmedge.device import Device
from pcmedge.device._calls import Call
from pcmedge.device._grpc import make_stub
from pcmedge.errors import (
    BusyError,
    Error,
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    InternalError,
    ModelNotFoundError,
)
from pcmedge.protocol import tensors
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import from_status
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.service.scheduling import Scheduling
from pcmedge_emulator.service.server import Server, serve
from service_devices import served
from service_models import classifier, pictures, two_by_two

HOUR_S = 3600.0
PATIENCE_S = 100.0
DIGITAL = {"technology": "ideal", "converters": "ideal", "read_noise": "off"}
"""A chip without noise and converters: what a picture's scores are does not depend on its neighbours."""


def full_at(samples: int, **more: Any) -> Scheduling:
    """A batch that is computed when it holds so many samples, and not before."""
    return Scheduling(max_batch_size=samples, max_queue_delay_s=HOUR_S, **more)


def statistics(device: Device, model: str = "small") -> inference_pb2.ModelStatistics:
    request = inference_pb2.ModelStatisticsRequest(name=model)
    reply = device._attempt(Call(method=METHODS["ModelStatistics"], request=request, timeout_s=PATIENCE_S))
    found: inference_pb2.ModelStatistics = reply.model_stats[0]
    return found


def batches(device: Device, model: str = "small") -> dict[int, int]:
    """Samples of a run of the engine -> how many such runs there were."""
    return {batch.batch_size: batch.compute_infer.count for batch in statistics(device, model).batch_stats}


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls; only a device that hangs makes this fail."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "the device never got there"
        time.sleep(0.01)


@contextmanager
def clients(server: Server, count: int) -> Iterator[tuple[ThreadPoolExecutor, list[Device]]]:
    """So many connections of their own, and a thread for each."""
    devices = [pcmedge.connect(server.address, timeout_s=PATIENCE_S) for _ in range(count)]
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool, devices
    finally:
        for device in devices:
            device.close()


def at_once(server: Server, asks: Sequence[Callable[[Device], Any]]) -> list[Any]:
    """What each of these got from a client of its own, all at the same time; an Error if that is what it got."""
    with clients(server, len(asks)) as (pool, devices):
        together = threading.Barrier(len(asks))

        def answer(ask: Callable[[Device], Any], device: Device) -> Any:
            together.wait(PATIENCE_S)
            try:
                return ask(device)
            except Error as error:
                return error

        futures = [pool.submit(answer, ask, device) for ask, device in zip(asks, devices, strict=True)]
        return [future.result(PATIENCE_S) for future in futures]


def asking(inputs: Any, model: str = "small") -> Callable[[Device], Any]:
    return lambda device: device.infer(inputs, model=model)


def alone(images: NDArray[np.float32]) -> NDArray[Any]:
    """Scores of these pictures from a device that computes every request alone."""
    with Chip(clock=Clock.manual(), **DIGITAL) as chip:
        chip.program(classifier())
        return np.concatenate(
            [next(iter(chip.infer("small", {"x": image[None]}).outputs.values())) for image in images]
        )


def close_to(found: Any, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- merging


def test_requests_of_eight_clients_become_one_run_of_the_engine_and_everybody_gets_the_own_answer() -> None:
    images = pictures(8)
    with served(classifier(), scheduling=full_at(8), **DIGITAL) as server:
        answers = at_once(server, [asking(images[i : i + 1]) for i in range(8)])
        with pcmedge.connect(server.address) as device:
            assert batches(device) == {8: 1}
            counted = statistics(device)
            assert (counted.inference_count, counted.execution_count) == (8, 1)
            assert counted.inference_stats.success.count == counted.inference_stats.queue.count == 8
            telemetry = device.telemetry()
            assert (telemetry.requests_served, telemetry.models[0].inferences) == (8, 8)
            assert (telemetry.requests_queued, telemetry.requests_rejected) == (0, 0)
    expected = alone(images)
    assert len(np.unique(expected.round(4), axis=0)) == 8, "eight different answers"
    close_to(np.concatenate(answers), expected)


def test_batches_of_different_sizes_share_a_run_and_a_larger_one_is_computed_alone() -> None:
    images = pictures(12)
    parts = [images[:1], images[1:4], images[4:6], images[6:]]
    with served(classifier(), scheduling=full_at(6), **DIGITAL) as server:
        answers = at_once(server, [asking(part) for part in parts[:3]])
        with pcmedge.connect(server.address) as device:
            assert batches(device) == {6: 1}
            answers.append(device.infer(parts[3]))
            answers.append(device.infer(pictures(40)))
            assert batches(device) == {6: 2, 40: 1}
    close_to(np.concatenate(answers[:4]), alone(images))


def test_requests_for_two_models_never_share_a_run() -> None:
    a, b = np.ones((1, 8), np.float32), np.ones((1, 5), np.float32)
    asks = [asking(pictures(1))] * 3 + [asking({"a": a, "b": b}, "pair")] * 3
    with served(classifier(), two_by_two(), scheduling=full_at(3), **DIGITAL) as server:
        answers = at_once(server, asks)
        with pcmedge.connect(server.address) as device:
            assert batches(device, "small") == batches(device, "pair") == {3: 1}
    for answer in answers[:3]:
        close_to(answer, alone(pictures(1)))
    for answer in answers[3:]:
        close_to(answer["p"], answers[3]["p"])
        assert {name: values.shape for name, values in answer.items()} == {"p": (1, 3), "q": (1, 2)}


def test_without_max_batch_size_every_request_is_computed_alone() -> None:
    with served(classifier(), **DIGITAL) as server:
        answers = at_once(server, [asking(pictures(1))] * 6)
        with pcmedge.connect(server.address) as device:
            assert batches(device) == {1: 6}
    close_to(np.concatenate(answers), np.repeat(alone(pictures(1)), 6, axis=0))


def test_without_a_delay_a_lone_request_waits_for_nobody() -> None:
    with (
        served(classifier(), scheduling=Scheduling(max_batch_size=32), **DIGITAL) as server,
        pcmedge.connect(server.address) as device,
    ):
        for image in pictures(3):
            close_to(device.infer(image[None]), alone(image[None]))
        assert batches(device) == {1: 3}


# ---------------------------------------------------------------------------------------------------------- neighbours


def _asking_for_the_output(name: str) -> Callable[[Device], Any]:
    def ask(device: Device) -> Any:
        request = inference_pb2.ModelInferRequest(model_name="small")
        request.outputs.add(name=name)
        tensors.add_inputs(request, {"x": pictures(1)})
        return device._attempt(Call(method=METHODS["ModelInfer"], request=request, timeout_s=PATIENCE_S))

    return ask


def test_bad_requests_are_told_what_is_wrong_with_them_and_their_neighbours_are_answered() -> None:
    bad: list[tuple[type[Error], Callable[[Device], Any]]] = [
        (InputShapeError, asking(np.zeros((1, 1, 6, 7), np.float32))),
        (InputShapeError, asking(np.zeros((0, 1, 6, 6), np.float32))),
        (InputTypeError, asking(np.zeros((1, 1, 6, 6), np.int32))),
        (InputValueError, asking(np.full((1, 1, 6, 6), np.nan, np.float32))),
        (InputValueError, asking({"y": pictures(1)})),
        (ModelNotFoundError, asking(pictures(1), "nobody")),
        (InputError, _asking_for_the_output("nothing")),
    ]
    with served(classifier(), scheduling=full_at(3), **DIGITAL) as server:
        answers = at_once(server, [asking(pictures(1))] * 3 + [ask for _, ask in bad])
        with pcmedge.connect(server.address) as device:
            assert batches(device) == {3: 1}
    for answer in answers[:3]:
        close_to(answer, alone(pictures(1)))
    for (kind, _), answer in zip(bad, answers[3:], strict=True):
        assert type(answer) is kind, answer


POISON = 0.125


class _Allergic(Chip):
    """A chip with a bug: any batch with a certain picture in it breaks the engine."""

    def infer_together(self, requests: Any) -> Any:
        if any((request.inputs["x"] == POISON).all() for request in requests):
            raise ZeroDivisionError("secret detail")
        return super().infer_together(requests)


def test_when_a_shared_run_breaks_only_the_request_to_blame_fails() -> None:
    poison = np.full((1, 1, 6, 6), POISON, np.float32)
    with _Allergic(clock=Clock.manual(), **DIGITAL) as chip:
        chip.program(classifier())
        with serve(chip, scheduling=full_at(4)) as server:
            answers = at_once(server, [*[asking(pictures(1))] * 3, asking(poison)])
            with pcmedge.connect(server.address) as device:
                assert batches(device) == {1: 3}
                counted = statistics(device).inference_stats
                assert counted.success.count == 3
                assert device.infer(pictures(4)).shape == (4, 4), "the device goes on"
    for answer in answers[:3]:
        close_to(answer, alone(pictures(1)))
    assert isinstance(answers[3], InternalError)
    assert "secret" not in str(answers[3])


def test_a_model_programmed_again_meanwhile_answers_as_what_it_is_now() -> None:
    def pinned(device: Device) -> Any:
        request = inference_pb2.ModelInferRequest(model_name="small", model_version="1")
        tensors.add_inputs(request, {"x": pictures(1)})
        return device._attempt(Call(method=METHODS["ModelInfer"], request=request, timeout_s=PATIENCE_S))

    with (
        served(classifier(), scheduling=full_at(4), **DIGITAL) as server,
        clients(server, 3) as (pool, (free, bound, observer)),
    ):
        first = pool.submit(free.infer_detailed, pictures(1))
        second = pool.submit(pinned, bound)
        wait_until(lambda: observer.telemetry().requests_queued == 2)
        observer.program(classifier(seed=3))
        # Requests for the new program are another kind: a batch of their own.
        close_to(observer.infer(pictures(4)), observer.infer(pictures(4)))
        assert batches(observer) == {4: 2}
        server.stop(grace_s=PATIENCE_S)
        assert first.result(PATIENCE_S).program_generation == 2
        with pytest.raises(ModelNotFoundError, match="version 2"):
            second.result(PATIENCE_S)


# --------------------------------------------------------------------------------------------------------------- noise


def test_the_samples_of_a_shared_run_have_read_noise_of_their_own() -> None:
    with served(classifier(), scheduling=full_at(4)) as server:
        answers = at_once(server, [asking(pictures(1))] * 4)
    assert len({answer.tobytes() for answer in answers}) == 4


def test_one_client_after_another_gets_the_same_noise_with_and_without_batching() -> None:
    found = []
    for scheduling in (Scheduling(), Scheduling(max_batch_size=8)):
        with (
            served(classifier(), scheduling=scheduling, seed=5) as server,
            pcmedge.connect(server.address) as device,
        ):
            found.append([device.infer(pictures(2)).tobytes() for _ in range(4)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


# ----------------------------------------------------------------------------------------------------------- the queue


def test_a_full_queue_is_busy_short_calls_are_answered_and_what_waits_is_drained() -> None:
    images = pictures(2)
    with Chip(clock=Clock.manual(), **DIGITAL) as chip:
        chip.program(classifier())
        with (
            serve(chip, scheduling=full_at(8, max_queue_size=2)) as server,
            clients(server, 3) as (pool, (one, two, observer)),
        ):
            futures = [pool.submit(device.infer, images[i : i + 1]) for i, device in enumerate((one, two))]
            wait_until(lambda: observer.telemetry().requests_queued == 2)
            with pytest.raises(BusyError, match="--max-queue-size") as caught:
                observer.infer(pictures(1))
            assert caught.value.metadata["max_queue_size"] == "2"
            assert observer.self_test().passed
            assert (observer.telemetry().requests_queued, observer.telemetry().requests_rejected) == (2, 1)
            server.stop(grace_s=PATIENCE_S)
            close_to(np.concatenate([future.result(PATIENCE_S) for future in futures]), alone(images))
        telemetry = chip.telemetry()
        assert (telemetry.requests_served, telemetry.requests_failed) == (2, 0)


def test_busy_is_resource_exhausted_on_the_wire() -> None:
    with (
        served(classifier(), scheduling=full_at(8, max_queue_size=1), **DIGITAL) as server,
        clients(server, 2) as (pool, (waiting, observer)),
        grpc.insecure_channel(parse_address(server.address).target) as channel,
    ):
        future = pool.submit(waiting.infer, pictures(1))
        wait_until(lambda: observer.telemetry().requests_queued == 1)
        request = inference_pb2.ModelInferRequest(model_name="small")
        tensors.add_inputs(request, {"x": pictures(1)})
        with pytest.raises(grpc.RpcError) as caught:
            make_stub(channel, METHODS["ModelInfer"])(request, timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(from_status(dict(caught.value.trailing_metadata())["grpc-status-details-bin"]), BusyError)
        server.stop(grace_s=PATIENCE_S)
        assert future.result(PATIENCE_S).shape == (1, 4)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_a_request_nobody_waits_for_leaves_the_queue_and_is_never_computed(how: str) -> None:
    request = inference_pb2.ModelInferRequest(model_name="small")
    tensors.add_inputs(request, {"x": pictures(1)})
    with (
        served(classifier(), scheduling=full_at(2, max_queue_size=2), **DIGITAL) as server,
        pcmedge.connect(server.address, timeout_s=PATIENCE_S) as device,
        grpc.insecure_channel(parse_address(server.address).target) as channel,
    ):
        _queued_and_gone(channel, device, request, how)
        # Had it stayed, it would have been in a run with the first of these, and the second would have waited alone.
        answers = at_once(server, [asking(pictures(1))] * 2)
        assert [answer.shape for answer in answers] == [(1, 4), (1, 4)]
        assert batches(device) == {2: 1}
        assert device.telemetry().models[0].inferences == 2


def _queued_and_gone(channel: grpc.Channel, device: Device, request: Any, how: str) -> None:
    """A request waits in the queue until its caller gives up."""
    timeout_s = PATIENCE_S if how == "cancelled" else 3.0
    call = make_stub(channel, METHODS["ModelInfer"]).future(request, timeout=timeout_s)  # type: ignore[attr-defined]
    wait_until(lambda: device.telemetry().requests_queued == 1 or call.done())
    if how == "cancelled":
        call.cancel()
    else:
        assert call.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: device.telemetry().requests_queued == 0)


# ------------------------------------------------------------------------------------------------------------- streams


def test_one_stream_fills_batches_and_is_answered_in_order() -> None:
    images = pictures(8)
    with (
        served(classifier(), scheduling=full_at(4), **DIGITAL) as server,
        pcmedge.connect(server.address) as device,
    ):
        results = list(device.infer_stream((images[i : i + 1] for i in range(8)), window=8))
        assert batches(device) == {4: 2}
    close_to(np.concatenate(results), alone(images))


def test_streams_and_single_requests_share_runs() -> None:
    images = pictures(6)

    def stream(first: int) -> Callable[[Device], Any]:
        def ask(device: Device) -> Any:
            parts = [images[i : i + 1] for i in (first, first + 1)]
            return np.concatenate(list(device.infer_stream(parts, window=2)))

        return ask

    asks = [stream(0), stream(2), asking(images[4:5]), asking(images[5:6])]
    with served(classifier(), scheduling=full_at(6), **DIGITAL) as server:
        answers = at_once(server, asks)
        with pcmedge.connect(server.address) as device:
            assert batches(device) == {6: 1}
    close_to(np.concatenate(answers), alone(images))


def test_a_bad_request_of_a_stream_keeps_its_place_and_fails_alone() -> None:
    images = pictures(2)
    bad = np.full((1, 1, 6, 6), np.inf, np.float32)
    with (
        served(classifier(), scheduling=full_at(2), **DIGITAL) as server,
        pcmedge.connect(server.address) as device,
    ):
        first, second, third = device.infer_stream([images[:1], bad, images[1:]], window=3, errors="yield")
        assert batches(device) == {2: 1}
    assert isinstance(second, InputValueError)
    close_to(np.concatenate([first, third]), alone(images))


def test_a_stream_waits_for_room_in_the_queue_instead_of_being_refused() -> None:
    images = pictures(12)
    with (
        served(classifier(), scheduling=Scheduling(max_batch_size=2, max_queue_size=1), **DIGITAL) as server,
        pcmedge.connect(server.address) as device,
    ):
        results = list(device.infer_stream((images[i : i + 1] for i in range(12)), window=12))
        assert device.telemetry().requests_rejected == 0
    close_to(np.concatenate(results), alone(images))


def _stream_threads() -> int:
    return sum(thread.name == "pcm-stream" for thread in threading.enumerate())


@pytest.mark.parametrize("sent", [1, 3])
def test_a_stream_that_is_given_up_takes_its_requests_out_of_the_queue(sent: int) -> None:
    """One of three requests finds room; the stream's reader waits for more."""
    with (
        served(classifier(), scheduling=full_at(8, max_queue_size=1), **DIGITAL) as server,
        pcmedge.connect(server.address) as device,
        grpc.insecure_channel(parse_address(server.address).target) as channel,
    ):
        over = threading.Event()

        def requests() -> Iterator[inference_pb2.ModelInferRequest]:
            for _ in range(sent):
                request = inference_pb2.ModelInferRequest(model_name="small")
                tensors.add_inputs(request, {"x": pictures(1)})
                yield request
            over.wait(PATIENCE_S)

        call = make_stub(channel, METHODS["ModelStreamInfer"])(requests())
        wait_until(lambda: device.telemetry().requests_queued == 1)
        call.cancel()
        over.set()
        wait_until(lambda: device.telemetry().requests_queued == 0 and _stream_threads() == 0)
        assert device.telemetry().models[0].inferences == 0
        assert device.infer(pictures(8)).shape == (8, 4)


def test_a_stream_that_waits_is_drained_when_the_service_stops() -> None:
    images = pictures(2)
    with (
        served(classifier(), scheduling=full_at(8), **DIGITAL) as server,
        clients(server, 2) as (pool, (streaming, observer)),
    ):
        parts = [images[:1], images[1:]]
        future: Future[list[Any]] = pool.submit(lambda: list(streaming.infer_stream(parts, window=2)))
        wait_until(lambda: observer.telemetry().requests_queued == 2)
        server.stop(grace_s=PATIENCE_S)
        close_to(np.concatenate(future.result(PATIENCE_S)), alone(images))


# ---------------------------------------------------------------------------------------------------- without batching


class _Gated(Chip):
    """A chip whose inferences wait until they may."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def infer(self, *arguments: Any, **options: Any) -> Any:
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        return super().infer(*arguments, **options)

    def infer_together(self, *arguments: Any, **options: Any) -> Any:
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        return super().infer_together(*arguments, **options)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_as_many_batches_are_computed_at_once_as_was_said(at_once: int) -> None:
    with _Gated(clock=Clock.manual(), **DIGITAL) as chip:
        chip.program(classifier())
        scheduling = Scheduling(max_batch_size=4, max_batches_at_once=at_once)
        with serve(chip, scheduling=scheduling) as server, clients(server, 6) as (pool, devices):
            first = []
            for device in devices[:at_once]:
                # One after another: two that arrive together would be one batch.
                first.append(pool.submit(device.infer, pictures(1)))
                assert chip.entered.acquire(timeout=PATIENCE_S)
            rest = [pool.submit(device.infer, pictures(1)) for device in devices[at_once:]]
            wait_until(lambda: server_queue(server) == len(rest))
            assert not chip.entered.acquire(blocking=False)
            chip.open.set()
            for future in (*first, *rest):
                close_to(future.result(PATIENCE_S), alone(pictures(1)))


def server_queue(server: Server) -> int:
    with pcmedge.connect(server.address) as observer:
        return observer.telemetry().requests_queued


def test_without_batching_requests_wait_in_a_bounded_queue_too() -> None:
    with _Gated(clock=Clock.manual(), **DIGITAL) as chip:
        chip.program(classifier())
        with (
            serve(chip, threads=1, scheduling=Scheduling(max_queue_size=1)) as server,
            clients(server, 3) as (pool, (first, second, observer)),
            grpc.insecure_channel(parse_address(server.address).target) as channel,
        ):
            request = inference_pb2.ModelInferRequest(model_name="small")
            tensors.add_inputs(request, {"x": pictures(1)})
            computing = pool.submit(first.infer, pictures(1))
            assert chip.entered.acquire(timeout=PATIENCE_S)
            _queued_and_gone(channel, observer, request, "cancelled")
            waiting = pool.submit(second.infer, pictures(1))
            wait_until(lambda: observer.telemetry().requests_queued == 1)
            with pytest.raises(BusyError):
                observer.infer(pictures(1))
            assert observer.identity().serial == "emulator-0"
            chip.open.set()
            for future in (computing, waiting):
                close_to(future.result(PATIENCE_S), alone(pictures(1)))
            assert batches(observer) == {1: 2}


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"max_batch_size": 0}, InputValueError),
        ({"max_batch_size": 1.5}, InputTypeError),
        ({"max_batch_size": 1 << 20}, InputValueError),
        ({"max_queue_size": 0}, InputValueError),
        ({"max_queue_size": True}, InputTypeError),
        ({"max_batches_at_once": 0}, InputValueError),
        ({"max_batches_at_once": 1.0}, InputTypeError),
        ({"max_batch_size": 2, "max_queue_delay_s": -1.0}, InputValueError),
        ({"max_batch_size": 2, "max_queue_delay_s": float("nan")}, InputValueError),
        ({"max_batch_size": 2, "max_queue_delay_s": "2ms"}, InputTypeError),
        ({"max_queue_delay_s": 0.1}, InputValueError),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], kind: type[Error]) -> None:
    with pytest.raises(kind) as caught:
        Scheduling(**settings)
    assert list(settings)[-1] in str(caught.value)
