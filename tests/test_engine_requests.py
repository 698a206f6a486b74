"""What a caller sees: input errors, threads, and the promise that the optimiser leaves the analog arithmetic alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engine_programs as programs
import numpy as np
import onnx
import onnxruntime
import pytest
from engine_programs import Maker
from pcmedge.errors import InputShapeError, InputTypeError, InputValueError
from pcmedge_emulator.engine import FastEngine, Parameters, ReferenceEngine
from pcmedge_emulator.engine.fast import session_options

ENGINES = [FastEngine, ReferenceEngine]


def engine_of(kind: type):
    maker = Maker()
    program = programs.residual_cnn(maker)
    return maker, kind(program, maker.snapshot())


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("verb", ["run", "run_with_saturation", "measure"])
def test_bad_inputs_are_named(kind: type, verb: str) -> None:
    _maker, engine = engine_of(kind)

    def call(inputs: dict) -> None:
        getattr(engine, verb)(inputs, **({"method": "batch"} if verb == "measure" else {}))

    good = np.zeros((2, 3, 12, 12), np.float32)
    with pytest.raises(InputValueError, match=r"expected inputs \['x'\], found \['image'\]"):
        call({"image": good})
    with pytest.raises(InputValueError, match="found"):
        call({"x": good, "y": good})
    with pytest.raises(InputTypeError, match="expected dtype float32, found float64"):
        call({"x": good.astype(np.float64)})
    with pytest.raises(InputShapeError, match=r"expected shape \(N, 3, 12, 12\).*found \(2, 3, 12, 11\)"):
        call({"x": good[..., :11]})
    with pytest.raises(InputShapeError, match="add a batch axis in front"):
        call({"x": good[0]})
    with pytest.raises(InputShapeError, match="N >= 1"):
        call({"x": good[:0]})
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[1, 2, 3, 4] = value
        with pytest.raises(InputValueError, match="1 NaN or infinite"):
            call({"x": bad})


def test_inputs_of_different_batch_sizes_are_refused() -> None:
    maker = Maker()
    maker.gemm("a", "p", maker.rng.normal(0, 0.2, (8, 4)))
    maker.gemm("b", "q", maker.rng.normal(0, 0.2, (8, 4)))
    maker.op("Add", ["p", "q"], "y")
    program = maker.program({"a": ["N", 8], "b": ["N", 8]}, {"y": ["N", 4]})
    engine = FastEngine(program, maker.snapshot(), micro_batch=2)
    with pytest.raises(InputShapeError, match="same batch size"):
        engine.run({"a": np.zeros((2, 8), np.float32), "b": np.zeros((3, 8), np.float32)})
    assert engine.run({"a": np.zeros((5, 8), np.float32), "b": np.zeros((5, 8), np.float32)})["y"].shape == (5, 4)


def test_integer_inputs_reach_digital_operators() -> None:
    maker = Maker()
    maker.op("Gather", [maker.constant("table", maker.rng.normal(0, 1, (11, 8)).astype(np.float32)), "words"], "x")
    maker.gemm("x", "y", maker.rng.normal(0, 0.2, (8, 4)))
    model = maker.model({"words": ["N", 3]}, {"y": ["N", 3, 4]})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    program = programs.ChipProgram.build(model, maker.layers, maker.chip)
    words = maker.rng.integers(0, 11, (4, 3))
    fast = FastEngine(program, maker.snapshot()).run({"words": words})["y"]
    assert np.allclose(fast, ReferenceEngine(program, maker.snapshot()).run({"words": words})["y"], atol=1e-6)


@pytest.mark.parametrize("kind", ENGINES)
def test_threads_share_an_engine(kind: type) -> None:
    """Requests with parameters of their own, at once, get their own answers."""
    maker, engine = engine_of(kind)
    x = maker.rng.normal(0, 1, (4, 3, 12, 12)).astype(np.float32)
    norm = engine.program.statistics["n3"]
    sets = [Parameters(statistics={"n3": (norm.mean + np.float32(k), norm.var)}) for k in range(4)]
    expected = [engine.run({"x": x}, one)["y"] for one in sets]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: engine.run({"x": x}, sets[k % 4])["y"], range(24)))
    for k, values in enumerate(found):
        assert np.array_equal(values, expected[k % 4])
    assert not np.array_equal(expected[0], expected[1])


def test_first_use_from_many_threads_opens_one_session_each() -> None:
    maker = Maker()
    program = programs.residual_cnn(maker)
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 30, np.float32) for tile, g in maker.conductances.items()}
    engine = FastEngine(program, maker.snapshot(read_noise="additive", column_sigma=sigma))
    x = maker.rng.normal(0, 1, (4, 3, 12, 12)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _k: engine.run_with_saturation({"x": x}, noise_seed=7)[0]["y"], range(16)))
    assert all(np.array_equal(values, found[0]) for values in found)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def is_quantised_product(operator: str) -> bool:
    return operator.startswith(("QLinear", "QGemm", "QAttention", "MatMulInteger", "ConvInteger", "DynamicQuantize"))


@pytest.mark.parametrize("noise", ["off", "additive"])
@pytest.mark.parametrize("make", [programs.residual_cnn, programs.depthwise_cnn, programs.mlp, programs.lstm_network])
def test_the_optimised_graph_has_no_quantised_products(make, noise: str, tmp_path: Path) -> None:
    maker = Maker(programs.profile(rows=64, columns=64))
    program = make(maker)
    sigma = {tile: np.full(g.shape[0] * g.shape[2], 30, np.float32) for tile, g in maker.conductances.items()}
    engine = FastEngine(program, maker.snapshot(read_noise=noise, column_sigma=sigma))
    for purpose in ("run", "saturation") + (("batch", "paired") if program.statistics else ()):
        options = session_options(1)
        options.optimized_model_filepath = str(tmp_path / "exact.onnx")
        onnxruntime.InferenceSession(engine.model(purpose), options, providers=["CPUExecutionProvider"])
        found = operators(tmp_path / "exact.onnx")
        assert not [operator for operator in found if is_quantised_product(operator)]
        if purpose == "run":
            assert {"QuantizeLinear", "DequantizeLinear"} <= found


def test_the_optimiser_leaves_the_outputs_of_a_network_alone() -> None:
    """Our sessions answer as an unoptimised one does; the runtime's default options round the conductances to int8."""
    maker = Maker(programs.profile(rows=64, columns=64))
    program = programs.residual_cnn(maker)
    engine = FastEngine(program, maker.snapshot(), micro_batch=100)
    x = maker.rng.normal(0, 1, (100, 3, 12, 12)).astype(np.float32)

    def outputs(options: onnxruntime.SessionOptions) -> np.ndarray:
        session = onnxruntime.InferenceSession(engine.model(), options, providers=["CPUExecutionProvider"])
        return session.run(["y"], {"x": x, "pcm/parameters": engine.packed_parameters()})[0]

    expected = outputs(session_options(1, optimise=False))
    assert np.mean(np.abs(engine.run({"x": x})["y"] - expected) > 1e-5) <= 0.005
    assert np.mean(np.abs(outputs(onnxruntime.SessionOptions()) - expected) > 1e-5) >= 0.02
