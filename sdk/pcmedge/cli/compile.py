"""``pcmedge compile``: from a float model to a chip image."""

from __future__ import annotations

import enum
import json as json_module
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import Json
from pcmedge.errors import FileMissingError, InputValueError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.image import ChipImage


class Scaling(enum.StrEnum):
    layer = "layer"
    column = "column"


class Bias(enum.StrEnum):
    digital = "digital"
    row = "row"


class AdcRange(enum.StrEnum):
    mse = "mse"
    max = "max"


def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="model.onnx, model.tflite, or package.module:factory for torch.", show_default=False
        ),
    ],
    calibration: Annotated[
        Path,
        typer.Option(
            "--calibration", "-c", metavar="DATA", help="Typical inputs: .npy, .npz or .parquet.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The image to write. Default: NAME.pcmi", show_default=False
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="CHIP", help="pcm-512x512, hermes-256x256, or a JSON file with a chip's figures.")
    ] = "pcm-512x512",
    scaling: Annotated[Scaling, typer.Option(help="One weight scale per layer or per column.")] = Scaling.layer,
    clip_sigma: Annotated[
        float | None,
        typer.Option(metavar="ALPHA", help="Clip weights at ALPHA standard deviations first.", show_default=False),
    ] = None,
    adc_range: Annotated[AdcRange, typer.Option(help="How the ADC ranges are chosen.")] = AdcRange.mse,
    bias: Annotated[
        Bias, typer.Option(help="Biases of analog layers: added digitally, or on a crossbar row.")
    ] = Bias.digital,
    require_analog: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Fail if less of the MACs is in memory, e.g. 95%.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one per line.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Model name. Default: the model's file name.", show_default=False)
    ] = None,
    image_version: Annotated[int, typer.Option(min=1, help="Version of the model; grows with each release.")] = 1,
    buffer: Annotated[
        str, typer.Option(metavar="SOURCE", help="calibration, synthetic, none, or a file: what recalibration uses.")
    ] = "calibration",
    buffer_samples: Annotated[int, typer.Option(min=1, help="Samples of that buffer kept.")] = 64,
    reference: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="The self-test's inputs: a number of calibration samples, synthetic, or a file."
        ),
    ] = "16",
    preprocessing: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON: how a picture becomes the input; see docs/cli.md.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compile a model into a chip image (.pcmi).

    \b
    Examples:
      pcmedge compile model.onnx -c inputs.npy -o model.pcmi
      pcmedge compile model.tflite -c inputs.npy
      pcmedge compile my_models:resnet -c inputs.npz --require-analog 95%

    Exit codes: 0 done, 2 a file is missing or wrong, 4 the model cannot be compiled (all
    reasons at once), 10 an extra is missing.
    """
    import pcmedge
    from pcmedge.cli.arrays import read_inputs
    from pcmedge.cli.drawing import image_document
    from pcmedge.cli.factories import load_source
    from pcmedge.cli.output import Output

    out = Output(json=json)
    samples = read_inputs(calibration)
    named_labels = _labels(labels)
    source = load_source(model)
    with out.progress("compiling") as bar:
        image = pcmedge.compile(
            source,
            _first(samples),
            calibration=samples,
            profile=profile,
            name=name or _default_name(model),
            version=image_version,
            labels=named_labels,
            scaling=scaling.value,
            clip_sigma=clip_sigma,
            adc_range=adc_range.value,
            bias=bias.value,
            require_analog=require_analog,
            preprocessing=_preprocessing(preprocessing),
            buffer=_buffer(buffer),
            buffer_samples=buffer_samples,
            reference=_reference(reference),
            progress=bar.update,
        )
    target = output or Path(f"{image.name}.pcmi")
    image.save(target)
    out.result(image_document(image) | {"path": target}, lambda console: _draw(console, image, target))


def _draw(console: Screen, image: ChipImage, target: Path) -> None:
    from pcmedge.cli.drawing import draw_image

    draw_image(console, image)
    console.say(f"\nwritten to {target}")


def _buffer(source: str) -> Any:
    if source in ("calibration", "synthetic"):
        return source
    from pcmedge.cli.arrays import read_inputs

    return None if source == "none" else read_inputs(Path(source))


def _reference(source: str) -> Any:
    if source == "synthetic":
        return source
    if source.isdecimal():
        return int(source)
    from pcmedge.cli.arrays import read_inputs

    return read_inputs(Path(source))


def _preprocessing(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        fields = json_module.loads(_text(path))
    except ValueError as problem:
        raise InputValueError(f"{path} is not JSON: {problem}", path=path) from problem
    if not isinstance(fields, dict):
        raise InputValueError(f"{path}: expected a JSON object, found {type(fields).__name__}", path=path)
    return fields


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileMissingError(f"no such file: {path}", path=path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputValueError(f"{path} is not a text file in UTF-8", path=path) from None


def _first(samples: Any) -> Any:
    """The first sample with its batch axis: the example a torch module is traced with."""
    if isinstance(samples, dict):
        return {name: array[:1] for name, array in samples.items()}
    return samples[:1]


def _default_name(model: str) -> str:
    """``models/res net.onnx`` and ``package.models:res_net`` by their last part, in the characters a name may have."""
    last = Path(model).stem if ":" not in model else model.rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last)[:128] or "model"


def _labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    return [line.strip() for line in _text(path).splitlines() if line.strip()]
