"""``pcmedge read-tile``: the conductances of one tile, for diagnosis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import TileReadout


def run(
    tile: Annotated[int, typer.Argument(metavar="TILE", min=0, help="Physical tile.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write all conductances to .npz.", show_default=False),
    ] = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Read the conductances of a tile now. 'pcmedge telemetry --tiles' lists the tiles of a model.

    \b
    Examples:
      pcmedge read-tile 0
      pcmedge read-tile 0 --output tile.npz
    """
    from pcmedge.cli.arrays import check_writable_kind, write_arrays
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    if output is not None:
        check_writable_kind(output)
    with open_device(device, timeout_s=timeout) as connected:
        found = connected.read_tile(tile, model=model)
    sides = {"g_plus_microsiemens": found.g_plus_microsiemens, "g_minus_microsiemens": found.g_minus_microsiemens}
    if output is not None:
        write_arrays(output, sides)
    rows, columns = found.g_plus_microsiemens.shape
    document = {
        "tile": found.tile,
        "layer": found.layer,
        "rows": rows,
        "columns": columns,
        "age_s": found.age_s,
        "output_file": output,
        **{name: _statistics(side) for name, side in sides.items()},
    }
    Output(json=json).result(document, lambda console: _draw(console, found, sides, output))


def _statistics(side: Any) -> dict[str, float]:
    return {"minimum": side.min(), "mean": side.mean(), "maximum": side.max(), "std": side.std()}


def _draw(console: Screen, found: TileReadout, sides: dict[str, Any], output: Path | None) -> None:
    from pcmedge.durations import format_duration

    rows, columns = found.g_plus_microsiemens.shape
    console.say(f"tile {found.tile} of {found.layer}: {rows} x {columns}, age {format_duration(found.age_s)}")
    for title, side in zip(("G+", "G-"), sides.values(), strict=True):
        figures = ", ".join(f"{name} {value:.3g}" for name, value in _statistics(side).items())
        console.say(f"  {title}  {figures} µS")
    if output is not None:
        console.say(f"written to {output}")
