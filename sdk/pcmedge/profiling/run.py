"""Profile an image on an emulated chip of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pcmedge.durations import parse_duration
from pcmedge.errors import InputError, InputValueError, MissingExtraError
from pcmedge.image import ChipImage
from pcmedge.profiling.result import LayerProfile, OperatorTime, Profile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from pcmedge_emulator.layer_profile import LayerMeasurements

    Arrays = dict[str, NDArray[Any]]

MOST_BATCH = 65536


def profile(
    image: ChipImage | str | os.PathLike[str],
    inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    batch: int = 1,
    runs: int = 20,
    physics: str = "pcm-90nm",
    read_noise: str = "additive",
    precision: str = "exact",
    age_s: str | float = 0.0,
    seed: int = 0,
    threads: int = 1,
) -> Profile:
    """Where an inference of ``batch`` samples spends its time in the emulator, and what it costs on the chip, by layer.

    ``inputs``: samples along the first axis, repeated to ``batch``; by default the image's reference inputs. ``age_s``:
    of the chip, seconds or a duration ("1d"), without compensation. ``physics``, ``read_noise``, ``precision``: of the
    emulated chip, as :func:`pcmedge.Emulator` takes them. Times are medians of ``runs`` calls of a session
    of ONNX Runtime with its profiler on, mapped from its operators back to layers. Raises InputValueError, the input
    errors of an inference, MissingExtraError without the extra "emulator", and what opening an image raises.
    """
    for name, value, most in (("batch", batch, MOST_BATCH), ("runs", runs, 10**6)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InputValueError(f"{name}: expected 1 to {most}, found {value!r}", argument=name)
    age = parse_duration(age_s)
    opened = image if isinstance(image, ChipImage) else ChipImage.open(image)
    try:
        import onnxruntime  # noqa: F401
        from pcmedge_emulator.layer_profile import measure_layers
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Profiling") from error
    measured = measure_layers(
        opened,
        _batch(_samples(opened, inputs), batch),
        physics=physics,
        read_noise=read_noise,
        precision=precision,
        seed=seed,
        age_s=age,
        threads=threads,
        runs=runs,
    )
    placement = opened.manifest.placement
    layers, digital, whole = _rows(opened, measured)
    return Profile(
        model=opened.name,
        physics=physics,
        read_noise=read_noise,
        precision=precision,
        age_s=age,
        batch=batch,
        runs=runs,
        threads=threads,
        run_s=measured.times.run_s,
        profiled_s=whole,
        energy_j=placement.energy_j,
        latency_s=placement.latency_s,
        mvms=sum(layer.mvms for layer in layers),
        layers=layers,
        digital=digital,
    )


def _samples(image: ChipImage, inputs: ArrayLike | Mapping[str, ArrayLike] | None) -> Arrays:
    import numpy as np

    if inputs is None:
        found = image.reference_set()[0] or image.calibration_buffer()
        if not found:
            raise InputError(f"image {image.name!r} brings no inputs along; pass some", model=image.name)
        return dict(found)
    specs = {spec.name: spec for spec in image.manifest.model.inputs}
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise InputError(f"model {image.name!r} has {len(specs)} inputs ({', '.join(specs)}); pass them by name")
        inputs = {next(iter(specs)): inputs}
    from pcmedge.image.datatypes import numpy_dtype

    arrays = {}
    for name, values in inputs.items():
        array = np.asarray(values)
        wanted = numpy_dtype(specs[name].datatype) if name in specs else array.dtype
        # Floats of another width become the model's; what else does not fit is for the engine to judge.
        arrays[name] = array.astype(wanted) if array.dtype.kind == wanted.kind == "f" else array
    if any(array.ndim == 0 or not len(array) for array in arrays.values()):
        raise InputError("inputs have samples along the first axis, at least one")
    return arrays


def _batch(samples: Mapping[str, np.ndarray[Any, Any]], size: int) -> Arrays:
    import numpy as np

    return {name: np.ascontiguousarray(values[np.arange(size) % len(values)]) for name, values in samples.items()}


def _rows(
    image: ChipImage, measured: LayerMeasurements
) -> tuple[tuple[LayerProfile, ...], tuple[OperatorTime, ...], float]:
    """(layers in the image's order, digital operators with the most expensive first, seconds of all of them)."""
    by_layer, digital = measured.times.by_layer(), measured.times.by_operator(digital_only=True)
    whole = sum(time_s for time_s, _ in by_layer.values()) + sum(digital.values())
    layers = []
    for node in image.manifest.placement.nodes:
        if not (node.analog and node.layer):
            continue
        time_s, product_s = by_layer.get(node.layer, (0.0, 0.0))
        layers.append(
            LayerProfile(
                layer=node.layer,
                operator=node.operator,
                tiles=node.tiles,
                mvms=node.mvms,
                energy_j=node.energy_j,
                latency_s=node.latency_s,
                time_s=time_s,
                product_s=product_s,
                share=time_s / whole if whole else 0.0,
                saturation=measured.saturation.get(node.layer, 0.0),
            )
        )
    rest = tuple(
        OperatorTime(operator=name, time_s=time_s, share=time_s / whole if whole else 0.0)
        for name, time_s in digital.items()
    )
    return tuple(layers), rest, whole
