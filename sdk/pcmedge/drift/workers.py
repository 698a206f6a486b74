"""What a worker process shares with its parent: a count of measurements, and the wish to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext

from pcmedge.drift import chip_life
from pcmedge.drift.chip_life import ChipTask
from pcmedge.drift.result import Row


class Ticks:
    """Shared between processes."""

    def __init__(self, context: SpawnContext) -> None:
        self._count = context.Value("q", 0)
        self._stopped = context.Event()

    def tick(self) -> None:
        with self._count.get_lock():
            self._count.value += 1

    def count(self) -> int:
        return int(self._count.value)

    def stop(self) -> None:
        self._stopped.set()

    def stopped(self) -> bool:
        return self._stopped.is_set()


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes begun meanwhile never see Ctrl-C, not even before :func:`start_worker` is reached.

    It reaches this process when the block is left. Where signals cannot be held back (Windows) nothing is done.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ticks: Ticks | None = None


def start_worker(ticks: Ticks) -> None:
    """Ctrl-C is the parent's business; it tells the workers."""
    global _ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _ticks = ticks


def worker_live(task: ChipTask) -> list[Row]:
    assert _ticks is not None
    return chip_life.live(task, _ticks.tick, _ticks.stopped)
