"""What a restart, or a power cut, leaves: everything that was committed, and nothing that lives in memory."""

from __future__ import annotations

from pcmedge._contract import device_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.ages import let_time_pass
from pcmedge.conformance.bench import SECOND, Bench, buffer_requests, mutation, new_id, program_requests
from pcmedge.conformance.buffers import statistics
from pcmedge.conformance.events import events_after, last_sequence
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.recalibration import APART, adapt
from pcmedge.conformance.rules import rule


@rule("R38.2", "Images, which of them are active, and program generations survive a restart.", "images", restarts=True)
def keeps_images(bench: Bench) -> None:
    bench.fresh()
    bench.program(bench.image(2, SECOND), keep_inactive=True)
    before = bench.residents()
    answered = bench.infer(16).outputs.argmax(axis=1).tolist()
    bench.restart()
    after = bench.residents()
    expect_equal("resident models", sorted(before), sorted(after))
    for name, image in before.items():
        now = after[name]
        for field in ("image_sha256", "active", "tiles", "program_generation", "statistics_generation"):
            expect_equal(f"{field} of {name}", getattr(image, field), getattr(now, field))
    expect_equal("answers", answered, bench.infer(16).outputs.argmax(axis=1).tolist())
    expect_equal("next program generation", 1 + max(image.program_generation for image in before.values()),
                 bench.program(bench.image()).image.program_generation)  # fmt: skip


@rule(
    "R38.3", "Statistics, the ones before them, and the calibration buffer survive a restart.",
    "recalibrate.adabs", "buffer", "rollback", restarts=True,
)  # fmt: skip
def keeps_statistics(bench: Bench) -> None:
    bench.fresh()
    programmed = bench.level()
    generation, adapted = adapt(bench, 0.5)
    buffer = bench.described()
    bench.restart()
    expect_equal("statistics generation", generation, bench.infer().statistics_generation)
    found = bench.level()
    expect(1 / APART < found / adapted < APART, f"a winning output of about {adapted:.3g}", f"{found:.3g}")
    expect_equal("buffer", buffer.SerializeToString(), bench.described().SerializeToString())
    bench.rollback()
    found = bench.level()
    expect(1 / APART < found / programmed < APART, f"a winning output of about {programmed:.3g} after a rollback",
           f"{found:.3g}")  # fmt: skip


@rule("R7.14", "A request id is remembered over a restart.", "program", restarts=True)
def remembers_request_ids(bench: Bench) -> None:
    bench.fresh()
    carried = mutation()
    first = bench.program(bench.image(2), carried=carried).image.program_generation
    same = new_id()
    bench.set_active(False, request_id=same)
    bench.set_active(True)
    bench.restart()
    again = bench.wire.stream("Program", program_requests(bench.image(2), carried=carried))[-1].program
    expect_equal("program generation of the repeated call", first, again.image.program_generation)
    expect_equal("program generation on the device", first, bench.must_be_resident().program_generation)
    bench.set_active(False, request_id=same)
    expect(bench.must_be_resident().active, "a repeated request id to do nothing after a restart", "a second execution")


@rule("R38.4", "A model's age does not run backwards over a restart.", "infer", restarts=True)
def keeps_its_age(bench: Bench) -> None:
    bench.fresh()
    let_time_pass(bench)
    before_s = max(bench.infer(1).age_s, bench.must_be_resident().age_s)
    bench.restart()
    after_s = bench.must_be_resident().age_s
    expect(after_s >= before_s, f"an age of {before_s:.3f} s or more", f"{after_s:.3f} s")


@rule("R38.5", "The journal survives a restart, tells of it, and its numbers go on.", "events", restarts=True)
def keeps_its_journal(bench: Bench) -> None:
    bench.fresh()
    before = [(event.sequence, event.kind) for event in events_after(bench, max(0, last_sequence(bench) - 20))]
    bench.restart()
    after = [(event.sequence, event.kind) for event in events_after(bench, before[0][0] - 1)]
    expect_equal("events before the restart:", before, after[: len(before)])
    expect("started" in [kind for _, kind in after[len(before) :]], "an event 'started'", after[len(before) :])


@rule("R38.6", "A lease does not survive a restart.", "lease", restarts=True)
def loses_leases(bench: Bench) -> None:
    bench.fresh()
    lease = bench.lease(3000.0)
    bench.restart()
    bench.set_active(True)
    carried = mutation(lease_id=lease.lease_id)
    request = device_pb2.ActivateImageRequest(mutation=carried, model_name=probe.NAME)
    bench.wire.refused("LEASE_HELD", "ActivateImage", request, "a lease of before the restart")


@rule("R38.7", "Recalibration policies survive a restart.", restarts=True)
def keeps_policies(bench: Bench) -> None:
    if "policy.interval" not in bench.capabilities:
        raise NotApplicable("the device does not list policy.interval")
    bench.fresh()
    policy = device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_INTERVAL, interval_s=1e8)
    bench.wire.call("SetRecalibrationPolicy", bench.policy_request(policy))
    bench.restart()
    request = device_pb2.GetRecalibrationPolicyRequest(model_name=probe.NAME)
    found = bench.wire.call("GetRecalibrationPolicy", request)
    expect_equal("policy", (policy.kind, policy.interval_s), (found.kind, found.interval_s))


@rule(
    "R38.8", "The statistics that came with a calibration buffer survive a restart.", "buffer.statistics", restarts=True
)
def keeps_what_came_with_samples(bench: Bench) -> None:
    image = bench.fresh().image_sha256
    bench.used()
    request = buffer_requests(probe.samples(64), statistics(image))
    before = bench.wire.call("ReplaceCalibrationBuffer", request)
    bench.restart()
    expect_equal("buffer", before.SerializeToString(), bench.described().SerializeToString())


@rule(
    "R38.9", "Program generations go on after a restart, though the newest image was erased.", "images", restarts=True
)
def gives_no_generation_twice(bench: Bench) -> None:
    bench.fresh()
    newest = bench.program(bench.image(1, SECOND)).image.program_generation
    bench.erase(SECOND)
    bench.restart()
    found = bench.program(bench.image(1, SECOND)).image.program_generation
    bench.erase(SECOND)
    expect_equal("program generation", newest + 1, found)
