"""The ways in: torch modules are left as they were, ONNX files are checked before anything is believed."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from compiler_models import example, exported, linear, onnx_model, samples, torch_inputs, torch_model
from onnx import TensorProto, helper
from pcmedge.compiler import compile
from pcmedge.errors import CompileError, FileMissingError, InputShapeError, InputTypeError, MissingExtraError
from pcmedge.frontends import onnx as onnx_frontend
from pcmedge.frontends import torch as torch_frontend
from torch import nn


class TwoWays(nn.Module):
    """Keyword inputs, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(5, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = self.a(left) + self.b(right)
        return total, torch.softmax(total, -1)


def test_export_keeps_batch_norm_and_frees_the_batch_axis() -> None:
    model = exported("residual")
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("BatchNormalization") == 3
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.opset_import[0].version == 21


def test_training_flags_are_restored_and_statistics_untouched() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2))
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    proto = torch_frontend.load(model, samples(1, 1, 6, 6))
    assert [module.training for module in model] == [True, False, True, True, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "Dropout" not in [node.op_type for node in proto.graph.node]


def test_the_export_is_silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch_frontend.load(nn.Linear(3, 2), torch.zeros(1, 3))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not caught
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_keyword_inputs_and_several_outputs() -> None:
    proto = torch_frontend.load(TwoWays(), {"left": torch.zeros(1, 4), "right": torch.zeros(1, 5)})
    assert [value.name for value in proto.graph.input] == ["left", "right"]
    image = compile(proto, calibration={"left": samples(8, 4), "right": samples(8, 5)}, labels=["a", "b", "c"])
    assert len(image.manifest.model.outputs) == 2
    assert image.manifest.application.class_output == image.manifest.model.outputs[0].name


class Collecting(nn.Module):
    """Takes its inputs as a tuple, as wrappers of other modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        first, second = inputs
        return self.first(first) + self.second(second)


def test_inputs_collected_by_forward_have_a_free_batch_axis_too() -> None:
    model = torch_frontend.load(Collecting(), (torch.zeros(1, 3), torch.zeros(1, 4)))
    dimensions = [value.type.tensor_type.shape.dim for value in model.graph.input]
    assert [dimension[1].dim_value for dimension in dimensions] == [3, 4]
    assert all(dimension[0].dim_param for dimension in dimensions)


def test_examples_that_cannot_be_one() -> None:
    with pytest.raises(InputTypeError, match="example_input must be a tensor"):
        torch_frontend.load(nn.Linear(3, 2), "x")
    with pytest.raises(InputShapeError, match="batch axis"):
        torch_frontend.load(nn.Linear(3, 2), torch.tensor(1.0))
    with pytest.raises(CompileError, match="the module itself fails"):
        torch_frontend.load(nn.Linear(3, 2), torch.zeros(1, 5))
    with pytest.raises(CompileError, match="needs example_input"):
        compile(nn.Linear(3, 2), calibration=samples(4, 3))
    with pytest.raises(CompileError, match=r"torch.nn.Module, an onnx.ModelProto or the path.*found dict"):
        compile({}, calibration=samples(4, 3))  # type: ignore[arg-type]


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(2, 6))


class Branching(Fixed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def test_modules_that_cannot_be_compiled_are_explained(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CompileError, match="any batch size"):
        compile(Fixed(), torch.zeros(2, 6), calibration=samples(9, 6))
    with pytest.raises(CompileError, match="must not branch on values of tensors"):
        compile(Branching(), torch.zeros(2, 6), calibration=samples(9, 6))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("example_input", "shown"),
    [
        (torch.zeros(1, 7, 5), r"torch.float32 \[2, 7, 5\]"),
        (torch.zeros(1, 6, dtype=torch.int64), r"torch.int64 \[2, 6\]"),
    ],
)
def test_an_example_the_module_was_not_made_for_is_shown_without_torchs_own_traceback(
    example_input: torch.Tensor, shown: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CompileError, match=shown):
        torch_frontend.load(nn.Sequential(nn.Linear(6, 3)), example_input)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("missing", ["onnxscript", "torch"])
def test_missing_extra_train(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcmedge\[train\]'"):
        compile(torch_model("mlp"), example("mlp"), calibration=torch_inputs("mlp")[0])


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"nowhere.onnx"):
        onnx_frontend.load(tmp_path / "nowhere.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is not a model" * 10)
    with pytest.raises(CompileError, match="not an ONNX"):
        onnx_frontend.load(broken)
    broken.write_bytes(b"")
    with pytest.raises(CompileError, match="no nodes"):
        onnx_frontend.load(broken)
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(linear(20, 20).SerializeToString()[:700])
    with pytest.raises(CompileError, match="not an ONNX"):
        onnx_frontend.load(truncated)


def test_external_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save(linear(64, 64), str(path), save_as_external_data=True, size_threshold=16)
    with pytest.raises(
        CompileError, match=r"keeps 1 tensors \(first: 'w'\) in external files.*save_as_external_data=False"
    ):
        onnx_frontend.load(path)


def test_external_data_inside_a_branch_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["hidden"], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    secret = body.initializer.add(name="hidden", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="../elsewhere")
    model = onnx_model(
        [helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)], {"yes": [1]}, ["y"], {}
    )
    with pytest.raises(CompileError, match="external files"):
        onnx_frontend.load(model)


def test_invalid_models_are_refused() -> None:
    model = onnx_model([helper.make_node("Relu", ["nothing"], ["y"])], {"x": ["n", 3]}, ["y"], {})
    with pytest.raises(CompileError, match="not valid"):
        onnx_frontend.load(model)


@pytest.mark.parametrize("opset", [11, 13, 17, 23])
def test_older_opsets_are_converted(opset: int) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="fc"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["y"], **({"axes": [1]} if opset < 18 else {"noop_with_empty_axes": 1})),
    ]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4)}, opset=opset)
    before = model.SerializeToString()
    assert onnx_frontend.opset_of(onnx_frontend.load(model)) == 21
    assert model.SerializeToString() == before
    compile(model, calibration=samples(8, 6))


def test_opsets_that_are_too_old_or_unknown() -> None:
    with pytest.raises(CompileError, match=r"opset 9; 11 to \d+ are understood.*opset 21"):
        onnx_frontend.load(onnx_model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3]}, ["y"], {}, opset=9))


def test_local_functions_are_inlined() -> None:
    function = helper.make_function(
        "local",
        "Dense",
        ["a", "w"],
        ["b"],
        [helper.make_node("MatMul", ["a", "w"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    nodes = [helper.make_node("Dense", ["x", "w"], ["y"], name="dense", domain="local")]
    model = onnx_model(nodes, {"x": ["n", 6]}, ["y"], {"w": samples(6, 4)}, domains=["local"])
    model.functions.append(function)
    image = compile(model, calibration=samples(8, 6))
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogGemm"]


def test_quantised_models_with_qdq_keep_their_layers_analog() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["wq", "ws"], ["w"]),
        helper.make_node("MatMul", ["d", "w"], ["y"], name="fc"),
    ]
    constants = {
        "s": np.array(0.05, np.float32),
        "z": np.array(0, np.int8),
        "wq": np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8),
        "ws": np.array(0.01, np.float32),
    }
    image = compile(onnx_model(nodes, {"x": ["n", 6]}, ["y"], constants), calibration=samples(8, 6))
    assert image.manifest.layers[0].source_node == "fc"
    assert image.weight_scales()["fc", "W"][0] == pytest.approx(0.01 * np.abs(constants["wq"]).max())


def test_initialisers_listed_as_inputs_are_no_inputs() -> None:
    model = linear(6, 4)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4]))
    image = compile(model, calibration=samples(8, 6))
    assert [spec.name for spec in image.manifest.model.inputs] == ["x"]


def test_nothing_of_the_machine_is_left_in_the_image() -> None:
    image = compile(torch_model("mlp"), example("mlp"), calibration=torch_inputs("mlp")[0])
    data = image.to_bytes()
    assert str(Path(__file__).parent).encode() not in data
    assert b"stack_trace" not in data
    assert b".py" not in data


def test_the_base_install_draws_images_and_says_what_compiling_needs() -> None:
    code = """
import sys
for name in ("onnx", "onnxruntime", "pyarrow", "torch", "onnxscript"):
    sys.modules[name] = None
import pcmedge
import pcmedge.compiler.report
from pcmedge.frontends import onnx, torch
for act in (lambda: pcmedge.compile, lambda: onnx.load("x.onnx"), lambda: torch.load(None, None)):
    try:
        act()
    except pcmedge.errors.MissingExtraError as error:
        print(error.metadata["extra"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["emulator", "emulator", "train"]


def test_a_tflite_file_says_which_frontend_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    with pytest.raises(CompileError, match=r"pcmedge\.frontends\.tflite"):
        onnx_frontend.load(path)
