"""``pcmedge compile``: from a float model to a chip image."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import Json
from pcmedge.errors import FileMissingError

if TYPE_CHECKING:
    from pcmedge.image import ChipImage


class Scaling(enum.StrEnum):
    layer = "layer"
    column = "column"


class AdcRange(enum.StrEnum):
    mse = "mse"
    max = "max"


def run(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="model.onnx, or package.module:factory for torch.", show_default=False),
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
    profile: Annotated[str, typer.Option(help="Chip to compile for; see docs/cli.md.")] = "pcm-512x512",
    scaling: Annotated[Scaling, typer.Option(help="One weight scale per layer or per column.")] = Scaling.layer,
    clip_sigma: Annotated[
        float | None,
        typer.Option(metavar="ALPHA", help="Clip weights at ALPHA standard deviations first.", show_default=False),
    ] = None,
    adc_range: Annotated[AdcRange, typer.Option(help="How the ADC ranges are chosen.")] = AdcRange.mse,
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
        int | None,
        typer.Option(
            min=0, metavar="SAMPLES", help="Calibration samples kept in the image (default 64).", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compile a model into a chip image (.pcmi).

    \b
    Examples:
      pcmedge compile model.onnx -c inputs.npy -o model.pcmi
      pcmedge compile my_models:resnet -c inputs.npz --require-analog 95%
    \b
    Exit codes: 0 done, 2 a file is missing or wrong, 4 the model cannot be compiled (all
    reasons at once), 10 an extra is missing.
    """
    import pcmedge
    from pcmedge.cli.arrays import read_arrays
    from pcmedge.cli.factories import load_source
    from pcmedge.cli.output import Output

    out = Output(json=json)
    samples = read_arrays(calibration)
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
            require_analog=require_analog,
            buffer=buffer,
            progress=bar.update,
        )
    target = output or Path(f"{image.name}.pcmi")
    image.save(target)
    out.result(_document(image, target), lambda console: _draw(console, image, target))


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
    if not path.is_file():
        raise FileMissingError(f"no such file: {path}", path=path)
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _document(image: ChipImage, path: Path) -> dict[str, Any]:
    placement = image.manifest.placement
    return {
        "path": path,
        "name": image.name,
        "version": image.version,
        "sha256": image.sha256,
        "size_bytes": image.size,
        "profile": image.manifest.profile.name,
        "analog_share": analog_share(placement),
        "placement": placement,
    }
