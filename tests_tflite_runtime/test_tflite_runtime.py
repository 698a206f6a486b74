"""On tflite-runtime 2.14, with NumPy 1: digital devices are the runtime bit for bit, the Interpreter is its twin."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from pcmedge.demo import compile_digits, load_digits
from pcmedge.errors import Error, InputShapeError, InputTypeError, InputValueError, UnimplementedError
from pcmedge.tflite import Interpreter
from tflite_runtime.interpreter import Interpreter as Runtime

MODELS = Path(__file__).parent / "models"
NAMES = ("colours", "pitches")
"""Written by tests/interpreter_models.py; tests/test_digital_device.py looks whether they still are."""


def samples(name: str, count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    if name == "colours":
        return rng.uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)
    return rng.integers(-64, 64, (count, 12), dtype=np.int8)


def run(interpreter: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(given["index"]))


def test_this_is_the_environment_meant() -> None:
    assert metadata.version("tflite-runtime") == "2.14.0"
    assert np.__version__.startswith("1.")
    assert "ai-edge-litert" not in {found.metadata["Name"] for found in metadata.distributions()}


@pytest.mark.parametrize("name", NAMES)
def test_digital_devices_are_the_runtime_bit_for_bit(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    with pcmedge.DigitalDevice(path) as device:
        assert device.identity().firmware_version == "tflite-runtime 2.14.0"
        assert device.self_test().passed
        for count in (1, 4, 1):
            x = samples(name, count)
            np.testing.assert_array_equal(device.infer(x), run(Runtime(str(path)), x))
        with pytest.raises(UnimplementedError, match="digitally"):
            device.recalibrate()


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_gives_its_details_and_errors(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    with Interpreter(path, device=f"digital://{path}") as ours:
        theirs = Runtime(str(path))
        np.testing.assert_array_equal(run(ours, samples(name, 3)), run(theirs, samples(name, 3)))
        assert ours.get_signature_list() == theirs.get_signature_list()
        for side in ("get_input_details", "get_output_details"):
            (mine,), (other,) = getattr(ours, side)(), getattr(theirs, side)()
            assert mine.keys() == other.keys()
            assert mine["quantization_parameters"].keys() == other["quantization_parameters"].keys()
            for key in ("name", "dtype", "quantization"):
                assert mine[key] == other[key]
        index, last = theirs.get_input_details()[0]["index"], samples(name, 3)
        for wrong in (last[:1], last.astype(np.float64), last[0]):
            for interpreter, taken in ((theirs, index), (ours, 0)):
                with pytest.raises(ValueError) as caught:  # noqa: PT011 - the kind is TFLite's, the words are ours
                    interpreter.set_tensor(taken, wrong)
            assert isinstance(caught.value, InputShapeError | InputTypeError)


def test_an_emulated_chip_runs_beside_it() -> None:
    digits = load_digits().test
    with Interpreter(model_content=compile_digits().to_bytes(), seed=1) as interpreter:
        answers = run(interpreter, digits.tensors[:50])
        assert (answers.argmax(axis=1) == digits.labels[:50]).mean() > 0.9


@pytest.mark.parametrize("model", [b"\0\0\0\0TFL3", b"nothing", (MODELS / "colours.tflite").read_bytes()[:24]])
def test_what_is_no_model_is_refused(model: bytes) -> None:
    with pytest.raises(Error) as caught:
        pcmedge.DigitalDevice(model)
    assert isinstance(caught.value, InputValueError)
