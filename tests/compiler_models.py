"""Models for the compiler's tests: small ONNX graphs built by hand, the five torch architectures, the ideal chip."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from pcmedge.image import ChipImage
from pcmedge_emulator.engine.fast import FastEngine
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.state import Parameters, Snapshot
from torch import nn

Array = np.ndarray[Any, Any]


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, Array],
    *,
    opset: int = 21,
    domains: Sequence[str] = (),
    name: str = "hand-made",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, list(shape)) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if opset >= 21 else 7)


def linear(rows: int, columns: int, *, seed: int = 0) -> onnx.ModelProto:
    """One Gemm without bias: input 'x' (batch, rows), output 'y'."""
    weights = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    return onnx_model(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")], {"x": ["n", rows]}, ["y"], {"w": weights}
    )


def chain(*sizes: int, seed: int = 0) -> onnx.ModelProto:
    """Gemm + Relu layers, a softmax at the end."""
    rng = np.random.default_rng(seed)
    nodes, constants, last = [], {}, "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        constants[f"fc{index}.weight"] = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        constants[f"fc{index}.bias"] = rng.normal(size=columns).astype(np.float32)
        nodes.append(
            helper.make_node("Gemm", [last, f"fc{index}.weight", f"fc{index}.bias"], [f"z{index}"], name=f"gemm{index}")
        )
        final = index == len(sizes) - 2
        nodes.append(helper.make_node("Softmax" if final else "Relu", [f"z{index}"], ["y" if final else f"a{index}"]))
        last = f"a{index}"
    return onnx_model(nodes, {"x": ["n", sizes[0]]}, ["y"], constants)


def samples(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 16), nn.Sigmoid(), nn.Linear(16, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Residual(nn.Module):
    """Batch norm behind every convolution but the projection's, stride 2, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.first = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.second_norm = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        y = torch.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return self.head(torch.relu(y + self.project(x)).mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.deep_norm = nn.BatchNorm2d(6)
        self.point = nn.Conv2d(6, 8, 1)
        self.grouped = nn.Conv2d(8, 4, (3, 1), groups=2)
        self.head = nn.Linear(4 * 4 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.deep_norm(self.deep(x)))
        return self.head(nn.functional.hardswish(self.grouped(torch.relu(self.point(x)))).flatten(1))


class Recurrent(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True, bidirectional=True)
        self.head = nn.Linear(14, 3)

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, _ = self.lstm(x)
        return self.head(y[:, -1]) + offset, y


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x).mean(1))


ARCHITECTURES: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {
    "mlp": (Mlp, ((12,),)),
    "residual": (Residual, ((2, 8, 8),)),
    "depthwise": (Depthwise, ((3, 6, 6),)),
    "lstm": (Recurrent, ((6, 5), (3,))),
    "transformer": (Transformer, ((6, 16),)),
}


@functools.cache
def torch_model(name: str) -> nn.Module:
    """An architecture with fixed random weights and batch-norm statistics away from their initial values."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = ARCHITECTURES[name][0]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def torch_inputs(name: str, count: int = 24) -> tuple[Array, ...]:
    return tuple(samples(count, *shape, seed=index) for index, shape in enumerate(ARCHITECTURES[name][1]))


def example(name: str) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(value[:1]) for value in torch_inputs(name))


@functools.cache
def exported(name: str) -> onnx.ModelProto:
    """The float ONNX model of an architecture, exported once per test run."""
    from pcmedge.frontends import torch as frontend

    return frontend.load(torch_model(name), example(name))


def float_outputs(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def ideal_chip(image: ChipImage, inputs: Mapping[str, Array], *, converters: Any = "ideal") -> dict[str, Array]:
    """What a chip without noise and drift answers; with ``converters="ideal"`` without quantisation too."""
    conductances = {tile.tile: image.normalised_target(tile) for tile in image.tiles()}
    snapshot = Snapshot(conductances=conductances, converters=converters)
    return dict(FastEngine(ChipProgram.from_image(image), snapshot).run(inputs, Parameters()))


def relative_error(found: Array, expected: Array) -> float:
    """max |a - b| / max |b|."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def program_of(image: ChipImage) -> onnx.ModelProto:
    return onnx.load_from_string(image.program())
