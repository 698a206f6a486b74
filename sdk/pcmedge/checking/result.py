"""Checks and expectations as frozen values. Relative errors are root mean squares: of the error over the signal's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

STAGES = ("effects_off", "converters", "device")
"""What the chip of a check does: nothing but exact products; DAC and ADC; all of its physics."""

EFFECTS_OFF_LIMIT = 1e-3
"""Largest relative error without effects that rounding explains (16-bit weights, float32 sums)."""

OUTLIER = 3.0
"""A layer stands out if its own error is so many times the median of all layers'."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Relative error of one layer: ``alone``, given the digital input; ``through``, given what the chip before it made.

    A layer whose digital signal is zero throughout has the errors 0 if the chip's is too, else infinity.
    """

    alone: float
    through: float

    @property
    def snr_db(self) -> float:
        """Signal to error of the layer alone, in decibels."""
        return -20 * math.log10(self.alone) if self.alone > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """One analog layer's pre-activation (bias included) beside the digital one.

    ``adc_saturation``: share of its ADC codes at full scale with all effects (unit 1).
    """

    layer: str
    operator: str
    effects_off: Effect
    converters: Effect
    device: Effect
    adc_saturation: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """What :func:`pcmedge.checking.check` returns; ``layers`` in the order of execution.

    ``reference``: "model", the float model as given, or "image", the network of the stored weights. ``altered``: the
    compiler clipped weights or corrected biases, so that errors against the model as given include that.
    ``outputs``: relative error of the model's outputs by stage (``effects_off``, ``converters``, ``device``).
    """

    model: str
    image_sha256: str
    reference: str
    altered: bool
    physics: str
    seed: int
    age_s: float
    mode: str
    samples: int
    layers: tuple[LayerCheck, ...]
    outputs: dict[str, float]

    @property
    def suspect(self) -> str:
        """The first layer that is wrong without any effect, which only a fault of the compiler explains; else empty."""
        if self.reference == "model" and self.altered:
            return ""
        wrong = (
            each.layer
            for each in self.layers
            if not max(each.effects_off.alone, each.effects_off.through) <= EFFECTS_OFF_LIMIT
        )
        return next(wrong, "")

    def first_outlier(self, stage: str) -> str:
        """The first layer whose own error in a stage is three times the median of all layers', or empty."""
        own = [getattr(each, stage).alone for each in self.layers]
        limit = OUTLIER * statistics.median(own)
        return next((each.layer for each, error in zip(self.layers, own, strict=True) if error > limit > 0), "")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One age: mean and standard deviation over chips of the accuracy (or agreement) and of the output error.

    ``mode``: how drift was compensated, as in a drift study. ``accuracy_mean`` is None for a model without classes, a
    standard deviation for a single chip. ``output_error``: relative root mean square error of all outputs.
    """

    age_s: float
    mode: str
    accuracy_mean: float | None
    accuracy_std: float | None
    output_error_mean: float
    output_error_std: float | None


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """A layer's own relative error on freshly programmed chips, given the digital input: mean and deviation."""

    layer: str
    operator: str
    error_mean: float
    error_std: float | None


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What :func:`pcmedge.checking.expect` returns.

    ``measure``: "accuracy" (with labels; ``digital`` is the digital network's), "agreement" with the digital network's
    decisions (``digital`` is 1), or "output error" (no scores; ``digital`` is 0). ``drop``: how far the worst moment
    lies below ``digital`` (for "output error": the largest one). ``threshold``: the drop from which noise-aware
    training is recommended. ``layers``: the most costly first. ``expected_faults``: what the chip profile says chips
    come with; ``faults``: what breaks on these beside that, as it was asked for.
    """

    model: str
    image_sha256: str
    physics: str
    seeds: tuple[int, ...]
    samples: int
    measure: str
    digital: float
    moments: tuple[Moment, ...]
    layers: tuple[LayerCost, ...]
    threshold: float
    expected_faults: str = "none"
    faults: str = "none"

    @property
    def drop(self) -> float:
        if self.measure == "output error":
            return max(each.output_error_mean for each in self.moments)
        return self.digital - min(each.accuracy_mean for each in self.moments if each.accuracy_mean is not None)

    @property
    def recommends_training(self) -> bool:
        """Whether the drop is above the threshold."""
        # Shares of samples are sums of floats.
        return self.drop > self.threshold * (1 + 1e-9)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample's standard deviation (None for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
