"""One chip's life in a drift study. Runs in a worker process; a pure function of its task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcmedge.drift.breakdown import SERIAL, Breakdown, visit
from pcmedge.drift.plan import REPAIRED, DriftPlan
from pcmedge.drift.result import Row
from pcmedge.errors import CancelledError, InternalError, MissingExtraError
from pcmedge.image import ChipImage

if TYPE_CHECKING:
    from pcmedge_emulator.chip import Chip

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ChipTask:
    """Everything a worker needs: files in ``folder`` (``image.pcmi``, the data), and which chip of the plan."""

    folder: str
    plan: DriftPlan
    chip: int
    digital_accuracy: float
    output: str


def emulator() -> type[Chip]:
    """The chip class; MissingExtraError without the emulator extra."""
    try:
        import onnxruntime  # noqa: F401
        from pcmedge_emulator.chip import Chip
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "A drift study") from error
    return Chip


def store_data(folder: str, inputs: Arrays, labels: NDArray[Any]) -> None:
    """What :func:`load_data` reads: a file per array, because one of several cannot be mapped into memory."""
    for place, values in enumerate(inputs.values()):
        np.save(Path(folder) / f"input-{place}.npy", values, allow_pickle=False)
    (Path(folder) / "inputs.json").write_text(json.dumps(list(inputs)))
    np.save(Path(folder) / "labels.npy", labels, allow_pickle=False)


def load_data(folder: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Inputs by name and labels. Mapped, not read: all chips of a study share the pages of one copy."""
    names = json.loads((Path(folder) / "inputs.json").read_text())
    inputs = {
        name: np.load(Path(folder) / f"input-{place}.npy", mmap_mode="r", allow_pickle=False)
        for place, name in enumerate(names)
    }
    return inputs, np.load(Path(folder) / "labels.npy", allow_pickle=False)


def right(
    chip: Chip, image: ChipImage, output: str, inputs: Arrays, labels: NDArray[Any], micro_batch: int
) -> NDArray[np.bool_]:
    """Of which samples the largest score is the label's."""
    found = np.empty(len(labels), np.bool_)
    for start in range(0, len(labels), micro_batch):
        part = {name: values[start : start + micro_batch] for name, values in inputs.items()}
        scores = chip.infer(image.name, part).outputs[output]
        found[start : start + micro_batch] = scores.argmax(axis=1) == labels[start : start + micro_batch]
    return found


def digital_accuracy(image: ChipImage, output: str, inputs: Arrays, labels: NDArray[Any], micro_batch: int) -> float:
    """Accuracy of the same program with exact weights and without converters and noise (unit 1)."""
    from pcmedge_emulator.clock import Clock

    with emulator()(
        profile=image.manifest.profile,
        technology="ideal",
        converters="ideal",
        read_noise="off",
        threads=1,
        clock=Clock.manual(),
    ) as chip:
        chip.program(image)
        return float(right(chip, image, output, inputs, labels, micro_batch).mean())


def live(task: ChipTask, tick: Callable[[], None] | None = None, stop: Callable[[], bool] | None = None) -> list[Row]:
    """Program one chip, and its twin if that is to be repaired, and measure it at every age in every mode.

    Rows in the order age, mode, realisation. ``tick`` is called after each (age, mode); when ``stop`` says so,
    CancelledError.
    """
    plan = task.plan

    def measured() -> None:
        if tick is not None:
            tick()

    def going_on() -> None:
        if stop is not None and stop():
            raise CancelledError("The drift study was cancelled.")

    rows = _life(task, repaired=False, going_on=going_on, measured=measured)
    if plan.repair:
        rows += _life(task, repaired=True, going_on=going_on, measured=measured)
    place = {mode: number for number, mode in enumerate(plan.measured)}
    return sorted(rows, key=lambda row: (row.age_s, place[row.mode], row.realisation))


def _life(task: ChipTask, *, repaired: bool, going_on: Callable[[], None], measured: Callable[[], None]) -> list[Row]:
    from pcmedge_emulator.calibration.policy import MANUAL
    from pcmedge_emulator.clock import Clock

    plan = task.plan
    image = ChipImage.open(Path(task.folder) / "image.pcmi")
    rows: list[Row] = []
    with emulator()(
        profile=image.manifest.profile,
        technology=plan.physics,
        serial=SERIAL,
        seed=plan.seeds[task.chip],
        clock=Clock.manual(),
        read_noise=plan.read_noise,
        converters=plan.converters,
        precision=plan.precision,
        threads=1,
        default_policy=MANUAL,
        same_read=plan.same_read,
    ) as chip:
        breakdown = Breakdown(plan.breaking, image.manifest.profile, plan.seeds[task.chip])
        breakdown.until(chip, 0.0)
        chip.program(image)
        now_s = 0.0
        for age_s in plan.ages:
            chip.advance(age_s - now_s)
            now_s = age_s
            breakdown.until(chip, age_s)
            if repaired:
                going_on()
                visit(chip, image)
            for mode in plan.modes:
                going_on()
                rows += _measured(chip, image, task, age_s, mode, REPAIRED if repaired else "")
                measured()
    return rows


def _measured(chip: Chip, image: ChipImage, task: ChipTask, age_s: float, mode: str, suffix: str) -> list[Row]:
    """One age in one mode: a row per realisation of read noise."""
    plan, rows = task.plan, []
    inputs, labels = load_data(task.folder)
    factor, shift = compensate(chip, image, mode, plan)
    for realisation in range(plan.realisations):
        if plan.realisations > 1:  # each switch evaluates the conductances anew
            chip.set_read_realisation(realisation)
        found = right(chip, image, task.output, inputs, labels, plan.micro_batch)
        rows.append(
            Row(
                age_s=age_s,
                chip=task.chip,
                seed=plan.seeds[task.chip],
                mode=mode + suffix,
                realisation=realisation,
                accuracy=float(found.mean()),
                digital_accuracy=task.digital_accuracy,
                samples=len(labels),
                median_drift_factor=factor,
                mean_shift=shift,
                correct=np.packbits(found).tobytes() if plan.keep_correct else b"",
                programmings=chip.models()[0].program_generation,
                retired_tiles=len(chip.retired_tiles),
            )
        )
    if plan.realisations > 1:
        chip.set_read_realisation(0)
    if mode != "none":
        chip.rollback(image.name)
    return rows


def compensate(chip: Chip, image: ChipImage, mode: str, plan: DriftPlan) -> tuple[float, float]:
    """Bring the chip into a mode; (median drift factor, mean shift of the statistics in channel deviations)."""
    if mode == "none":
        return 1.0, 0.0
    outcome = chip.recalibrate(
        image.name,
        mode,
        batches=plan.batches,
        batch_size=plan.batch_size,
        gdc_everywhere=plan.gdc_everywhere,
        force=True,
        compare=False,
    )
    if not outcome.committed:
        raise InternalError(
            f"Mode '{mode}' could not be applied: {outcome.message or outcome.refusal}. Leave it out of the study.",
            mode=mode,
            refusal=outcome.refusal,
        )
    return outcome.median_drift_factor, outcome.mean_shift


def fingerprint(inputs: Arrays, labels: NDArray[Any]) -> str:
    """SHA-256 over names, shapes, types and bytes of the data, for the record."""
    digest = hashlib.sha256()
    for name, values in [*sorted(inputs.items()), ("labels", labels)]:
        digest.update(f"{name}:{values.dtype.str}:{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
