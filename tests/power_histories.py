"""Histories of a stored chip to cut short, and what of the chip a cut must not change."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from pcmedge.compiler.pipeline import compile as compile_image
from pcmedge.image import ChipImage
from pcmedge.image.profiles import get_profile
from pcmedge_emulator.calibration.policy import MANUAL, Policy, PolicyKind
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.journal import JournalBounds
from pcmedge_emulator.outcomes import Event, Mutation

TILES = 4
INTERVAL = Policy(kind=PolicyKind.INTERVAL, interval_s=1000.0)


@functools.cache
def image(name: str, version: int = 1) -> ChipImage:
    """Two dense layers, 8 -> 6 -> 3 with a batch norm, on two tiles of a chip that has four."""
    rng = np.random.default_rng(version)
    tensors = {"w0": rng.normal(size=(6, 8)), "w1": rng.normal(size=(3, 6)), "scale": np.ones(6), "shift": np.zeros(6)}
    tensors |= {"mean": np.zeros(6), "var": np.ones(6)}
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"], name="first", transB=1),
        helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Gemm", ["r", "w1"], ["y"], name="second", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(values.astype(np.float32), key) for key, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    profile = get_profile("pcm-512x512")
    profile.tiles = TILES
    return compile_image(model, calibration=samples(64), name=name, version=version, profile=profile)


def samples(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def start(store: Path) -> Chip:
    """The chip of every history: its clock stands, so that ages and outputs are the same after any restart."""
    return Chip(
        store=store,
        clock=Clock.manual(),
        default_policy=MANUAL,
        read_noise="off",
        threads=1,
        journal=JournalBounds(max_events=12),
    )


@dataclass(frozen=True)
class Step:
    """One call that changes the device; ``restart``: shut it down and start it again instead."""

    name: str
    do: Callable[[Chip, Mutation], Any] = lambda chip, mutation: None
    restart: bool = False


def _program(name: str, version: int = 1, **options: Any) -> Step:
    return Step(
        f"program {name} v{version}",
        lambda chip, mutation: chip.program(image(name, version), mutation=mutation, **options),
    )


def _on(name: str, verb: Callable[[Chip, Mutation], Any]) -> Step:
    return Step(name, verb)


STEPS = {
    step.name: step
    for step in (
        _program("a"),
        _program("a", 2, replace=True),
        _program("b", replace=True),
        _on("recalibrate gdc", lambda c, m: c.recalibrate("a", "gdc", force=True, mutation=m)),
        _on("recalibrate", lambda c, m: c.recalibrate("a", reads=1, force=True, mutation=m)),
        _on("roll back", lambda c, m: c.rollback("a", mutation=m)),
        _on("set policy", lambda c, m: c.set_policy("a", INTERVAL, mutation=m)),
        _on("unset policy", lambda c, m: c.set_policy("a", MANUAL, mutation=m)),
        _on("replace buffer", lambda c, m: c.replace_buffer("a", {"x": samples(4)}, mutation=m)),
        _on("append buffer", lambda c, m: c.append_buffer("a", {"x": samples(2, 1)}, mutation=m)),
        _on("deactivate", lambda c, m: c.deactivate("a", mutation=m)),
        _on("activate", lambda c, m: c.activate("a", mutation=m)),
        _on("erase a", lambda c, m: c.erase("a", mutation=m)),
        _on("erase b", lambda c, m: c.erase("b", mutation=m)),
        _on("advance", lambda c, m: c.advance(1500.0, mutation=m)),
        _on("snapshot", lambda c, m: c.snapshot("kept", mutation=m)),
        _on("restore", lambda c, m: c.restore("kept", mutation=m)),
        _on("delete snapshot", lambda c, m: c.delete_snapshot("kept", mutation=m)),
        _on("inject fault", lambda c, m: c.inject_faults([Fault(kind=FaultKind.DEAD_ROW, tile=0, row=1)], mutation=m)),
        _on("clear faults", lambda c, m: c.clear_faults(mutation=m)),
        _on("diagnose", lambda c, m: c.diagnose("a", mutation=m)),
        Step("restart", restart=True),
    )
}

HISTORIES = {
    "life of one model": (
        "program a v1",
        "advance",
        "recalibrate gdc",
        "recalibrate",
        "roll back",
        "set policy",
        "replace buffer",
        "append buffer",
        "deactivate",
        "activate",
        "program a v2",
        "restart",
        "erase a",
    ),
    "two models, snapshots, faults": (
        "program a v1",
        "program b v1",
        "snapshot",
        "set policy",
        "advance",
        "inject fault",
        "diagnose",
        "restart",
        "restore",
        "erase b",
        "program a v2",
        "clear faults",
        "delete snapshot",
        "restart",
        "recalibrate",
    ),
}


@dataclass(frozen=True)
class View:
    """What an acknowledged call has promised: everything but counters, histories and the time of the wall clock."""

    models: tuple[Any, ...]
    outputs: tuple[Any, ...]
    conductances: tuple[str, ...]
    policies: tuple[Any, ...]
    statistics: tuple[str, ...]
    buffers: tuple[Any, ...]
    snapshots: tuple[Any, ...]
    faults: tuple[Any, ...]
    tiles: tuple[Any, ...]
    device_time_s: float
    events: dict[int, Event]

    def changed_in(self, later: View) -> list[str]:
        """The names of what is not the same there. The journal may have gone on, and left its oldest events behind."""
        names = [name for name in self.__dataclass_fields__ if name != "events"]
        changed = [name for name in names if getattr(self, name) != getattr(later, name)]
        kept = {number: event for number, event in self.events.items() if number >= min(later.events, default=0)}
        told = {number: event for number, event in later.events.items() if number <= max(self.events, default=0)}
        return changed + ["events"] * (kept != told)


def view(chip: Chip) -> View:
    models = sorted(chip.models(), key=lambda model: model.name)
    names = [model.name for model in models]
    geometry = chip.identity().geometry
    retired = {tile.tile: tile.retired for model in chip.telemetry(include_tiles=True).models for tile in model.tiles}
    residents = chip._state.residents
    return View(
        models=tuple(models),
        outputs=tuple(
            hashlib.sha256(chip.infer(m.name, {"x": samples(8)}).outputs["y"].tobytes()).hexdigest()
            for m in models
            if m.active
        ),
        conductances=tuple(
            hashlib.sha256(b"".join(tile.to_bytes() for tile in residents[name].programmed.tiles)).hexdigest()
            for name in names
        ),
        policies=tuple(chip.policy(name) for name in names),
        statistics=tuple(repr((residents[name].parameters, residents[name].previous)) for name in names),
        buffers=tuple(chip.describe_buffer(name) for name in names),
        snapshots=chip.snapshots(),
        faults=chip.faults(),
        tiles=(geometry.tiles, geometry.free_tiles, retired, chip.telemetry().retired_tiles),
        device_time_s=chip.clock().device_time_s,
        events={event.sequence: replace(event, lost_before=0) for event in chip.events()},
    )
