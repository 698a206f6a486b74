"""Accumulated 1/f noise and the short-term noise of products against the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from confidence import assert_moments, rectified_moments
from hypothesis import given
from hypothesis import strategies as st
from pcmedge_emulator.physics import (
    accumulated_read_noise_sigma,
    get_technology,
    input_dependent_sigma,
    read,
    short_term_sigma,
    stream,
)
from published_pcm import G_MAX, read_noise_share

NAMES = ["pcm-90nm", "pcm-14nm", "pcm-14nm-single"]
LEVELS = [0.0, 0.001, 0.005, 0.0082, 0.01, 0.02, 0.05, 0.1, 0.155, 0.17, 0.25, 0.4, 0.6, 0.8, 1.0, 1.15]
AGES = [0.0, 3600.0, 86_400.0, 365 * 86_400.0]


@pytest.mark.parametrize("name", NAMES)
def test_readings_have_the_published_mean_and_spread(name: str) -> None:
    technology = get_technology(name)
    family = len(LEVELS) * len(AGES)
    for number, (level, age) in enumerate((level, age) for level in LEVELS for age in AGES):
        programmed = np.full(30_000, level * G_MAX[name], dtype=np.float32)
        drifted = programmed * np.float32(0.6)
        reading = read(drifted, programmed, age, technology, stream("test", 1, "read", number))
        if level == 0:
            assert (reading == 0).all()
            continue
        mean = 0.6 * level * G_MAX[name]
        expected = rectified_moments(mean, mean * read_noise_share(name, level, age))
        assert_moments(reading, *expected, family=family, what=f"{name} g = {level} age {age}")


@pytest.mark.parametrize(("g", "percent"), [(1.0, (3.68, 4.19, 4.48, 4.96)), (0.1, (16.4, 18.7, 20.0, 22.2))])
def test_worked_values_of_accumulated_noise(g: float, percent: tuple[float, ...]) -> None:
    """sigma / G at 20 s, 1 h, 1 day and 1 year after the pulse."""
    technology = get_technology("pcm-90nm")
    conductance = np.array([25 * g], dtype=np.float32)
    found = [
        100 * accumulated_read_noise_sigma(conductance, conductance, age, technology)[0] / (25 * g) for age in AGES
    ]
    assert found == pytest.approx(percent, rel=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_of_accumulated_noise(name: str) -> None:
    levels = np.concatenate([np.geomspace(1e-6, 1.2, 300), np.linspace(0.001, 1.2, 300)])
    levels = levels[np.min(np.abs(levels[:, None] - np.array([0.1591, 0.16])), axis=1) > 1e-5]
    programmed = (levels * G_MAX[name]).astype(np.float32)
    found = accumulated_read_noise_sigma(np.ones_like(programmed), programmed, 3600.0, get_technology(name))
    np.testing.assert_allclose(found, [read_noise_share(name, level, 3600.0) for level in levels], rtol=2e-4)


@given(
    g=st.lists(st.floats(0, 40, width=32), min_size=1, max_size=40),
    age=st.floats(0, 1e10),
    seed=st.integers(0, 2**31),
    name=st.sampled_from([*NAMES, "ideal"]),
)
def test_no_reading_is_negative_or_infinite(g: list[float], age: float, seed: int, name: str) -> None:
    programmed = np.array(g, dtype=np.float32)
    reading = read(programmed, programmed, age, get_technology(name), stream("test", seed, "read"))
    assert reading.dtype == np.float32
    assert np.isfinite(reading).all()
    assert (reading >= 0).all()


def test_ideal_devices_read_the_same_every_time() -> None:
    g = np.linspace(0, 25, 11, dtype=np.float32)
    np.testing.assert_array_equal(read(g, g, 1e6, get_technology("ideal"), stream("test", 0, "read")), g)


class TestShortTermNoise:
    technology = get_technology("pcm-90nm")

    def test_worked_value(self) -> None:
        """64 pairs of g_max in all, half of the rows at full scale: 0.0175 sqrt(32) of a full-scale weight."""
        g_total = np.ones((1, 64, 1), dtype=np.float32)
        found = short_term_sigma(g_total, 127, 0.5, self.technology)
        assert found.item() == pytest.approx(127 * 0.0175 * math.sqrt(32), rel=1e-6)

    @given(
        groups=st.integers(1, 3),
        rows=st.integers(1, 20),
        columns=st.integers(1, 5),
        code=st.integers(-127, 127),
        seed=st.integers(0, 1000),
    )
    def test_both_forms_agree_where_every_input_has_the_mean_square(
        self, groups: int, rows: int, columns: int, code: int, seed: int
    ) -> None:
        g_total = np.random.default_rng(seed).random((groups, rows, columns), dtype=np.float32)
        codes = np.full((2, groups, rows), code, dtype=np.int16)
        exact = input_dependent_sigma(codes, g_total, self.technology)
        additive = short_term_sigma(g_total, 127, (code / 127) ** 2, self.technology).reshape(-1)
        assert exact.shape == (2, groups * columns)
        np.testing.assert_allclose(exact, np.broadcast_to(additive, exact.shape), rtol=1e-5, atol=1e-9)

    def test_the_exact_form_is_the_sum_over_devices(self) -> None:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 256, (5, 2, 7))
        g_total = rng.random((2, 7, 3))
        found = input_dependent_sigma(codes, g_total, self.technology).reshape(5, 2, 3)
        for sample, group, column in np.ndindex(5, 2, 3):
            variance = sum(g_total[group, row, column] * codes[sample, group, row] ** 2 for row in range(7))
            assert found[sample, group, column] == pytest.approx(0.0175 * math.sqrt(variance))
