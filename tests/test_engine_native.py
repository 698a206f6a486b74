"""Native read-outs: the bits of the standard operators, made unnoticed, and never in anybody's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from engine_programs import Maker, profile
from onnx import TensorProto, helper
from pcmedge_emulator.engine import ChipProgram, FastEngine
from pcmedge_emulator.engine.layer_times import operator_times
from pcmedge_emulator.engine.native import folder, library
from pcmedge_emulator.engine.native.compiler import compiler
from pcmedge_emulator.engine.native.fuse import fused
from pcmedge_emulator.engine.native.reading import known_shapes
from pcmedge_emulator.engine.session import native_options
from test_engine_networks import NETWORKS, network, samples

HAS_COMPILER = compiler() is not None
UNSIGNED = {"adc_low": 1.0, "adc_high": 255.0, "zero": 128.0}
ARITHMETICS = [("exact", "off"), ("exact", "additive"), ("exact", "input-dependent"), ("turbo", "off")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the native read-outs are in, if this machine can make them."""
    folder = tmp_path_factory.mktemp("cache")
    found = ask(folder)
    assert found["status"] == ("in use" if HAS_COMPILER else "unavailable")
    return folder


@pytest.fixture
def native(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[library.State]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv(library.SWITCH, raising=False)
    return library.state(wait=True)


@pytest.fixture
def operators(native: library.State) -> Path:
    """The compiled library; tests of what is in it need a C compiler, and say so."""
    assert native.library is not None, f"these tests need a C compiler: {native.why}"
    return native.library


def ask(folder: Path, **environment: str) -> dict[str, str]:
    """What a process of its own says of the native read-outs."""
    with asking(folder, **environment) as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out)


def asking(folder: Path, **environment: str) -> subprocess.Popen[str]:
    given = {**os.environ, "XDG_CACHE_HOME": str(folder), **environment}
    given.setdefault("PYTHONPATH", os.pathsep.join(sys.path))
    if library.SWITCH not in environment:
        given.pop(library.SWITCH, None)
    command = [sys.executable, "-m", "pcmedge_emulator.engine.native"]
    return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, text=True)


def shortcuts() -> tuple[Maker, ChipProgram]:
    """Convolutions with batch norm, shortcut and ReLU, with a bias and ReLU6, and one of several row tiles."""
    maker = Maker(profile(rows=64, columns=64))
    weights = maker.rng.normal(0, 0.2, (12, 12, 3, 3))
    maker.conv("x", "c1", maker.rng.normal(0, 0.2, (12, 3, 3, 3)), pads=[1] * 4)
    maker.op("Relu", [maker.norm("c1", "n1", 12, "c1")], "r1")
    maker.conv("r1", "c2", weights[:, :6], pads=[1] * 4, signed=False, group=2)
    maker.op("Add", ["r1", maker.norm("c2", "n2", 12, "c2")], "sum")
    maker.op("Relu", ["sum"], "r2")
    maker.conv("r2", "c3", weights, maker.rng.normal(0, 0.1, 12), pads=[1] * 4, signed=False)
    limits = [maker.constant(f"limit{value}", np.float32(value)) for value in (0, 6)]
    maker.op("Clip", ["c3", *limits], "r3")
    maker.conv("r3", "c4", weights[:, :6], maker.rng.normal(0, 0.1, 12), group=2)
    maker.op("Clip", ["c4", *limits], "y")
    model = maker.model({"x": ["N", 3, 9, 9]}, {"y": ["N", 12, 7, 7]})
    for name in ("r1", "n2"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 12, 9, 9]))
    return maker, ChipProgram.build(model, maker.layers, maker.chip, statistics_of=maker.statistics_of)


def engines(maker: Maker, program: ChipProgram, precision: str, noise: str, **options) -> list[FastEngine]:
    """With native read-outs and without."""
    widths = {tile: g.shape[0] * g.shape[2] for tile, g in maker.conductances.items()}
    snapshot = maker.snapshot(
        read_noise=noise,
        column_sigma={tile: np.full(width, 30, np.float32) for tile, width in widths.items()},
        pair_sums={tile: np.abs(g) + 0.1 for tile, g in maker.conductances.items()},
        noise_coefficient=0.05,
    )
    return [FastEngine(program, snapshot, precision=precision, native=each, **options) for each in (True, False)]


