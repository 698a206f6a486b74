"""Every converted operator with its options, float and 8-bit, against the TFLite runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from pcmedge.frontends import tflite as frontend
from tflite_models import Layers, inputs_of, ints
from tflite_writer import RELU, RELU6, RELU_N1_TO_1, SAME, VALID, Array, Constant, Net, codes_of, runtime_outputs

Case = Callable[[Layers], Net]


def picture(make: Layers, *shape: int) -> int:
    return make.net.input(*(shape or (1, 7, 6, 4)))


def values(*shape: int) -> Constant:
    return Constant(np.random.default_rng(3).normal(size=shape).astype(np.float32), "value")


def raw(value: Any) -> Constant:
    return Constant(np.array(value, np.int32))


def one(layer: Callable[[Layers, int], Any], *shape: int) -> Case:
    """A network of one layer."""
    return lambda make: make.net.finish(*np.atleast_1d(layer(make, picture(make, *shape))).tolist())


def behind(layer: Callable[[Layers, int], Any]) -> Case:
    """The layer between two convolutions, where the tensors are NCHW inside."""
    return lambda make: make.net.finish(make.conv(layer(make, make.conv(picture(make), 4, 4)), 4, 3, (1, 1)))


def strided(*corners: Any, **masks: int) -> Callable[[Layers, int], int]:
    return lambda make, x: make.net.op("STRIDED_SLICE", [x, *map(raw, corners)], "StridedSliceOptions", **masks)


def pad(make: Layers, x: int) -> int:
    return make.net.op("PAD", [x, raw([[0, 0], [1, 2], [0, 3], [1, 0]])], "PadOptions")


def transpose(make: Layers, x: int, *order: int) -> int:
    return make.net.op("TRANSPOSE", [x, ints(*order)], "TransposeOptions")


def split(make: Layers, x: int) -> int:
    parts = make.net.op("SPLIT", [raw(3), x], "SplitOptions", results=2, numSplits=2)
    return make.concat(parts[1], parts[0])


def split_in_three(make: Layers, x: int) -> Any:
    return make.net.op("SPLIT", [raw(-1), x], "SplitOptions", results=3, numSplits=3)


def fused(kind: int) -> Case:
    return one(lambda make, x: make.conv(x, 4, 3, activation=kind))


CASES: dict[str, Case] = {
    **{
        f"conv {'same' if padding == SAME else 'valid'} stride {stride} dilation {dilation}": one(
            lambda make, x, p=padding, s=stride, d=dilation: make.conv(x, 4, 5, (3, 2), stride=s, dilation=d, padding=p)
        )
        for padding in (SAME, VALID)
        for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2))
    },
    "conv grouped": one(lambda make, x: make.conv(x, 4, 6, groups=2)),
    **{f"conv fused {kind}": fused(kind) for kind in (RELU, RELU_N1_TO_1, RELU6)},
    "depthwise same": one(lambda make, x: make.depthwise(x, 4)),
    "depthwise multiplier stride": one(lambda make, x: make.depthwise(x, 4, multiplier=2, stride=2, padding=VALID)),
    "depthwise dilated": one(lambda make, x: make.depthwise(x, 4, dilation=2)),
    "depthwise asymmetric same": one(lambda make, x: make.depthwise(x, 4, (2, 2), stride=2, activation=RELU6)),
    "dense on a picture": one(lambda make, x: make.dense(x, 168, 5)),
    "dense behind a convolution": one(lambda make, x: make.dense(make.conv(x, 4, 2), 84, 5, activation=RELU)),
    "dense per position": one(lambda make, x: make.dense(x, 4, 5, keep=True)),
    "dense on rows": one(lambda make, x: make.dense(x, 4, 5), 1, 3, 4),
    **{
        f"{kind.lower()} {where}": place(lambda make, x, k=kind: make.binary(k, x, make.conv(x, 4, 4)))
        for kind in ("ADD", "SUB", "MUL")
        for where, place in (("plain", one), ("inside", behind))
    },
    **{
        f"{kind.lower()} constant {shape}": behind(lambda make, x, k=kind, s=shape: make.binary(k, x, values(*s)))
        for kind in ("ADD", "MUL")
        for shape in ((4,), (1, 1, 1, 4), (6, 1), (1, 7, 6, 4), (1,))
    },
    "constant minus": behind(lambda make, x: make.binary("SUB", values(4), x)),
    "add fused": one(lambda make, x: make.binary("ADD", x, x, activation=RELU6)),
    **{
        f"{kind.lower()} pool {size} {stride} {'same' if padding == SAME else 'valid'}": one(
            lambda make, x, k=kind, z=size, s=stride, p=padding: make.pool(k, x, z, stride=s, padding=p)
        )
        for kind in ("AVERAGE", "MAX")
        for size, stride, padding in [(2, 2, VALID), (3, 2, SAME), (3, 1, SAME)]
    },
    **{
        f"mean {axes} {'keep' if keep else 'drop'} {where}": place(
            lambda make, x, a=axes, k=keep: make.mean(x, *a, keep=k)
        )
        for axes, keep, where, place in [
            ((1, 2), True, "inside", behind),
            ((3,), False, "plain", one),
            ((-3, -2), False, "plain", one),
            ((1,), False, "plain", one),
        ]
    },
    "mean drops channels inside": one(lambda make, x: make.mean(make.conv(x, 4, 4), 1)),
    "pad plain": one(pad),
    "pad inside": one(lambda make, x: make.conv(pad(make, make.conv(x, 4, 4)), 5, 2, padding=VALID)),
    "reshape": one(lambda make, x: make.reshape(make.conv(x, 4, 4), 1, -1)),
    "reshape pointlike": one(lambda make, x: make.reshape(make.conv(x, 4, 5), 1, 5), 1, 1, 1, 4),
    "reshape merges the batch": one(
        lambda make, x: make.reshape(make.dense(make.reshape(x, 3, 4), 4, 5), 1, 3, 5), 1, 3, 4
    ),
    "softmax": one(lambda make, x: make.softmax(x, 0.5)),
    "softmax inside": one(lambda make, x: make.softmax(make.conv(x, 4, 4))),
    **{
        f"{kind.lower()} {where}": place(lambda make, x, k=kind: make.unary(k, x))
        for kind in ("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "HARD_SWISH")
        for where, place in (("plain", one), ("inside", behind))
    },
    "concatenate channels": behind(lambda make, x: make.conv(make.concat(x, make.conv(x, 4, 3)), 7, 4)),
    "concatenate rows": behind(lambda make, x: make.concat(x, make.conv(x, 4, 4), axis=1)),
    "concatenate vectors": one(lambda make, x: make.concat(x, x, axis=-1), 1, 5),
    "transposed same": one(lambda make, x: make.upconv(x, 4, 3, (1, 14, 12, 3))),
    "transposed odd": one(lambda make, x: make.upconv(x, 4, 3, (1, 13, 11, 3), with_bias=False)),
    "transposed valid": one(lambda make, x: make.upconv(x, 4, 3, (1, 15, 13, 3), padding=VALID)),
    "transposed kernel 2": one(lambda make, x: make.upconv(x, 4, 3, (1, 14, 12, 3), kernel=2)),
    "transposed kernel 4": one(lambda make, x: make.upconv(x, 4, 3, (1, 14, 12, 3), kernel=4)),
    "transposed stride over kernel": one(lambda make, x: make.upconv(x, 4, 3, (1, 21, 18, 3), kernel=2, stride=3)),
    **{
        f"resize {mode.lower()} {height}x{width} align {align} half {half}": behind(
            lambda make, x, m=mode, h=height, w=width, a=align, f=half: make.resize(m, x, h, w, align=a, half=f)
        )
        for mode in ("BILINEAR", "NEAREST_NEIGHBOR")
        for align, half in ((False, False), (True, False), (False, True))
        for height, width in ((14, 9), (4, 5))
    },
    "squeeze": one(lambda make, x: make.net.op("SQUEEZE", [x], "SqueezeOptions", squeezeDims=[1, 2]), 1, 1, 1, 4),
    "transpose": one(lambda make, x: transpose(make, make.conv(x, 4, 4), 0, 3, 1, 2)),
    "slice": behind(strided([0, 1, 0, 0], [1, 6, 6, 4], [1, 2, 3, 1])),
    "slice channels": one(lambda make, x: strided([0, 0, 0, 1], [1, 7, 6, 3], [1, 1, 1, 1])(make, make.conv(x, 4, 4))),
    "slice masked": one(strided([9, 1, -4], [9, 0, -1], [1, 1, 1], beginMask=1, endMask=3), 1, 5, 6),
    "slice backwards": one(strided([0, 4, 0], [1, 0, 0], [1, -2, 1], endMask=6), 1, 5, 6),
    "slice everything": one(strided([0, 0], [1, 5], [1, 1]), 1, 5),
    "slice shrinks": one(strided([0, 2, 0], [1, 3, 6], [1, 1, 1], shrinkAxisMask=2), 1, 5, 6),
    "slice ellipsis": one(strided([0, 0, 1], [1, 0, 3], [1, 1, 1], ellipsisMask=2)),
    "slice new axis": one(strided([0, 0, 0], [1, 0, 5], [1, 1, 1], newAxisMask=2), 1, 5),
    "split": behind(split),
    "split plain": one(split_in_three, 1, 6),
}  # fmt: skip
# The runtime has these in float only.
FLOAT_ONLY = {"conv grouped"}
FLOAT_CASES: dict[str, Case] = {
    "lstm": one(lambda make, x: make.lstm(x, 4, 3), 1, 6, 4),
    "lstm time major": one(lambda make, x: time_major(make, x), 1, 6, 4),
    "lstm coupled gates": one(lambda make, x: make.lstm(x, 4, 3, coupled=True), 1, 6, 4),
}


def time_major(make: Layers, x: int) -> int:
    return transpose(make, make.lstm(transpose(make, x, 1, 0, 2), 4, 3, time_major=True), 1, 0, 2)


def converted(model: bytes, inputs: list[Array], path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs of the converted graph (all samples in one batch) and of the TFLite runtime."""
    file = path / "model.tflite"
    file.write_bytes(model)
    graph = frontend.load(file)
    onnx.checker.check_model(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    given = dict(zip([each.name for each in session.get_inputs()], inputs, strict=True))
    return dict(zip(names, session.run(names, given), strict=True)), runtime_outputs(model, inputs)


@pytest.mark.parametrize("name", [*CASES, *FLOAT_CASES])
def test_an_operator_in_float(name: str, tmp_path: Path) -> None:
    net = {**CASES, **FLOAT_CASES}[name](Layers(11))
    found, expected = converted(net.to_bytes(), inputs_of(net, 3), tmp_path)
    assert list(found) == list(expected)
    for output, values in expected.items():
        assert found[output].shape == values.shape
        assert found[output] == pytest.approx(values, abs=2e-5 * max(1.0, float(np.abs(values).max())))


@pytest.mark.parametrize("codes", ["int8", "uint8"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in FLOAT_ONLY])
def test_an_operator_in_codes(name: str, codes: str, tmp_path: Path) -> None:
    net = CASES[name](Layers(11))
    model = net.quantised(inputs_of(net, 8), codes)
    found, expected = converted(model, codes_of(model, inputs_of(net, 3)), tmp_path)
    for output, values in expected.items():
        assert found[output].dtype == values.dtype
        assert found[output].shape == values.shape
        steps = np.abs(found[output].astype(int) - values.astype(int))
        assert steps.max() <= 2
        assert np.mean(steps <= 1) >= 0.85
