"""What a layer's operator makes of other weights than its own, summed per column over inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .graph import IR_VERSION, OPSET, Array, make_node
from .layers import CONV, Block, Layer, kernels
from .runtime import session


@dataclass
class ProductSums:
    """Sums over samples and positions, float64 [matrices, groups * columns].

    ``sums``, ``squares`` of x . W and ``crosses`` with x . W of the first matrix; ``spreads``: of x^2 . V. ``count``:
    how many products of a column went in.
    """

    sums: Array
    squares: Array
    crosses: Array
    spreads: Array
    count: int = 0

    def add(self, other: ProductSums) -> None:
        self.sums += other.sums
        self.squares += other.squares
        self.crosses += other.crosses
        self.spreads += other.spreads
        self.count += other.count


class Products:
    """Evaluates x . W for several W of one block, and x^2 . V for as many V; each float [groups, rows, columns]."""

    def __init__(self, layer: Layer, block: Block, matrices: Sequence[Array], variances: Sequence[Array]) -> None:
        self._layer, self._columns = layer, block.weights.shape[2]
        self._shape = (len(matrices), block.weights.shape[0] * self._columns)
        self._nodes = [make_node("Mul", ["x", "x"], ["square"], name="square")]
        axes = [0, *range(2, 2 + len(layer.options["kernel_shape"]))] if layer.operator == CONV else [0]
        self._constants = {"axes": np.array(axes, np.int64), "flat": np.array([-1, self._columns], np.int64)}
        self._names: list[str] = []
        for index, (matrix, variance) in enumerate(zip(matrices, variances, strict=True)):
            self._product(f"y{index}", "x", matrix)
            self._nodes.append(make_node("Mul", [f"y{index}", "y0"], [f"c{index}"], name=f"c{index}"))
            self._product(f"v{index}", "square", variance)
            self._reduce("ReduceSum", f"y{index}", f"sum{index}")
            self._reduce("ReduceSumSquare", f"y{index}", f"squares{index}")
            self._reduce("ReduceSum", f"c{index}", f"crosses{index}")
            self._reduce("ReduceSum", f"v{index}", f"spreads{index}")
        self._nodes.append(make_node("Size", ["y0"], ["size"], name="size"))
        outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._names]
        outputs.append(onnx.helper.make_tensor_value_info("size", onnx.TensorProto.INT64, None))
        graph = onnx.helper.make_graph(
            self._nodes,
            "products",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
            outputs,
            [onnx.numpy_helper.from_array(value, name) for name, value in self._constants.items()],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        self._session = session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION))

    def measure(self, values: Array) -> ProductSums:
        """One batch of what enters the layer."""
        *found, size = self._session.run([*self._names, "size"], {"x": np.ascontiguousarray(values)})
        table = np.array(found, np.float64).reshape(self._shape[0], 4, self._shape[1])
        sums, squares, crosses, spreads = (table[:, kind].copy() for kind in range(4))
        return ProductSums(sums, squares, crosses, spreads, int(size) // self._shape[1])

    def nothing(self) -> ProductSums:
        """Sums to add to."""
        sums, squares, crosses, spreads = (np.zeros(self._shape) for _ in range(4))
        return ProductSums(sums, squares, crosses, spreads)

    def _product(self, name: str, source: str, matrix: Array) -> None:
        if self._layer.operator == CONV:
            self._constants[f"w_{name}"] = kernels(matrix, self._layer.options["kernel_shape"]).astype(np.float32)
            self._nodes.append(make_node("Conv", [source, f"w_{name}"], [name], name=name, **self._layer.options))
            return
        self._constants[f"w_{name}"] = np.ascontiguousarray(matrix[0], np.float32)
        self._nodes.append(make_node("MatMul", [source, f"w_{name}"], [f"{name}_raw"], name=f"{name}_raw"))
        # Sequences have an axis more: all but the columns are summed over.
        self._nodes.append(make_node("Reshape", [f"{name}_raw", "flat"], [name], name=name))

    def _reduce(self, operator: str, tensor: str, name: str) -> None:
        self._nodes.append(make_node(operator, [tensor, "axes"], [name], name=name, keepdims=0))
        self._names.append(name)
