"""ONNX files as other tools write them compile, and compute what ONNX's own runtime computes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch_zoo
from compiler_models import Array, float_outputs, ideal_chip, linear, onnx_model, program_of, relative_error, samples
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from pcmedge.compiler import compile
from pcmedge.errors import CompileError, UnsupportedOperatorError
from pcmedge.frontends import onnx as onnx_frontend

KERAS = Path(__file__).parent / "golden" / "keras.onnx"


def scripted(name: str, opset: int) -> onnx.ModelProto:
    """What torch's older exporter writes: batch norm folded, numbered tensors, weights transposed behind nodes."""
    model, values = torch_zoo.network(name), torch_zoo.inputs(name, 2)
    names = [f"in{index}" for index in range(len(values))]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(map(torch.from_numpy, values)),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=names,
            output_names=["y"],
            dynamic_axes={each: {0: "n"} for each in [*names, "y"]},
        )
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        ("resnet-se", 11),
        ("mobilenet-v3", 14),
        ("efficientnet", 13),
        ("convnext", 17),
        ("vit", 17),
        ("densenet", 12),
        ("unet", 16),
        ("speech", 15),
        ("tokens", 18),
    ],
)
def test_an_image_computes_what_onnx_runtime_computes(name: str, opset: int) -> None:
    model, values = scripted(name, opset), torch_zoo.inputs(name)
    fed = dict(zip([value.name for value in model.graph.input], values, strict=True))
    image = compile(model, calibration=fed, scaling="column", targets="float32")
    assert relative_error(ideal_chip(image, fed)["y"], float_outputs(model, fed)["y"]) <= 1e-5
    assert len(image.manifest.layers) == torch_zoo.ZOO[name].analog


def by_opset(opset: int) -> onnx.ModelProto:
    """Operators whose form has changed over the years."""
    axes = {"axes": [2, 3]} if opset < 18 else {}
    squeezed = {"axes": [2]} if opset < 13 else {}
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "k"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="norm"),
        helper.make_node("Clip", ["n", "low", "high"], ["r"]),
        helper.make_node("GlobalMaxPool", ["r"], ["top"]),
        helper.make_node("ReduceMean", ["r", *([] if axes else ["spatial"])], ["mean"], keepdims=1, **axes),
        helper.make_node("Concat", ["top", "mean"], ["both"], axis=1),
        helper.make_node("Squeeze", ["both", *([] if squeezed else ["two"])], ["most"], **squeezed),
        helper.make_node("Flatten", ["most"], ["flat"]),
        helper.make_node("Dropout", ["flat"], ["kept"]),
        helper.make_node("Gemm", ["kept", "w"], ["scores"], name="fc", transB=1),
        helper.make_node("Softmax", ["scores"], ["y"], axis=1),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "k": samples(6, 2, 3, 3),
        "s": np.ones(6, np.float32),
        "b": samples(6, seed=2),
        "m": samples(6, seed=3),
        "v": np.full(6, 3, np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "spatial": np.array([2, 3]),
        "two": np.array([2]),
        "w": samples(4, 12) * np.float32(0.3),
    }
    read = {name for node in nodes for name in node.input}
    kept = {name: value for name, value in constants.items() if name in read}
    return onnx_model(nodes, {"x": ["n", 2, 5, 5]}, ["y"], kept, opset=opset)


@pytest.mark.parametrize("opset", range(11, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_that_onnx_knows(opset: int) -> None:
    model, x = by_opset(opset), samples(8, 2, 5, 5)
    image = compile(model, calibration=x, scaling="column")
    # ONNX Runtime lags behind the newest opsets, and onnx's evaluator takes batch norm below 14 for training.
    expected = float_outputs(model, {"x": x})["y"] if opset <= 21 else ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert relative_error(ideal_chip(image, {"x": x})["y"], expected) <= 1e-4
    assert [layer.name for layer in image.manifest.layers] == ["conv", "fc"]


def test_an_opset_newer_than_the_installed_onnx_says_so() -> None:
    model = linear(6, 4)
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.raises(CompileError, match=r"pip install -U onnx.*opset 21"):
        onnx_frontend.load(model)


@pytest.mark.parametrize("operator", ["RMSNormalization", "Swish"])
def test_newer_operators_that_onnx_defines_by_older_ones_are_spelled_out(operator: str) -> None:
    extra = {"scale": samples(4)} if operator == "RMSNormalization" else {}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="layer"),
        helper.make_node(operator, ["a", *extra], ["y"], name="new"),
    ]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4), **extra}, opset=24)
    x = samples(8, 6)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert relative_error(ideal_chip(compile(model, calibration=x), {"x": x})["y"], expected) <= 1e-4


