"""Bad input, each over gRPC and in process: the same class, reason, message and metadata, and a device that goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pcmedge
import pytest
from pcmedge import compile as compile_model
from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.device import Device, Mutation
from pcmedge.device._calls import Call
from pcmedge.errors import (
    CapacityError,
    ClockError,
    Error,
    FileMissingError,
    GenerationMismatchError,
    ImageCorruptError,
    ImageProfileError,
    ImageTooLargeError,
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    LeaseHeldError,
    ModelNotFoundError,
    NotFoundError,
)
from pcmedge.image.profiles import profile
from pcmedge.protocol.services import METHODS
from service_devices import device_by
from service_models import classifier, large, pictures, two_by_two

TILES = 8
"""Of the chip under test; the large image needs 16, the classifier 2."""
CHIP = profile("hermes-256x256", tiles=TILES)


def _raw(device: Device, name: str, request: Any) -> Any:
    """A call made by hand, as another client might."""
    return device._reply(Call(method=METHODS[name], request=request, timeout_s=30))


def _program(device: Device, *parts: Any) -> Any:
    return _raw(device, "Program", iter([device_pb2.ProgramRequest(**part) for part in parts]))


def _infer(device: Device, **changes: Any) -> Any:
    request = inference_pb2.ModelInferRequest(model_name="small")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 6, 6])
    request.raw_input_contents.append(bytes(144))
    for name, value in changes.items():
        if name == "tensor":
            request.inputs[0].MergeFrom(value)
        else:
            setattr(request, name, value)
    return _raw(device, "ModelInfer", request)


def _tensor_parameter(name: str) -> Any:
    tensor = inference_pb2.ModelInferRequest.InferInputTensor()
    tensor.parameters[name].string_param = "region"
    return tensor


def _flipped(device: Device) -> Any:
    data = bytearray(classifier().to_bytes())
    data[len(data) // 2] ^= 1
    return device.program(bytes(data))


def _other_profile(device: Device) -> Any:
    return device.program(compile_small("pcm-512x512"))


def compile_small(chip_profile: str) -> Any:
    return classifier(profile=chip_profile)


def _header(size: int) -> dict[str, Any]:
    return {"header": device_pb2.ProgramHeader(image_size=size)}


END = {"end": device_pb2.ProgramEnd(image_sha256=bytes(32))}
DATA = classifier().to_bytes()

CASES: dict[str, tuple[type[Error], Callable[[Device], Any]]] = {
    "wrong shape": (InputShapeError, lambda d: d.infer(np.zeros((2, 1, 5, 6), np.float32))),
    "no batch axis": (InputShapeError, lambda d: d.infer(np.zeros((1, 6, 6), np.float32))),
    "empty batch": (InputShapeError, lambda d: d.infer(np.zeros((0, 1, 6, 6), np.float32))),
    "wrong dtype": (InputTypeError, lambda d: d.infer(np.zeros((1, 1, 6, 6), np.int64))),
    "complex": (InputTypeError, lambda d: d.infer(np.zeros((1, 1, 6, 6), np.complex64))),
    "ragged list": (InputTypeError, lambda d: d.infer([[1.0], [1.0, 2.0]])),
    "not finite": (InputValueError, lambda d: d.infer(np.full((1, 1, 6, 6), np.nan, np.float32))),
    "unknown input": (InputError, lambda d: d.infer({"z": pictures(1)})),
    "missing input": (InputError, lambda d: d.infer({})),
    "unknown model": (ModelNotFoundError, lambda d: d.infer(pictures(1), model="nobody")),
    "unknown model to recalibrate": (ModelNotFoundError, lambda d: d.recalibrate(model="nobody")),
    "unknown model to erase": (ModelNotFoundError, lambda d: d.erase("nobody")),
    "old version": (ModelNotFoundError, lambda d: _infer(d, model_version="77")),
    "unknown output": (InputError, lambda d: _ask_for_output(d, "nothing")),
    "raw contents too short": (InputShapeError, lambda d: _short(d)),
    "shared memory": (Error, lambda d: _infer(d, tensor=_tensor_parameter("shared_memory_region"))),
    "truncated image": (ImageCorruptError, lambda d: d.program(DATA[: len(DATA) // 2])),
    "no image at all": (ImageCorruptError, lambda d: d.program(b"not an image")),
    "empty image": (ImageCorruptError, lambda d: d.program(b"")),
    "bit-flipped image": (ImageCorruptError, _flipped),
    "no such file": (FileMissingError, lambda d: d.program("/nowhere/model.pcmi")),
    "image for another profile": (ImageProfileError, _other_profile),
    "image larger than the chip": (ImageTooLargeError, lambda d: d.program(large())),
    "no room beside the others": (CapacityError, lambda d: _fill(d)),
    "stream without header": (InputError, lambda d: _program(d, {"chunk": b"1"})),
    "stream without end": (ImageCorruptError, lambda d: _program(d, _header(3), {"chunk": b"123"})),
    "stream with more than announced": (ImageCorruptError, lambda d: _program(d, _header(2), {"chunk": b"123"}, END)),
    "stream with less than announced": (ImageCorruptError, lambda d: _program(d, _header(4), {"chunk": b"123"}, END)),
    "stream with another digest": (ImageCorruptError, lambda d: _program(d, _header(3), {"chunk": b"123"}, END)),
    "chunk too large": (InputValueError, lambda d: _program(d, _header(1 << 22), {"chunk": bytes((1 << 20) + 1)})),
    "image of impossible size": (InputValueError, lambda d: _program(d, _header(1 << 60))),
    "wrong calibration shape": (InputShapeError, lambda d: d.replace_calibration_buffer(np.zeros((4, 36), np.float32))),
    "wrong calibration dtype": (InputTypeError, lambda d: d.replace_calibration_buffer(np.zeros((4, 1, 6, 6), "i4"))),
    "no calibration samples": (InputShapeError, lambda d: d.append_calibration_buffer(pictures(0))),
    "calibration bytes that do not fit": (InputShapeError, lambda d: _samples(d, [bytes(7)])),
    "calibration for too many inputs": (InputError, lambda d: _samples(d, [bytes(144), bytes(144)])),
    "not finite calibration": (
        InputValueError,
        lambda d: d.replace_calibration_buffer(np.full((4, 1, 6, 6), np.inf, np.float32)),
    ),
    "device elsewhere": (
        GenerationMismatchError,
        lambda d: d.recalibrate(mutation=Mutation(expected_program_generation=9)),
    ),
    "lease that lapsed": (LeaseHeldError, lambda d: d.erase("small", mutation=Mutation(lease_id="gone"))),
    "unknown operation": (NotFoundError, lambda d: d.cancel_operation("nothing")),
    "unknown tile": (NotFoundError, lambda d: d.read_tile(7)),
    "time backwards": (InputValueError, lambda d: d.lab.advance(-1)),
    "unknown snapshot": (NotFoundError, lambda d: d.lab.restore("never taken")),
    "unknown noise": (InputValueError, lambda d: d.lab.set_noise("pink")),
    "advancing a real clock": (ClockError, lambda d: (d.lab.set_clock("real"), d.lab.advance("1d"))),
    "unspecified policy": (
        InputValueError,
        lambda d: _raw(d, "SetRecalibrationPolicy", device_pb2.SetRecalibrationPolicyRequest(model_name="small")),
    ),
    "request id too long": (InputValueError, lambda d: d.deactivate("small", mutation=Mutation(request_id="x" * 129))),
}


def _ask_for_output(device: Device, name: str) -> Any:
    request = inference_pb2.ModelInferRequest(model_name="small")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 6, 6])
    request.raw_input_contents.append(bytes(144))
    request.outputs.add(name=name)
    return _raw(device, "ModelInfer", request)


def _short(device: Device) -> Any:
    request = inference_pb2.ModelInferRequest(model_name="small")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 6, 6])
    request.raw_input_contents.append(bytes(143))
    return _raw(device, "ModelInfer", request)


def _samples(device: Device, inputs: list[bytes]) -> Any:
    requests = [
        device_pb2.CalibrationBufferRequest(header=device_pb2.CalibrationBufferHeader(model_name="small")),
        device_pb2.CalibrationBufferRequest(samples=device_pb2.CalibrationSamples(count=1, inputs=inputs)),
    ]
    return _raw(device, "ReplaceCalibrationBuffer", iter(requests))


def _fill(device: Device) -> None:
    for number in range(TILES):
        device.program(classifier(name=f"filler-{number}"))


def _outcome(device: Device, act: Callable[[Device], Any]) -> Error:
    with pytest.raises(Error) as caught:
        act(device)
    return caught.value


def _settled(text: str) -> str:
    """Without what differs from one device to the next."""
    return re.sub(r"[0-9a-f]{32}|\d+\.\d+", "#", text)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_the_same_typed_error_near_and_far(name: str) -> None:
    kind, act = CASES[name]
    found = {}
    for way in ("grpc", "in process"):
        with device_by(way, classifier(), profile=CHIP) as device:
            found[way] = _outcome(device, act)
            if not name.startswith("no room"):
                assert device.infer(pictures(1)).shape == (1, 4), "the device goes on"
    near, far = found["in process"], found["grpc"]
    assert isinstance(far, kind)
    assert type(near) is type(far)
    assert near.reason == far.reason
    assert _settled(near.message) == _settled(far.message)
    assert near.metadata.keys() == far.metadata.keys()
    assert len(far.message) > 20


def test_an_unsupported_operator_is_named_by_the_compiler_before_any_device() -> None:
    from onnx import TensorProto, helper

    node = helper.make_node("MadeUpOperator", ["x"], ["y"], name="culprit", domain="example")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    with pytest.raises(Error, match="culprit"):
        compile_model(model, calibration=np.zeros((4, 2), np.float32))


def test_a_stale_idea_of_a_model_is_looked_up_again() -> None:
    pair = {"a": np.zeros((1, 8), np.float32), "b": np.zeros((1, 5), np.float32)}
    with device_by("grpc", two_by_two()) as device, pcmedge.connect(device.address) as other:
        assert set(device.infer(pair)) == {"p", "q"}
        other.erase("pair")
        other.program(classifier())
        assert device.infer(pictures(1)).shape == (1, 4)
        other.erase("small")
        other.program(two_by_two())
        assert set(next(device.infer_stream([pair], model="pair"))) == {"p", "q"}
        assert set(device.infer(pair)) == {"p", "q"}
        with pytest.raises(InputError, match="2 inputs"):
            device.infer(pictures(1))
