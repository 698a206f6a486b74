"""``pcmedge demo``: a digits network ages a year on emulated chips and is kept accurate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import PHYSICS_HELP, Json, comma_separated

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.demo import DemoResult, View


def run(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for table, picture and image.")
    ] = Path("pcmedge-demo"),
    chips: Annotated[int, typer.Option(min=1, help="How many emulated chips.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first chip.")] = 0,
    times: Annotated[
        str | None,
        typer.Option(metavar="T,T,...", help="Ages at which accuracy is measured.", show_default="25s to 1y"),
    ] = None,
    physics: Annotated[str, typer.Option(metavar="NAME", help=PHYSICS_HELP)] = "pcm-90nm",
    train: Annotated[
        bool, typer.Option("--train", help="Train the network again first, noise-aware (needs the 'train' extra).")
    ] = False,
    json: Json = False,
) -> None:
    """Handwritten digits on emulated chips: a year of drift, without help, with GDC, with adaptive batch norm.

    Starts the emulator as a process of its own, programs it over gRPC and keeps asking it while simulated time runs
    from seconds to a year. Writes demo.parquet, demo.png and digits.pcmi. Under a minute.

    \b
    Examples:
      pcmedge demo
      pcmedge demo --train --output trained
      pcmedge demo --json | jq '.rows[-1]'
    """
    from pcmedge.cli.output import Output
    from pcmedge.demo import run as run_demo
    from pcmedge.demo.year import AGES_S

    ages = AGES_S if times is None else comma_separated(times)
    result = run_demo(output, chips=chips, seed=seed, physics=physics, ages=ages, train=train, view=_view(json))
    Output(json=json).result(result.document(), lambda console: _draw(console, result))


def _view(json: bool) -> View:
    """On stderr: a live picture on a terminal; elsewhere plain lines, or nothing beside a document."""
    from pcmedge.cli.output import Screen
    from pcmedge.demo import QuietView, choose_view

    console = Screen(stderr=True)
    return QuietView() if json and not console.is_terminal else choose_view(console)


def _draw(console: Screen, result: DemoResult) -> None:
    from pcmedge.demo import closing_lines, final_table

    console.print(final_table(result))
    for line in closing_lines(result):
        console.say(line)
