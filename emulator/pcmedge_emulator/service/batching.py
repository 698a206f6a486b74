"""Dynamic batching: requests of several clients that wait at the same time are computed as one batch.

A few threads per service take what waits and run it; the threads of the requests wait for their part of the result.
While one batch is answered, and its clients think of the next request, another one is computed. No gRPC here: a
request's caller is anything that can say whether it still wants the answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.outcomes import CheckedRequest
from pcmedge_emulator.service.scheduling import Answer, Caller, Executed, Scheduling, full, gone, shutting_down


class Waiting:
    """One request on its way through the queue. Made by :meth:`Batcher.submit`."""

    def __init__(self, request: CheckedRequest, caller: Caller, leave: Callable[[Waiting], None]) -> None:
        self.request = request
        self.caller = caller
        self.submitted_ns = time.perf_counter_ns()
        self._leave = leave
        self._done = threading.Event()
        self._answer: Answer | None = None
        self._error: Exception | None = None

    def result(self) -> Answer:
        """Waits for the answer. Raises what the inference raises; CancelledError if the request left the queue."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def leave(self) -> None:
        """Nobody wants the answer any more: out of the queue, unless it is being computed already."""
        if not self._done.is_set():
            self._leave(self)

    def answered(self, answer: Answer) -> None:
        if not self._done.is_set():
            self._answer = answer
            self._done.set()

    def failed(self, error: Exception) -> None:
        if not self._done.is_set():
            self._error = error
            self._done.set()


@dataclass
class _Group:
    """Requests of one kind, oldest first."""

    waiting: deque[Waiting] = field(default_factory=deque)
    samples: int = 0

    def add(self, waiting: Waiting) -> None:
        self.waiting.append(waiting)
        self.samples += waiting.request.samples

    def remove(self, waiting: Waiting) -> None:
        self.waiting.remove(waiting)
        self.samples -= waiting.request.samples

    def take(self, most: int) -> list[Waiting]:
        """The oldest requests, at most ``most`` samples of them, but at least one request."""
        taken: list[Waiting] = []
        samples = 0
        while self.waiting and (not taken or samples + self.waiting[0].request.samples <= most):
            taken.append(self.waiting.popleft())
            samples += taken[-1].request.samples
        self.samples -= samples
        return taken


