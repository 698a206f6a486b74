"""What only emulators have: a clock that can be moved, snapshots, noise that can be switched."""

from __future__ import annotations

from typing import Any

from pcmedge._contract import lab_pb2
from pcmedge.conformance.bench import Bench, new_id
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.recalibration import APART, adapt
from pcmedge.conformance.rules import rule

_SNAPSHOT = "pcmedge-conformance"


def _clock(bench: Bench) -> lab_pb2.Clock:
    found: lab_pb2.Clock = bench.wire.call("GetClock", lab_pb2.GetClockRequest())
    return found


def _advance(bench: Bench, by_s: float, request_id: str = "") -> Any:
    request = lab_pb2.AdvanceTimeRequest(request_id=request_id or new_id(), by_s=by_s)
    return bench.wire.call("AdvanceTime", request)


def _movable(bench: Bench) -> None:
    if _clock(bench).mode == lab_pb2.CLOCK_MODE_REAL:
        raise NotApplicable("the clock is real; it cannot be advanced")


@rule("R39.1", "Advancing time ages the model by as much, once per request id.", "lab.clock")
def moves_time(bench: Bench) -> None:
    _movable(bench)
    bench.fresh()
    before_s = bench.must_be_resident().age_s
    same = new_id()
    for _ in range(2):
        _advance(bench, 1000.0, same)
    aged_s = bench.must_be_resident().age_s - before_s
    rate = max(1.0, _clock(bench).rate)
    expect(1000.0 <= aged_s < 1000.0 + 60.0 * rate, "an age 1,000 s larger", f"{aged_s} s")
    expect(bench.infer(1).age_s >= before_s + 900, f"replies of an age of about {before_s + 1000} s",
           bench.infer(1).age_s)  # fmt: skip


@rule("R39.2", "Time never goes back: a negative or endless step is INPUT_VALUE.", "lab.clock")
def never_goes_back(bench: Bench) -> None:
    _movable(bench)
    bench.fresh()
    before_s = _clock(bench).device_time_s
    for by_s in (-1.0, float("nan"), float("inf")):
        request = lab_pb2.AdvanceTimeRequest(request_id=new_id(), by_s=by_s)
        bench.wire.refused("INPUT_VALUE", "AdvanceTime", request, f"a step of {by_s} s")
    after_s = _clock(bench).device_time_s
    expect(after_s >= before_s, f"device time {before_s} s or later", after_s)


@rule("R39.3", "A real clock cannot be advanced: CLOCK_MODE.", "lab.clock")
def keeps_real_time(bench: Bench) -> None:
    if _clock(bench).mode != lab_pb2.CLOCK_MODE_REAL:
        raise NotApplicable("the clock is not real")
    request = lab_pb2.AdvanceTimeRequest(request_id=new_id(), by_s=1.0)
    bench.wire.refused("CLOCK_MODE", "AdvanceTime", request, "advancing a real clock")


@rule("R39.4", "A restored snapshot brings back statistics and age; device time goes on.", "lab.snapshot")
def restores(bench: Bench) -> None:
    bench.fresh()
    before, level = bench.must_be_resident(), bench.level()
    bench.wire.call("CreateSnapshot", lab_pb2.CreateSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
    try:
        listed = bench.wire.call("ListSnapshots", lab_pb2.ListSnapshotsRequest()).snapshots
        expect(_SNAPSHOT in [each.name for each in listed], "the snapshot in ListSnapshots", "it is not")
        bench.program(bench.image(2))
        time_s = _clock(bench).device_time_s if "lab.clock" in bench.capabilities else 0.0
        bench.wire.call("RestoreSnapshot", lab_pb2.RestoreSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
        after = bench.must_be_resident()
        expect_equal("version of the image", before.model_version, after.model_version)
        expect(0.75 < bench.level() / level < 1.33, f"a winning output of about {level:.3g}", f"{bench.level():.3g}")
        if "lab.clock" in bench.capabilities:
            expect(_clock(bench).device_time_s >= time_s, f"device time {time_s} or later",
                   _clock(bench).device_time_s)  # fmt: skip
    finally:
        bench.wire.call("DeleteSnapshot", lab_pb2.DeleteSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
    restore = lab_pb2.RestoreSnapshotRequest(request_id=new_id(), name=_SNAPSHOT)
    bench.wire.refused("NOT_FOUND", "RestoreSnapshot", restore, "a snapshot that was deleted")


@rule("R39.5", "Noise that is switched off is off in the replies, and these repeat.", "lab.noise")
def switches_noise(bench: Bench) -> None:
    bench.fresh()
    was = "additive" if bench.infer(1).noise else "off"
    off = lab_pb2.SetNoiseRequest(request_id=new_id(), read_noise_per_mvm="off")
    expect_equal("noise after switching it off", "off", bench.wire.call("SetNoise", off).read_noise_per_mvm)
    try:
        first, second = bench.infer(8), bench.infer(8)
        expect_equal("pcm_noise", (False, False), (first.noise, second.noise))
        if first.age_s == second.age_s:
            expect(bool((first.outputs == second.outputs).all()), "the same outputs twice without noise", "others")
    finally:
        bench.wire.call("SetNoise", lab_pb2.SetNoiseRequest(request_id=new_id(), read_noise_per_mvm=was))


@rule("R39.6", "Advancing time ages a model that is not active as well.", "lab.clock", "images")
def ages_the_inactive(bench: Bench) -> None:
    _movable(bench)
    bench.fresh()
    bench.set_active(False)
    before_s = bench.must_be_resident().age_s
    _advance(bench, 1000.0)
    aged_s = bench.must_be_resident().age_s - before_s
    expect(aged_s >= 1000.0, "an age 1,000 s larger", f"{aged_s} s")


@rule(
    "R39.7", "However long ago it was taken, a snapshot brings back its statistics and ages; device time goes on.",
    "lab.snapshot", "lab.clock", "recalibrate.adabs", "buffer",
)  # fmt: skip
def restores_the_past(bench: Bench) -> None:
    _movable(bench)
    bench.fresh()
    adapt(bench, 0.5)
    _advance(bench, 1000.0)
    age_s, level = bench.must_be_resident().age_s, bench.level()
    bench.wire.call("CreateSnapshot", lab_pb2.CreateSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
    try:
        adapt(bench, 1.0, 0.3)
        _advance(bench, 50_000.0)
        time_s = _clock(bench).device_time_s
        bench.wire.call("RestoreSnapshot", lab_pb2.RestoreSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
        now_s, rate = _clock(bench).device_time_s, max(1.0, _clock(bench).rate)
        expect(now_s >= time_s, f"device time {time_s} or later", now_s)
        found_s, found = bench.must_be_resident().age_s, bench.level()
        expect(abs(found_s - age_s) < 60 * rate, f"an age of about {age_s} s", found_s)
        expect(1 / APART < found / level < APART, f"a winning output of about {level:.3g}", f"{found:.3g}")
    finally:
        bench.wire.call("DeleteSnapshot", lab_pb2.DeleteSnapshotRequest(request_id=new_id(), name=_SNAPSHOT))
