"""Slow, silent and greedy clients: they are ended, and everybody else is served meanwhile."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pcmedge
import pytest
from cli_process import PATIENCE_S, wait_for
from pcmedge._contract import device_pb2
from pcmedge.device._grpc import make_stub
from pcmedge.errors import BusyError, InputValueError, UnavailableError
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import DETAILS_KEY, from_status
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.limits import Limits
from pcmedge_emulator.service.server import Server, serve
from service_models import classifier, pictures


@pytest.fixture(scope="module")
def chip() -> Iterator[Chip]:
    with Chip() as made:
        made.program(classifier())
        yield made


def target(server: Server) -> str:
    return server.address.removeprefix("grpc://")


def ends(calls: Iterable[Any]) -> queue.SimpleQueue[grpc.StatusCode]:
    """With what the calls end, as they do: which of many arrives first is nobody's to say."""
    ended: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()
    for call in calls:
        call.add_done_callback(lambda done: ended.put(done.code()))
    return ended


def raw(server: Server) -> socket.socket:
    host, _, port = target(server).rpartition(":")
    made = socket.create_connection((host, int(port)))
    made.settimeout(PATIENCE_S)
    return made


@pytest.mark.parametrize("said", [b"", b"PRI * HT", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half a greeting", "http"])
def test_a_connection_that_does_not_greet_is_closed_while_others_are_served(chip: Chip, said: bytes) -> None:
    with serve(chip, limits=Limits(handshake_s=0.5)) as server, pcmedge.connect(server.address) as device:
        silent = [raw(server) for _ in range(20)]
        for each in silent:
            # One that took the test too long is closed already.
            with contextlib.suppress(ConnectionError):
                each.sendall(said)
        assert device.infer(pictures(1)).shape == (1, 4)
        for each in silent:
            with each, contextlib.suppress(ConnectionError):
                while each.recv(4096):
                    pass
        assert device.infer(pictures(1)).shape == (1, 4)


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/ModelInfer"])
def test_calls_that_never_send_their_request_keep_nobody_out(chip: Chip, path: str) -> None:
    released = threading.Event()

    def silent() -> Iterator[bytes]:
        released.wait(PATIENCE_S)
        yield from ()

    limits = Limits(request_s=2 * PATIENCE_S)
    with serve(chip, limits=limits) as server, pcmedge.connect(server.address) as device:
        local = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(target(server), local) for _ in range(4)]
        calls = [channel.stream_unary(path).future(silent()) for channel in channels for _ in range(100)]
        # Only a few are waited for: when most have been ended, nearly all have arrived.
        ended = ends(calls)
        codes = {ended.get(timeout=PATIENCE_S) for _ in range(350)}
        # None is ended in its first second, and so many at once may be more than the service takes.
        assert codes - {grpc.StatusCode.RESOURCE_EXHAUSTED} == {grpc.StatusCode.CANCELLED}
        assert device.infer(pictures(1)).shape == (1, 4)
        assert not all(call.done() for call in calls)
        released.set()
        for channel in channels:
            channel.close()


def test_health_checks_without_a_request_push_out_no_other_call(chip: Chip) -> None:
    """Health asks for no token; a call of somebody who has one, and a slow line, must not pay for that."""
    released, arrive = threading.Event(), threading.Event()

    def silent() -> Iterator[bytes]:
        released.wait(PATIENCE_S)
        yield from ()

    def slow() -> Iterator[bytes]:
        arrive.wait(PATIENCE_S)
        yield b""

    local = [("grpc.use_local_subchannel_pool", 1)]
    with (
        serve(chip, limits=Limits(request_s=2 * PATIENCE_S)) as server,
        grpc.insecure_channel(target(server), local) as honest,
        grpc.insecure_channel(target(server), local) as greedy,
    ):
        call = honest.stream_unary(METHODS["ServerLive"].path).future(slow())
        checks = [greedy.stream_unary("/grpc.health.v1.Health/Check").future(silent()) for _ in range(100)]
        ended = ends(checks)
        assert {ended.get(timeout=PATIENCE_S) for _ in range(84)} == {grpc.StatusCode.CANCELLED}
        arrive.set()
        assert call.code() is grpc.StatusCode.OK
        released.set()


def test_a_call_whose_request_does_not_come_is_ended(chip: Chip) -> None:
    released = threading.Event()

    def silent() -> Iterator[bytes]:
        released.wait(PATIENCE_S)
        yield from ()

    with serve(chip, limits=Limits(request_s=0.4)) as server, grpc.insecure_channel(target(server)) as channel:
        call = channel.stream_unary(METHODS["ServerLive"].path).future(silent())
        assert ends([call]).get(timeout=PATIENCE_S) is grpc.StatusCode.CANCELLED
        released.set()


def test_whoever_watches_health_takes_no_place_of_others(chip: Chip) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    serving = health_pb2.HealthCheckResponse.SERVING
    states: list[int] = []
    ended: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()

    def read(watch: Any) -> None:
        try:
            states.extend(state.status for state in watch)
        except grpc.RpcError as error:
            ended.put(error.code())

    with serve(chip) as server, pcmedge.connect(server.address) as device:
        with grpc.insecure_channel(target(server)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(40)]
            readers = [threading.Thread(target=read, args=(watch,), daemon=True) for watch in watches]
            for reader in readers:
                reader.start()
            # All have arrived when all but the sixteen that are kept have been ended, whichever those are.
            assert {ended.get(timeout=PATIENCE_S) for _ in range(24)} == {grpc.StatusCode.CANCELLED}
            assert device.infer(pictures(1)).shape == (1, 4)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == serving
            with pytest.raises(queue.Empty):
                ended.get(timeout=0.3)
        for reader in readers:
            reader.join(PATIENCE_S)
        assert {ended.get(timeout=PATIENCE_S) for _ in range(16)} == {grpc.StatusCode.CANCELLED}
        assert set(states) == {serving}
        assert device.infer(pictures(1)).shape == (1, 4)


def test_whoever_watches_health_hears_of_each_change(chip: Chip) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    served, unknown = METHODS["ServerLive"].path.split("/")[1], "nobody.Here"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(chip))
        channel = stack.enter_context(grpc.insecure_channel(target(server)))
        stub = health_pb2_grpc.HealthStub(channel)
        watches = {
            name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S)
            for name in ("", served, unknown)
        }
        first = {name: next(watch).status for name, watch in watches.items()}
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert first == {
            "": health_pb2.HealthCheckResponse.SERVING,
            served: health_pb2.HealthCheckResponse.SERVING,
            unknown: health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
        }
        for name in ("", served):
            assert next(watches[name]).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopper.join(PATIENCE_S)
        with pytest.raises(grpc.RpcError):
            next(watches[unknown])


