"""Small models as .tflite files and, for the compiler, as ONNX: colours of pictures, pitches of tones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper
from pcmedge.frontends.interface import Codes, Interface, Signature, attach

Array = np.ndarray[Any, Any]
COLOURS = ("red", "green", "blue")
PITCHES = ("low", "middle", "high")
SIDE = 8
BANDS = 12
PICTURE_STEP, PICTURE_ZERO = float(np.float32(2 / 255)), -1
BAND_STEP, BAND_ZERO = 0.03125, -64
GAIN = 6.0


class Writer:
    """One subgraph of a .tflite file, written through the runtime's own schema classes."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.buffers: list[bytes] = [b""]

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        data: Array | None = None,
        signature: Sequence[int] | None = None,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape = name.encode(), list(shape)
        made.type = getattr(schema.TensorType, dtype.upper())
        made.shapeSignature = None if signature is None else list(signature)
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(np.ascontiguousarray(data, dtype).tobytes())
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any) -> None:
        code = getattr(schema.BuiltinOperator, kind)
        if code not in self.codes:
            self.codes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self.codes.index(code), list(inputs), list(outputs)
        made.builtinOptions = options
        made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(made)

    def model(self, inputs: dict[str, int], outputs: dict[str, int], *, signature: str | None = None) -> bytes:
        """The file; ``inputs`` and ``outputs`` by the signature's names."""
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.description, model.subgraphs = 3, b"pcmedge tests", [graph]
        graph.name, graph.tensors, graph.operators = b"main", self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model.buffers = []
        for data in self.buffers:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8) if data else None
            model.buffers.append(buffer)
        model.operatorCodes = []
        for number in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            model.operatorCodes.append(code)
        if signature is not None:
            made = schema.SignatureDefT()
            made.signatureKey = signature.encode()
            made.inputs, made.outputs = _map(inputs), _map(outputs)
            model.signatureDefs = [made]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _map(names: dict[str, int]) -> list[Any]:
    found = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        found.append(entry)
    return found


def _relu_conv() -> Any:
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    return options


def _softmax() -> Any:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return options


def colour_kernel() -> Array:
    """[outputs, height, width, inputs]: the mean of each colour around a pixel, less half the others."""
    mix = 1.5 * np.eye(3, dtype=np.float32) - 0.5
    return np.broadcast_to(mix[:, None, None, :] / 9, (3, 3, 3, 3)).astype(np.float32)


def colours_tflite(*, batch: int = -1, signature: str | None = None) -> bytes:
    """float32 [batch, 8, 8, 3], NHWC, -1..1 -> probabilities of red, green and blue."""
    size = max(batch, 1)
    w = Writer()
    x = w.tensor("picture", [size, SIDE, SIDE, 3], signature=[batch, SIDE, SIDE, 3])
    kernel = w.tensor("kernel", [3, 3, 3, 3], data=colour_kernel())
    shift = w.tensor("shift", [3], data=np.zeros(3))
    a = w.tensor("a", [size, SIDE - 2, SIDE - 2, 3], signature=[batch, SIDE - 2, SIDE - 2, 3])
    w.operator("CONV_2D", [x, kernel, shift], [a], _relu_conv())
    axes = w.tensor("axes", [2], "int32", data=np.array([1, 2]))
    pooled = w.tensor("pooled", [size, 3], signature=[batch, 3])
    w.operator("MEAN", [a, axes], [pooled], schema.ReducerOptionsT())
    weights = w.tensor("weights", [3, 3], data=GAIN * np.eye(3))
    logits = w.tensor("logits", [size, 3], signature=[batch, 3])
    w.operator("FULLY_CONNECTED", [pooled, weights, -1], [logits], schema.FullyConnectedOptionsT())
    y = w.tensor("probabilities", [size, 3], signature=[batch, 3])
    w.operator("SOFTMAX", [logits], [y], _softmax())
    return w.model({"image": x}, {"scores": y}, signature=signature)


