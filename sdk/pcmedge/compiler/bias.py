"""Where a layer's bias lies: added digitally behind the tiles, or on a crossbar row of its own.

The row is driven with one constant DAC code in every product and shares the layer's DAC step and weight scales:

    bias[c] = g[c] * code * dac_step * weight_scale[c]

The code is the smallest with every |g| <= 1. What a device is off by is multiplied with the code, so a larger one (full
scale, say) would only add noise, and weakly programmed devices drift more. A bias that does not fit at the largest code
stays digital: the alternative, larger weight scales, would take conductance range from every weight of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pcmedge.image.targets import encode

from .graph import Array, Graph
from .layers import LSTM, Layer
from .measure import BlockKey
from .ranges import DacRange
from .scaling import ScaledBlock

BiasChoice = Literal["digital", "row"]
# Room for the rounding of weight scales to float32: |g| may exceed 1 by this much before it counts as not fitting.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class BiasPlan:
    """Layers and scaled blocks with the bias rows in them; per biased layer a sentence for the report."""

    layers: tuple[Layer, ...]
    scaled: dict[BlockKey, ScaledBlock]
    notes: dict[str, str]


def place_biases(
    graph: Graph,
    layers: Sequence[Layer],
    scaled: Mapping[BlockKey, ScaledBlock],
    dacs: Mapping[str, DacRange],
    choice: BiasChoice,
) -> BiasPlan:
    """Put every bias that can be there on a row; ``dacs`` is the DAC range of each layer's input."""
    plan = BiasPlan((), dict(scaled), {})
    placed: list[Layer] = []
    for layer in layers:
        if choice == "row" and layer.bias:
            layer = _place(plan, layer, np.asarray(graph.constants[layer.bias], np.float64), dacs[layer.name])
        placed.append(layer)
    return replace(plan, layers=tuple(placed))


def _place(plan: BiasPlan, layer: Layer, bias: Array, dac: DacRange) -> Layer:
    if layer.operator == LSTM:
        plan.notes[layer.name] = "bias digital: the gates are sums of two blocks, with a bias each"
        return layer
    key = (layer.name, layer.blocks[0].name)
    block = plan.scaled[key]
    groups, _, columns = block.targets.shape
    # A Gemm's bias may be one number for all columns.
    needed = np.broadcast_to(bias.reshape(-1), (groups * columns,)) / (dac.step * block.scale.astype(np.float64))
    largest = float(np.abs(needed).max())
    if largest > dac.levels * (1 + _TOLERANCE):
        plan.notes[layer.name] = f"bias digital: it is {largest / dac.levels:.3g} times what one row can express"
        return layer
    code = min(dac.levels, max(1, math.ceil(largest * (1 - _TOLERANCE))))
    plan.notes[layer.name] = f"bias on a row of its own, driven with code {code}"
    row = (needed / code).reshape(groups, 1, columns)
    targets = encode(row, block.targets.dtype)
    scale = block.scale.reshape(groups, 1, columns)
    weights = np.concatenate([block.block.weights, (row * scale).astype(np.float32)], axis=1)
    made = replace(block.block, weights=weights, bias_code=code)
    plan.scaled[key] = replace(block, block=made, targets=np.concatenate([block.targets, targets], axis=1))
    return replace(layer, bias="", blocks=(made,))
