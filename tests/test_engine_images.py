"""Compiled images on both engines: the compiler, the image and the engines agree on what a program means."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from compiler_models import ARCHITECTURES, exported, torch_inputs
from pcmedge.compiler import compile
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile
from pcmedge_emulator.engine import ChipProgram, FastEngine, ReferenceEngine, Snapshot

ENGINES = [FastEngine, ReferenceEngine]


@functools.cache
def image_of(name: str) -> ChipImage:
    model = exported(name)
    inputs = dict(zip([value.name for value in model.graph.input], torch_inputs(name), strict=True))
    return compile(model, calibration=inputs, profile=profile(tile_rows=24, tile_columns=16, tiles=4096))


def perfect(image: ChipImage, **changes) -> Snapshot:
    targets = {tile.tile: (image.target(tile) / 32767).astype(np.float32) for tile in image.tiles()}
    return Snapshot(conductances=targets, **changes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_both_engines_answer_alike(name: str) -> None:
    image = image_of(name)
    program = ChipProgram.from_image(image)
    inputs = image.reference_set()[0]
    fast = FastEngine(program, perfect(image)).run(inputs)
    reference = ReferenceEngine(program, perfect(image)).run(inputs)
    for output, values in reference.items():
        assert fast[output].shape == values.shape
        assert fast[output].dtype == values.dtype
        assert np.abs(fast[output] - values).mean() <= 2e-3 * np.abs(values).max()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_image_answers_its_own_reference_inputs(name: str) -> None:
    image = image_of(name)
    inputs, expected = image.reference_set()
    found = FastEngine(ChipProgram.from_image(image), perfect(image, converters="ideal")).run(inputs)
    for output, values in expected.items():
        assert np.abs(found[output] - values).max() <= 1e-4 * np.abs(values).max()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["mlp", "residual", "depthwise"])
def test_paired_statistics_of_a_perfect_chip_on_the_images_buffer_are_the_images(name: str, engine: type) -> None:
    image = image_of(name)
    program = ChipProgram.from_image(image)
    assert program.statistics
    made = engine(program, perfect(image, converters="ideal"))
    found = made.measure(image.calibration_buffer(), method="paired")
    assert found.keys() == program.statistics.keys()
    for node, (mean, var) in found.items():
        norm = program.statistics[node]
        assert np.allclose(mean, norm.mean, atol=2e-3 * np.sqrt(norm.var.max()))
        assert np.allclose(var, norm.var, rtol=5e-3, atol=1e-7)
