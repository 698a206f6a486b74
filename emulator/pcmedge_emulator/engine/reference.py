"""The reference engine: the definition of what a program computes on a snapshot.

ONNX's own reference evaluator runs every standard operator; the analog ones are numpy in float64 inside
(:mod:`pcmedge_emulator.engine.reference_ops`), rounded to float32 where a tensor leaves an analog node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator
from pcmedge.errors import InputValueError

from pcmedge_emulator.engine.graph import PARAMETERS, GraphBuilder, ParameterLayout, tensor_names, unknown_shape
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.engine.lowering import assemble
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.reference_ops import OPERATORS, BlockEvaluator, Call, calling, patches
from pcmedge_emulator.engine.state import Parameters, Snapshot
from pcmedge_emulator.engine.statistics import Mode, rewrite_batch_norm
from pcmedge_emulator.engine.validation import ONNX_OPSET, PCM_OPSET, layer_name

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Seed = int | np.random.Generator | None

_IMAGE_PARAMETERS = Parameters()


class ReferenceEngine:
    """Runs a program on one snapshot, exactly as defined and slowly; safe to use from several threads at once.

    Same methods as :class:`pcmedge_emulator.engine.fast.FastEngine`. Read noise is drawn fresh for every MVM, so a
    ``noise_seed`` gives other numbers than the fast engine's bank, of the same distribution.
    """

    def __init__(self, program: ChipProgram, snapshot: Snapshot) -> None:
        snapshot.check(program)
        self.program = program
        self.snapshot = snapshot
        self._models = {mode: _with_statistics(program, mode) for mode in ("run", "batch", "paired")}

    def run(
        self, inputs: Mapping[str, Array], parameters: Parameters = _IMAGE_PARAMETERS, *, noise_seed: Seed = None
    ) -> dict[str, Array]:
        """Outputs by name for a batch of inputs (axis 0); arguments and errors as the fast engine's."""
        return self.run_with_saturation(inputs, parameters, noise_seed=noise_seed)[0]

    def run_with_saturation(
        self, inputs: Mapping[str, Array], parameters: Parameters = _IMAGE_PARAMETERS, *, noise_seed: Seed = None
    ) -> tuple[dict[str, Array], dict[int, tuple[int, int]]]:
        """As :meth:`run`, and per logical tile (ADC codes at full scale, all ADC codes)."""
        checked, _batch = check_inputs(self.program, inputs)
        model, layout, _measured = self._models["run"]
        call = Call(self.program, self.snapshot, parameters, np.random.default_rng(noise_seed))
        names = [spec.name for spec in self.program.outputs]
        values = _evaluate(model, layout.pack(parameters), checked, names, call)
        return dict(zip(names, values, strict=True)), call.saturation

    def measure(
        self,
        inputs: Mapping[str, Array],
        parameters: Parameters = _IMAGE_PARAMETERS,
        *,
        method: Literal["batch", "paired"],
        reference: Mapping[str, tuple[FloatArray, FloatArray]] | None = None,
        noise_seed: Seed = None,
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Batch-norm statistics of one batch: node -> (mean, variance); arguments as the fast engine's."""
        if method not in ("batch", "paired"):
            raise InputValueError(f"expected method 'batch' or 'paired', found {method!r}")
        checked, _batch = check_inputs(self.program, inputs)
        model, layout, measured = self._models[method]
        digital = self.program.reference_statistics if reference is None else reference
        call = Call(self.program, self.snapshot, parameters, np.random.default_rng(noise_seed))
        names = [name for pair in measured.values() for name in pair]
        values = _evaluate(model, layout.pack(parameters, digital), checked, names, call)
        as_float = [np.asarray(value, np.float32) for value in values]
        return {node: (as_float[2 * index], as_float[2 * index + 1]) for index, node in enumerate(measured)}

    def run_layer(self, layer: str, codes: Array, *, block: str = "W") -> dict[int, npt.NDArray[np.int64]]:
        """ADC codes of every tile of one block for given DAC codes, without read noise; as the fast engine's."""
        if self.snapshot.converters == "ideal":
            raise InputValueError("ideal converters have no codes; use converters='profile'")
        call = Call(self.program, self.snapshot, _IMAGE_PARAMETERS, None)
        found = self.program.layers[layer]
        evaluator = BlockEvaluator(call, found.blocks[block])
        values = np.asarray(codes, np.float64)
        if found.operator != "AnalogConv":
            shaped = values.reshape(-1, 1, values.shape[-1])
            return {
                tile: adc.astype(np.int64).reshape(*values.shape[:-1], -1)
                for tile, adc in evaluator.adc_codes(shaped).items()
            }
        node = next(
            node for node in self.program.model.graph.node if node.domain == "pcm" and layer_name(node) == layer
        )
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        rows, spatial = patches(values, attributes, found.blocks[block])
        return {
            tile: np.moveaxis(adc.astype(np.int64).reshape(len(values), *spatial, -1), -1, 1)
            for tile, adc in evaluator.adc_codes(rows).items()
        }


def _evaluate(
    model: onnx.ModelProto, packed: FloatArray, checked: dict[str, Array], names: list[str], call: Call
) -> list[Array]:
    feeds = {**checked, **({PARAMETERS: packed} if packed.size else {})}
    # An evaluator per call: it keeps no state of another thread's, and building one is cheap beside running it.
    evaluator = ReferenceEvaluator(model, new_ops=list(OPERATORS))
    with calling(call):
        values: list[Array] = evaluator.run(names, feeds)
    return values


def _with_statistics(
    program: ChipProgram, mode: Mode
) -> tuple[onnx.ModelProto, ParameterLayout, dict[str, tuple[str, str]]]:
    """The program with its batch-norm statistics as inputs, analog nodes untouched."""
    graph = program.model.graph
    builder, layout = GraphBuilder(tensor_names(graph)), ParameterLayout()
    measured: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type == "BatchNormalization" and node.name in program.statistics:
            pair = rewrite_batch_norm(node, program, builder, layout, mode)
            if pair is not None:
                measured[node.name] = pair
        else:
            builder.nodes.append(node)
    outputs = [*graph.output, *(unknown_shape(name) for pair in measured.values() for name in pair)]
    domains = (("", ONNX_OPSET), ("pcm", PCM_OPSET))
    return assemble(builder, layout, graph.input, outputs, graph.initializer, domains), layout, measured