@pytest.mark.parametrize(("precision", "noise"), ARITHMETICS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bits(native: library.State, name: str, precision: str, noise: str) -> None:
    maker, program, shape = network(name, rows=36, columns=36)
    ours, plain = engines(maker, program, precision, noise)
    assert (ours.native, plain.native) == (HAS_COMPILER, False)
    x = samples(5, shape)
    expected = plain.run({"x": x}, noise_seed=3)
    found = ours.run({"x": x}, noise_seed=3)
    assert all(np.array_equal(found[output], expected[output]) for output in expected)


@pytest.mark.parametrize("bits", [8, 6])
@pytest.mark.parametrize(("precision", "noise"), ARITHMETICS)
def test_every_step_of_a_read_out_gives_the_same_bits(
    native: library.State, precision: str, noise: str, bits: int
) -> None:
    maker, program = shortcuts()
    program.profile.adc_bits = bits
    ours, plain = engines(maker, program, precision, noise, micro_batch=2)
    x = maker.rng.normal(0, 1, (5, 3, 9, 9)).astype(np.float32)
    assert np.array_equal(ours.run({"x": x}, noise_seed=3)["y"], plain.run({"x": x}, noise_seed=3)["y"])


@pytest.mark.parametrize(("precision", "noise"), ARITHMETICS[:2])
def test_saturation_is_the_same(native: library.State, precision: str, noise: str) -> None:
    maker, program = shortcuts()
    ours, plain = engines(maker, program, precision, noise)
    x = maker.rng.normal(0, 1, (5, 3, 9, 9)).astype(np.float32)
    (values, table), (expected, counted) = (e.run_with_saturation({"x": x}, noise_seed=3) for e in (ours, plain))
    assert np.array_equal(values["y"], expected["y"])
    assert table == counted


@pytest.mark.parametrize("method", ["batch", "paired"])
@pytest.mark.parametrize(("precision", "noise"), ARITHMETICS)
def test_measured_statistics_are_the_same_but_for_rounding(
    native: library.State, precision: str, noise: str, method: str
) -> None:
    """Sums of codes are exact where the standard operator rounds: another last bit of a mean may turn a tie."""
    maker, program = shortcuts()
    ours, plain = engines(maker, program, precision, noise)
    x = maker.rng.normal(0, 1, (40, 3, 9, 9)).astype(np.float32)
    rng = np.random.default_rng(1)
    reference = {
        node: (norm.mean + rng.normal(0, 0.1, norm.mean.shape), norm.var * rng.uniform(0.5, 2, norm.mean.shape))
        for node, norm in program.statistics.items()
    }
    measured, wanted = (e.measure({"x": x}, method=method, reference=reference, noise_seed=3) for e in (ours, plain))
    assert measured.keys() == wanted.keys() == program.statistics.keys()
    for node, (mean, var) in wanted.items():
        assert np.all(np.abs(measured[node][0] - mean) <= 1e-4 * np.sqrt(var))
        assert np.allclose(measured[node][1], var, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("method", "precision", "operators"),
    [
        ("batch", "exact", {"Measure_float", "ReadOut_int8_float"}),
        ("paired", "exact", {"Measure_float", "ReadOut_int8_float"}),
        ("batch", "turbo", {"Measure_uint8", "ReadOut_uint8_uint8"}),
        ("paired", "turbo", {"Measure_uint8", "ReadOut_uint8_uint8"}),
    ],
)
def test_no_batch_norm_is_left_where_statistics_are_measured(
    native: library.State, method: str, precision: str, operators: set[str]
) -> None:
    maker, program = shortcuts()
    ours, _plain = engines(maker, program, precision, "off")
    model = onnx.load_model_from_string(ours.model(method))
    found = {node.op_type for node in fused(model, known_shapes(program.model.graph)).graph.node}
    assert operators <= found
    assert "BatchNormalization" not in found


@pytest.mark.parametrize(("precision", "noise", "operator"), [("exact", "off", "float"), ("turbo", "off", "uint8")])
def test_read_outs_take_the_place_of_standard_operators(
    native: library.State, precision: str, noise: str, operator: str
) -> None:
    maker, program = shortcuts()
    ours, plain = engines(maker, program, precision, noise)
    x = maker.rng.normal(0, 1, (5, 3, 9, 9)).astype(np.float32)
    standard = set(operator_times(plain, {"x": x}, runs=1))
    assert {"BatchNormalization", "Relu", "DequantizeLinear"} <= standard
    found = set(operator_times(ours, {"x": x}, runs=1))
    assert (f"ReadOut_{operator}_{operator}" in found) == HAS_COMPILER
    assert ("BatchNormalization" in found) != HAS_COMPILER


@pytest.mark.parametrize(("precision", "noise"), [("exact", "off"), ("exact", "additive"), ("turbo", "off")])
def test_threads_share_a_read_out(native: library.State, precision: str, noise: str) -> None:
    maker, program = shortcuts()
    x = maker.rng.normal(0, 1, (60, 3, 9, 9)).astype(np.float32)
    one, three = (
        engines(maker, program, precision, noise, micro_batch=60, threads=threads)[0].run({"x": x}, noise_seed=1)["y"]
        for threads in (1, 3)
    )
    assert np.array_equal(one, three)


def test_sessions_are_plain_where_native_read_outs_are_switched_off(
    native: library.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(library.SWITCH, "0")
    maker, program = shortcuts()
    assert library.state() == library.State("off", "PCMEDGE_NATIVE=0")
    assert not engines(maker, program, "exact", "off")[0].native


@pytest.mark.parametrize("signed", [False, True])
def test_codes_are_rounded_quotients_next_to_every_tie(native: library.State, signed: bool) -> None:
    """Where a product with the reciprocal would round to another code than the quotient, and at the ends of float32."""
    rng = np.random.default_rng(int(signed))
    ties = (np.arange(-300, 300) + 0.5).astype(np.float32)
    for step in rng.uniform(0.5, 1, 40).astype(np.float32) * 2.0 ** rng.integers(-20, 20, 40).astype(np.float32):
        middle = ties * step
        x = np.concatenate([middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))])
        x = np.concatenate([x, np.float32([0, -0.0, 1e-45, -1e-38, 3.4e38, -3.4e38])])
        maker = Maker()
        maker.conv("x", "y", np.ones((1, 1, 1, 1)), dac_step=step, signed=signed)
        program = maker.program({"x": ["N", 1, x.size, 1]}, {"y": ["N", 1, x.size, 1]})
        ours, plain = engines(maker, program, "exact", "off")
        x = x.reshape(1, 1, -1, 1)
        assert np.array_equal(ours.run({"x": x})["y"], plain.run({"x": x})["y"])


