"""Requests that share one run of an engine or of hardware: which may, their inputs as one batch, and whose is what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge_emulator.outcomes import CheckedRequest

Tensors = Mapping[str, NDArray[Any]]


def checked_request(
    name: str, generation: int, inputs: Tensors, samples: int, *, shares: bool = True
) -> CheckedRequest:
    """Of inputs that were checked. Those of one model, programming, dtypes and shapes behind the batch axis share.

    ``shares`` False: with nobody.
    """
    shapes = tuple((key, values.dtype.str, values.shape[1:]) for key, values in inputs.items())
    kind = (name, generation, shapes) if shares else None
    return CheckedRequest(name=name, inputs=inputs, samples=samples, generation=generation, kind=kind)


def merged(requests: Sequence[CheckedRequest]) -> dict[str, NDArray[Any]]:
    """Input name -> [samples of all, ...]."""
    return {name: np.concatenate([request.inputs[name] for request in requests]) for name in requests[0].inputs}


def parted(outputs: Tensors, requests: Sequence[CheckedRequest]) -> list[dict[str, NDArray[Any]]]:
    """The outputs of each request, from those of all."""
    ends = np.cumsum([request.samples for request in requests]).tolist()
    return [
        {name: values[end - request.samples : end] for name, values in outputs.items()}
        for request, end in zip(requests, ends, strict=True)
    ]
