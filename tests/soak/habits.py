"""What clients of a device do all day, each habit once per call: good calls, calls that are given up, calls that meet
another client's change. A habit raises what the client raises; :mod:`.company` says which of that is allowed.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.demo import compile_digits, load_digits
from pcmedge.device import Device, Fault, Policy, ProgramAndVerify
from pcmedge.device._grpc import make_stub
from pcmedge.errors import InputError, ModelNotFoundError
from pcmedge.image import ChipImage
from pcmedge.protocol.services import METHODS

from .device_process import ROOT, environment

STEADY, CHANGING, LARGE = "digits", probe.NAME, "resnet32"
"""``STEADY`` is never erased, unloaded or broken, so its requests must be answered and right; the others are."""

RESNET = ROOT / "examples" / "resnet32_cifar10" / "models" / "resnet32.pcmi"
RIGHT = 0.6
"""Of a batch of 32 digits, whatever the device's age and the statistics it was rolled back to."""

STREAMS = 20
"""Open at once to begin with; the habits never have more."""

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


class WrongAnswer(Exception):
    """The steady model answered, and wrongly."""


@dataclass
class Place:
    """What all habits share: where the device is, the images, the inputs. One :class:`Device` per worker."""

    address: str
    digits: ChipImage
    inputs: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    large: bool
    serial: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def at(cls, address: str, *, large: bool) -> Place:
        test = load_digits().test
        return cls(address, compile_digits(), test.tensors, test.labels, large)

    def settle(self, device: Device) -> None:
        """The models every habit counts on, programmed and left alone by policies."""
        for image in (self.digits, probe.shipped(1), *((ChipImage.open(RESNET),) if self.large else ())):
            device.program(image, replace=True)
            device.set_policy("manual", model=image.name)
        # Young devices drift fast; a day later an hour more or less costs no answer.
        device.lab.advance("30d")
        for _ in range(2):
            device.recalibrate(model=STEADY)

    def fill(self, device: Device, events: int) -> None:
        """What is kept on purpose, up to its bound: threads that answer as many calls at once as there will be, events
        of the journal, answers to request ids. What grows after this is no such thing.
        """
        with ExitStack() as stack:
            for _ in range(STREAMS):
                stream = device.watch_events()
                stack.callback(stream.close)
                next(stream)
            with ThreadPoolExecutor(STREAMS) as together:
                list(together.map(lambda _: device.self_test(model=STEADY), range(4 * STREAMS)))
        for _ in range(events // 2):
            device.deactivate(STEADY)
            device.activate(STEADY)


Habit = Callable[[Place, Device, np.random.Generator], None]


# ----------------------------------------------------------------------------------------------------------- inference


def infer(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Batches of the steady model, of which most answers must be right."""
    chosen = rng.integers(0, len(place.inputs), 32)
    _judge(place, chosen, device.infer(place.inputs[chosen], model=STEADY))


def _judge(place: Place, chosen: np.ndarray[Any, Any], outputs: Any) -> None:
    right = float((np.asarray(outputs).argmax(axis=1) == place.labels[chosen]).mean())
    if right < RIGHT:
        raise WrongAnswer(f"{right:.0%} of {len(chosen)} digits are right, expected {RIGHT:.0%} or more")


def infer_stream(place: Place, device: Device, rng: np.random.Generator) -> None:
    """A stream read to its end, or left in the middle."""
    chosen = rng.integers(0, len(place.inputs), (20, 32))
    answers = device.infer_stream((place.inputs[each] for each in chosen), model=STEADY)
    for number, (each, outputs) in enumerate(zip(chosen, answers, strict=False)):
        _judge(place, each, outputs)
        if number == 10 and rng.random() < 0.5:
            break
    answers.close()


def infer_others(place: Place, device: Device, rng: np.random.Generator) -> None:
    device.infer(probe.samples(int(rng.integers(1, 65))), model=CHANGING)
    if place.large and rng.random() < 0.3:
        device.infer(rng.normal(size=(int(rng.integers(1, 5)), 3, 32, 32)).astype(np.float32), model=LARGE)


def infer_wrongly(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Another shape, another name, not finite."""
    wrong = [(np.zeros((1, 7), np.float32), STEADY), (place.inputs[:1], "nobody"), (place.inputs[:1] * np.nan, STEADY)]
    inputs, model = wrong[int(rng.integers(len(wrong)))]
    try:
        device.infer(inputs, model=model)
    except (InputError, ModelNotFoundError):
        return
    raise WrongAnswer(f"{inputs.shape} of {model!r} was answered")


def triton_client(place: Place, device: Device, rng: np.random.Generator) -> None:
    """An unmodified client of somebody else's, made and closed."""
    with triton.InferenceServerClient(place.address.removeprefix("grpc://")) as client:
        chosen = rng.integers(0, len(place.inputs), 32)
        batch = triton.InferInput("x", [32, 1, 8, 8], "FP32")
        batch.set_data_from_numpy(place.inputs[chosen])
        client.get_server_metadata()
        client.get_model_repository_index()
        client.get_inference_statistics()
        _judge(place, chosen, client.infer(STEADY, [batch]).as_numpy("linear"))


# ------------------------------------------------------------------------------------------------------------- changes


def reprogram(place: Place, device: Device, rng: np.random.Generator) -> None:
    """The changing model in all ways it can come and go."""
    dice = rng.random()
    if dice < 0.15:
        device.erase(CHANGING)
    elif dice < 0.3:
        device.deactivate(CHANGING)
        device.activate(CHANGING)
    else:
        number = int(rng.integers(1, 3))
        verify = ProgramAndVerify(max_iterations=5) if dice > 0.8 else None
        device.program(probe.shipped(number), program_and_verify=verify, replace=True, use_retired=True)
        device.set_policy("manual", model=CHANGING)


def reprogram_large(place: Place, device: Device, rng: np.random.Generator) -> None:
    if place.large:
        device.program(RESNET, replace=True, use_retired=True)
        device.set_policy("manual", model=LARGE)


def lease(place: Place, device: Device, rng: np.random.Generator) -> None:
    held = device.acquire_lease("soak", duration_s=1.0)
    device.renew_lease(held, duration_s=1.0)
    if rng.random() < 0.7:
        device.release_lease(held)


def recalibrate(place: Place, device: Device, rng: np.random.Generator) -> None:
    methods = ("default", "gdc", "gdc-per-column", "adabs", "adabs-paired")
    device.recalibrate(methods[int(rng.integers(len(methods)))], model=CHANGING)
    device.recalibrate(model=STEADY)
    if rng.random() < 0.2:
        device.rollback(model=STEADY)
        device.recalibrate(model=STEADY)


def recalibrate_large(place: Place, device: Device, rng: np.random.Generator) -> None:
    if place.large:
        device.recalibrate("gdc" if rng.random() < 0.7 else "default", model=LARGE)


def buffers(place: Place, device: Device, rng: np.random.Generator) -> None:
    device.replace_calibration_buffer(probe.samples(64), model=CHANGING)
    device.append_calibration_buffer(probe.samples(16), model=CHANGING)
    device.calibration_buffer(model=CHANGING)


def policies(place: Place, device: Device, rng: np.random.Generator) -> None:
    kinds = (Policy(kind="interval", interval_s=7200.0), Policy(kind="log-time", log_time_ratio=1.1),
             Policy(kind="drift", drift_threshold=0.01), Policy(kind="self-test", self_test_interval_s=3600.0),
             Policy(kind="manual"))  # fmt: skip
    device.set_policy(kinds[int(rng.integers(len(kinds)))], model=CHANGING)
    device.policy(model=CHANGING)


# ----------------------------------------------------------------------------------------------------------------- lab


def age(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Time goes on, also by itself for a moment."""
    device.lab.advance(float(rng.uniform(60.0, 14400.0)))
    if rng.random() < 0.2:
        device.lab.set_clock("accelerated", rate=3600.0)
        device.recalibrate(model=STEADY)
        device.lab.set_clock("manual")
    device.recalibrate(model=STEADY)


def noise(place: Place, device: Device, rng: np.random.Generator) -> None:
    for kind in ("off", "input-dependent", "additive"):
        device.lab.set_noise(kind)
        device.infer(place.inputs[:4], model=STEADY)


def faults(place: Place, device: Device, rng: np.random.Generator) -> None:
    """On tiles of the other models: broken, looked for, mended."""
    kinds = (("stuck-at-reset", 0.01), ("stuck-at-g-max", 0.01), ("stuck-at-random", 0.01), ("adc-offset", 2.0),
             ("adc-gain", 0.1), ("dead-row", 0.0), ("dead-column", 0.0), ("tile-lost", 0.0))  # fmt: skip
    steady = _tiles(device, STEADY)
    tiles = [tile for tile in _tiles(device, CHANGING) if tile not in steady] or [255]
    for _ in range(3):
        kind, amount = kinds[int(rng.integers(len(kinds)))]
        device.lab.inject_faults([Fault(kind=kind, tile=int(rng.choice(tiles)), amount=amount)])
    device.diagnose(model=CHANGING)
    device.lab.faults()
    device.lab.clear_faults()


def _tiles(device: Device, model: str) -> list[int]:
    found = [each for each in device.telemetry(tiles=True).models if each.name == model]
    return [tile.tile for each in found for tile in each.tiles]


def snapshots(place: Place, device: Device, rng: np.random.Generator) -> None:
    name = f"soak-{int(rng.integers(3))}"
    device.lab.snapshot(name)
    device.lab.snapshots()
    if rng.random() < 0.5:
        device.lab.restore(name)
    if rng.random() < 0.5:
        device.lab.delete_snapshot(name)


# ------------------------------------------------------------------------------------------------------------- looking


def look(place: Place, device: Device, rng: np.random.Generator) -> None:
    device.identity()
    device.models()
    device.manifest(model=STEADY)
    device.telemetry(tiles=True, self_tests=True)
    device.events(after=0, limit=100)
    device.operations()
    device.self_test(model=STEADY)
    device.read_tile(_tiles(device, STEADY)[0], model=STEADY)
    device.diagnose(model=STEADY)


def watch(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Streams without an end, opened, read a little, and dropped."""
    streams: list[Any] = [device.watch_telemetry(interval_s=0.05), device.watch_events(), device.watch_events(after=0)]
    if operations := device.operations():
        streams.append(device.watch_operation(operations[-1].operation_id))
    for stream in streams:
        for _ in itertools.islice(stream, int(rng.integers(1, 4))):
            pass
    for stream in streams:
        stream.close()


def health(place: Place, device: Device, rng: np.random.Generator) -> None:
    """A new connection, gRPC's own health, a call nobody knows."""
    with grpc.insecure_channel(place.address.removeprefix("grpc://")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        if stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status != health_pb2.HealthCheckResponse.SERVING:
            raise WrongAnswer("health is not SERVING")
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        next(iter(watched))
        watched.cancel()
        try:
            channel.unary_unary("/pcm.device.v1.DeviceService/Nothing")(b"", timeout=30)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise


# ---------------------------------------------------------------------------------------------------------- given up


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
        sent, over = itertools.count(), _Latch()
        call = make_stub(channel, METHODS[name])
        replies = (
            call(_slowly(parts, sent, over), timeout=30)
            if METHODS[name].server_streaming
            else call.future(_slowly(parts, sent, over), timeout=30)  # type: ignore[attr-defined]
        )
        over.wait_for_half()
        if rng.random() < 0.5:
            replies.cancel()
        channel.close()
        over.end()


class _Latch:
    """Two moments of an upload: half of it is on its way, and nobody wants the rest."""

    def __init__(self) -> None:
        import threading

        self._half, self._end = threading.Event(), threading.Event()

    def half(self) -> None:
        self._half.set()

    def wait_for_half(self) -> None:
        self._half.wait(10)

    def end(self) -> None:
        self._end.set()

    def wait(self) -> None:
        self._end.wait(10)


def _slowly(parts: list[Any], sent: Iterator[int], over: _Latch) -> Iterator[Any]:
    for part in parts:
        next(sent)
        yield part
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
    subprocess.run(command, env=environment(), cwd=Path(ROOT), check=False, capture_output=True, timeout=120)


PAUSES: dict[Habit, float] = {
    infer: 0.05, infer_stream: 0.5, infer_others: 0.2, infer_wrongly: 0.5, triton_client: 2.0,
    reprogram: 0.5, reprogram_large: 15.0, lease: 5.0, recalibrate: 2.0, recalibrate_large: 20.0, buffers: 2.0,
    policies: 2.0, age: 2.0, noise: 5.0, faults: 3.0, snapshots: 4.0,
    look: 1.0, watch: 1.0, health: 1.0, upload_given_up: 1.0, inference_given_up: 1.0, vanish: 30.0,
}  # fmt: skip
"""Every habit, and how long it rests after each time. Seconds."""
