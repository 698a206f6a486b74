"""pcmedge.tflite.Interpreter beside TFLite's own: same calls, same details, same kinds of errors, answers of a chip."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pcmedge.tflite as tflite
import pytest
from ai_edge_litert.interpreter import Interpreter as Litert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from interpreter_models import (
    BANDS,
    codes_of,
    colours_onnx,
    colours_tflite,
    normalised,
    pictures,
    pitches_onnx,
    pitches_tflite,
    tones,
)
from pcmedge import errors
from pcmedge.image import ChipImage
from pcmedge.tflite import Interpreter
from pcmedge.tflite.errors import also
from service_devices import served

PICTURES, COLOUR = pictures()
TONES, PITCH = tones()
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def colours() -> bytes:
    return pcmedge.compile(colours_onnx(), calibration=normalised(PICTURES), name="colours").to_bytes()


@pytest.fixture(scope="module")
def pitches() -> bytes:
    return pcmedge.compile(pitches_onnx(), calibration=TONES, name="pitches").to_bytes()


@pytest.fixture(scope="module")
def shared(pitches: bytes) -> Iterator[Interpreter]:
    """One interpreter for tests that leave it as it was."""
    with Interpreter(model_content=pitches, physics="ideal") as interpreter:
        interpreter.allocate_tensors()
        yield interpreter


def test_details_are_those_of_tflite(colours: bytes, pitches: bytes) -> None:
    for image, model in ((colours, colours_tflite()), (pitches, pitches_tflite())):
        ours, theirs = Interpreter(model_content=image), Litert(model_content=model)
        for side in ("get_input_details", "get_output_details"):
            (mine,), (other,) = getattr(ours, side)(), getattr(theirs, side)()
            assert list(mine) == list(other)
            for key in ("name", "dtype", "quantization", "sparsity_parameters"):
                assert mine[key] == other[key], key
            for key in ("shape", "shape_signature"):
                np.testing.assert_array_equal(mine[key], other[key])
                assert mine[key].dtype == other[key].dtype
            for key, value in mine["quantization_parameters"].items():
                np.testing.assert_array_equal(value, other["quantization_parameters"][key])
                assert type(value) is type(other["quantization_parameters"][key])
        assert [detail["name"] for detail in ours.get_tensor_details()] == [
            ours.get_input_details()[0]["name"],
            ours.get_output_details()[0]["name"],
        ]
        ours.close()


def test_an_unknown_option_names_the_interpreter_and_what_it_takes(colours: bytes) -> None:
    with pytest.raises(TypeError, match=r"Interpreter has no option 'profil'. Did you mean profile\?") as refused:
        Interpreter(model_content=colours, profil="pcm-512x512")
    assert isinstance(refused.value, errors.InputTypeError)
    for known in ("calibration", "cache", "num_threads", "scaling"):
        assert known in str(refused.value)


def test_signatures_are_those_of_tflite(colours: bytes, pitches: bytes) -> None:
    with Interpreter(model_content=colours) as ours:
        assert ours.get_signature_list() == Litert(model_content=colours_tflite()).get_signature_list() == {}
        with pytest.raises(ValueError, match="0 signatures"):
            ours.get_signature_runner()
    theirs = Litert(model_content=pitches_tflite())
    with Interpreter(model_content=pitches, physics="ideal") as ours:
        assert ours.get_signature_list() == theirs.get_signature_list()
        runner, other = ours.get_signature_runner(), theirs.get_signature_runner("serving_default")
        answer = runner(features=codes_of(TONES))
        expected = other(features=codes_of(TONES))
        assert answer.keys() == expected.keys()
        assert answer["scores"].dtype == expected["scores"].dtype
        assert np.abs(answer["scores"].astype(int) - expected["scores"]).max() <= 12
        assert runner.get_input_details().keys() == other.get_input_details().keys()
        assert runner.get_output_details()["scores"]["quantization"] == (1 / 256, -128)
        for wrong in ({}, {"audio": codes_of(TONES)}, {"features": TONES}, {"features": codes_of(TONES)[:, :3]}):
            with pytest.raises(ValueError):  # noqa: PT011 - the kind is TFLite's, the words are ours
                runner(**wrong)
        with pytest.raises(errors.InputValueError):
            ours.get_signature_runner("another")


def run(interpreter: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What every TFLite program does."""
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    if tuple(taken["shape"]) != x.shape:
        interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(given["index"]))


