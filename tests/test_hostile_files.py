"""A short campaign of hostile model files: each is refused by a typed error or gives a right result.

The long one is ``python -m tests.hostile`` (docs/results/hostile.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pcmedge
import pytest
from ai_edge_litert import schema_py_generated as schema
from hostile import campaign, corpus, mutants, onnx_corpus
from onnx import TensorProto, helper, numpy_helper
from pcmedge.errors import CompileError, ImageCorruptError, InputValueError

LIMITS = campaign.Limits(file_s=60.0, start_s=120.0, batch=200)
SEED = 20
FILES = {"tflite": 150, "litert": 200, "onnx": 200, "onnxruntime": 200, "pcmi": 200}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    corpus.write(folder)
    return folder


@pytest.mark.parametrize("format", FILES)
def test_mutants_are_refused_or_right(place: Path, format: str):
    outcome = campaign.run(format, place, seed=SEED, start=0, stop=FILES[format], limits=LIMITS)
    assert outcome.findings == []
    assert outcome.files == FILES[format]
    # Mutants that were all refused at the first check would prove nothing.
    assert outcome.counts["refused"] > outcome.files / 2
    assert outcome.counts["right"] > outcome.files / 40


def test_a_process_that_does_not_answer_is_counted_and_followed_by_another(place: Path):
    limits = campaign.Limits(file_s=0.0, start_s=0.0)
    outcome = campaign.run("pcmi", place, seed=SEED, start=0, stop=3, limits=limits)
    assert [(finding.index, finding.outcome) for finding in outcome.findings] == [(0, "hang"), (1, "hang"), (2, "hang")]


def test_mutants_are_reproducible(place: Path):
    files = corpus.read(place, "onnx")
    one, other = (mutants.mutant("onnx", files, SEED, 17) for _ in range(2))
    assert one == other
    assert one.data != mutants.mutant("onnx", files, SEED + 1, 17).data


def endless_loop() -> onnx.ModelProto:
    """A loop without a limit on its turns, whose condition stays true."""
    model = onnx_corpus.control_flow()
    model.graph.node[3].input[0] = ""
    return model


def with_constant(model: onnx.ModelProto, name: str, values: object) -> onnx.ModelProto:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(values, np.int64), name))
    return model


def shadowed(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.initializer[0].dims[0] = 7
    return model


def other_equation(equation: str) -> onnx.ModelProto:
    model = onnx_corpus.attention()
    model.graph.node[3].attribute[0].s = equation.encode()
    return model


SAMPLES = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)
TOO_MUCH = {
    "filled": (with_constant(onnx_corpus.shapes(), "two", [2**40]), "asks for too much"),
    "counted": (with_constant(onnx_corpus.shapes(), "stop", 2**40), "asks for too much"),
    "tiled": (with_constant(onnx_corpus.shapes(), "repeats", [1, 2**40]), "asks for too much"),
    "padded": (with_constant(onnx_corpus.shapes(), "pads", [0, 1, 0, 2**40]), "asks for too much"),
    "looped": (with_constant(onnx_corpus.control_flow(), "trips", 2**60), "runs 1152921504606846976 times"),
    "no turns": (with_constant(onnx_corpus.control_flow(), "trips", []), "which has 0 values instead of one"),
    "equation of anything": (other_equation("\0\0@nsd"), "has the equation"),
    "equation of three": (other_equation("nsk,kd,d->nsd"), "of 2 operands has the equation"),
    "contents do not fit": (shadowed(onnx_corpus.perceptron()), "is damaged: tensor 'w0' cannot be read"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_what_a_model_asks_for_is_bounded(case: str):
    model, message = TOO_MUCH[case]
    with pytest.raises(CompileError, match=message):
        pcmedge.compile(model, calibration=SAMPLES)


def test_a_digital_device_bounds_it_as_well():
    model, message = TOO_MUCH["tiled"]
    with pytest.raises(InputValueError, match=message):
        pcmedge.DigitalDevice(model.SerializeToString())


def test_a_loop_without_end_is_broken_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pcmedge.image.bounds.LOOP_SECONDS", 0.5)
    with pytest.raises(CompileError, match="float model failed"):
        pcmedge.compile(endless_loop(), calibration=SAMPLES[:, :4])


def test_inputs_too_large_for_any_tensor():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2**33])
    model = onnx_corpus.perceptron()
    model.graph.input[0].CopyFrom(value)
    with pytest.raises(CompileError, match="asks for too much"):
        pcmedge.compile(model, calibration=SAMPLES)


def test_the_program_of_an_image_is_bounded(place: Path):
    from image_parts import seal
    from pcmedge.image import ChipImage

    image = ChipImage.from_bytes(corpus.read(place, "pcmi")["recurrent"])
    program = with_constant(onnx.load_from_string(image.program()), "shape", [2**40, 6])
    program.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["filled"], "fill"))
    sealed = ChipImage.from_bytes(seal(image, contents={"program": program.SerializeToString()}))
    with pytest.raises(ImageCorruptError) as caught:
        sealed.verify()
    assert caught.value.metadata["check"] == "program-bounds"


def test_a_layer_that_is_given_more_than_its_rows(place: Path):
    """The nodes and the layers of the image fit each other; only what flows between them does not."""
    from image_parts import seal
    from pcmedge.image import ChipImage
    from pcmedge_emulator.engine.program import ChipProgram

    image = ChipImage.from_bytes(corpus.read(place, "pcmi")["bias-row-v1"])
    program = onnx.load_from_string(image.program())
    flatten = next(node for node in program.graph.node if node.op_type == "Flatten")
    flatten.input[0] = "x"
    sealed = ChipImage.from_bytes(seal(image, contents={"program": program.SerializeToString()}))
    sealed.verify()
    with pytest.raises(ImageCorruptError, match="is given 32 values, its block takes 8"):
        ChipProgram.from_image(sealed)


def rewritten(place: Path, change: Callable[[Any], None]) -> bytes:
    """A small int8 TFLite model whose tables were changed before they were written."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(corpus.read(place, "tflite")["mlp-int8"]), 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def absent_operand(model: Any) -> None:
    model.subgraphs[0].operators[1].inputs = [-1]


def other_operator(model: Any) -> None:
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.LOGISTIC:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.STRIDED_SLICE


def no_scales(model: Any) -> None:
    model.subgraphs[0].tensors[3].quantization.scale = []


@pytest.mark.parametrize(
    ("change", "message"),
    [(absent_operand, "operands, expected"), (other_operator, "operands, expected 4"), (no_scales, "without scales")],
)
def test_what_litert_takes_for_granted_is_checked_first(place: Path, change: Callable[[Any], None], message: str):
    with pytest.raises(InputValueError, match=message):
        pcmedge.DigitalDevice(rewritten(place, change))
