"""Ages when time has passed: told alike everywhere, and made smaller by programming alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import SECOND, Bench, new_id
from pcmedge.conformance.expecting import expect
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Wire

_LATER_S = 10_000.0
_MOMENT_S = 0.3


def let_time_pass(bench: Bench, by_s: float = _LATER_S) -> None:
    """The lab's clock is moved by so many seconds; without one that can be moved, a moment passes."""
    bench.used()
    if "lab.clock" in bench.capabilities:
        clock = bench.wire.call("GetClock", lab_pb2.GetClockRequest())
        if clock.mode != lab_pb2.CLOCK_MODE_REAL:
            bench.wire.call("AdvanceTime", lab_pb2.AdvanceTimeRequest(request_id=new_id(), by_s=by_s))
            return
    time.sleep(_MOMENT_S)


def _rate(bench: Bench) -> float:
    """Device seconds that pass in a second, at least 1."""
    if "lab.clock" not in bench.capabilities:
        return 1.0
    return max(1.0, float(bench.wire.call("GetClock", lab_pb2.GetClockRequest()).rate))


def _told(bench: Bench, name: str) -> dict[str, float]:
    """The age of a model by who tells it. Seconds."""
    wire: Wire = bench.wire
    told = {"ListImages": bench.must_be_resident(name).age_s, "a reply": bench.infer(1, name).age_s}
    tiles: list[int] = []
    if "telemetry" in bench.capabilities:
        reading = wire.call("GetTelemetry", device_pb2.GetTelemetryRequest(include_tiles=True))
        for model in reading.models:
            if model.model_name == name:
                told["telemetry"] = model.age_s
                told |= {f"telemetry of tile {tile.tile}": tile.age_s for tile in model.tiles}
                tiles = [tile.tile for tile in model.tiles]
    if "self-test" in bench.capabilities:
        told["SelfTest"] = wire.call("SelfTest", device_pb2.SelfTestRequest(model_name=name)).age_s
    if "tile.read" in bench.capabilities and tiles:
        request = device_pb2.ReadTileRequest(model_name=name, tile=tiles[0])
        told["ReadTile"] = wire.stream("ReadTile", request)[0].age_s
    return told


@rule("R33.4", "Whoever tells the age of a model tells the same one, and of each model its own.", "images", "infer")
def tells_one_age(bench: Bench) -> None:
    bench.fresh()
    let_time_pass(bench)
    bench.program(bench.image(2, SECOND))
    let_time_pass(bench)
    for name in (probe.NAME, SECOND):
        told = _told(bench, name)
        listed_s, last_s = told["ListImages"], bench.must_be_resident(name).age_s
        # Replies may be a moment older, and conductances are brought up to date in steps.
        slack_s = 0.1 * listed_s + 2.0 * _rate(bench)
        for who, age_s in told.items():
            expect(listed_s - slack_s <= age_s <= max(listed_s, last_s) + slack_s,
                   f"{who} to tell about {listed_s:.3f} s, as ListImages does", f"{age_s:.3f} s")  # fmt: skip


@rule("R33.5", "Nothing but programming makes a model younger.", "images", "infer")
def stays_old(bench: Bench) -> None:
    bench.fresh()
    let_time_pass(bench)
    changes: dict[str, Callable[[], object]] = {
        "deactivating and activating it": lambda: (bench.set_active(False), bench.set_active(True)),
        "programming another model": lambda: bench.program(bench.image(2, SECOND)),
    }
    if "recalibrate.gdc" in bench.capabilities:
        changes["a recalibration"] = lambda: bench.recalibrate("GDC", force=True)
        if "rollback" in bench.capabilities:
            changes["a rollback"] = bench.rollback
    if "buffer" in bench.capabilities:
        changes["another calibration buffer"] = lambda: bench.buffer(probe.samples(8))
    changes["another policy"] = bench.manual
    for what, change in changes.items():
        before_s, asked_s = bench.must_be_resident().age_s, bench.infer(1).age_s
        change()
        after_s, answered_s = bench.must_be_resident().age_s, bench.infer(1).age_s
        expect(after_s >= before_s, f"an age of {before_s:.3f} s or more after {what}", f"{after_s:.3f} s")
        expect(answered_s >= asked_s, f"replies of an age of {asked_s:.3f} s or more after {what}",
               f"{answered_s:.3f} s")  # fmt: skip


@rule("R33.6", "However long the device ran before, a model is young right after programming.", "program")
def begins_at_zero(bench: Bench) -> None:
    bench.fresh()
    let_time_pass(bench)
    programmed_s = bench.program(bench.image(2)).image.age_s
    listed_s = bench.must_be_resident().age_s
    for who, age_s in (("Program's result", programmed_s), ("ListImages", listed_s)):
        expect(0 <= age_s < 60 * _rate(bench), f"an age of about 0 s in {who}", age_s)
