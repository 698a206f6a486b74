"""Clipping and scale of every weight block, chosen by what they cost on the calibration set.

Programming leaves an error on every conductance; the compiler is told how large, as a share of full scale. Full scale
is the largest weight: clipping it makes all other conductances larger, and the error of the weights they stand for
smaller, at the price of the clipped weights' own error. For a column with weights w, of which v are stored with the
scale s and read back with the gain a, the expected square error of its pre-activation is

    E|(a v - w) . x|^2 + (a s)^2 * sum_r noise(g_r)^2 E x_r^2

with g = v / s, over the inputs x that the float network gives the layer on the calibration set: the first term is
computed with the layer's own operator, the second is the mean square of independent errors. The gain a = E[(v.x)(w.x)]
/ E(v.x)^2 belongs to the column's digital scale and costs nothing; without it every clipped layer would shrink the
signal, and their errors would add up instead of averaging out. Banner et al. 2019 (arXiv:1810.05723) choose clipping
for quantisation alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pcmedge.image.targets import TargetFormat

from .calibration import pick
from .graph import Array, Graph
from .layers import LSTM, Layer
from .measure import BlockKey, entering, probed_tensors, samples_in
from .products import Products
from .runtime import FloatModel
from .scaling import ScaledBlock, Scaling, clip_limit, scale
from .statistics import StatisticsPlan

Scalings = Literal["layer", "column", "auto"]

Noise = float | Sequence[float]
"""Standard deviation of a conductance over g_max: one figure, or the coefficients (lowest power first) of a polynomial
in the conductance over g_max."""

EXPECTED_NOISE = (0.0105, 0.0786, -0.0469)
"""0.263 + 1.965 g - 1.173 g^2 uS over g_max = 25 uS: programming noise of the devices of Nandakumar et al. 2019 in
aihwkit's fit. Joshi et al. 2020 (Nat. Commun. 11:2473) sum the same devices up as 0.94 uS / 25 uS = 0.038."""
CANDIDATES = (None, 6.0, 5.0, 4.5, 4.0, 3.75, 3.5, 3.25, 3.0, 2.75, 2.5, 2.25, 2.0)
"""Clipping in standard deviations; what is searched goes down to what Joshi et al. train with."""
LEAST_GAIN = 0.05
"""``scaling="auto"`` takes a scale per column where it saves at least this share of the expected error."""
SEARCH_SAMPLES = 64


@dataclass(frozen=True)
class Search:
    """What is searched: ``clips`` (standard deviations or None), ``scalings``; ``noise``: error a conductance has.

    ``centred``: leave the mean of the clipping error out, because a bias correction will take it away.
    ``targets``: how conductances will be stored.
    """

    clips: tuple[float | None, ...]
    scalings: tuple[Scaling, ...]
    noise: Noise
    centred: bool
    targets: TargetFormat = "int16"

    def variances(self, conductances: Array) -> Array:
        """Square error of conductances over g_max."""
        coefficients = self.noise if isinstance(self.noise, Sequence) else (self.noise,)
        found: Array = np.square(
            np.polynomial.polynomial.polyval(np.abs(conductances.astype(np.float64)), coefficients)
        )
        return found


def choose_scales(
    graph: Graph,
    layers: Sequence[Layer],
    plan: StatisticsPlan,
    samples: Mapping[str, Array],
    search: Search,
    tick: Callable[[int, int], None],
) -> dict[BlockKey, ScaledBlock]:
    """The scaled blocks with the least expected error, measured on at most 64 of the samples."""
    probes = {
        (layer.name, block.name): _Probe(layer, index, search)
        for layer in layers
        for index, block in enumerate(layer.blocks)
    }
    chosen = pick(samples, SEARCH_SAMPLES)
    done, total = 0, len(next(iter(chosen.values())))
    for tensors in FloatModel(graph, [*probed_tensors(layers), *graph.input_names]).batches(chosen):
        for layer in layers:
            for block in layer.blocks:
                probes[layer.name, block.name].add(entering(layer, block.name, tensors))
        done += samples_in(tensors, graph)
        tick(min(done, total), total)
    return {
        (layer.name, block.name): probes[layer.name, block.name].best(_importance(graph, layer, plan))
        for layer in layers
        for block in layer.blocks
    }