# What the operator itself refuses: a graph that is not from the lowering must end in an error, not in the process's.


def read_out(library: Path, kind: str = "float", last: int = 0, **changes: object) -> onnxruntime.InferenceSession:
    """One ReadOut of 3 channels with shortcut and batch norm, and of floats with noise."""
    noise = int(kind == "float")
    attributes: dict[str, object] = {
        **dict.fromkeys(("residual", "values", "codes"), 1),
        "channels": 3,
        "last": last,
        "scale_at": 0,
        "mean_at": 3,
        "variance_at": 6,
        "measured": 0,
        "offset": 0,
        "noise": noise,
        "epsilon": 1e-5,
        "adc_low": -127.0,
        "adc_high": 127.0,
        "zero": 0.0,
        "lower": -np.inf,
        "upper": np.inf,
        "step": 0.1,
        "low": 0.0,
        "high": 255.0,
        **({} if noise else UNSIGNED),
        **changes,
    }
    inputs = ["p", "parameters", "gamma", "beta", "shortcut", *(["gaussian", "signs", "sigma"] if noise else [])]
    if attributes["measured"]:
        inputs += [*[""] * (8 - len(inputs)), "mean", "variance"]
    node = helper.make_node(f"ReadOut_{kind}_{kind}", inputs, ["y", "next"], domain="pcmedge.native", **attributes)
    element = TensorProto.FLOAT if noise else TensorProto.UINT8
    given = {"p": element} | dict.fromkeys(filter(None, inputs[1:]), TensorProto.FLOAT)
    return alone(library, node, given, {"y": TensorProto.FLOAT, "next": element})


