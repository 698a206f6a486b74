"""What the compiler measures on the calibration set, in two passes over the float model.

First pass: how large every analog layer's input is, and the moments of pre-activations whose statistics are recorded.
Second pass, with the DAC ranges known: how large every tile's partial sums are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import CompileError

from .graph import Array, Graph
from .layers import LSTM, Layer
from .partials import PartialSums
from .placement import Region
from .ranges import DacRange, Magnitudes, RangeChoice, choose_adc, choose_dac, full_scale
from .runtime import FloatModel
from .scaling import ScaledBlock
from .statistics import Moments

BlockKey = tuple[str, str]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class BlockRange:
    """Converter ranges of one block: its DAC, the mean square of its codes (full scale = 1), ADC steps per region."""

    dac: DacRange
    mean_square: float
    adc_steps: tuple[float, ...]


def first_pass(
    graph: Graph, layers: Sequence[Layer], recorded: Mapping[str, str], samples: Mapping[str, Array], tick: Tick
) -> tuple[dict[str, Magnitudes], dict[str, Moments]]:
    """Magnitudes per layer input (key: layer name) and moments per name in ``recorded`` (name -> tensor)."""
    seen = {layer.name: Magnitudes() for layer in layers}
    moments = {name: Moments() for name in recorded}
    model = FloatModel(graph, [*(layer.source for layer in layers), *recorded.values()])
    done, total = 0, len(next(iter(samples.values())))
    for tensors in model.batches(samples):
        for layer in layers:
            values = tensors[layer.source]
            _require_finite(layer, values)
            seen[layer.name].add(values)
        for name, tensor in recorded.items():
            moments[name].add(tensors[tensor])
        done += _samples(tensors, graph)
        tick(min(done, total), total)
    return seen, moments


def _require_finite(layer: Layer, values: Array) -> None:
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise CompileError(
            f"What layer '{layer.name}' is given on the calibration set is not finite. Check the weights and scales in "
            "front of it, and the calibration samples.",
            layer=layer.name,
        )


def moments_of(
    graph: Graph, tensors: Mapping[str, str], samples: Mapping[str, Array], tick: Tick | None = None
) -> dict[str, Moments]:
    """Mean and population variance per channel of tensors (name -> tensor) over a set, in inference mode."""
    found = {name: Moments() for name in tensors}
    if not tensors:
        return found
    done, total = 0, len(next(iter(samples.values())))
    for values in FloatModel(graph, list(tensors.values())).batches(samples):
        for name, tensor in tensors.items():
            found[name].add(values[tensor])
        done += len(values[tensor])
        if tick is not None:
            tick(min(done, total), total)
    return found


def second_pass(
    graph: Graph,
    layers: Sequence[Layer],
    scaled: Mapping[BlockKey, ScaledBlock],
    regions: Mapping[BlockKey, Sequence[Region]],
    seen: Mapping[str, Magnitudes],
    samples: Mapping[str, Array],
    profile: ChipProfile,
    dac_range: RangeChoice,
    adc_range: RangeChoice,
    tick: Tick,
) -> dict[BlockKey, BlockRange]:
    """Converter ranges of every block."""
    probes = {
        (layer.name, block.name): _Probe(
            layer, scaled[layer.name, block.name], regions[layer.name, block.name], seen[layer.name], profile, dac_range
        )
        for layer in layers
        for block in layer.blocks
    }
    model = FloatModel(graph, [name for layer in layers for name in _sources(layer)])
    done, total = 0, len(next(iter(samples.values())))
    for tensors in model.batches(samples):
        for layer in layers:
            for block in layer.blocks:
                probes[layer.name, block.name].add(_entering(layer, block.name, tensors))
        done += _samples(tensors, graph)
        tick(min(done, total), total)
    return {key: probe.ranges(int(profile.adc_bits), adc_range) for key, probe in probes.items()}


class _Probe:
    """Watches one block's DAC codes and its tiles' partial sums."""

    def __init__(
        self,
        layer: Layer,
        block: ScaledBlock,
        regions: Sequence[Region],
        seen: Magnitudes,
        profile: ChipProfile,
        dac_range: RangeChoice,
    ) -> None:
        if block.block.name.startswith("R"):
            # The hidden state of an LSTM lies in (-1, 1) by construction.
            levels = full_scale(int(profile.dac_bits), signed=True)
            self._dac = DacRange(1.0 / levels, True, levels)
        else:
            self._dac = choose_dac(seen, int(profile.dac_bits), dac_range)
        self._block, self._regions = block, regions
        self._sums = PartialSums(layer, block, regions)
        self._magnitudes = [Magnitudes() for _ in regions]
        self._squares, self._count = 0.0, 0

    def add(self, values: Array) -> None:
        codes = self._dac.codes(values)
        self._squares += float(np.square(codes / self._dac.levels, dtype=np.float64).sum())
        self._count += codes.size
        for magnitudes, sums in zip(self._magnitudes, self._sums(codes), strict=True):
            magnitudes.add(sums)

    def ranges(self, adc_bits: int, choice: RangeChoice) -> BlockRange:
        steps = tuple(
            choose_adc(magnitudes, adc_bits, choice, self._bound(region))
            for magnitudes, region in zip(self._magnitudes, self._regions, strict=True)
        )
        return BlockRange(self._dac, self._squares / max(1, self._count), steps)

    def _bound(self, region: Region) -> float:
        """Largest |sum| a column of the region could give: all inputs at full scale, in phase with the weights."""
        part = cut(self._block.conductances(), region)
        return max(1.0, float(np.abs(part).sum(axis=1).max()) * self._dac.levels)


def cut(values: Array, region: Region) -> Array:
    """The part of a [groups, rows, columns] array that a region holds."""
    return values[
        region.first_group : region.first_group + region.groups,
        region.first_row : region.first_row + region.rows,
        region.first_column : region.first_column + region.columns,
    ]


def _sources(layer: Layer) -> list[str]:
    return [layer.source, *(name for name in layer.outputs[:1] if layer.operator == LSTM)]


def _entering(layer: Layer, block: str, tensors: Mapping[str, Array]) -> Array:
    """What enters a block's DACs; for an LSTM's R the hidden states of all steps but the last, which no step reads."""
    if not block.startswith("R"):
        return tensors[layer.source]
    hidden = tensors[layer.output][:, 1 if block.endswith("_reverse") else 0]
    backwards = block.endswith("_reverse") or layer.options["direction"] == "reverse"
    if len(hidden) == 1:
        return hidden
    return hidden[1:] if backwards else hidden[:-1]


def _samples(tensors: Mapping[str, Array], graph: Graph) -> int:
    name = next((name for name in graph.input_names if name in tensors), "")
    return len(tensors[name]) if name else 0
