"""Choosing a calibration buffer by what it lets the device see of its own errors.

A weight that is off by dw shifts its column's mean by dw times the mean input of its row. Weight errors of a layer are
alike and independent, so the power of the shifts of all its columns is in proportion to the squared length of the mean
input, |m|^2; a buffer with another mean input b sees all of it but |b - m|^2. Layers are added up in shares of the
power that weight errors bring in all, in proportion to the mean square input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .graph import Array, Graph
from .layers import CONV, LSTM, Layer
from .runtime import FloatModel


class InputMeter:
    """Measures mean inputs of all analog layers in units that the calibration set fixes."""

    def __init__(self, graph: Graph, layers: Sequence[Layer], calibration: Mapping[str, Array]) -> None:
        self._layers = tuple({layer.source: layer for layer in layers}.values())
        self._model = FloatModel(graph, [layer.source for layer in self._layers])
        self._scales = [1.0] * len(self._layers)
        means, squares = self._run(calibration)
        self._scales = [float(1.0 / np.sqrt(value)) if value > 0 else 0.0 for value in squares]
        self.target = np.concatenate([m.mean(axis=0) * s for m, s in zip(means, self._scales, strict=True)])

    def means(self, samples: Mapping[str, Array]) -> Array:
        """Per sample the mean of every input channel of every analog layer, float64 [samples, features].

        Each layer is in units of its root mean square input on the calibration set.
        """
        means, _squares = self._run(samples)
        return np.concatenate([m * s for m, s in zip(means, self._scales, strict=True)], axis=1)

    def coverage(self, means: Array) -> float:
        """What a buffer with these means of its samples sees; 1 is all, and 0 or less nothing. Unit: 1."""
        power = float(np.square(self.target).sum())
        missed = float(np.square(means.mean(axis=0) - self.target).sum())
        return 1.0 - missed / power if power > 0 else 1.0

    def _run(self, samples: Mapping[str, Array]) -> tuple[list[Array], list[float]]:
        """Per layer the means per sample [samples, channels], and the mean square over all samples and channels."""
        parts: list[list[Array]] = [[] for _ in self._layers]
        squares = [0.0] * len(self._layers)
        counts = [0] * len(self._layers)
        for tensors in self._model.batches(samples):
            for place, layer in enumerate(self._layers):
                values = tensors[layer.source].astype(np.float64)
                if layer.operator == LSTM:
                    values = values.swapaxes(0, 1)
                values = np.moveaxis(values, 1, -1) if layer.operator == CONV else values
                parts[place].append(values.reshape(len(values), -1, values.shape[-1]).mean(axis=1))
                squares[place] += float(np.square(values).sum())
                counts[place] += values.size
        return [np.concatenate(part) for part in parts], [s / max(1, n) for s, n in zip(squares, counts, strict=True)]


def herd(means: Array, target: Array, count: int) -> list[int]:
    """``count`` different samples whose mean comes close to the target: greedily, one after the other.

    ``means`` [samples, features]. Kernel herding with a linear kernel (Welling 2009), without repetition.
    """
    total = np.zeros_like(target)
    chosen: list[int] = []
    for size in range(1, min(count, len(means)) + 1):
        missed = np.square((total + means) / size - target).sum(axis=1)
        missed[chosen] = np.inf
        best = int(np.argmin(missed))
        chosen.append(best)
        total += means[best]
    return chosen
