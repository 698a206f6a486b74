"""The calibration set: whatever the caller hands in, as checked arrays per model input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from pcmedge.errors import CalibrationError

from .graph import Array, Graph

_ADVICE = "Pass calibration=array of shape (samples, ...), a mapping input name -> array, or an iterable of batches."


def calibration_set(graph: Graph, data: Any, *, what: str = "calibration", zeros: bool = False) -> dict[str, Array]:
    """Check and collect samples: every input's array, in the model's own element type, first axis = samples.

    ``data``: an array or tensor (models with one input), a mapping from input name to array, a tuple with one array
    per input, or an iterable of batches of any of these (a torch DataLoader: what follows the inputs in a batch, such
    as labels, is left out). ``what`` names the argument in messages. ``zeros``: values may be zero throughout.

    Raises CalibrationError for missing inputs, wrong shapes or element types, values that are not finite, an empty
    set, or a set that is zero throughout.
    """
    names = graph.input_names
    batches = (
        [_batch(names, data, what)] if _is_batch(data) else [_batch(names, each, what) for each in _each(data, what)]
    )
    if not batches:
        raise CalibrationError(f"{what} is empty: expected at least one batch, found none. {_ADVICE}", found=0)
    collected: dict[str, Array] = {}
    for name in names:
        parts = [_checked(graph, name, batch[name], what) for batch in batches]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            shapes = sorted({part.shape[1:] for part in parts})
            raise CalibrationError(
                f"{what} input '{name}': expected batches of one shape, found samples of shapes {shapes}. "
                "Pad or crop them to one shape.",
                input=name,
            )
        collected[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    _check_together(collected, what, zeros)
    return collected


def pick(samples: Mapping[str, Array], count: int) -> dict[str, Array]:
    """At most ``count`` samples, spread evenly over the set (always the same ones)."""
    total = len(next(iter(samples.values())))
    chosen = np.arange(total) if total <= count else (np.arange(count) * total) // count
    return {name: np.ascontiguousarray(value[chosen]) for name, value in samples.items()}


def _is_batch(data: Any) -> bool:
    if isinstance(data, (np.ndarray, Mapping)) or _is_tensor(data):
        return True
    return isinstance(data, tuple) and all(isinstance(each, np.ndarray) or _is_tensor(each) for each in data)


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach")


def _each(data: Any, what: str) -> Iterable[Any]:
    if data is None or isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise CalibrationError(f"{what}: expected samples, found {type(data).__name__}. {_ADVICE}")
    return data


def _batch(names: Sequence[str], batch: Any, what: str) -> dict[str, Any]:
    if isinstance(batch, Mapping):
        missing = [name for name in names if name not in batch]
        unknown = [str(name) for name in batch if name not in names]
        if missing or unknown:
            raise CalibrationError(
                f"{what}: expected arrays for the inputs {', '.join(names)}; found "
                f"{', '.join(map(str, batch)) or 'none'} (missing: {', '.join(missing) or 'none'}; not an input: "
                f"{', '.join(unknown) or 'none'}).",
                missing=", ".join(missing),
            )
        return dict(batch)
    if isinstance(batch, (tuple, list)) and not (len(names) == 1 and np.isscalar(next(iter(batch), None))):
        if len(batch) < len(names):
            raise CalibrationError(
                f"{what}: expected {len(names)} arrays per batch ({', '.join(names)}), found {len(batch)}. {_ADVICE}"
            )
        return dict(zip(names, batch, strict=False))
    if len(names) != 1:
        raise CalibrationError(
            f"{what}: the model has {len(names)} inputs ({', '.join(names)}), found one array. "
            "Pass a mapping input name -> array.",
            expected=", ".join(names),
        )
    return {names[0]: batch}


def _checked(graph: Graph, name: str, value: Any, what: str) -> Array:
    array = np.asarray(value.detach().cpu().numpy() if _is_tensor(value) else value)
    kind = graph.type_of(name)
    expected = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.element))
    shape = kind.shape or ()
    wanted = "(samples" + "".join(f", {dim if isinstance(dim, int) else 'any'}" for dim in shape[1:]) + ")"
    fits = array.ndim == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise CalibrationError(
            f"{what} input '{name}': expected shape {wanted}, found {array.shape}. "
            "Samples go along the first axis; preprocess them as for inference.",
            input=name,
            expected=wanted,
            found=array.shape,
        )
    if not len(array):
        raise CalibrationError(
            f"{what} input '{name}' is empty: expected at least one sample, found 0. "
            "Pass a few hundred typical inputs.",
            input=name,
            found=0,
        )
    return _cast(array, expected, name, what)


def _cast(array: Array, expected: np.dtype[Any], name: str, what: str) -> Array:
    both_float = expected.kind == "f" and array.dtype.kind == "f"
    both_integer = expected.kind in "iu" and array.dtype.kind in "iu"
    if array.dtype != expected and not both_float and not both_integer:
        raise CalibrationError(
            f"{what} input '{name}': expected element type {expected}, found {array.dtype}. "
            f"Convert it the way inference does (scaling included), then astype('{expected}').",
            input=name,
            expected=expected,
            found=array.dtype,
        )
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise CalibrationError(
            f"{what} input '{name}': expected finite numbers, found {bad} NaN or infinite values. "
            "Remove those samples.",
            input=name,
            found=bad,
        )
    cast = np.ascontiguousarray(array.astype(expected))
    if both_integer and not np.array_equal(cast, array):
        raise CalibrationError(
            f"{what} input '{name}': some values of type {array.dtype} do not fit into {expected}.", input=name
        )
    return cast


def _check_together(collected: Mapping[str, Array], what: str, zeros: bool) -> None:
    counts = {name: len(value) for name, value in collected.items()}
    if len(set(counts.values())) != 1:
        raise CalibrationError(
            f"{what}: expected as many samples for every input, found {counts}. Pass matching samples.",
            found=counts,
        )
    if not zeros and not any(np.any(value) for value in collected.values()):
        raise CalibrationError(
            f"{what}: every value is zero, so no converter range can be chosen from it. Pass typical inputs of the "
            "application, preprocessed as for inference.",
            found="all zero",
        )
