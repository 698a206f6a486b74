"""From a picture to the input tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pcmedge._contract.image_pb2 import Preprocessing
from pcmedge.errors import InputShapeError, InputTypeError
from pcmedge.image.application import preprocess, resize
from PIL import Image

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)
GREY = PICTURE[:, :, 0]


def steps(**changes: Any) -> Preprocessing:
    fields = {"input": "x", "width": 14, "height": 10, "channels": 3, "colour_order": "RGB", "layout": "NCHW",
              "scale": 1.0}  # fmt: skip
    return Preprocessing(**{**fields, **changes})


def test_pixels_are_scaled_then_standardised_per_channel():
    found = preprocess(steps(scale=1 / 255, mean=[0.5, 0.25, 0.0], std=[0.5, 1.0, 2.0]), PICTURE)
    expected = (PICTURE / 255 - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0]
    assert (found.shape, found.dtype) == ((1, 3, 10, 14), np.float32)
    assert np.allclose(found[0].transpose(1, 2, 0), expected, atol=1e-6)


def test_layouts_and_colour_orders():
    planes = preprocess(steps(), PICTURE)
    assert np.array_equal(preprocess(steps(layout="NHWC"), PICTURE), planes.transpose(0, 2, 3, 1))
    assert np.array_equal(preprocess(steps(layout="NC"), PICTURE), planes.reshape(1, -1))
    assert np.array_equal(preprocess(steps(colour_order="BGR"), PICTURE), planes[:, ::-1])
    # The mean belongs to the model's order.
    bgr = preprocess(steps(colour_order="BGR", mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0]), PICTURE)
    assert np.array_equal(bgr[0, 0], PICTURE[:, :, 2].astype(np.float32) - 1.0)


def test_grey_and_colour():
    grey = steps(channels=1, colour_order="GRAY")
    assert np.array_equal(preprocess(grey, GREY)[0, 0], GREY.astype(np.float32))
    assert np.array_equal(preprocess(grey, GREY[:, :, None]), preprocess(grey, GREY))
    as_pillow = np.asarray(Image.fromarray(PICTURE).convert("L"), dtype=np.float32)
    assert np.abs(preprocess(grey, PICTURE)[0, 0] - as_pillow).max() <= 1.0
    colours = preprocess(steps(), GREY)
    assert all(np.array_equal(colours[0, channel], GREY) for channel in range(3))


@pytest.mark.parametrize(("height", "width"), [(10, 14), (5, 7), (3, 14), (1, 1), (28, 28), (10, 3), (97, 5)])
def test_resizing_is_pillows_bilinear_without_its_rounding(height: int, width: int):
    expected = np.asarray(Image.fromarray(PICTURE).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    found = resize(PICTURE, height, width)
    assert found.shape == (height, width, 3)
    # Pillow rounds to whole levels after each of the two axes.
    assert np.abs(found - expected).max() <= 1.01


def test_a_constant_picture_stays_constant_at_any_size():
    for size in ((1, 1), (3, 50), (64, 2)):
        assert np.allclose(resize(np.full((9, 11, 1), 200, np.uint8), *size), 200.0, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "picture"),
    [
        (InputTypeError, PICTURE.astype(np.float32)),
        (InputTypeError, PICTURE.tolist()),
        (InputTypeError, PICTURE.astype(np.int64)),
        (InputShapeError, np.zeros((10, 14, 4), np.uint8)),
        (InputShapeError, np.zeros((1, 10, 14, 3), np.uint8)),
        (InputShapeError, np.zeros((3, 10, 14), np.uint8)),
        (InputShapeError, np.zeros((0, 14, 3), np.uint8)),
        (InputShapeError, np.zeros(14, np.uint8)),
    ],
)
def test_what_is_no_picture_is_a_typed_error(kind: type, picture: Any):
    with pytest.raises(kind, match="expected a picture"):
        preprocess(steps(), picture)


def test_an_alpha_channel_gets_its_own_hint():
    with pytest.raises(InputShapeError, match="drop the alpha channel"):
        preprocess(steps(), np.zeros((10, 14, 4), np.uint8))
