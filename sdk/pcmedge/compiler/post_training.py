"""What the compiler does for a model that was not trained for the chip: scales, clipping and biases by measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .clipping import CANDIDATES, Search, choose_scales
from .correction import correct_biases
from .graph import Array, Graph
from .layers import Layer
from .measure import BlockKey, Tick
from .options import Options
from .scaling import ScaledBlock, clip_limit, scale
from .statistics import StatisticsPlan


@dataclass(frozen=True)
class StoredWeights:
    """Scaled blocks of every layer, and the layers with the biases that go with them; biases are in ``graph``."""

    graph: Graph
    layers: tuple[Layer, ...]
    scaled: dict[BlockKey, ScaledBlock]


def store_weights(
    graph: Graph,
    layers: tuple[Layer, ...],
    plan: StatisticsPlan,
    samples: Mapping[str, Array],
    options: Options,
    tick: Tick,
) -> StoredWeights:
    """Clip, scale and correct as the options say; the float graph stays as it is."""
    clip, scaling = options.clip_sigma, options.scaling
    if clip == "search" or scaling == "auto":
        search = Search(
            clips=CANDIDATES if clip == "search" else (clip,),
            scalings=("layer", "column") if scaling == "auto" else (scaling,),
            noise=options.expected_noise,
            centred=options.bias_correction,
            targets=options.targets,
        )
        scaled = choose_scales(graph, layers, plan, samples, search, tick)
    else:
        scaled = {
            (layer.name, block.name): scale(block, scaling, clip_limit(block, scaling, clip), options.targets)
            for layer in layers
            for block in layer.blocks
        }
    if not options.bias_correction:
        return StoredWeights(graph, layers, scaled)
    corrected = correct_biases(graph, layers, plan, scaled, samples)
    return StoredWeights(corrected.graph, corrected.layers, scaled)
