"""DigitalDevice: bit for bit what the runtime gives, through the Device of a chip; what needs a chip is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pcmedge
import pytest
from ai_edge_litert.interpreter import Interpreter
from cli_process import run
from interpreter_models import (
    COLOURS,
    PITCHES,
    SIDE,
    codes_of,
    colours_onnx,
    colours_tflite,
    normalised,
    pictures,
    pitches_tflite,
    tones,
)
from onnx import TensorProto, helper, numpy_helper
from pcmedge._contract import inference_pb2
from pcmedge.device import Device
from pcmedge.device._calls import Call
from pcmedge.errors import (
    CompileError,
    Error,
    FileMissingError,
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    ModelNotFoundError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.protocol.services import METHODS
from service_devices import served

PICTURES, COLOUR = pictures()
BANDS, PITCH = tones()
PREPROCESSING = {
    "width": SIDE,
    "height": SIDE,
    "channels": 3,
    "colour_order": "RGB",
    "layout": "NHWC",
    "scale": 1.0,
    "mean": [127.5] * 3,
    "std": [127.5] * 3,
}


def litert(data: bytes, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The runtime by itself, on a batch."""
    interpreter = Interpreter(model_content=data)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    if len(x) != 1:
        interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(given["index"]))


@pytest.mark.parametrize(
    ("data", "x"),
    [(colours_tflite(), normalised(PICTURES)), (pitches_tflite(), codes_of(BANDS))],
    ids=["float", "int8"],
)
def test_it_gives_what_the_runtime_gives_bit_for_bit(data: bytes, x: np.ndarray[Any, Any]) -> None:
    with pcmedge.DigitalDevice(data) as device:
        for count in (1, 5, len(x), 1):
            answer = device.infer(x[:count])
            expected = litert(data, x[:count])
            assert answer.dtype == expected.dtype
            np.testing.assert_array_equal(answer, expected)


def test_a_file_made_for_one_batch_size_computes_larger_ones_piece_by_piece() -> None:
    x = normalised(PICTURES[:6])
    one, two = colours_tflite(batch=1), colours_tflite(batch=2)
    with pcmedge.DigitalDevice(one) as device:
        assert device.model_spec().inputs[0].shape == (-1, SIDE, SIDE, 3)
        np.testing.assert_array_equal(device.infer(x), np.concatenate([litert(one, x[i : i + 1]) for i in range(6)]))
    with pcmedge.DigitalDevice(two) as device:
        assert device.infer(x).shape == (6, 3)
        with pytest.raises(InputShapeError, match="no multiple"):
            device.infer(x[:3])


def test_onnx_runs_as_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "colours.onnx"
    onnx.save(colours_onnx(), path)
    x = normalised(PICTURES)
    with pcmedge.DigitalDevice(path) as device:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(device.infer(x), session.run(None, {"picture": x})[0])
        assert device.identity().firmware_version.startswith("onnxruntime ")
        assert device.self_test().passed


def test_what_a_chip_refuses_it_refuses_too() -> None:
    with pcmedge.DigitalDevice(colours_tflite()) as device:
        spec = device.model_spec().inputs[0]
        with pytest.raises(InputValueError, match="finite"):
            device.infer(np.full((1, *spec.shape[1:]), np.nan, np.float32))


def test_it_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pitches v2.tflite"
    path.write_bytes(pitches_tflite())
    with pcmedge.DigitalDevice(path, labels=PITCHES) as device:
        identity = device.identity()
        assert (identity.technology, identity.emulated, identity.geometry.tiles) == ("digital", False, 0)
        assert identity.firmware_version.startswith("ai-edge-litert ")
        assert "infer" in identity.capabilities
        assert "program" not in identity.capabilities
        (model,) = device.models()
        assert (model.name, model.active, model.size_bytes) == ("pitches-v2", True, path.stat().st_size)
        spec = device.model_spec()
        assert [(t.name, t.datatype, t.shape) for t in spec.inputs] == [("bands", "INT8", (-1, 12))]
        manifest = device.manifest()
        assert manifest.model.inputs[0].quantization.zero_point == -64
        assert manifest.application.class_output == "probabilities"
        assert manifest.application.class_output_is_probability
        assert [entry.key for entry in manifest.application.signatures] == ["serving_default"]


def test_it_tells_the_configuration_that_tools_of_triton_ask_for() -> None:
    call = METHODS["ModelConfig"]

    def asked(name: str) -> Any:
        request = inference_pb2.ModelConfigRequest(name=name)
        return device._transport.unary(Call(method=call, request=request, timeout_s=None))

    with pcmedge.DigitalDevice(colours_tflite(), name="colours") as device:
        spec, config = device.model_spec(), asked("colours").config
        assert (config.name, config.platform) == ("colours", device.identity().firmware_version)
        for tensors, told in ((spec.inputs, config.input), (spec.outputs, config.output)):
            assert [(each.name, f"TYPE_{each.datatype}", each.shape[1:]) for each in tensors] == [
                (each.name, inference_pb2.DataType.Name(each.data_type), tuple(each.dims)) for each in told
            ]
        assert config.max_batch_size > 1
        with pytest.raises(ModelNotFoundError, match="it holds colours"):
            asked("shapes")


