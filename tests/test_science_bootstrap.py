"""The paired bootstrap: its intervals hold the truth as often as they say, and pairing is what makes them narrow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.science.bootstrap import interval

Floats = NDArray[np.float32]


def chips_and_images(rng: np.random.Generator, chips: int, images: int) -> tuple[Floats, Floats]:
    """(digital [1, images], on chips [chips, images]): images differ in difficulty, chips in quality. True gap 0.05."""
    difficulty = rng.beta(4, 1, images)
    quality = rng.normal(0.05, 0.02, (chips, 1))
    threshold = rng.random(images)
    digital = (threshold < difficulty)[None]
    # Close to the digital decision, as a chip is: it loses a picture with the probability `quality`.
    device = digital & (rng.random((chips, images)) >= quality / difficulty.mean())
    return digital.astype(np.float32), device.astype(np.float32)


def test_coverage() -> None:
    rng = np.random.default_rng(0)
    hits, trials = 0, 300
    for _ in range(trials):
        digital, device = chips_and_images(rng, 10, 200)
        found = interval([(1.0, digital), (-1.0, device)], draws=400)
        hits += found.low <= 0.05 <= found.high
    # Ten chips are few: the interval may be a little short of 95 %. Below 267 with true coverage 0.93: p < 0.005.
    assert 267 <= hits <= trials


def test_images_and_chips_both_count() -> None:
    rng = np.random.default_rng(1)
    _, many = chips_and_images(rng, 40, 400)
    whole = interval([(1.0, many)]).stderr
    assert interval([(1.0, many[:, :100])]).stderr == pytest.approx(2 * whole, rel=0.3)
    unequal = np.repeat(np.linspace(0, 1, 40, dtype=np.float32)[:, None], 400, axis=1)
    spread = float(np.linspace(0, 1, 40).std() / np.sqrt(40))
    assert interval([(1.0, unequal)]).stderr == pytest.approx(spread, rel=0.1)


def test_what_is_common_cancels() -> None:
    digital, device = chips_and_images(np.random.default_rng(2), 10, 500)
    nothing = interval([(1.0, device), (-1.0, device)])
    assert nothing.low == nothing.high == nothing.stderr == 0.0
    paired = interval([(100.0, digital), (-100.0, device)]).stderr
    apart = float(np.hypot(interval([(100.0, digital)]).stderr, interval([(100.0, device)]).stderr))
    assert paired < 0.5 * apart


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), chips=st.integers(1, 6), images=st.integers(1, 40))
def test_estimate_is_the_plain_difference_and_repeats(seed: int, chips: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    digital, device = chips_and_images(rng, chips, images)
    found = interval([(100.0, digital), (-100.0, device)], draws=50)
    assert found.estimate == pytest.approx(100 * (digital.mean() - device.mean()), abs=1e-4)
    assert found == interval([(100.0, digital), (-100.0, device)], draws=50)


def test_terms_of_other_images_or_chips_are_refused() -> None:
    with pytest.raises(ValueError, match="share images and chips"):
        interval([(1.0, np.zeros((2, 5), np.float32)), (1.0, np.zeros((2, 6), np.float32))])
    with pytest.raises(ValueError, match="share images and chips"):
        interval([(1.0, np.zeros((2, 5), np.float32)), (1.0, np.zeros((3, 5), np.float32))])
