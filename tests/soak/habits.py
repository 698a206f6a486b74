"""What clients of a device do all day, each habit once per call: good calls, calls that are given up, calls that meet
another client's change. A habit raises what the client raises; :mod:`.company` says which of that is allowed.
"""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pcmedge.conformance import probe
from pcmedge.device import Device
from pcmedge.errors import InputError, ModelNotFoundError

from .changes import (
    age,
    buffers,
    faults,
    lease,
    noise,
    policies,
    recalibrate,
    recalibrate_large,
    reprogram,
    reprogram_large,
    snapshots,
)
from .giving_up import inference_given_up, upload_given_up, vanish
from .place import CHANGING, LARGE, RIGHT, STEADY, Habit, Place, WrongAnswer, tiles_of


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


def look(place: Place, device: Device, rng: np.random.Generator) -> None:
    device.identity()
    device.models()
    device.manifest(model=STEADY)
    device.telemetry(tiles=True, self_tests=True)
    device.events(after=0, limit=100)
    device.operations()
    device.self_test(model=STEADY)
    device.read_tile(tiles_of(device, STEADY)[0], model=STEADY)
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


PAUSES: dict[Habit, float] = {
    infer: 0.05, infer_stream: 0.5, infer_others: 0.2, infer_wrongly: 0.5, triton_client: 2.0,
    reprogram: 0.5, reprogram_large: 15.0, lease: 5.0, recalibrate: 2.0, recalibrate_large: 20.0, buffers: 2.0,
    policies: 2.0, age: 2.0, noise: 5.0, faults: 3.0, snapshots: 4.0,
    look: 1.0, watch: 1.0, health: 1.0, upload_given_up: 1.0, inference_given_up: 1.0, vanish: 30.0,
}  # fmt: skip
"""Every habit, and how long it rests after each time. Seconds."""
