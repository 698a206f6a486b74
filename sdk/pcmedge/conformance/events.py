"""The journal: one event for every change, numbered without gaps, listed and followed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import SECOND, Bench, new_id, program_requests
from pcmedge.conformance.expecting import expect, expect_equal
from pcmedge.conformance.rules import rule


def events_after(bench: Bench, sequence: int, limit: int = 0) -> list[device_pb2.Event]:
    request = device_pb2.ListEventsRequest(after_sequence=sequence, limit=limit)
    return list(bench.wire.call("ListEvents", request).events)


def last_sequence(bench: Bench) -> int:
    found, sequence = events_after(bench, 0), 0
    while found:
        sequence = found[-1].sequence
        found = events_after(bench, sequence)
    return sequence


@rule("R35.1", "Every committed change is an event of its kind, with the model's name.", "events", "images")
def writes_everything_down(bench: Bench) -> None:
    bench.fresh()
    changes: list[tuple[str, Callable[[], object], str]] = [
        ("programmed", lambda: bench.program(bench.image(1, SECOND)), SECOND),
        ("deactivated", lambda: bench.set_active(False, SECOND), SECOND),
        ("activated", lambda: bench.set_active(True, SECOND), SECOND),
        ("erased", lambda: bench.erase(SECOND), SECOND),
    ]
    if "recalibrate.gdc" in bench.capabilities:
        changes.append(("recalibrated", lambda: bench.recalibrate("GDC", force=True), probe.NAME))
        if "rollback" in bench.capabilities:
            changes.append(("rolled-back", bench.rollback, probe.NAME))
    if "buffer" in bench.capabilities:
        changes.append(("buffer-changed", lambda: bench.buffer(probe.samples(8)), probe.NAME))
    if "policy.interval" in bench.capabilities:
        changes.append(("policy-changed", bench.manual, probe.NAME))
    for kind, change, model in changes:
        before = last_sequence(bench)
        change()
        found = [(event.kind, event.model_name) for event in events_after(bench, before)]
        expect((kind, model) in found, f"an event {kind!r} of {model!r}", found)


@rule("R35.2", "Sequence numbers grow by one, times do not run backwards.", "events")
def numbers_without_gaps(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(2))
    found = events_after(bench, 0)
    for before, after in itertools.pairwise(found):
        expect_equal("sequence", before.sequence + 1, after.sequence)
        expect(after.device_time_s >= before.device_time_s, f"device time {before.device_time_s} or later",
               after.device_time_s)  # fmt: skip


@rule("R35.3", "Events are listed after a number, oldest first, at most as many as asked for.", "events")
def lists_pages(bench: Bench) -> None:
    bench.fresh()
    before = last_sequence(bench)
    for number in (2, 1, 2):
        bench.program(bench.image(number))
    page = events_after(bench, before, limit=2)
    expect_equal("sequence of the page", [before + 1, before + 2], [event.sequence for event in page])
    rest = events_after(bench, before + 2)
    expect(bool(rest) and rest[0].sequence == before + 3, f"event {before + 3} next", rest[:1])
    expect_equal("events after the last", [], events_after(bench, last_sequence(bench)))


@rule(
    "R35.4", "A follower gets what is there after its number, then what comes, each once and in order.", "events.watch"
)
def is_followed(bench: Bench) -> None:
    bench.fresh()
    before = last_sequence(bench)
    bench.program(bench.image(2))

    def program_later() -> None:
        time.sleep(0.3)
        bench.program(bench.image())

    found: list[device_pb2.Event] = []
    request = device_pb2.WatchEventsRequest(after_sequence=before)
    # A check that fails leaves nothing behind that would still change the device.
    with ThreadPoolExecutor(1) as pool:
        programmed = pool.submit(program_later)
        for event in bench.wire.messages("WatchEvents", request, timeout_s=60.0):
            found.append(event)
            expect_equal("sequence followed", before + len(found), event.sequence)
            if sum(each.kind == "programmed" for each in found) == 2:
                break
        programmed.result()


@rule("R35.5", "What changed nothing is no event of a change.", "events")
def writes_nothing_else_down(bench: Bench) -> None:
    bench.fresh()
    before = last_sequence(bench)
    bench.infer(4)
    bench.wire.refusal("Program", program_requests(bench.image(2), digest=bytes(32)))
    kinds = {event.kind for event in events_after(bench, before)}
    told = kinds & {"programmed", "activated", "erased", "recalibrated", "rolled-back"}
    expect(not told, "no event of a change", sorted(told))


@rule("R35.6", "An image that is refused after it arrived is no event of a change.", "events", "program")
def writes_no_refusals_down(bench: Bench) -> None:
    bench.fresh()
    before = last_sequence(bench)
    other = probe.profiled(bench.image(2), lambda profile: setattr(profile, "tile_rows", profile.tile_rows + 1))
    bench.wire.refused("IMAGE_PROFILE_MISMATCH", "Program", program_requests(other), "another profile")
    kinds = [event.kind for event in events_after(bench, before)]
    expect("programmed" not in kinds, "no event 'programmed'", kinds)


@rule("R35.7", "Repeating a request id writes no event: there was one change.", "events", "images")
def writes_changes_once(bench: Bench) -> None:
    bench.fresh()
    same, undone = new_id(), new_id()
    bench.set_active(False, request_id=same)
    repeated: list[Callable[[], object]] = [lambda: bench.set_active(False, request_id=same)]
    if "rollback" in bench.capabilities and "recalibrate.gdc" in bench.capabilities:
        bench.recalibrate("GDC", force=True)
        bench.rollback(request_id=undone)
        repeated.append(lambda: bench.rollback(request_id=undone))
    before = last_sequence(bench)
    for change in repeated:
        change()
    expect_equal("events of repeated calls", [], [event.kind for event in events_after(bench, before)])


@rule("R35.8", "Sequence numbers grow by one over a restart too.", "events", restarts=True)
def numbers_on(bench: Bench) -> None:
    bench.fresh()
    before = last_sequence(bench)
    bench.restart()
    bench.program(bench.image(2))
    found = [event.sequence for event in events_after(bench, before - 1)]
    expect_equal("sequence over a restart", list(range(before, before + len(found))), found)
    expect(len(found) >= 3, "events of the restart and of what came after it", found)
