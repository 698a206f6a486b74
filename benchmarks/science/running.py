"""Run tasks on a few processes, with a progress bar; what is done stays done whenever it is stopped."""

from __future__ import annotations

import concurrent.futures as futures
import itertools
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

from pcmedge.errors import UnavailableError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

POLL_S = 0.3


class Task(Protocol):
    @property
    def path(self) -> Path: ...

    @property
    def weight(self) -> float: ...

    def run(self) -> None: ...


def run_all(stages: Sequence[tuple[str, Sequence[Task]]], jobs: int, console: Console) -> None:
    """Runs what has no file yet, one stage after the other. KeyboardInterrupt ends it after the tasks at hand.

    UnavailableError if a worker process is killed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    todo = [(name, [task for task in tasks if not task.path.exists()]) for name, tasks in stages]
    if not any(tasks for _, tasks in todo):
        return
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        bars = {name: progress.add_task(name, total=_weight(tasks)) for name, tasks in todo}
        if jobs == 1:
            for name, tasks in todo:
                for task in tasks:
                    task.run()
                    progress.advance(bars[name], task.weight)
            return
        # Spawn, never fork: ONNX Runtime holds threads.
        pool = futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start)
        try:
            for name, tasks in todo:
                _stage(pool, jobs, tasks, progress, bars[name])
        except BrokenProcessPool as problem:
            raise UnavailableError(
                "A worker process was killed, for example for want of memory: a measurement takes up to 5 GB. What is "
                "measured is kept: the same command with --resume goes on, with fewer --jobs if need be."
            ) from problem
        finally:
            # After an error or Ctrl-C the tasks at hand are finished and kept.
            pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _weight(tasks: Sequence[Task]) -> float:
    return sum(task.weight for task in tasks)


def _stage(pool: futures.Executor, jobs: int, tasks: Sequence[Task], progress: Progress, bar: TaskID) -> None:
    todo = iter(sorted(tasks, key=lambda task: -task.weight))
    # No more at a time than there are processes: what is handed over can no longer be taken back.
    pending = {pool.submit(task.run): task for task in itertools.islice(todo, jobs)}
    while pending:
        for future in futures.wait(pending, POLL_S, futures.FIRST_COMPLETED).done:
            progress.advance(bar, pending.pop(future).weight)
            future.result()
            pending |= {pool.submit(task.run): task for task in itertools.islice(todo, 1)}
