"""What requests get: all of a recalibration at once, nothing that harms, and what the self-test says about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcmedge._contract import device_pb2, lab_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.ages import let_time_pass
from pcmedge.conformance.bench import Bench, new_id
from pcmedge.conformance.expecting import NotApplicable, expect, expect_equal
from pcmedge.conformance.rules import rule

_NEEDS = ("self-test", "recalibrate.adabs", "buffer")


def _spoil(bench: Bench, *, force: bool) -> Any:
    """Recalibrates on samples of one class alone, whose statistics make that class lose; the result."""
    bench.buffer(np.ascontiguousarray(probe.samples(256)[:: probe.CLASSES]))
    return bench.recalibrate("ADABS", force=force)


def _tested(bench: Bench) -> device_pb2.SelfTestResult:
    found: device_pb2.SelfTestResult = bench.wire.call("SelfTest", device_pb2.SelfTestRequest(model_name=probe.NAME))
    return found


def _harm(bench: Bench) -> tuple[float, float]:
    """Agreement of the self-test as programmed, and with spoilt statistics in force. NotApplicable if none is lost."""
    bench.fresh()
    good = _tested(bench).agreement
    if not _spoil(bench, force=True).committed:
        raise NotApplicable("the device refuses statistics of one class alone, even when it is forced to take them")
    share = float((bench.infer(64).outputs.argmax(axis=1) == probe.classes(64)).mean())
    if share > 0.9:
        raise NotApplicable(f"statistics of one class alone leave {share:.0%} of the answers right")
    return good, share


@rule(
    "R17.5", "The first reply of a statistics generation is computed as all later ones are.",
    "lab.noise", "lab.clock", "recalibrate.gdc",
)  # fmt: skip
def takes_effect_at_once(bench: Bench) -> None:
    bench.fresh()
    noisy = bench.infer(1).noise
    bench.wire.call("SetNoise", lab_pb2.SetNoiseRequest(request_id=new_id(), read_noise_per_mvm="off"))
    try:
        let_time_pass(bench, 1e7)
        bench.infer(16)
        bench.recalibrate("GDC", force=True)
        first, *later = (bench.infer(16) for _ in range(3))
        for found in later:
            if found.age_s == first.age_s:
                same = np.allclose(first.outputs, found.outputs, rtol=1e-4, atol=1e-6)
                expect(bool(same), "the first outputs after a commit, without noise, to be those of later replies",
                       f"up to {np.abs(first.outputs - found.outputs).max():.3g} apart")  # fmt: skip
    finally:
        was = "additive" if noisy else "off"
        bench.wire.call("SetNoise", lab_pb2.SetNoiseRequest(request_id=new_id(), read_noise_per_mvm=was))


@rule("R18.7", "Statistics with which self-test agreement would fall are not committed unless forced.", *_NEEDS)
def takes_no_harm(bench: Bench) -> None:
    good, _ = _harm(bench)
    bench.fresh()
    result = _spoil(bench, force=False)
    found = _tested(bench).agreement
    expect(not result.committed or found >= good, f"a refusal, or a self-test's agreement of {good:.3f} or more",
           f"a commit, and {found:.3f}")  # fmt: skip


@rule("R41.2", "The self-test tests the statistics in force: its agreement falls when answers are wrong.", *_NEEDS)
def tests_what_is_served(bench: Bench) -> None:
    good, share = _harm(bench)
    found = _tested(bench)
    expect(found.agreement < good, f"an agreement below {good:.3f} while {share:.0%} of the answers are right",
           found.agreement)  # fmt: skip
    expect_equal("passed, as agreement and threshold say,", found.agreement >= found.threshold, found.passed)


@rule("R41.3", "A self-test below its threshold does not pass.", "policy.self-test-trigger", *_NEEDS)
def fails_below_its_threshold(bench: Bench) -> None:
    _harm(bench)
    policy = device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_MANUAL, agreement_threshold=1.0)
    bench.wire.call("SetRecalibrationPolicy", bench.policy_request(policy))
    found = _tested(bench)
    expect_equal("threshold, as the policy has it,", 1.0, found.threshold)
    expect_equal("passed with wrong answers", False, found.passed)
