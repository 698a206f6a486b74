"""The long runs in short: load with recalibrations, a soak, a fuzz of every call, and that each of them can fail.

The full ones are ``python -m tests.soak.load``, ``.soak`` and ``.fuzz`` (docs/results).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_process import killed_in_the_end
from soak import fuzz, load, soak, verdict, wire
from soak.consistency import judge
from soak.device_process import served
from soak.habits import PAUSES
from soak.vitals import Vitals, growth


def test_recalibrations_under_load_fail_no_request_and_mix_no_statistics() -> None:
    # A slow machine is given longer for as much.
    for seconds in (2.0, 6.0, 18.0):
        outcome = load.run(load.Plan(seconds=seconds, block_s=seconds, every_s=seconds / 4))
        found, misses = outcome.consistency, outcome.misses(limit=None)
        assert [miss for miss in misses if "recalibrations were made" not in miss] == []
        if not misses and found.generations > 2 and found.compared > max(100, 0.9 * found.answers):
            break
    assert misses == []
    assert found.answers > 100
    assert found.generations > 2
    # Nearly every answer has others to be compared with.
    assert found.compared > 0.9 * found.answers


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """40 answers from four generations, of two samples given twice; even generations say 1, odd ones say 2."""
    statistics = np.repeat(np.arange(4), 10)
    named = np.stack([np.ones(40), statistics, np.full(40, 3.0)], axis=1)
    values = np.where(statistics % 2 == 0, 1.0, 2.0) + 0.01 * statistics
    return named, np.broadcast_to(values[:, None, None], (40, 4, 3)).astype(np.float32).copy()


SIDES = {0: 1, 1: -1, 2: 1, 3: -1}


def test_answers_from_one_set_each_are_consistent(answers: tuple[np.ndarray, np.ndarray]) -> None:
    found = judge(*answers, SIDES, repeats=2)
    assert (found.mixed, found.wrong_set, found.groups, found.compared) == (0, 0, 4, 40)
    assert found.margin > 0.9


@pytest.mark.parametrize("samples", [slice(3, 4), slice(0, 2), slice(0, 4)])
def test_an_answer_with_samples_of_another_generation_is_found(
    answers: tuple[np.ndarray, np.ndarray], samples: slice
) -> None:
    named, outputs = answers
    outputs[5, samples] = outputs[15, samples]
    assert judge(named, outputs, SIDES, repeats=2).mixed == 1


def test_a_generation_computed_from_the_other_buffer_is_found(answers: tuple[np.ndarray, np.ndarray]) -> None:
    named, outputs = answers
    outputs[30:] = outputs[0]
    assert judge(named, outputs, SIDES, repeats=2).wrong_set == 10


def test_mixed_load_leaves_no_thread_and_no_descriptor_and_fails_nothing_untyped() -> None:
    # A slow machine is given longer for as much.
    for seconds in (5.0, 25.0):
        plan = soak.Plan(seconds=seconds, warm_up_s=4.0, every_s=0.25, rest_s=1.0, fill=64, pace=0.5, large=False)
        outcome = soak.run(plan)
        # How memory grows is for twenty minutes to say, and so is how many threads of the pool were ever busy at once.
        assert [miss for miss in outcome.misses if "grew by" not in miss and "threads with" not in miss] == []
        before, after = outcome.at_rest
        assert after.threads <= before.threads + len(PAUSES)
        if sum(outcome.rounds.values()) > 100 and len(outcome.rounds) > 12:
            break
    assert sum(outcome.rounds.values()) > 100
    assert len(outcome.rounds) > 12


def vitals(seconds: float, kib: int) -> Vitals:
    return Vitals(seconds=seconds, rss_kib=kib, pss_kib=kib, uss_kib=kib, threads=5, descriptors=9)


def test_growth_is_told_from_a_sawtooth_and_from_warming_up() -> None:
    warm = [vitals(second, 100 * second) for second in range(10)]
    sawtooth = [vitals(second, 10_000 + 500 * (second % 4)) for second in range(10, 100)]
    leak = [vitals(second, 10_000 + 20 * second) for second in range(10, 100)]
    assert abs(growth(warm + sawtooth, "uss_kib", 10.0).share) < 0.001
    assert abs(growth(warm + sawtooth, "uss_kib", 10.0).floor_share) < 0.001
    assert growth(warm + leak, "uss_kib", 10.0).floor_share > 0.1
    assert growth(warm + leak, "uss_kib", 10.0).share > 0.1
    assert growth(warm + leak, "uss_kib", 10.0).slope_per_hour == pytest.approx(72_000)


GROWS = """
print(flush=True)
input()
held, opened = b"1" * (32 << 20), open("/dev/null")
print(flush=True)
input()
"""


def test_vitals_are_those_of_the_process() -> None:
    """Of a child: in this process connections of tests before may still be closing."""
    command = [sys.executable, "-c", GROWS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        found = []
        with killed_in_the_end(child):
            for _ in range(2):
                assert child.stdout.readline() == "\n"
                found.append(Vitals.of(child.pid))
                child.stdin.write("\n")
                child.stdin.flush()
    before, after = found
    assert after.uss_kib - before.uss_kib + 1024 >= 32 << 10
    assert after.descriptors == before.descriptors + 1


def test_every_call_answers_whatever_it_is_sent() -> None:
    outcome = fuzz.fuzz(1500, seed=20)
    assert not fuzz.missed(outcome), (outcome.findings, outcome.failures)
    assert outcome.calls >= 1500
    assert len(outcome.ends) > 0.75 * len(wire.ways())
    # Calls that were all refused at the first check would prove nothing.
    assert sum(ends["OK"] for ends in outcome.ends.values()) > 200


WRONG = {
    "internal": wire.Ended("INTERNAL", "oh", "INTERNAL", "pcm"),
    "unknown": wire.Ended("UNKNOWN", "oh"),
    "no reason": wire.Ended("NOT_FOUND", "oh"),
    "another domain": wire.Ended("NOT_FOUND", "oh", "NOT_FOUND", "others"),
    "not in the table": wire.Ended("NOT_FOUND", "oh", "LOST", "pcm"),
    "another status": wire.Ended("NOT_FOUND", "oh", "INPUT_SHAPE", "pcm"),
    "no message": wire.Ended("NOT_FOUND", "", "NOT_FOUND", "pcm"),
    "no reply": wire.Ended("OK"),
    "no message of the contract": wire.Ended("OK", replies=(b"\xff",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_ends_that_no_call_may_have_are_found(case: str) -> None:
    assert verdict.defect(wire.ways()["SelfTest"], 1, WRONG[case])


def test_ends_that_a_call_may_have_are_none() -> None:
    way = wire.ways()["SelfTest"]
    assert not verdict.defect(way, 1, wire.Ended("NOT_FOUND", "oh", "MODEL_NOT_FOUND", "pcm"))
    assert not verdict.defect(way, 1, wire.Ended("OK", replies=(way.response().SerializeToString(),)))


def test_a_device_that_dies_is_noticed(tmp_path: Path) -> None:
    with served(tmp_path) as device:
        assert device.alive()
        device.process.kill()
        device.process.wait()
        assert not device.alive()
    assert device.errors() == []