class Batcher:
    """A bounded queue before the chip, and the threads that empty it in batches, ``max_batches_at_once`` of them.

    Requests of one kind are taken together, the oldest first, as soon as they are ``max_batch_size`` samples or the
    oldest of them has waited for ``max_queue_delay_s``; with a delay of 0 a batch is what arrived while the previous
    ones were computed. ``executed(model, samples, ns)`` is told of every run of the engine that succeeded.
    """

    def __init__(self, chip: DeviceChip, scheduling: Scheduling, executed: Executed) -> None:
        self._chip = chip
        self._scheduling = scheduling
        self._executed = executed
        # One batch of a stream is computed while its next one gathers.
        self.ahead: int = 2 * scheduling.max_batch_size
        self._delay_ns = round(scheduling.max_queue_delay_s * 1e9)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._groups: dict[Hashable, _Group] = {}
        self._queued = 0
        self._rejected = 0
        self._draining = False
        self._closed = False
        self._workers = [
            threading.Thread(target=self._run, name=f"pcm-batcher-{number}", daemon=True)
            for number in range(scheduling.batches_at_once)
        ]
        for worker in self._workers:
            worker.start()

    # ----------------------------------------------------------------------------------------------------- the callers

    def submit(
        self, name: str, inputs: Mapping[str, NDArray[Any]], caller: Caller, *, patient: bool = False
    ) -> Waiting:
        """Checks a request and puts it into the queue.

        Raises the input errors of an inference, BusyError if the queue is full (``patient``: waits for room instead,
        CancelledError if the caller is gone meanwhile), UnavailableError after :meth:`close`.
        """
        request = self._chip.check_inference(name, inputs)
        waiting = Waiting(request, caller, self._leave)
        with self._lock:
            while not self._closed and self._queued >= self._scheduling.max_queue_size:
                if not patient:
                    self._rejected += 1
                    raise full(self._scheduling)
                if not caller.active():
                    raise gone()
                self._room.wait()
            if self._closed:
                raise shutting_down()
            # A request that may share with nobody is a kind of its own.
            kind = waiting if request.kind is None else request.kind
            group = self._groups.setdefault(kind, _Group())
            group.add(waiting)
            self._queued += 1
            if len(group.waiting) == 1 or group.samples >= self._scheduling.max_batch_size:
                self._work.notify()
        return waiting

    def wake(self) -> None:
        """Whoever waits for room looks whether its caller is still there."""
        with self._lock:
            self._room.notify_all()

    def counts(self) -> tuple[int, int]:
        """(requests in the queue now, requests refused with BusyError since the start)."""
        with self._lock:
            return self._queued, self._rejected

    def _leave(self, waiting: Waiting) -> None:
        with self._lock:
            for kind, group in self._groups.items():
                if waiting in group.waiting:
                    group.remove(waiting)
                    self._freed(kind, group, 1)
                    break
            else:
                return
        waiting.failed(gone())

    def _freed(self, kind: Hashable, group: _Group, count: int) -> None:
        if not group.waiting:
            del self._groups[kind]
        self._queued -= count
        self._room.notify_all()

    # -------------------------------------------------------------------------------------------------------- stopping

    def drain(self) -> None:
        """From now on nothing waits for company: the service shuts down, and calls under way are to finish."""
        with self._lock:
            self._draining = True
            self._work.notify_all()

    def close(self) -> None:
        """Takes no more requests, and returns when the queue is empty and nothing is computed any more."""
        with self._lock:
            self._closed = self._draining = True
            self._work.notify_all()
            self._room.notify_all()
        for worker in self._workers:
            worker.join()

    # ----------------------------------------------------------------------------------------------------- the workers

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._compute(batch)
            except Exception as error:
                # Whatever happened: nobody waits for ever, and the next batch is computed.
                for waiting in batch:
                    waiting.failed(error)

    def _next(self) -> list[Waiting] | None:
        """The next batch, waited for; None when the queue is closed and empty."""
        with self._lock:
            while True:
                now_ns = time.perf_counter_ns()
                due_ns: int | None = None
                for kind, group in sorted(self._groups.items(), key=_age):
                    at_ns = self._due_ns(group)
                    if at_ns <= now_ns and self._without_the_gone(kind, group) and self._due_ns(group) <= now_ns:
                        batch = group.take(self._scheduling.max_batch_size)
                        self._freed(kind, group, len(batch))
                        return batch
                    if group.waiting:
                        at_ns = self._due_ns(group)
                        due_ns = at_ns if due_ns is None else min(due_ns, at_ns)
                if self._closed and not self._groups:
                    return None
                self._work.wait(None if due_ns is None else max(0.0, (due_ns - now_ns) / 1e9))

    def _due_ns(self, group: _Group) -> int:
        """When a group is to be computed, on the clock of perf_counter_ns; 0 for at once."""
        if self._draining or group.samples >= self._scheduling.max_batch_size:
            return 0
        return group.waiting[0].submitted_ns + self._delay_ns

    def _without_the_gone(self, kind: Hashable, group: _Group) -> bool:
        """Drops requests nobody waits for any more; False if none is left."""
        left = [waiting for waiting in group.waiting if not waiting.caller.active()]
        for waiting in left:
            group.remove(waiting)
            waiting.failed(gone())
        if left:
            self._freed(kind, group, len(left))
        return bool(group.waiting)

    def _compute(self, batch: list[Waiting]) -> None:
        try:
            self._compute_as_one(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].failed(error)
                return
            # One of them may be to blame. Each alone is answered, or told what is wrong with it.
            for waiting in batch:
                if waiting.caller.active():
                    self._compute([waiting])
                else:
                    waiting.failed(gone())

    def _compute_as_one(self, batch: list[Waiting]) -> None:
        started_ns = time.perf_counter_ns()
        outcomes = self._chip.infer_together([waiting.request for waiting in batch])
        infer_ns = time.perf_counter_ns() - started_ns
        self._executed(batch[0].request.name, sum(waiting.request.samples for waiting in batch), infer_ns)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.answered(Answer(outcome, queue_ns=started_ns - waiting.submitted_ns, infer_ns=infer_ns))


def _age(item: tuple[Hashable, _Group]) -> int:
    return item[1].waiting[0].submitted_ns
