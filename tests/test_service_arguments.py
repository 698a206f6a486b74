"""What a client is given that no message can carry, and what it remembers of a device that others change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pcmedge
import pytest
from pcmedge._contract import device_pb2
from pcmedge.device import Device, Lease, Mutation, Policy, ProgramAndVerify
from pcmedge.device._calls import Call
from pcmedge.errors import Error, InputError, InputTypeError, InputValueError
from pcmedge.protocol.services import METHODS
from service_devices import device_by, served
from service_models import LABELS, classifier, pictures, two_by_two

NAN, INFINITY = float("nan"), float("inf")
LONE_SURROGATE = chr(0xD800)

ARGUMENTS: dict[str, tuple[type[Error], Callable[[Any], Any]]] = {
    "no image": (InputTypeError, lambda d: d.program(None)),
    "an array as image": (InputTypeError, lambda d: d.program(np.zeros(3))),
    "no input": (InputTypeError, lambda d: d.infer(None)),
    "an array of objects": (InputTypeError, lambda d: d.infer(np.array([[None, 3]]))),
    "text that has no encoding": (InputValueError, lambda d: d.infer(np.array([LONE_SURROGATE]))),
    "a number as model": (InputTypeError, lambda d: d.infer(pictures(1), model=3)),
    "a number as model to recalibrate": (InputTypeError, lambda d: d.recalibrate(model=3)),
    "fewer than no batches": (InputValueError, lambda d: d.recalibrate(batches=-1)),
    "too many batches": (InputValueError, lambda d: d.recalibrate(batches=10**12)),
    "half a batch": (InputTypeError, lambda d: d.recalibrate(batch_size=0.5)),
    "a tile below zero": (InputValueError, lambda d: d.read_tile(-1)),
    "a tile by name": (InputTypeError, lambda d: d.read_tile("first")),
    "events before the first": (InputValueError, lambda d: d.events(after=-1)),
    "too many events": (InputValueError, lambda d: d.events(limit=10**12)),
    "a name that has no encoding": (InputValueError, lambda d: d.lab.snapshot(LONE_SURROGATE)),
    "no duration": (InputError, lambda d: d.lab.advance(None)),
    "a policy of words": (InputTypeError, lambda d: d.set_policy(Policy(kind="interval", interval_s="soon"))),  # type: ignore[arg-type]
    "a lease of words": (InputTypeError, lambda d: d.acquire_lease("me", duration_s="long")),
    "a generation below zero": (
        InputValueError,
        lambda d: d.recalibrate(mutation=Mutation(expected_program_generation=-1)),
    ),
    "a request id of bytes": (
        InputTypeError,
        lambda d: d.recalibrate(mutation=Mutation(request_id=5)),  # type: ignore[arg-type]
    ),
    "a mutation of text": (InputTypeError, lambda d: d.recalibrate(mutation="again")),
    "iterations below zero": (
        InputValueError,
        lambda d: d.program(classifier(), program_and_verify=ProgramAndVerify(max_iterations=-1)),
    ),
    "iterations without end": (
        InputValueError,
        lambda d: d.program(
            classifier(), program_and_verify=ProgramAndVerify(margin_microsiemens=1e-6, max_iterations=10**9)
        ),
    ),
    "a number as lease": (
        InputTypeError,
        lambda d: d.renew_lease(Lease(lease_id=7, holder="me", remaining_s=1)),  # type: ignore[arg-type]
    ),
    "telemetry at no interval": (InputValueError, lambda d: d.watch_telemetry(interval_s=NAN)),
    "telemetry before the last": (InputValueError, lambda d: d.watch_telemetry(interval_s=-1.0)),
    "telemetry once for ever": (InputValueError, lambda d: d.watch_telemetry(interval_s=INFINITY)),
    "telemetry in words": (InputTypeError, lambda d: d.watch_telemetry(interval_s="often")),
    "no time": (InputValueError, lambda d: d.infer(pictures(1), timeout_s=0)),
    "less than no time": (InputValueError, lambda d: d.infer(pictures(1), timeout_s=-1)),
    "undefined time": (InputValueError, lambda d: d.recalibrate(timeout_s=NAN)),
    "all the time": (InputValueError, lambda d: d.program(classifier(), timeout_s=INFINITY)),
    "time in words": (InputTypeError, lambda d: d.infer(pictures(1), timeout_s="3")),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_no_message_can_carry_is_the_same_typed_error_near_and_far(name: str) -> None:
    kind, act = ARGUMENTS[name]
    messages = set()
    for way in ("grpc", "in process"):
        with device_by(way, classifier()) as device:
            with pytest.raises(kind) as caught:
                act(device)
            messages.add(str(caught.value))
            assert device.infer(pictures(1)).shape == (1, 4), "the device goes on"
    assert len(messages) == 1


@pytest.mark.parametrize("interval_s", [NAN, -1.0, INFINITY])
@pytest.mark.parametrize("way", ["grpc", "in process"])
def test_a_device_refuses_an_interval_that_another_client_sends(way: str, interval_s: float) -> None:
    request = device_pb2.WatchTelemetryRequest(interval_s=interval_s)
    with device_by(way) as device:
        messages = device._transport.stream(Call(method=METHODS["WatchTelemetry"], request=request, timeout_s=10.0))
        with pytest.raises(InputValueError, match="interval_s"):
            next(messages)


def test_the_awaiting_client_refuses_the_same_arguments() -> None:
    async def ask(address: str) -> None:
        async with await pcmedge.connect_async(address) as device:
            for kind, act in ARGUMENTS.values():
                with pytest.raises(kind):
                    await act(device)

    with served(classifier()) as server:
        asyncio.run(ask(server.address))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"timeout_s": 0}, InputValueError),
        ({"timeout_s": "1"}, InputTypeError),
        ({"operation_timeout_s": NAN}, InputValueError),
        ({"wait_s": -1}, InputValueError),
        ({"wait_s": NAN}, InputValueError),
        ({"token": "secret\n"}, InputValueError),
        ({"token": "schl\u00fcssel"}, InputValueError),
    ],
)
def test_connecting_refuses_options_no_connection_has(options: dict[str, Any], kind: type[Error]) -> None:
    with served(classifier()) as server:
        with pytest.raises(kind) as caught:
            pcmedge.connect(server.address, **options)
        assert next(iter(options)) in str(caught.value)
        assert "secret" not in str(caught.value)


def test_an_address_is_text() -> None:
    with pytest.raises(InputTypeError, match="7390"):
        pcmedge.connect(7390)  # type: ignore[arg-type]


def _other_image(device: Device) -> None:
    device.erase("small")
    device.program(two_by_two())


@pytest.mark.parametrize(
    "ask",
    [
        lambda d: d.self_test().passed,
        lambda d: d.recalibrate("gdc").samples,
        lambda d: d.policy().kind,
        lambda d: d.calibration_buffer().samples,
        lambda d: d.manifest().model.name,
        lambda d: d.model_spec().name,
        lambda d: d.infer({"a": np.ones((1, 8), np.float32), "b": np.ones((1, 5), np.float32)}),
    ],
)
def test_the_only_model_is_the_one_the_device_has_now(ask: Callable[[Device], Any]) -> None:
    with (
        served(classifier()) as server,
        pcmedge.connect(server.address) as mine,
        pcmedge.connect(server.address) as other,
    ):
        mine.self_test()
        mine.infer(pictures(1))
        _other_image(other)
        assert ask(mine) is not None


def test_a_picture_gets_the_labels_of_the_image_that_judged_it() -> None:
    picture = np.zeros((6, 6), np.uint8)
    with (
        served(classifier()) as server,
        pcmedge.connect(server.address) as mine,
        pcmedge.connect(server.address) as other,
    ):
        assert {label for label, _ in mine.classify(picture)} == set(LABELS)
        other.program(classifier(labels=("north", "east", "south", "west")))
        assert {label for label, _ in mine.classify(picture)} == {"north", "east", "south", "west"}
        _other_image(other)
        with pytest.raises(InputError, match="says nothing about pictures"):
            mine.classify(picture)


@pytest.mark.parametrize("way", ["grpc", "in process"])
def test_a_batch_that_cannot_be_sent_takes_its_place_in_the_stream(way: str) -> None:
    batches: list[Any] = [pictures(1), None, [[1.0], [1.0, 2.0]], pictures(2), np.zeros((1, 1, 6, 6), complex)] * 4
    with device_by(way, classifier()) as device:
        answers = list(device.infer_stream(batches, window=2, errors="yield"))
        kinds = [type(answer) for answer in answers]
        assert kinds == [np.ndarray, InputTypeError, InputTypeError, np.ndarray, InputTypeError] * 4
        assert [len(answer) for answer in answers if isinstance(answer, np.ndarray)] == [1, 2] * 4
        with pytest.raises(InputTypeError):
            list(device.infer_stream(batches))


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"window": 0}, InputValueError), ({"window": 1.5}, InputTypeError), ({"errors": "ignore"}, InputValueError)],
)
def test_a_stream_refuses_options_it_does_not_have(options: dict[str, Any], kind: type[Error]) -> None:
    with device_by("in process", classifier()) as device, pytest.raises(kind):
        list(device.infer_stream([pictures(1)], **options))


def test_a_stream_awaits_with_the_same_places() -> None:
    async def ask(address: str) -> list[Any]:
        async with await pcmedge.connect_async(address) as device:
            return [a async for a in device.infer_stream([pictures(1), None, pictures(1)], errors="yield")]

    with served(classifier()) as server:
        assert [type(a) for a in asyncio.run(ask(server.address))] == [np.ndarray, InputTypeError, np.ndarray]
