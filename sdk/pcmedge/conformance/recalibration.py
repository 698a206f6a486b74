"""Recalibration: beside serving, from one consistent set, committed only if it does not harm."""

from __future__ import annotations

import threading

import numpy as np

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.bench import Answer, Bench, answer, infer_request, right
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule

METHODS = {
    "recalibrate.gdc": "GDC",
    "recalibrate.gdc-per-column": "GDC_PER_COLUMN",
    "recalibrate.adabs": "ADABS",
    "recalibrate.paired": "ADABS_PAIRED",
}
APART = 1.35
"""Two sets of statistics are told from each other by winning outputs at least this factor apart."""


def adapt(bench: Bench, brightness: float, offset: float = 0.0) -> tuple[int, float]:
    """Statistics of a calibration buffer of another brightness, committed: (generation, winning output after it).

    Half as bright makes the winning output about twice as large, an offset makes it smaller.
    """
    bench.buffer(probe.samples(64, brightness, offset))
    result = bench.recalibrate("ADABS", force=True)
    expect(result.committed, "a forced recalibration to be committed", f"a refusal: {result.refusal}")
    return result.statistics_generation, bench.level()


@rule("R17.1", "The reply's statistics generation is that of the last committed recalibration.", "recalibrate.gdc")
def tells_its_statistics(bench: Bench) -> None:
    bench.fresh()
    for _ in range(2):
        result = bench.recalibrate("GDC", force=True)
        expect_equal("statistics generation", result.statistics_generation, bench.infer().statistics_generation)


@rule(
    "R17.2", "From a commit on, replies are computed with the new statistics, not with those before.",
    "recalibrate.adabs", "buffer",
)  # fmt: skip
def uses_new_statistics(bench: Bench) -> None:
    bench.fresh()
    before = bench.level()
    generation, after = adapt(bench, 0.5)
    expect(after > APART * before, f"a winning output above {APART * before:.3g} with statistics of darker samples",
           f"{after:.3g}; with the statistics before it was {before:.3g}")  # fmt: skip
    expect_equal("statistics generation of the reply", generation, bench.infer().statistics_generation)
    generation, small = adapt(bench, 1.0, 0.3)
    expect(small < before / APART, f"a winning output below {before / APART:.3g} with statistics of brighter samples",
           f"{small:.3g}")  # fmt: skip
    expect_equal("statistics generation of the reply", generation, bench.infer().statistics_generation)


@rule(
    "R17.3", "A request during recalibration is answered, all of its rows from one set, the one its reply names.",
    "recalibrate.adabs", "buffer",
)  # fmt: skip
def never_mixes_statistics(bench: Bench) -> None:
    first = bench.fresh().statistics_generation
    levels = {first: bench.level()}
    answers: list[Answer] = []
    settled: list[Answer] = []
    failures: list[str] = []
    stop = threading.Event()
    request = infer_request(np.repeat(probe.samples(1), 64, axis=0))

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(answer(bench.wire.call("ModelInfer", request)))
            except Exception as error:
                failures.append(str(error))
                return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for brightness, offset in ((0.5, 0.0), (1.0, 0.3), (0.5, 0.0)):
            generation, levels[generation] = adapt(bench, brightness, offset)
            settled.append(answer(bench.wire.call("ModelInfer", request)))
    finally:
        stop.set()
        asking.join()
    expect(not failures, "every request answered during recalibration", failures[0] if failures else "")
    last = 0
    for number, found in enumerate([*answers, *settled]):
        last = 0 if number == len(answers) else last
        generation, rows = found.statistics_generation, found.outputs[:, 0]
        expect(generation in levels and generation >= last, f"a statistics generation of {sorted(levels)}, in order",
               f"{generation} after {last}")  # fmt: skip
        last = generation
        typical = float(np.median(rows))
        spread = max(float(rows.max()) / max(typical, 1e-6), typical / max(float(rows.min()), 1e-6))
        expect(spread < APART, "equal samples of one request to have about equal outputs",
               f"{rows.min():.3g} to {rows.max():.3g}")  # fmt: skip
        ratio = typical / levels[generation]
        expect(1 / APART < ratio < APART, f"outputs of statistics generation {generation}",
               f"{ratio:.2f} times as large as those")  # fmt: skip


