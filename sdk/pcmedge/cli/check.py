"""``pcmedge check``: where an image on the chip and the digital network part, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import PHYSICS_HELP, ImagePath, Json
from pcmedge.cli.profile import check_picture

if TYPE_CHECKING:
    from pcmedge.checking import Check
    from pcmedge.cli.output import Screen

BAR = 20
"""Columns of the widest bar."""


def run(
    image: ImagePath,
    input: Annotated[
        Path,
        typer.Option("--input", "-i", metavar="FILE", help="Samples: .npy, .npz or .parquet.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What the image was compiled from, as for compile: shows clipping and rounding of weights too.",
            show_default="the image's own network",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many, spread over the file.")] = 64,
    physics: Annotated[str, typer.Option(metavar="NAME", help=PHYSICS_HELP)] = "pcm-90nm",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the chip.")] = 0,
    age: Annotated[str, typer.Option(metavar="TIME", help="Age of the chip, such as 1d.")] = "0s",
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="Compensation: none, gdc, gdc-per-column, adabs, adabs-paired.")
    ] = "none",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it (.png, .svg, .pdf).", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Compare every analog layer on an emulated chip with the digital network.

    Three chips compute the same samples: without any effect, with converters only, with all physics. "alone" is a
    layer's error given the digital input, "so far" what has accumulated through the network.

    \b
    Examples:
      pcmedge check model.pcmi -i inputs.npy
      pcmedge check model.pcmi -i inputs.npy --model model.onnx --plot layers.png
      pcmedge check model.pcmi -i inputs.npy --age 30d --mode adabs-paired --json

    Exit codes: 1 a layer is wrong without any effect, 2 a file is missing or wrong, 10 an extra is missing.
    """
    from pcmedge.checking import check
    from pcmedge.cli.arrays import first_sample, read_inputs
    from pcmedge.cli.factories import load_source
    from pcmedge.cli.output import Output

    if plot is not None:
        check_picture(plot)
    out = Output(json=json)
    inputs = read_inputs(input)
    with out.progress("checking") as bar:
        found = check(
            image,
            inputs,
            model=None if model is None else load_source(model),
            example_input=first_sample(inputs),
            physics=physics,
            seed=seed,
            age_s=age,
            mode=mode,
            most_samples=samples,
            progress=bar.update,
        )
    if plot is not None:
        plot_check(found, plot)
    out.result(check_document(found) | {"plot": plot}, lambda console: draw_check(console, found, plot))
    if found.suspect:
        raise typer.Exit(1)


def check_document(found: Check) -> dict[str, Any]:
    """The check with what it concludes."""
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    outliers = {stage: found.first_outlier(stage) for stage in ("converters", "device")}
    return {**fields, "suspect": found.suspect, "first_outlier": outliers}


def draw_check(console: Screen, found: Check, plot: Path | None = None) -> None:
    from rich.table import Table
    from rich.text import Text

    from pcmedge.durations import format_duration

    against = "the model as given" if found.reference == "model" else "the network of the stored weights"
    console.say(
        f"{found.model}: relative error of every analog layer against {against}, {found.samples} samples "
        f"({found.physics}, seed {found.seed}, age {format_duration(found.age_s)}, compensation {found.mode})"
    )
    table = Table(box=None, header_style="dim", collapse_padding=True, pad_edge=False)
    titles = (
        "layer",
        "effects off",
        "converters\nalone",
        "\nso far",
        "device\nalone",
        "\nso far",
        "\nSNR",
        "ADC\nfull",
        "",
    )
    for title in titles:
        table.add_column(title, justify="left" if title in ("layer", "") else "right", no_wrap=title != "layer")
    widest = max((each.device.alone for each in found.layers), default=0.0)
    for each in found.layers:
        share = each.device.alone / widest if 0 < widest < float("inf") else 0.0
        table.add_row(
            Text(each.layer),
            f"{each.effects_off.through:.1e}",
            f"{each.converters.alone:.2%}",
            f"{each.converters.through:.2%}",
            f"{each.device.alone:.2%}",
            f"{each.device.through:.2%}",
            f"{each.device.snr_db:.1f} dB",
            f"{each.adc_saturation:.2%}",
            Text("█" * round(BAR * min(1.0, share)), style="cyan"),
        )
    outputs = found.outputs
    table.add_row(
        Text("outputs", style="dim"),
        f"{outputs['effects_off']:.1e}",
        "",
        f"{outputs['converters']:.2%}",
        "",
        f"{outputs['device']:.2%}",
    )
    console.print(table)
    for line in _conclusions(found):
        console.say(line)
    if plot is not None:
        console.say(f"written to {plot}")


def _conclusions(found: Check) -> list[str]:
    from pcmedge.checking.result import EFFECTS_OFF_LIMIT, OUTLIER

    if found.suspect:
        lines = [
            f"WRONG: without any effect '{found.suspect}' is the first to err by more than {EFFECTS_OFF_LIMIT:g}. "
            "Rounding does not explain that; please report this model."
        ]
    elif found.reference == "model" and found.altered:
        lines = ["Without any effect what is left is what clipping and rounding the weights changed."]
    else:
        lines = [f"Without any effect no layer errs by more than {EFFECTS_OFF_LIMIT:g}: the image computes the model."]
    for stage, name in (("converters", "With converters only"), ("device", "On the device")):
        layer = found.first_outlier(stage)
        if layer:
            lines.append(f"{name} '{layer}' is the first layer whose own error is {OUTLIER:g} times the median.")
        elif stage == "device" and found.layers:
            costliest = max(found.layers, key=lambda each: each.device.alone).layer
            lines.append(f"{name} no layer stands out; the largest error of its own has '{costliest}'.")
    return lines


def plot_check(found: Check, path: Path) -> None:
    """Own and accumulated errors of every layer as a picture."""
    from matplotlib.figure import Figure

    from pcmedge.drift.files import write_whole

    names = [each.layer for each in found.layers]
    figure = Figure(figsize=(9, 1.5 + 0.2 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    for axes, kind, title in zip(
        panels, ("alone", "through"), ("each layer alone", "through the network"), strict=True
    ):
        for stage, label in (("effects_off", "effects off"), ("converters", "converters"), ("device", found.physics)):
            # What is exactly right has no place on a logarithmic axis.
            values = [max(1e-8, getattr(getattr(each, stage), kind)) for each in found.layers]
            axes.plot(values, range(len(names)), marker="o", markersize=3, label=label)
        axes.set(xscale="log", xlabel="relative error", title=title)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names, fontsize="x-small")
    panels[0].invert_yaxis()
    panels[1].legend(frameon=False, fontsize="small")
    figure.suptitle(found.model, fontsize="medium")
    write_whole(path, lambda temporary: figure.savefig(temporary))
