"""Run a drift study: one task per chip, on any executor of ``concurrent.futures``."""

from __future__ import annotations

import concurrent.futures as futures
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.drift import chip_life
from pcmedge.drift.chip_life import ChipTask
from pcmedge.drift.finished import FinishedChips
from pcmedge.drift.labelled import LabelledData, labelled_data
from pcmedge.drift.plan import DriftPlan
from pcmedge.drift.result import DriftStudy, Row
from pcmedge.drift.workers import Ticks, deaf_to_ctrl_c, start_worker, worker_live
from pcmedge.errors import UnavailableError
from pcmedge.image import ChipImage

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Progress = Callable[[int, int], None]
"""Called with (measurements done, all of them); a measurement is one chip at one age in one mode."""

Done = Callable[[list[Row]], None]
"""Called with the rows of a chip that is measured."""

POLL_S = 0.1


def run_study(
    image: ChipImage | str | os.PathLike[str],
    inputs: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    plan: DriftPlan | None = None,
    workers: int | None = None,
    executor: futures.Executor | None = None,
    progress: Progress | None = None,
    digital_accuracy: float | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> DriftStudy:
    """Accuracy of an image over age, chips, compensation modes and read-noise realisations.

    ``inputs``: samples along the first axis, an array for a model with one input or arrays by name; uint8 pictures
    (samples, height, width[, 3]) for an image with preprocessing. ``labels``: integers [samples], the index of the
    right score. ``workers``: processes; default one per CPU, 1 runs in this process. ``executor``: one of your own
    instead (local: tasks read files of a temporary folder); progress then counts whole chips. ``digital_accuracy``: if
    it is known from another study of this image and data, it is not measured again. ``keep``: a folder where the rows
    of each chip are kept as soon as it is measured; a study that finds chips of its own there (same image, data, plan
    and version of pcmedge; more or fewer chips do not matter) takes them, so that one that was stopped goes on.

    The result does not depend on ``workers``, ``executor`` or ``keep``, bit for bit: every chip draws from streams of
    its own seed. Ctrl-C stops the workers after the measurement at hand and leaves no files behind but kept ones.
    Raises InputShapeError, InputTypeError, InputValueError, MissingExtraError, FileUnwritableError (``keep``), and what
    opening an image raises.
    """
    plan = plan or DriftPlan()
    image = image if isinstance(image, ChipImage) else ChipImage.open(image)
    data = labelled_data(image, inputs, labels)
    chip_life.emulator()
    data_sha256 = chip_life.fingerprint(data.inputs, data.labels)
    finished = None if keep is None else FinishedChips(Path(keep), plan, image.sha256.hex(), data_sha256)
    rows: dict[int, list[Row]] = {}
    for chip, seed in enumerate(plan.seeds):
        if finished is not None and (found := finished.rows(chip, seed)) is not None:
            rows[chip] = found
    digital = digital_accuracy
    if digital is None and rows:
        digital = next(iter(rows.values()))[0].digital_accuracy
    if digital is None:
        digital = chip_life.digital_accuracy(image, data.output, data.inputs, data.labels, plan.micro_batch)

    def done(chip: list[Row]) -> None:
        rows[chip[0].chip] = chip
        if finished is not None:
            finished.keep(chip)

    with tempfile.TemporaryDirectory(prefix="pcmedge-drift-") as folder:
        _put(folder, image, data)
        tasks = [
            ChipTask(folder=folder, plan=plan, chip=chip, digital_accuracy=digital, output=data.output)
            for chip in range(plan.chips)
            if chip not in rows
        ]
        _run(tasks, plan, workers, executor, progress or _no_progress, done)
    return DriftStudy(
        plan=plan,
        rows=tuple(row for chip in range(plan.chips) for row in rows[chip]),
        digital_accuracy=digital,
        model=image.name,
        image_sha256=image.sha256.hex(),
        data_sha256=data_sha256,
    )


def _no_progress(done: int, total: int) -> None:
    """Nobody wants to know."""


def _put(folder: str, image: ChipImage, data: LabelledData) -> None:
    image.save(Path(folder) / "image.pcmi")
    chip_life.store_data(folder, data.inputs, data.labels)


def _run(
    tasks: list[ChipTask],
    plan: DriftPlan,
    workers: int | None,
    executor: futures.Executor | None,
    progress: Progress,
    done: Done,
) -> None:
    per_chip = len(plan.ages) * len(plan.measured)
    total = per_chip * plan.chips
    before = total - per_chip * len(tasks)
    progress(before, total)
    if executor is not None:
        _on_executor(tasks, executor, done, lambda chips: progress(before + chips * per_chip, total))
        return
    count = min(len(tasks), workers or os.cpu_count() or 1)
    if count <= 1:
        _in_this_process(tasks, done, lambda measured: progress(before + measured, total))
    else:
        _on_processes(tasks, count, done, lambda measured: progress(before + measured, total))


def _in_this_process(tasks: list[ChipTask], done: Done, measured: Callable[[int], None]) -> None:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        measured(count)

    for task in tasks:
        done(chip_life.live(task, tick))


def _on_executor(
    tasks: list[ChipTask], executor: futures.Executor, done: Done, finished: Callable[[int], None]
) -> None:
    pending = [executor.submit(chip_life.live, task) for task in tasks]
    try:
        for chips, future in enumerate(futures.as_completed(pending), start=1):
            done(future.result())
            finished(chips)
    finally:
        for future in pending:
            future.cancel()


def _on_processes(tasks: list[ChipTask], workers: int, done: Done, measured: Callable[[int], None]) -> None:
    # Spawn, never fork: the parent may hold threads of ONNX Runtime and gRPC.
    context = multiprocessing.get_context("spawn")
    ticks = Ticks(context)
    pool = futures.ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(ticks,))
    try:
        with deaf_to_ctrl_c():
            waiting: set[futures.Future[list[Row]]] = {pool.submit(worker_live, task) for task in tasks}
        while waiting:
            finished, waiting = futures.wait(waiting, POLL_S, futures.FIRST_COMPLETED)
            for future in finished:
                done(future.result())
            measured(ticks.count())
    except BrokenProcessPool as problem:
        raise UnavailableError(
            "A worker process of the study ended before its work was done. In a script, call run_study below "
            "\"if __name__ == '__main__':\", because each worker imports the script; or pass workers=1. If it does so "
            "already, the process was killed, for example for want of memory: take fewer workers."
        ) from problem
    finally:
        # After an error or Ctrl-C workers stop at their next measurement.
        ticks.stop()
        pool.shutdown(wait=True, cancel_futures=True)
