"""``pcmedge profile``: what every layer costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import PHYSICS_HELP, READ_NOISE_HELP, ImagePath, Json, Precision, PrecisionOption, ReadNoise
from pcmedge.errors import InputValueError, MissingExtraError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.profiling import Profile


def run(
    image: ImagePath,
    batch: Annotated[int, typer.Option(min=1, help="Samples of one inference.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Inferences to take the median of.")] = 20,
    input: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Samples.", show_default="the image's reference inputs"),
    ] = None,
    age: Annotated[str, typer.Option(metavar="TIME", help="Age of the chip, such as 1d; not compensated.")] = "0s",
    physics: Annotated[str, typer.Option(metavar="NAME", help=PHYSICS_HELP)] = "pcm-90nm",
    read_noise: Annotated[ReadNoise, typer.Option(metavar="KIND", help=READ_NOISE_HELP)] = ReadNoise.additive,
    precision: PrecisionOption = Precision.exact,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the chip.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw time and energy by layer (.png, .svg).", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Show what every layer costs: time in the emulator; tiles, products, energy and latency on the chip; ADC
    saturation.

    Energy and latency are the image's own estimate for one sample. Times are this processor's, for the whole batch.

    \b
    Examples:
      pcmedge profile model.pcmi
      pcmedge profile model.pcmi --batch 32 --read-noise off
      pcmedge profile model.pcmi --age 1y --plot layers.png --json
    """
    from pcmedge.cli.arrays import read_inputs
    from pcmedge.cli.output import Output
    from pcmedge.profiling import profile

    if plot is not None:
        check_picture(plot)
    out = Output(json=json)
    with out.progress("profiling"):
        found = profile(
            image,
            None if input is None else read_inputs(input),
            batch=batch,
            runs=runs,
            physics=physics,
            read_noise=read_noise.value,
            precision=precision.value,
            age_s=age,
            seed=seed,
            threads=threads,
        )
    if plot is not None:
        _plot(found, plot)
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    out.result({**fields, "plot": plot}, lambda console: _draw(console, found, plot))


def check_picture(path: Path) -> None:
    """Before any work: raises MissingExtraError without matplotlib, InputValueError for another ending."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputValueError(f"{path}: expected the ending .png, .svg or .pdf", path=path)
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError.for_extra("data", "Drawing a plot") from None


def _draw(console: Screen, found: Profile, plot: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from pcmedge.cli.drawing import format_quantity
    from pcmedge.durations import format_duration

    console.say(
        f"{found.model}: {format_quantity(found.run_s, 's')} for a batch of {found.batch} in the emulator "
        f"({found.physics}, age {format_duration(found.age_s)}, read noise {found.read_noise}, {found.precision}); "
        f"on the chip {format_quantity(found.latency_s, 's')} and {format_quantity(found.energy_j, 'J')} a sample"
    )
    # Two lines of headings and no margins: with names of 15 letters it fits into 80 columns.
    table = Table(box=None, header_style="dim", collapse_padding=True, pad_edge=False)
    titles = (
        "layer",
        "time",
        "of it\nproducts",
        "share",
        "tiles",
        "MVMs",
        "chip\nlatency",
        "chip\nenergy",
        "ADC\nfull",
    )
    for title in titles:
        table.add_column(title, justify="left" if title == "layer" else "right", no_wrap=title != "layer")
    for layer in found.layers:
        table.add_row(
            Text(layer.layer),
            format_quantity(layer.time_s, "s"),
            format_quantity(layer.product_s, "s"),
            f"{layer.share:.1%}",
            str(layer.tiles),
            f"{layer.mvms:,}",
            format_quantity(layer.latency_s, "s"),
            format_quantity(layer.energy_j, "J"),
            f"{layer.saturation:.2%}",
        )
    for operator in found.digital:
        name = Text(f"digital: {operator.operator}", style="dim")
        table.add_row(name, format_quantity(operator.time_s, "s"), "", f"{operator.share:.1%}", "", "", "", "", "")
    console.print(table)
    if plot is not None:
        console.say(f"written to {plot}")


def _plot(found: Profile, path: Path) -> None:
    from matplotlib.figure import Figure

    from pcmedge.drift.files import write_whole

    names = [layer.layer for layer in found.layers]
    figure = Figure(figsize=(9, 1.2 + 0.2 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    products = [1e6 * layer.product_s for layer in found.layers]
    rest = [1e6 * (layer.time_s - layer.product_s) for layer in found.layers]
    left.barh(names, products, label="products")
    left.barh(names, rest, left=products, label="converters, noise, scales")
    left.set(xlabel=f"emulator, µs for a batch of {found.batch}")
    left.legend(frameon=False, fontsize="small")
    left.invert_yaxis()
    right.barh(names, [1e9 * layer.energy_j for layer in found.layers], color="C3")
    right.set(xlabel="chip, nJ a sample (estimate)")
    figure.suptitle(found.model, fontsize="medium")
    write_whole(path, lambda temporary: figure.savefig(temporary))
