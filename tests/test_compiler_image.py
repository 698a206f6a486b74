"""What an image says beside its weights: statistics, buffers, reference outputs, application side, costs, size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
from compiler_models import (
    chain,
    exported,
    float_outputs,
    ideal_chip,
    linear,
    onnx_model,
    program_of,
    relative_error,
    samples,
    torch_inputs,
)
from onnx import helper
from pcmedge._contract.image_pb2 import Preprocessing, StatisticsKind
from pcmedge.compiler import compile
from pcmedge.compiler.report import render
from pcmedge.errors import InputValueError, NotFoundError
from pcmedge.image import ChipImage, schemas
from pcmedge.image.profiles import profile
from rich.console import Console

RECORDED, BATCH_NORM = StatisticsKind.STATISTICS_KIND_RECORDED, StatisticsKind.STATISTICS_KIND_BATCH_NORM
NONE = StatisticsKind.STATISTICS_KIND_NONE


def kinds(image: ChipImage) -> dict[str, int]:
    return {layer.name: layer.statistics_kind for layer in image.manifest.layers}


def float_tensor(model: onnx.ModelProto, tensor: str, inputs: dict[str, Any]) -> Any:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return float_outputs(extended, inputs)[tensor]


def test_own_batch_norms_and_recorded_statistics() -> None:
    image = compile(exported("residual"), calibration=torch_inputs("residual")[0])
    assert kinds(image) == {
        "stem": BATCH_NORM,
        "first": BATCH_NORM,
        "second": BATCH_NORM,
        "project": RECORDED,
        "head": NONE,
    }
    nodes = {layer.name: layer.statistics_node for layer in image.manifest.layers}
    assert nodes == {
        "stem": "stem_norm",
        "first": "first_norm",
        "second": "second_norm",
        "project": "project/statistics",
        "head": "",
    }
    norms = [node.name for node in program_of(image).graph.node if node.op_type == "BatchNormalization"]
    assert sorted(norms) == sorted(name for name in nodes.values() if name)


@pytest.mark.parametrize("around", ["shortcut", "output", "nothing"])
def test_a_batch_norm_carries_a_layers_statistics_only_if_nothing_leads_around_it(around: str) -> None:
    """Behind the stem of a pre-activation residual network a shortcut does: nothing would have followed its drift."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["stem"], name="stem"),
        helper.make_node("BatchNormalization", ["stem", "one", "zero", "zero", "one"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["branch"], name="branch"),
        helper.make_node("Add", ["branch", "stem" if around == "shortcut" else "r"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w2"], ["y"], name="head"),
    ]
    constants = {
        "w0": rng.normal(size=(6, 8)),
        "w1": rng.normal(size=(8, 8)),
        "w2": rng.normal(size=(8, 4)),
        "one": np.ones(8),
        "zero": np.zeros(8),
    }
    outputs = ["y", "stem"] if around == "output" else ["y"]
    single = {name: value.astype(np.float32) for name, value in constants.items()}
    model = onnx_model(nodes, {"x": ["n", 6]}, outputs, single)
    image = compile(model, calibration=samples(50, 6))
    assert kinds(image)["stem"] == {"shortcut": RECORDED, "output": NONE, "nothing": BATCH_NORM}[around]
    assert set(image.reference_statistics()) >= {"norm", "branch/statistics"}
    inputs = {"x": samples(5, 6)}
    assert relative_error(ideal_chip(image, inputs)["y"], float_outputs(model, inputs)["y"]) < 1e-4


def test_recorded_statistics_are_those_of_the_calibration_set() -> None:
    model, x = chain(12, 9, 7, 4), samples(200, 12)
    image = compile(model, calibration=x, buffer_samples=17)
    assert kinds(image) == {"fc0": RECORDED, "fc1": RECORDED, "fc2": NONE}
    program = program_of(image)
    norm = next(node for node in program.graph.node if node.name == "fc1/statistics")
    scale, bias, mean, variance = (
        onnx.numpy_helper.to_array(next(each for each in program.graph.initializer if each.name == name))
        for name in norm.input[1:]
    )
    z1 = float_tensor(model, "z1", {"x": x})
    np.testing.assert_allclose(mean, z1.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, z1.var(0), rtol=1e-5)
    np.testing.assert_array_equal(bias, mean)
    np.testing.assert_allclose(scale, np.sqrt(variance + np.float32(1e-5)), rtol=1e-6)


def test_no_statistics_are_recorded_if_not_wanted() -> None:
    image = compile(chain(12, 9, 4), calibration=samples(20, 12), recorded_statistics=False)
    assert set(kinds(image).values()) == {NONE}
    assert image.reference_statistics() == {}


def test_reference_statistics_are_those_of_the_buffer() -> None:
    model, x = exported("residual"), torch_inputs("residual")[0]
    image = compile(model, calibration=x, buffer_samples=10)
    buffer = image.calibration_buffer()
    assert next(iter(buffer.values())).shape == (10, 2, 8, 8)
    assert image.manifest.calibration_buffer.has_reference_statistics
    found = image.reference_statistics()
    assert set(found) == {"stem_norm", "first_norm", "second_norm", "project/statistics"}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            values = float_tensor(model, node.input[0], buffer)
            mean, variance = found[next(name for name in found if node.input[3] == f"{name}.running_mean")]
            np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(variance, values.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("choice", ["calibration", "synthetic", "own", None])
def test_buffers(choice: str | None) -> None:
    model, x = exported("residual"), torch_inputs("residual")[0]
    own = samples(5, 2, 8, 8, seed=9)
    image = compile(model, calibration=x, buffer=own if choice == "own" else choice, buffer_samples=8, buffer_seed=3)
    described = image.manifest.calibration_buffer
    if choice is None:
        assert described.kind == "none"
        assert image.reference_statistics() == {}
        return
    (buffer,) = image.calibration_buffer().values()
    if choice == "own":
        np.testing.assert_array_equal(buffer, own)
    elif choice == "calibration":
        np.testing.assert_array_equal(buffer, x[::3])
    else:
        assert (described.kind, described.seed, described.samples) == ("synthetic", 3, 8)
        assert len(set(described.chosen)) == 8
        assert 0.5 < described.coverage <= 1.0
        assert "synthetic-buffer-2" in image.manifest.required_features
        np.testing.assert_allclose(buffer.mean((0, 2, 3)), x.mean((0, 2, 3)), atol=0.05)
    name = model.graph.input[0].name
    stem = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    mean, variance = image.reference_statistics()["stem_norm"]
    values = float_tensor(model, stem, {name: buffer})
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, values.var((0, 2, 3)), rtol=1e-4)


def test_reference_outputs_are_the_float_models_own() -> None:
    model, x = chain(12, 9, 4), samples(50, 12)
    inputs, outputs = compile(model, calibration=x).reference_set()
    np.testing.assert_array_equal(inputs["x"], x[np.arange(16) * 50 // 16])
    np.testing.assert_allclose(outputs["y"], float_outputs(model, inputs)["y"], rtol=1e-6)
    chosen, answers = compile(model, calibration=x, reference=x[:3], clip_sigma=0.5).reference_set()
    np.testing.assert_array_equal(chosen["x"], x[:3])
    # Clipping changes the chip's weights, not what it is compared with.
    np.testing.assert_allclose(answers["y"], float_outputs(model, {"x": x[:3]})["y"], rtol=1e-6)


def test_synthetic_reference_inputs_are_nobodys_and_their_classes_are_sure() -> None:
    model, x = chain(12, 9, 4), samples(50, 12)
    image = compile(model, calibration=x, buffer="synthetic", buffer_samples=32, reference="synthetic")
    inputs, outputs = image.reference_set()
    reference, scores = inputs["x"], outputs["y"]
    assert reference.shape == (16, 12)
    for others in (x, image.calibration_buffer()["x"]):
        assert not (reference[:, None] == others[None]).all(axis=2).any()
    again = compile(model, calibration=x, buffer="synthetic", buffer_samples=32, reference="synthetic")
    np.testing.assert_array_equal(again.reference_set()[0]["x"], reference)

    def margins(of: np.ndarray) -> np.ndarray:
        ordered = np.sort(of, axis=1)
        return ordered[:, -1] - ordered[:, -2]

    usual = float_outputs(model, {"x": x})["y"]
    assert np.median(margins(scores)) > np.median(margins(usual))
    classes = np.bincount(scores.argmax(axis=1), minlength=4)
    assert (classes > 0).sum() > 1
    with pytest.raises(InputValueError, match="'synthetic'"):
        compile(model, calibration=x, reference="made up")


def test_the_application_side() -> None:
    picture = {"width": 4, "height": 3, "channels": 1, "colour_order": "GRAY", "layout": "NC", "scale": 1 / 255}
    image = compile(
        chain(12, 9, 3),
        calibration=samples(20, 12),
        labels=["cat", "dog", "owl"],
        preprocessing=picture,
        name="zoo",
        version=7,
        description="animals",
    )
    assert (image.name, image.version, image.manifest.model.description) == ("zoo", 7, "animals")
    application = image.manifest.application
    assert list(application.labels) == ["cat", "dog", "owl"]
    assert (application.class_output, application.class_output_is_probability) == ("y", True)
    assert application.preprocessing == Preprocessing(input="x", **picture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a", "b"]}, r"one score per label \(2\), found y \[-1, 3\]"),
        ({"name": "no spaces please"}, r"name: expected 1 to 128 characters"),
        ({"preprocessing": {"widht": 3}}, r"preprocessing:.*Its fields are input, width"),
        ({"preprocessing": {"input": "z"}}, r"name of a model input \(x\), found 'z'"),
        ({"scaling": "tile"}, r"scaling: expected one of layer, column, auto; found 'tile'"),
        ({"adc_range": "p99"}, r"adc_range: expected one of mse, max"),
        ({"clip_sigma": -1.0}, r"clip_sigma: expected a positive number"),
        ({"require_analog": "most"}, r"require_analog: expected a share"),
        ({"require_analog": "150%"}, r"require_analog: expected a share"),
        ({"buffer": "sythetic"}, r"buffer: expected 'calibration', 'synthetic'"),
        ({"buffer_samples": 0}, r"buffer_samples: expected at least 1"),
        ({"reference": 0}, r"reference: expected at least one sample"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputValueError, match=message):
        compile(chain(12, 9, 3), calibration=samples(20, 12), **options)


def test_unknown_profile() -> None:
    with pytest.raises(NotFoundError, match=r"no chip profile 'pcm-1x1'"):
        compile(linear(6, 4), calibration=samples(8, 6), profile="pcm-1x1")


def test_energy_and_latency_of_one_full_tile() -> None:
    # 256 x 256, unsigned inputs: exactly the published product, 133 ns and 13.4 nJ.
    x = np.abs(samples(4, 256))
    image = compile(linear(256, 256), calibration=x, profile="hermes-256x256")
    (node,) = image.manifest.placement.nodes
    assert (node.mvms, node.phases, node.tiles, node.utilisation) == (1, 1, 1, 1.0)
    assert node.energy_j == pytest.approx(13.4e-9)
    assert node.latency_s == pytest.approx(133e-9)
    assert "extrapolated" not in image.manifest.placement.energy_source
    # Signed inputs take two phases; larger tiles are extrapolated.
    signed = compile(linear(512, 512), calibration=samples(4, 512)).manifest.placement
    assert signed.nodes[0].phases == 2
    assert signed.energy_j == pytest.approx(4 * 2 * 13.4e-9)
    assert signed.latency_s == pytest.approx(2 * 133e-9)
    assert "extrapolated to tiles of 512 x 512" in signed.energy_source


def test_costs_of_convolutions_and_lstms() -> None:
    nodes = [helper.make_node("Conv", ["x", "k"], ["y"], name="c", group=3, strides=[2, 2])]
    model = onnx_model(nodes, {"x": ["n", 3, 9, 9]}, ["y"], {"k": samples(6, 1, 3, 3)})
    report = compile(model, calibration=np.abs(samples(4, 3, 9, 9))).manifest.placement
    (node,) = report.nodes
    assert node.mvms == 16
    assert node.macs == report.analog_macs == 16 * 3 * 9 * 2
    assert report.devices == 2 * report.analog_weights == 2 * 3 * 9 * 2
    # Word lines 3 * 9 x bit lines 3 * 2 are driven and converted, though only the diagonal blocks hold weights.
    assert node.energy_j == pytest.approx(16 * 13.4e-9 * (27 * 6) / 65536)
    inputs = dict(zip([value.name for value in exported("lstm").graph.input], torch_inputs("lstm"), strict=True))
    lstm = compile(exported("lstm"), calibration=inputs).manifest.placement.nodes
    (node,) = [each for each in lstm if each.operator == "LSTM"]
    assert node.macs == 6 * 2 * (5 + 7) * 28
    assert (node.tiles, node.mvms) == (4, 24)
    assert node.latency_s == pytest.approx(6 * 2 * 133e-9)


@pytest.mark.parametrize("name", ["mlp", "residual", "depthwise", "lstm", "transformer"])
def test_size(name: str) -> None:
    model = exported(name)
    inputs = dict(zip([value.name for value in model.graph.input], torch_inputs(name), strict=True))
    check_size(compile(model, calibration=inputs))


def test_size_of_a_wide_network() -> None:
    check_size(compile(chain(200, 400, 300, 100), calibration=samples(40, 200)))


def check_size(image: ChipImage) -> None:
    report = image.manifest.placement
    data = sum(segment.length for segment in image.manifest.segments if segment.name in ("buffer", "reference"))
    assert image.size <= 2.2 * report.analog_weights + 4.1 * report.digital_parameters + 96 * 1024 + data


def test_the_program_is_complete_onnx() -> None:
    schemas.register()
    schemas.register()
    image = compile(exported("residual"), calibration=torch_inputs("residual")[0])
    program = program_of(image)
    onnx.checker.check_model(program)
    assert {entry.domain: entry.version for entry in program.opset_import} == {"": 21, "pcm": 1}
    described = {value.name for value in (*program.graph.value_info, *program.graph.output)}
    assert described >= {name for node in program.graph.node for name in node.output}
    stored = {tensor.name for tensor in program.graph.initializer}
    assert not [name for name in stored if name in ("stem.weight", "first.weight", "head.weight")]
    bare = onnx.ModelProto()
    bare.CopyFrom(program)
    del bare.graph.value_info[:]
    inferred = {
        value.name: value for value in onnx.shape_inference.infer_shapes(bare, strict_mode=True).graph.value_info
    }
    head = next(node for node in program.graph.node if node.name == "project")
    assert [dim.dim_value for dim in inferred[head.output[0]].type.tensor_type.shape.dim][1:] == [8, 4, 4]


def test_analog_nodes_without_their_layer_are_refused_by_the_checker() -> None:
    schemas.register()
    node = helper.make_node("AnalogGemm", ["x"], ["y"], domain="pcm")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, [1, 2])], [helper.make_tensor_value_info("y", 1, [1, 2])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("pcm", 1)])
    with pytest.raises(onnx.checker.ValidationError, match="layer"):
        onnx.checker.check_model(model)


def test_the_report_is_drawn() -> None:
    image = compile(
        exported("depthwise"),
        calibration=torch_inputs("depthwise")[0],
        profile=profile(tile_rows=9, tile_columns=8, tiles=64),
    )
    console = Console(file=io.StringIO(), width=150, color_system=None)
    console.print(render(image.manifest, image.tiles()))
    console.print(render(image.manifest))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for layer in image.manifest.layers:
        assert layer.name in text
    for words in (
        "100.0% of the MACs",
        "3 x (9 x 2)",
        "kept digital so that its statistics",
        "Le Gallo",
        "█",
        "▒",
        "Each character stands for 2.25 x 1 cells",
        "and 5 more",
    ):
        assert words in text, words


def test_integer_inputs() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=1),
            helper.make_node("Mul", ["f", "s"], ["g"]),
            helper.make_node("Gemm", ["g", "w"], ["y"], name="fc"),
        ],
        "pixels",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["n", 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(np.array(1 / 255, np.float32), "s"),
            onnx.numpy_helper.from_array(samples(6, 4), "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
    image = compile(model, calibration=x.astype(np.int64))
    assert image.manifest.model.inputs[0].datatype == "UINT8"
    assert not image.manifest.layers[0].blocks[0].dac_signed
    assert relative_error(ideal_chip(image, {"x": x})["y"], float_outputs(model, {"x": x})["y"]) <= 1e-4