def test_the_same_answers_as_tflite_without_analog_effects(colours: bytes, pitches: bytes) -> None:
    x = normalised(PICTURES)
    with Interpreter(model_content=colours, physics="ideal") as ours:
        np.testing.assert_allclose(run(ours, x), run(Litert(model_content=colours_tflite()), x), atol=0.03)
        np.testing.assert_allclose(run(ours, x[:1]), run(Litert(model_content=colours_tflite()), x[:1]), atol=0.03)
    with Interpreter(model_content=pitches, physics="ideal") as ours:
        mine, other = run(ours, codes_of(TONES)), run(Litert(model_content=pitches_tflite()), codes_of(TONES))
        assert mine.dtype == other.dtype == np.int8
        np.testing.assert_array_equal(mine.argmax(axis=1), PITCH)
        np.testing.assert_array_equal(other.argmax(axis=1), PITCH)


def test_a_chip_with_drift_and_noise_is_underneath(pitches: bytes) -> None:
    with Interpreter(model_content=pitches, seed=5) as one, Interpreter(model_content=pitches, seed=5) as same:
        assert one.result is None
        np.testing.assert_array_equal(run(one, codes_of(TONES)), run(same, codes_of(TONES)))
        assert one.result is not None
        assert one.result.noise
        assert one.device.identity().technology == "pcm-90nm"
        np.testing.assert_array_equal(one.get_tensor(1).argmax(axis=1), PITCH)


def test_views_are_the_tensors_own_memory(pitches: bytes) -> None:
    with Interpreter(model_content=pitches, physics="ideal") as interpreter:
        taken, given = interpreter.tensor(0), interpreter.tensor(1)
        with pytest.raises(ValueError, match="allocate_tensors"):
            taken()
        interpreter.allocate_tensors()
        for index in range(3):
            taken()[:] = codes_of(TONES)[index : index + 1]
            interpreter.invoke()
            assert given().argmax() == PITCH[index]
        copy = interpreter.get_tensor(1)
        taken()[:] = codes_of(TONES)[:1]
        interpreter.invoke()
        assert given().argmax() != copy.argmax()
        interpreter.reset_all_variables()
        np.testing.assert_array_equal(interpreter.get_tensor(0), codes_of(TONES)[:1])


def test_resizing_needs_allocating_and_only_the_batch_can_change(pitches: bytes) -> None:
    with Interpreter(model_content=pitches, physics="ideal") as interpreter:
        interpreter.allocate_tensors()
        interpreter.resize_tensor_input(0, [5, BANDS], strict=True)
        assert list(interpreter.get_input_details()[0]["shape"]) == [5, BANDS]
        with pytest.raises(RuntimeError, match="allocate_tensors"):
            interpreter.invoke()
        interpreter.allocate_tensors()
        assert list(interpreter.get_output_details()[0]["shape"]) == [5, 3]
        for wrong in ([5], [5, BANDS + 1], [0, BANDS], [-1, BANDS], [5, BANDS, 1], "five", [[5.5]]):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - the kind is TFLite's, the words are ours
                interpreter.resize_tensor_input(0, wrong)
            assert isinstance(caught.value, errors.InputShapeError | errors.InputTypeError)
        with pytest.raises(ValueError, match="output"):
            interpreter.resize_tensor_input(1, [5, 3])


