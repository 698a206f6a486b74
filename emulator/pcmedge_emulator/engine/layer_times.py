"""Where the time of an inference goes, by layer: ONNX Runtime's own profile of the lowered program, mapped back.

The times are of this processor, not of a chip. They are taken in a session of its own with the profiler on, which adds
about a microsecond to every operator; what an inference takes without it is measured beside.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime
from pcmedge.errors import InputValueError

from pcmedge_emulator.engine.fast import FastEngine
from pcmedge_emulator.engine.graph import PARAMETERS
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.state import Parameters
from pcmedge_emulator.engine.validation import layer_name

Array = npt.NDArray[Any]

PRODUCTS = frozenset({"Conv", "MatMul", "Gemm", "FusedConv", "FusedMatMul", "FusedGemm", "Scan"}) | frozenset(
    {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm", "MatMulIntegerToFloat"}
)
"""Operators that multiply with conductances. A Scan is the loop of an LSTM, converters and all."""


@dataclass(frozen=True)
class NodeTime:
    """Median seconds of one operator over the runs; ``layer``: the analog layer it computes, or "" if it is digital."""

    node: str
    operator: str
    layer: str
    seconds: float


@dataclass(frozen=True)
class RunTimes:
    """``nodes`` in the order of their first run; ``run_s``: median seconds of ``FastEngine.run`` without profiler."""

    nodes: tuple[NodeTime, ...]
    run_s: float

    def by_layer(self) -> dict[str, tuple[float, float]]:
        """Layer -> (seconds, seconds of them in products)."""
        found: dict[str, list[float]] = {}
        for node in self.nodes:
            if node.layer:
                times = found.setdefault(node.layer, [0.0, 0.0])
                times[0] += node.seconds
                times[1] += node.seconds if node.operator in PRODUCTS else 0.0
        return {layer: (whole, product) for layer, (whole, product) in found.items()}

    def by_operator(self, *, digital_only: bool = False) -> dict[str, float]:
        """Operator -> seconds, the most expensive first."""
        found: dict[str, float] = defaultdict(float)
        for node in self.nodes:
            if not (digital_only and node.layer):
                found[node.operator] += node.seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def run_times(
    engine: FastEngine,
    inputs: Mapping[str, Array],
    parameters: Parameters | None = None,
    *,
    runs: int = 10,
    threads: int = 1,
) -> RunTimes:
    """Times of the operators of ``engine`` for one batch: medians of ``runs`` calls after one that warms up.

    ``threads``: of the profiled session; the engine's own number makes them comparable with ``run_s``. Raises
    :class:`InputValueError` for ``runs`` below 1, and the input errors of :meth:`FastEngine.run`.
    """
    if runs < 1:
        raise InputValueError(f"expected runs >= 1, found {runs}")
    parameters = parameters or Parameters()
    with tempfile.TemporaryDirectory(prefix="pcmedge-profile-") as folder:
        lowered = onnx.load_model_from_string(engine.model("run"))
        model, options = engine._opener.executed(lowered, threads)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        profiled = _with_session(engine, session)
        for _ in range(runs + 1):
            profiled.run(inputs, parameters, noise_seed=0)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        optimised = onnx.load(options.optimized_model_filepath)
    nodes = _node_times(events, _layers(engine.program, optimised), runs + 1)
    return RunTimes(nodes, _plain(engine, inputs, parameters, runs))


def operator_times(engine: FastEngine, inputs: Mapping[str, Array], *, runs: int = 10) -> dict[str, float]:
    """Seconds of one run by operator type, the most expensive first."""
    return run_times(engine, inputs, runs=runs).by_operator()


def _with_session(engine: FastEngine, session: onnxruntime.InferenceSession) -> FastEngine:
    """The same engine, whose inferences go through ``session``: its noise, parameters and micro-batches are its own."""
    twin = copy.copy(engine)
    lowered, _ = engine._session("run")
    twin._sessions = {**engine._sessions, "run": (lowered, session)}
    return twin


def _layers(program: ChipProgram, optimised: onnx.ModelProto) -> dict[str, str]:
    """Node of the optimised graph's top level -> its analog layer, "" if digital.

    Nodes the lowering made are named after their layer; what the optimiser puts before or behind them (a change of
    memory layout) has a name of its own and belongs to what it reads for or writes.
    """
    names = sorted(program.layers, key=len, reverse=True)
    outputs = {
        output: layer_name(node) for node in program.model.graph.node if node.domain == "pcm" for output in node.output
    }

    def layer_of(name: str) -> str:
        return outputs.get(name) or next((layer for layer in names if name.startswith(f"pcm/{layer}/")), "")

    nodes = optimised.graph.node
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for value in node.input:
            readers[value].append(node)
    found: dict[str, str] = {}
    for node in nodes:
        known = [layer_of(node.name), *(layer_of(value) for value in node.output)]
        if node.op_type.startswith("Reorder"):
            known += [layer_of(reader.name) for value in node.output for reader in readers[value]]
        found[node.name] = next((layer for layer in known if layer), "")
    # One for all layers: their scales and statistics, unpacked.
    found[PARAMETERS + "/split"] = ""
    return found


def _node_times(events: Iterable[Mapping[str, Any]], layers: Mapping[str, str], calls: int) -> tuple[NodeTime, ...]:
    """Medians over all calls but the first; a call in micro-batches runs a node several times, which add up.

    Operators inside a loop are part of the loop's own time.
    """
    seconds: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        name = event["name"].removesuffix("_kernel_time")
        if event["cat"] == "Node" and name != event["name"] and name in layers:
            seconds.setdefault(name, []).append(event["dur"] * 1e-6)
            operators[name] = event["args"]["op_name"]
    found = []
    for name, times in seconds.items():
        parts = len(times) // calls
        per_call = [sum(times[first : first + parts]) for first in range(0, parts * calls, max(1, parts))]
        # What runs once and for all (a constant's own transformation) is in the first call only.
        found.append(NodeTime(name, operators[name], layers[name], statistics.median(per_call[1:] or [0.0])))
    return tuple(found)


def _plain(engine: FastEngine, inputs: Mapping[str, Array], parameters: Parameters, runs: int) -> float:
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        engine.run(inputs, parameters, noise_seed=0)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])
