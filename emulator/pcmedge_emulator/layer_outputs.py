"""One emulated chip whose layers can be looked into: what each analog layer gives, in the network or alone.

The program is lowered once more with every layer's result as an output, and once per layer with that layer alone; the
conductances, drift factors and statistics are the chip's. Nothing of it is part of the device contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pcmedge.errors import InternalError
from pcmedge.image import ChipImage

from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.engine import ChipProgram, FastEngine, TensorSpec
from pcmedge_emulator.engine.validation import layer_name

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """One batch: model outputs by name, every layer's pre-activation, and (ADC codes at full scale, all) by layer."""

    outputs: dict[str, NDArray[Any]]
    layers: dict[str, NDArray[Any]]
    codes: dict[str, tuple[int, int]]


class OpenChip:
    """A chip of its own (kept in memory, manual clock, one thread), programmed with ``image``. A context manager.

    ``physics``, ``converters``, ``read_noise``, ``seed``, ``serial``: as :class:`pcmedge_emulator.chip.Chip` takes
    them. Raises what programming raises.
    """

    def __init__(
        self,
        image: ChipImage,
        *,
        physics: Any,
        converters: str = "profile",
        read_noise: str = "additive",
        seed: int = 0,
        serial: str | None = None,
    ) -> None:
        self.image = image
        self.chip = Chip(
            profile=image.manifest.profile,
            technology=physics,
            serial=serial,
            seed=seed,
            clock=Clock.manual(),
            converters=converters,
            read_noise=read_noise,
            threads=1,
            default_policy=MANUAL,
        )
        try:
            self.chip.program(image)
        except BaseException:
            self.chip.close()
            raise
        self._program = ChipProgram.from_image(image)
        self._nodes = {layer_name(node): node for node in self._program.model.graph.node if node.domain == "pcm"}
        self._engines: dict[object, tuple[object, FastEngine]] = {}

    def __enter__(self) -> OpenChip:
        return self

    def __exit__(self, *_: object) -> None:
        self._engines.clear()
        self.chip.close()

    def run(self, inputs: Arrays, *, noise_seed: int) -> Answer:
        """The whole network on a batch of inputs."""
        engine, parameters = self._engine("network", lambda: _with_outputs(self._program, self._nodes))
        found, table = engine.run_with_saturation(inputs, parameters, noise_seed=noise_seed)
        layers = {layer: found[node.output[0]] for layer, node in self._nodes.items()}
        codes: dict[str, tuple[int, int]] = {}
        for tile in self.image.tiles():
            at, of = codes.get(tile.layer, (0, 0))
            saturated, converted = table.get(tile.tile, (0, 0))
            codes[tile.layer] = (at + saturated, of + converted)
        outputs = {spec.name: found[spec.name] for spec in self._program.outputs}
        return Answer(outputs, layers, codes)

    def run_layer(self, layer: str, tensors: Arrays, *, noise_seed: int) -> NDArray[Any]:
        """One layer alone on what would enter it; ``tensors``: its node's inputs that are no constants, by name."""
        node = self._nodes[layer]
        constants = {tensor.name for tensor in self._program.model.graph.initializer}
        source = node.input[0]
        states = {name: tensors[name] for name in node.input[2:] if name and name not in constants}
        if states:
            # The states of an LSTM belong to these very samples.
            engine, parameters = self._made(_alone(self._program, node, tensors[source], states))
        else:
            key = (layer, tensors[source].shape if node.op_type == "AnalogLSTM" else ())
            engine, parameters = self._engine(key, lambda: _alone(self._program, node, tensors[source], {}))
        found: NDArray[Any] = engine.run({source: tensors[source]}, parameters, noise_seed=noise_seed)[node.output[0]]
        return found

    def _engine(self, key: object, make: Any) -> tuple[FastEngine, Any]:
        """An engine of this moment's conductances, kept as long as they are the chip's."""
        resident = self.chip._state.resident(self.image.name)
        known = self._engines.get(key)
        if known is None or known[0] is not resident.engine:
            known = (resident.engine, self._made(make())[0])
            self._engines[key] = known
        return known[1], resident.parameters

    def _made(self, program: ChipProgram) -> tuple[FastEngine, Any]:
        resident = self.chip._state.resident(self.image.name)
        if not isinstance(resident.engine, FastEngine):
            raise InternalError("layers are looked into with the fast engine")
        return FastEngine(program, resident.engine.snapshot, threads=1), resident.parameters


def _with_outputs(program: ChipProgram, nodes: Mapping[str, onnx.NodeProto]) -> ChipProgram:
    """The program with every analog node's first result among its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(program.model)
    known = {spec.name for spec in program.outputs}
    extra = {node.output[0]: node for node in nodes.values() if node.output[0] not in known}
    model.graph.output.extend(_float(name, None) for name in extra)
    # The first axis of an LSTM's result is time: one that is not free keeps the engine from cutting the batch.
    specs = [
        TensorSpec(name=name, dtype=np.dtype(np.float32), shape=(1 if node.op_type == "AnalogLSTM" else None,))
        for name, node in extra.items()
    ]
    return replace(program, model=model, outputs=(*program.outputs, *specs))


def _alone(program: ChipProgram, node: onnx.NodeProto, source: NDArray[Any], states: Arrays) -> ChipProgram:
    """A program of one analog node; ``states`` are given to it as constants."""
    sequence = node.op_type == "AnalogLSTM"
    rank = source.ndim
    # The first axis of what enters an LSTM is time, which must not be cut into parts.
    shape = (len(source) if sequence else None, *(None,) * (rank - 1))
    constants = [tensor for tensor in program.model.graph.initializer if tensor.name in node.input]
    constants += [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in states.items()]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    graph = onnx.helper.make_graph(
        [copy], "alone", [_float(node.input[0], shape)], [_float(node.output[0], None)], constants
    )
    model = onnx.helper.make_model(
        graph, opset_imports=list(program.model.opset_import), ir_version=program.model.ir_version
    )
    layer = layer_name(node)
    kind = np.dtype(np.float32)
    return replace(
        program,
        model=model,
        layers={layer: program.layers[layer]},
        statistics={},
        inputs=(TensorSpec(name=node.input[0], dtype=kind, shape=shape),),
        outputs=(TensorSpec(name=node.output[0], dtype=kind, shape=(None,)),),
        reference_statistics={},
    )


def _float(name: str, shape: tuple[int | None, ...] | None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
