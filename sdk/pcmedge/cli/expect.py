"""``pcmedge expect``: how much accuracy an image keeps on the chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import PHYSICS_HELP, ImagePath, Json, comma_separated
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.checking import Expectation
    from pcmedge.cli.output import Screen

COSTLY = 5
"""Layers named on the terminal; --json has all."""


def run(
    image: ImagePath,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Labelled data, as for drift: accuracy.", show_default=False),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Samples without labels: agreement.", show_default=False),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of --data take N, of every class its share.", show_default="all"),
    ] = None,
    times: Annotated[str, typer.Option(metavar="T,T,...", help="Ages beside the fresh chip.")] = "1d,30d",
    chips: Annotated[int, typer.Option(min=1, help="How many chips, each of a seed of its own.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first chip.")] = 0,
    physics: Annotated[str, typer.Option(metavar="NAME", help=PHYSICS_HELP)] = "pcm-90nm",
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC|FILE",
            help="What breaks on the chips, as for drift, such as stuck-at-random=0.001,dead-column=0.1/y.",
            show_default="nothing beside what the chip profile expects",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say how much accuracy to expect of an image, fresh and as it ages, and which layers cost most.

    With labels (--data) accuracy, without (--input) agreement with the digital network. Recommends noise-aware training
    where the drop is large.

    \b
    Examples:
      pcmedge expect model.pcmi --data test.npz
      pcmedge expect model.pcmi --input inputs.npy --chips 5 --times 1d,1y
      pcmedge expect model.pcmi --data test.npz --faults stuck-at-random=0.001

    Exit codes: 0 whatever is found, 2 a file is missing or wrong, 10 an extra is missing.
    """
    from pcmedge.cli.arrays import read_inputs
    from pcmedge.cli.drift import read_labelled
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage

    if (data is None) == (input is None):
        raise InputValueError("expected either --data with labels or --input without; pass one of them.")
    out = Output(json=json)
    opened = ChipImage.open(image)
    inputs: Any
    labels: Any = None
    if data is not None:
        with out.progress("reading") as bar:
            inputs, labels = read_labelled(opened, data, samples, None, None, bar)
    else:
        assert input is not None
        inputs = read_inputs(input)
    found = emulate(out, opened, inputs, labels, chips=chips, seed=seed, times=times, physics=physics, faults=faults)
    out.result(expectation_document(found), lambda console: draw_expectation(console, found))


def emulate(out: Any, image: Any, inputs: Any, labels: Any, **chosen: Any) -> Expectation:
    """:func:`pcmedge.checking.expect` under a progress bar."""
    from pcmedge.checking import expect

    with out.progress(f"emulating {chosen['chips']} chips") as bar:
        return expect(
            image,
            inputs,
            labels,
            chips=chosen["chips"],
            first_seed=chosen["seed"],
            ages_s=comma_separated(chosen["times"]),
            physics=chosen["physics"],
            faults=chosen.get("faults"),
            progress=bar.update,
        )


def expectation_document(found: Expectation) -> dict[str, Any]:
    """The expectation with what it concludes."""
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return {**fields, "drop": found.drop, "recommends_training": found.recommends_training}


def draw_expectation(console: Screen, found: Expectation) -> None:
    from rich.table import Table

    from pcmedge.durations import format_duration

    seeds = ", ".join(str(seed) for seed in found.seeds)
    console.say(
        f"{found.model}: what to expect on the chip ({found.samples} samples; emulated on {len(found.seeds)} chips of "
        f"{found.physics}, seeds {seeds}; mean ± standard deviation over chips)"
    )
    for what, faults in (("come with the faults", found.expected_faults), ("get the faults", found.faults)):
        if faults != "none":
            console.say(f"chips {what} {faults}")
    table = Table(box=None, header_style="dim")
    for title in ("age", "compensation", found.measure if found.measure != "output error" else "", "output error"):
        table.add_column(title, justify="left" if title == "compensation" else "right")
    for each in found.moments:
        table.add_row(
            format_duration(each.age_s) if each.age_s else "fresh",
            each.mode,
            "" if each.accuracy_mean is None else _share(each.accuracy_mean, each.accuracy_std),
            _share(each.output_error_mean, each.output_error_std),
        )
    console.print(table)
    if found.measure == "accuracy":
        console.say(f"digital {found.digital:.2%}; largest drop {100 * found.drop:.2f} points")
    costly = ", ".join(f"{each.layer} {each.error_mean:.1%}" for each in found.layers[:COSTLY])
    console.say(f"layers with the largest error of their own: {costly}")
    console.say(advice(found))


def advice(found: Expectation) -> str:
    """What to do, in a sentence."""
    kind = {
        "accuracy": f"accuracy drops by more than {100 * found.threshold:g} point",
        "agreement": f"decisions differ by more than {100 * found.threshold:g} points",
        "output error": f"the output error is above {found.threshold:.0%}",
    }[found.measure]
    if found.recommends_training:
        return (
            f"Train it with noise (docs/training.md): {kind}. What helps without training, if it is not in use yet: "
            "--scaling column (docs/compiler.md)."
        )
    return f"No need for noise-aware training; it is recommended where {kind}."


def _share(mean: float, std: float | None) -> str:
    spread = "" if std is None else f" ± {100 * std:.2f}"
    return f"{100 * mean:.2f}{spread} %"
