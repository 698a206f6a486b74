"""The server: addresses, health, errors nobody foresaw, limits, stopping."""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pcmedge
import pytest
from cli_process import PATIENCE_S, wait_for
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pcmedge._contract import device_pb2
from pcmedge.device._calls import Call
from pcmedge.errors import (
    AddressInUseError,
    BusyError,
    InputValueError,
    InternalError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import DEVICE_SERVICE, INFERENCE_SERVICE, LAB_SERVICE, METHODS
from pcmedge.protocol.status import from_status
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.server import serve
from service_devices import served
from service_models import classifier, large, pictures


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip() as made:
        yield made


# ----------------------------------------------------------------------------------------------------------- addresses


def test_a_second_server_on_the_same_port_is_refused(chip: Chip) -> None:
    with serve(chip) as server:
        with pytest.raises(AddressInUseError, match=r"already listens on grpc://127\.0\.0\.1:\d+"):
            serve(chip, server.address)
        with pytest.raises(AddressInUseError):
            serve(chip, server.address.replace("127.0.0.1", "0.0.0.0"), insecure=True)
        with pcmedge.connect(server.address) as device:
            assert device.identity().serial == "emulator-0"


def test_a_port_held_by_something_else_is_refused(chip: Chip) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(AddressInUseError):
        serve(chip, f"127.0.0.1:{other.getsockname()[1]}")


def test_a_port_is_free_again_after_stopping(chip: Chip) -> None:
    with serve(chip) as server:
        address = server.address
        with pcmedge.connect(address) as device:
            device.identity()
    with serve(chip, address) as again:
        assert again.address == address


def test_a_second_server_on_the_same_socket_is_refused_and_the_first_goes_on(chip: Chip, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/pcm.sock"
    with serve(chip, address) as server:
        assert stat.S_IMODE((tmp_path / "pcm.sock").stat().st_mode) == 0o600
        with pytest.raises(AddressInUseError, match=r"pcm\.sock"):
            serve(chip, address)
        with pcmedge.connect(server.address) as device:
            assert device.identity().serial == "emulator-0"
    assert not (tmp_path / "pcm.sock").exists()


def test_a_socket_left_by_a_dead_process_is_taken_over(chip: Chip, tmp_path: Path) -> None:
    path = tmp_path / "pcm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with serve(chip, f"unix://{path}") as server, pcmedge.connect(server.address) as device:
        assert device.identity().serial == "emulator-0"


def test_a_file_that_is_no_socket_is_left_alone(chip: Chip, tmp_path: Path) -> None:
    path = tmp_path / "precious.txt"
    path.write_text("data")
    with pytest.raises(InputValueError, match="no socket"):
        serve(chip, f"unix://{path}")
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    "listen", ["192.0.2.1:0", "no.such.host.invalid:0", "unix:///no/such/folder/pcm.sock", "grpc://nowhere", "host:x"]
)
def test_addresses_this_machine_cannot_listen_on(chip: Chip, listen: str) -> None:
    with pytest.raises(InputValueError):
        serve(chip, listen)


# ------------------------------------------------------------------------------------------------- health, lab, errors


def _health(address: str, service: str) -> Any:
    with grpc.insecure_channel(parse_address(address).target) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status


def test_health_names_each_service_and_turns_when_stopping() -> None:
    with served(lab=False) as server:
        for service in ("", DEVICE_SERVICE, INFERENCE_SERVICE):
            assert _health(server.address, service) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            _health(server.address, LAB_SERVICE)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    with served(lab=True) as server:
        assert _health(server.address, LAB_SERVICE) == health_pb2.HealthCheckResponse.SERVING
        with grpc.insecure_channel(parse_address(server.address).target) as channel:
            request = health_pb2.HealthCheckRequest()
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=PATIENCE_S)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            threading.Thread(target=server.stop).start()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()


