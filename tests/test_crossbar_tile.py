"""A tile: both devices of a pair for their whole life, reproducible, and the noise of its columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from confidence import assert_mean, assert_moments, quantile, rectified_moments
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pcmedge.errors import InputShapeError, InputTypeError
from pcmedge_emulator.crossbar import (
    TARGET_FULL_SCALE,
    TileDevices,
    column_noise_sigma,
    conductances,
    idle_cells,
    mvm,
    net,
    program_tile,
    target_conductances,
    total,
)
from pcmedge_emulator.physics import ProgramAndVerify, get_technology, input_dependent_sigma, stream
from published_pcm import G_MAX, T0_S, drift_exponent, programming_sigma, read_noise_share

PCM = get_technology("pcm-90nm")
YEAR = 365 * 86_400.0
TARGETS = arrays(
    np.int16,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5)),
    elements=st.integers(-TARGET_FULL_SCALE, TARGET_FULL_SCALE),
)


def ramp(rows: int = 128, columns: int = 64) -> np.ndarray:
    return np.linspace(-32767, 32767, rows * columns).astype(np.int16).reshape(1, rows, columns)


@given(TARGETS, st.sampled_from([25.0, 20.7, 10.0]))
def test_targets_split_by_sign(target: np.ndarray, g_max: float) -> None:
    plus, minus = target_conductances(target, g_max)
    assert ((plus == 0) | (minus == 0)).all()
    assert (plus >= 0).all()
    assert (minus >= 0).all()
    np.testing.assert_allclose(net(plus, minus, g_max), target / 32767, atol=1e-6)


@given(TARGETS)
def test_an_ideal_tile_reads_its_targets_at_any_age(target: np.ndarray) -> None:
    ideal = get_technology("ideal")
    devices, programming = program_tile(target, 25.0, ideal, stream("t", 0, "program"))
    assert programming.rms_error_microsiemens == 0
    plus, minus = conductances(devices, YEAR, ideal, stream("t", 0, "read"))
    np.testing.assert_allclose(net(plus, minus, 25.0), target / 32767, atol=1e-6)
    assert (column_noise_sigma(plus, minus, 25.0, 127, 0.3, ideal) == 0).all()


@settings(max_examples=50)
@given(TARGETS, st.integers(0, 2**32), st.floats(0, 1e10), st.sampled_from(["pcm-90nm", "pcm-14nm", "pcm-14nm-single"]))
def test_devices_stay_physical(target: np.ndarray, seed: int, age: float, name: str) -> None:
    technology = get_technology(name)
    devices, _ = program_tile(target, technology.g_max_microsiemens, technology, stream("t", seed, "program"))
    for g in (*conductances(devices, age, technology, stream("t", seed, "read")), devices.nu_plus, devices.nu_minus):
        assert g.dtype == np.float32
        assert g.shape == target.shape
        assert np.isfinite(g).all()
        assert (g >= 0).all()


def test_both_devices_of_a_pair_are_noisy_also_the_one_at_reset() -> None:
    devices, programming = program_tile(
        np.full((1, 200, 200), 16384, dtype=np.int16), 25.0, PCM, stream("t", 1, "program")
    )
    assert_moments(devices.g_minus, *rectified_moments(0.0, 0.26348), what="device at RESET")
    target = 25 * 16384 / 32767
    sigma = 0.26348 + 1.9650 * 0.5 - 1.1731 * 0.25
    assert_moments(devices.g_plus, *rectified_moments(target, sigma), what="programmed device")
    error = (np.square(devices.g_plus - target).mean() + np.square(devices.g_minus).mean()) / 2
    assert programming.rms_error_microsiemens == pytest.approx(math.sqrt(error), rel=1e-4)
    assert programming.devices == 80_000
    assert programming.converged_fraction == 1.0
    # Two devices of one pair share nothing but their target.
    assert abs(np.corrcoef(devices.g_plus.ravel(), devices.g_minus.ravel())[0, 1]) < quantile() / 200
    assert abs(np.corrcoef(devices.g_plus.ravel(), devices.nu_plus.ravel())[0, 1]) < quantile() / 200


def test_same_stream_same_tile_and_drift_exponents_do_not_depend_on_how_it_was_programmed() -> None:
    one, _ = program_tile(ramp(), 25.0, PCM, stream("t", 2, "program", 0))
    same, _ = program_tile(ramp(), 25.0, PCM, stream("t", 2, "program", 0))
    verified, _ = program_tile(ramp(), 25.0, PCM, stream("t", 2, "program", 0), ProgramAndVerify())
    other, _ = program_tile(ramp(), 25.0, PCM, stream("t", 2, "program", 1))
    for name in ("g_plus", "g_minus", "nu_plus", "nu_minus"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert (getattr(one, name) != getattr(other, name)).any()
    np.testing.assert_array_equal(one.nu_plus, verified.nu_plus)
    np.testing.assert_array_equal(one.nu_minus, verified.nu_minus)


def test_program_and_verify_halves_the_error_and_reports_convergence() -> None:
    _, single = program_tile(ramp(), 25.0, PCM, stream("t", 3, "program"))
    _, verified = program_tile(ramp(), 25.0, PCM, stream("t", 3, "program"), ProgramAndVerify())
    assert verified.converged_fraction > 0.991
    assert verified.rms_error_microsiemens < 0.75 * single.rms_error_microsiemens
    _, hasty = program_tile(ramp(), 25.0, PCM, stream("t", 3, "program"), ProgramAndVerify(max_iterations=1))
    assert hasty.converged_fraction < verified.converged_fraction
    assert hasty.rms_error_microsiemens == pytest.approx(single.rms_error_microsiemens, rel=0.02)


def test_documented_slopes_and_errors_of_programming() -> None:
    """docs/physics.md: slope of the conductances on their targets, and root mean square errors (pcm-90nm)."""
    rng = np.random.default_rng(0)
    normal, tailed = rng.normal(0, 0.4, (1, 512, 256)), rng.laplace(0, 0.08, (1, 512, 256))
    slopes, errors = [], []
    for weights, options in ((normal, None), (normal, ProgramAndVerify()), (tailed, None)):
        target = np.rint(32767 * np.clip(weights, -1, 1)).astype(np.int16)
        devices, report = program_tile(target, 25.0, PCM, stream("t", 9, "program"), options)
        wanted = target / 32767
        slopes.append(float((wanted * net(devices.g_plus, devices.g_minus, 25.0)).sum() / np.square(wanted).sum()))
        errors.append(report.rms_error_microsiemens)
        assert report.converged_fraction > 0.999
    assert slopes[0] == pytest.approx(0.99, abs=0.005)
    assert slopes[2] == pytest.approx(0.97, abs=0.005)
    assert errors[:2] == pytest.approx([0.54, 0.35], abs=0.01)


def test_reading_for_one_purpose_does_not_change_the_devices_or_another_purpose() -> None:
    devices, _ = program_tile(ramp(), 25.0, PCM, stream("t", 4, "program"))
    before = {name: getattr(devices, name).copy() for name in ("g_plus", "g_minus", "nu_plus", "nu_minus")}
    inference = conductances(devices, 3600.0, PCM, stream("t", 4, "inference", 1))
    recalibration = conductances(devices, 3600.0, PCM, stream("t", 4, "recalibration", 1))
    again = conductances(devices, 3600.0, PCM, stream("t", 4, "inference", 1))
    for name, array in before.items():
        np.testing.assert_array_equal(array, getattr(devices, name))
    np.testing.assert_array_equal(inference[0], again[0])
    noiseless = conductances(devices, 3600.0, PCM, None)
    noise = [(reading[0] - noiseless[0]).ravel() for reading in (inference, recalibration)]
    assert abs(np.corrcoef(*noise)[0, 1]) < quantile() / math.sqrt(noise[0].size)


def test_a_chip_with_another_g_max_keeps_relative_behaviour() -> None:
    wide, _ = program_tile(ramp(), 25.0, PCM, stream("t", 5, "program"))
    narrow, _ = program_tile(ramp(), 5.0, PCM, stream("t", 5, "program"))
    np.testing.assert_allclose(narrow.g_plus * 5, wide.g_plus, rtol=1e-4, atol=1e-5)
    one = conductances(wide, 1e6, PCM, stream("t", 5, "read"))
    other = conductances(narrow, 1e6, PCM, stream("t", 5, "read"))
    np.testing.assert_allclose(net(*one, 25.0), net(*other, 5.0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        column_noise_sigma(*one, 25.0, 255, 0.1, PCM), column_noise_sigma(*other, 5.0, 255, 0.1, PCM), rtol=1e-4
    )


def test_products_are_as_noisy_as_the_column_sigma_says() -> None:
    devices, _ = program_tile(ramp(96, 8), 25.0, PCM, stream("t", 6, "program"))
    plus, minus = conductances(devices, 3600.0, PCM, stream("t", 6, "read"))
    codes = np.tile(np.random.default_rng(0).integers(0, 256, (1, 1, 96)), (20_000, 1, 1))
    mean_square = float(np.square(codes / 255).mean())
    additive = column_noise_sigma(plus, minus, 25.0, 255, mean_square, PCM)
    assert additive.shape == (8,)
    exact = input_dependent_sigma(codes[:1], total(plus, minus, 25.0), PCM)[0]
    noise = stream("t", 6, "noise").standard_normal((20_000, 8))
    for sigma in (additive, exact):
        p = mvm(codes, net(plus, minus, 25.0), sigma=sigma, noise=noise)
        quiet = mvm(codes[:1], net(plus, minus, 25.0))[0]
        for column in range(8):
            assert_moments(p[:, column] - quiet[column], 0.0, float(sigma[column]) ** 2, family=16)


def test_groups_do_not_mix_their_columns() -> None:
    g_plus = np.zeros((3, 4, 2), dtype=np.float32)
    g_plus[1] = 25.0
    sigma = column_noise_sigma(g_plus, np.zeros_like(g_plus), 25.0, 100, 1.0, PCM)
    np.testing.assert_allclose(sigma, [0, 0, 3.5, 3.5, 0, 0], rtol=1e-6)


IDLE = {"g_max_microsiemens": 25.0, "dac_levels": 255, "dac_mean_square": 0.2, "technology": PCM}


class TestIdleCells:
    def test_a_single_group_has_none(self) -> None:
        idle = idle_cells(groups=1, rows=100, columns=5, age_s=0.0, rng=stream("t", 7, "idle"), **IDLE)
        assert idle.variance == 0
        assert (idle.offset == 0).all()

    def test_they_are_the_programming_model_of_reset_pairs_under_a_column(self) -> None:
        """Against the cells themselves: 15 other groups of 9 rows, programmed to 0, driven at the mean square."""
        rows, columns = 15 * 9, 4000
        devices, _ = program_tile(np.zeros((1, rows, columns), dtype=np.int16), 25.0, PCM, stream("t", 8, "program"))
        code = 255 * math.sqrt(0.2)
        cells = net(devices.g_plus, devices.g_minus, 25.0)[0].sum(axis=0) * code
        idle = idle_cells(groups=16, rows=9, columns=columns, age_s=0.0, rng=stream("t", 8, "idle"), **IDLE)
        assert idle.offset.shape == (16 * columns,)
        assert_mean(cells, 0.0)
        assert_moments(cells, 0.0, float(np.square(idle.offset).mean()), what="fixed pattern")
        sigma = column_noise_sigma(devices.g_plus, devices.g_minus, 25.0, 255, 0.2, PCM)
        assert_mean(np.square(sigma), idle.variance, what="short-term variance")

    def test_they_drift_and_keep_their_pattern(self) -> None:
        young = idle_cells(groups=16, rows=9, columns=4, age_s=0.0, rng=stream("t", 9, "idle"), **IDLE)
        old = idle_cells(groups=16, rows=9, columns=4, age_s=YEAR, rng=stream("t", 9, "idle"), **IDLE)
        retained = (1 + YEAR / 20) ** -0.1
        np.testing.assert_allclose(old.offset, young.offset * retained, rtol=1e-5)
        assert old.variance == pytest.approx(young.variance * retained)


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(InputTypeError, match="int16"):
        target_conductances(np.zeros((1, 2, 2)), 25.0)  # type: ignore[arg-type]
    g = np.zeros((1, 2, 2), dtype=np.float32)
    with pytest.raises(InputShapeError, match="share one shape"):
        TileDevices(g, g, g, g[:, :1], 25.0)


@pytest.mark.parametrize("name", ["pcm-90nm", "pcm-14nm", "pcm-14nm-single"])
@pytest.mark.parametrize("level", [0.0, 0.25, 0.7, 1.0])
def test_the_whole_chain_has_the_moments_of_the_published_models(name: str, level: float) -> None:
    """Programming, drift and read noise together after a year, integrated over the published distributions."""
    technology = get_technology(name)
    q = np.full((1, 250, 400), round(level * 32767), dtype=np.int16)
    devices, _ = program_tile(q, G_MAX[name], technology, stream("chain", 1, name))
    reading, _ = conductances(devices, YEAR, technology, stream("chain", 2, name))

    z = np.linspace(-8, 8, 2001)
    density = np.exp(-0.5 * z**2)
    density /= density.sum()
    g = round(level * 32767) / 32767
    mean_nu, std_nu = drift_exponent(name, g)
    retained = ((YEAR + T0_S[name]) / T0_S[name]) ** -np.abs(mean_nu + std_nu * z)
    programmed = np.maximum(0, G_MAX[name] * g + programming_sigma(name, g) * z)
    noise = np.array([read_noise_share(name, value / G_MAX[name], YEAR) if value > 0 else 0 for value in programmed])
    rectified = np.array([rectified_moments(1.0, share) for share in noise])
    assert_moments(
        reading,
        float((density * programmed * rectified[:, 0]).sum() * (density * retained).sum()),
        float((density * programmed**2 * rectified[:, 1]).sum() * (density * retained**2).sum()),
        family=12,
        what=f"{name} at g = {level}",
    )
