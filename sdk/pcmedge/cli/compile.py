"""``pcmedge compile``: from a float model to a chip image."""

from __future__ import annotations

import enum
import json as json_module
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.arrays import first_sample, read_inputs
from pcmedge.cli.check import check_document, draw_check, plot_check
from pcmedge.cli.drift import read_labelled
from pcmedge.cli.expect import draw_expectation, emulate, expectation_document
from pcmedge.cli.options import PHYSICS_HELP, Json, comma_separated
from pcmedge.cli.profile import check_picture
from pcmedge.errors import FileMissingError, InputValueError

if TYPE_CHECKING:
    from pcmedge.checking import Check, Expectation
    from pcmedge.cli.output import Output, Screen
    from pcmedge.image import ChipImage


class Scaling(enum.StrEnum):
    layer = "layer"
    column = "column"
    auto = "auto"


class Bias(enum.StrEnum):
    digital = "digital"
    row = "row"


class Targets(enum.StrEnum):
    int16 = "int16"
    float32 = "float32"


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
    scaling: Annotated[
        Scaling, typer.Option(help="One weight scale per layer or per column; auto: by expected error.")
    ] = Scaling.layer,
    clip_sigma: Annotated[
        str | None,
        typer.Option(
            metavar="ALPHA",
            help="Clip weights at ALPHA standard deviations first; search: by expected error.",
            show_default=False,
        ),
    ] = None,
    expected_noise: Annotated[
        str, typer.Option(metavar="ETA", help="Error of a conductance over g_max that both searches assume.")
    ] = "0.0105,0.0786,-0.0469",
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Give back the shift of means that clipping causes.")
    ] = False,
    adc_range: Annotated[AdcRange, typer.Option(help="How the ADC ranges are chosen.")] = AdcRange.mse,
    bias: Annotated[
        Bias, typer.Option(help="Biases of analog layers: added digitally, or on a crossbar row.")
    ] = Bias.digital,
    targets: Annotated[
        Targets,
        typer.Option(help="How conductances are stored; float32 is for comparing with every analog effect off."),
    ] = Targets.int16,
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
    check: Annotated[
        bool, typer.Option("--check", help="Compare every layer with the model; see pcmedge check.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Emulate the accuracy to expect; see pcmedge expect.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Labelled data for --report. Default: agreement on DATA.", show_default=False
        ),
    ] = None,
    chips: Annotated[int, typer.Option(min=1, help="Chips of --report.")] = 3,
    physics: Annotated[str, typer.Option(metavar="NAME", help=f"Of --check and --report. {PHYSICS_HELP}")] = "pcm-90nm",
    seed: Annotated[int, typer.Option(min=0, help="Seed of their first chip.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw --check (.png, .svg, .pdf).", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Compile a model into a chip image (.pcmi).

    --check and --report emulate the chip afterwards. The image is written before they run.

    \b
    Examples:
      pcmedge compile model.onnx -c inputs.npy -o model.pcmi
      pcmedge compile model.tflite -c inputs.npy
      pcmedge compile my_models:resnet -c inputs.npz --require-analog 95%
      pcmedge compile model.onnx -c inputs.npy --check --plot layers.png
      pcmedge compile model.onnx -c inputs.npy --report --data test.npz

    Exit codes: 0 done, 1 --check found a layer that is wrong, 2 a file is missing or wrong,
    4 the model cannot be compiled (all reasons at once), 10 an extra is missing.
    """
    import pcmedge
    from pcmedge.cli.drawing import image_document
    from pcmedge.cli.factories import load_source
    from pcmedge.cli.output import Output

    if (data is not None and not report) or (plot is not None and not check):
        raise InputValueError("--data belongs to --report, and --plot to --check; add that option.")
    if plot is not None:
        check_picture(plot)
    if output is not None and any(output.resolve() == Path(each).resolve() for each in (model, calibration)):
        raise InputValueError(f"--output {output} is a file that is read here, too; choose another name.")
    out = Output(json=json)
    samples = read_inputs(calibration)
    named_labels = _labels(labels)
    source = load_source(model)
    with out.progress("compiling") as bar:
        image = pcmedge.compile(
            source,
            first_sample(samples),
            calibration=samples,
            profile=profile,
            name=name or _default_name(model),
            version=image_version,
            labels=named_labels,
            scaling=scaling.value,
            clip_sigma=_clip(clip_sigma),
            expected_noise=_noise(expected_noise),
            bias_correction=bias_correction,
            adc_range=adc_range.value,
            bias=bias.value,
            targets=targets.value,
            require_analog=require_analog,
            preprocessing=_preprocessing(preprocessing),
            buffer=_buffer(buffer),
            buffer_samples=buffer_samples,
            reference=_reference(reference),
            progress=bar.update,
        )
    target = output or Path(f"{image.name}.pcmi")
    image.save(target)
    emulated = {"physics": physics, "seed": seed}
    checked = _checked(out, image, samples, source, plot, emulated) if check else None
    expected = _expected(out, image, samples, data, emulated | {"chips": chips}) if report else None
    document = image_document(image) | {"path": target}
    if checked is not None:
        document |= {"check": check_document(checked), "plot": plot}
    if expected is not None:
        document |= {"report": expectation_document(expected)}
    out.result(document, lambda console: _draw(console, image, target, checked, expected, plot))
    if checked is not None and checked.suspect:
        raise typer.Exit(1)


def _checked(
    out: Output, image: ChipImage, samples: Any, source: Any, plot: Path | None, emulated: dict[str, Any]
) -> Check:
    from pcmedge.checking import check

    with out.progress("checking") as bar:
        found = check(
            image, samples, model=source, example_input=first_sample(samples), progress=bar.update, **emulated
        )
    if plot is not None:
        plot_check(found, plot)
    return found


def _expected(out: Output, image: ChipImage, samples: Any, data: Path | None, emulated: dict[str, Any]) -> Expectation:
    labels: Any = None
    if data is not None:
        with out.progress("reading") as bar:
            samples, labels = read_labelled(image, data, None, None, None, bar)
    return emulate(out, image, samples, labels, times="1d,30d", **emulated)


def _draw(
    console: Screen,
    image: ChipImage,
    target: Path,
    checked: Check | None,
    expected: Expectation | None,
    plot: Path | None,
) -> None:
    from pcmedge.cli.drawing import draw_image

    draw_image(console, image)
    console.say(f"\nwritten to {target}")
    if checked is not None:
        console.say("")
        draw_check(console, checked, plot)
    if expected is not None:
        console.say("")
        draw_expectation(console, expected)


def _clip(text: str | None) -> Any:
    if text is None or text == "search":
        return text
    return _number("--clip-sigma", text, "a number of standard deviations, or search")


def _noise(text: str) -> Any:
    parts = comma_separated(text)
    found = [_number("--expected-noise", part, "a share of g_max, or coefficients C0,C1,...") for part in parts]
    return found[0] if len(found) == 1 else tuple(found)


def _number(option: str, text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputValueError(f"{option}: expected {expected}; found {text!r}", found=text) from None


def _buffer(source: str) -> Any:
    if source in ("calibration", "synthetic"):
        return source
    return None if source == "none" else read_inputs(Path(source))


def _reference(source: str) -> Any:
    if source == "synthetic":
        return source
    if source.isdecimal():
        return int(source)
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


def _default_name(model: str) -> str:
    """``models/res net.onnx`` and ``package.models:res_net`` by their last part, in the characters a name may have."""
    last = Path(model).stem if ":" not in model else model.rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last)[:128] or "model"


def _labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    return [line.strip() for line in _text(path).splitlines() if line.strip()]
