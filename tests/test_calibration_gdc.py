"""Global drift compensation: how well the read-out estimates the drift, and that it never does harm."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from confidence import quantile
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge_emulator.calibration.gdc import GdcReading, cell_weights, compensation, counted_cells, probe
from pcmedge_emulator.crossbar import TileDevices, conductances, converter_spread, net, program_tile
from pcmedge_emulator.physics import accumulated_read_noise_sigma, drift, get_technology, stream

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
PCM = get_technology("pcm-90nm")


Weights = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.clip(rng.normal(0, 0.4, shape), -1, 1)


def peaked(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.clip(rng.laplace(0, 0.08, shape), -1, 1)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.02, gaussian(rng, shape), 0)


def one_sided(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.abs(gaussian(rng, shape))


def targets(weights: np.ndarray) -> np.ndarray:
    return np.rint(weights * 32767).astype(np.int16)


class Tile:
    """One programmed tile that can be read out and compared with what it has really lost."""

    def __init__(self, target: np.ndarray, seed: int, name: str = "pcm-90nm") -> None:
        self.technology = get_technology(name)
        self.g_max = self.technology.g_max_microsiemens
        self.target, self.seed = target, seed
        self.devices: TileDevices
        self.devices, _ = program_tile(target, self.g_max, self.technology, stream("gdc", seed, "program"))

    def realisation(self, age_s: float, purpose: str) -> tuple[np.ndarray, np.ndarray]:
        return conductances(self.devices, age_s, self.technology, stream("gdc", self.seed, purpose, int(age_s)))

    def read_out(
        self, age_s: float, purpose: str = "recalibration", probing: int = 0, published: bool = False, **options: object
    ) -> GdcReading:
        return probe(
            *self.realisation(age_s, purpose),
            self.g_max,
            counted_cells(self.target) if published else cell_weights(self.target),
            self.technology,
            **{
                "dac_levels": 255,
                "adc_bits": 8,
                "rng": stream("gdc", self.seed, "probe", int(age_s), probing),
                **options,
            },
        )

    def slope(self, age_s: float) -> np.ndarray:
        """Per column, the slope of the conductances, as read for inference, on the targets."""
        g = net(*self.realisation(age_s, "inference"), self.g_max).astype(np.float64)
        wanted = self.target / 32767
        return np.stack([(wanted * g).sum(axis=(0, 1)), (wanted * wanted).sum(axis=(0, 1))])

    def loss(self, age_s: float) -> float:
        """By which factor the products of inference are smaller than right after programming."""
        return float(self.slope(0.0)[0].sum() / self.slope(age_s)[0].sum())


AGES = [HOUR, DAY, 30 * DAY, YEAR]


def read_noise_error(tile: Tile, age_s: float) -> float:
    """Relative standard error of one read-out by accumulated 1/f noise: sqrt(sum t^2 sigma^2) / sum |t| |g|."""
    t, variance, signal = tile.target / 32767, 0.0, 0.0
    plus = (1, tile.devices.g_plus, tile.devices.nu_plus)
    minus = (-1, tile.devices.g_minus, tile.devices.nu_minus)
    for sign, g, nu in (plus, minus):
        drifted = drift(g, nu, age_s, tile.technology.t0_s)
        sigma = accumulated_read_noise_sigma(drifted, g, age_s, tile.technology)
        variance += float(np.square(t * sigma.astype(np.float64)).sum())
        signal += float((sign * t * drifted).sum())
    return math.sqrt(variance) / signal


def errors(weights: Weights, shape: tuple[int, ...], age_s: float, name: str, published: bool = False) -> np.ndarray:
    """Factor over true loss, minus 1, for four chips."""
    found = []
    for chip in range(4):
        tile = Tile(targets(weights(np.random.default_rng(chip), shape)), chip, name)
        factor = compensation(tile.read_out(0.0, published=published), tile.read_out(age_s, published=published))
        assert factor.shape == ()
        found.append(float(factor) / tile.loss(age_s) - 1)
    return np.array(found)


@pytest.mark.parametrize("name", ["pcm-90nm", "pcm-14nm", "pcm-14nm-single"])
@pytest.mark.parametrize("age_s", AGES)
@pytest.mark.parametrize(
    ("weights", "shape"),
    [
        (gaussian, (1, 512, 256)),
        (gaussian, (1, 64, 32)),
        (peaked, (1, 256, 64)),
        (sparse, (1, 256, 64)),
        (one_sided, (1, 128, 32)),
        (gaussian, (32, 9, 1)),
    ],
)
def test_the_factor_is_what_inference_has_lost_but_for_read_noise(
    weights: Weights, shape: tuple[int, ...], age_s: float, name: str
) -> None:
    """Two read-outs on recalibration's read noise, the truth on two of inference's: four independent errors.

    Beyond them stay short-term noise and the converter's rounding, together less than half a percent.
    """
    tile = Tile(targets(weights(np.random.default_rng(0), shape)), 0, name)
    error = math.sqrt(2 * (read_noise_error(tile, 0.0) ** 2 + read_noise_error(tile, age_s) ** 2))
    family = 4 * len(AGES) * 6 * 3
    assert np.abs(errors(weights, shape, age_s, name)).max() <= quantile(family) * error + 0.005


@pytest.mark.parametrize(
    ("weights", "shape", "percent"),
    [
        (gaussian, (1, 512, 256), 0.0367),
        (gaussian, (1, 64, 32), 0.293),
        (sparse, (1, 256, 64), 0.731),
        (gaussian, (32, 9, 1), 0.770),
    ],
)
def test_documented_errors_of_a_factor_after_a_year(weights: Weights, shape: tuple[int, ...], percent: float) -> None:
    """docs/calibration.md: standard error of a factor by the read-out's own 1/f noise (pcm-90nm)."""
    tile = Tile(targets(weights(np.random.default_rng(0), shape)), 0)
    error = 100 * math.hypot(read_noise_error(tile, 0.0), read_noise_error(tile, YEAR))
    assert error == pytest.approx(percent, rel=0.03)


