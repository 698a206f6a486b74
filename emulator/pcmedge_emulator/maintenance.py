"""What a device on a running clock does by itself: keep conductances at their age, run the policies, note the time.

One daemon thread per chip. It sleeps until the next thing is due and never holds a lock that an inference needs. On a
manual clock it sleeps; :func:`pcmedge_emulator.lab.advance` does the same work there.
"""

from __future__ import annotations

import threading
import time
import weakref

from pcmedge.errors import Error

from pcmedge_emulator.clock import ClockMode
from pcmedge_emulator.policies import act, due_age_s
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.state import State

LONGEST_SLEEP_S = 60.0
SHORTEST_SLEEP_S = 0.02
HEARTBEAT_S = 300.0
"""The clock is stored this often, so that a wall clock set back while the power is off costs at most this much age."""


class Maintenance:
    """Starts with :meth:`start`, ends with :meth:`stop` or when the state is no longer referenced."""

    def __init__(self, state: State) -> None:
        self._state = weakref.ref(state)
        self._wake = state.wake
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pcm-maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        stored_s = time.monotonic()
        due_s = worked_s = 0.0
        while True:
            # At least half of the time is left to requests, however fast the clock runs and whoever wakes.
            self._stopped.wait(max(SHORTEST_SLEEP_S, worked_s))
            self._wake.wait(max(0.0, due_s - SHORTEST_SLEEP_S))
            self._wake.clear()
            state = self._state()
            if state is None or self._stopped.is_set():
                return
            started_s = time.monotonic()
            if state.clock.mode is not ClockMode.MANUAL:
                _work(state)
                if started_s - stored_s > HEARTBEAT_S:
                    stored_s = started_s
                    _store_clock(state)
            worked_s = time.monotonic() - started_s
            due_s = min(LONGEST_SLEEP_S, _due_in_s(state))
            del state


def _work(state: State) -> None:
    for name, resident in list(state.residents.items()):
        if not resident.record.active:
            continue
        try:
            state.refresh(name)
            if due_age_s(resident) <= state.age_s(resident):
                act(state, name)
        except Error as error:
            state.report("failed", f"Maintenance of '{name}' failed: {error.message}", name)


def _store_clock(state: State) -> None:
    try:
        with state.changing:
            state.commit()
    except Error as error:
        state.report("failed", f"The clock could not be stored: {error.message}")


def _due_in_s(state: State) -> float:
    """Wall-clock seconds until something is due; may be negative."""
    rate = state.clock.rate
    if rate == 0.0:
        return LONGEST_SLEEP_S
    waits = [_wait_s(state, resident) for resident in state.residents.values() if resident.record.active]
    return min(waits, default=LONGEST_SLEEP_S * rate) / rate


def _wait_s(state: State, resident: Resident) -> float:
    """Device seconds until the next cell of the log-time grid or the next wish of the policy."""
    age_s = state.age_s(resident)
    return min(state.readout.next_cell_s(age_s), due_age_s(resident)) - age_s