def test_without_lab_its_calls_are_unimplemented_and_its_capabilities_absent() -> None:
    with served(lab=False) as server, pcmedge.connect(server.address) as device:
        with pytest.raises(UnimplementedError, match="--lab") as caught:
            device.lab.clock()
        assert caught.value.metadata["capability"] == "lab"
        assert not [name for name in device.identity().capabilities if name.startswith("lab")]


def test_a_call_of_another_contract_is_unimplemented_with_error_info() -> None:
    with served() as server, grpc.insecure_channel(parse_address(server.address).target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/pcm.device.v9.DeviceService/Fly")(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        assert isinstance(from_status(details), UnimplementedError)


class _BrokenChip(Chip):
    """A chip with a bug nobody foresaw."""

    def models(self) -> Any:
        raise ZeroDivisionError("secret detail")

    def recalibrate(self, *arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("secret detail")


@pytest.mark.parametrize("act", [lambda device: device.models(), lambda device: device.recalibrate(model="small")])
def test_what_nobody_foresaw_is_internal_logged_and_not_told(act: Any, caplog: pytest.LogCaptureFixture) -> None:
    with _BrokenChip() as chip, serve(chip) as server, pcmedge.connect(server.address) as device:
        with caplog.at_level(logging.ERROR), pytest.raises(InternalError) as caught:
            act(device)
        assert "secret" not in str(caught.value)
        listed = device._attempt(
            Call(method=METHODS["ListOperations"], request=device_pb2.ListOperationsRequest(), timeout_s=10)
        )
        assert "secret" not in str(listed)
        incident = caught.value.metadata["incident"]
    record = next(record for record in caplog.records if incident in record.getMessage())
    assert record.exc_info is not None
    assert "secret detail" in str(record.exc_info[1])


# ----------------------------------------------------------------------------------------------------- limits, stopping


def test_open_streams_never_take_the_threads_of_short_calls(chip: Chip) -> None:
    with serve(chip, threads=10) as server, pcmedge.connect(server.address) as device:
        watches = [device.watch_telemetry(interval_s=60) for _ in range(3)]
        first, second, third = watches
        assert next(first).sequence == next(second).sequence == 1
        with pytest.raises(BusyError, match="streams"):
            next(third)
        assert device.identity().serial == "emulator-0"
        first.close()
        wait_for(lambda: _can_be_watched(device))
        second.close()


def _can_be_watched(device: pcmedge.Device) -> bool:
    with contextlib.closing(device.watch_telemetry()) as watched:
        try:
            return next(watched).sequence == 1
        except BusyError:
            return False


def test_a_message_over_the_limit_is_refused_with_advice(chip: Chip) -> None:
    chip.program(classifier())
    with serve(chip, max_message_bytes=1 << 20) as server, pcmedge.connect(server.address) as device:
        with pytest.raises(InputValueError, match="split the batch"):
            device.infer(np.zeros((10_000, 1, 6, 6), np.float32))
        assert device.infer(pictures(1)).shape == (1, 4)


def test_large_batches_pass_where_grpc_alone_would_refuse(chip: Chip) -> None:
    chip.program(classifier())
    with serve(chip) as server, pcmedge.connect(server.address) as device:
        assert device.infer(np.zeros((40_000, 1, 6, 6), np.float32)).shape == (40_000, 4)  # 5.8 MB


def test_stopping_lets_calls_finish_and_ends_watching_streams(chip: Chip) -> None:
    with serve(chip) as server, pcmedge.connect(server.address) as device:
        watched = device.watch_events()
        next(watched)
        telemetry = device.watch_telemetry(interval_s=60)
        next(telemetry)
        done: list[Any] = []
        programming = threading.Thread(target=lambda: done.append(device.program(large())))
        programming.start()
        wait_for(device.operations)
        server.stop(grace_s=PATIENCE_S)
        programming.join(PATIENCE_S)
        assert done[0].model.name == "large"
        for stream in (watched, telemetry):
            with pytest.raises(UnavailableError, match="shutting down"):
                for _ in stream:
                    pass
        with pytest.raises(UnavailableError):
            device.models()
    assert server.wait(0)