def test_classify_takes_pictures_as_a_chip_does() -> None:
    with pcmedge.DigitalDevice(colours_tflite(), labels=COLOURS, preprocessing=PREPROCESSING) as device:
        for picture, label in zip(PICTURES[:6], COLOUR, strict=False):
            (best, probability), *_ = device.classify(picture)
            assert best == COLOURS[label]
            assert probability == pytest.approx(float(litert(colours_tflite(), normalised(picture[None])).max()))
    with (
        pcmedge.DigitalDevice(colours_tflite()) as device,
        pytest.raises(InputError, match=r"DigitalDevice.*preprocessing"),
    ):
        device.classify(PICTURES[0])


def test_classify_gives_a_model_of_bytes_bytes() -> None:
    """A model that takes pixels as they are, uint8, and does the arithmetic of the preprocessing itself."""
    model = colours_onnx()
    graph = model.graph
    graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3]))
    half = numpy_helper.from_array(np.float32(127.5), "half")
    graph.initializer.append(half)
    steps = [("Cast", ["pixels"], "f"), ("Sub", ["f", "half"], "g"), ("Div", ["g", "half"], "picture")]
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps]
    nodes[0].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    preprocessing = {**PREPROCESSING, "mean": [], "std": []}
    with pcmedge.DigitalDevice(model.SerializeToString(), labels=COLOURS, preprocessing=preprocessing) as device:
        assert device.model_spec().inputs[0].datatype == "UINT8"
        for picture, label in zip(PICTURES[:6], COLOUR, strict=False):
            assert device.classify(picture, top_k=1)[0][0] == COLOURS[label]


def test_telemetry_counts_and_the_self_test_notices_other_answers() -> None:
    x = codes_of(BANDS)
    expected = litert(pitches_tflite(), x)
    with pcmedge.DigitalDevice(pitches_tflite(), reference=({"bands": x}, {"probabilities": expected})) as device:
        device.infer(x)
        with pytest.raises(InputTypeError):
            device.infer(BANDS)
        telemetry = device.telemetry()
        assert (telemetry.requests_served, telemetry.requests_failed) == (1, 1)
        assert telemetry.models[0].inferences == len(x)
        assert next(iter(device.watch_telemetry(interval_s=0.01))).sequence == 1
        assert device.self_test().passed
        assert device.self_test().reference_inputs == len(x)
    wrong = ({"bands": x}, {"probabilities": np.roll(expected, 1, axis=1)})
    with pcmedge.DigitalDevice(pitches_tflite(), reference=wrong) as device:
        found = device.self_test()
        assert (found.passed, found.agreement) == (False, 0.0)
        assert found.relative_error > 0.1


CHIP_ONLY: list[Callable[[Device], object]] = [
    lambda device: device.recalibrate(),
    lambda device: device.rollback(),
    lambda device: device.policy(),
    lambda device: device.program(b"anything"),
    lambda device: device.erase("model"),
    lambda device: device.read_tile(0),
    lambda device: device.events(),
    lambda device: device.calibration_buffer(),
    lambda device: device.acquire_lease("me"),
    lambda device: device.lab.advance("1d"),
    lambda device: device.lab.clock(),
]


@pytest.mark.parametrize("call", CHIP_ONLY)
def test_what_needs_a_chip_is_refused_by_name(call: Callable[[Device], object]) -> None:
    with pcmedge.DigitalDevice(pitches_tflite()) as device, pytest.raises(UnimplementedError, match="digitally"):
        call(device)


def scores_by(device: Device) -> tuple[np.ndarray[Any, Any], list[Any], list[Any]]:
    """The same client code for every device: single, streamed and wrong requests."""
    x = normalised(PICTURES)
    single = device.infer(x)
    streamed = list(device.infer_stream([x[:4], x[4:5], x[:0], x[5:]], errors="yield"))
    refusals: list[Any] = []
    for wrong, model in ((x[:, :4], None), (x.astype(np.int32), None), ({"nothing": x}, None), (x, "another")):
        with pytest.raises(Error) as caught:
            device.infer(wrong, model=model)
        refusals.append(type(caught.value))
    return single, streamed, refusals


def test_the_same_client_code_runs_on_an_emulator_a_served_one_and_digitally() -> None:
    image = pcmedge.compile(colours_onnx(), calibration=normalised(PICTURES), name="colours")
    with (
        pcmedge.DigitalDevice(colours_tflite()) as digital,
        pcmedge.Emulator(image, clock="manual", seed=1) as emulator,
        served(image, seed=1) as server,
        pcmedge.connect(server.address) as far,
    ):
        digital_scores, digital_stream, digital_refusals = scores_by(digital)
        for device in (emulator, far):
            scores, stream, refusals = scores_by(device)
            np.testing.assert_array_equal(scores.argmax(axis=1), digital_scores.argmax(axis=1))
            assert [type(item) for item in stream] == [type(item) for item in digital_stream]
            assert isinstance(stream[2], InputShapeError)
            assert refusals == digital_refusals
        np.testing.assert_array_equal(digital_scores.argmax(axis=1), COLOUR)
        assert digital_refusals[-1] is ModelNotFoundError


