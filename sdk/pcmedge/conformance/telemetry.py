"""Ages and telemetry: time goes forward, counters count, figures are of the moment they are asked for."""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, infer_request
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refused

_HAPPENS = (4, 8)
"""Looks at the age after which the model is recalibrated, deactivated and rolled back."""


def reading(bench: Bench, include_tiles: bool = False) -> device_pb2.Telemetry:
    request = device_pb2.GetTelemetryRequest(include_tiles=include_tiles)
    found: device_pb2.Telemetry = bench.wire.call("GetTelemetry", request)
    return found


def of_probe(telemetry: device_pb2.Telemetry) -> device_pb2.ModelTelemetry:
    found = [model for model in telemetry.models if model.model_name == probe.NAME]
    expect_equal("entries of the model in telemetry", 1, len(found))
    return found[0]


def _forward(what: str, values: list[float]) -> None:
    for before, after in itertools.pairwise(values):
        expect(after >= before, f"{what} never to run backwards", f"{after!r} after {before!r}")


@rule("R33.1", "A model's age never runs backwards from programming on, wherever it is told.", "infer")
def ages_forward(bench: Bench) -> None:
    bench.fresh()
    asked: list[float] = []
    listed: list[float] = []
    told: list[float] = []
    for number in range(12):
        asked.append(bench.infer(1).age_s)
        listed.append(bench.must_be_resident().age_s)
        if "telemetry" in bench.capabilities:
            told.append(of_probe(reading(bench)).age_s)
        if number in _HAPPENS and "recalibrate.gdc" in bench.capabilities:
            bench.recalibrate("GDC", force=True)
        if number in _HAPPENS and "images" in bench.capabilities:
            bench.set_active(False)
            bench.set_active(True)
        if number in _HAPPENS and "rollback" in bench.capabilities and "recalibrate.gdc" in bench.capabilities:
            bench.rollback()
        time.sleep(0.02)
    for what, values in (("age of replies", asked), ("age in ListImages", listed), ("age in telemetry", told)):
        _forward(what, values)


def _both(bench: Bench) -> tuple[device_pb2.Telemetry, float, float]:
    """Telemetry, the probe's age in ListImages, and the device seconds that passed between: the less the better."""
    found: list[tuple[device_pb2.Telemetry, float, float]] = []
    for _ in range(5):
        telemetry, age_s = reading(bench), bench.must_be_resident().age_s
        found.append((telemetry, age_s, reading(bench).device_time_s - telemetry.device_time_s))
        if found[-1][2] <= 0.1:
            break
    return min(found, key=lambda each: each[2])


@rule("R33.2", "Age counts seconds of the device's clock: image, telemetry and device time advance alike.", "telemetry")
def ages_by_its_clock(bench: Bench) -> None:
    bench.fresh()
    first, first_age_s, first_went_s = _both(bench)
    time.sleep(0.5)
    second, second_age_s, second_went_s = _both(bench)
    went_s = second.device_time_s - first.device_time_s
    slack_s = 0.25 * abs(went_s) + 0.25 * max(1.0, went_s / 0.5)
    for what, aged_s, apart_s in (
        ("telemetry", of_probe(second).age_s - of_probe(first).age_s, 0.0),
        ("ListImages", second_age_s - first_age_s, max(first_went_s, second_went_s)),
    ):
        expect(abs(aged_s - went_s) <= slack_s + apart_s,
               f"an age in {what} that grew by {went_s:.3f} s as device time did", f"{aged_s:.3f} s")  # fmt: skip
    if not bench.identity.emulated:
        expect(went_s > 0.25, "the clock of a device that is not emulated to run", f"{went_s} s in half a second")


@rule("R33.3", "Programming again starts the age anew.", "program")
def is_young_again(bench: Bench) -> None:
    bench.fresh()
    time.sleep(0.3)
    before_s = bench.must_be_resident().age_s
    bench.program(bench.image(2))
    expect(bench.must_be_resident().age_s <= before_s + 60, "an age since the last programming",
           bench.must_be_resident().age_s)  # fmt: skip
    if before_s > 0.25:
        # Again if the device took that long to tell.
        for _ in range(3):
            fresh_s = bench.program(bench.image()).image.age_s
            if fresh_s < before_s:
                break
        expect(fresh_s < before_s, f"an age below {before_s:.3f} s right after programming", fresh_s)


