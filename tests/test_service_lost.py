"""The client when the device is not there yet, slow, gone in the middle, or was never there."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pcmedge
import pytest
from cli_process import PATIENCE_S, killed_in_the_end
from pcmedge._contract import device_pb2
from pcmedge.device import Device, Policy
from pcmedge.device._calls import Backoff, Call, Session
from pcmedge.device._grpc import GrpcTransport
from pcmedge.device.transport import LocalTransport
from pcmedge.errors import (
    DeadlineError,
    InputError,
    UnavailableError,
)
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import DEVICE_SERVICE, METHODS
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.handlers import Handlers
from pcmedge_emulator.service.server import serve
from service_devices import WAYS, device_by, served, server_process
from service_models import classifier, large, pictures


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip() as made:
        yield made


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_no_device_there_says_what_to_do_and_soon(way: str, tmp_path: Path) -> None:
    address = f"grpc://127.0.0.1:{_free_port()}" if way == "tcp" else f"unix://{tmp_path}/no-such-device.sock"
    with pytest.raises(UnavailableError, match="pcmedge serve") as caught:
        pcmedge.connect(address)
    assert caught.value.metadata["address"] == address


def test_connect_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as server:
        monkeypatch.setenv("PCMEDGE_DEVICE", server.address)
        with pcmedge.connect() as device:
            assert device.address == server.address
    monkeypatch.delenv("PCMEDGE_DEVICE")
    with pytest.raises(InputError, match="PCMEDGE_DEVICE"):
        pcmedge.connect()


def test_connect_can_wait_for_a_device_that_is_starting(chip: Chip) -> None:
    port = _free_port()
    servers: list[Any] = []

    def later() -> None:
        time.sleep(2.5)
        servers.append(serve(chip, f"127.0.0.1:{port}"))

    starting = threading.Thread(target=later)
    starting.start()
    with pcmedge.connect(f"127.0.0.1:{port}", wait_s=30) as device:
        assert device.identity().serial == "emulator-0"
    starting.join()
    servers[0].stop()


class _Counting(GrpcTransport):
    """A real transport that counts what it carries, and does something before a certain attempt."""

    attempts = 0
    at = 0

    def before(self) -> None: ...

    def unary(self, call: Any) -> Any:
        self.attempts += 1
        if self.attempts == self.at:
            self.before()
        return super().unary(call)


def test_only_calls_that_change_nothing_are_repeated() -> None:
    transport = _Counting(parse_address(f"127.0.0.1:{_free_port()}"))
    with Device(transport, backoff=Backoff(attempts=3, first_s=0.01)) as device:
        with pytest.raises(UnavailableError):
            device.models()
        assert transport.attempts == 3
        with pytest.raises(UnavailableError):
            device.erase("small")
        assert transport.attempts == 4


def test_backoff_stays_within_the_deadline() -> None:
    transport = _Counting(parse_address(f"127.0.0.1:{_free_port()}"))
    with Device(transport, session=Session(timeout_s=3.0), backoff=Backoff(attempts=1000)) as device:
        with pytest.raises(UnavailableError):
            device.models()
        assert 1 < transport.attempts < 1000


def test_an_idempotent_call_survives_a_restart_of_the_server(chip: Chip) -> None:
    chip.program(classifier())
    server = serve(chip)
    address = server.address
    with contextlib.ExitStack() as stack:
        transport = _Counting(parse_address(address))
        transport.before = lambda: stack.push(serve(chip, address))  # type: ignore[method-assign]
        device = stack.enter_context(Device(transport))
        expected = device.infer(pictures(2)).shape
        server.stop(0)
        # The first attempt finds nobody.
        transport.at = transport.attempts + 2
        assert device.infer(pictures(2)).shape == expected
        assert transport.attempts >= transport.at


@pytest.mark.timeout(120)
def test_a_server_killed_in_mid_stream_is_a_typed_error_and_no_hang(tmp_path: Path) -> None:
    with server_process(classifier(), tmp_path) as (process, address), pcmedge.connect(address) as device:

        def endless() -> Iterator[Any]:
            while True:
                yield pictures(1)

        answers = device.infer_stream(endless())
        watched = device.watch_events(after=10**6)
        watching = threading.Thread(target=lambda: failures.append(_failure(watched)))
        failures: list[Any] = []
        watching.start()
        for _ in range(5):
            next(answers)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="still running") as caught:
            for _ in answers:
                pass
        watching.join(PATIENCE_S)
        assert isinstance(failures[0], UnavailableError)
        assert caught.value.metadata["address"] == address


def _failure(stream: Iterator[Any]) -> Exception | None:
    try:
        next(stream)
    except Exception as error:
        return error
    return None


def _deadline_passes(call: str, act: Callable[[float], object], begun: Callable[[], object]) -> None:
    """``act(timeout_s)`` runs out of time, and does so after the device had begun."""
    for timeout_s in (1.0, 4.0, 16.0):
        with pytest.raises(DeadlineError, match=call):
            act(timeout_s)
        if begun():
            return
    pytest.fail(f"the device did not begin with {call} within 16 s")


def test_a_deadline_is_a_typed_error_and_the_device_cancels(chip: Chip) -> None:
    from pcmedge.device import ProgramAndVerify

    # Most cells never come that close to their target: each tile takes all its iterations, on any machine.
    slow = ProgramAndVerify(margin_microsiemens=0.0005, max_iterations=1000)
    with serve(chip) as server, pcmedge.connect(server.address) as device:
        _deadline_passes(
            "timeout_s", lambda s: device.program(large(), program_and_verify=slow, timeout_s=s), device.operations
        )
        operation = list(device.watch_operation(device.operations()[-1].operation_id))[-1]
        assert operation.state == "cancelled"
        assert device.models() == ()
    with pcmedge.Emulator(clock="manual") as near:
        with pytest.raises(DeadlineError, match="timeout_s"):
            near.program(large(), program_and_verify=slow, timeout_s=1)
        assert near.models() == ()


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_stops_an_advance_of_time_between_recalibrations(way: str) -> None:
    with device_by(way, classifier(), large()) as device:
        device.set_policy("manual", model="small")
        # All that are due last much longer than any of these deadlines.
        device.set_policy(Policy(kind="interval", interval_s=1.0, reads=16), model="large")

        def begun() -> bool:
            device.lab.advance(0.0)  # behind whatever still goes on
            return any(event.kind.startswith("recalibrat") for event in device.events())

        _deadline_passes("AdvanceTime", lambda timeout_s: device.lab.advance("1y", timeout_s=timeout_s), begun)
        told = [event.details["advanced_s"] for event in device.events() if event.kind == "cancelled"]
        advanced_s = device.lab.clock().device_time_s
        assert told[-1] == repr(advanced_s)
        assert 0.0 < advanced_s < 256.0
        assert device.infer_detailed(pictures(1), model="small").age_s == pytest.approx(advanced_s)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["WatchTelemetry", "WatchEvents", "WatchOperation"])
@pytest.mark.parametrize("way", ["grpc", "in process"])
def test_a_deadline_ends_a_watching_stream(way: str, name: str, chip: Chip) -> None:
    over = threading.Event()
    request = METHODS[name].request()
    if name == "WatchOperation":
        request.operation_id = chip.operations.start("recalibrate", lambda *_: over.wait(PATIENCE_S)).id
    with contextlib.ExitStack() as stack:
        if way == "grpc":
            device = stack.enter_context(pcmedge.connect(stack.enter_context(serve(chip)).address))
        else:
            device = Device(LocalTransport(Handlers(chip)))
        with pytest.raises(DeadlineError, match=name):
            list(device._transport.stream(Call(method=METHODS[name], request=request, timeout_s=0.5)))
        assert not over.is_set()
        over.set()


def test_a_change_that_waits_for_another_keeps_its_deadline(chip: Chip) -> None:
    chip.program(classifier())
    measuring, over = threading.Event(), threading.Event()

    def hold(phase: str, done: int, total: int) -> None:
        measuring.set()
        over.wait(PATIENCE_S)

    thread = threading.Thread(target=lambda: chip.recalibrate("small", progress=hold))
    thread.start()
    assert measuring.wait(PATIENCE_S)
    device = Device(LocalTransport(Handlers(chip, lab=True)))
    for act in (
        lambda: device.recalibrate(timeout_s=0.2),
        lambda: device.program(classifier(), timeout_s=0.2),
        lambda: device.lab.advance(1.0, timeout_s=0.2),
    ):
        with pytest.raises(DeadlineError):
            act()
    over.set()
    thread.join(PATIENCE_S)
    assert len(device.models()) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_client_that_dies_or_is_interrupted_while_programming(
    chip: Chip, tmp_path: Path, how: signal.Signals
) -> None:
    large().save(tmp_path / "large.pcmi")
    client = (
        "import sys, pcmedge\n"
        "from pcmedge.device import ProgramAndVerify\n"
        "with pcmedge.connect(sys.argv[1]) as device:\n"
        "    slow = ProgramAndVerify(margin_microsiemens=0.0005, max_iterations=1000)\n"
        "    device.program(sys.argv[2], program_and_verify=slow, progress=lambda p: print(p.phase, flush=True))\n"
    )
    with serve(chip) as server:
        _until_programming([client, server.address, str(tmp_path / "large.pcmi")], how)
        with pcmedge.connect(server.address) as device:
            operation = list(device.watch_operation(device.operations()[-1].operation_id))[-1]
            assert operation.state == "cancelled"
            assert device.models() == ()


def test_ctrl_c_while_an_emulator_in_process_is_programmed(tmp_path: Path) -> None:
    large().save(tmp_path / "large.pcmi")
    program = (
        "import sys, pcmedge\n"
        "from pcmedge.device import ProgramAndVerify\n"
        "with pcmedge.Emulator() as device:\n"
        "    slow = ProgramAndVerify(margin_microsiemens=0.0005, max_iterations=1000)\n"
        "    try:\n"
        "        device.program(sys.argv[1], program_and_verify=slow, progress=lambda p: print(p.phase, flush=True))\n"
        "    except KeyboardInterrupt:\n"
        "        last = list(device.watch_operation(device.operations()[-1].operation_id))[-1]\n"
        "        print(last.state, len(device.models()))\n"
    )
    assert _until_programming([program, str(tmp_path / "large.pcmi")], signal.SIGINT)[-1] == "cancelled 0"


def _until_programming(code: list[str], how: signal.Signals) -> list[str]:
    """Run Python code until it prints "program", send it a signal, and return the lines it prints after."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", *code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
        killed_in_the_end(process),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "program":
                process.send_signal(how)
                return process.stdout.read().splitlines()
        pytest.fail("it never began")


