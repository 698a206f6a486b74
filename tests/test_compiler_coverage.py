"""Coverage of a calibration buffer: what it says about the errors of weights, and how a buffer is chosen by it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compiler_models import chain, samples
from pcmedge.compiler.coverage import InputMeter, herd
from pcmedge.compiler.pipeline import compile as compile_image
from pcmedge.compiler.pipeline import input_meter


def test_herding_comes_closer_than_any_first_samples() -> None:
    rng = np.random.default_rng(1)
    means, target = rng.normal(size=(200, 40)) + 0.3, rng.normal(size=40) * 0.2
    for count in (1, 8, 30):
        chosen = herd(means, target, count)
        assert len(set(chosen)) == count
        missed = np.square(means[chosen].mean(axis=0) - target).sum()
        plain = [np.square(means[k : k + count].mean(axis=0) - target).sum() for k in range(0, 150, 30)]
        assert missed < 0.8 * min(plain)
    assert herd(means[:3], target, 9) == herd(means[:3], target, 3)


def test_coverage_is_the_share_of_a_weight_errors_shift_that_a_buffer_sees() -> None:
    """One layer, weights off by independent errors: the power of the shifts on the calibration set that is left once
    those on the buffer are subtracted, over the power of all, is 1 - coverage. 4,000 draws, 99.9 % confidence.
    """
    rng = np.random.default_rng(2)
    calibration, buffer = rng.random((500, 12)), rng.random((20, 12)) * 0.8
    errors = rng.normal(size=(4000, 12))
    m, b = calibration.mean(axis=0), buffer.mean(axis=0)
    left = np.square(errors @ (m - b)).mean() / np.square(errors @ m).mean()
    meter = object.__new__(InputMeter)
    meter.target = m
    # Both powers are chi-square with 4,000 degrees of freedom.
    assert abs(math.log(left / (1.0 - meter.coverage(buffer)))) < 3.29 * 2.0 * math.sqrt(2.0 / 4000)


def test_a_synthetic_buffer_drives_the_layers_like_the_calibration_set() -> None:
    model, x = chain(12, 9, 4), samples(120, 12)
    image = compile_image(model, calibration=x, buffer="synthetic", buffer_samples=12)
    buffer = image.manifest.calibration_buffer
    assert buffer.generator == "white-1"
    assert len(buffer.chosen) == buffer.samples == 12
    assert buffer.coverage > 0.9
    meter = input_meter(model, x)
    assert meter.coverage(meter.means(image.calibration_buffer())) == pytest.approx(buffer.coverage)
    assert meter.coverage(meter.means({"x": x})) == pytest.approx(1.0)
    assert meter.coverage(meter.means({"x": np.zeros_like(x)})) < buffer.coverage
