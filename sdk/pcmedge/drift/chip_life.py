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

from pcmedge.drift.plan import DriftPlan
from pcmedge.drift.result import Row
from pcmedge.errors import CancelledError, InternalError, MissingExtraError
from pcmedge.image import ChipImage

if TYPE_CHECKING:
    from pcmedge_emulator.chip import Chip

Arrays = Mapping[str, NDArray[Any]]

SERIAL = "drift-study"
"""Of every chip of a study; with its seed it determines the chip."""


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
    """Program one chip and measure it at every age in every mode; rows in the order age, mode, realisation.

    ``tick`` is called after each (age, mode); when ``stop`` says so, CancelledError.
    """
    from pcmedge_emulator.calibration.policy import MANUAL
    from pcmedge_emulator.clock import Clock

    plan = task.plan
    image = ChipImage.open(Path(task.folder) / "image.pcmi")
    inputs, labels = load_data(task.folder)
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
        chip.program(image)
        now_s = 0.0
        for age_s in plan.ages:
            chip.advance(age_s - now_s)
            now_s = age_s
            for mode in plan.modes:
                if stop is not None and stop():
                    raise CancelledError("The drift study was cancelled.")
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
                            mode=mode,
                            realisation=realisation,
                            accuracy=float(found.mean()),
                            digital_accuracy=task.digital_accuracy,
                            samples=len(labels),
                            median_drift_factor=factor,
                            mean_shift=shift,
                            correct=np.packbits(found).tobytes() if plan.keep_correct else b"",
                        )
                    )
                if plan.realisations > 1:
                    chip.set_read_realisation(0)
                if mode != "none":
                    chip.rollback(image.name)
                if tick is not None:
                    tick()
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
