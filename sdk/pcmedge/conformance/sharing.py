"""Many clients at once: everybody gets his own answer, and short calls are answered beside streams."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench, answer, infer_request
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule
from pcmedge.conformance.wire import Refused

_CLIENTS, _REQUESTS, _STREAMS = 16, 160, 40
_ARRIVING_S = 0.5


@rule(
    "R27.2", "Watching telemetry and events does not end by itself.", "telemetry.watch", "events.watch", changes=False
)
def goes_on(bench: Bench) -> None:
    for call, request in (
        ("WatchTelemetry", device_pb2.WatchTelemetryRequest(interval_s=0.1)),
        ("WatchEvents", device_pb2.WatchEventsRequest()),
    ):
        try:
            bench.wire.stream(call, request, timeout_s=0.5)
        except Refused as refused:
            expect_equal(f"code that ends {call}", "DEADLINE_EXCEEDED", refused.refusal.code)
        else:
            expect(False, f"{call} to go on", "the end of the stream")


@rule("R28.1", "Short calls are answered however many streams are open; a stream too many is BUSY.", "telemetry.watch")
def answers_beside_streams(bench: Bench) -> None:
    streams = [
        bench.wire.open("WatchTelemetry", device_pb2.WatchTelemetryRequest(interval_s=5.0)) for _ in range(_STREAMS)
    ]
    try:
        # Streams need a moment to arrive.
        until_s = time.monotonic() + _ARRIVING_S
        while time.monotonic() < until_s:
            found = bench.wire.call("GetIdentity", device_pb2.GetIdentityRequest())
            expect_equal("serial", bench.identity.serial, found.serial)
            time.sleep(0.05)
        for stream in streams:
            try:
                next(iter(stream))
            except grpc.RpcError as error:
                expect_equal("code of a stream too many", "RESOURCE_EXHAUSTED", error.code().name)
    finally:
        for stream in streams:
            stream.cancel()


@rule("R29.1", "Requests of many clients are all answered, or refused with BUSY.", "infer")
def answers_everybody(bench: Bench) -> None:
    bench.ready()
    _ask_all(bench)


@rule("R31.1", "Each request is answered with its own rows, whoever shares its batch.", "infer")
def keeps_rows_apart(bench: Bench) -> None:
    bench.ready()
    answers = _ask_all(bench)
    right = sum(found == number % probe.CLASSES for number, found in answers.items())
    expect(right >= 0.875 * len(answers), "each of many requests at a time to get its own answer",
           f"{right} of {len(answers)} did")  # fmt: skip


@rule("R31.2", "A request that is wrong fails alone, not those beside it.", "infer")
def fails_alone(bench: Bench) -> None:
    bench.ready()
    wrong = infer_request(probe.samples(1)[:, :3])

    def ask(number: int) -> str:
        if number % 4 == 0:
            refusal = bench.wire.refusal("ModelInfer", wrong)
            return "" if refusal is not None and refusal.reason in ("INPUT_SHAPE", "BUSY") else f"wrong: {refusal}"
        refusal = bench.wire.refusal("ModelInfer", infer_request(probe.samples(1)))
        return "" if refusal is None or refusal.reason == "BUSY" else f"right: {refusal}"

    with ThreadPoolExecutor(_CLIENTS) as pool:
        failures = [text for text in pool.map(ask, range(_REQUESTS)) if text]
    expect(not failures, "right requests answered and wrong ones INPUT_SHAPE", failures[0] if failures else "")


@rule("R31.3", "ModelStatistics counts samples, runs and failures of the model.", "infer")
def counts_what_it_does(bench: Bench) -> None:
    bench.ready()
    before = _statistics(bench)
    for count in (1, 2, 5):
        bench.infer(count)
    with contextlib.suppress(Refused):
        bench.wire.call("ModelInfer", infer_request(probe.samples(1)[:, :3]))
    after = _statistics(bench)
    expect_equal("samples counted", before.inference_count + 8, after.inference_count)
    runs = after.execution_count - before.execution_count
    expect(1 <= runs <= 3, "1 to 3 runs for three requests", runs)
    expect_equal("successes counted", before.inference_stats.success.count + 3, after.inference_stats.success.count)
    expect_equal("failures counted", before.inference_stats.fail.count + 1, after.inference_stats.fail.count)


def _statistics(bench: Bench) -> inference_pb2.ModelStatistics:
    reply = bench.wire.call("ModelStatistics", inference_pb2.ModelStatisticsRequest(name=probe.NAME))
    expect_equal("models in ModelStatistics", [probe.NAME], [each.name for each in reply.model_stats])
    found: inference_pb2.ModelStatistics = reply.model_stats[0]
    return found


def _ask_all(bench: Bench) -> dict[int, int]:
    """Class answered per request, of those that were not BUSY."""
    samples = probe.samples(probe.CLASSES)

    def ask(number: int) -> tuple[int, int | None, str]:
        try:
            row = number % probe.CLASSES
            reply = bench.wire.call("ModelInfer", infer_request(samples[row : row + 1], request_id=str(number)))
        except Refused as refused:
            return number, None, "" if refused.refusal.reason == "BUSY" else str(refused)
        return number, int(answer(reply).outputs.argmax()), "" if reply.id == str(number) else f"id {reply.id}"

    with ThreadPoolExecutor(_CLIENTS) as pool:
        asked = list(pool.map(ask, range(_REQUESTS)))
    failures = [text for _, _, text in asked if text]
    expect(not failures, "every request answered under its id, or BUSY", failures[0] if failures else "")
    answers = {number: found for number, found, _ in asked if found is not None}
    expect(len(answers) >= _REQUESTS // 2, f"answers to most of {_REQUESTS} requests", f"{len(answers)} answers")
    return answers


_CROWD = 64
_LASTING_S, _MOST_SAMPLES = 0.02, 16384


def _lasting(bench: Bench) -> int:
    """Samples of a request that takes the device a while, so that others wait for it."""
    count = 256
    while count < _MOST_SAMPLES:
        started_s = time.monotonic()
        bench.infer(count)
        if time.monotonic() - started_s > _LASTING_S:
            break
        count *= 2
    return count


@rule("R29.2", "Who finds the queue full is told how many may wait, and counted as rejected.", "infer", "telemetry")
def counts_rejections(bench: Bench) -> None:
    bench.ready()
    before = bench.wire.call("GetTelemetry", device_pb2.GetTelemetryRequest()).requests_rejected
    request = infer_request(probe.samples(_lasting(bench)))
    with ThreadPoolExecutor(_CROWD) as pool:
        refusals = list(pool.map(lambda _: bench.wire.refusal("ModelInfer", request), range(_CROWD)))
    busy = [found for found in refusals if found is not None and found.reason == "BUSY"]
    if not busy:
        raise NotApplicable(f"{_CROWD} requests at a time do not fill the device's queue")
    for found in busy:
        bound = found.metadata.get("max_queue_size", "")
        expect(bound.isdecimal(), "max_queue_size in the metadata of BUSY", dict(found.metadata))
    after = bench.wire.call("GetTelemetry", device_pb2.GetTelemetryRequest()).requests_rejected
    expect_equal("requests_rejected", before + len(busy), after)


@rule("R31.4", "ModelStatistics tells runs by their samples, and the time requests waited.", "infer")
def tells_of_batches(bench: Bench) -> None:
    bench.ready()
    before = _statistics(bench)
    for count in (1, 2, 5):
        bench.infer(count)
    after = _statistics(bench)
    runs = {each.batch_size: each.compute_infer.count for each in after.batch_stats}
    for each in before.batch_stats:
        runs[each.batch_size] = runs.get(each.batch_size, 0) - each.compute_infer.count
    executed = after.execution_count - before.execution_count
    expect_equal("runs in batch_stats", executed, sum(runs.values()))
    samples = after.inference_count - before.inference_count
    expect_equal("samples in batch_stats", samples, sum(size * number for size, number in runs.items()))
    expect_equal("requests whose time in the queue is told", before.inference_stats.queue.count + 3,
                 after.inference_stats.queue.count)  # fmt: skip
