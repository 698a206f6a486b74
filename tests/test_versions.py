"""Clients and devices of other ages: what both know works, and what one lacks is said with both versions.

The other side is made from today's descriptors (tests/other_contracts.py) and reached over a real port.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import other_contracts
import pcmedge
import pytest
from cli_process import run
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from image_parts import seal, tiny_image
from other_contracts import TOMORROW, UNKNOWN, Contract
from pcmedge.device import Mutation, Policy
from pcmedge.errors import (
    BusyError,
    ContractVersionError,
    DeadlineError,
    DeviceStateError,
    Error,
    ImageFeatureError,
    InputError,
    InternalError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.protocol.capabilities import CAPABILITY_OF_CALL
from pcmedge.protocol.services import DEVICE_SERVICE, INFERENCE_SERVICE, METHODS
from pcmedge.protocol.status import DETAILS_KEY
from pcmedge.protocol.version import CONTRACT_MINOR, OURS
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.service.handlers import Handlers
from service_devices import served
from service_models import classifier, pictures

OLDER, NEWER = Contract(other_contracts.older()), Contract(other_contracts.newer())
GOLDEN = Path(__file__).parent / "golden"


@contextmanager
def device_of(contract: Contract, **changes: Any) -> Iterator[str]:
    """A device with a model that speaks ``contract``; its address."""
    with Chip(clock=Clock.manual(), read_noise="off") as chip:
        chip.program(classifier())
        with other_contracts.served(Handlers(chip), contract, **changes) as address:
            yield address


@pytest.fixture(scope="module")
def older() -> Iterator[str]:
    with device_of(OLDER, edit=other_contracts.without_new_capabilities) as address:
        yield address


def _of_tomorrow(name: str, reply: Any) -> None:
    other_contracts.fill(reply)
    match name:
        case "GetIdentity":
            reply.contract_minor = CONTRACT_MINOR + 6
            reply.capabilities.append("levitate")
        case "GetTelemetry":
            reply.health, reply.state = UNKNOWN, "levitating"
        case "GetRecalibrationPolicy":
            reply.kind = reply.method = UNKNOWN
        case "ListEvents":
            reply.events[0].kind = "levitated"
        case "Recalibrate" if reply.HasField("recalibration"):
            reply.recalibration.method = UNKNOWN
        case "Recalibrate":
            reply.state = UNKNOWN


@pytest.fixture(scope="module")
def newer() -> Iterator[str]:
    with device_of(NEWER, edit=_of_tomorrow) as address:
        yield address


# ------------------------------------------------------------------------------------------ this client, older device

ABSENT: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "diagnose": ("diagnose", lambda device: device.diagnose()),
    "lab.clock": ("lab.clock", lambda device: device.lab.clock()),
    "lab.advance": ("lab.clock", lambda device: device.lab.advance("1d")),
    "lab.faults": ("lab.faults", lambda device: device.lab.faults()),
    "program(use_retired)": ("diagnose", lambda device: device.program(classifier(), use_retired=True)),
    "recalibrate(reads)": ("recalibrate.reads", lambda device: device.recalibrate("gdc", reads=4)),
    "set_policy(self_test_ratio)": (
        "policy.self-test-trigger",
        lambda device: device.set_policy(Policy(kind="manual", self_test_ratio=2.0)),
    ),
    "replace_calibration_buffer(image)": (
        "buffer.statistics",
        lambda device: device.replace_calibration_buffer(pictures(8), image=classifier()),
    ),
}


def _explains(error: UnimplementedError, capability: str) -> None:
    assert type(error) is UnimplementedError
    assert error.metadata["capability"] == capability
    assert (error.metadata["contract"], error.metadata["client_contract"]) == ("1.0", OURS)
    assert f"capability '{capability}'" in error.message
    assert f"speaks contract 1.0, this client {OURS}. Update the device" in error.message


@pytest.mark.parametrize("verb", ABSENT)
def test_what_an_older_device_lacks_is_named_with_both_versions(verb: str, older: str) -> None:
    capability, ask = ABSENT[verb]
    with pcmedge.connect(older) as device:
        before = device.events()[-1].sequence
        with pytest.raises(UnimplementedError) as caught:
            ask(device)
        assert device.events()[-1].sequence == before
    _explains(caught.value, capability)


@pytest.mark.parametrize("verb", ABSENT)
def test_the_awaiting_client_says_the_same(verb: str, older: str) -> None:
    capability, ask = ABSENT[verb]

    async def talk() -> None:
        # Nobody was asked yet who is there: the explanation asks.
        async with await pcmedge.connect_async(older, lazy=True) as device:
            await ask(device)

    with pytest.raises(UnimplementedError) as caught:
        asyncio.run(talk())
    _explains(caught.value, capability)


def test_streams_an_older_device_lacks_are_named_too(older: str) -> None:
    with pcmedge.connect(older) as device, pytest.raises(UnimplementedError) as caught:
        next(device.watch_events())
    _explains(caught.value, "events.watch")

    async def talk() -> None:
        async with await pcmedge.connect_async(older) as device:
            await anext(device.watch_events())

    with pytest.raises(UnimplementedError) as caught:
        asyncio.run(talk())
    _explains(caught.value, "events.watch")


def test_everything_else_works_on_an_older_device(older: str) -> None:
    with pcmedge.connect(older) as device:
        assert (device.identity().contract_version, device.identity().contract_minor) == (1, 0)
        scores = device.infer(pictures(3))
        np.testing.assert_array_equal(np.concatenate(list(device.infer_stream([pictures(3)]))), scores)
        assert device.classify(np.zeros((6, 6), np.uint8))[0][0] in ("zero", "one", "two", "three")
        reading = next(device.watch_telemetry(tiles=True, self_tests=True))
        assert (reading.health, reading.models[0].name, reading.models[0].self_tests) == ("unspecified", "small", ())
        assert device.self_test().passed
        assert device.recalibrate("gdc", force=True).committed
        assert device.set_policy("manual").kind == device.policy().kind == "manual"
        assert device.replace_calibration_buffer(pictures(8)).samples == 8
        assert device.read_tile(device.telemetry(tiles=True).models[0].tiles[0].tile).g_plus_microsiemens.size
        lease = device.acquire_lease("tests")
        programmed = device.program(classifier("other"), mutation=Mutation(lease_id=lease.lease_id))
        device.release_lease(lease)
        assert programmed.model.program_generation == device.models()[-1].program_generation
        assert device.erase("other") > 0
        assert device.events()[-1].kind == "erased"


def test_the_command_line_on_an_older_device(older: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batch = tmp_path / "batch.npy"
    np.save(batch, pictures(2))
    for verb in (["telemetry"], ["telemetry", "--tiles"], ["images"], ["events"], ["policy"], ["infer", "-i", batch]):
        assert run(capsys, *verb, "--device", older).code == 0, verb
    assert run(capsys, "devices", older).code == 0
    for verb in (["diagnose"], ["health"], ["self-test", "--history"], ["lab", "clock"]):
        result = run(capsys, *verb, "--device", older, "--json")
        assert (result.code, result.error["reason"]) == (9, "UNIMPLEMENTED"), verb
        assert f"speaks contract 1.0, this client {OURS}" in result.error["message"]
    result = run(capsys, "version", "--device", older, "--json")
    assert (result.code, result.document["contract"], result.document["device"]["contract"]) == (0, OURS, "1.0")
    assert "Update the device's software" in result.document["warning"]
    checks = run(capsys, "doctor", "--device", older, "--json").out
    assert f"device speaks version 1.0, this SDK {OURS}" in checks


# ------------------------------------------------------------------------------------------ this client, newer device


def test_what_a_newer_device_adds_is_shown_or_passed_over(newer: str) -> None:
    unknown = f"unknown-{UNKNOWN}"
    with pcmedge.connect(newer) as device:
        assert "levitate" in device.identity().capabilities
        assert device.identity().contract_minor == CONTRACT_MINOR + 6
        assert (device.telemetry().health, device.telemetry().state) == (unknown, "levitating")
        assert (device.policy().kind, device.policy().method) == (unknown, unknown)
        assert device.events()[0].kind == "levitated"
        states: list[str] = []
        result = device.recalibrate("gdc", force=True, progress=lambda update: states.append(update.state))
        assert (result.committed, result.method) == (True, unknown)
        assert unknown in states
        assert device.infer(pictures(2)).shape == (2, 4)
        assert [answer.shape for answer in device.infer_stream([pictures(1), pictures(2)])] == [(1, 4), (2, 4)]
        assert device.program(classifier()).model.name == "small"
        assert device.diagnose().tiles
        assert device.self_test().passed


def test_the_command_line_on_a_newer_device(newer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batch = tmp_path / "batch.npy"
    np.save(batch, pictures(2))
    verbs = (
        ["telemetry", "--tiles"], ["images"], ["events"], ["policy"], ["infer", "-i", batch], ["diagnose"],
        ["self-test"], ["self-test", "--history"],
    )  # fmt: skip
    for verb in verbs:
        for json in ([], ["--json"]):
            assert run(capsys, *verb, "--device", newer, *json).code == 0, verb
    assert f"unknown-{UNKNOWN}" in run(capsys, "policy", "--device", newer).out
    assert "levitated" in run(capsys, "events", "--device", newer).out
    warning = run(capsys, "version", "--device", newer).out
    assert f"this client {OURS}. Update pcmedge" in warning
    assert run(capsys, "health", "--device", newer, "--json").error["reason"] == "UNIMPLEMENTED"


KINDS = {
    "INVALID_ARGUMENT": InputError,
    "NOT_FOUND": NotFoundError,
    "FAILED_PRECONDITION": DeviceStateError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "RESOURCE_EXHAUSTED": BusyError,
    "UNIMPLEMENTED": UnimplementedError,
    "INTERNAL": InternalError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "ABORTED": Error,
}


@pytest.mark.parametrize("status", KINDS)
def test_an_unknown_reason_is_kept_in_the_class_of_its_status(status: str) -> None:
    with (
        device_of(NEWER, blame=lambda error: _too_hot(status)) as address,
        pcmedge.connect(address) as device,
        pytest.raises(Error) as caught,
    ):
        device.set_policy("drift", model="nobody")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert type(error) is KINDS[status]
        assert (error.reason, error.status, error.metadata["celsius"]) == ("TOO_HOT", status, "90")
        assert error.message.startswith("it is too hot")


def _too_hot(status: str) -> Error:
    """Of a contract that is not ours: no class of this client stands for its reason."""
    error = Error("it is too hot", celsius=90)
    error.reason, error.status = "TOO_HOT", status
    return error


def test_an_unknown_reason_in_a_stream_and_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    def edit(name: str, reply: Any) -> None:
        if name == "ModelStreamInfer":
            reply.error_message = "it is too hot"
            reply.infer_response.parameters["pcm_error_reason"].string_param = "TOO_HOT"
            reply.infer_response.parameters["pcm_error_status"].string_param = "FAILED_PRECONDITION"

    with device_of(NEWER, edit=edit, blame=lambda error: _too_hot("FAILED_PRECONDITION")) as address:
        with pcmedge.connect(address) as device:
            (error,) = device.infer_stream([pictures(1)], errors="yield")
        assert (type(error), error.reason) == (DeviceStateError, "TOO_HOT")
        result = run(capsys, "recalibrate", "--model", "nobody", "--device", address, "--json")
    assert (result.code, result.error["reason"]) == (DeviceStateError.exit_code, "TOO_HOT")


# ------------------------------------------------------------------------------------------------ this device, others


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    with served(classifier(), lab=True, read_noise="off") as server:
        yield server.address.removeprefix("grpc://")


def _info(error: Any) -> ErrorInfo:
    """What the device says of an error, read as any gRPC client would."""
    (data,) = [value for key, value in error.trailing_metadata() if key == DETAILS_KEY]
    info = ErrorInfo()
    (detail,) = Status.FromString(data).details
    assert detail.Unpack(info)
    return info


def _path(name: str, service: str = DEVICE_SERVICE) -> str:
    return f"/{service}/{name}"


def _program_requests(contract: Contract, image: bytes, **header: Any) -> list[Any]:
    import hashlib

    kind: Any = contract.request(_path("Program"))
    end = {"image_sha256": hashlib.sha256(image).digest()}
    return [kind(header={"image_size": len(image), **header}), kind(chunk=image), kind(end=end)]


@pytest.mark.parametrize("contract", [OLDER, NEWER], ids=["older", "newer"])
def test_other_clients_are_served(contract: Contract, ours: str) -> None:
    def ask(call: str, service: str = DEVICE_SERVICE, /, **values: Any) -> Any:
        request = contract.request(_path(call, service))(**values)
        if contract is NEWER:
            other_contracts.fill(request)
        return contract.stub(channel, _path(call, service))(request, timeout=20)

    with grpc.insecure_channel(ours) as channel:
        assert ask("GetIdentity").contract_version == 1
        assert [image.model_name for image in ask("ListImages").images] == ["small"]
        assert ask("GetTelemetry", include_tiles=True).models[0].tiles
        assert ask("ListEvents").events[0].kind == "started"
        assert ask("ModelReady", INFERENCE_SERVICE, name="small").ready
        x = pictures(2)
        tensor = {"name": "x", "datatype": "FP32", "shape": x.shape}
        values = {"model_name": "small", "inputs": [tensor], "raw_input_contents": [x.tobytes()]}
        reply = ask("ModelInfer", INFERENCE_SERVICE, **values)
        assert len(reply.raw_output_contents[0]) == 2 * 4 * 4
        stream = contract.stub(channel, _path("ModelStreamInfer", INFERENCE_SERVICE))
        request = contract.request(_path("ModelInfer", INFERENCE_SERVICE))(**values)
        (streamed,) = stream(iter([request]))
        assert streamed.infer_response.raw_output_contents == reply.raw_output_contents
        updates = list(ask("Recalibrate", model_name="small", method=2, force=True))
        assert updates[-1].recalibration.committed
        requests = _program_requests(contract, classifier().to_bytes())
        if contract is NEWER:
            for each in requests:
                if each.WhichOneof("part") != "chunk":
                    other_contracts.fill(each)
        last = list(contract.stub(channel, _path("Program"))(iter(requests)))[-1]
        assert last.program.image.model_name == "small"


def test_a_newer_client_learns_what_this_device_does_not_know(ours: str) -> None:
    def refused(name: str, request: Any, service: str = DEVICE_SERVICE) -> tuple[str, ErrorInfo, str]:
        def ask() -> object:
            answer = NEWER.stub(channel, _path(name, service))(request, timeout=20)
            return list(answer) if hasattr(answer, "__next__") else answer

        with pytest.raises(grpc.RpcError) as caught:
            ask()
        error: Any = caught.value
        return error.code().name, _info(error), error.details()

    with grpc.insecure_channel(ours) as channel:
        request = NEWER.request(_path("Levitate"))()
        code, info, details = refused("Levitate", request)
        assert (code, info.reason, info.metadata["contract"]) == ("UNIMPLEMENTED", "UNIMPLEMENTED", OURS)
        assert f"speaks contract {OURS}" in details
        assert "GetIdentity" in details
        for name, kind, extra in (
            ("Recalibrate", "Recalibrate", {"method": UNKNOWN}),
            ("SetRecalibrationPolicy", "SetRecalibrationPolicy", {"policy": {"kind": UNKNOWN}}),
        ):
            request = NEWER.request(_path(kind))(model_name="small", **extra)
            code, info, details = refused(name, request)
            assert (code, info.reason) == ("INVALID_ARGUMENT", "INPUT_VALUE")
            assert str(UNKNOWN) in details
        first, *rest = _program_requests(NEWER, classifier().to_bytes())
        between = NEWER.request(_path("Program"))(part_of_tomorrow="?")
        for requests in ([between, first, *rest], [first, between, *rest]):
            code, info, _ = refused("Program", iter(requests))
            assert (code, info.domain) == ("INVALID_ARGUMENT", "pcm")


# ------------------------------------------------------------------------------------------- other versions altogether


@pytest.mark.parametrize(("version", "update"), [(2, "Update pcmedge"), (7, "Update pcmedge")])
def test_another_version_of_the_contract_is_refused_when_connecting(
    version: int, update: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(name: str, reply: Any) -> None:
        if name == "GetIdentity":
            reply.contract_version = version

    async def connect_async(address: str) -> None:
        await pcmedge.connect_async(address)

    with device_of(NEWER, edit=edit) as address:
        for connect in (pcmedge.connect, lambda address: asyncio.run(connect_async(address))):
            with pytest.raises(ContractVersionError, match=f"speaks contract version {version}") as caught:
                connect(address)
            assert update in caught.value.message
            assert caught.value.metadata["client_contract"] == OURS
        result = run(capsys, "version", "--device", address, "--json")
    assert (result.code, result.error["reason"]) == (9, "CONTRACT_VERSION")


FIRST: dict[str, Callable[[Any], Any]] = {
    "identity": lambda device: device.identity(),
    "infer": lambda device: device.infer(pictures(1)),
    "infer_stream": lambda device: device.infer_stream([pictures(1)]),
    "watch_events": lambda device: device.watch_events(),
    "lab": lambda device: device.lab.clock(),
}
"""First calls of a connection; those of the Open Inference Protocol another version of the contract has as well."""


@pytest.mark.parametrize("verb", FIRST)
def test_the_first_call_of_a_lazy_connection_says_it_as_connecting_would(verb: str) -> None:
    said = []

    def edit(name: str, reply: Any) -> None:
        said.append(name)
        if name == "GetIdentity":
            reply.contract_version = 2

    async def awaiting(address: str) -> None:
        async with await pcmedge.connect_async(address, lazy=True) as device:
            found = FIRST[verb](device)
            await (anext(found) if hasattr(found, "__anext__") else found)

    with device_of(NEWER, edit=edit) as address:
        with pytest.raises(ContractVersionError) as eager:
            pcmedge.connect(address)
        with pcmedge.connect(address, lazy=True) as device:
            for _ in range(2):
                with pytest.raises(ContractVersionError) as lazy:
                    next(FIRST[verb](device))
                assert lazy.value.message == eager.value.message
        with pytest.raises(ContractVersionError) as lazy:
            asyncio.run(awaiting(address))
    assert lazy.value.message == eager.value.message
    assert set(said) == {"GetIdentity"}


def test_a_lazy_connection_asks_once_who_is_there_and_a_wrong_argument_not_at_all() -> None:
    said: list[str] = []
    contract = device_of(NEWER, edit=lambda name, reply: said.append(name))
    with contract as address, pcmedge.connect(address, lazy=True) as device:
        with pytest.raises(InputError):
            device.lab.inject_faults(["all of them"])
        assert said == []
        device.infer(pictures(1))
        device.infer(pictures(1))
    assert said.count("GetIdentity") == 1


def test_a_pair_says_that_its_primary_speaks_another_version() -> None:
    def edit(name: str, reply: Any) -> None:
        if name == "GetIdentity":
            reply.contract_version = 2

    with (
        device_of(NEWER, edit=edit) as address,
        pcmedge.FallbackDevice(address, pcmedge.Emulator(classifier(), physics="ideal")) as pair,
    ):
        assert pair.infer_detailed(pictures(1)).answered_by == "fallback"
        assert "speaks contract version 2" in pair.status().primary_problem
        assert pair.turnovers()[0].reason == "CONTRACT_VERSION"


def test_a_server_that_is_no_device_is_told_from_one_that_is_older() -> None:
    files = other_contracts.today()
    for file in files.file:
        if file.package.startswith("pcm."):
            del file.service[:]
    with device_of(Contract(files)) as address, pytest.raises(ContractVersionError, match="pcmedge emulator") as caught:
        pcmedge.connect(address)
    assert "no PCM device of contract version 1" in caught.value.message


# ---------------------------------------------------------------------------------------------------------- chip images


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda manifest: manifest.required_features.append("levitation-1"), "levitation-1"),
        (lambda manifest: setattr(manifest, "format_version", 9), "format version 9"),
    ],
)
def test_an_image_of_tomorrow_is_refused_by_the_device(change: Any, expected: str, ours: str) -> None:
    image = seal(tiny_image(), change=change)
    with pcmedge.connect(ours) as device:
        before = device.models()
        with pytest.raises(ImageFeatureError, match="update the software that refuses it") as caught:
            device.program(image)
        assert expected in caught.value.message
        assert [model.name for model in device.models()] == [model.name for model in before]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*-v1.pcmi")), ids=lambda path: path.stem)
def test_images_of_earlier_releases_answer(path: Path) -> None:
    with pcmedge.Emulator(path, seed=1, clock="manual") as device:
        spec = device.model_spec()
        inputs = {tensor.name: np.zeros((2, *tensor.shape[1:]), np.float32) for tensor in spec.inputs}
        result = device.infer_detailed(inputs)
    assert {name: len(values) for name, values in result.outputs.items()} == {spec.outputs[0].name: 2}


def test_fields_of_tomorrow_reach_nobody_by_accident() -> None:
    """The two contracts differ as the cases above assume."""
    today = Contract(other_contracts.today())
    assert set(OLDER.calls) < set(today.calls) < set(NEWER.calls)
    identity = NEWER.message("pcm.device.v1.Identity")
    assert TOMORROW in identity.DESCRIPTOR.fields_by_name
    assert "contract_minor" not in OLDER.message("pcm.device.v1.Identity").DESCRIPTOR.fields_by_name


def test_every_call_belongs_to_a_capability() -> None:
    assert set(METHODS) - set(CAPABILITY_OF_CALL) == {"GetIdentity"}
    assert set(CAPABILITY_OF_CALL) <= set(METHODS)
