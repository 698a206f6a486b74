"""Measuring batch-norm statistics on the chip, plain and in pairs."""

from __future__ import annotations

import engine_programs as programs
import numpy as np
import onnxruntime
import pytest
from engine_programs import Maker
from onnx import helper, numpy_helper
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge_emulator.engine import ChipProgram, FastEngine, Parameters, ReferenceEngine, Snapshot

ENGINES = [FastEngine, ReferenceEngine]


def residual() -> tuple:
    maker = Maker()
    program = programs.residual_cnn(maker)
    x = maker.rng.normal(0, 1, (60, 3, 12, 12)).astype(np.float32)
    return maker, program, x


def drifted(maker: Maker, by: float = 0.4) -> Snapshot:
    weaker = {tile: (g * np.float32(by)).astype(np.float32) for tile, g in maker.conductances.items()}
    return Snapshot(conductances=weaker, converters="ideal")


@pytest.mark.parametrize("engine", ENGINES)
def test_batch_returns_mean_and_population_variance_of_the_layer(engine: type) -> None:
    maker, program, x = residual()
    model = programs.float_model(maker, program)
    model.graph.output.append(helper.make_tensor_value_info("c1", 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (c1,) = session.run(["c1"], {"x": x})
    found = engine(program, maker.snapshot(converters="ideal")).measure({"x": x}, method="batch")
    assert set(found) == {"n1", "n2", "n3"}
    mean, var = found["n1"]
    assert np.allclose(mean, c1.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert np.allclose(var, c1.var((0, 2, 3)), rtol=1e-4)
    assert mean.dtype == var.dtype == np.float32


@pytest.mark.parametrize("method", ["batch", "paired"])
def test_both_engines_measure_alike_with_converters(method: str) -> None:
    maker, program, x = residual()
    digital = FastEngine(program, maker.snapshot(converters="ideal")).measure({"x": x}, method="batch")
    found = FastEngine(program, maker.snapshot()).measure({"x": x}, method=method, reference=digital)
    expected = ReferenceEngine(program, maker.snapshot()).measure({"x": x}, method=method, reference=digital)
    for node, (mean, var) in expected.items():
        assert np.allclose(found[node][0], mean, atol=2e-3 * np.sqrt(var.max()))
        assert np.allclose(found[node][1], var, rtol=5e-3)


@pytest.mark.parametrize("method", ["run", "batch"])
def test_what_an_engine_returns_owns_its_memory(method: str) -> None:
    """An array of ONNX Runtime's would keep everything the session has ever allocated, for a few numbers."""
    maker, program, x = residual()
    engine = FastEngine(program, maker.snapshot())
    for count in (2, len(x)):  # in one session run and in several
        if method == "run":
            found = list(engine.run({"x": x[:count]}).values())
        else:
            found = [value for pair in engine.measure({"x": x[:count]}, method="batch").values() for value in pair]
        assert all(value.base is None and value.flags.owndata for value in found)


@pytest.mark.parametrize("engine", ENGINES)
def test_paired_statistics_of_an_undrifted_chip_are_those_of_the_image(engine: type) -> None:
    """The buffer's own bias cancels, however unlike the training data it is."""
    maker, program, x = residual()
    x = x * 0.3 + 1.5
    made = engine(program, maker.snapshot(converters="ideal"))
    # Digital statistics of this buffer, every layer seeing the deployed statistics.
    digital = digital_statistics(maker, program, x)
    for node, (mean, var) in made.measure({"x": x}, method="paired", reference=digital).items():
        assert np.allclose(mean, program.statistics[node].mean, atol=1e-3)
        assert np.allclose(var, program.statistics[node].var, rtol=1e-3)


def trained_on(maker: Maker, program: ChipProgram, x: np.ndarray) -> ChipProgram:
    """The same program with the statistics its batch norms would have learnt on ``x``."""
    for node, (mean, var) in (
        FastEngine(program, maker.snapshot(converters="ideal")).measure({"x": x}, method="batch").items()
    ):
        for index, tensor in enumerate(maker.constants):
            if tensor.name in (f"{node}/mean", f"{node}/var"):
                maker.constants[index] = numpy_helper.from_array(
                    mean if tensor.name.endswith("mean") else var, tensor.name
                )
    return maker.program({"x": ["N", 3, 12, 12]}, {"y": ["N", 10]})


def test_paired_statistics_follow_the_formula() -> None:
    maker, program, x = residual()
    chip = FastEngine(program, maker.snapshot()).measure({"x": x}, method="batch")["n1"]
    digital = {
        node: (norm.mean - np.float32(0.2), norm.var * np.float32(1.7)) for node, norm in program.statistics.items()
    }
    mean, var = FastEngine(program, maker.snapshot()).measure({"x": x}, method="paired", reference=digital)["n1"]
    run = program.statistics["n1"]
    expected = chip[0] + (run.mean - digital["n1"][0]) * np.sqrt(chip[1] / digital["n1"][1])
    assert np.allclose(mean, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(var, run.var * chip[1] / digital["n1"][1], rtol=1e-5)


def test_batch_norms_of_equal_parameters_do_not_disturb_each_other() -> None:
    """Untrained batch norms hold equal ones and zeros, which ONNX Runtime merges into one initializer."""
    maker, program, x = residual()
    untrained = {"mean": 0.0, "var": 1.0, "scale": 1.0, "bias": 0.0}
    for index, tensor in enumerate(maker.constants):
        node, _, what = tensor.name.rpartition("/")
        if node in program.statistics and what in untrained:
            values = np.full_like(numpy_helper.to_array(tensor), untrained[what])
            maker.constants[index] = numpy_helper.from_array(values, tensor.name)
    program = maker.program({"x": ["N", 3, 12, 12]}, {"y": ["N", 10]})
    assert all((norm.scale == 1).all() for norm in program.statistics.values())
    reference = digital_statistics(maker, program, x)
    made = FastEngine(program, maker.snapshot(converters="ideal"))
    for _ in range(2):
        for mean, var in made.measure({"x": x}, method="paired", reference=reference).values():
            assert np.allclose(mean, 0, atol=1e-3)
            assert np.allclose(var, 1, rtol=1e-3)


def digital_statistics(maker: Maker, program, x: np.ndarray) -> dict:
    """Mean and population variance of every batch norm's input in the float network."""
    model = programs.float_model(maker, program)
    inputs = {node.name: node.input[0] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for name in inputs.values():
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(list(inputs.values()), {"x": x})
    return {
        node: (value.mean((0, *range(2, value.ndim))), value.var((0, *range(2, value.ndim))))
        for node, value in zip(inputs, values, strict=True)
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("buffer", ["as trained on", "unlike the training data"])
def test_paired_statistics_undo_a_uniform_drift_layer_by_layer(engine: type, buffer: str) -> None:
    maker, program, x = residual()
    program = trained_on(maker, program, x)
    if buffer == "unlike the training data":
        x = x * 0.4 + 0.8
    reference = digital_statistics(maker, program, x)
    fresh = engine(program, maker.snapshot(converters="ideal"))
    aged = engine(program, drifted(maker, 0.4))
    # The classifier has no batch norm behind it; its drift factor is known here.
    (classifier,) = (tile.tile for tile in program.layers["y"].blocks["W"].tiles)
    factors = {classifier: 2.5}
    measured = aged.measure({"x": x}, method="paired", reference=reference)
    other = maker.rng.normal(0, 1, (20, 3, 12, 12)).astype(np.float32)
    expected = fresh.run({"x": other})["y"]
    healed = aged.run({"x": other}, Parameters(drift_factors=factors, statistics=measured))["y"]
    sick = aged.run({"x": other}, Parameters(drift_factors=factors))["y"]
    assert np.allclose(healed, expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(sick - expected).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("engine", ENGINES)
def test_paired_statistics_do_not_depend_on_what_was_in_force(engine: type) -> None:
    maker, program, x = residual()
    reference = digital_statistics(maker, program, x)
    aged = engine(program, drifted(maker))
    first = aged.measure({"x": x}, method="paired", reference=reference)
    again = aged.measure({"x": x}, Parameters(statistics=first), method="paired", reference=reference)
    assert all(np.array_equal(first[node][0], again[node][0]) for node in first)


@pytest.mark.parametrize("method", ["batch", "paired"])
@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_buffer_gives_numbers(engine: type, value: float, method: str) -> None:
    maker, program, x = residual()
    flat = np.full_like(x, value)
    made = engine(program, maker.snapshot())
    reference = digital_statistics(maker, program, flat)
    for node, (mean, var) in made.measure({"x": flat}, method=method, reference=reference).items():
        assert np.isfinite(mean).all(), node
        assert np.isfinite(var).all(), node
        assert (var >= 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_channel_that_says_nothing_keeps_the_statistics_in_force(engine: type) -> None:
    maker, program, x = residual()
    reference = digital_statistics(maker, program, x)
    silent = dict(maker.conductances)
    (tile,) = (tile.tile for tile in program.layers["c2"].blocks["W"].tiles)
    silent[tile] = silent[tile].copy()
    silent[tile][:, :, 3] = 0
    reference["n1"][1][5] = 0.0
    kept = {node: (norm.mean + np.float32(0.25), norm.var * np.float32(2)) for node, norm in program.statistics.items()}
    made = engine(program, Snapshot(conductances=silent, converters="ideal"))
    found = made.measure({"x": x}, Parameters(statistics=kept), method="paired", reference=reference)
    assert found["n2"][0][3] == kept["n2"][0][3]
    assert found["n2"][1][3] == kept["n2"][1][3]
    assert found["n1"][0][5] == kept["n1"][0][5]
    assert found["n1"][1][5] == kept["n1"][1][5]
    others = np.arange(12) != 5
    assert not np.isclose(found["n1"][0][others], kept["n1"][0][others]).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_dense_layers_are_measured_too(engine: type) -> None:
    maker = Maker()
    program = programs.mlp(maker)
    x = maker.rng.normal(0, 1, (200, 64)).astype(np.float32)
    found = engine(program, maker.snapshot(converters="ideal")).measure({"x": x}, method="batch")
    expected = digital_statistics(maker, program, x)
    assert np.allclose(found["n1"][0], expected["n1"][0], atol=1e-4)
    assert np.allclose(found["n1"][1], expected["n1"][1], rtol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_without_batch_norm_has_nothing_to_measure(engine: type) -> None:
    maker = Maker()
    program = programs.transformer_block(maker)
    x = maker.rng.normal(0, 1, (3, 7, 24)).astype(np.float32)
    assert engine(program, maker.snapshot()).measure({"x": x}, method="batch") == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_measurements_are_refused(engine: type) -> None:
    maker, program, x = residual()
    made = engine(program, maker.snapshot())
    with pytest.raises(InputValueError, match="expected method"):
        made.measure({"x": x}, method="median")
    with pytest.raises(InputValueError, match="reference statistics of 'n1'"):
        made.measure({"x": x}, method="paired")
    short = {node: (np.zeros(3, np.float32), np.ones(3, np.float32)) for node in program.statistics}
    with pytest.raises(InputShapeError, match="expected shape"):
        made.measure({"x": x}, method="paired", reference=short)
    with pytest.raises(InputShapeError, match="expected shape"):
        made.run({"x": x}, Parameters(statistics=short))


def test_noise_of_a_measurement_follows_its_seed() -> None:
    maker, program, x = residual()
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 40, np.float32) for tile, g in maker.conductances.items()}
    made = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigma))
    first, same, other = (made.measure({"x": x}, method="batch", noise_seed=seed)["n3"][0] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