@rule("R34.1", "Telemetry is of the moment it is asked for: time and uptime go on.", "telemetry")
def is_of_now(bench: Bench) -> None:
    bench.ready()
    first = reading(bench)
    time.sleep(0.3)
    second = reading(bench)
    expect(second.time_unix_s > first.time_unix_s, f"a time after {first.time_unix_s}", second.time_unix_s)
    expect(second.uptime_s > first.uptime_s, f"an uptime above {first.uptime_s}", second.uptime_s)
    expect(second.device_time_s >= first.device_time_s, f"device time {first.device_time_s} or later",
           second.device_time_s)  # fmt: skip


@rule("R34.2", "Requests and inferences are counted: served, failed, and samples of the model.", "telemetry", "infer")
def counts(bench: Bench) -> None:
    bench.ready()
    first = reading(bench)
    for _ in range(5):
        bench.infer(3)
    with contextlib.suppress(Refused):
        bench.wire.call("ModelInfer", infer_request(probe.samples(1)[:, :5]))
    second = reading(bench)
    expect(second.requests_served >= first.requests_served + 5, f"{first.requests_served + 5} requests served",
           second.requests_served)  # fmt: skip
    expect(second.requests_failed >= first.requests_failed + 1, f"{first.requests_failed + 1} requests failed",
           second.requests_failed)  # fmt: skip
    expected = of_probe(first).inferences + 15
    expect(of_probe(second).inferences >= expected, f"{expected} samples of the model", of_probe(second).inferences)


@rule("R34.3", "A watched telemetry is numbered from 1, and each message is a new reading.", "telemetry.watch")
def is_watched(bench: Bench) -> None:
    bench.ready()
    request = device_pb2.WatchTelemetryRequest(interval_s=0.1)
    messages: list[device_pb2.Telemetry] = []
    for message in bench.wire.messages("WatchTelemetry", request, timeout_s=30.0):
        messages.append(message)
        bench.infer(1)
        if len(messages) == 4:
            break
    expect_equal("sequence", [1, 2, 3, 4], [message.sequence for message in messages])
    times = [message.time_unix_s for message in messages]
    expect(all(b > a for a, b in itertools.pairwise(times)), "time to go on from message to message", times)
    served = [message.requests_served for message in messages]
    expect(served[-1] > served[0], "requests to be counted from message to message", served)
    expect_equal("sequence of a single reading", 0, reading(bench).sequence)


@rule("R34.4", "Recalibrations are counted, and the age of the last one is told.", "telemetry", "recalibrate.gdc")
def counts_recalibrations(bench: Bench) -> None:
    bench.fresh()
    expect(of_probe(reading(bench)).last_recalibration_age_s < 0, "a negative age for no recalibration",
           of_probe(reading(bench)).last_recalibration_age_s)  # fmt: skip
    result = bench.recalibrate("GDC", force=True)
    found = of_probe(reading(bench))
    expect_equal("recalibrations", 1, found.recalibrations)
    expect_equal("statistics generation", result.statistics_generation, found.statistics_generation)
    expect(abs(found.last_recalibration_age_s - result.age_s) < 1e-3 * max(1.0, result.age_s),
           f"the last recalibration at {result.age_s} s", found.last_recalibration_age_s)  # fmt: skip


@rule("R34.5", "Tiles are told if asked for, and their number agrees with the image.", "telemetry")
def tells_of_tiles(bench: Bench) -> None:
    image = bench.ready()
    expect_equal("tiles when not asked for", 0, len(of_probe(reading(bench)).tiles))
    tiles = of_probe(reading(bench, include_tiles=True)).tiles
    expect_equal("tiles", image.tiles, len({tile.tile for tile in tiles}))
    found = reading(bench)
    expect_equal("free tiles", bench.free_tiles(), found.free_tiles)
    expect(found.state in ("idle", "serving", "programming", "recalibrating", "degraded"), "a state of the contract",
           found.state)  # fmt: skip