def measure(
    library: Path, kind: str, last: int = 0, channels: int = 3, **changes: object
) -> onnxruntime.InferenceSession:
    """One Measure, of floats with noise."""
    floats = kind == "float"
    attributes: dict[str, object] = {
        "channels": channels,
        "last": last,
        "scale_at": 0,
        **({"adc_low": -127.0, "adc_high": 127.0, "zero": 0.0} if floats or kind == "int8" else UNSIGNED),
        "noise": int(floats),
        "codes": int(floats),
        **changes,
    }
    inputs = ["p", "parameters", *(["gaussian", "signs", "sigma"] if floats else [])]
    outputs = {"mean": TensorProto.FLOAT, "variance": TensorProto.FLOAT}
    outputs |= {"codes": TensorProto.INT8} if floats else {}
    node = helper.make_node(f"Measure_{kind}", inputs, list(outputs), domain="pcmedge.native", **attributes)
    element = {"float": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[kind]
    return alone(library, node, {"p": element} | dict.fromkeys(inputs[1:], TensorProto.FLOAT), outputs)


def alone(
    library: Path, node: onnx.NodeProto, given: dict[str, int], outputs: dict[str, int]
) -> onnxruntime.InferenceSession:
    tensors = [
        [helper.make_tensor_value_info(name, kind, None) for name, kind in side.items()] for side in (given, outputs)
    ]
    graph = helper.make_graph([node], "one", *tensors)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("pcmedge.native", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = native_options(2, str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds(shape: tuple[int, ...] = (2, 3, 4, 4), kind: str = "float", **changes: np.ndarray) -> dict[str, np.ndarray]:
    ones = np.ones(3, np.float32)
    noise = {"gaussian": np.ones(shape, np.float32), "signs": np.ones((*shape[:2], 1, 1), np.float32), "sigma": ones}
    return {
        "p": np.ones(shape, np.float32 if kind == "float" else np.uint8),
        "parameters": np.ones(9, np.float32),
        "gamma": ones,
        "beta": ones,
        "shortcut": np.ones(shape, np.float32),
        **(noise if kind == "float" else {}),
        **changes,
    }


@pytest.mark.parametrize("kind", ["float", "uint8"])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_nothing_in_is_nothing_out(operators: Path, kind: str, shape: tuple[int, ...]) -> None:
    y, codes = read_out(operators, kind).run(None, feeds(shape, kind))
    assert y.shape == codes.shape == shape


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p", np.ones((2, 4, 4, 4), np.float32)),
        ("p", np.ones(3, np.float32)),
        ("p", np.ones((1,) * 9, np.float32)),
        ("parameters", np.ones(8, np.float32)),
        ("parameters", np.ones(0, np.float32)),
        ("gamma", np.ones(2, np.float32)),
        ("beta", np.ones(0, np.float32)),
        ("shortcut", np.ones((2, 3, 1, 1), np.float32)),
        ("gaussian", np.ones((1, 3, 4, 4), np.float32)),
        ("signs", np.ones((1, 3, 1, 1), np.float32)),
        ("sigma", np.ones(1, np.float32)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(operators: Path, name: str, value: np.ndarray) -> None:
    session = read_out(operators)
    session.run(None, feeds())
    with pytest.raises(Exception, match="pcmedge: "):
        session.run(None, feeds(**{name: value}))


def test_measured_statistics_take_the_place_of_parameters(operators: Path) -> None:
    rng = np.random.default_rng(0)
    statistics = {name: rng.uniform(0.5, 1, 3).astype(np.float32) for name in ("mean", "variance")}
    given = feeds(kind="uint8", p=rng.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8))
    packed = np.concatenate([given["parameters"][:3], *statistics.values()])
    expected = read_out(operators, "uint8").run(None, given | {"parameters": packed})
    session = read_out(operators, "uint8", measured=1, mean_at=-1, variance_at=-1)
    found = session.run(None, given | statistics)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    for name in statistics:
        with pytest.raises(Exception, match="pcmedge: "):
            session.run(None, given | statistics | {name: np.ones(2, np.float32)})


@pytest.mark.parametrize("change", [{"channels": 0}, {"scale_at": -1}, {"mean_at": -2}, {"values": 0, "codes": 0}])
def test_attributes_that_contradict_each_other_are_refused(operators: Path, change: dict[str, int]) -> None:
    with pytest.raises(Exception, match="contradict"):
        read_out(operators, **change)


@pytest.mark.parametrize("change", [{"adc_low": -1.0}, {"adc_high": 256.0}, {"noise": 1}])
def test_codes_beyond_their_type_are_refused(operators: Path, change: dict[str, float]) -> None:
    with pytest.raises(Exception, match="contradict"):
        read_out(operators, "uint8", **change)


def test_a_value_that_is_no_number_becomes_the_lowest_code(operators: Path) -> None:
    shape = (2, 3, 4, 4)
    values = np.full(shape, np.nan, np.float32)
    y, codes = read_out(operators).run(None, feeds(shape, p=values, shortcut=np.zeros(shape, np.float32)))
    assert np.all(np.isfinite(y))
    assert np.all(codes == 0)
    y, codes = read_out(operators).run(None, feeds(shape, shortcut=values))
    assert np.all(np.isnan(y))
    assert np.all(codes == 0)


@pytest.mark.parametrize(
    ("kind", "last", "shape"),
    [
        ("float", 0, (3, 5, 150, 130)),  # a plane of several parts
        ("float", 0, (200, 7, 3, 3)),
        ("uint8", 0, (40, 3, 5, 9)),
        ("int8", 0, (40, 3, 5, 9)),
        ("uint8", 1, (30, 7, 9, 3)),
        ("int8", 1, (3, 9, 9, 64)),
        ("uint8", 1, (2, 5, 5, 1100)),  # more channels than a row
        ("int8", 1, (2, 300, 300, 2)),
    ],
)
def test_statistics_are_those_of_float64(operators: Path, kind: str, last: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    channels, axis = shape[-1 if last else 1], len(shape) - 1 if last else 1
    by_channel = [-1 if place == axis else 1 for place in range(len(shape))]
    scale = rng.uniform(1e-3, 1, channels).astype(np.float32)
    if kind == "float":
        # Channels far from zero, and one that is the same everywhere.
        p = (rng.normal(0, 20, shape) + np.linspace(-100, 100, channels).reshape(by_channel)).astype(np.float32)
        p[:, 1] = 77
        signs = rng.choice(np.float32([-1, 1]), (*shape[:2], 1, 1))
        sigma = rng.uniform(0.5, 3, channels).astype(np.float32)
        sigma[1] = 0
        gaussian = rng.normal(0, 1, shape).astype(np.float32)
        codes = np.clip(np.rint(p + gaussian * (signs * sigma.reshape(by_channel))), -127, 127)
        given = {"p": p, "gaussian": gaussian, "signs": signs, "sigma": sigma}
    else:
        limits = np.iinfo(kind)
        given = {"p": rng.integers(limits.min, limits.max + 1, shape, dtype=kind)}
        codes = np.clip(given["p"], 1, 255) - 128.0 if kind == "uint8" else np.clip(given["p"], -127, 127)
    session = measure(operators, kind, last, channels)
    mean, variance, *stored = session.run(None, {**given, "parameters": scale})
    values = codes.astype(np.float64) * scale.astype(np.float64).reshape(by_channel)
    others = tuple(place for place in range(len(shape)) if place != axis)
    assert np.allclose(mean, values.mean(others), rtol=1e-7, atol=1e-12)
    assert np.allclose(variance, values.var(others), rtol=1e-7, atol=1e-12)
    if kind == "float":
        assert variance[1] == 0
        assert np.array_equal(stored[0], codes)


def test_statistics_of_nothing_are_no_numbers(operators: Path) -> None:
    mean, variance, codes = measure(operators, "float").run(None, measured_feeds((0, 3, 4, 4)))
    assert codes.shape == (0, 3, 4, 4)
    assert np.all(np.isnan(mean))
    assert np.all(np.isnan(variance))


def measured_feeds(shape: tuple[int, ...] = (2, 3, 4, 4), **changes: np.ndarray) -> dict[str, np.ndarray]:
    given = feeds(shape)
    return {name: given[name] for name in ("p", "parameters", "gaussian", "signs", "sigma")} | changes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p", np.ones((2, 4, 4, 4), np.float32)),
        ("p", np.ones(3, np.float32)),
        ("parameters", np.ones(2, np.float32)),
        ("gaussian", np.ones((1, 3, 4, 4), np.float32)),
        ("signs", np.ones((1, 3, 1, 1), np.float32)),
        ("sigma", np.ones(1, np.float32)),
    ],
)
def test_measuring_what_does_not_fit_is_refused(operators: Path, name: str, value: np.ndarray) -> None:
    session = measure(operators, "float")
    session.run(None, measured_feeds())
    with pytest.raises(Exception, match="pcmedge: "):
        session.run(None, measured_feeds(**{name: value}))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("float", {"channels": 0}),
        ("float", {"adc_low": -129.0}),
        ("float", {"adc_low": 1.0}),
        ("float", {"zero": 1.0}),
        ("float", {"codes": 0}),
        ("float", {"last": 1}),
        ("uint8", {"codes": 1}),
        ("uint8", {"noise": 1}),
        ("uint8", {"zero": 256.0}),
        ("int8", {"adc_high": 128.0}),
    ],
)
def test_attributes_that_no_measurement_has_are_refused(operators: Path, kind: str, change: dict[str, float]) -> None:
    with pytest.raises(Exception, match="contradict"):
        measure(operators, kind, **change)


