"""Drift exponents and the drift law against the published formulas, over the whole conductance range."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from confidence import assert_moments, folded_moments
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.errors import InputValueError
from pcmedge_emulator.physics import (
    drift,
    drift_exponent_mean,
    drift_exponent_std,
    get_technology,
    sample_drift_exponents,
    stream,
)
from published_pcm import G_MAX, drift_exponent

NAMES = ["pcm-90nm", "pcm-14nm", "pcm-14nm-single"]
LEVELS = [0.0, 1e-4, 0.001, 0.005, 0.01, 0.02, 0.05, 0.09, 0.0946, 0.12, 0.2, 0.3, 0.35, 0.5, 0.7, 0.85, 1.0]
HOUR, DAY, MONTH, YEAR = 3600.0, 86_400.0, 30 * 86_400.0, 365 * 86_400.0


@pytest.mark.parametrize("name", NAMES)
def test_drift_exponents_have_the_published_mean_and_spread(name: str) -> None:
    technology = get_technology(name)
    for number, level in enumerate(LEVELS):
        target = np.full(100_000, level * G_MAX[name])
        nu = sample_drift_exponents(target, technology, stream("test", 1, "nu", number))
        assert (nu >= 0).all()
        assert_moments(nu, *folded_moments(*drift_exponent(name, level)), family=len(LEVELS), what=f"{name} {level}")


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_of_the_drift_exponent(name: str) -> None:
    levels = np.concatenate([np.geomspace(1e-8, 1, 400), np.linspace(0, 1, 401)])
    # A float32 conductance on a branch point may fall on either side of it.
    levels = levels[np.min(np.abs(levels[:, None] - np.array([0.0945, 0.3039, 0.3055])), axis=1) > 1e-5]
    technology = get_technology(name)
    expected = np.array([drift_exponent(name, level) for level in levels])
    targets = levels * G_MAX[name]
    np.testing.assert_allclose(drift_exponent_mean(targets, technology), expected[:, 0], rtol=2e-5)
    np.testing.assert_allclose(drift_exponent_std(targets, technology), expected[:, 1], rtol=2e-4)


@pytest.mark.parametrize(
    ("nu", "retained"),
    [
        (0.049, (0.775, 0.664, 0.562, 0.497)),
        (0.06, (0.732, 0.605, 0.493, 0.425)),
        (0.1, (0.595, 0.433, 0.308, 0.240)),
    ],
)
def test_worked_values_of_the_drift_law(nu: float, retained: tuple[float, ...]) -> None:
    """(t / 20 s)^-nu at 1 h, 1 day, 30 days and 1 year."""
    g = np.array([25.0], dtype=np.float32)
    found = [drift(g, np.array([nu], dtype=np.float32), age, 20.0)[0] / 25 for age in (HOUR, DAY, MONTH, YEAR)]
    assert found == pytest.approx(retained, abs=6e-4)


@given(
    g=st.floats(0, 30, width=32),
    nu=st.floats(0, 0.25, width=32),
    age=st.floats(0, 1e10),
    t0=st.sampled_from([20.0, 200.0, 300.0]),
)
def test_drift_is_the_power_law_of_age_plus_t0(g: float, nu: float, age: float, t0: float) -> None:
    found = drift(np.array([g], dtype=np.float32), np.array([nu], dtype=np.float32), age, t0)
    assert found.dtype == np.float32
    assert float(found[0]) == pytest.approx(g * ((age + t0) / t0) ** -nu, rel=1e-5, abs=1e-37)


@given(
    seed=st.integers(0, 2**31),
    ages=st.lists(st.floats(0, 1e10), min_size=2, max_size=6).map(sorted),
    name=st.sampled_from([*NAMES, "ideal"]),
)
def test_conductance_only_falls_with_age(seed: int, ages: list[float], name: str) -> None:
    technology = get_technology(name)
    g = np.linspace(0, technology.g_max_microsiemens, 64, dtype=np.float32)
    nu = sample_drift_exponents(g, technology, stream("test", seed, "nu"))
    series = [drift(g, nu, age, technology.t0_s) for age in ages]
    for earlier, later in itertools.pairwise(series):
        assert (later <= earlier).all()
        assert (later >= 0).all()


def test_nothing_has_drifted_at_age_zero_nor_before() -> None:
    g = np.array([1.0, 25.0], dtype=np.float32)
    nu = np.array([0.1, 0.05], dtype=np.float32)
    np.testing.assert_array_equal(drift(g, nu, 0.0, 20.0), g)
    np.testing.assert_array_equal(drift(g, nu, -5.0, 20.0), g)


@pytest.mark.parametrize("age", [math.nan, math.inf])
def test_an_age_that_is_no_number_is_refused(age: float) -> None:
    with pytest.raises(InputValueError, match="finite"):
        drift(np.ones(1, dtype=np.float32), np.ones(1, dtype=np.float32), age, 20.0)


def test_ideal_devices_do_not_drift() -> None:
    g = np.linspace(0, 25, 11, dtype=np.float32)
    nu = sample_drift_exponents(g, get_technology("ideal"), stream("test", 0, "nu"))
    np.testing.assert_array_equal(drift(g, nu, YEAR, 20.0), g)
