"""What cannot run is one error that names everything; what merely stays digital says why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from compiler_models import chain, ideal_chip, linear, onnx_model, relative_error, samples
from onnx import TensorProto, helper
from pcmedge.compiler import compile
from pcmedge.errors import AnalogShareError, CompileError, UnsupportedOperatorError

X = samples(8, 6)


def reasons(image: object) -> dict[str, str]:
    return {node.node: node.reason for node in image.manifest.placement.nodes if not node.analog}  # type: ignore[attr-defined]


def test_every_offending_node_is_named_at_once() -> None:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["a"], name="fused", domain="com.microsoft"),
        helper.make_node("Wobble", ["a"], ["b"], name="wobbly"),
        helper.make_node("Special", ["b"], ["c"], name="mine", domain="my.company"),
        helper.make_node("Relu", ["c"], ["d"], name="fine"),
        helper.make_node("Constant", [], ["v"], value=onnx.numpy_helper.from_array(samples(4, 4))),
        helper.make_node(
            "If",
            ["yes"],
            ["y"],
            name="choice",
            then_branch=branch("then", "MatMul", "d", "v"),
            else_branch=branch("e", "Relu", "d"),
        ),
    ]
    constants = {"w": samples(6, 4), "yes": np.array(True)}
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], constants, domains=["com.microsoft", "my.company"])
    with pytest.raises(UnsupportedOperatorError) as caught:
        compile(model, calibration=X)
    text = caught.value.message
    assert text.startswith("4 nodes cannot run")
    assert "node 'fused', operator com.microsoft.FusedMatMul" in text
    assert "MatMul and Transpose apart" in text
    assert "node 'wobbly', operator Wobble: ONNX has no such operator" in text
    assert "node 'mine', operator my.company.Special" in text
    assert "node 'choice', operator If: layers with weights inside control flow (MatMul)" in text
    assert "fine" not in caught.value.metadata["nodes"]
    assert caught.value.metadata["count"] == "4"


def test_operators_without_an_implementation_in_onnx_runtime_are_named() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="layer"),
        helper.make_node("Cast", ["a"], ["i"], name="cast", to=TensorProto.INT16),
        helper.make_node("Relu", ["i"], ["r"], name="relu_on_int16"),
        helper.make_node("Cast", ["r"], ["y"], name="back", to=TensorProto.FLOAT),
    ]
    with pytest.raises(
        UnsupportedOperatorError, match=r"node 'relu_on_int16', operator Relu:.*no implementation.*INT16"
    ):
        compile(onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4)}), calibration=X)


def test_operators_newer_than_the_pinned_opset_are_named() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="layer"),
        helper.make_node("CumProd", ["a", "s"], ["y"], name="products"),
    ]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4), "s": np.array(1)}, opset=26)
    with pytest.raises(UnsupportedOperatorError, match=r"node 'products'.*not part of ONNX opset 21.*opset 21"):
        compile(model, calibration=X)


def branch(name: str, operator: str, *inputs: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(operator, list(inputs), ["out"], name=f"{name}_{operator}")],
        name,
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )


def controlled(operator: str, *inputs: str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="layer"),
        helper.make_node(
            "If",
            ["yes"],
            ["y"],
            name="choice",
            then_branch=branch("then", operator, *inputs),
            else_branch=branch("else", "Relu", "a"),
        ),
    ]
    constants = {"w": samples(6, 6), "v": samples(6, 6), "yes": np.array(True)}
    return onnx_model(nodes, {"x": ["n", 6]}, ["y"], constants)


def test_layers_with_weights_inside_control_flow_are_refused() -> None:
    with pytest.raises(
        UnsupportedOperatorError, match=r"node 'choice', operator If: layers with weights inside.*MatMul"
    ):
        compile(controlled("MatMul", "a", "v"), calibration=X)


def test_control_flow_without_weights_runs_digitally() -> None:
    image = compile(controlled("Neg", "a"), calibration=X)
    expected = -X @ samples(6, 6)
    assert relative_error(ideal_chip(image, {"x": X})["y"], expected) <= 1e-4


def test_batch_norm_in_training_mode_is_refused() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="layer"),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["y", "", ""], name="bn", training_mode=1),
    ]
    ones = np.ones(4, np.float32)
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4), "s": ones, "b": ones, "m": ones, "v": ones})
    with pytest.raises(CompileError, match=r"training mode|depends on which samples"):
        compile(model, calibration=X)


def test_what_stays_digital_says_why() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="stored"),
        helper.make_node("Transpose", ["a"], ["at"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["a", "at"], ["scores"], name="dynamic"),
        helper.make_node("MatMul", ["left", "scores"], ["y"], name="left_constant"),
        helper.make_node("MatMul", ["a", "batch"], ["z"], name="stack"),
        helper.make_node("MatMul", ["a", "zeros"], ["nothing"], name="zero"),
        helper.make_node("Einsum", ["a", "square"], ["other"], name="middle", equation="b...i,ji->bj..."),
    ]
    constants = {
        "w": samples(6, 4),
        "left": samples(3, 5),
        "batch": samples(2, 1, 4, 3)[0],
        "square": samples(3, 4),
        "zeros": np.zeros((4, 2), np.float32),
    }
    image = compile(
        onnx_model(nodes, {"x": ["n", 5, 6]}, ["y", "z", "nothing", "other"], constants), calibration=samples(4, 5, 6)
    )
    why = reasons(image)
    assert "both operands are computed at run time" in why["dynamic"]
    assert "'left' is the left operand" in why["left_constant"]
    assert "constant has 3 dimensions" in why["stack"]
    assert "zero" in why["zero"]
    macs = {node.node: node.macs for node in image.manifest.placement.nodes}
    assert macs == {
        "stored": 5 * 6 * 4,
        "turn": 0,
        "dynamic": 5 * 4 * 5,
        "left_constant": 3 * 5 * 5,
        "stack": 5 * 4 * 3,
        "middle": 5 * 4 * 3,
        "zero": 5 * 4 * 2,
    }
    assert [layer.name for layer in image.manifest.layers] == ["stored"]


@pytest.mark.parametrize(
    ("attributes", "inputs", "message"),
    [
        ({}, ["xt", "w", "r", "", "lengths"], "sequence_lens"),
        ({}, ["xt", "w", "r", "", "", "", "", "peepholes"], "peephole"),
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, ["xt", "w", "r"], "activations"),
        ({"clip": 3.0}, ["xt", "w", "r"], "clip"),
        ({"input_forget": 1}, ["xt", "w", "r"], "input_forget"),
    ],
)
def test_unusual_lstms_stay_digital(attributes: dict[str, object], inputs: list[str], message: str) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("LSTM", inputs, ["", "h"], name="lstm", hidden_size=3, **attributes),
        helper.make_node("Transpose", ["h"], ["ht"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["ht", "v"], ["y"], name="head"),
    ]
    constants = {"w": samples(1, 12, 4), "r": samples(1, 12, 3), "v": samples(3, 2), "peepholes": samples(1, 9)}
    if "lengths" in inputs:
        nodes.insert(1, helper.make_node("ReduceMax", ["x", "axes"], ["top"], keepdims=0))
        nodes.insert(2, helper.make_node("Cast", ["top"], ["rough"], to=TensorProto.INT32))
        nodes.insert(3, helper.make_node("Clip", ["rough", "five", "five"], ["lengths"]))
        constants |= {"axes": np.array([1, 2]), "five": np.array(5, np.int32)}
    image = compile(onnx_model(nodes, {"x": ["n", 5, 4]}, ["y"], constants), calibration=samples(4, 5, 4))
    assert message in reasons(image)["lstm"]
    assert [layer.name for layer in image.manifest.layers] == ["head"]


def test_a_model_without_any_analog_layer_is_refused_with_reasons() -> None:
    nodes = [helper.make_node("MatMul", ["x", "y0"], ["y"], name="dynamic")]
    with pytest.raises(CompileError, match=r"No layer of the model can be placed.*dynamic \(MatMul\): both operands"):
        compile(
            onnx_model(nodes, {"x": ["n", 3, 6], "y0": ["n", 6, 2]}, ["y"], {}),
            calibration=(samples(4, 3, 6), samples(4, 6, 2)),
        )


def test_weights_that_are_not_finite_are_refused() -> None:
    model = linear(6, 4)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    with pytest.raises(CompileError, match=r"'fc' \(Gemm\) has weights that are not finite"):
        compile(model, calibration=X)


def test_require_analog_lists_what_stayed_digital() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="stored"),
        helper.make_node("Transpose", ["a"], ["at"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "at"], ["y"], name="dynamic"),
    ]
    model = onnx_model(nodes, {"x": ["n", 5, 6]}, ["y"], {"w": samples(6, 4)})
    share = 120 / (120 + 100)
    compile(model, calibration=samples(4, 5, 6), require_analog=share - 0.01)
    with pytest.raises(
        AnalogShareError, match=r"at least 95.0% of the MACs in memory, found 54.5%.*\n.*dynamic \(MatMul\), 100 MACs"
    ):
        compile(model, calibration=samples(4, 5, 6), require_analog="95%")
    assert compile(chain(6, 3), calibration=X, require_analog="100%").manifest.placement.digital_macs == 0


def test_outputs_that_mix_samples_are_refused() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="layer"),
        helper.make_node("Softmax", ["a"], ["y"], name="over_the_batch", axis=0),
    ]
    with pytest.raises(CompileError, match="'y' depends on which samples are computed together"):
        compile(onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4)}), calibration=X)
    nodes[1] = helper.make_node("ReduceSum", ["a"], ["y"], keepdims=0)
    with pytest.raises(CompileError, match="'y': expected one answer per sample"):
        compile(onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4)}), calibration=X)