WEIGHTS = samples(6, 4)
NODE = helper.make_node


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([NODE("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS))], {}),
        ([NODE("Identity", ["stored"], ["w"])], {"stored": WEIGHTS}),
        ([NODE("Cast", ["stored"], ["w"], to=TensorProto.FLOAT)], {"stored": WEIGHTS.astype(np.float64)}),
        ([NODE("Transpose", ["stored"], ["w"], perm=[1, 0])], {"stored": np.ascontiguousarray(WEIGHTS.T)}),
        (
            [NODE("DequantizeLinear", ["q", "qs"], ["d"], axis=0), NODE("Transpose", ["d"], ["w"], perm=[1, 0])],
            {"q": np.rint(WEIGHTS.T * 40).astype(np.int8), "qs": np.full(4, 1 / 40, np.float32)},
        ),
    ],
)
def test_weights_however_they_are_kept(nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> None:
    model = onnx_model([*nodes, NODE("MatMul", ["x", "w"], ["y"], name="fc")], {"x": ["n", 6]}, ["y"], constants)
    x = samples(8, 6)
    image = compile(model, calibration=x)
    assert [layer.name for layer in image.manifest.layers] == ["fc"]
    # Not by ONNX Runtime, which computes products with dequantised weights in int8.
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert relative_error(ideal_chip(image, {"x": x})["y"], expected) <= 1e-4


def test_large_quantised_weights_lie_on_tiles_too() -> None:
    stored = np.random.default_rng(0).integers(-127, 128, (200, 150)).astype(np.int8)
    nodes = [NODE("DequantizeLinear", ["q", "qs"], ["w"]), NODE("MatMul", ["x", "w"], ["y"], name="fc")]
    model = onnx_model(nodes, {"x": ["n", 200]}, ["y"], {"q": stored, "qs": np.array(0.01, np.float32)})
    assert [layer.name for layer in compile(model, calibration=samples(8, 200)).manifest.layers] == ["fc"]


def test_half_precision_becomes_single() -> None:
    x = samples(8, 6).astype(np.float16)
    nodes = [NODE("MatMul", ["x", "w"], ["a"], name="fc"), NODE("Relu", ["a"], ["y"])]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": WEIGHTS.astype(np.float16)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    image = compile(model, calibration=x.astype(np.float32))
    expected = np.maximum(x.astype(np.float32) @ WEIGHTS.astype(np.float16).astype(np.float32), 0)
    assert relative_error(ideal_chip(image, {"x": x.astype(np.float32)})["y"], expected) <= 1e-4
    graph = program_of(image).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}


def test_an_idle_cast_does_not_part_a_product_from_its_bias() -> None:
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], name="fc"),
        NODE("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        NODE("Dropout", ["b"], ["c"]),
        NODE("Add", ["c", "bias"], ["y"]),
    ]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": WEIGHTS, "bias": samples(4)})
    image = compile(model, calibration=samples(8, 6), bias="row")
    assert image.manifest.layers[0].bias == 3  # on a row of its own