class Trickle:
    """A Program stream of one byte at a time, that never ends by itself."""

    def __init__(self, server: Server, size: int = 100_000) -> None:
        self.stop = threading.Event()
        self._channel = grpc.insecure_channel(target(server), [("grpc.use_local_subchannel_pool", 1)])
        self.replies: Any = make_stub(self._channel, METHODS["Program"])(self._requests(size), timeout=PATIENCE_S)

    def _requests(self, size: int) -> Iterator[device_pb2.ProgramRequest]:
        yield device_pb2.ProgramRequest(header=device_pb2.ProgramHeader(image_size=size))
        while not self.stop.wait(0.02):
            yield device_pb2.ProgramRequest(chunk=b"\x00")

    def error(self) -> Any:
        """What the device ended it with."""
        with pytest.raises(grpc.RpcError) as caught:
            list(self.replies)
        self.close()
        details = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
        return from_status(details[DETAILS_KEY])

    def close(self) -> None:
        self.stop.set()
        self._channel.close()


def test_an_upload_of_a_byte_at_a_time_is_ended_while_others_are_served(chip: Chip) -> None:
    limits = Limits(upload_grace_s=1.0, upload_bytes_per_s=1e6)
    with serve(chip, limits=limits) as server, pcmedge.connect(server.address) as device:
        slow = Trickle(server)
        assert device.infer(pictures(2)).shape == (2, 4)
        error = slow.error()
        assert (error.status, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert "faster line" in error.message
        assert int(error.metadata["received"]) < 100_000
        assert device.program(classifier()).model.name == "small"


def test_a_calibration_buffer_that_never_comes_is_ended_too(chip: Chip) -> None:
    released = threading.Event()

    def silent() -> Iterator[device_pb2.CalibrationBufferRequest]:
        yield device_pb2.CalibrationBufferRequest(header=device_pb2.CalibrationBufferHeader(model_name="small"))
        released.wait(PATIENCE_S)

    with (
        serve(chip, limits=Limits(upload_grace_s=0.5)) as server,
        grpc.insecure_channel(target(server)) as channel,
    ):
        with pytest.raises(grpc.RpcError) as caught:
            make_stub(channel, METHODS["ReplaceCalibrationBuffer"])(silent(), timeout=PATIENCE_S)
        released.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
        assert "received" in from_status(dict(caught.value.trailing_metadata())[DETAILS_KEY]).metadata  # type: ignore


def test_uploads_at_once_are_bounded_and_a_place_is_free_again_when_one_ends(chip: Chip) -> None:
    limits = Limits(max_uploads=2, upload_grace_s=2 * PATIENCE_S)
    with serve(chip, limits=limits) as server, pcmedge.connect(server.address) as device:
        slow = [Trickle(server), Trickle(server)]
        refused, end_s = "", time.monotonic() + PATIENCE_S
        while not refused:
            assert time.monotonic() < end_s, "two uploads never took both places"
            try:
                device.program(classifier())
            except BusyError as error:
                refused = error.message
            # Ours may have had the place that one of them wanted.
            for number, each in enumerate(slow):
                if not each.replies.is_active():
                    each.close()
                    slow[number] = Trickle(server)
        assert "2 uploads" in refused
        assert device.infer(pictures(1)).shape == (1, 4)
        for each in slow:
            each.close()
        wait_for(lambda: programmed(device))


def programmed(device: pcmedge.Device) -> bool:
    """Whether there was a place."""
    try:
        return device.program(classifier()).model.name == "small"
    except BusyError:
        return False


def test_an_image_over_the_limit_is_refused_at_its_header(chip: Chip) -> None:
    image = classifier()
    with (
        serve(chip, limits=Limits(max_image_bytes=image.size - 1)) as server,
        pcmedge.connect(server.address) as device,
        pytest.raises(InputValueError, match=f"1 to {image.size - 1}"),
    ):
        device.program(image)


def test_more_connections_than_allowed_are_closed_and_those_there_go_on(chip: Chip) -> None:
    with (
        serve(chip, limits=Limits(max_connections=2)) as server,
        pcmedge.connect(server.address) as first,
        pcmedge.connect(server.address) as second,
    ):
        with pytest.raises(UnavailableError, match="no room for more connections"):
            pcmedge.connect(server.address)
        assert first.infer(pictures(1)).shape == second.infer(pictures(1)).shape == (1, 4)


def test_an_idle_or_old_connection_is_ended_and_the_client_does_not_notice(chip: Chip) -> None:
    limits = Limits(max_idle_s=0.2, max_connection_age_s=0.5, max_connection_age_grace_s=1.0)
    with serve(chip, limits=limits) as server, pcmedge.connect(server.address) as device:
        pause = threading.Event()
        for _ in range(6):
            assert device.infer(pictures(1)).shape == (1, 4)
            pause.wait(0.4)


def test_a_stream_ends_with_its_connection_when_connections_have_an_age(chip: Chip) -> None:
    """So that whoever lost its token does not watch for ever."""
    limits = Limits(max_connection_age_s=0.3, max_connection_age_grace_s=0.3)
    with (
        serve(chip, limits=limits) as server,
        pcmedge.connect(server.address) as device,
        pytest.raises(UnavailableError),
    ):
        for _ in device.watch_telemetry(interval_s=0.05):
            pass


@pytest.mark.parametrize("argument", ["max_uploads", "upload_grace_s", "max_connections", "handshake_s"])
def test_limits_are_more_than_nothing(argument: str) -> None:
    for value in (0, -1, float("nan")):
        with pytest.raises(InputValueError, match=argument):
            Limits(**{argument: value})


def test_snapshots_are_bounded_by_number_and_bytes_and_a_deleted_one_makes_room() -> None:
    with (
        Chip() as chip,
        serve(chip, lab=True, limits=Limits(max_snapshots=2)) as server,
        pcmedge.connect(server.address) as device,
    ):
        device.program(classifier())
        for name in ("one", "two", "two"):
            device.lab.snapshot(name)
        with pytest.raises(BusyError, match="expected fewer than 2 snapshots") as caught:
            device.lab.snapshot("three")
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        assert (caught.value.metadata["max_snapshots"], caught.value.metadata["snapshots"]) == ("2", "2")
        assert [snapshot.name for snapshot in device.lab.snapshots()] == ["one", "two"]
        device.lab.delete_snapshot("one")
        device.lab.snapshot("three")
        held = sum(snapshot.bytes for snapshot in device.lab.snapshots())
        with (
            serve(chip, lab=True, limits=Limits(max_snapshot_bytes=held)) as full,
            pcmedge.connect(full.address) as other,
        ):
            with pytest.raises(BusyError, match=f"{held} bytes") as caught:
                other.lab.snapshot("four")
            assert caught.value.metadata["bytes"] == str(held)
            assert other.lab.restore("two").name == "two"
            other.lab.delete_snapshot("two")
            other.lab.snapshot("four")
            with pytest.raises(BusyError):
                other.lab.snapshot("five")
