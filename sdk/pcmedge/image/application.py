"""The application's side of an image: describing it, and from a picture to the input tensor. numpy only."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import Application, Preprocessing, TensorSpec
from pcmedge.errors import InputShapeError, InputTypeError, InputValueError

Floats = NDArray[np.float32]

# Luma of ITU-R BT.601, as Pillow and OpenCV turn colour into grey.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def describe_application(
    labels: Sequence[str] | None,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    probabilities: Container[str],
) -> Application:
    """The application side of the manifest; ``probabilities`` are outputs that come out of a softmax."""
    found = Application(labels=list(labels or ()))
    if preprocessing is not None:
        found.preprocessing.CopyFrom(_preprocessing(preprocessing, inputs))
    scores = [
        each
        for each in outputs
        if len(each.shape) == 2 and (each.datatype.startswith("FP") or each.HasField("quantization"))
    ]
    if labels:
        scores = [each for each in scores if each.shape[1] in (-1, len(labels))]
        if not scores:
            shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in outputs)
            raise InputValueError(
                f"labels: expected an output with one score per label ({len(labels)}), found {shapes}. "
                "Pass one label per class, in the order of the classifier's outputs.",
                labels=len(labels),
            )
    if scores:
        found.class_output = scores[0].name
        found.class_output_is_probability = scores[0].name in probabilities
    return found


def _preprocessing(value: Preprocessing | Mapping[str, Any], inputs: Sequence[TensorSpec]) -> Preprocessing:
    if isinstance(value, Preprocessing):
        found = Preprocessing()
        found.CopyFrom(value)
    else:
        try:
            found = Preprocessing(**dict(value))
        except (TypeError, ValueError) as error:
            fields = ", ".join(field.name for field in Preprocessing.DESCRIPTOR.fields)
            raise InputValueError(f"preprocessing: {error}. Its fields are {fields}.") from error
    found.input = found.input or inputs[0].name
    if found.input not in [each.name for each in inputs]:
        raise InputValueError(
            f"preprocessing: expected the name of a model input ({', '.join(each.name for each in inputs)}), "
            f"found '{found.input}'.",
            found=found.input,
        )
    return found


def preprocess(preprocessing: Preprocessing, picture: NDArray[np.uint8]) -> Floats:
    """A picture as the tensor a model takes: float32 with a batch axis of 1.

    ``picture``: uint8, height x width (grey), height x width x 1, or height x width x 3 in the order R, G, B. Steps:
    colour (grey to three equal channels, or RGB to grey by BT.601; BGR models get the channels reversed), ``resize`` to
    the model's height x width, ``(pixel * scale - mean) / std`` per channel, layout: NCHW (1, C, H, W), NHWC
    (1, H, W, C) or NC (1, C * H * W, the NCHW order flattened row by row).

    Raises InputTypeError if it is not uint8 and InputShapeError for other shapes, such as one with an alpha channel.
    """
    pixels = _channels_of(_checked(picture), preprocessing.channels)
    if preprocessing.colour_order == "BGR":
        pixels = pixels[:, :, ::-1]
    pixels = resize(pixels, preprocessing.height, preprocessing.width)
    mean = np.array(preprocessing.mean or [0.0], dtype=np.float32)
    std = np.array(preprocessing.std or [1.0], dtype=np.float32)
    tensor = (pixels * np.float32(preprocessing.scale) - mean) / std
    if preprocessing.layout == "NHWC":
        return np.ascontiguousarray(tensor[None])
    planes = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
    return planes.reshape(1, -1) if preprocessing.layout == "NC" else planes


def resize(pixels: NDArray[Any], height: int, width: int) -> Floats:
    """Resize [H, W, C] to [height, width, C], float32: bilinear, widened to the area of a new pixel when shrinking.

    Along each axis a new pixel is the weighted mean of old ones under a triangle around its centre, whose half width is
    one old pixel or, when shrinking, one new pixel; pixel centres are at halves, edges are cut off and weights
    renormalised. This is Pillow's BILINEAR (and torchvision's with antialias) without its rounding to whole levels.
    """
    rows = _triangle_weights(pixels.shape[0], height)
    columns = _triangle_weights(pixels.shape[1], width)
    lines = np.tensordot(rows, pixels.astype(np.float32), axes=(1, 0))
    return np.ascontiguousarray(np.tensordot(columns, lines, axes=(1, 1)).transpose(1, 0, 2))


def _checked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        found = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
        raise InputTypeError(f"expected a picture as a uint8 numpy array with values 0..255, found {found}")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or 0 in picture.shape:
        hint = "; drop the alpha channel" if picture.ndim == 3 and picture.shape[2] in (2, 4) else ""
        raise InputShapeError(
            f"expected a picture of height x width or height x width x 3 (RGB), found {picture.shape}{hint}",
            shape=picture.shape,
        )
    return picture


def _channels_of(picture: NDArray[np.uint8], channels: int) -> NDArray[Any]:
    if picture.shape[2] == channels:
        return picture
    if channels == 1:
        return (picture.astype(np.float32) @ _LUMA)[:, :, None]
    return np.repeat(picture, channels, axis=2)


def _triangle_weights(old: int, new: int) -> Floats:
    """Weights [new, old] of one axis; each row sums to 1."""
    if old == new:
        return np.eye(new, dtype=np.float32)
    ratio = old / new
    support = max(ratio, 1.0)
    centres = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old)[None, :] + 0.5 - centres[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
