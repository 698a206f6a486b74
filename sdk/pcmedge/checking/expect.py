"""How much accuracy to expect of an image on the chip, and whether the network should be trained with noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pcmedge.checking.result import Expectation, LayerCost, Moment, mean_and_std
from pcmedge.errors import InputError
from pcmedge.image import ChipImage
from pcmedge.image.fault_rates import profile_rates

if TYPE_CHECKING:
    import onnx
    import torch
    from numpy.typing import ArrayLike
    from pcmedge_emulator.physics.technology import Technology

    from pcmedge.checking.digital import Digital
    from pcmedge.drift import DriftPlan, DriftStudy
    from pcmedge.drift.field_faults import FieldFaults

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total); phases ``chips`` and ``layers``."""

AGES = ("1d", "30d")
THRESHOLDS = {"accuracy": 0.01, "agreement": 0.03, "output error": 0.1}
"""Drops from which noise-aware training is recommended. Of decisions that change, some were wrong before: hence
more."""
LAYER_SAMPLES = 64


def expect(
    image: ChipImage | str | os.PathLike[str],
    samples: Any,
    labels: ArrayLike | None = None,
    *,
    chips: int = 3,
    first_seed: int = 0,
    ages_s: Sequence[str | float] = AGES,
    physics: str | Technology = "pcm-90nm",
    model: torch.nn.Module | onnx.ModelProto | str | os.PathLike[str] | None = None,
    example_input: Any = None,
    workers: int | None = 1,
    faults: FieldFaults | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Expectation:
    """Emulate an image on several chips, fresh and at ``ages_s``, and say what remains of the digital network.

    With ``labels`` (the index of each sample's right score) accuracy; without, agreement: the share of samples whose
    largest score is the digital network's. A model without one output of scores is judged by its output error alone.
    Fresh chips are not compensated; older ones with paired adaptive statistics where the image has what they need, else
    with global drift compensation. Accuracy is a drift study (:func:`pcmedge.drift.run_study`) of ``chips`` chips of
    seeds ``first_seed``, ...; output and layer errors are of the same chips, on at most 64 of the samples.

    ``samples``: inputs as the model takes them (uint8 pictures for an image with preprocessing where there are labels).
    ``model``, ``example_input``: what the image was compiled from, as of :func:`pcmedge.checking.check`; without it the
    digital network is that of the stored weights. ``workers``: processes of the study. ``faults``: what breaks on those
    chips, as :class:`pcmedge.drift.DriftPlan` takes it, beside what the image's chip profile expects.

    Raises InputError, InputValueError, MissingExtraError, and what opening an image raises.
    """
    from pcmedge.checking.digital import Digital
    from pcmedge.checking.errors import open_chip
    from pcmedge.drift import DriftPlan
    from pcmedge.drift.labelled import labelled_data

    open_chip()
    opened = image if isinstance(image, ChipImage) else ChipImage.open(image)
    if labels is not None:
        samples = labelled_data(opened, samples, labels).inputs
    digital = Digital(opened, samples, model, example_input)
    method = "adabs-paired" if _can_pair(opened) else "gdc"
    plan = DriftPlan(
        ages_s=(0.0, *ages_s),
        chips=chips,
        first_seed=first_seed,
        modes=("none", method),
        physics=physics,
        faults=faults,
    )
    say = progress or (lambda phase, done, total: None)
    truth = labels if labels is not None else _decisions(opened, digital)
    study = None
    if truth is not None:
        study = _study(opened, digital, truth, plan, workers, say, known=None if labels is not None else 1.0)
    errors, layers = _errors(opened, digital, plan, method, say)
    measure = "output error" if study is None else "accuracy" if labels is not None else "agreement"
    return Expectation(
        model=opened.name,
        image_sha256=opened.sha256.hex(),
        physics=physics if isinstance(physics, str) else physics.name,
        seeds=tuple(plan.seeds),
        samples=len(next(iter(digital.samples.values()))),
        measure=measure,
        digital=0.0 if study is None else study.digital_accuracy,
        moments=tuple(_moment(age_s, mode, study, found) for (age_s, mode), found in errors.items()),
        layers=layers,
        threshold=THRESHOLDS[measure],
        expected_faults=str(profile_rates(opened.manifest.profile)),
        faults=str(plan.breaking),
    )


def _can_pair(image: ChipImage) -> bool:
    buffer = image.manifest.calibration_buffer
    return buffer.has_reference_statistics and any(layer.statistics_node for layer in image.manifest.layers)


def _decisions(image: ChipImage, digital: Digital) -> Any:
    """Index of the digital network's largest score per sample; None without one output of scores."""
    import numpy as np

    from pcmedge.drift.labelled import class_output

    try:
        output, _classes = class_output(image)
    except InputError:
        return None
    return np.concatenate([tensors[output].argmax(axis=1) for _, tensors in digital.batches(digital.samples)])


def _study(
    image: ChipImage,
    digital: Digital,
    truth: Any,
    plan: DriftPlan,
    workers: int | None,
    say: Progress,
    *,
    known: float | None,
) -> DriftStudy:
    from pcmedge.drift import run_study

    return run_study(
        image,
        digital.samples,
        truth,
        plan=plan,
        workers=workers,
        progress=lambda done, total: say("chips", done, total),
        digital_accuracy=known,
    )


def _errors(
    image: ChipImage, digital: Digital, plan: DriftPlan, method: str, say: Progress
) -> tuple[dict[tuple[float, str], list[float]], tuple[LayerCost, ...]]:
    """Output errors by age and mode, one per chip, and the layers' own errors on fresh chips."""
    from pcmedge.checking.check import measure
    from pcmedge.checking.errors import open_chip
    from pcmedge.drift.breakdown import SERIAL, Breakdown
    from pcmedge.drift.chip_life import compensate

    moments = [(age_s, method if age_s else "none") for age_s in plan.ages]
    outputs: dict[tuple[float, str], list[float]] = {moment: [] for moment in moments}
    own: dict[str, list[float]] = {each.layer: [] for each in digital.layers}
    done, total = 0, plan.chips * len(moments)
    for seed in plan.seeds:
        with open_chip()(image, physics=plan.physics, seed=seed, serial=SERIAL) as chip:
            now_s, breakdown = 0.0, Breakdown(plan.breaking, image.manifest.profile, seed)
            for age_s, mode in moments:
                chip.chip.advance(age_s - now_s)
                breakdown.until(chip.chip, age_s)
                now_s = age_s
                compensate(chip.chip, image, mode, plan)
                found = measure(chip, digital, LAYER_SAMPLES, lambda done, total: None, layers_alone=age_s == 0)
                if mode != "none":
                    chip.chip.rollback(image.name)
                outputs[age_s, mode].append(found.outputs.value)
                if age_s == 0:
                    for layer, errors in found.alone.items():
                        own[layer].append(errors.value)
                done += 1
                say("layers", done, total)
    costs = []
    for each in digital.layers:
        mean, std = mean_and_std(own[each.layer])
        costs.append(LayerCost(layer=each.layer, operator=each.operator, error_mean=mean, error_std=std))
    return outputs, tuple(sorted(costs, key=lambda each: -each.error_mean))


def _moment(age_s: float, mode: str, study: DriftStudy | None, output_errors: list[float]) -> Moment:
    error_mean, error_std = mean_and_std(output_errors)
    accuracy: tuple[float | None, float | None] = (None, None)
    if study is not None:
        accuracy = mean_and_std([row.accuracy for row in study.rows if (row.age_s, row.mode) == (age_s, mode)])
    return Moment(
        age_s=age_s,
        mode=mode,
        accuracy_mean=accuracy[0],
        accuracy_std=accuracy[1],
        output_error_mean=error_mean,
        output_error_std=error_std,
    )
