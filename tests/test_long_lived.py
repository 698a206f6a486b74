"""What a service that runs for long keeps, and what it must not."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import cli_process
import grpc
import numpy as np
import pcmedge
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pcmedge.conformance.wire import refusal_of
from pcmedge.errors import CancelledError, Error, InputError
from pcmedge_emulator.operations import Operations
from pcmedge_emulator.service.calm import CALM_S, Calm
from service_devices import served
from service_models import classifier


class Held(np.ndarray):
    """An array that can be watched."""


@pytest.mark.parametrize("kind", [CancelledError, InputError])
def test_an_operation_that_failed_keeps_nothing_of_its_work(kind: type[Error]) -> None:
    operations, watched = Operations(), []

    def work(progress: object, cancelled: object) -> None:
        large = np.ones(1000).view(Held)
        watched.append(weakref.ref(large))
        raise kind("stopped on the way")

    operation = operations.start("program", work)
    for _ in range(2):
        # Also who is told of it leaves nothing behind.
        with pytest.raises(kind, match="stopped on the way"):
            operation.result()
    gc.collect()
    assert watched[0]() is None
    assert operations.get(operation.id).latest.error is not None
    assert operations.get(operation.id).latest.error.__traceback__ is None


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with served(classifier()) as server, grpc.insecure_channel(server.address.removeprefix("grpc://")) as opened:
        yield opened


UNREADABLE = b"\xff\xff\xff"


@pytest.mark.parametrize("call", ["GetIdentity", "WatchEvents", "Program", "ReplaceCalibrationBuffer"])
def test_bytes_that_are_no_message_are_refused_with_a_reason(channel: grpc.Channel, call: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(f"/pcm.device.v1.DeviceService/{call}")(iter([UNREADABLE]), timeout=30))
    found = refusal_of(caught.value, call)
    assert (found.code, found.reason, found.domain) == ("INVALID_ARGUMENT", "INPUT_INVALID", "pcm")
    assert "3 bytes that cannot be parsed" in found.message


def test_health_refuses_bytes_that_are_no_message(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(UNREADABLE, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_of_made_up_services_is_unknown(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    made_up = health_pb2.HealthCheckRequest(service="x" * 10_000)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(made_up, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watched = stub.Watch(made_up, timeout=30)
    assert next(iter(watched)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watched.cancel()
    known = health_pb2.HealthCheckRequest(service="pcm.device.v1.DeviceService")
    assert stub.Check(known, timeout=30).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_an_allocator_that_was_set_up_is_left_alone(name: str) -> None:
    code = "from pcmedge_emulator.service.allocator import bound_allocator; print(bound_allocator())"
    value = {"MALLOC_ARENA_MAX": "4", "GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}[name]
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, name: value}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


ARROWS_POOL = """
import os
from pcmedge_emulator.service.allocator import bound_allocators
bound_allocators()
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("given", "taken"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_arrow_takes_memory_from_the_c_library_unless_told_otherwise(given: str | None, taken: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    wanted = {} if given is None else {"ARROW_DEFAULT_MEMORY_POOL": given}
    found = subprocess.run(
        [sys.executable, "-c", ARROWS_POOL], env={**kept, **wanted}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == taken


def test_a_served_process_reserves_no_memory_for_arrow() -> None:
    """What Arrow's own allocator reserves at once, and then fills and keeps, is 1 GiB."""
    with cli_process.served("--clock", "manual") as (address, process), pcmedge.connect(address, wait_s=60) as device:
        device.program(classifier())
        ranges = [line.split(" ")[0].split("-") for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()]
        largest = max(int(last, 16) - int(first, 16) for first, last in ranges)
    assert 1 << 20 < largest < 1 << 30


def test_memory_is_given_back_once_whenever_work_gives_way_to_rest() -> None:
    now_s, used_s, given_back = 0.0, 0.0, list[float]()

    def give_back() -> None:
        nonlocal used_s
        given_back.append(now_s)
        used_s += 0.5  # however long that takes

    calm = Calm(give_back, clock=lambda: now_s, used=lambda: used_s)

    def pass_time(seconds: float, share: float) -> None:
        nonlocal now_s, used_s
        for _ in range(int(seconds / 0.25)):
            now_s, used_s = now_s + 0.25, used_s + 0.25 * share
            calm.glance()

    for _ in range(3):
        pass_time(10.0, 1.5)
        pass_time(CALM_S / 2, 0.0)
    assert given_back == []
    for rounds in range(1, 4):
        pass_time(10.0, 0.5)
        pass_time(100.0, 0.01)
        assert len(given_back) == rounds


def test_free_pages_between_pieces_in_use_are_given_back() -> None:
    """A process that only freed pages between pieces it uses holds them until somebody says so."""
    found = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert before - after > 20 << 10


HOLES = """
import ctypes, re
from pathlib import Path
from pcmedge_emulator.service.calm import trim

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pieces = [libc.malloc(60000) for _ in range(1000)]
for piece in pieces:
    ctypes.memset(piece, 1, 60000)
for piece in pieces[::2]:
    libc.free(piece)
before = resident()
trim()
print(before, resident())
"""