def test_the_awaiting_twin_and_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "colours.tflite"
    path.write_bytes(colours_tflite())
    x = normalised(PICTURES[:3])
    expected = litert(colours_tflite(), x)

    async def ask() -> list[np.ndarray[Any, Any]]:
        async with (
            await pcmedge.AsyncDigitalDevice(path) as one,
            await pcmedge.connect_async(f"digital://{path}") as two,
        ):
            return [await one.infer(x), await two.infer(x)]

    for answer in asyncio.run(ask()):
        np.testing.assert_array_equal(answer, expected)
    monkeypatch.setenv("PCMEDGE_DEVICE", f"digital://{path}")
    with pcmedge.connect() as device:
        np.testing.assert_array_equal(device.infer(x), expected)
    with pytest.raises(UnavailableError, match="closed"):
        device.infer(x)
    with pytest.raises(InputValueError, match="digital:///"):
        pcmedge.connect("digital://")


def reshaping(dimensions: list[int | str], target: list[int]) -> bytes:
    nodes = [helper.make_node("Reshape", ["x", "target"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dimensions)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.array(target), "target")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def external() -> bytes:
    model = onnx.load_model_from_string(colours_onnx().SerializeToString())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        ("missing.tflite", FileMissingError, "missing.tflite"),
        (3, InputTypeError, "path or its bytes"),
        (b"", InputValueError, "no inputs"),
        (b"not a model at all", InputValueError, "neither"),
        (b"\0\0\0\0TFL3", InputValueError, "cut off"),
        (b"\x89PCMI\r\n\x1a" + bytes(200), InputValueError, "chip image"),
        (colours_tflite()[:200], InputValueError, "damaged"),
        (colours_tflite().replace(b"picture", b"pict\xffre"), InputValueError, "ai-edge-litert"),
        (reshaping([], [1, 1]), InputValueError, "batch"),
        (external(), CompileError, "external"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, error: type[Error], says: str, tmp_path: Path) -> None:
    given = tmp_path / model if isinstance(model, str) else model
    with pytest.raises(error, match=says):
        pcmedge.DigitalDevice(given)


@pytest.mark.parametrize(("name", "made"), [("colours", colours_tflite()), ("pitches", pitches_tflite())])
def test_the_committed_files_are_the_written_models(name: str, made: bytes) -> None:
    """tests_tflite_runtime cannot write models: the schema comes with LiteRT."""
    kept = (Path(__file__).parent.parent / "tests_tflite_runtime" / "models" / f"{name}.tflite").read_bytes()
    x = normalised(PICTURES) if name == "colours" else codes_of(BANDS)
    np.testing.assert_array_equal(litert(kept, x), litert(made, x))


def test_commands_take_a_digital_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "colours.tflite"
    path.write_bytes(colours_tflite())
    np.save(tmp_path / "x.npy", normalised(PICTURES[:2]))
    url = ("--device", f"digital://{path}")
    found = run(capsys, "infer", "--input", tmp_path / "x.npy", *url, "--json")
    assert found.code == 0
    assert found.document["model"] == "colours"
    assert run(capsys, "benchmark", "--calls", "2", "--batch", "1,2", *url, "--json").code == 0
    images = run(capsys, "images", *url, "--json").document["models"]
    assert [(image["name"], image["tiles"]) for image in images] == [("colours", 0)]
    assert run(capsys, "self-test", *url, "--json").document["passed"]
    assert "no tiles" in run(capsys, "devices", f"digital://{path}").out
    refused = run(capsys, "recalibrate", *url, "--json")
    assert refused.code == UnimplementedError.exit_code
    doctor = run(capsys, "doctor", *url, "--json").document
    checks = {check["name"]: check for check in doctor["checks"]}
    assert checks["TFLite runtime"]["found"].startswith("ai-edge-litert ")
    assert checks["tflite-runtime"]["status"] == "ok"


def test_opening_a_tflite_file_writes_nothing_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "colours.tflite").write_bytes(colours_tflite())
    code = (
        "import os, sys, pcmedge\n"
        "for name in (1, 2):\n"
        "    with pcmedge.DigitalDevice(sys.argv[1]) as device:\n"
        "        print(device.self_test().passed)\n"
        "os.write(2, b'still there')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "colours.tflite")], capture_output=True, text=True, check=True
    )
    assert (found.stdout.split(), found.stderr) == (["True", "True"], "still there")


def test_what_others_write_to_stderr_meanwhile_is_passed_on() -> None:
    code = (
        "import os\n"
        "from pcmedge.digital.greeting import without_greeting\n"
        "lines = (b'before\\n', b'INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n', b'INFO: other\\n')\n"
        "for _ in range(2):\n"
        "    with without_greeting():\n"
        "        [os.write(2, line) for line in lines]\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first = "before\nINFO: other\n"
    # It greets once, so only the first time is it looked for.
    assert found.stderr == first + "before\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nINFO: other\n"
