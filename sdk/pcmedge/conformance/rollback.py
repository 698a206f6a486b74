"""Rollback: the statistics before the last committed recalibration, and no others."""

from __future__ import annotations

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.ages import let_time_pass
from pcmedge.conformance.bench import SECOND, Bench
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.recalibration import APART, adapt
from pcmedge.conformance.rules import rule
from pcmedge.conformance.telemetry import of_probe, reading

_NEEDS = ("rollback", "recalibrate.adabs", "buffer")


def _about(bench: Bench, expected: float, of_what: str) -> None:
    """Broken unless the winning output now is that of the statistics meant."""
    found = bench.level()
    expect(1 / APART < found / expected < APART, f"a winning output of about {expected:.3g}, that of {of_what}",
           f"{found:.3g}")  # fmt: skip


@rule("R36.1", "A rollback brings back the statistics before the last commit, under a new generation.", *_NEEDS)
def brings_back(bench: Bench) -> None:
    bench.fresh()
    programmed = bench.level()
    generation, _ = adapt(bench, 0.5)
    expect_equal("statistics generation", generation + 1, bench.rollback())
    expect_equal("statistics generation of a reply", generation + 1, bench.infer().statistics_generation)
    _about(bench, programmed, "the statistics as programmed")


@rule("R36.2", "After several recalibrations it is the last but one that comes back, not the programmed one.", *_NEEDS)
def brings_back_the_last(bench: Bench) -> None:
    bench.fresh()
    _, first = adapt(bench, 0.5)
    adapt(bench, 1.0, 0.3)
    bench.rollback()
    _about(bench, first, "the first recalibration")


@rule("R36.3", "A second rollback undoes the first.", *_NEEDS)
def undoes_itself(bench: Bench) -> None:
    bench.fresh()
    generation, adapted = adapt(bench, 0.5)
    bench.rollback()
    expect_equal("statistics generation", generation + 2, bench.rollback())
    _about(bench, adapted, "the recalibration")


@rule("R36.4", "Without a committed recalibration since programming a rollback is DEVICE_STATE.", "rollback")
def needs_something_before(bench: Bench) -> None:
    bench.fresh()
    before = bench.standing()
    request = device_pb2.RollbackStatisticsRequest(model_name=probe.NAME)
    bench.wire.refused("DEVICE_STATE", "RollbackStatistics", request, "a rollback right after programming")
    bench.unchanged(before, "a rollback to nothing")


@rule("R37.1", "Programming ends compensation: statistics and buffer are those of the image again.", *_NEEDS)
def begins_anew(bench: Bench) -> None:
    bench.fresh()
    programmed, buffer = bench.level(), bench.described().samples
    adapt(bench, 0.5)
    bench.program(bench.image())
    _about(bench, programmed, "the statistics of the image")
    expect_equal("samples of the buffer", buffer, bench.described().samples)
    request = device_pb2.RollbackStatisticsRequest(model_name=probe.NAME)
    bench.wire.refused("DEVICE_STATE", "RollbackStatistics", request, "a rollback beyond a programming")


@rule("R37.2", "After programming the calibration buffer is the image's, not the application's.", "buffer")
def has_its_own_buffer(bench: Bench) -> None:
    bench.fresh()
    before = bench.described()
    bench.buffer(probe.samples(8))
    bench.program(bench.image())
    expect_equal("buffer", before.SerializeToString(), bench.described().SerializeToString())


@rule("R37.3", "Right after programming the drift factor of every tile is 1.", "telemetry", "recalibrate.gdc")
def has_factors_of_one(bench: Bench) -> None:
    bench.fresh()
    let_time_pass(bench, 1e7)
    bench.recalibrate("GDC", force=True)
    bench.program(bench.image())
    found = of_probe(reading(bench, include_tiles=True))
    factors = [found.median_drift_factor, *(tile.drift_factor for tile in found.tiles)]
    expect(all(abs(factor - 1) < 1e-6 for factor in factors), "drift factors of 1", factors)
    expect(found.last_recalibration_age_s < 0, "a negative age for no recalibration", found.last_recalibration_age_s)


@rule("R37.4", "Each model has a calibration buffer of its own.", "buffer", "images")
def shares_no_buffer(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(1, SECOND))
    own = bench.described(SECOND)
    bench.buffer(probe.samples(8))
    described = own.SerializeToString()
    expect_equal("buffer of the other model", described, bench.described(SECOND).SerializeToString())
    bench.program(bench.image(1, SECOND))
    expect_equal("buffer of the other model, programmed again,", described, bench.described(SECOND).SerializeToString())
    expect_equal("samples of the model's own", 8, bench.described().samples)
