"""Read noise of the fast engine: the right spread, disjoint slices of the bank, reproducible by seed."""

from __future__ import annotations

import engine_programs as programs
import numpy as np
import pytest
from engine_programs import Maker
from pcmedge.errors import InputShapeError
from pcmedge_emulator.engine import ChipProgram, FastEngine, ReferenceEngine
from pcmedge_emulator.engine.noise import NoiseCursor, NoisePlan, bank_size, gaussian_bank

ENGINES = [FastEngine, ReferenceEngine]


def sigmas(maker: Maker) -> dict[int, np.ndarray]:
    return {
        tile: maker.rng.uniform(5, 60, g.shape[0] * g.shape[2]).astype(np.float32)
        for tile, g in maker.conductances.items()
    }


def dense_layer(rows: int, columns: int, tile_rows: int) -> tuple[Maker, ChipProgram]:
    maker = Maker(programs.profile(rows=tile_rows))
    maker.gemm("x", "y", maker.rng.normal(0, 0.2, (rows, columns)))
    return maker, maker.program({"x": ["N", rows]}, {"y": ["N", columns]})


def expected_spread(maker: Maker, program: ChipProgram, per_tile: dict[int, np.ndarray]) -> np.ndarray:
    """Standard deviation of a dense layer's outputs from per-tile sigmas in codes; row tiles are independent."""
    block = program.layers["y"].blocks["W"]
    variance = np.zeros(block.columns)
    for tile in block.tiles:
        variance[tile.first_column : tile.first_column + tile.columns] += per_tile[tile.tile].astype(float) ** 2
    return np.sqrt(variance) * block.dac_step * block.weight_scale


@pytest.mark.parametrize("engine", ENGINES)
def test_additive_noise_has_the_sigma_of_each_column(engine: type) -> None:
    maker, program = dense_layer(40, 12, tile_rows=16)
    per_tile = sigmas(maker)
    made = engine(program, maker.snapshot(converters="ideal", read_noise="additive", column_sigma=per_tile))
    quiet = engine(program, maker.snapshot(converters="ideal"))
    x = np.repeat(maker.rng.normal(0, 1, (1, 40)).astype(np.float32), 6000, axis=0)
    noise = made.run({"x": x}, noise_seed=3)["y"] - quiet.run({"x": x})["y"]
    # The spread of a sample deviation is sigma / sqrt(2 n): 5 of those for each of 12 columns.
    assert np.allclose(noise.std(0), expected_spread(maker, program, per_tile), rtol=5 / np.sqrt(2 * 6000))
    assert np.all(np.abs(noise.mean(0)) < 5 * noise.std(0) / np.sqrt(6000))
    correlation = np.corrcoef(noise.T) - np.eye(12)
    assert np.abs(correlation).max() < 5 / np.sqrt(6000)


@pytest.mark.parametrize("engine", ENGINES)
def test_input_dependent_noise_grows_with_the_input(engine: type) -> None:
    maker, program = dense_layer(40, 12, tile_rows=64)
    pair_sums = {tile: np.abs(g) + np.float32(0.1) for tile, g in maker.conductances.items()}
    made = engine(
        program,
        maker.snapshot(converters="ideal", read_noise="input-dependent", pair_sums=pair_sums, noise_coefficient=0.05),
    )
    quiet = engine(program, maker.snapshot(converters="ideal"))
    block = program.layers["y"].blocks["W"]
    for size in (0.2, 2.0):
        row = (size * maker.rng.normal(0, 1, (1, 40))).astype(np.float32)
        x = np.repeat(row, 4000, axis=0)
        noise = made.run({"x": x}, noise_seed=3)["y"] - quiet.run({"x": x})["y"]
        sigma = 0.05 * np.sqrt((row.astype(float) ** 2) @ pair_sums[block.tiles[0].tile][0]).reshape(-1)
        assert np.allclose(noise.std(0), sigma * block.weight_scale, rtol=5 / np.sqrt(2 * 4000))


