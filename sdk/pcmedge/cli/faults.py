"""``pcmedge lab faults``: break an emulated device's silicon, and mend it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout
from pcmedge.cli.registry import add_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcmedge.cli.output import Screen
    from pcmedge.device.results import Fault

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Inject faults into an emulated device's tiles.")

SHOWN_FAULTS = 40
"""Lines of the list; ``--json`` has all."""


class Kind(enum.StrEnum):
    stuck_at_reset = "stuck-at-reset"
    stuck_at_g_max = "stuck-at-g-max"
    stuck_at_random = "stuck-at-random"
    dead_row = "dead-row"
    dead_column = "dead-column"
    tile_lost = "tile-lost"
    adc_offset = "adc-offset"
    adc_gain = "adc-gain"


def inject(
    kind: Annotated[Kind, typer.Argument(help="What breaks.", show_default=False)],
    tile: Annotated[
        list[int] | None,
        typer.Option(
            min=0, metavar="TILE", help="Physical tile; may be repeated. Without it: all.", show_default=False
        ),
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="Row of a dead row or of one stuck device.")] = 0,
    column: Annotated[int, typer.Option(min=0, help="Column of a dead column, a converter or one stuck device.")] = 0,
    amount: Annotated[
        float, typer.Option(help="Stuck: share of devices (0: one device). ADC: codes of offset, or relative gain.")
    ] = 0.0,
    spread: Annotated[
        bool, typer.Option("--spread", help="ADC: a draw per column with this standard deviation.")
    ] = False,
    minus: Annotated[bool, typer.Option("--minus", help="One stuck device: that of G-, not of G+.")] = False,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Break tiles from now on, over programming and restarts, until the faults are cleared.

    \b
    Examples:
      pcmedge lab faults inject stuck-at-reset --amount 0.01
      pcmedge lab faults inject dead-column --tile 3 --column 17
      pcmedge lab faults inject adc-gain --tile 3 --amount 0.07 --spread
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device
    from pcmedge.device.results import Fault

    with open_device(device, timeout_s=timeout) as connected:
        tiles = tile or range(connected.identity().geometry.tiles)
        wanted = [
            Fault(kind=kind.value, tile=number, row=row, column=column, amount=amount, spread=spread, minus=minus)
            for number in tiles
        ]
        found = connected.lab.inject_faults(wanted)
    Output(json=json).result({"faults": found}, lambda console: _draw(console, found))


def list_faults(device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """List the faults injected into a device."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        found = connected.lab.faults()
    Output(json=json).result({"faults": found}, lambda console: _draw(console, found))


def clear(
    tile: Annotated[
        list[int] | None,
        typer.Option(
            min=0, metavar="TILE", help="Physical tile; may be repeated. Without it: all.", show_default=False
        ),
    ] = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Mend tiles, and take them back into use if a diagnosis retired them.

    \b
    Example:
      pcmedge lab faults clear --tile 3
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        left = connected.lab.clear_faults(tile or ())
    Output(json=json).result({"faults": left}, lambda console: _draw(console, left))


def _draw(console: Screen, found: Sequence[Fault]) -> None:
    if not found:
        console.say("no faults")
    for fault in found[:SHOWN_FAULTS]:
        console.say(f"{fault.number}: {fault.kind} on tile {fault.tile}{_where(fault)}")
    if len(found) > SHOWN_FAULTS:
        console.say(f"... {len(found) - SHOWN_FAULTS} more; --json has them all")


def _where(fault: Fault) -> str:
    if fault.kind.startswith("stuck"):
        if fault.amount:
            return f", {fault.amount:.3%} of its devices"
        return f", row {fault.row}, column {fault.column}, {'G-' if fault.minus else 'G+'}"
    if fault.kind.startswith("adc"):
        unit = " codes" if fault.kind == "adc-offset" else ""
        every = "every column, standard deviation" if fault.spread else f"column {fault.column},"
        return f", {every} {fault.amount:g}{unit}"
    lines = {"dead-row": f", row {fault.row}", "dead-column": f", column {fault.column}"}
    return lines.get(fault.kind, "")


for _name, _command in (("inject", inject), ("list", list_faults), ("clear", clear)):
    add_command(app, _name, _command)