def test_weighting_is_what_makes_the_factor_exact() -> None:
    """The published sum gives weak cells, which drift more, the same say as strong ones."""
    old = errors(gaussian, (1, 256, 64), YEAR, "pcm-90nm", published=True)
    assert np.abs(old).max() < 0.02
    new = errors(gaussian, (1, 256, 64), YEAR, "pcm-14nm", published=True)
    assert 0.05 < new.mean() < 0.12
    assert np.abs(errors(gaussian, (1, 256, 64), YEAR, "pcm-14nm")).max() < 0.01


def test_per_column_factors_follow_the_columns() -> None:
    tile = Tile(targets(gaussian(np.random.default_rng(2), (1, 128, 64))), 2)
    factors = compensation(tile.read_out(0.0), tile.read_out(YEAR), per_column=True)
    assert factors.shape == (64,)
    loss = tile.slope(0.0)[0] / tile.slope(YEAR)[0]
    assert np.abs(factors / loss - 1).max() < 0.06
    by_tile = float(compensation(tile.read_out(0.0), tile.read_out(YEAR)))
    assert np.square(factors - loss).mean() < np.square(by_tile - loss).mean()


def test_the_read_outs_own_error_is_small_and_comes_from_its_own_noise() -> None:
    """Probing the same conductances again moves it by short-term noise only; another moment by 1/f noise too."""
    tile = Tile(targets(gaussian(np.random.default_rng(3), (1, 64, 32))), 3)
    baseline = tile.read_out(0.0)
    same_moment = [float(compensation(baseline, tile.read_out(DAY, probing=probing))) for probing in range(20)]
    other_moments = [
        float(compensation(baseline, tile.read_out(DAY, purpose=f"recalibration {moment}"))) for moment in range(20)
    ]
    assert 0 < np.std(same_moment) / np.mean(same_moment) < 1.5e-3
    assert np.std(same_moment) < np.std(other_moments)
    assert np.std(other_moments) / np.mean(other_moments) < 6e-3
    once = [float(compensation(baseline, tile.read_out(DAY, probing=probing, reads=1))) for probing in range(20)]
    assert np.std(once) > np.std(same_moment)


def test_reads_are_reproducible_and_noise_can_be_off() -> None:
    tile = Tile(targets(gaussian(np.random.default_rng(4), (1, 32, 8))), 4)
    np.testing.assert_array_equal(tile.read_out(HOUR).columns, tile.read_out(HOUR).columns)
    quiet = tile.read_out(HOUR, rng=None)
    np.testing.assert_array_equal(quiet.columns, tile.read_out(HOUR, rng=None).columns)
    g = net(*tile.realisation(HOUR, "recalibration"), 25.0)
    expected = (np.abs(g) * np.abs(tile.target / 32767)).sum(axis=(0, 1))
    np.testing.assert_allclose(tile.read_out(HOUR, rng=None, ideal_converters=True).columns, expected, rtol=1e-5)
    # Each of 32 cells is rounded to 1.25 / 127.
    assert np.abs(quiet.columns - expected).max() < 32 * 0.5 * 1.25 / 127


