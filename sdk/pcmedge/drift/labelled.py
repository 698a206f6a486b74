"""Labelled data for a study, checked against the image before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge.errors import InputError, InputShapeError, InputTypeError, InputValueError
from pcmedge.image.application import preprocess

if TYPE_CHECKING:
    from pcmedge.image import ChipImage


@dataclass(frozen=True, kw_only=True)
class LabelledData:
    """``inputs``: by name, [samples, ...]; ``labels``: int64 [samples]; ``output``: name of the scores [samples, n]."""

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[np.int64]
    output: str


def labelled_data(image: ChipImage, inputs: ArrayLike | Mapping[str, ArrayLike], labels: ArrayLike) -> LabelledData:
    """Bring data into the form an image takes. Raises InputError, InputShapeError, InputTypeError, InputValueError."""
    output, classes = class_output(image)
    arrays = _named(image, inputs)
    truth = np.asarray(labels)
    if truth.ndim != 1 or truth.dtype.kind not in "iu":
        raise InputTypeError(
            f"labels must be integers of shape (samples,), found {truth.dtype} of shape {truth.shape}. Pass the index "
            "of the right score of each sample."
        )
    for name, values in arrays.items():
        if values.ndim == 0 or len(values) != len(truth) or not len(truth):
            raise InputShapeError(
                f"input '{name}' must have as many samples as there are labels ({len(truth)}, at least 1), found shape "
                f"{values.shape}."
            )
    if int(truth.min()) < 0 or (classes > 0 and int(truth.max()) >= classes):
        raise InputValueError(
            f"labels must lie from 0 to {classes - 1}, the scores of output '{output}'; found {truth.min()} to "
            f"{truth.max()}."
        )
    return LabelledData(inputs=arrays, labels=truth.astype(np.int64), output=output)


def class_output(image: ChipImage) -> tuple[str, int]:
    """Name of the output with one score per class, and how many (-1: any). InputError if there is none."""
    outputs = image.manifest.model.outputs
    named = image.manifest.application.class_output
    scores = [each for each in outputs if each.name == named] or [each for each in outputs if len(each.shape) == 2]
    if len(scores) != 1 or len(scores[0].shape) != 2:
        shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in outputs)
        raise InputError(
            f"A drift study needs one output with a score per class (samples, classes); '{image.name}' has {shapes}. "
            "Compile it with labels=..., which says which output that is."
        )
    return scores[0].name, int(scores[0].shape[1])


def _named(image: ChipImage, inputs: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    specs = image.manifest.model.inputs
    names = [spec.name for spec in specs]
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise InputError(f"'{image.name}' has {len(specs)} inputs; pass arrays by name: {', '.join(names)}.")
        inputs = {names[0]: inputs}
    if set(inputs) != set(names):
        raise InputError(f"'{image.name}' takes the inputs {', '.join(names)}; found {', '.join(map(str, inputs))}.")
    arrays = {name: np.asarray(values) for name, values in inputs.items()}
    application = image.manifest.application
    pictures = application.preprocessing.input if application.HasField("preprocessing") else ""
    for spec in specs:
        values = arrays[spec.name]
        if spec.name == pictures and values.dtype == np.uint8 and spec.datatype == "FP32":
            arrays[spec.name] = np.concatenate([preprocess(application.preprocessing, each) for each in values])
        elif values.dtype.kind == "f" and spec.datatype == "FP32":
            arrays[spec.name] = values.astype(np.float32)
    return arrays
