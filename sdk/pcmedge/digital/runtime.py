"""What a digital runtime is to the device, and how batches fit models that were made for one batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import CallSignature, TensorSpec
from pcmedge.errors import InputShapeError, InputValueError

Array = NDArray[Any]


class Runtime(Protocol):
    """A loaded model. ``software`` names what computes; specs are the file's own, the batch axis -1.

    ``batch``: the only batch size the file can take, None for any.
    """

    software: str
    batch: int | None

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    @property
    def signatures(self) -> Sequence[CallSignature]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, in the file's order; ``inputs`` have been checked. One call at a time."""


def in_batches(
    batch: int | None, inputs: Mapping[str, Array], run: Callable[[Mapping[str, Array]], dict[str, Array]]
) -> dict[str, Array]:
    """One run for a batch of any size, or as many of ``batch`` samples as there are."""
    count = len(next(iter(inputs.values())))
    if batch is None or batch == count:
        return run(inputs)
    if count % batch:
        raise InputShapeError(
            f"the model was made for batches of {batch}; found {count} samples, which is no multiple",
            expected=batch,
            found=count,
        )
    parts = [
        run({name: values[start : start + batch] for name, values in inputs.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def open_batch_axis(name: str, shape: Sequence[int], side: str) -> tuple[list[int], int | None]:
    """The shape with -1 for the batch, and the batch size the file fixes (None for any)."""
    if not shape or 0 in shape:
        raise InputValueError(
            f"{side} '{name}' of the model has shape {list(shape)}; expected the batch as its first axis and no empty "
            "ones",
            argument="model",
        )
    return [-1, *shape[1:]], None if shape[0] < 0 else int(shape[0])


def common_batch(found: Sequence[int | None]) -> int | None:
    """The batch size all inputs are made for. InputValueError if they differ."""
    sizes = {size for size in found if size is not None}
    if len(sizes) > 1:
        raise InputValueError(
            f"the model's inputs are made for batches of {sorted(sizes)}; expected one size", argument="model"
        )
    return sizes.pop() if sizes else None


def refused(path: str, software: str, error: BaseException) -> InputValueError:
    """The error for a file the runtime does not take."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return InputValueError(
        f"{software} does not run '{path}': {lines[0].rstrip('.')}. Convert the model again, or try another runtime.",
        argument="model",
    )
