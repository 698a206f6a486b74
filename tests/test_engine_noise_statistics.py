"""Noise of each product from the bank: averages are those of fresh noise, and calls, layers and pictures share none.

Every bound is far enough out that independent noise crosses it less than once in a million runs of its test.
"""

from __future__ import annotations

import numpy as np
import pytest
from engine_programs import Maker
from pcmedge.errors import InputShapeError
from pcmedge_emulator.engine import ChipProgram, FastEngine, Parameters
from pcmedge_emulator.engine.noise import NoiseCursor, NoisePlan, gaussian_bank

Noise = np.ndarray
SIGMA = 30.0


def noisy(maker: Maker, program: ChipProgram, **options) -> FastEngine:
    sigma = {tile: np.full(g.shape[0] * g.shape[2], SIGMA, np.float32) for tile, g in maker.conductances.items()}
    snapshot = maker.snapshot(converters="ideal", read_noise="additive", column_sigma=sigma)
    return FastEngine(program, snapshot, **options)


def one_sigma(program: ChipProgram, layer: str) -> Noise:
    """Standard deviation of a layer's outputs per column."""
    block = program.layers[layer].blocks["W"]
    return SIGMA * block.dac_step * np.asarray(block.weight_scale, np.float64)


def convolution(channels: int, side: int) -> tuple[Maker, ChipProgram]:
    maker = Maker()
    maker.conv("x", "y", maker.rng.normal(0, 0.3, (channels, 1, 3, 3)), pads=[1] * 4)
    return maker, maker.program({"x": ["N", 1, side, side]}, {"y": ["N", channels, side, side]})


def dense(columns: int) -> tuple[Maker, ChipProgram]:
    maker = Maker()
    maker.gemm("x", "y", maker.rng.normal(0, 0.3, (8, columns)))
    return maker, maker.program({"x": ["N", 8]}, {"y": ["N", columns]})


def outputs(engine: FastEngine, batch: int, seed: int | None, names: tuple[str, ...] = ("y",)) -> list[Noise]:
    """The noise alone: nothing drives the layers."""
    shape = [size for size in engine.program.inputs[0].shape if size is not None]
    found = engine.run({"x": np.zeros((batch, *shape), np.float32)}, noise_seed=seed)
    return [found[name].astype(np.float64) for name in names]


def in_sigmas(program: ChipProgram, layer: str, values: Noise) -> Noise:
    """Outputs [N, columns, ...] in units of their standard deviation."""
    return values / one_sigma(program, layer).reshape(-1, *(1 for _axis in values.shape[2:]))


@pytest.mark.parametrize(("make", "size"), [(convolution, (10, 10)), (dense, (1000,))])
def test_the_mean_of_a_thousand_repeats_in_a_call_has_a_thousandth_of_the_variance(make, size) -> None:
    """24 calls of 1,000 repeats of a picture with 1,000 outputs: 24,000 means.

    The mean of their squares has a relative standard error of sqrt(2 / 24000) = 0.91 %; 5 % is 5.5 of those (4e-8).
    """
    maker, program = make(*size)
    engine = noisy(maker, program)
    squares = []
    for seed in range(24):
        (values,) = outputs(engine, 1000, seed)
        squares.append(np.square(in_sigmas(program, "y", values).mean(0)).mean())
    assert abs(1000 * float(np.mean(squares)) - 1) < 0.05


def test_the_mean_of_a_thousand_calls_has_a_thousandth_of_the_variance() -> None:
    """1,000 calls of one picture with 32,768 outputs, which share a bank of 128 times that.

    Outputs under one sign, 256 of a channel, are correlated by about 1 / sqrt(1000) each, which adds a quarter to the
    variance of the mean of squares: a relative standard error of 0.88 %; 5 % is 5.7 of those (1e-8).
    """
    maker, program = convolution(128, 16)
    engine = noisy(maker, program, noise_values=1 << 22)
    total = np.zeros((1, 128, 16, 16))
    for seed in range(1000):
        total += in_sigmas(program, "y", outputs(engine, 1, seed)[0])
    assert abs(float(np.square(total).mean()) / 1000 - 1) < 0.05


def largest_correlation(a: Noise, b: Noise, *, same: bool = False) -> float:
    """The largest absolute cross-correlation of two sequences over all lags; but lag 0 if they are the ``same``."""
    a, b = a.reshape(-1), b.reshape(-1)
    length = 1 << (len(a) + len(b) - 2).bit_length()
    product = np.fft.rfft(a, length) * np.conj(np.fft.rfft(b, length))
    lags = np.abs(np.fft.irfft(product, length))
    if same:
        lags[0] = 0
    return float(lags.max() / np.sqrt(np.square(a).sum() * np.square(b).sum()))


# Of a normal number: beyond 7.5 standard deviations in 6e-14 cases, times at most 1e6 lags and pairs below.
FAR = 7.5


def test_layers_and_pictures_are_uncorrelated_at_every_lag() -> None:
    maker = Maker()
    for name in ("first", "second"):
        maker.conv("x", name, maker.rng.normal(0, 0.3, (8, 1, 3, 3)), pads=[1] * 4)
    maker.op("GlobalAveragePool", ["x"], "pooled")
    maker.op("Flatten", ["pooled"], "flat")
    maker.gemm("flat", "third", maker.rng.normal(0, 0.3, (1, 200)))
    shapes = {"first": ["N", 8, 16, 16], "second": ["N", 8, 16, 16], "third": ["N", 200]}
    program = maker.program({"x": ["N", 1, 16, 16]}, shapes)
    found = dict(zip(shapes, outputs(noisy(maker, program), 24, 5, tuple(shapes)), strict=True))
    noise = {name: in_sigmas(program, name, values) for name, values in found.items()}
    for a, b in (("first", "second"), ("first", "third"), ("second", "third")):
        shorter = min(noise[a].size, noise[b].size)
        assert largest_correlation(noise[a], noise[b]) < FAR / np.sqrt(shorter)
    pictures = noise["first"]
    for one in range(24):
        for other in range(one, 24):
            largest = largest_correlation(pictures[one], pictures[other], same=one == other)
            assert largest < FAR / np.sqrt(pictures[0].size)