class Quantisable(torch.nn.Module):
    """What ONNX Runtime has integer operators for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.hidden, self.head = torch.nn.Conv2d(8, 12, 1), torch.nn.Linear(12, 10), torch.nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.max_pool2d(x + torch.relu(self.point(self.depth(x)))[:, :8], 2)
        x = torch.nn.functional.adaptive_avg_pool2d(torch.cat([x, x[:, :4]], 1), 1).flatten(1)
        return self.head(torch.sigmoid(self.hidden(x)))


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: Array) -> None:
        self.batches: Iterator[Array] = iter(np.split(x, 4))

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("quantised") / "float.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Quantisable().eval(),
            (torch.zeros(2, 3, 8, 8),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
    return path


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_statically_quantised_models(float_file: Path, layout: Any, activations: Any, per_channel: bool) -> None:
    x, path = samples(32, 3, 8, 8), float_file.with_name("quantised.onnx")
    quantize_static(
        float_file,
        path,
        Reader(x),
        quant_format=layout,
        per_channel=per_channel,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )
    image = compile(path, calibration=x, scaling="column")
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogConv"] * 3 + ["AnalogGemm"] * 2
    found, expected = ideal_chip(image, {"x": x})["y"], float_outputs(onnx.load(path), {"x": x})["y"]
    # Activations are rounded to 256 levels on the way: a value near a border may fall on either side of it, and a few
    # steps of the output's own 256 levels is what that leaves.
    steps = np.abs(found - expected) / (np.ptp(expected) / 255)
    assert steps.max() <= 4
    assert (steps > 0.5).mean() <= 0.1


def test_dynamically_quantised_models_are_refused_with_a_way_out(float_file: Path) -> None:
    path = float_file.with_name("dynamic.onnx")
    quantize_dynamic(float_file, path)
    with pytest.raises(UnsupportedOperatorError, match=r"scales depend on the whole batch.*QuantFormat\.QDQ"):
        onnx_frontend.load(path)


def test_integer_operators_nobody_knows_say_to_use_qdq() -> None:
    nodes = [NODE("QLinearWhere", ["x", "w"], ["y"], name="where", domain="com.microsoft")]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": WEIGHTS}, domains=["com.microsoft"])
    with pytest.raises(UnsupportedOperatorError, match=r"'where'.*QDQ format"):
        onnx_frontend.load(model)


@pytest.mark.parametrize("location", ["/etc/passwd", "../elsewhere", "weights.bin"])
@pytest.mark.parametrize("place", ["constant", "sparse", "function"])
def test_external_data_is_refused_wherever_it_hides(place: str, location: str) -> None:
    secret = TensorProto(name="hidden", data_type=1, dims=[6, 4], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value=location)
    model = linear(6, 4)
    constant = helper.make_node("Constant", [], ["other"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(secret)
    if place == "constant":
        model.graph.node.insert(0, constant)
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(secret)
    else:
        model.functions.append(helper.make_function("d", "f", [], ["other"], [constant], []))
    with pytest.raises(CompileError, match=r"external files, which are not followed"):
        onnx_frontend.load(model)


def test_a_file_above_what_protobuf_holds_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.write(linear(6, 4).SerializeToString())
        file.truncate(2**31 + 2**30)  # sparse: takes no room
    with pytest.raises(CompileError, match=r"'huge\.onnx' has 3\.0 GiB; expected at most 2 GiB"):
        onnx_frontend.load(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [([], r"Input 'x' has no batch axis \(shape \(\)\)"), (None, "not valid: Field 'shape' of 'type' is required")],
)
def test_inputs_without_a_batch_axis_are_refused(shape: list[int] | None, message: str) -> None:
    model = onnx_model([NODE("Mul", ["x", "w"], ["y"])], {"x": [1]}, ["y"], {"w": WEIGHTS})
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    with pytest.raises(CompileError, match=message):
        compile(model, calibration=samples(8))


def test_an_old_file_that_lists_initialisers_as_inputs_and_has_some_to_spare() -> None:
    model = onnx_model(
        [NODE("MatMul", ["x", "w"], ["a"], name="fc"), NODE("Relu", ["a"], ["y"])],
        {"x": ["n", 6]},
        ["y"],
        {"w": WEIGHTS, "nobody": samples(5)},
        opset=11,
    )
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    image = compile(model, calibration=samples(8, 6))
    assert [spec.name for spec in image.manifest.model.inputs] == ["x"]
    assert relative_error(ideal_chip(image, {"x": samples(8, 6)})["y"], np.maximum(samples(8, 6) @ WEIGHTS, 0)) <= 1e-4


def test_free_picture_sizes_and_several_outputs() -> None:
    nodes = [
        NODE("Conv", ["x", "k"], ["c"], name="conv", auto_pad="SAME_UPPER"),
        NODE("GlobalAveragePool", ["c"], ["p"]),
        NODE("Flatten", ["p"], ["f"]),
        NODE("Gemm", ["f", "w"], ["y"], name="fc"),
    ]
    constants = {"k": samples(6, 2, 3, 3), "w": WEIGHTS}
    model = onnx_model(nodes, {"x": ["n", 2, "h", "w_"]}, ["y", "c"], constants)
    image = compile(model, calibration=samples(8, 2, 6, 6), scaling="column")
    x = samples(3, 2, 9, 7)
    expected, found = float_outputs(model, {"x": x}), ideal_chip(image, {"x": x})
    assert all(relative_error(found[name], expected[name]) <= 1e-4 for name in ("y", "c"))


def test_a_keras_export() -> None:
    """Made by golden/keras_fixture.py: channels last, batch norm as Sub, Mul and Add, casts everywhere."""
    model = onnx.load(KERAS)
    name = model.graph.input[0].name
    pictures = np.random.default_rng(0).random((24, 12, 12, 1), np.float32)
    image = compile(KERAS, calibration=pictures, scaling="column")
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogConv"] * 3 + ["AnalogGemm"] * 2
    expected = next(iter(float_outputs(model, {name: pictures}).values()))
    found = next(iter(ideal_chip(image, {name: pictures}).values()))
    assert relative_error(found, expected) <= 1e-4
    recorded = [entry.name for entry in image.manifest.layers if entry.statistics_node]
    assert len(recorded) == 4
