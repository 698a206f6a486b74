"""The one place where inputs of an inference are checked; every chip and every way to call it shares these errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError, InputTypeError, InputValueError

Array = npt.NDArray[Any]


class Spec(Protocol):
    """An input of a model; None in ``shape`` is any size."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int | None, ...]: ...


def check_tensors(specs: Sequence[Spec], inputs: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """The inputs as contiguous arrays, and the batch size.

    Raises :class:`InputValueError` for a missing or unknown name and for values that are not finite (the DAC could
    not represent them), :class:`InputTypeError` for another dtype, :class:`InputShapeError` for another shape, an
    empty batch, or batches of different sizes. Nothing is converted silently.
    """
    expected = {spec.name for spec in specs}
    if set(inputs) != expected:
        raise InputValueError(
            f"expected inputs {sorted(expected)}, found {sorted(inputs)}; name every input of the model exactly once",
            expected=",".join(sorted(expected)),
            found=",".join(sorted(inputs)),
        )
    checked = {spec.name: _check_one(spec, np.asarray(inputs[spec.name])) for spec in specs}
    sizes = {name: values.shape[0] for name, values in checked.items()}
    if len(set(sizes.values())) > 1:
        raise InputShapeError(f"expected the same batch size on every input, found {sizes}", found=sizes)
    return checked, next(iter(sizes.values()), 1)


def _check_one(spec: Spec, values: Array) -> Array:
    if values.dtype != spec.dtype:
        raise InputTypeError(
            f"input {spec.name!r}: expected dtype {spec.dtype}, found {values.dtype}; convert it with "
            f".astype('{spec.dtype}')",
            input=spec.name,
            expected=spec.dtype,
            found=values.dtype,
        )
    fits = len(values.shape) == len(spec.shape) and all(
        size is None or size == have for size, have in zip(spec.shape, values.shape, strict=True)
    )
    if not fits or 0 in values.shape:
        wanted = "(" + ", ".join("N" if size is None else str(size) for size in spec.shape) + ")"
        hint = "; add a batch axis in front" if len(values.shape) == len(spec.shape) - 1 else ""
        raise InputShapeError(
            f"input {spec.name!r}: expected shape {wanted} with N >= 1, found {values.shape}{hint}",
            input=spec.name,
            expected=wanted,
            found=values.shape,
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputValueError(
            f"input {spec.name!r}: expected finite values, found {int((~np.isfinite(values)).sum())} NaN or infinite",
            input=spec.name,
        )
    return np.ascontiguousarray(values)
