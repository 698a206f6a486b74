"""Diagnosis and repair: what is found of what the lab breaks, which tiles are programmed next, and what mends them.

Only tiles that the probe lies on are broken, and they are mended afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import SECOND, Bench, infer_request, mutation, new_id, right
from pcmedge.conformance.bench import answer as numbers
from pcmedge.conformance.events import events_after, last_sequence
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.telemetry import of_probe, reading
from pcmedge.conformance.wire import Refused

SURELY = 1e-6
"""A false alarm rate at which no check of ours fails by chance."""

MOST_TILES = 32
"""Chips of more are not used up to see what happens then."""

LOST = lab_pb2.FAULT_KIND_TILE_LOST


def _request(**fields: Any) -> device_pb2.DiagnoseRequest:
    return device_pb2.DiagnoseRequest(mutation=mutation(), **{"model_name": probe.NAME, **fields})


def _diagnose(bench: Bench, **fields: Any) -> device_pb2.DiagnoseResult:
    bench.used()
    request = _request(**{"false_alarm_rate": SURELY, **fields})
    found: device_pb2.DiagnoseResult = bench.wire.call("Diagnose", request)
    return found


def _placed(bench: Bench) -> list[int]:
    """Physical tiles of a probe programmed just now."""
    bench.fresh()
    return _tiles(bench)


def _tiles(bench: Bench, **header: Any) -> list[int]:
    """Physical tiles of the probe after programming it."""
    return [tile.tile for tile in bench.program(bench.image(), **header).tiles]


def _inject(bench: Bench, tiles: list[int], kind: Any = LOST, **fields: Any) -> list[lab_pb2.Fault]:
    faults = [lab_pb2.Fault(kind=kind, tile=tile, **fields) for tile in tiles]
    request = lab_pb2.InjectFaultsRequest(request_id=new_id(), faults=faults)
    return list(bench.wire.call("InjectFaults", request).faults)


def _listed(bench: Bench) -> list[bytes]:
    """The faults there are, each as its bytes."""
    return [fault.SerializeToString() for fault in bench.wire.call("ListFaults", lab_pb2.ListFaultsRequest()).faults]


def _mend(bench: Bench, tiles: list[int]) -> None:
    bench.wire.call("ClearFaults", lab_pb2.ClearFaultsRequest(request_id=new_id(), tiles=tiles))


def _leaves(bench: Bench, retired: list[int]) -> None:
    """Broken if programming takes a retired tile: neither beside the model that lies on it, nor once it is free."""
    for _ in range(2):
        placed = _tiles(bench)
        expect(not set(placed) & set(retired), f"other tiles than {retired}, which are retired", placed)


@contextlib.contextmanager
def _mended(bench: Bench, tiles: list[int]) -> Iterator[None]:
    """These tiles are mended at the end; ``tiles`` may grow meanwhile."""
    bench.used()
    try:
        yield
    finally:
        if tiles:
            _mend(bench, sorted(set(tiles)))


def _answers_right(bench: Bench) -> bool:
    return right(numbers(bench.wire.call("ModelInfer", infer_request(probe.samples(16)))).outputs)


# ----------------------------------------------------------------------------------------------------------- diagnosis


@rule("R43.1", "A diagnosis tells of every tile of the model once, and its verdict is that of its tiles.", "diagnose")
def tells_of_every_tile(bench: Bench) -> None:
    placed = _placed(bench)
    image = bench.must_be_resident()
    found = _diagnose(bench)
    _whole(found, placed, image)
    expect_equal("the false alarm rate asked for", SURELY, found.false_alarm_rate)
    default = _diagnose(bench, false_alarm_rate=0.0).false_alarm_rate
    expect(0 < default < 1, "a default false alarm rate above 0 and below 1", default)


def _whole(found: device_pb2.DiagnoseResult, placed: list[int], image: device_pb2.ResidentImage) -> None:
    expect_equal("tiles", sorted(placed), sorted(tile.tile for tile in found.tiles))
    expect_equal("program generation", image.program_generation, found.program_generation)
    expect(found.age_s >= image.age_s * (1 - 1e-6), f"an age of at least {image.age_s} s", found.age_s)
    retired = list(found.retired_tiles)
    expect_equal("retired tiles named twice", 0, len(retired) - len(set(retired)))
    for tile in found.tiles:
        what = f"tile {tile.tile}"
        expect(bool(tile.layer), f"the layer of {what}", "none")
        expect(tile.cells > 0 and tile.faulty_cells <= tile.cells, f"at most all cells of {what} faulty",
               f"{tile.faulty_cells} of {tile.cells}")  # fmt: skip
        expect_equal(f"{what} among the retired tiles", tile.retired, tile.tile in retired)
        expect(bool(tile.findings) or not tile.retired, f"a finding of {what}, which is retired", "none")
        for finding in tile.findings:
            expect(bool(finding.kind), f"a kind of each finding of {what}", "none")
            expect(bool(np.isfinite([finding.measured, finding.expected, finding.bound]).all()),
                   f"finite figures of each finding of {what}", finding)  # fmt: skip


@rule("R43.2", "Impossible rates are INPUT_VALUE, an unknown model is MODEL_NOT_FOUND.", "diagnose")
def checks_what_is_asked(bench: Bench) -> None:
    bench.ready()
    for rate in (-0.1, 1.0, 2.0, float("nan"), float("inf")):
        bench.wire.refused("INPUT_VALUE", "Diagnose", _request(false_alarm_rate=rate), f"a false alarm rate of {rate}")
    for share in (-0.1, 1.5, float("nan")):
        bench.wire.refused("INPUT_VALUE", "Diagnose", _request(tolerated_cells=share), f"tolerating {share} of cells")
    bench.wire.refused("MODEL_NOT_FOUND", "Diagnose", _request(model_name="nobody"), "a model that is not resident")


@rule("R43.3", "A tile the lab breaks is found, alone, retired, and an event.", "diagnose", "lab.faults", "events")
def finds_a_lost_tile(bench: Bench) -> None:
    placed = _placed(bench)
    broken = placed[:1]
    with _mended(bench, broken):
        _inject(bench, broken)
        before, image = last_sequence(bench), bench.must_be_resident()
        found = _diagnose(bench)
        _whole(found, placed, image)
        bad = [tile.tile for tile in found.tiles if tile.findings]
        expect_equal("tiles with findings", broken, bad)
        expect(broken[0] in found.retired_tiles, f"tile {broken[0]} retired", list(found.retired_tiles))
        events = [event for event in events_after(bench, before) if event.kind == "fault-detected"]
        expect_equal("events 'fault-detected'", 1, len(events))
        told = (events[0].model_name, events[0].details.get("tile"), bool(events[0].details.get("layer")))
        expect_equal("model, tile and layer of the event", (probe.NAME, str(broken[0]), True), told)


@rule("R43.4", "A dead column is found with its number, and no other column.", "diagnose", "lab.faults")
def names_the_column(bench: Bench) -> None:
    placed = _placed(bench)
    broken = placed[:1]
    with _mended(bench, broken):
        _inject(bench, broken, lab_pb2.FAULT_KIND_DEAD_COLUMN, column=1)
        tile = next(tile for tile in _diagnose(bench).tiles if tile.tile == broken[0])
        expect(tile.retired, f"tile {broken[0]} retired for its dead column", tile.findings)
        columns = [finding.column for finding in tile.findings if finding.HasField("column")]
        expect(set(columns) == {1}, "findings of column 1 alone", tile.findings)


@rule("R43.5", "A retired tile that a later diagnosis finds fit is taken back.", "diagnose", "lab.faults")
def takes_back(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        _inject(bench, broken, lab_pb2.FAULT_KIND_STUCK_AT_G_MAX, row=0, column=1)
        _inject(bench, broken, lab_pb2.FAULT_KIND_STUCK_AT_G_MAX, row=3, column=0, minus=True)
        strict = _diagnose(bench, tolerated_cells=0.0)
        tile = next(tile for tile in strict.tiles if tile.tile == broken[0])
        if any(finding.kind != "cell" for finding in tile.findings) or not tile.retired:
            raise NotApplicable("what two stuck devices do is not found as cells alone on this device")
        lenient = _diagnose(bench, tolerated_cells=1.0)
        expect(broken[0] not in lenient.retired_tiles, f"tile {broken[0]} taken back, as all its cells may be faulty",
               list(lenient.retired_tiles))  # fmt: skip


@rule("R43.6", "A diagnosis with progress is an operation that counts tiles and ends with the result.",
      "diagnose.progress")  # fmt: skip
def reports_progress(bench: Bench) -> None:
    placed, image = _placed(bench), bench.must_be_resident()
    bench.used()
    updates = bench.wire.stream("DiagnoseWithProgress", _request(false_alarm_rate=SURELY))
    expect(bool(updates), "updates", "none")
    expect_equal("operations", 1, len({update.operation_id for update in updates}))
    expect_equal("kinds", {"diagnose"}, {update.kind for update in updates})
    states = [update.state for update in updates]
    running = device_pb2.OPERATION_STATE_RUNNING
    expect(set(states[:-1]) <= {running}, "RUNNING until the last update", states)
    expect_equal("last state", device_pb2.OPERATION_STATE_SUCCEEDED, states[-1])
    for update in updates:
        expect(update.done <= update.total, "done never above total", f"{update.done} of {update.total}")
        if update.phase == "diagnose":
            expect_equal("unit and total", ("tiles", len(placed)), (update.unit, update.total))
    _whole(updates[-1].diagnosis, placed, image)
    bench.wire.refused("INPUT_VALUE", "DiagnoseWithProgress", _request(false_alarm_rate=2.0), "a rate of 2")


@rule("R43.7", "Telemetry tells of a tile what the last diagnosis found.", "diagnose.findings", "lab.faults",
      "telemetry")  # fmt: skip
def tells_what_was_found(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        _inject(bench, broken)
        tile = next(tile for tile in _diagnose(bench).tiles if tile.tile == broken[0])
        found = reading(bench, include_tiles=True)
        told = {each.tile: each for each in of_probe(found).tiles}
        expect_equal("findings in telemetry", list(tile.findings), list(told[broken[0]].findings))
        expect(told[broken[0]].retired, f"tile {broken[0]} retired in telemetry", "it is not")
        others = [each.tile for each in told.values() if each.findings and each.tile != broken[0]]
        expect_equal("other tiles with findings", [], others)
        expect(found.retired_tiles >= 1, "retired tiles counted", found.retired_tiles)
    healed = {each.tile: each for each in of_probe(reading(bench, include_tiles=True)).tiles}
    expect_equal("findings of a mended tile", [], list(healed[broken[0]].findings))


# ------------------------------------------------------------------------------------------------------- retired tiles


@rule("R44.1", "A retired tile serves on, and the next programming takes others.", "diagnose", "lab.faults", "program")
def leaves_retired_tiles(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        _inject(bench, broken)
        free = bench.free_tiles()
        _diagnose(bench)
        expect_equal("free tiles while the retired one serves on", free, bench.free_tiles())
        expect_equal("rows answered by a model on a retired tile", 4, len(bench.infer(4).outputs))
        _leaves(bench, broken)
        expect_equal("free tiles, without the retired one", free - 1, bench.free_tiles())
        expect(_answers_right(bench), "right answers from other tiles", "wrong ones")
        healthy = [tile.tile for tile in _diagnose(bench).tiles if tile.findings]
        expect_equal("tiles with findings after moving", [], healthy)


@rule("R44.2", "Without enough tiles that are fit Program is TILES_OCCUPIED and says how many are retired; use_retired "
      "takes those.", "diagnose", "lab.faults", "program", "images")  # fmt: skip
def says_what_is_retired(bench: Bench) -> None:
    broken = list(_placed(bench))
    if bench.identity.geometry.tiles > MOST_TILES or len(bench.residents()) > 1:
        raise NotApplicable(f"tiles are used up on chips of at most {MOST_TILES}, with no image of others")
    with _mended(bench, broken):
        while True:
            _inject(bench, broken)
            retired = len(_diagnose(bench).retired_tiles)
            try:
                placed = _tiles(bench, replace=True)
            except Refused as refused:
                refusal = refused.refusal
                break
            expect(not set(placed) & set(broken), f"no tile of {sorted(broken)}, which are retired", placed)
            broken += placed
        found = (refusal.reason, refusal.metadata.get("tiles_retired"))
        expect_equal("reason and retired tiles", ("TILES_OCCUPIED", str(retired)), found)
        again = _tiles(bench, replace=True, use_retired=True)
        expect(bool(set(again) & set(broken)), "retired tiles in use, as use_retired allows", again)


@rule("R44.3", "Retirement survives a restart.", "diagnose", "lab.faults", "program", restarts=True)
def stays_retired(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        _inject(bench, broken)
        _diagnose(bench)
        before = _listed(bench)
        bench.restart()
        expect_equal("faults after the restart", before, _listed(bench))
        _leaves(bench, broken)


# ------------------------------------------------------------------------------------------------ faults of the silicon


@rule("R45.1", "Injected faults act at once, and clearing them ends that.", "lab.faults", "infer")
def acts_at_once(bench: Bench) -> None:
    broken = _placed(bench)
    expect(_answers_right(bench), "right answers of a fresh probe", "wrong ones")
    with _mended(bench, broken):
        _inject(bench, broken)
        expect(not _answers_right(bench), "wrong answers while every tile is lost", "right ones")
        _mend(bench, broken)
        expect(_answers_right(bench), "right answers after clearing", "wrong ones")


@rule("R45.2", "Faults are listed as they were injected, numbered upwards; with an impossible one none is.",
      "lab.faults")  # fmt: skip
def injects_all_or_none(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        _mend(bench, broken)
        known = len(_listed(bench))
        row, column = lab_pb2.FAULT_KIND_DEAD_ROW, lab_pb2.FAULT_KIND_DEAD_COLUMN
        first = _inject(bench, broken, row, row=2)
        second = _inject(bench, broken, column, column=3)
        told = [(fault.kind, fault.tile, fault.row, fault.column) for fault in second[known:]]
        expect_equal("faults injected", [(row, broken[0], 2, 0), (column, broken[0], 0, 3)], told)
        expect(second[-1].number > first[-1].number > 0, "numbers that grow from 1", [f.number for f in second])
        before = _listed(bench)
        faults = [lab_pb2.Fault(kind=LOST, tile=broken[0]), lab_pb2.Fault(kind=LOST, tile=4_000_000)]
        request = lab_pb2.InjectFaultsRequest(request_id=new_id(), faults=faults)
        bench.wire.refused("INPUT_VALUE", "InjectFaults", request, "a fault of a tile the chip does not have")
        expect_equal("faults after a refused injection", before, _listed(bench))


@rule("R45.3", "Programming, erasing and a restored snapshot leave faults as they are.", "lab.faults", "images")
def outlives_what_is_programmed(bench: Bench) -> None:
    broken = _placed(bench)
    snapshot = "lab.snapshot" in bench.capabilities
    name = "pcmedge-conformance-faults"
    if snapshot:
        bench.wire.call("CreateSnapshot", lab_pb2.CreateSnapshotRequest(request_id=new_id(), name=name))
    try:
        with _mended(bench, broken):
            _inject(bench, broken)
            before = _listed(bench)
            bench.program(bench.image(1, SECOND))
            bench.erase(SECOND)
            bench.erase()
            expect_equal("faults after programming and erasing", before, _listed(bench))
            if snapshot:
                bench.wire.call("RestoreSnapshot", lab_pb2.RestoreSnapshotRequest(request_id=new_id(), name=name))
                expect_equal("faults after restoring a snapshot of before", before, _listed(bench))
                expect(not _answers_right(bench), "wrong answers from broken tiles, restored or not", "right ones")
    finally:
        if snapshot:
            bench.wire.call("DeleteSnapshot", lab_pb2.DeleteSnapshotRequest(request_id=new_id(), name=name))


@rule("R45.4", "Clearing mends the named tiles alone, and ends their retirement.", "lab.faults", "diagnose", "program")
def mends_what_is_named(bench: Bench) -> None:
    broken = _placed(bench)
    if len(broken) < 2:
        raise NotApplicable("the probe lies on one tile here")
    with _mended(bench, list(broken)):
        _inject(bench, broken)
        expect_equal("retired tiles", set(broken), set(broken) & set(_diagnose(bench).retired_tiles))
        _mend(bench, broken[:1])
        left = {lab_pb2.Fault.FromString(data).tile for data in _listed(bench)} & set(broken)
        expect_equal("tiles with faults", set(broken[1:]), left)
        again = _diagnose(bench)
        expect_equal("retired tiles of the probe", set(broken[1:]), set(broken) & set(again.retired_tiles))


@rule("R45.5", "Injecting again with its request id injects nothing.", "lab.faults")
def injects_once(bench: Bench) -> None:
    broken = _placed(bench)[:1]
    with _mended(bench, broken):
        request = lab_pb2.InjectFaultsRequest(request_id=new_id(), faults=[lab_pb2.Fault(kind=LOST, tile=broken[0])])
        first = bench.wire.call("InjectFaults", request)
        known = _listed(bench)
        expect_equal("reply to the repetition", first, bench.wire.call("InjectFaults", request))
        expect_equal("faults after the repetition", known, _listed(bench))
