"""The chip program: what an image says the chip computes, checked and in plain dataclasses.

A program is ONNX (opset 21) with three analog operators of the domain ``pcm`` that carry no weights but name a *layer*;
a layer's weight matrices ("blocks") lie on tiles. This module joins the ONNX text with the manifest's layers, the tile
table and the weight scales, so that the engines never look into an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from pcmedge._contract import image_pb2
from pcmedge.errors import ImageCorruptError
from pcmedge.image.program import load_program

from pcmedge_emulator.engine.validation import validate

if TYPE_CHECKING:
    from pcmedge.image import ChipImage, Tile

FloatArray = npt.NDArray[np.float32]

ANALOG_OPERATORS = ("AnalogConv", "AnalogGemm", "AnalogLSTM")


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One weight matrix on the crossbar: ``groups`` independent matrices of ``rows`` x ``columns``.

    ``dac_step`` is the value of one DAC code in layer units. ``weight_scale`` is float32 [groups * columns]: the
    weight that a full-scale conductance difference stands for. ``tiles`` cover the block exactly once. With a
    ``bias_code`` the last row of every group holds the bias and is driven with that code in every product.
    """

    name: str
    rows: int
    columns: int
    groups: int
    dac_step: float
    dac_signed: bool
    weight_scale: FloatArray
    tiles: tuple[Tile, ...]
    bias_code: int = 0

    @property
    def input_rows(self) -> int:
        """Rows per group that inputs drive: all but the bias row."""
        return self.rows - bool(self.bias_code)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalogLayer:
    """One analog node of the program and its blocks ("W"; LSTM also "R", and "W_reverse", "R_reverse")."""

    name: str
    operator: str
    blocks: Mapping[str, Block]


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm:
    """A BatchNormalization node: the per-channel digital scale and offset behind an analog layer; arrays float32 [C].

    ``mean`` and ``var`` are the statistics the image was compiled with. ``layer`` is empty for a batch norm that does
    not belong to an analog layer. ``kind`` is the manifest's ``StatisticsKind``.
    """

    mean: FloatArray
    var: FloatArray
    scale: FloatArray
    bias: FloatArray
    epsilon: float
    layer: str = ""
    kind: int = image_pb2.STATISTICS_KIND_BATCH_NORM


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A model input or output: ``shape`` has ``None`` where any size fits; axis 0 is the batch."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChipProgram:
    """What the chip computes. Construct with :meth:`from_image` or :meth:`build`; both validate.

    ``model`` is treated as immutable: engines copy it before they rewrite it.
    """

    model: onnx.ModelProto
    layers: Mapping[str, AnalogLayer]
    statistics: Mapping[str, BatchNorm]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: image_pb2.ChipProfile
    reference_statistics: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @classmethod
    def from_image(cls, image: ChipImage) -> ChipProgram:
        """The program of an image.

        Raises :class:`pcmedge.errors.ImageCorruptError` when the parts of the image disagree: a correct hash only
        says that the bytes are the ones somebody wrote.
        """
        manifest = image.manifest
        tiles: dict[tuple[str, str], list[Tile]] = {}
        for tile in image.tiles():
            tiles.setdefault((tile.layer, tile.block), []).append(tile)
        scales = image.weight_scales()
        layers: dict[str, AnalogLayer] = {}
        for described in manifest.layers:
            if described.name in layers:
                raise ImageCorruptError(f"two layers are named {described.name!r}", check="layers")
            blocks = {}
            for block in described.blocks:
                key = (described.name, block.name)
                if key not in scales:
                    raise ImageCorruptError(f"no weight scales for block {key}", check="columns")
                blocks[block.name] = Block(
                    name=block.name,
                    rows=block.rows,
                    columns=block.columns,
                    groups=block.groups,
                    dac_step=float(np.float32(block.dac_step)),
                    dac_signed=block.dac_signed,
                    weight_scale=np.asarray(scales[key], np.float32),
                    tiles=tuple(tiles.pop(key, ())),
                    bias_code=block.bias_code,
                )
            layers[described.name] = AnalogLayer(name=described.name, operator=described.operator, blocks=blocks)
        if tiles:
            raise ImageCorruptError(f"tiles of unknown blocks: {sorted(tiles)}", check="tiles")
        return cls.build(
            load_program(image),
            layers,
            manifest.profile,
            statistics_of={
                item.statistics_node: (item.name, int(item.statistics_kind))
                for item in manifest.layers
                if item.statistics_node
            },
            reference_statistics=image.reference_statistics(),
        )

    @classmethod
    def build(
        cls,
        model: onnx.ModelProto,
        layers: Mapping[str, AnalogLayer],
        profile: image_pb2.ChipProfile,
        *,
        statistics_of: Mapping[str, tuple[str, int]] | None = None,
        reference_statistics: Mapping[str, tuple[FloatArray, FloatArray]] | None = None,
    ) -> ChipProgram:
        """A program from its parts, validated.

        ``statistics_of`` maps a BatchNormalization node to the layer and kind of its statistics. Raises
        :class:`pcmedge.errors.ImageCorruptError`.
        """
        belongs = dict(statistics_of or {})
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        statistics: dict[str, BatchNorm] = {}
        for node in model.graph.node:
            if node.op_type != "BatchNormalization" or any(name not in constants for name in node.input[1:5]):
                continue
            scale, bias, mean, var = (_float32(constants[name]) for name in node.input[1:5])
            if not node.name or node.name in statistics:
                raise ImageCorruptError(
                    f"expected a unique name on every BatchNormalization node, found {node.name!r}", check="program"
                )
            layer, kind = belongs.get(node.name, ("", image_pb2.STATISTICS_KIND_BATCH_NORM))
            epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
            statistics[node.name] = BatchNorm(
                mean=mean, var=var, scale=scale, bias=bias, epsilon=epsilon, layer=layer, kind=kind
            )
        program = cls(
            model=model,
            layers=dict(layers),
            statistics=statistics,
            inputs=tuple(_spec(value) for value in model.graph.input if value.name not in constants),
            outputs=tuple(_spec(value) for value in model.graph.output),
            profile=profile,
            reference_statistics=dict(reference_statistics or {}),
        )
        validate(program, statistics_of=belongs)
        return program

    def layer_of_tile(self) -> dict[int, tuple[str, str]]:
        """Logical tile -> (layer, block)."""
        return {
            tile.tile: (layer.name, block.name)
            for layer in self.layers.values()
            for block in layer.blocks.values()
            for tile in block.tiles
        }


def _float32(tensor: onnx.TensorProto) -> FloatArray:
    return np.ascontiguousarray(numpy_helper.to_array(tensor), dtype=np.float32)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if not tensor.elem_type:
        raise ImageCorruptError(f"the program does not declare the type of {value.name!r}", check="program")
    shape = tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim
    )
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)
