"""Rollback: the statistics before the last committed recalibration, and no others."""

from __future__ import annotations

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.recalibration import APART, adapt
from pcmedge.conformance.rules import rule

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