@rule("R17.4", "Recalibrating does not change age or program generation.", "recalibrate.gdc")
def is_no_programming(bench: Bench) -> None:
    image = bench.fresh()
    age_s = bench.infer().age_s
    bench.recalibrate("GDC", force=True)
    found = bench.infer()
    expect_equal("program generation", image.program_generation, found.program_generation)
    expect(found.age_s >= age_s, f"an age of {age_s} s or more", found.age_s)


@rule("R18.1", "Every method the device lists is carried out, or refused with a result that says why.")
def has_its_methods(bench: Bench) -> None:
    listed = [method for capability, method in METHODS.items() if capability in bench.capabilities]
    if not listed:
        raise NotApplicable("the device lists no method of recalibration")
    for method in listed:
        before = bench.fresh().statistics_generation
        result = bench.recalibrate(method)
        expect_equal("the method of the result:", f"RECALIBRATION_METHOD_{method}",
                     device_pb2.RecalibrationMethod.Name(result.method))  # fmt: skip
        expect(result.committed or bool(result.refusal), "a refusal that says why", f"none, for {method}")
        expect_equal("statistics generation", before + bool(result.committed), result.statistics_generation)
        expect(right(bench.infer(16).outputs), f"right answers after {method}", "others")


@rule("R18.2", "A method the device does not list is refused, and nothing changes.", "program")
def refuses_other_methods(bench: Bench) -> None:
    bench.fresh()
    absent = [method for capability, method in METHODS.items() if capability not in bench.capabilities]
    if not absent:
        raise NotApplicable("the device lists every method")
    before = bench.standing()
    for method in absent:
        reasons = ("UNIMPLEMENTED", "INPUT_VALUE")
        bench.wire.refused(reasons, "Recalibrate", bench.recalibrate_request(method), f"{method}, which is not listed")
    bench.unchanged(before, "methods that are not listed")


@rule("R18.3", "A committed recalibration that was not forced has not let self-test agreement fall.", "self-test")
def does_no_harm(bench: Bench) -> None:
    if "recalibrate.adabs" not in bench.capabilities or "buffer" not in bench.capabilities:
        raise NotApplicable("without recalibrate.adabs and buffer nothing bad can be proposed")
    bench.fresh()
    for brightness, offset in ((0.2, 0.0), (1.0, 0.3), (0.0, 0.5)):
        bench.buffer(probe.samples(64, brightness, offset))
        result = bench.recalibrate("ADABS")
        worse = result.agreement_after < result.agreement_before
        expect(not (result.committed and worse), f"agreement of {result.agreement_before:.3f} or more, or a refusal",
               f"{result.agreement_after:.3f}, committed")  # fmt: skip


@rule(
    "R18.4", "A refusal is a result: the old statistics stand, and the journal has it.",
    "recalibrate.adabs", "buffer", "self-test",
)  # fmt: skip
def keeps_what_stands(bench: Bench) -> None:
    bench.fresh()
    # The same value everywhere: no variance, from which nobody can take statistics.
    bench.buffer(probe.samples(64, 0.0, 0.5))
    before, was = bench.standing(), bench.level()
    result = bench.recalibrate("ADABS")
    if result.committed:
        raise NotApplicable("the device's guard commits statistics of a buffer without any variance")
    expect(bool(result.refusal), "a refusal that says why", "an empty one")
    bench.unchanged(before, "a refused recalibration")
    expect(1 / APART < bench.level() / was < APART, f"a winning output of about {was:.3g}", f"{bench.level():.3g}")
    if "events" in bench.capabilities:
        events = bench.wire.call("ListEvents", device_pb2.ListEventsRequest(limit=4096)).events
        kinds = [event.kind for event in events if event.model_name == probe.NAME]
        expect_equal("last event of the model", "recalibration-refused", kinds[-1] if kinds else "none")