# How it is made.


def fake(folder: Path, text: str) -> str:
    """A PATH whose only compiler is this shell script."""
    folder.mkdir()
    for name in ("cc", "gcc", "clang"):
        (folder / name).write_text("#!/bin/sh\n" + text)
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_without_a_compiler_there_are_none(tmp_path: Path) -> None:
    found = ask(tmp_path / "cache", PATH=str(tmp_path))
    assert found == {"status": "unavailable", "why": "no C compiler", "library": ""}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo called >> $0.calls; echo 'read_out.c:1: error: no' >&2; exit 1", "error: no"),
        ('echo called >> $0.calls; while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"', "failed its test"),
    ],
)
def test_a_compiler_that_fails_is_not_asked_again(tmp_path: Path, script: str, why: str) -> None:
    path = fake(tmp_path / "bin", script)
    found = ask(tmp_path / "cache", PATH=path)
    assert found["status"] == "unavailable"
    assert why in found["why"]
    calls = (tmp_path / "bin" / "cc.calls").read_text()
    assert ask(tmp_path / "cache", PATH=path)["why"] == found["why"]
    assert (tmp_path / "bin" / "cc.calls").read_text() == calls
    assert [path.suffix for path in (tmp_path / "cache" / "pcmedge" / "native").iterdir()] == [".failed"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file")["status"] == "unavailable"


def test_nothing_is_loaded_from_where_others_may_write(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pcmedge" / "native"
    folder.mkdir(parents=True)
    for made in (cache / "pcmedge" / "native").glob("*.so"):
        (folder / made.name).write_bytes(made.read_bytes())
        (folder / made.name).chmod(0o700)
    folder.chmod(0o777)
    found = ask(tmp_path)
    assert found["status"] == "unavailable"
    assert found["why"] == (f"others may write to {folder}" if HAS_COMPILER else "no C compiler")


def test_processes_that_make_it_at_once_end_with_one(tmp_path: Path) -> None:
    processes = [asking(tmp_path) for _ in range(2)]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert found[0] == found[1]
    assert [process.returncode for process in processes] == [0, 0]
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ([Path(found[0]["library"]).name] if HAS_COMPILER else [])


def test_a_forked_child_finds_it_again(native: library.State) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if library.state() == native else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def slow(folder: Path) -> str:
    """A PATH whose only compiler tells that it has begun, and never ends; when it is called again, it fails."""
    again = "if [ -e $0.begun ]; then echo 'error: again' >&2; exit 1; fi\n"
    return fake(folder, again + "touch $0.begun; exec sleep 600")


def begin(tmp_path: Path, script: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own group that begins to make the library, and has come to calling the compiler."""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    given |= {"PATH": slow(tmp_path / "bin"), **environment}
    given.pop(library.SWITCH, None)
    begun = f"from pcmedge_emulator.engine.native.library import state\nstate()\n{script}"
    command = [sys.executable, "-c", begun]
    process = subprocess.Popen(command, env=given, stdout=-1, stderr=-1, text=True, process_group=0)
    while not (tmp_path / "bin" / "cc.begun").exists() and process.poll() is None:
        time.sleep(0.02)
    return process


def made(cache: Path) -> list[str]:
    return [path.name for path in (cache / "pcmedge" / "native").iterdir()]


def test_ctrl_c_while_a_process_ends_gives_it_up_without_a_word(tmp_path: Path) -> None:
    process = begin(tmp_path, "print('answer', flush=True)")
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("answer\n", "")
    assert process.returncode == 0
    assert made(tmp_path / "cache") == []


def test_what_ctrl_c_ended_is_tried_again(tmp_path: Path) -> None:
    script = """
import time
try:
    time.sleep(600)
except KeyboardInterrupt:
    while (found := state(wait=True).why) != "error: again":
        time.sleep(0.02)
    print(found)
"""
    process = begin(tmp_path, script)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("error: again\n", "")


def test_a_forked_child_that_ends_leaves_the_making_alone(tmp_path: Path) -> None:
    script = """
import os, pathlib, sys, time
while not os.path.exists(os.environ["BEGUN"]):
    time.sleep(0.02)
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(len(list(pathlib.Path(os.environ["XDG_CACHE_HOME"]).rglob(".making-*"))), flush=True)
"""
    process = begin(tmp_path, script, BEGUN=str(tmp_path / "bin" / "cc.begun"))
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)


def test_who_is_told_to_end_does_not_wait(tmp_path: Path) -> None:
    process = begin(tmp_path, "from pcmedge_emulator.engine.native.library import give_up\ngive_up()")
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0
    assert made(tmp_path / "cache") == []


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_a_damaged_library_is_made_anew(cache: Path, tmp_path: Path, size: int) -> None:
    """One that is too short would end the process that loads it."""
    folder = tmp_path / "pcmedge" / "native"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "pcmedge").chmod(0o700)
    whole = {path.name: path.read_bytes() for path in (cache / "pcmedge" / "native").glob("*.so")}
    for name, content in whole.items():
        (folder / name).write_bytes(content[:size])
    assert ask(tmp_path)["status"] == ("in use" if HAS_COMPILER else "unavailable")
    assert {path.name: path.read_bytes() for path in folder.glob("*.so")} == whole


def test_folders_are_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    place = tmp_path / "new" / "pcmedge" / "native"
    before = os.umask(0o002)
    try:
        folder.make(place)
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in (place, *place.parents[:2])} == {0o700}


def test_nothing_is_made_where_nothing_may_be_loaded_from(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write"):
        folder.make(tmp_path / "new" / "native")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_no_absolute_path_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(library.SWITCH, raising=False)
    assert library.state() == library.State("unavailable", "the home folder somewhere is no absolute path")