ERRORS: dict[str, Callable[[Any], object]] = {
    "invoke before allocating": lambda i: i.invoke(),
    "get before allocating": lambda i: i.get_tensor(i.get_output_details()[0]["index"]),
    "set before allocating": lambda i: i.set_tensor(i.get_input_details()[0]["index"], codes_of(TONES)[:1]),
    "wrong dtype": lambda i: (i.allocate_tensors(), i.set_tensor(i.get_input_details()[0]["index"], TONES[:1])),
    "wrong rank": lambda i: (i.allocate_tensors(), i.set_tensor(i.get_input_details()[0]["index"], codes_of(TONES)[0])),
    "wrong batch": lambda i: (i.allocate_tensors(), i.set_tensor(i.get_input_details()[0]["index"], codes_of(TONES))),
    "a list": lambda i: (i.allocate_tensors(), i.set_tensor(i.get_input_details()[0]["index"], [[0] * BANDS])),
    "index too large": lambda i: (i.allocate_tensors(), i.get_tensor(999)),
    "index below 0": lambda i: (i.allocate_tensors(), i.get_tensor(-1)),
    "set an unknown index": lambda i: (i.allocate_tensors(), i.set_tensor(999, codes_of(TONES)[:1])),
    "unknown signature": lambda i: i.get_signature_runner("nothing"),
    "unknown subgraph": lambda i: i.get_tensor_details(7),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_tflites_kind_and_typed(name: str, pitches: bytes) -> None:
    kinds = []
    with Interpreter(model_content=pitches, physics="ideal") as ours:
        for interpreter in (ours, Litert(model_content=pitches_tflite())):
            with pytest.raises((ValueError, RuntimeError)) as caught:
                ERRORS[name](interpreter)
            kinds.append(type(caught.value))
    mine, theirs = kinds
    assert issubclass(mine, theirs)
    assert issubclass(mine, errors.Error)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=hnp.arrays(
        dtype=st.sampled_from([np.int8, np.uint8, np.int16, np.float32, np.float64, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=13) | st.just((1, BANDS)),
        fill=st.just(0),
    )
)
def test_set_tensor_takes_exactly_its_dtype_and_shape(value: np.ndarray[Any, Any], shared: Interpreter) -> None:
    before = shared.get_tensor(0)
    if value.dtype == np.int8 and value.shape == (1, BANDS):
        shared.set_tensor(0, value)
        np.testing.assert_array_equal(shared.get_tensor(0), value)
        return
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the kind is TFLite's, the words are ours
        shared.set_tensor(0, value)
    expected = errors.InputTypeError if value.dtype != np.int8 else errors.InputShapeError
    assert isinstance(caught.value, expected)
    np.testing.assert_array_equal(shared.get_tensor(0), before)


@given(st.one_of(st.integers().filter(lambda n: n not in (0, 1)), st.text(max_size=3), st.none(), st.just([0, 1])))
def test_only_indices_of_the_details_name_a_tensor(shared: Interpreter, index: Any) -> None:
    for call in (shared.get_tensor, shared.tensor, lambda n: shared.set_tensor(n, np.zeros((1, BANDS), np.int8))):
        with pytest.raises(errors.InputValueError) as caught:
            call(index)
        assert isinstance(caught.value, ValueError)


ARGUMENTS: list[tuple[dict[str, Any], type[errors.Error]]] = [
    ({}, errors.InputValueError),
    ({"model_path": "a.pcmi", "model_content": b"b"}, errors.InputValueError),
    ({"model_path": "/nowhere/model.pcmi"}, errors.FileMissingError),
    ({"model_content": b"neither a model nor an image"}, errors.InputValueError),
    ({"model_content": b"\x89PCMI\r\n\x1a damaged"}, errors.ImageCorruptError),
    ({"model_content": 5}, errors.InputTypeError),
    ({"model_path": 5}, errors.InputTypeError),
    ({"model_content": colours_tflite()}, errors.CalibrationError),
    ({"model_path": "m", "num_threads": 0}, errors.InputValueError),
    ({"model_path": "m", "num_threads": "2"}, errors.InputTypeError),
    ({"model_path": "m", "experimental_delegates": [object()]}, errors.UnimplementedError),
    ({"model_path": "m", "experimental_preserve_all_tensors": True}, errors.UnimplementedError),
    ({"model_path": "m", "device": 5}, errors.InputTypeError),
    ({"model_path": "m", "device": "gopher://x"}, errors.InputValueError),
    ({"model_path": "m", "device": "grpc://127.0.0.1:1", "physics": "ideal"}, errors.InputValueError),
]


@pytest.mark.parametrize(("arguments", "error"), ARGUMENTS)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], error: type[errors.Error]) -> None:
    with pytest.raises(error) as caught:
        Interpreter(**arguments)
    assert isinstance(caught.value, ValueError)


