"""Options of one compilation, checked before any work is done."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcmedge._contract.image_pb2 import Application, ChipProfile, Preprocessing, TensorSpec
from pcmedge.errors import InputValueError

from .bias import BiasChoice
from .ranges import RangeChoice
from .scaling import Scaling

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the image, apart from model and data. ``require_analog`` is a fraction of the MACs, or None."""

    scaling: Scaling = "layer"
    clip_sigma: float | None = None
    adc_range: RangeChoice = "mse"
    dac_range: RangeChoice = "mse"
    require_analog: float | None = None
    recorded_statistics: bool = True
    bias: BiasChoice = "digital"

    def __post_init__(self) -> None:
        _one_of("scaling", self.scaling, ("layer", "column"))
        _one_of("adc_range", self.adc_range, ("mse", "max"))
        _one_of("dac_range", self.dac_range, ("mse", "max"))
        _one_of("bias", self.bias, ("digital", "row"))
        if self.clip_sigma is not None and not self.clip_sigma > 0:
            raise InputValueError(
                f"clip_sigma: expected a positive number of standard deviations or None, found {self.clip_sigma}. "
                "Joshi et al. use 2.0 to 2.5.",
                found=self.clip_sigma,
            )

    def to_json(self) -> str:
        """The options as recorded in the image's provenance."""
        return json.dumps(self.__dict__, sort_keys=True)


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputValueError(f"{option}: expected one of {', '.join(allowed)}; found {value!r}.", found=value)


def parse_share(value: str | float | None) -> float | None:
    """``"95%"``, ``0.95`` or ``95`` as a fraction; None stays None."""
    if value is None:
        return None
    try:
        share = float(value.strip().removesuffix("%")) if isinstance(value, str) else float(value)
    except ValueError:
        share = -1.0
    if (isinstance(value, str) and value.strip().endswith("%")) or share > 1:
        share /= 100
    if not 0 <= share <= 1:
        raise InputValueError(f"require_analog: expected a share such as '95%' or 0.95, found {value!r}.", found=value)
    return share


def model_name(name: str | None, fallback: str) -> str:
    """The served name: as given (checked), or made from the source's name."""
    if name is not None:
        if not _NAME.fullmatch(name):
            raise InputValueError(
                f"name: expected 1 to 128 characters of A-Z a-z 0-9 . _ -, found {name!r}.", found=name
            )
        return name
    made = re.sub(r"[^A-Za-z0-9._-]+", "-", fallback).strip("-")[:128]
    return made or "model"


def application(
    labels: list[str] | tuple[str, ...] | None,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    probabilities: frozenset[str],
) -> Application:
    """The application side of the manifest; ``probabilities`` are outputs that come out of a softmax."""
    found = Application(labels=list(labels or ()))
    if preprocessing is not None:
        found.preprocessing.CopyFrom(_preprocessing(preprocessing, inputs))
    kinds = ("FP", "INT8", "UINT8")
    scores = [each for each in outputs if len(each.shape) == 2 and each.datatype.startswith(kinds)]
    if labels:
        scores = [each for each in scores if each.shape[1] in (-1, len(labels))]
        if not scores:
            shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in outputs)
            raise InputValueError(
                f"labels: expected an output with one score per label ({len(labels)}), found {shapes}. "
                "Pass one label per class, in the order of the classifier's outputs.",
                labels=len(labels),
            )
    if scores:
        found.class_output = scores[0].name
        found.class_output_is_probability = scores[0].name in probabilities
    return found


def _preprocessing(value: Preprocessing | Mapping[str, Any], inputs: list[TensorSpec]) -> Preprocessing:
    if isinstance(value, Preprocessing):
        found = Preprocessing()
        found.CopyFrom(value)
    else:
        try:
            found = Preprocessing(**dict(value))
        except (TypeError, ValueError) as error:
            fields = ", ".join(field.name for field in Preprocessing.DESCRIPTOR.fields)
            raise InputValueError(f"preprocessing: {error}. Its fields are {fields}.") from error
    found.input = found.input or inputs[0].name
    if found.input not in [each.name for each in inputs]:
        raise InputValueError(
            f"preprocessing: expected the name of a model input ({', '.join(each.name for each in inputs)}), "
            f"found '{found.input}'.",
            found=found.input,
        )
    return found


def too_large(profile: ChipProfile, needed: int, by_layer: Mapping[str, int], bias_tiles: int = 0) -> str:
    """The message for a model that does not fit the chip; ``bias_tiles`` of those needed are due to bias rows."""
    largest = sorted(by_layer.items(), key=lambda item: -item[1])[:5]
    shares = ", ".join(f"{name} {count}" for name, count in largest)
    return (
        f"The model needs {needed} tiles of {profile.tile_rows} x {profile.tile_columns}; the chip profile "
        f"'{profile.name}' has {profile.tiles}. Largest layers: {shares}. "
        "Use a smaller model or a profile with more tiles."
        + (f" {bias_tiles} of them are due to bias rows: bias='digital' does without." if bias_tiles else "")
    )