@rule("R34.6", "An interval that is negative or not finite is INPUT_VALUE.", "telemetry.watch", changes=False)
def checks_intervals(bench: Bench) -> None:
    for interval_s in (-1.0, float("nan"), float("inf")):
        request = device_pb2.WatchTelemetryRequest(interval_s=interval_s)
        bench.wire.refused("INPUT_VALUE", "WatchTelemetry", request, f"an interval of {interval_s} s")


@rule(
    "R42.1", "A tile is read in bands that cover it, finite and not negative, two conductances per cell.", "tile.read"
)
def reads_tiles(bench: Bench) -> None:
    bench.ready()
    if "telemetry" not in bench.capabilities:
        raise NotApplicable("without telemetry nothing tells which tiles the model has")
    tile = of_probe(reading(bench, include_tiles=True)).tiles[0].tile
    bands = bench.wire.stream("ReadTile", device_pb2.ReadTileRequest(model_name=probe.NAME, tile=tile))
    row = 0
    for band in bands:
        expect_equal("first row of a band", row, band.first_row)
        for data in (band.g_plus_microsiemens, band.g_minus_microsiemens):
            expect_equal("bytes of a band", 4 * band.rows * band.columns, len(data))
            cells = np.frombuffer(data, "<f4")
            expect(bool(np.isfinite(cells).all() and (cells >= 0).all()), "finite conductances of 0 or more",
                   f"{cells.min()} to {cells.max()}")  # fmt: skip
        row += band.rows
    expect(row > 0, "rows of the tile", row)
    missing = device_pb2.ReadTileRequest(model_name=probe.NAME, tile=4_000_000)
    bench.wire.refused("NOT_FOUND", "ReadTile", missing, "a tile the model does not have")


@rule("R34.7", "Counts do not fall when a model is recalibrated, nor the device's when it is programmed.", "telemetry")
def counts_on(bench: Bench) -> None:
    bench.fresh()
    bench.infer(4)
    first = reading(bench)
    if "recalibrate.gdc" in bench.capabilities:
        bench.recalibrate("GDC", force=True)
        now, then = of_probe(reading(bench)).inferences, of_probe(first).inferences
        expect(now >= then, f"{then} samples or more after a recalibration", now)
    bench.program(bench.image(2))
    second = reading(bench)
    for name in ("requests_served", "requests_failed", "requests_rejected", "uptime_s"):
        then, now = getattr(first, name), getattr(second, name)
        expect(now >= then, f"{name} of {then} or more after a programming", now)


@rule("R34.8", "Recalibrations are counted from the last programming on.", "telemetry", "recalibrate.gdc")
def counts_from_programming(bench: Bench) -> None:
    bench.fresh()
    bench.recalibrate("GDC", force=True)
    bench.program(bench.image())
    found = of_probe(reading(bench))
    counted = (found.recalibrations, found.recalibrations_refused)
    expect_equal("recalibrations, committed and refused, right after programming", (0, 0), counted)


@rule("R42.2", "Conductances are microsiemens: the largest of a tile is near the profile's largest.", "tile.read")
def reads_microsiemens(bench: Bench) -> None:
    bench.fresh()
    if "telemetry" not in bench.capabilities:
        raise NotApplicable("without telemetry nothing tells which tiles the model has")
    g_max = bench.wire.call("GetIdentity", device_pb2.GetIdentityRequest()).geometry.g_max_microsiemens
    for tile in of_probe(reading(bench, include_tiles=True)).tiles:
        request = device_pb2.ReadTileRequest(model_name=probe.NAME, tile=tile.tile)
        bands = bench.wire.stream("ReadTile", request)
        pairs = (data for band in bands for data in (band.g_plus_microsiemens, band.g_minus_microsiemens))
        largest = max(float(np.frombuffer(data, "<f4").max()) for data in pairs)
        expect(0.2 * g_max < largest < 3 * g_max, f"a largest conductance near {g_max:g} uS", largest)