def test_arguments_of_compiling_do_not_go_with_a_compiled_image(pitches: bytes) -> None:
    for options in ({"calibration": TONES}, {"profile": "pcm-512x512"}):
        with pytest.raises(errors.InputValueError, match="has been compiled"):
            Interpreter(model_content=pitches, **options)


def test_arguments_without_a_meaning_here_are_accepted(pitches: bytes) -> None:
    with Interpreter(
        None,
        pitches,
        [],
        2,
        tflite.OpResolverType.BUILTIN_REF,
        experimental_disable_delegate_clustering=True,
        experimental_default_delegate_latest_features=True,
    ) as interpreter:
        assert interpreter.num_threads == 2
        assert interpreter.num_subgraphs() == 1
    with pytest.raises(ValueError, match="delegate"):
        tflite.load_delegate("libedgetpu.so.1")


def test_a_device_elsewhere_is_programmed_once(pitches: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pitches.pcmi"
    ChipImage.from_bytes(pitches).save(path)
    profile = ChipImage.from_bytes(pitches).manifest.profile
    with served(profile=profile, seed=2) as server, pcmedge.connect(server.address) as device:
        with Interpreter(path, device=server.address) as interpreter:
            run(interpreter, codes_of(TONES))
        (model,) = device.models()
        assert model.program_generation == 1
        monkeypatch.setenv("PCMEDGE_DEVICE", server.address)
        again = Interpreter(str(path))
        np.testing.assert_array_equal(run(again, codes_of(TONES)).argmax(axis=1), PITCH)
        handed = Interpreter(path, device=device)
        handed.close()
        handed.allocate_tensors()
        assert device.models()[0].program_generation == 1
        device.deactivate("pitches")
        with pytest.raises(RuntimeError) as caught:
            again.invoke()
        assert isinstance(caught.value, errors.NotProgrammedError | errors.ModelNotFoundError)
        again.close()
    with pytest.raises(RuntimeError) as gone:
        handed.invoke()
    assert isinstance(gone.value, errors.UnavailableError)


def test_a_digital_device_runs_what_it_holds_bit_for_bit() -> None:
    model = pitches_tflite()
    with pcmedge.DigitalDevice(model) as device:
        for arguments in ({}, {"model_content": model}):
            ours = Interpreter(**arguments, device=device)
            np.testing.assert_array_equal(run(ours, codes_of(TONES)), run(Litert(model_content=model), codes_of(TONES)))
        assert ours.get_signature_list() == Litert(model_content=model).get_signature_list()
        with pytest.raises(errors.InputValueError, match="another model"):
            Interpreter(model_content=colours_tflite(), device=device)


def test_a_forgotten_interpreter_closes_its_emulator(pitches: bytes) -> None:
    interpreter = Interpreter(model_content=pitches)
    device = interpreter.device
    del interpreter
    gc.collect()
    with pytest.raises(errors.UnavailableError, match="closed"):
        device.identity()


def test_an_error_of_two_kinds_survives_pickling_and_does_not_stand_for_its_reason() -> None:
    error = also(errors.InputShapeError("wrong", tensor="x"), ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, errors.InputShapeError)
    assert isinstance(copy, ValueError)
    assert (copy.message, copy.metadata) == ("wrong", {"tensor": "x"})
    assert type(errors.error_from_reason("INPUT_SHAPE", "from a device")) is errors.InputShapeError


def test_the_base_install_imports_it() -> None:
    heavy = {"onnx", "onnxruntime", "ai_edge_litert", "torch", "pyarrow"}
    code = f"import sys, pcmedge.tflite; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
