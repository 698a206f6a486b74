"""Habits of clients that go away in the middle. See :mod:`.habits`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.device import Device
from pcmedge.device._grpc import make_stub
from pcmedge.protocol.services import METHODS

from .device_process import ROOT, environment
from .place import CHANGING, STEADY, Place

_VANISHING = """
import os, sys, threading, numpy, pcmedge
device = pcmedge.connect(sys.argv[1], wait_s=30)
def endless():
    while True:
        yield numpy.zeros((4, 1, 8, 8), numpy.float32)
answers = device.infer_stream(endless(), model=sys.argv[2])
events = device.watch_events()
next(answers), next(events)
threading.Timer(0.2, lambda: os.kill(os.getpid(), 9)).start()
for _ in answers:
    pass
"""


def upload_given_up(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Uploads that are broken off in the middle, by cancelling or by dropping the connection."""
    data = place.digits.to_bytes()
    header = device_pb2.ProgramRequest(header=device_pb2.ProgramHeader(image_size=len(data)))
    half = device_pb2.ProgramRequest(chunk=data[: len(data) // 2])
    buffer = device_pb2.CalibrationBufferHeader(model_name=CHANGING)
    samples = device_pb2.CalibrationSamples(count=4, inputs=[probe.samples(4).tobytes()])
    for name, parts in (
        ("Program", [header, half]),
        ("ReplaceCalibrationBuffer", [device_pb2.CalibrationBufferRequest(header=buffer),
                                      device_pb2.CalibrationBufferRequest(samples=samples)]),
    ):  # fmt: skip
        channel = grpc.insecure_channel(place.address.removeprefix("grpc://"))
        over = _Latch()
        call = make_stub(channel, METHODS[name])
        replies = (
            call(_slowly(parts, over), timeout=30)
            if METHODS[name].server_streaming
            else call.future(_slowly(parts, over), timeout=30)  # type: ignore[attr-defined]
        )
        over.wait_for_half()
        if rng.random() < 0.5:
            replies.cancel()
        channel.close()
        over.end()


class _Latch:
    """Two moments of an upload: half of it is on its way, and nobody wants the rest."""

    def __init__(self) -> None:
        self._half, self._end = threading.Event(), threading.Event()

    def half(self) -> None:
        self._half.set()

    def wait_for_half(self) -> None:
        self._half.wait(10)

    def end(self) -> None:
        self._end.set()

    def wait(self) -> None:
        self._end.wait(10)


def _slowly(parts: list[Any], over: _Latch) -> Iterator[Any]:
    yield from parts
    over.half()
    over.wait()


def inference_given_up(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Deadlines that are too short, calls that are cancelled while they compute."""
    with grpc.insecure_channel(place.address.removeprefix("grpc://")) as channel:
        recalibrate = make_stub(channel, METHODS["Recalibrate"])
        request = device_pb2.RecalibrateRequest(model_name=CHANGING, method=1)  # type: ignore[arg-type]
        replies = recalibrate(request, timeout=float(rng.uniform(0.001, 0.1)))
        try:
            for _ in replies:
                replies.cancel()
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
                raise


def vanish(place: Place, device: Device, rng: np.random.Generator) -> None:
    """A client with two open streams whose process is killed."""
    command = [sys.executable, "-c", _VANISHING, place.address, STEADY]
    subprocess.run(command, env=environment(), cwd=ROOT, check=False, capture_output=True, timeout=120)