@rule("R18.5", "A recalibration's result says at which age and on how many samples it was measured.", "recalibrate.gdc")
def reports_what_it_did(bench: Bench) -> None:
    bench.fresh()
    result = bench.recalibrate("GDC", force=True)
    expect(result.age_s >= 0 and result.duration_s >= 0, "an age and a duration", (result.age_s, result.duration_s))
    expect(result.median_drift_factor > 0, "a median drift factor above 0", result.median_drift_factor)


@rule("R18.6", "A recalibration of an unknown model, or by an unknown method, is refused.", "recalibrate.gdc")
def checks_what_is_asked(bench: Bench) -> None:
    bench.ready()
    nowhere = bench.recalibrate_request("GDC", model_name="pcmedge-conformance-nowhere")
    bench.wire.refused("MODEL_NOT_FOUND", "Recalibrate", nowhere, "an unknown model")
    unknown = device_pb2.RecalibrateRequest(model_name=probe.NAME, method=77)  # type: ignore[arg-type]
    bench.wire.refused("INPUT_VALUE", "Recalibrate", unknown, "an unknown method")


@rule("R40.1", "A recalibration policy is read back as it was set.")
def keeps_policies(bench: Bench) -> None:
    kinds = {
        "policy.interval": device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=1e8),
        "policy.log-time": device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_LOG_TIME, log_time_ratio=1e6),
        "policy.drift": device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_DRIFT, drift_threshold=0.9),
        "policy.self-test": device_pb2.RecalibrationPolicy(
            kind=device_pb2.POLICY_KIND_SELF_TEST, agreement_threshold=0.01
        ),
    }
    listed = {name: policy for name, policy in kinds.items() if name in bench.capabilities}
    if not listed:
        raise NotApplicable("the device lists no policy")
    bench.fresh()
    bench.used()
    for policy in listed.values():
        policy.method = device_pb2.RECALIBRATION_METHOD_GDC
        bench.wire.call("SetRecalibrationPolicy", bench.policy_request(policy))
        found = _policy(bench)
        for field, value in policy.ListFields():
            expect_equal(f"{field.name} of the policy", value, getattr(found, field.name))


def _policy(bench: Bench) -> device_pb2.RecalibrationPolicy:
    request = device_pb2.GetRecalibrationPolicyRequest(model_name=probe.NAME)
    found: device_pb2.RecalibrationPolicy = bench.wire.call("GetRecalibrationPolicy", request)
    return found


@rule("R40.2", "A policy with impossible figures is INPUT_VALUE, and the one before stands.", "policy.interval")
def refuses_impossible_policies(bench: Bench) -> None:
    bench.fresh()
    before = _policy(bench).kind
    for policy in (
        device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=-1.0),
        device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=float("nan")),
        device_pb2.RecalibrationPolicy(),
    ):
        bench.wire.refused("INPUT_VALUE", "SetRecalibrationPolicy", bench.policy_request(policy), f"policy {policy}")
        expect_equal("kind of policy", before, _policy(bench).kind)


@rule("R41.1", "The self-test of a freshly programmed image passes; its figures are shares.", "self-test")
def tests_itself(bench: Bench) -> None:
    bench.fresh()
    found = bench.wire.call("SelfTest", device_pb2.SelfTestRequest(model_name=probe.NAME))
    expect(0 <= found.agreement <= 1 and found.reference_inputs > 0, "an agreement of 0 to 1", found)
    expect_equal("passed, as agreement and threshold say,", found.agreement >= found.threshold, found.passed)
    expect(found.agreement >= 0.875, "an agreement of 0.875 or more right after programming", found.agreement)
