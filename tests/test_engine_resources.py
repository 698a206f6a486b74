"""What an engine takes of the machine: threads, micro-batches, memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import engine_programs as programs
import numpy as np
import pytest
from chip_models import INPUT, digits, digits_image
from engine_programs import Maker
from pcmedge.errors import InputValueError
from pcmedge_emulator.engine import ChipProgram, FastEngine, Snapshot, available_cores, default_threads
from pcmedge_emulator.engine.resources import LARGEST_MICRO_BATCH, default_micro_batch


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (16, 8), (128, 8)])
def test_an_inference_leaves_processors_to_others(cores: int, threads: int) -> None:
    assert default_threads(cores) == threads


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000\n", 1), ("max 100000\n", None), ("what is this", None), ("", None)]
)
def test_the_quota_of_a_container_counts(quota: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    unlimited = available_cores(tmp_path / "none")
    assert unlimited >= 1
    assert available_cores(tmp_path / "cpu.max") == (unlimited if cores is None else cores)


@pytest.mark.parametrize(("side", "size"), [(4, LARGEST_MICRO_BATCH), (32, 16), (64, 4), (600, 1)])
def test_micro_batches_are_as_large_as_the_caches_allow(side: int, size: int) -> None:
    maker = Maker()
    maker.conv("x", "y", maker.rng.normal(0, 0.3, (8, 1, 3, 3)), pads=[1] * 4)
    program = maker.program({"x": ["N", 1, side, side]}, {"y": ["N", 8, side, side]})
    assert default_micro_batch(program) == size
    assert FastEngine(program, maker.snapshot()).micro_batch == size
    assert FastEngine(program, maker.snapshot(), micro_batch=3).micro_batch == 3
    with pytest.raises(InputValueError, match="micro_batch"):
        FastEngine(program, maker.snapshot(), micro_batch=0)


def test_activations_inside_a_compiled_program_count() -> None:
    program = ChipProgram.from_image(digits_image())
    assert program.model.graph.value_info
    assert 1 <= default_micro_batch(program) <= LARGEST_MICRO_BATCH


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_changes_no_result(threads: int) -> None:
    image, x = digits_image(), digits()[2]
    program = ChipProgram.from_image(image)
    snapshot = Snapshot(conductances={tile.tile: image.target(tile) / np.float32(32767) for tile in image.tiles()})
    one = FastEngine(program, snapshot).run({INPUT: x})
    for name, values in FastEngine(program, snapshot, threads=threads).run({INPUT: x}).items():
        assert np.allclose(values, one[name], rtol=0, atol=1e-4 * np.abs(values).max())


def test_memory_is_told_and_what_only_tells_shapes_is_not_kept() -> None:
    maker = Maker()
    program = programs.residual_cnn(maker)
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 30, np.float32) for tile, g in maker.conductances.items()}
    engine = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigma))
    conductances = sum(g.nbytes for g in maker.conductances.values())
    before = engine.memory()
    assert before.snapshot == conductances
    assert before.constants.keys() == {"run"}
    assert conductances <= before.constants["run"] <= 2 * conductances + 65536
    engine.run({"x": np.zeros((2, 3, 12, 12), np.float32)}, noise_seed=0)
    after = engine.memory()
    assert after.constants == before.constants
    assert after.noise_bank >= 4 * (1 << 22)
    assert after.total == after.constants["run"] + after.snapshot + after.noise_bank
    engine.run_with_saturation({"x": np.zeros((2, 3, 12, 12), np.float32)}, noise_seed=0)
    assert engine.memory().constants.keys() == {"run", "saturation"}


def test_turbo_keeps_a_quarter_of_the_conductances() -> None:
    maker = Maker()
    maker.gemm("x", "y", maker.rng.normal(0, 0.2, (400, 400)))
    program = maker.program({"x": ["N", 400]}, {"y": ["N", 400]})
    exact = FastEngine(program, maker.snapshot()).memory().constants["run"]
    assert FastEngine(program, maker.snapshot(), precision="turbo").memory().constants["run"] < 0.3 * exact


def test_an_engine_goes_with_its_last_user() -> None:
    """Its sessions and their memory go at once, not when the garbage collector comes around."""
    maker = Maker()
    program = programs.mlp(maker)
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 30, np.float32) for tile, g in maker.conductances.items()}
    engine = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigma))
    engine.run({"x": np.zeros((2, 64), np.float32)}, noise_seed=0)
    gone = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()
