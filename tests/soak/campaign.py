"""Many calls of every kind on a served device, made by Hypothesis from the descriptors and then changed at random.

An example of Hypothesis is a call and its messages. It is sent as it is and ``CHANGES`` times changed: fields of the
messages, their bytes, their order and number. Now and then the device is asked something that it must answer rightly.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pcmedge
from google.protobuf.message import DecodeError
from hostile.messages import mutate
from hostile.random_bytes import MUTATIONS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from pcmedge.conformance import probe
from pcmedge.device import Lease
from pcmedge.errors import Error

from . import valid, verdict
from .device_process import Served
from .messages import messages
from .vitals import Vitals
from .wire import Ended, Line, Way, ways

CHANGES = 4
TOGETHER = 4
"""Calls under way at the same time."""

CHECK_EVERY = 500
RELEASE_EVERY = 10
"""Examples; a lease that nobody releases would have most calls refused."""

TIMEOUT_S = 3.0
ENDLESS_S = 0.2
"""A stream that does not end by itself is listened to for so long."""

ENDLESS = ("WatchTelemetry", "WatchEvents", "Watch")
WEIGHTS = {"ModelInfer": 4, "ModelStreamInfer": 3, "Program": 2}
SOURCES = ("made", "valid", "merged")
Rng = np.random.Generator


@dataclass
class Finding:
    """A call that ended as none may; ``requests`` in hexadecimal make it again."""

    call: str
    what: str
    code: str
    reason: str
    message: str
    requests: list[str]
    times: int = 1


@dataclass
class Outcome:
    """``ends``: by call and "status reason"; ``checks``: right answers asked for in between."""

    seed: int
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[tuple[str, ...], Finding] = field(default_factory=dict)
    checks: int = 0
    failures: list[str] = field(default_factory=list)
    vitals: list[Vitals] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return sum(sum(each.values()) for each in self.ends.values())

    def add(self, way: Way, requests: Sequence[bytes], ended: Ended) -> None:
        what = "given up" if ended.given_up else f"{ended.code} {ended.reason}".strip()
        self.ends.setdefault(way.name, Counter())[what] += 1
        wrong = verdict.defect(way, len(requests), ended)
        if not wrong:
            return
        key = (way.name, wrong, ended.code, ended.reason, ended.message[:60])
        if key in self.findings:
            self.findings[key].times += 1
            return
        texts = [each.hex() for each in requests]
        self.findings[key] = Finding(way.name, wrong, ended.code, ended.reason, ended.message, texts)


def run(device: Served, *, calls: int, seed: int, progress: Callable[[int], None] = lambda done: None) -> Outcome:
    """At least ``calls`` calls."""
    outcome, known, table = Outcome(seed), valid.Known(), ways()
    names = [name for name in table for _ in range(WEIGHTS.get(name, 1))]
    keeper = _Keeper(device, known)
    keeper.check(outcome)
    examples_done = itertools.count(1)
    line = Line(device.address)

    @seeded(seed)
    @settings(
        max_examples=-(-calls // (1 + CHANGES)), database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def examples(data: st.DataObject) -> None:
        way = table[data.draw(st.sampled_from(names))]
        made = _made(data, way, known)
        timeout_s = ENDLESS_S if way.name in ENDLESS else TIMEOUT_S
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        sent = [[each.SerializeToString() for each in made]]
        sent += [_changed(rng, made) for _ in range(CHANGES)]
        for requests, ended in zip(sent, together.map(lambda each: line.call(way, each, timeout_s), sent), strict=True):
            outcome.add(way, requests, ended)
            _learn(known, way, ended)
        done = next(examples_done)
        if done % RELEASE_EVERY == 0:
            keeper.release()
        if outcome.calls // CHECK_EVERY >= outcome.checks:
            keeper.check(outcome)
            progress(outcome.calls)

    try:
        with ThreadPoolExecutor(TOGETHER) as together:
            examples()
    finally:
        line.close()
    keeper.check(outcome)
    keeper.close()
    outcome.failures += device.errors()
    return outcome


def _made(data: st.DataObject, way: Way, known: valid.Known) -> list[Any]:
    """The messages of one call: whatever the descriptors allow, good ones, or good ones with whatever merged into."""
    source = data.draw(st.sampled_from(SOURCES))
    if way.name not in ("Nobody",) and source != "made":
        good = list(valid.requests(way.name, known))
        if source == "valid":
            return good
        at = data.draw(st.integers(0, len(good) - 1))
        good[at].MergeFrom(data.draw(messages(way.request)))
        return good
    count = data.draw(st.integers(0, 4)) if way.client_streaming else 1
    return [data.draw(messages(way.request)) for _ in range(count)]


def _changed(rng: Rng, made: Sequence[Any]) -> list[bytes]:
    """The call with some of its messages, some of their fields, some of their bytes changed."""
    copies = []
    for each in made:
        copy = type(each)()
        copy.CopyFrom(each)
        if rng.random() < 0.5:
            mutate(rng, copy)
        copies.append(copy.SerializeToString())
    if rng.random() < 0.4:
        copies = [_bytes_changed(rng, each) if rng.random() < 0.7 else each for each in copies]
    if rng.random() < 0.25:
        copies = _rearranged(rng, copies)
    return copies


def _bytes_changed(rng: Rng, data: bytes) -> bytes:
    names = sorted(MUTATIONS)
    return MUTATIONS[names[int(rng.integers(len(names)))]](rng, data or rng.bytes(8))


def _rearranged(rng: Rng, requests: list[bytes]) -> list[bytes]:
    """One lost, one twice, the order another, or none at all."""
    dice = rng.random()
    if not requests or dice < 0.15:
        return []
    at = int(rng.integers(len(requests)))
    if dice < 0.4:
        return requests[:at] + requests[at + 1 :]
    if dice < 0.7:
        return [*requests[:at], requests[at], *requests[at:]]
    return [requests[each] for each in rng.permutation(len(requests))]


def _learn(known: valid.Known, way: Way, ended: Ended) -> None:
    if way.name in ("AcquireLease", "RenewLease", "Program", "Recalibrate"):
        for data in ended.replies:
            try:
                known.learn(way.response.FromString(data))
            except DecodeError:
                continue


class _Keeper:
    """Puts the device back into a state in which the right answer is known, and asks for it."""

    def __init__(self, device: Served, known: valid.Known) -> None:
        self._served, self._known = device, known
        self._device = pcmedge.connect(device.address, wait_s=60)
        self._level = 0.0

    def check(self, outcome: Outcome) -> None:
        outcome.checks += 1
        if not self._served.alive():
            raise RuntimeError(f"the device died after {outcome.calls} calls: {self._served.log.read_text()[-3000:]}")
        try:
            self._mend()
            outputs = self._device.infer(probe.samples(16), model=probe.NAME)
        except Error as error:
            outcome.failures.append(f"after {outcome.calls} calls: {type(error).__name__}: {error}")
        else:
            right = np.mean(outputs.argmax(axis=1) == probe.classes(16))
            if right < 1.0:
                outcome.failures.append(f"after {outcome.calls} calls: {right:.0%} of the answers are right")
        outcome.vitals.append(Vitals.of(self._served.pid, float(outcome.calls)))

    def release(self) -> None:
        for lease in self._known.leases:
            try:
                self._device.release_lease(Lease(lease_id=lease, holder="", remaining_s=0.0))
            except Error:
                continue
        self._known.leases.clear()
        self._known.lease = ""

    def _mend(self) -> None:
        self.release()
        lab = self._device.lab
        lab.set_clock("manual")
        for operation in self._device.operations():
            if operation.state == "running":
                self._device.cancel_operation(operation.operation_id)
        for snapshot in lab.snapshots():
            lab.delete_snapshot(snapshot.name)
        lab.clear_faults()
        lab.set_noise("off")
        self._device.program(probe.image_for(None), replace=True)
        self._device.set_policy("manual", model=probe.NAME)

    def close(self) -> None:
        self._device.close()