@pytest.mark.parametrize(("make", "size", "batch"), [(convolution, (64, 6), 64), (dense, (64,), 4096)])
def test_calls_that_read_the_same_numbers_are_uncorrelated_at_every_lag(make, size, batch: int) -> None:
    """A bank of two calls' numbers, so that calls overlap; 4,096 signs each.

    At the lag where two calls meet their correlation is a sum of as many random signs, of 1 / 64 in all: beyond 7.5
    times that with a probability below 2 exp(-28) (Hoeffding).
    """
    maker, program = make(*size)
    per_call = int(np.prod([64, *(size[1:] * 2)])) * (64 if make is convolution else batch)
    engine = noisy(maker, program, micro_batch=batch, noise_values=2 * per_call)
    calls = [in_sigmas(program, "y", outputs(engine, batch, seed)[0]) for seed in range(7)]
    assert calls[0].size == per_call
    meetings = 0
    for one in range(7):
        for other in range(one + 1, 7):
            assert largest_correlation(calls[one], calls[other]) < FAR / 64
            sizes = [np.abs(calls[index]) - np.sqrt(2 / np.pi) for index in (one, other)]
            meetings += largest_correlation(*sizes) > 0.25
    # They do meet: the magnitudes say so.
    assert meetings >= 3


def test_layers_that_share_a_bank_in_one_run_are_uncorrelated_at_every_lag() -> None:
    """Two layers of 36,864 numbers and 4,096 signs each from a bank of 40,000: they meet in every run.

    At the lag where they meet: as for calls, 4,096 random signs. Within a layer nothing is shared.
    """
    shape = (64, 64, 3, 3)
    plan = NoisePlan.of([shape, shape], [True, True])
    bank = gaussian_bank(40_000)
    meetings = 0
    for seed in range(6):
        cursor = NoiseCursor(bank, np.random.default_rng(seed), plan.total)
        first, second = (a * b for a, b in zip(cursor.slices(plan), cursor.signs(plan), strict=True))
        assert largest_correlation(first, second) < FAR / 64
        assert largest_correlation(first, first, same=True) < FAR / np.sqrt(first.size)
        sizes = [np.abs(each) - np.sqrt(2 / np.pi) for each in (first, second)]
        meetings += largest_correlation(*sizes) > 0.25
    assert meetings == 6


def test_a_measurement_beyond_a_comfortable_bank_takes_one_of_its_largest_layer() -> None:
    """Three layers of 2^23 numbers each, measured in one run: a bank of 2^24 and not of 2^25."""
    maker = Maker()
    for name in ("a", "b", "c"):
        maker.conv("x", f"{name}/conv", maker.rng.normal(0, 0.3, (2, 1, 1, 1)))
        maker.norm(f"{name}/conv", name, 2, f"{name}/conv")
    program = maker.program({"x": ["N", 1, 64, 64]}, {name: ["N", 2, 64, 64] for name in "abc"})
    engine = noisy(maker, program)
    before = engine.memory().noise_bank
    found = engine.measure({"x": np.zeros((1024, 1, 64, 64), np.float32)}, Parameters(), method="batch", noise_seed=3)
    assert engine.memory().noise_bank <= max(before, 4 << 24)
    # Each layer's own noise, of 2^22 products per channel: the variance within 5 of its standard errors.
    for name in ("a", "b", "c"):
        _mean, variance = found[name]
        ratio = variance / np.square(one_sigma(program, f"{name}/conv"))
        assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 2**22) + 0.001


def test_a_bank_smaller_than_what_one_batch_takes_is_refused() -> None:
    maker = Maker()
    maker.conv("x", "c", maker.rng.normal(0, 0.3, (4, 1, 3, 3)), pads=[1] * 4)
    maker.norm("c", "y", 4, "c")
    free = maker.program({"x": ["N", 1, 16, 16]}, {"y": ["N", 4, 16, 16]})
    engine = noisy(maker, free, noise_values=4096)
    x = np.zeros((32, 1, 16, 16), np.float32)
    # A request is cut into batches that fit; the 32 samples of a measurement cannot be.
    assert engine.run({"x": x}, noise_seed=0)["y"].shape == (32, 4, 16, 16)
    assert engine.measure({"x": x[:4]}, Parameters(), method="batch", noise_seed=0).keys() == {"y"}
    with pytest.raises(InputShapeError, match="needs 32768 numbers for one batch, expected at most 4096"):
        engine.measure({"x": x}, Parameters(), method="batch", noise_seed=0)
    with pytest.raises(InputShapeError, match="needs 1024 numbers for one batch, expected at most 1000"):
        noisy(maker, free, noise_values=1000).run({"x": x}, noise_seed=0)
    whole = maker.program({"x": [32, 1, 16, 16]}, {"y": [32, 4, 16, 16]})
    with pytest.raises(InputShapeError, match="needs 32768 numbers for one batch, expected at most 4096"):
        noisy(maker, whole, noise_values=4096).run({"x": x}, noise_seed=0)
