"""``pcmedge diagnose``: which tiles, rows, columns and cells no longer do what healthy ones would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.protocol.values import Diagnosis, FaultFinding

SHOWN_FINDINGS = 5
"""Findings shown of a tile; ``--json`` has all that the device tells."""


def run(
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Chance that a healthy chip has a finding. [0.001]", show_default=False),
    ] = None,
    tolerate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of faulty cells that retires no tile. [0.0005]", show_default=False),
    ] = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> int:
    """Read known vectors through every tile of a model and compare with healthy tiles of its age.

    Tiles that are unfit are retired: the next "pcmedge program" takes others. Ctrl-C retires none. Exit codes: 0
    nothing found, 1 faults found.

    \b
    Examples:
      pcmedge diagnose
      pcmedge diagnose --json | jq .retired_tiles
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    out = Output(json=json)
    with open_device(device, timeout_s=timeout) as connected, out.progress("diagnosing") as bar:
        found = connected.diagnose(
            model=model,
            false_alarm_rate=false_alarm_rate or 0.0,
            tolerated_cells=tolerate,
            progress=bar.show,
            timeout_s=timeout,
        )
    out.result(found, lambda console: _draw(console, found))
    return 0 if found.healthy else 1


def _draw(console: Screen, found: Diagnosis) -> None:
    from pcmedge.durations import format_duration

    bad = [tile for tile in found.tiles if tile.findings]
    verdict = f"{len(bad)} have faults" if bad else "none has a fault"
    console.say(
        f"{len(found.tiles)} tiles diagnosed at the age of {format_duration(found.age_s)}: {verdict} "
        f"(false alarms: {found.false_alarm_rate:g})",
        style="bold red" if bad else "green",
    )
    for tile in bad:
        fate = "retired" if tile.retired else "tolerated"
        console.say(f"tile {tile.tile} ({tile.layer}): {tile.faulty_cells} of {tile.cells} cells faulty, {fate}")
        for finding in tile.findings[:SHOWN_FINDINGS]:
            console.say(f"  {_finding(finding)}")
        if len(tile.findings) > SHOWN_FINDINGS:
            console.say(f"  ... {len(tile.findings) - SHOWN_FINDINGS} more; --json has them")
    # Of the model that was diagnosed: the device may have retired others, which it left long ago.
    if any(tile.retired for tile in found.tiles):
        console.say("program the image again to move it off retired tiles")


def _finding(finding: FaultFinding) -> str:
    return f"{finding.place}: {finding.measured:.3g}, expected {finding.expected:.3g} ± {finding.bound:.3g}"