@pytest.mark.parametrize("kind", ["additive", "input-dependent"])
@pytest.mark.parametrize("make", [programs.residual_cnn, programs.depthwise_cnn, programs.lstm_network])
def test_both_engines_draw_the_same_distribution_through_converters(make, kind: str) -> None:
    maker = Maker(programs.profile(rows=64, columns=64))
    program = make(maker)
    snapshot = maker.snapshot(
        read_noise=kind,
        column_sigma=sigmas(maker),
        pair_sums={tile: np.abs(g) for tile, g in maker.conductances.items()},
        noise_coefficient=0.1,
    )
    shape = [size for size in program.inputs[0].shape if size is not None]
    x = np.repeat(maker.rng.normal(0, 1, (3, *shape)).astype(np.float32), 120, axis=0)
    fast = FastEngine(program, snapshot).run({"x": x}, noise_seed=1)["y"].reshape(3, 120, -1)
    reference = ReferenceEngine(program, snapshot).run({"x": x}, noise_seed=1)["y"].reshape(3, 120, -1)
    spread = np.maximum(reference.std(1), 1e-6)
    assert np.all(np.abs(fast.mean(1) - reference.mean(1)) < 5 * spread * np.sqrt(2 / 120))
    assert 0.9 < np.mean(fast.std(1)) / np.mean(reference.std(1)) < 1.1


def test_a_seed_reproduces_a_call_and_other_calls_differ() -> None:
    maker, program = dense_layer(40, 12, tile_rows=16)
    made = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigmas(maker)))
    x = maker.rng.normal(0, 1, (50, 40)).astype(np.float32)
    first = made.run({"x": x}, noise_seed=11)["y"]
    assert np.array_equal(first, made.run({"x": x}, noise_seed=11)["y"])
    assert not np.array_equal(first, made.run({"x": x}, noise_seed=12)["y"])
    assert not np.array_equal(made.run({"x": x})["y"], made.run({"x": x})["y"])
    generator = np.random.default_rng(5)
    assert not np.array_equal(
        made.run({"x": x}, noise_seed=generator)["y"], made.run({"x": x}, noise_seed=generator)["y"]
    )


def test_time_steps_of_a_recurrent_layer_have_noise_of_their_own() -> None:
    maker = Maker()
    program = programs.lstm_network(maker, "forward")
    made = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigmas(maker)))
    quiet = FastEngine(program, maker.snapshot())
    x = maker.rng.normal(0, 1, (4, 9, 6)).astype(np.float32)
    moved = made.run({"x": x}, noise_seed=0)["l"] - quiet.run({"x": x})["l"]
    steps = moved.reshape(9, -1)
    assert np.all(np.abs(steps).max(1) > 0)
    assert len({step.tobytes() for step in steps}) == 9


def test_slices_of_a_call_are_consecutive_and_disjoint_and_never_wrap() -> None:
    bank = np.arange(1500, dtype=np.float32)
    plan = NoisePlan.of([(3, 10), (7,), (2, 2, 2)])
    assert (plan.total, plan.sign_counts) == (45, (3, 1, 4))
    for seed in range(20):
        cursor = NoiseCursor(bank, np.random.default_rng(seed), 10 * plan.total)
        taken = [np.concatenate([part.reshape(-1) for part in cursor.slices(plan)]) for _run in range(10)]
        numbers = np.concatenate(taken)
        assert np.array_equal(numbers, np.arange(numbers[0], numbers[0] + 450))


def test_a_call_larger_than_the_bank_starts_again_between_session_runs() -> None:
    plan = NoisePlan.of([(60,)])
    cursor = NoiseCursor(np.arange(100, dtype=np.float32), np.random.default_rng(0), 100)
    for _run in range(30):
        (numbers,) = cursor.slices(plan)
        assert np.array_equal(np.diff(numbers), np.ones(59))


@pytest.mark.parametrize("needed", [90, 100, 700])
def test_a_call_that_fills_the_bank_does_not_always_start_at_the_same_place(needed: int) -> None:
    """It did, at 0: two such calls had the same noise, and the noise of a study of many pictures never changed."""
    plan, starts = NoisePlan.of([(3, 3)]), list[float]()
    for seed in range(200):
        cursor = NoiseCursor(np.arange(100, dtype=np.float32), np.random.default_rng(seed), needed)
        starts.append(float(cursor.slices(plan)[0].reshape(-1)[0]))
    # 200 draws of 92 places: on average 80 different ones.
    assert len(set(starts)) > 60


def test_a_call_that_passes_the_end_of_the_bank_uses_no_number_twice() -> None:
    plan = NoisePlan.of([(3,), (2, 2)])
    for seed in range(50):
        cursor = NoiseCursor(np.arange(1000, dtype=np.float32), np.random.default_rng(seed), 900)
        taken = np.concatenate([part.reshape(-1) for _run in range(138) for part in cursor.slices(plan)])
        assert len(set(taken.tolist())) == len(taken) == 966


