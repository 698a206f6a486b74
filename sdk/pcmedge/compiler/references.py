"""The reference inputs of the self-test, which the device's guard asks as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcmedge.errors import InputValueError

from .buffers import LEAST_POOL, synthetic
from .calibration import calibration_set, pick
from .graph import Array, Graph
from .layers import Layer
from .runtime import FloatModel

DEFAULT_REFERENCE = 16


def choose_reference(
    graph: Graph, layers: Sequence[Layer], choice: Any, calibration: Mapping[str, Array], *, seed: int
) -> dict[str, Array]:
    """What ``compile(reference=...)`` asks for: so many calibration samples (None: 16), "synthetic" ones, or samples.

    ``seed``: that of a synthetic buffer, whose samples the reference inputs are never taken from.
    """
    if isinstance(choice, str):
        if choice != "synthetic":
            raise InputValueError(
                f"reference: expected a number of samples, 'synthetic' or samples; found {choice!r}.", found=choice
            )
        made = synthetic(graph, layers, calibration, LEAST_POOL, seed + 1).samples
        assert made is not None
        chosen = _decided(FloatModel(graph, graph.output_names).run(made), DEFAULT_REFERENCE)
        return {name: values[chosen] for name, values in made.items()}
    if choice is None or (isinstance(choice, int) and not isinstance(choice, bool)):
        count = DEFAULT_REFERENCE if choice is None else choice
        if count < 1:
            raise InputValueError(f"reference: expected at least one sample for the self-test, found {count}.")
        return pick(calibration, count)
    return calibration_set(graph, choice, what="reference")


def _decided(outputs: Mapping[str, Array], count: int) -> list[int]:
    """Samples the network is surest of, classes taking turns; the first ones where no output is one of scores.

    A borderline sample changes its class by any noise and would say nothing about the device; samples of one
    class would let a device pass that always answers the same.
    """
    scores = next((value for value in outputs.values() if value.ndim == 2 and value.shape[1] > 1), None)
    if scores is None:
        return list(range(count))
    best, second = np.sort(scores, axis=1)[:, ::-1][:, :2].T
    surest = np.argsort(second - best, kind="stable")
    decisions = scores.argmax(axis=1)
    turns = np.zeros(len(scores), np.int64)
    for place, sample in enumerate(surest):
        turns[sample] = np.count_nonzero(decisions[surest[:place]] == decisions[sample])
    return sorted(range(len(scores)), key=lambda sample: (turns[sample], second[sample] - best[sample]))[:count]
