"""Workers that live their habits at the same time, until they are told to stop; counts of what became of it."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from dataclasses import dataclass, field

import grpc
import numpy as np
import pcmedge
from pcmedge.errors import Error, InternalError
from tritonclient.utils import InferenceServerException

from .habits import PAUSES, infer, infer_stream, triton_client
from .place import Habit, Place, WrongAnswer

NEVER_REFUSED = (infer, infer_stream, triton_client)
"""Habits that ask only the steady model: no other client's change may be an excuse."""


@dataclass
class Tally:
    """Thread-safe counts: rounds by habit, refusals by (habit, reason), and what must not happen."""

    rounds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def round(self, habit: Habit) -> None:
        with self.lock:
            self.rounds[habit.__name__] += 1

    def refused(self, habit: Habit, error: Error) -> None:
        if habit in NEVER_REFUSED or isinstance(error, InternalError):
            self.defect(habit, error)
            return
        with self.lock:
            self.refusals[habit.__name__, error.reason] += 1

    def defect(self, habit: Habit, error: BaseException) -> None:
        with self.lock:
            self.defects.append(f"{habit.__name__}: {type(error).__name__}: {error}")


class Company:
    """One thread and one connection per habit. ``pace`` multiplies the rests between rounds. A context manager."""

    def __init__(self, place: Place, *, seed: int, pace: float) -> None:
        self.tally = Tally()
        self._place, self._pace = place, pace
        self._stop = threading.Event()
        self._go = threading.Event()
        self._resting = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._live, args=(habit, [seed, number]), name=habit.__name__, daemon=True)
            for number, habit in enumerate(PAUSES)
        ]

    def _live(self, habit: Habit, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        while not self._stop.is_set():
            self._go.wait()
            # A connection lasts for some rounds, so that opening and closing them is part of the load.
            with pcmedge.connect(self._place.address, wait_s=60) as device:
                for _ in range(int(rng.integers(1, 50))):
                    if self._stop.is_set() or not self._go.is_set():
                        break
                    self._once(habit, device, rng)
                    self._stop.wait(PAUSES[habit] * self._pace * float(rng.uniform(0.5, 1.5)))
            if not self._go.is_set():
                self._resting.release()

    def _once(self, habit: Habit, device: pcmedge.Device, rng: np.random.Generator) -> None:
        try:
            habit(self._place, device, rng)
            self.tally.round(habit)
        except Error as error:
            self.tally.refused(habit, error)
        except (WrongAnswer, grpc.RpcError, InferenceServerException) as error:
            self.tally.defect(habit, error)
        except Exception:
            # Not the device's doing; the run fails all the same, and says where.
            self.tally.defect(habit, RuntimeError(traceback.format_exc()[-600:]))

    def rest(self) -> None:
        """Returns when nobody asks anything any more; :meth:`go` ends it."""
        self._go.clear()
        for _ in self._threads:
            self._resting.acquire()

    def go(self) -> None:
        self._go.set()

    def __enter__(self) -> Company:
        for thread in self._threads:
            thread.start()
        self._go.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._go.set()
        for thread in self._threads:
            thread.join(timeout=300)
