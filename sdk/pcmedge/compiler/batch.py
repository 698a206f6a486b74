"""Proof that the batch axis is one: samples computed together and apart give the same answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pcmedge.errors import CompileError

from .calibration import pick
from .graph import Array, Graph
from .runtime import FloatModel

_TOLERANCE = 1e-3
_CODES = 2


def require_independent_samples(graph: Graph, samples: Mapping[str, Array]) -> None:
    """Run up to three samples together and one by one; raise CompileError unless the results agree.

    Catches batch sizes built into the model, a time axis where the batch axis should be, and outputs that mix samples.
    """
    chosen = pick(samples, 3)
    count = len(next(iter(chosen.values())))
    if count < 2:
        chosen = {name: np.concatenate([value, value]) for name, value in chosen.items()}
        count = 2
    model = FloatModel(graph, graph.output_names)
    together = model.run(chosen)
    apart = [model.run({name: value[index : index + 1] for name, value in chosen.items()}) for index in range(count)]
    for name in graph.output_names:
        whole = together[name]
        if not isinstance(whole, np.ndarray):
            raise CompileError(
                f"Output '{name}': expected a tensor, found a {type(whole).__name__}. Make every output a tensor.",
                output=name,
            )
        if whole.ndim == 0 or len(whole) != count:
            raise CompileError(
                f"Output '{name}': expected one answer per sample along the first axis ({count}), found shape "
                f"{whole.shape}. Make the first axis of every input and output the batch axis.",
                output=name,
            )
        if whole.dtype.kind == "f" and not np.all(np.isfinite(whole)):
            raise CompileError(
                f"Output '{name}' of the float model is not finite on the calibration set. Check the weights and the "
                "scale of the calibration set.",
                output=name,
            )
        alone = np.concatenate([each[name] for each in apart])
        if alone.shape != whole.shape or not _close(alone, whole):
            raise CompileError(
                f"Output '{name}' depends on which samples are computed together. Make the first axis of every input "
                "the batch axis (for an LSTM: batch_first=True), and export batch norm in evaluation mode.",
                output=name,
            )


def _close(first: Array, second: Array) -> bool:
    if first.dtype in (np.int8, np.uint8):
        # Codes of a quantised model: a sum on the border between two may fall either way.
        return bool(np.abs(first.astype(int) - second.astype(int)).max(initial=0) <= _CODES)
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    scale = float(np.abs(second).max(initial=0.0)) or 1.0
    return bool(np.abs(first - second).max(initial=0.0) <= _TOLERANCE * scale)
