"""Without batching: every request computes alone, in the thread that received it, when it is its turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.service.scheduling import Answer, Caller, Executed, Scheduling, full, gone, samples_of


class Turn:
    """One request; made by :meth:`Turns.submit`. Nothing happens before :meth:`result`."""

    def __init__(
        self, turns: Turns, name: str, inputs: Mapping[str, NDArray[Any]], caller: Caller, *, patient: bool
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.caller = caller
        self.patient = patient
        self.left = False
        self.come = threading.Event()
        self._turns = turns

    def result(self) -> Answer:
        """Waits for its turn and computes. BusyError, CancelledError if it left, and what the inference raises."""
        return self._turns.compute(self)

    def leave(self) -> None:
        """Nobody wants the answer any more: out of the queue, unless it is being computed already."""
        self._turns.leave(self)


class Turns:
    """Lets ``at_once`` requests compute at the same time (None: all of them) and a bounded number wait in order.

    ``executed(model, samples, ns)`` is told of every run of the engine that succeeded.
    """

    ahead: int = 1

    def __init__(
        self, chip: DeviceChip, scheduling: Scheduling, executed: Executed, *, at_once: int | None = None
    ) -> None:
        self._chip = chip
        self._scheduling = scheduling
        self._executed = executed
        self._lock = threading.Lock()
        self._free = at_once
        self._queue: deque[Turn] = deque()
        self._rejected = 0

    def submit(self, name: str, inputs: Mapping[str, NDArray[Any]], caller: Caller, *, patient: bool = False) -> Turn:
        """A request; ``patient``: it waits even if the queue is full."""
        return Turn(self, name, inputs, caller, patient=patient)

    def compute(self, turn: Turn) -> Answer:
        """See :meth:`Turn.result`."""
        submitted_ns = time.perf_counter_ns()
        self._enter(turn)
        started_ns = time.perf_counter_ns()
        try:
            outcome = self._chip.infer(turn.name, turn.inputs)
        finally:
            self._exit()
        infer_ns = time.perf_counter_ns() - started_ns
        self._executed(turn.name, samples_of(turn.inputs), infer_ns)
        return Answer(outcome, queue_ns=started_ns - submitted_ns, infer_ns=infer_ns)

    def _enter(self, turn: Turn) -> None:
        with self._lock:
            if self._free is None:
                return
            if self._free:
                self._free -= 1
                return
            if len(self._queue) >= self._scheduling.max_queue_size and not turn.patient:
                self._rejected += 1
                raise full(self._scheduling)
            self._queue.append(turn)
        turn.come.wait()
        if turn.left:
            raise gone()

    def _exit(self) -> None:
        with self._lock:
            if self._free is None:
                return
            while self._queue:
                turn = self._queue.popleft()
                turn.left = not turn.caller.active()
                turn.come.set()
                if not turn.left:
                    # It computes in the place of the one that is done.
                    return
            self._free += 1

    def leave(self, turn: Turn) -> None:
        """See :meth:`Turn.leave`."""
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
                turn.left = True
                turn.come.set()

    def counts(self) -> tuple[int, int]:
        """(requests waiting for their turn now, requests refused with BusyError since the start)."""
        with self._lock:
            return len(self._queue), self._rejected

    def wake(self) -> None:
        """Nobody waits but in the queue."""

    def drain(self) -> None:
        """What waits is computed in its turn; the server takes no new calls."""

    def close(self) -> None:
        """Nothing runs here but in the threads of the calls."""