def test_a_closed_device_says_so(chip: Chip) -> None:
    with serve(chip) as server:
        device = pcmedge.connect(server.address)
        device.close()
        device.close()
        with pytest.raises(UnavailableError, match="closed"):
            device.models()
    emulator = pcmedge.Emulator()
    emulator.close()
    with pytest.raises(UnavailableError, match="closed"):
        emulator.models()


def test_many_threads_share_one_device(chip: Chip) -> None:
    chip.program(classifier())
    with serve(chip) as server, pcmedge.connect(server.address) as device:
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.extend(device.infer(pictures(2)).shape for _ in range(10)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [(2, 4)] * 80


def test_a_program_stream_that_is_opened_and_left_blocks_nobody(chip: Chip) -> None:
    with serve(chip) as server, grpc.insecure_channel(parse_address(server.address).target) as channel:
        program = channel.stream_stream(
            f"/{DEVICE_SERVICE}/Program",
            request_serializer=device_pb2.ProgramRequest.SerializeToString,
            response_deserializer=device_pb2.OperationUpdate.FromString,
        )
        waiting = threading.Event()

        def hold() -> Iterator[Any]:
            yield device_pb2.ProgramRequest(header=device_pb2.ProgramHeader(image_size=100))
            waiting.wait(10)

        call = program(hold())
        time.sleep(0.3)
        call.cancel()
        waiting.set()
        with pcmedge.connect(server.address) as device:
            device.program(classifier())
            assert [model.name for model in device.models()] == ["small"]


def test_a_call_that_the_device_breaks_off_is_unavailable_and_is_repeated() -> None:
    """As gRPC answers calls that reach a device in the moment it shuts down: CANCELLED, and not a word more."""
    path, calls = METHODS["GetIdentity"].path, []

    class Closing(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
            return grpc.unary_unary_rpc_method_handler(self.answer) if details.method == path else None

        def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
            calls.append(request)
            context.cancel()
            return b""

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[Closing()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(UnavailableError, match="broke off GetIdentity"):
            pcmedge.connect(f"grpc://127.0.0.1:{port}")
        server.stop(None).wait()
    assert len(calls) == 5