def _importance(graph: Graph, layer: Layer, plan: StatisticsPlan) -> Array | float:
    """What a square error of each column is multiplied with on its way through the layer's own batch norm."""
    node = next((each for each in graph.nodes if plan.node[layer.name] and each.name == plan.node[layer.name]), None)
    if node is None or layer.operator == LSTM or any(name not in graph.constants for name in node.input[1:5]):
        return 1.0
    gamma, variance = (graph.constants[node.input[place]].astype(np.float64) for place in (1, 4))
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
    factors: Array = np.square(gamma) / (variance + epsilon)
    return factors if np.any(factors) else 1.0


class _Probe:
    """Measures, for every candidate of one block, the expected square error of each column."""

    def __init__(self, layer: Layer, index: int, search: Search) -> None:
        block = layer.blocks[index]
        self._search = search
        self._candidates: list[ScaledBlock] = []
        for scaling in search.scalings:
            for clip in search.clips:
                found = scale(block, scaling, clip_limit(block, scaling, clip), search.targets)
                last = self._candidates[-1] if self._candidates else None
                if last is None or last.scaling != scaling or not np.array_equal(last.scale, found.scale):
                    self._candidates.append(found)
        exact = block.weights.astype(np.float64)
        variances = [search.variances(each.conductances()) for each in self._candidates]
        weights = [each.weights() for each in self._candidates]
        self._products = Products(layer, block, [exact, *weights], [np.zeros_like(exact), *variances])
        self._sums = self._products.nothing()

    def add(self, values: Array) -> None:
        self._sums.add(self._products.measure(values))

    def best(self, importance: Array | float) -> ScaledBlock:
        """The candidate (with a scale per column, the mixture of candidates) with the least expected error."""
        found, count = self._sums, max(1, self._sums.count)
        squares, crosses, means = found.squares / count, found.crosses / count, found.sums / count
        if self._search.centred:
            squares, crosses = squares - np.square(means), crosses - means * means[0]
        exact, squares, crosses = squares[0], squares[1:], crosses[1:]
        alive = (squares > 0) & (crosses > 0)
        gains = np.where(alive, crosses, 1.0) / np.where(alive, squares, 1.0)
        scales = np.stack([each.scale.astype(np.float64) for each in self._candidates]) * gains
        errors = np.maximum(0.0, np.square(gains) * squares - 2 * gains * crosses + exact)
        errors = (errors + np.square(scales) * found.spreads[1:] / count) * importance
        chosen = [self._best_of(scaling, errors, scales) for scaling in self._search.scalings]
        best, least = chosen[0]
        for other, error in chosen[1:]:
            if error < (1 - LEAST_GAIN) * least:
                best, least = other, error
        return best

    def _best_of(self, scaling: Scaling, errors: Array, scales: Array) -> tuple[ScaledBlock, float]:
        """The best of one scaling and its error: one candidate for all columns, or each column its own."""
        places = [place for place, each in enumerate(self._candidates) if each.scaling == scaling]
        if scaling == "layer":
            place = min(places, key=lambda each: float(errors[each].sum()))
            scaled = replace(self._candidates[place], scale=scales[place].astype(np.float32))
            return scaled, float(errors[place].sum())
        best = np.array(places)[np.argmin(errors[places], axis=0)]
        first = self._candidates[places[0]]
        groups, _rows, columns = first.targets.shape
        targets, taken = first.targets, first.scale.astype(np.float64)
        for place in places:
            mine = best == place
            targets = np.where(mine.reshape(groups, 1, columns), self._candidates[place].targets, targets)
            taken = np.where(mine, scales[place], taken)
        scaled = replace(first, targets=targets, scale=taken.astype(np.float32))
        return scaled, float(errors[places].min(axis=0).sum())
