"""Networks for the tests of the TFLite frontend: eight architectures with fixed random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tflite_writer import NONE, RELU, RELU6, SAME, TANH, VALID, Constant, Net, flex_options

Array = np.ndarray[Any, Any]


class Layers:
    """Layers with random weights on a :class:`Net`; ``activation`` is the fused one."""

    def __init__(self, seed: int = 0) -> None:
        self.net = Net()
        self._rng = np.random.default_rng(seed)

    def weights(self, *shape: int, fan_in: int) -> Array:
        return (self._rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)

    def bias(self, size: int) -> Constant:
        return Constant((self._rng.normal(size=size) / 4).astype(np.float32), "bias")

    def conv(self, source: int, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), *, stride: int = 1,
             dilation: int = 1, padding: int = SAME, activation: int = NONE, groups: int = 1) -> int:  # fmt: skip
        filters = self.weights(outputs, *kernel, inputs // groups, fan_in=inputs // groups * kernel[0] * kernel[1])
        operands = [source, Constant(filters, "weights", 0), self.bias(outputs)]
        return self.net.op("CONV_2D", operands, "Conv2DOptions", padding=padding, strideW=stride, strideH=stride,
                           dilationWFactor=dilation, dilationHFactor=dilation,
                           fusedActivationFunction=activation)  # fmt: skip

    def depthwise(self, source: int, channels: int, kernel: tuple[int, int] = (3, 3), *, multiplier: int = 1,
                  stride: int = 1, dilation: int = 1, padding: int = SAME, activation: int = NONE) -> int:  # fmt: skip
        filters = self.weights(1, *kernel, channels * multiplier, fan_in=kernel[0] * kernel[1])
        operands = [source, Constant(filters, "weights", 3), self.bias(channels * multiplier)]
        return self.net.op("DEPTHWISE_CONV_2D", operands, "DepthwiseConv2DOptions", padding=padding, strideW=stride,
                           strideH=stride, depthMultiplier=multiplier, dilationWFactor=dilation,
                           dilationHFactor=dilation, fusedActivationFunction=activation)  # fmt: skip

    def dense(self, source: int, inputs: int, outputs: int, *, activation: int = NONE, keep: bool = False) -> int:
        operands = [source, Constant(self.weights(outputs, inputs, fan_in=inputs), "weights", 0), self.bias(outputs)]
        return self.net.op("FULLY_CONNECTED", operands, "FullyConnectedOptions", keepNumDims=keep,
                           fusedActivationFunction=activation)  # fmt: skip

    def upconv(self, source: int, inputs: int, outputs: int, shape: tuple[int, ...], *, kernel: int = 3,
               stride: int = 2, padding: int = SAME, with_bias: bool = True) -> int:  # fmt: skip
        filters = self.weights(outputs, kernel, kernel, inputs, fan_in=inputs * kernel)
        operands: list[Any] = [ints(*shape), Constant(filters, "weights", 0), source]
        operands += [self.bias(outputs)] if with_bias else []
        return self.net.op("TRANSPOSE_CONV", operands, "TransposeConvOptions", padding=padding, strideW=stride,
                           strideH=stride)  # fmt: skip

    def binary(self, kind: str, left: int | Constant, right: int | Constant, *, activation: int = NONE) -> int:
        options = f"{kind.capitalize()}Options"
        return self.net.op(kind, [left, right], options, fusedActivationFunction=activation)

    def pool(self, kind: str, source: int, size: int = 2, *, stride: int = 2, padding: int = VALID) -> int:
        return self.net.op(f"{kind}_POOL_2D", [source], "Pool2DOptions", padding=padding, strideW=stride,
                           strideH=stride, filterWidth=size, filterHeight=size)  # fmt: skip

    def mean(self, source: int, *axes: int, keep: bool = False) -> int:
        return self.net.op("MEAN", [source, ints(*axes)], "ReducerOptions", keepDims=keep)

    def reshape(self, source: int, *shape: int) -> int:
        return self.net.op("RESHAPE", [source, ints(*shape)], "ReshapeOptions", newShape=list(shape))

    def softmax(self, source: int, beta: float = 1.0) -> int:
        return self.net.op("SOFTMAX", [source], "SoftmaxOptions", beta=beta)

    def concat(self, *sources: int, axis: int = -1) -> int:
        return self.net.op("CONCATENATION", list(sources), "ConcatenationOptions", axis=axis)

    def resize(
        self, mode: str, source: int, height: int, width: int, *, align: bool = False, half: bool = False
    ) -> int:
        name = {"BILINEAR": "ResizeBilinearOptions", "NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions"}[mode]
        return self.net.op(f"RESIZE_{mode}", [source, ints(height, width)], name, alignCorners=align,
                           halfPixelCenters=half)  # fmt: skip

    def lstm(self, source: int, inputs: int, hidden: int, *, time_major: bool = False, coupled: bool = False) -> int:
        gates: list[Any] = [Constant(self.weights(hidden, inputs, fan_in=inputs)) for _ in range(4)]
        gates += [Constant(self.weights(hidden, hidden, fan_in=hidden)) for _ in range(4)]
        biases: list[Any] = [Constant(self.weights(hidden, fan_in=4)) for _ in range(4)]
        if coupled:
            gates[0] = gates[4] = biases[0] = None
        states = [self.net.variable(1, hidden) for _ in range(2)]
        operands = [source, *gates, None, None, None, *biases, None, None, *states]
        return self.net.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, "UnidirectionalSequenceLSTMOptions",
                           fusedActivationFunction=TANH, timeMajor=time_major, cellClip=10.0)  # fmt: skip

    def unary(self, kind: str, source: int, options: str = "") -> int:
        return self.net.op(kind, [source], options)


def ints(*values: int) -> Constant:
    return Constant(np.array(values, np.int32))


def mlp() -> Net:
    make = Layers()
    x = make.dense(make.net.input(1, 12), 12, 20, activation=RELU)
    return make.net.finish(make.softmax(make.dense(make.unary("LOGISTIC", make.dense(x, 20, 16)), 16, 5)))


def convolutional() -> Net:
    make = Layers(1)
    x = make.conv(make.net.input(1, 9, 8, 3), 3, 8, activation=RELU)
    x = make.pool("MAX", make.conv(x, 8, 8, padding=VALID, activation=RELU6))
    return make.net.finish(make.dense(make.reshape(x, 1, -1), 3 * 3 * 8, 4))


def separable() -> Net:
    make = Layers(2)
    x = make.conv(make.net.input(1, 11, 11, 2), 2, 6, stride=2, activation=RELU6)
    x = make.conv(make.depthwise(x, 6, activation=RELU6), 6, 10, (1, 1), activation=RELU6)
    x = make.depthwise(x, 10, stride=2, multiplier=2, activation=RELU6)
    return make.net.finish(make.softmax(make.dense(make.mean(x, 1, 2), 20, 4)))


def residual() -> Net:
    make = Layers(3)
    x = make.conv(make.net.input(1, 8, 8, 3), 3, 6, activation=RELU)
    x = make.binary("ADD", make.conv(make.conv(x, 6, 6, activation=RELU), 6, 6), x, activation=RELU)
    y = make.conv(make.conv(x, 6, 8, stride=2, activation=RELU), 8, 8)
    x = make.binary("ADD", make.conv(x, 6, 8, (1, 1), stride=2), y, activation=RELU)
    x = make.pool("AVERAGE", x, 4, stride=4)
    return make.net.finish(make.softmax(make.dense(make.reshape(x, 1, 8), 8, 5)))


def recurrent() -> Net:
    make = Layers(4)
    x = make.lstm(make.net.input(1, 7, 5), 5, 6)
    x = make.net.op("STRIDED_SLICE", [x, ints(0, -1, 0), ints(0, 0, 6), ints(1, 1, 1)], "StridedSliceOptions",
                    beginMask=5, endMask=5, shrinkAxisMask=2)  # fmt: skip
    return make.net.finish(make.dense(x, 6, 3))


def unet() -> Net:
    make = Layers(5)
    top = make.conv(make.net.input(1, 8, 8, 2), 2, 4, activation=RELU)
    down = make.conv(make.pool("MAX", top), 4, 8, activation=RELU)
    low = make.conv(make.pool("MAX", down), 8, 8, activation=RELU)
    x = make.conv(make.concat(make.upconv(low, 8, 6, (1, 4, 4, 6)), down), 14, 6, activation=RELU)
    x = make.conv(make.concat(make.resize("BILINEAR", x, 8, 8, half=True), top), 10, 4, activation=RELU)
    return make.net.finish(make.unary("LOGISTIC", make.conv(x, 4, 2, (1, 1))))


def squeeze_excite() -> Net:
    make = Layers(6)
    x = make.unary("HARD_SWISH", make.conv(make.net.input(1, 6, 6, 3), 3, 8))
    gate = make.conv(make.mean(x, 1, 2, keep=True), 8, 4, (1, 1), activation=RELU)
    x = make.binary("MUL", x, make.unary("LOGISTIC", make.conv(gate, 4, 8, (1, 1))))
    return make.net.finish(make.dense(make.mean(x, 1, 2), 8, 3))


def detector(*, regular: bool = False, per_detection: int = 1) -> Net:
    """An SSD head: 4 x 4 cells with 3 anchors, 3 classes and a background."""
    make = Layers(7)
    x = make.conv(make.net.input(1, 8, 8, 3), 3, 8, stride=2, activation=RELU6)
    boxes = make.reshape(make.conv(x, 8, 12), 1, 48, 4)
    scores = make.unary("LOGISTIC", make.reshape(make.conv(x, 8, 12), 1, 48, 4))
    centres = (np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 1, 2) + 0.5) / 4
    sizes = np.array([[0.3, 0.3], [0.5, 0.25], [0.25, 0.5]])
    anchors = np.concatenate([np.broadcast_to(centres, (16, 3, 2)), np.broadcast_to(sizes, (16, 3, 2))], axis=2)
    options = flex_options(
        max_detections=6, max_classes_per_detection=per_detection, detections_per_class=4, num_classes=3,
        use_regular_nms=regular, nms_score_threshold=0.4, nms_iou_threshold=0.5, y_scale=10.0, x_scale=10.0,
        h_scale=5.0, w_scale=5.0,
    )  # fmt: skip
    constant = Constant(anchors.reshape(48, 4).astype(np.float32))
    found = make.net.op("TFLite_Detection_PostProcess", [boxes, scores, constant], results=4, custom=options)
    return make.net.finish(*found)


ARCHITECTURES: dict[str, Callable[[], Net]] = {
    "mlp": mlp,
    "convolutional": convolutional,
    "separable": separable,
    "residual": residual,
    "recurrent": recurrent,
    "unet": unet,
    "squeeze-excite": squeeze_excite,
}


def inputs_of(net: Net, count: int = 12) -> list[Array]:
    """Normal samples for every input, batch first."""
    rng = np.random.default_rng(9)
    return [rng.normal(size=(count, *net.tensors[index].shape[1:])).astype(np.float32) for index in net.inputs]
