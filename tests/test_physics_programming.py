"""Programming noise and program-and-verify against the published formulas, over the whole conductance range."""

from __future__ import annotations

import math

import numpy as np
import pytest
from confidence import (
    assert_distribution,
    assert_mean,
    assert_moments,
    normal_cdf,
    quantile,
    rectified_moments,
)
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.errors import InputValueError
from pcmedge_emulator.physics import (
    ProgramAndVerify,
    get_technology,
    program,
    program_and_verify,
    programming_noise_sigma,
    stream,
)
from published_pcm import G_MAX, programming_sigma, read_noise_q

NAMES = ["pcm-90nm", "pcm-14nm", "pcm-14nm-single"]
LEVELS = [0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.84, 0.9, 1.0]
DRAWS = 100_000


@pytest.mark.parametrize("name", NAMES)
def test_programmed_conductances_have_the_published_mean_and_spread(name: str) -> None:
    technology = get_technology(name)
    for number, level in enumerate(LEVELS):
        target = level * G_MAX[name]
        programmed = program(np.full(DRAWS, target), technology, stream("test", 1, "programming", number))
        mean, second = rectified_moments(target, programming_sigma(name, level))
        assert_moments(programmed, mean, second, family=len(LEVELS), what=f"{name} at g = {level}")


@pytest.mark.parametrize("level", [0.0, 0.05, 0.5, 1.0])
def test_programmed_conductances_are_a_normal_cut_off_at_zero(level: float) -> None:
    target, sigma = 25 * level, programming_sigma("pcm-90nm", level)
    programmed = np.sort(program(np.full(20_000, target), get_technology("pcm-90nm"), stream("test", 2, "cdf")))
    assert programmed[0] >= 0
    above = programmed[programmed > 0]
    # The point mass at 0 is a proportion of its own; above it the distribution function is the normal's.
    share = normal_cdf(np.array([-target / sigma]))[0]
    if len(above) == len(programmed):
        assert share < 1e-4
    else:
        assert_mean(programmed == 0, share, what="share at zero")
    cdf = (normal_cdf((above - target) / sigma) - share) / (1 - share)
    assert_distribution(above, cdf, family=4, what=f"g = {level}")


def test_worked_values_of_the_programming_noise() -> None:
    technology = get_technology("pcm-90nm")
    assert programming_noise_sigma(0.0, technology) == pytest.approx(0.26348, rel=1e-6)
    assert programming_noise_sigma(25.0, technology) == pytest.approx(1.05538, rel=1e-5)
    grid = np.linspace(0, 25, 2501, dtype=np.float32)
    sigma = programming_noise_sigma(grid, technology)
    assert sigma.max() == pytest.approx(1.086, abs=5e-4)
    assert grid[sigma.argmax()] / 25 == pytest.approx(0.84, abs=0.01)


def test_another_range_keeps_relative_errors() -> None:
    technology = get_technology("pcm-90nm")
    half = technology.at_g_max(12.5)
    targets = np.linspace(0, 12.5, 11)
    np.testing.assert_allclose(
        programming_noise_sigma(targets, half), programming_noise_sigma(2 * targets, technology) / 2, rtol=1e-6
    )


def test_ideal_devices_take_their_targets_exactly() -> None:
    targets = np.linspace(0, 25, 101, dtype=np.float32)
    np.testing.assert_array_equal(program(targets, get_technology("ideal"), stream("test", 0, "ideal")), targets)


@given(
    targets=st.lists(st.floats(0, 25, width=32), min_size=1, max_size=50),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(NAMES),
)
def test_no_conductance_is_negative(targets: list[float], seed: int, name: str) -> None:
    programmed = program(np.array(targets, dtype=np.float32), get_technology(name), stream("test", seed, "p"))
    assert programmed.dtype == np.float32
    assert (programmed >= 0).all()


class TestProgramAndVerify:
    technology = get_technology("pcm-90nm")

    def test_nearly_all_devices_converge_and_are_within_the_measured_spread_of_the_chip(self) -> None:
        """Joshi et al. 2020: 99.1 % converged, standard deviation below 1.2 microsiemens at all 11 levels."""
        for number, target in enumerate(np.linspace(0, 25, 11)):
            wanted = np.full(20_000, target)
            g, converged = program_and_verify(wanted, self.technology, stream("test", 3, "verify", number))
            assert converged.mean() >= 0.991
            assert (g - target).std() < 1.2
            single = program(wanted, self.technology, stream("test", 3, "single", number))
            assert np.square(g - target).mean() <= np.square(single - target).mean()

    def test_accepted_devices_are_distributed_as_the_model_says(self) -> None:
        """An attempt with error e is kept with probability P(|e + read noise| <= margin): integrate and compare."""
        target, margin = 12.5, 0.75
        g, converged = program_and_verify(
            np.full(50_000, target), self.technology, stream("test", 4, "accepted"), max_iterations=100
        )
        assert converged.all()
        sigma = programming_sigma("pcm-90nm", 0.5)
        error = np.linspace(-6 * sigma, 6 * sigma, 4001)
        q = np.array([read_noise_q("pcm-90nm", max((target + e) / 25, 0)) for e in error])
        spread = (target + error) * q * math.sqrt(math.log((1e-3 + 250e-9) / 500e-9))
        kept = normal_cdf((margin - error) / spread) - normal_cdf((-margin - error) / spread)
        density = np.exp(-0.5 * (error / sigma) ** 2) * kept
        density /= density.sum()
        assert_moments(
            g,
            target + float((density * error).sum()),
            float((density * (target + error) ** 2).sum()),
            what="accepted conductance",
        )

    def test_one_iteration_is_single_programming_and_reports_who_missed(self) -> None:
        target = np.full(20_000, 21.0, dtype=np.float32)
        single = program(target, self.technology, stream("test", 5, "same"))
        g, converged = program_and_verify(
            target, self.technology, stream("test", 5, "same"), margin_microsiemens=0.5, max_iterations=1
        )
        np.testing.assert_array_equal(g, single)
        sigma = programming_sigma("pcm-90nm", 0.84)
        share = 0.84**-0.65 * 0.0088 * math.sqrt(math.log((1e-3 + 250e-9) / 500e-9))
        reading = math.hypot(sigma, 21.0 * share)
        expected = math.erf(0.5 / reading / math.sqrt(2))
        # The read noise grows a little with the programmed conductance; that is worth less than half a percent here.
        error = math.sqrt(expected * (1 - expected) / target.size)
        assert abs(converged.mean() - expected) <= quantile() * error + 0.005

    def test_a_tight_margin_is_bounded_by_read_noise(self) -> None:
        target = np.full(5_000, 20.0)
        g, converged = program_and_verify(
            target, self.technology, stream("test", 6, "tight"), margin_microsiemens=0.05, max_iterations=400
        )
        assert converged.mean() > 0.99
        assert 0.3 < (g - target).std() < programming_sigma("pcm-90nm", 0.8)

    @pytest.mark.parametrize(
        "options", [{"margin_microsiemens": 0.0}, {"margin_microsiemens": math.nan}, {"max_iterations": 0}]
    )
    def test_senseless_options_are_refused(self, options: dict[str, float]) -> None:
        with pytest.raises(InputValueError):
            ProgramAndVerify(**options)
