"""Damaged, odd and unsupported .tflite files: one typed error each, and never anything else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from compiler_models import ideal_chip
from pcmedge.compiler import compile
from pcmedge.errors import CalibrationError, CompileError, FileMissingError, UnsupportedOperatorError
from pcmedge.frontends import tflite as frontend
from tflite_models import Layers, detector, inputs_of, mlp, recurrent, residual, squeeze_excite
from tflite_writer import RELU, Array, Constant, Net, runtime_outputs


def loaded(model: bytes, path: Path) -> Any:
    file = path / "model.tflite"
    file.write_bytes(model)
    return frontend.load(file)


def edited(model: bytes, change: Callable[[Any], None]) -> bytes:
    """The model with its tables changed."""
    tables = schema.ModelT.InitFromPackedBuf(model, 0)
    change(tables)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tables.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"missing\.tflite"):
        frontend.load(tmp_path / "missing.tflite")
    for content in (
        b"",
        b"TFL3",
        bytes(100),
        b"\x1c\x00\x00\x00TFL3" + bytes(100),
        b"\xff\xff\xff\xffTFL3" + bytes(100),
    ):
        with pytest.raises(CompileError, match="damaged"):
            loaded(content, tmp_path)


@pytest.mark.parametrize("model", [mlp(), recurrent(), detector()], ids=["mlp", "recurrent", "detector"])
def test_a_truncated_file_is_damaged(model: Net, tmp_path: Path) -> None:
    whole = model.to_bytes()
    # FlatBuffers are built backwards: the root lies in front, so every cut takes away something that is needed.
    for size in np.linspace(0, len(whole) - 64, 40).astype(int):
        with pytest.raises(CompileError):
            loaded(whole[:size], tmp_path)


def test_mutated_files_load_or_say_what_is_wrong(tmp_path: Path) -> None:
    quantised = squeeze_excite()
    models = [
        mlp().to_bytes(),
        recurrent().to_bytes(),
        detector().to_bytes(),
        quantised.quantised(inputs_of(quantised)),
    ]
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(rng.choice(models))
        for _ in range(rng.randint(1, 5)):
            position = rng.randrange(len(damaged) - 4)
            if rng.random() < 0.7:
                damaged[position] = rng.randrange(256)
            else:
                damaged[position : position + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
        try:
            loaded(bytes(damaged), tmp_path)
        except CompileError:
            refused += 1
    assert refused > 100


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a cycle": (lambda m: m.subgraphs[0].operators.reverse(), "before it is computed"),
    "an index beyond the tensors": (
        lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [999, 1, 2]),
        "tensor 999 of",
    ),
    "a negative index": (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [-2, 1, 2]), "tensor -2 of"),
    "an operator code beyond the table": (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 77), "77"),
    "a result written twice": (
        lambda m: setattr(m.subgraphs[0].operators[1], "outputs", m.subgraphs[0].operators[0].outputs),
        "has a value already",
    ),
    "a constant that is too short": (lambda m: setattr(m.buffers[1], "data", m.buffers[1].data[:-4]), "needs .* bytes"),
    "weights that are not finite": (
        lambda m: setattr(m.buffers[1], "data", np.full(len(m.buffers[1].data), 255, np.uint8)),
        "not finite",
    ),
    "a huge shape": (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, 2**30]), "at most"),
    "a shape that does not follow": (lambda m: setattr(m.subgraphs[0].tensors[3], "shape", [1, 21]), r"\[?.*21"),
    "two subgraphs": (lambda m: m.subgraphs.append(m.subgraphs[0]), "one subgraph"),
    "no outputs": (lambda m: setattr(m.subgraphs[0], "outputs", []), "no inputs or no outputs"),
    "an input twice": (lambda m: setattr(m.subgraphs[0], "inputs", [0, 0]), "twice"),
    "options of another operator": (
        lambda m: setattr(m.subgraphs[0].operators[0], "builtinOptionsType", schema.BuiltinOptions.AddOptions),
        "FullyConnectedOptions",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_contradicts_itself(change: str, tmp_path: Path) -> None:
    alter, message = CHANGES[change]
    if change == "options of another operator":
        # The object API packs the options by their type: give it ones that fit.
        def alter(model: Any) -> None:
            operator = model.subgraphs[0].operators[0]
            operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
            operator.builtinOptions = schema.AddOptionsT()

    with pytest.raises(CompileError, match=message):
        loaded(edited(mlp().to_bytes(), alter), tmp_path)


def test_every_operator_without_conversion_is_named_at_once(tmp_path: Path) -> None:
    make = Layers()
    x = make.dense(make.net.input(1, 6), 6, 4)
    x = make.net.op("SIN", [x], name="wave")
    x = make.dense(x, 4, 4)
    x = make.net.op("FLOOR", [x], name="steps")
    with pytest.raises(UnsupportedOperatorError) as caught:
        loaded(make.net.finish(make.dense(x, 4, 2)).to_bytes(), tmp_path)
    assert caught.value.metadata["count"] == "2"
    assert caught.value.metadata["operators"] == "SIN, FLOOR"
    assert "wave" in caught.value.message
    assert "steps" in caught.value.message


def test_sixteen_bit_activations_are_refused(tmp_path: Path) -> None:
    net = residual()
    model = net.quantised(inputs_of(net))

    def widen(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.type == schema.TensorType.INT8 and tensor.buffer == 0:
                tensor.type = schema.TensorType.INT16

    with pytest.raises(CompileError, match="int16"):
        loaded(edited(model, widen), tmp_path)


def compiled_and_expected(model: bytes, inputs: list[Array], path: Path) -> tuple[Array, Array]:
    file = path / "model.tflite"
    file.write_bytes(model)
    image = compile(file, calibration=inputs[0], scaling="column", reference=2)
    found = ideal_chip(image, {"input_0": inputs[0]})
    return next(iter(found.values())), next(iter(runtime_outputs(model, inputs).values()))


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    make = Layers()
    source = make.net.input(1, 6)
    halves = make.weights(5, 6, fan_in=6).astype(np.float16)
    weights = make.net.op("DEQUANTIZE", [Constant(halves)], "DequantizeOptions")
    hidden = make.net.op("FULLY_CONNECTED", [source, weights, make.bias(5)], "FullyConnectedOptions",
                         fusedActivationFunction=RELU)  # fmt: skip
    net = make.net.finish(make.dense(hidden, 5, 3))
    found, expected = compiled_and_expected(net.to_bytes(), inputs_of(net), tmp_path)
    assert np.abs(found - expected).max() <= 1e-4


def test_eight_bit_weights_with_float_activations(tmp_path: Path) -> None:
    """The runtime rounds the activations of such layers to 8 bits on the fly; on the chip the DAC does."""
    make = Layers()
    source = make.net.input(1, 6)
    codes = np.random.default_rng(0).integers(-127, 128, (5, 6)).astype(np.int8)
    hidden = make.net.op("FULLY_CONNECTED", [source, Constant(codes), make.bias(5)], "FullyConnectedOptions",
                         fusedActivationFunction=RELU)  # fmt: skip
    weights = make.net.tensors[make.net.operators[0].inputs[1]]
    weights.scale, weights.zero = np.array([0.01], np.float32), np.array([0], np.int64)
    weights.constant = Constant(codes * np.float32(0.01))
    weights.kind = "int8"
    net = make.net.finish(make.dense(hidden, 5, 3))
    found, expected = compiled_and_expected(net.to_bytes(), inputs_of(net), tmp_path)
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


def test_a_float_interface_around_codes(tmp_path: Path) -> None:
    net = mlp()
    codes = net.quantised(inputs_of(net))

    def wrap(model: Any) -> None:
        graph = model.subgraphs[0]
        for name, kind, position in (("QUANTIZE", "inputs", 0), ("DEQUANTIZE", "outputs", len(graph.operators))):
            inner = getattr(graph, kind)[0]
            outer = schema.TensorT()
            outer.name, outer.shape, outer.type = f"{kind[:-1]}_0".encode(), graph.tensors[inner].shape, 0
            graph.tensors[inner].name = b"inner " + kind.encode()
            graph.tensors.append(outer)
            operator, code = schema.OperatorT(), schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode, code.version = code.builtinCode, 2
            model.operatorCodes.append(code)
            operator.opcodeIndex = len(model.operatorCodes) - 1
            pair = [len(graph.tensors) - 1, inner]
            operator.inputs, operator.outputs = [[each] for each in (pair if kind == "inputs" else pair[::-1])]
            graph.operators.insert(position + (kind == "outputs"), operator)
            setattr(graph, kind, [pair[0]])

    found, expected = compiled_and_expected(edited(codes, wrap), inputs_of(net), tmp_path)
    assert found.dtype == np.float32
    assert np.mean(np.abs(found - expected) <= 2.01 / 256) >= 0.99


def test_the_batch_axis_is_free_and_stays_first(tmp_path: Path) -> None:
    graph = loaded(residual().to_bytes(), tmp_path)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    make = Layers()
    x = make.net.op("SQUEEZE", [make.net.input(1, 1, 6)], "SqueezeOptions", squeezeDims=[0])
    net = make.net.finish(make.dense(x, 6, 3))
    path = tmp_path / "model.tflite"
    path.write_bytes(net.to_bytes())
    inputs = np.random.default_rng(0).normal(size=(8, 1, 6)).astype(np.float32)
    assert next(iter(ideal_chip(compile(path, calibration=inputs), {"input_0": inputs}).values())).shape == (8, 3)


def test_between_convolutions_nothing_is_transposed(tmp_path: Path) -> None:
    graph = loaded(residual().to_bytes(), tmp_path)
    assert [node.op_type for node in graph.graph.node].count("Transpose") == 1


def test_samples_of_the_wrong_kind_are_named(tmp_path: Path) -> None:
    net = mlp()
    path = tmp_path / "model.tflite"
    path.write_bytes(net.quantised(inputs_of(net)))
    with pytest.raises(CalibrationError, match="int8"):
        compile(path, calibration=inputs_of(net)[0])


def test_names_and_versions_in_the_image(tmp_path: Path) -> None:
    net = mlp()
    path = tmp_path / "my net.tflite"
    path.write_bytes(net.to_bytes())
    image = compile(path, calibration=inputs_of(net)[0])
    assert image.name == "my-net"
    assert image.manifest.provenance.source_format == "tflite"
    assert [layer.name for layer in image.manifest.layers] == [
        "fully_connected_0",
        "fully_connected_1",
        "fully_connected_3",
    ]
