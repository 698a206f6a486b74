"""Digital and device outputs side by side, layer by layer."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pcmedge.checking.result import STAGES, Check, Effect, LayerCheck
from pcmedge.durations import parse_duration
from pcmedge.errors import InputValueError
from pcmedge.image import ChipImage

if TYPE_CHECKING:
    import onnx
    import torch
    from pcmedge_emulator.layer_outputs import OpenChip
    from pcmedge_emulator.physics.technology import Technology

    from pcmedge.checking.digital import Digital
    from pcmedge.checking.errors import RelativeError

Progress = Callable[[str, int, int], None]
"""Called with (stage, samples done, all of them)."""

CHECK_SAMPLES = 64


def check(
    image: ChipImage | str | os.PathLike[str],
    samples: Any,
    *,
    model: torch.nn.Module | onnx.ModelProto | str | os.PathLike[str] | None = None,
    example_input: Any = None,
    physics: str | Technology = "pcm-90nm",
    read_noise: str = "additive",
    seed: int = 0,
    age_s: str | float = 0.0,
    mode: str = "none",
    most_samples: int = CHECK_SAMPLES,
    progress: Progress | None = None,
) -> Check:
    """Where an image on an emulated chip and the digital network part, layer by layer.

    Three chips compute the same samples: without any effect (float32 products of the stored weights, no converters, no
    noise), with converters only, and with all of ``physics``. Each analog layer's pre-activation is compared with the
    digital one twice: given the digital input (what this layer itself adds), and given what the chip's own layers
    before it made (what has accumulated).

    ``samples``: inputs in the forms of ``pcmedge.compile(calibration=...)``; at most ``most_samples``, spread over the
    set, are used. ``model``, ``example_input``: what the image was compiled from; without it the comparison is with the
    digital network of the stored weights, and shows neither clipping nor rounding of weights. ``age_s``, ``mode``: age
    of the third chip and how its drift is compensated, as in a drift study. ``read_noise``, ``seed``: of the third
    chip.

    Raises InputError (samples), InputValueError (another model; an unknown mode), MissingExtraError without the
    extra "emulator", and what opening an image or compiling a model raises.
    """
    from pcmedge.checking.digital import Digital, altered
    from pcmedge.checking.errors import open_chip
    from pcmedge.drift import DriftPlan
    from pcmedge.drift.chip_life import compensate

    if most_samples < 1:
        raise InputValueError(f"most_samples: expected at least 1, found {most_samples}.")
    chip_class, age, plan = open_chip(), parse_duration(age_s), DriftPlan(modes=(mode,))
    opened = image if isinstance(image, ChipImage) else ChipImage.open(image)
    digital = Digital(opened, samples, model, example_input)
    say = progress or (lambda stage, done, total: None)
    found: dict[str, StageErrors] = {}
    for stage in STAGES:
        chips: dict[str, Any] = {"physics": "ideal", "read_noise": "off", "converters": "profile"}
        if stage == "effects_off":
            chips["converters"] = "ideal"
        elif stage == "device":
            chips = {"physics": physics, "read_noise": read_noise, "seed": seed}
        with chip_class(opened, **chips) as chip:
            if stage == "device":
                chip.chip.advance(age)
                compensate(chip.chip, opened, mode, plan)
            found[stage] = measure(chip, digital, most_samples, functools.partial(say, stage))
    return Check(
        model=opened.name,
        image_sha256=opened.sha256.hex(),
        reference=digital.reference,
        altered=altered(opened),
        physics=physics if isinstance(physics, str) else physics.name,
        seed=seed,
        age_s=age,
        mode=mode,
        samples=found["device"].samples,
        layers=tuple(
            LayerCheck(
                layer=each.layer,
                operator=each.operator,
                adc_saturation=found["device"].saturation(each.layer),
                **{stage: found[stage].effect(each.layer) for stage in STAGES},
            )
            for each in digital.layers
        ),
        outputs={stage: found[stage].outputs.value for stage in STAGES},
    )


@dataclass
class StageErrors:
    """What one chip gave: errors by layer, of the outputs, and ADC codes at full scale."""

    outputs: RelativeError
    alone: dict[str, RelativeError]
    through: dict[str, RelativeError]
    codes: dict[str, list[int]] = field(default_factory=dict)
    samples: int = 0

    def effect(self, layer: str) -> Effect:
        return Effect(alone=self.alone[layer].value, through=self.through[layer].value)

    def saturation(self, layer: str) -> float:
        at, of = self.codes.get(layer, (0, 0))
        return at / of if of else 0.0


def measure(
    chip: OpenChip, digital: Digital, most_samples: int, tick: Callable[[int, int], None], *, layers_alone: bool = True
) -> StageErrors:
    """Run samples through a chip beside the digital network; the same chip and samples see the same read noise."""
    from pcmedge.checking.errors import RelativeError
    from pcmedge.compiler.calibration import pick

    names = [each.layer for each in digital.layers]
    found = StageErrors(
        RelativeError(), {name: RelativeError() for name in names}, {name: RelativeError() for name in names}
    )
    chosen = pick(digital.samples, most_samples)
    total = len(next(iter(chosen.values())))
    for turn, (inputs, tensors) in enumerate(digital.batches(chosen)):
        answer = chip.run(inputs, noise_seed=turn)
        for name in digital.outputs:
            if tensors[name].dtype.kind == "f":
                found.outputs.add(answer.outputs[name], tensors[name])
        for each in digital.layers:
            found.through[each.layer].add(answer.layers[each.layer], tensors[each.result])
            if layers_alone:
                alone = chip.run_layer(each.layer, {name: tensors[name] for name in each.reads}, noise_seed=turn)
                found.alone[each.layer].add(alone, tensors[each.result])
        for layer, (at, of) in answer.codes.items():
            sums = found.codes.setdefault(layer, [0, 0])
            sums[0] += at
            sums[1] += of
        found.samples += len(next(iter(inputs.values())))
        tick(found.samples, total)
    return found