def test_ideal_devices_need_no_compensation() -> None:
    tile = Tile(targets(gaussian(np.random.default_rng(5), (2, 32, 8))), 5, "ideal")
    baseline, now = tile.read_out(0.0), tile.read_out(YEAR)
    assert compensation(baseline, now) == 1
    assert (compensation(baseline, now, per_column=True) == 1).all()


def test_empty_tiles_and_columns_are_left_alone() -> None:
    empty = Tile(np.zeros((1, 64, 8), dtype=np.int16), 6)
    baseline, now = empty.read_out(0.0), empty.read_out(YEAR)
    assert compensation(baseline, now) == 1
    assert (compensation(baseline, now, per_column=True) == 1).all()
    weights = gaussian(np.random.default_rng(6), (1, 64, 8))
    weights[:, :, 3] = 0
    tile = Tile(targets(weights), 6)
    factors = compensation(tile.read_out(0.0), tile.read_out(YEAR), per_column=True)
    assert factors[3] == compensation(tile.read_out(0.0), tile.read_out(YEAR))
    assert (factors > 1.5).all()


def test_converter_spread_cancels() -> None:
    """Gain cancels in the ratio, the offset is measured with zeros; weak weights of one sign feel it most."""
    weights = np.abs(peaked(np.random.default_rng(7), (1, 128, 32)))
    tile = Tile(targets(weights), 7)
    gain, offset = converter_spread(0.07, 5.0, 32, stream("gdc", 7, "adc"))
    for per_column, tolerance in ((False, 0.01), (True, 0.06)):
        plain = compensation(tile.read_out(0.0), tile.read_out(YEAR), per_column=per_column)
        spread = compensation(
            tile.read_out(0.0, gain=gain, offset=offset),
            tile.read_out(YEAR, gain=gain, offset=offset),
            per_column=per_column,
        )
        np.testing.assert_allclose(spread, plain, rtol=tolerance)


def test_the_probe_does_not_saturate_the_converter() -> None:
    """The strongest weights, programmed above g_max by noise, still read in proportion."""
    tile = Tile(np.full((1, 100, 20), 32767, dtype=np.int16), 8)
    quiet = tile.read_out(0.0, rng=None, ideal_converters=True)
    assert tile.read_out(0.0).tile == pytest.approx(quiet.tile, rel=2e-3)


@settings(max_examples=60)
@given(
    before=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=8),
    now=st.lists(st.floats(0, 1e4, width=32), min_size=8, max_size=8),
)
def test_a_factor_is_always_finite_and_within_its_clamp(before: list[float], now: list[float]) -> None:
    counted = np.ones(len(before), dtype=np.int32)
    baseline = GdcReading(np.array(before, dtype=np.float32), counted)
    present = GdcReading(np.array(now[: len(before)], dtype=np.float32), counted)
    for per_column in (False, True):
        factor = compensation(baseline, present, per_column=per_column)
        assert factor.dtype == np.float32
        assert np.isfinite(factor).all()
        assert ((factor >= 0.5) & (factor <= 16)).all()


def test_read_outs_of_different_cells_are_not_compared() -> None:
    one = GdcReading(np.ones(3, dtype=np.float32), np.array([4, 4, 4], dtype=np.int32))
    other = GdcReading(np.ones(3, dtype=np.float32), np.array([4, 4, 5], dtype=np.int32))
    with pytest.raises(InputShapeError, match="different cells"):
        compensation(one, other)
    g = np.ones((1, 2, 2), dtype=np.float32)
    counted = np.ones((1, 2, 2), dtype=np.bool_)
    with pytest.raises(InputShapeError, match="share one shape"):
        probe(g, g[:, :1], 25.0, counted, PCM, dac_levels=255, adc_bits=8, rng=None)
    with pytest.raises(InputValueError, match="at least 1 read"):
        probe(g, g, 25.0, counted, PCM, dac_levels=255, adc_bits=8, rng=None, reads=0)


def test_counted_cells_are_those_of_two_percent_and_more() -> None:
    q = np.array([[[0, 654, 655, -655, -654, 32767, -32767]]], dtype=np.int16)
    assert counted_cells(q)[0, 0].tolist() == [False, False, True, True, False, True, True]
    assert math.isclose(655 / 32767, 0.02, rel_tol=1e-3)
