"""Whole networks: ideal converters against ONNX Runtime on the float model, the fast engine against the reference."""

from __future__ import annotations

import engine_programs as programs
import numpy as np
import onnxruntime
import pytest
from pcmedge.errors import InputShapeError
from pcmedge_emulator.engine import FastEngine, Parameters, ReferenceEngine

NETWORKS = {
    "mlp": (programs.mlp, (64,)),
    "residual": (programs.residual_cnn, (3, 12, 12)),
    "depthwise": (programs.depthwise_cnn, (3, 12, 12)),
    "lstm": (programs.lstm_network, (9, 6)),
    "lstm-forward": (lambda maker: programs.lstm_network(maker, "forward"), (9, 6)),
    "lstm-reverse": (lambda maker: programs.lstm_network(maker, "reverse"), (9, 6)),
    "transformer": (programs.transformer_block, (7, 24)),
}


def network(name: str, **chip):
    make, shape = NETWORKS[name]
    maker = programs.Maker(programs.profile(**chip))
    return maker, make(maker), shape


def samples(count: int, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("rows", [512, 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_ideal_converters_equal_onnx_runtime_on_the_float_model(name: str, rows: int) -> None:
    maker, program, shape = network(name, rows=rows, columns=rows)
    x = samples(40, shape)
    session = onnxruntime.InferenceSession(
        programs.float_model(maker, program).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [spec.name for spec in program.outputs]
    expected = dict(zip(names, session.run(names, {"x": x}), strict=True))
    for engine in (FastEngine, ReferenceEngine):
        found = engine(program, maker.snapshot(converters="ideal")).run({"x": x})
        for key, values in expected.items():
            assert found[key].shape == values.shape
            assert np.abs(found[key] - values).max() <= 1e-4 * np.abs(values).max()


@pytest.mark.parametrize("rows", [512, 36])
@pytest.mark.parametrize("name", NETWORKS)
def test_fast_engine_decides_like_the_reference(name: str, rows: int) -> None:
    maker, program, shape = network(name, rows=rows, columns=rows)
    x = samples(400, shape)
    fast = FastEngine(program, maker.snapshot()).run({"x": x})["y"]
    reference = ReferenceEngine(program, maker.snapshot()).run({"x": x})["y"]
    assert np.mean(fast.argmax(-1) == reference.argmax(-1)) >= 0.995
    # Codes that differ by rounding move single outputs by a code or two, never their average.
    assert np.abs(fast - reference).mean() <= 2e-3 * np.abs(reference).mean()


def test_quantisation_is_seen_in_the_outputs() -> None:
    maker, program, shape = network("residual")
    x = samples(20, shape)
    exact = FastEngine(program, maker.snapshot()).run({"x": x})["y"]
    ideal = FastEngine(program, maker.snapshot(converters="ideal")).run({"x": x})["y"]
    error = np.abs(exact - ideal).mean() / np.abs(ideal).mean()
    assert 0.002 < error < 0.3


@pytest.mark.parametrize("engine", [FastEngine, ReferenceEngine])
def test_drift_factors_scale_tiles_and_columns(engine: type) -> None:
    maker, program, shape = network("mlp", rows=24, columns=24)
    x = samples(6, shape)
    halved = {tile: value * np.float32(0.5) for tile, value in maker.conductances.items()}
    snapshot = maker.snapshot(converters="ideal")
    weak = maker.snapshot(converters="ideal")
    weak = type(weak)(conductances=halved, converters="ideal")
    factors = {
        tile: 2.0 if tile % 2 else np.full(value.shape[0] * value.shape[2], 2.0, np.float32)
        for tile, value in maker.conductances.items()
    }
    expected = engine(program, snapshot).run({"x": x})["y"]
    drifted = engine(program, weak)
    assert np.abs(drifted.run({"x": x})["y"] - expected).max() > 0.1
    assert np.allclose(drifted.run({"x": x}, Parameters(drift_factors=factors))["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", [FastEngine, ReferenceEngine])
def test_statistics_given_with_a_request_replace_those_of_the_image(engine: type) -> None:
    maker, program, shape = network("residual")
    x = samples(4, shape)
    made = engine(program, maker.snapshot())
    norm = program.statistics["n3"]
    before = made.run({"x": x})["y"]
    moved = made.run({"x": x}, Parameters(statistics={"n3": (norm.mean + 0.5, norm.var * 1.5)}))["y"]
    same = made.run({"x": x}, Parameters(statistics={"n3": (norm.mean, norm.var)}))["y"]
    assert np.array_equal(before, same)
    assert np.abs(before - moved).max() > 0.01


def test_micro_batches_do_not_change_results() -> None:
    maker, program, shape = network("residual")
    x = samples(23, shape)
    whole = FastEngine(program, maker.snapshot(), micro_batch=64).run({"x": x})["y"]
    parts = FastEngine(program, maker.snapshot(), micro_batch=5).run({"x": x})["y"]
    assert np.allclose(whole, parts, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", [FastEngine, ReferenceEngine])
def test_drift_factors_of_another_shape_are_refused(engine: type) -> None:
    maker, program, shape = network("mlp")
    tile = next(iter(maker.conductances))
    with pytest.raises(InputShapeError, match=f"drift factors of tile {tile}"):
        engine(program, maker.snapshot()).run(
            {"x": samples(2, shape)}, Parameters(drift_factors={tile: np.ones(3, np.float32)})
        )


def test_a_recurrent_layer_starts_from_the_states_it_is_given() -> None:
    maker = programs.Maker()
    rng, hidden = maker.rng, 8
    for name in ("x", "h", "c"):
        maker.op("Transpose", [name], f"{name}/turned", perm=[1, 0, 2])
    maker.lstm(
        "x/turned",
        "l",
        rng.normal(0, 0.4, (2, 4 * hidden, 6)),
        rng.normal(0, 0.4, (2, 4 * hidden, hidden)),
        rng.normal(0, 0.2, (2, 8 * hidden)),
        direction="bidirectional",
        inputs=("h/turned", "c/turned"),
    )
    maker.op("Transpose", ["l/c"], "y", perm=[1, 0, 2])
    program = maker.program({"x": ["N", 5, 6], "h": ["N", 2, hidden], "c": ["N", 2, hidden]}, {"y": ["N", 2, hidden]})
    inputs = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in
              (("x", (4, 5, 6)), ("h", (4, 2, hidden)), ("c", (4, 2, hidden)))}  # fmt: skip
    session = onnxruntime.InferenceSession(
        programs.float_model(maker, program).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(["y"], inputs)
    for engine in (FastEngine, ReferenceEngine):
        found = engine(program, maker.snapshot(converters="ideal")).run(inputs)["y"]
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