def convolution(batch: int, calls: int, positions: int = 24) -> np.ndarray:
    """Mean noise of calls of one repeated picture [calls, columns], of a layer pooled over its positions.

    In units of one picture's standard deviation: the column's sigma over the root of the number of positions.
    """
    maker = Maker()
    maker.conv("x", "c", maker.rng.normal(0, 0.3, (8, 1, 3, 3)), pads=[1] * 4)
    maker.op("GlobalAveragePool", ["c"], "y")
    program = maker.program({"x": ["N", 1, positions, positions]}, {"y": ["N", 8, 1, 1]})
    sigma = {tile: np.full(8, 30, np.float32) for tile in maker.conductances}
    made = FastEngine(
        program, maker.snapshot(converters="ideal", read_noise="additive", column_sigma=sigma), noise_values=1 << 22
    )
    quiet = FastEngine(program, maker.snapshot(converters="ideal"))
    x = np.repeat(maker.rng.normal(0, 1, (1, 1, positions, positions)).astype(np.float32), batch, axis=0)
    true = quiet.run({"x": x[:1]})["y"].reshape(-1)
    block = program.layers["c"].blocks["W"]
    one = 30 * block.dac_step * np.asarray(block.weight_scale) / positions
    means = np.array(
        [made.run({"x": x}, noise_seed=seed)["y"].reshape(batch, -1).mean(0) - true for seed in range(calls)]
    )
    return means / one


@pytest.mark.parametrize("batch", [1, 40, 500, 3000])
def test_calls_are_independent_however_large(batch: int) -> None:
    """No two calls have the same noise, and their means over the batch are uncorrelated."""
    means = convolution(batch=batch, calls=40 if batch < 3000 else 12)
    assert len({row.tobytes() for row in means}) == len(means)
    correlation = np.corrcoef(means)
    pairs = correlation[np.triu_indices(len(means), 1)]
    assert abs(float(pairs.mean())) < 4 / np.sqrt(pairs.size * (means.shape[1] - 1))
    assert np.abs(pairs).max() < 0.9999


def test_the_bank_is_normal_and_grows_without_changing() -> None:
    small = gaussian_bank(1 << 12).copy()
    large = gaussian_bank(1 << 16)
    assert np.array_equal(small, large[: 1 << 12])
    assert not large.flags.writeable
    assert abs(float(large.mean())) < 5 / 256
    assert abs(float(large.std()) - 1) < 5 / 256 / np.sqrt(2)


def test_micro_batches_shrink_to_a_small_bank() -> None:
    maker = Maker()
    maker.conv("x", "y", maker.rng.normal(0, 0.3, (16, 1, 3, 3)), pads=[1] * 4)
    program = maker.program({"x": ["N", 1, 64, 64]}, {"y": ["N", 16, 64, 64]})
    sigma = {tile: np.full(16, 30, np.float32) for tile in maker.conductances}
    snapshot = maker.snapshot(read_noise="additive", column_sigma=sigma)
    made = FastEngine(program, snapshot, micro_batch=64, noise_values=1 << 18)
    x = np.zeros((12, 1, 64, 64), np.float32)
    y = made.run({"x": x}, noise_seed=0)["y"]
    # One sample takes 2^16 numbers, the bank holds four: samples of one session run never share numbers.
    assert y.shape == (12, 16, 64, 64)
    assert len({sample.tobytes() for sample in y}) == 12


def test_noise_needs_beyond_any_bank_are_refused() -> None:
    assert bank_size(1000, 1000) == 1 << 22
    assert bank_size(1000, 1000, samples=5000) == 5 << 20
    assert bank_size(1000, 1000, samples=10**6) == 1 << 24
    assert bank_size(1 << 22, 1 << 22) == 1 << 24
    assert bank_size(1 << 18, 1 << 26) == (1 << 26) + (1 << 20)
    assert bank_size(1 << 18, 1 << 26, largest=1 << 20) == 1 << 24
    assert bank_size(1 << 18, 1 << 26, largest=1 << 25) == (1 << 25) + (1 << 20)
    assert bank_size(1 << 18, 1 << 23, largest=1 << 20) == 1 << 24
    assert bank_size(1 << 10, 1 << 24, largest=1 << 20) == (1 << 24) + (1 << 20)
    assert bank_size(1 << 18, 1 << 18, limit=1 << 18) == 1 << 18
    for size, limit in ((1 << 29, None), (1 << 20, 1 << 18)):
        with pytest.raises(InputShapeError, match="smaller inputs or batches"):
            bank_size(1000, size, limit=limit)