def band_weights() -> Array:
    """[3, bands] int8 codes: each pitch sums its third of the bands and takes the others off."""
    return np.where(np.arange(BANDS) * 3 // BANDS == np.arange(3)[:, None], 100, -50).astype(np.int8)


BAND_WEIGHT_STEP = 1 / 400
LOGIT_STEP = 0.0625


def pitches_tflite(*, batch: int = -1, signature: str | None = "serving_default") -> bytes:
    """int8 [batch, 12] bands -> int8 probabilities of low, middle and high; quantised throughout."""
    size = max(batch, 1)
    w = Writer()
    x = w.tensor("bands", [size, BANDS], "int8", signature=[batch, BANDS], scale=BAND_STEP, zero_point=BAND_ZERO)
    weights = w.tensor("weights", [3, BANDS], "int8", data=band_weights(), scale=BAND_WEIGHT_STEP)
    shift = w.tensor("shift", [3], "int32", data=np.zeros(3), scale=BAND_STEP * BAND_WEIGHT_STEP)
    logits = w.tensor("logits", [size, 3], "int8", signature=[batch, 3], scale=LOGIT_STEP)
    w.operator("FULLY_CONNECTED", [x, weights, shift], [logits], schema.FullyConnectedOptionsT())
    y = w.tensor("probabilities", [size, 3], "int8", signature=[batch, 3], scale=1 / 256, zero_point=-128)
    w.operator("SOFTMAX", [logits], [y], _softmax())
    return w.model({"features": x}, {"scores": y}, signature=signature)


def _onnx(nodes: list[onnx.NodeProto], x: Any, y: Any, constants: dict[str, Array]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "twin", [x], [y], [numpy_helper.from_array(value, key) for key, value in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def colours_onnx() -> onnx.ModelProto:
    """The network of :func:`colours_tflite` with the same interface, NHWC."""
    nodes = [
        helper.make_node("Transpose", ["picture"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["a"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["pooled"]),
        helper.make_node("Gemm", ["pooled", "weights"], ["logits"], name="fc", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {
        "kernel": np.ascontiguousarray(colour_kernel().transpose(0, 3, 1, 2)),
        "weights": (GAIN * np.eye(3)).astype(np.float32),
    }
    x = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", SIDE, SIDE, 3])
    return _onnx(nodes, x, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]), constants)


def pitches_onnx() -> onnx.ModelProto:
    """The network of :func:`pitches_tflite` on values; its interface says how the file codes them."""
    nodes = [
        helper.make_node("Gemm", ["bands", "weights"], ["logits"], name="fc", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"weights": band_weights().astype(np.float32) * np.float32(BAND_WEIGHT_STEP)}
    x = helper.make_tensor_value_info("bands", TensorProto.FLOAT, ["n", BANDS])
    model = _onnx(nodes, x, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]), constants)
    codes = {
        "bands": Codes(datatype="INT8", scale=BAND_STEP, zero_point=BAND_ZERO),
        "probabilities": Codes(datatype="INT8", scale=1 / 256, zero_point=-128),
    }
    signature = Signature(key="serving_default", inputs={"features": "bands"}, outputs={"scores": "probabilities"})
    attach(model, Interface(codes=codes, signatures=(signature,)))
    return model


def pictures(count: int = 24) -> tuple[Array, Array]:
    """uint8 [count, 8, 8, 3], one colour stronger than the others, and which."""
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 3
    found = rng.integers(0, 70, (count, SIDE, SIDE, 3))
    found[np.arange(count), :, :, labels] += 170
    return found.astype(np.uint8), labels


def normalised(found: Array) -> Array:
    return ((found.astype(np.float32) - 127.5) / 127.5).astype(np.float32)


def tones(count: int = 24) -> tuple[Array, Array]:
    """float32 [count, 12] band energies with one third of the bands louder, and which."""
    rng = np.random.default_rng(2)
    labels = np.arange(count) % 3
    found = rng.uniform(0, 1, (count, BANDS))
    found[np.arange(BANDS) * 3 // BANDS == labels[:, None]] += 3
    return found.astype(np.float32), labels


def codes_of(bands: Array) -> Array:
    return np.clip(np.rint(bands / BAND_STEP) + BAND_ZERO, -128, 127).astype(np.int8)
