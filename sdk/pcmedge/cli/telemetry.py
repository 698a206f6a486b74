"""``pcmedge telemetry``: what a device says about itself, once or continuously."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import ModelTelemetry, Telemetry
    from pcmedge.protocol.values import TileTelemetry

SHOWN_FINDINGS = 2
"""Of a tile; ``--json`` has all."""


def run(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep reading until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Time between readings.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many readings.", show_default=False)] = None,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Also per tile: drift factor, saturation, MVMs, diagnosis.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="With --watch --json: past self-tests too.")] = False,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show requests, ages, drift factors, saturation and energy of a device.

    \b
    Examples:
      pcmedge telemetry
      pcmedge telemetry --watch --interval 5
      pcmedge telemetry --watch --json | jq .requests_served
    With --watch --json there is one JSON document per line.
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    out = Output(json=json)
    with open_device(device, timeout_s=timeout) as connected:
        if not watch:
            reading = connected.telemetry(tiles=tiles, self_tests=True)
            out.result(reading, lambda console: draw(console, reading))
            return
        for number, reading in enumerate(
            connected.watch_telemetry(interval_s=interval, tiles=tiles, self_tests=history), 1
        ):
            out.line(reading, _one_line(reading))
            if number == count:
                return


def _one_line(reading: Telemetry) -> str:
    from pcmedge.durations import format_duration

    models = "  ".join(
        f"{model.name}: age {format_duration(model.age_s)}, factor {model.median_drift_factor:.3f}, "
        f"statistics {model.statistics_generation}"
        for model in reading.models
    )
    counters = f"{reading.state:>13}  served {reading.requests_served}  failed {reading.requests_failed}"
    return f"{counters}  {models}".rstrip()


def draw(console: Screen, reading: Telemetry) -> None:
    """One reading: the device, its models, then their tiles if there are figures of them."""
    from pcmedge.durations import format_duration

    console.say(
        f"{reading.health}, {reading.state}, up {format_duration(reading.uptime_s)}; "
        f"requests: {reading.requests_served} served, {reading.requests_failed} failed, "
        f"{reading.requests_queued} waiting, {reading.requests_rejected} refused; "
        f"{reading.free_tiles} of {reading.tiles} tiles free; {reading.memory_bytes / 2**20:.0f} MiB, "
        f"store {reading.store_bytes / 2**20:.1f} MiB",
    )
    for reason in reading.degraded_reasons:
        console.say(f"degraded: {reason}", style="yellow")
    for model in reading.models:
        _draw_model(console, model)
    _draw_tiles(console, reading)


def _draw_model(console: Screen, model: ModelTelemetry) -> None:
    from pcmedge.cli.drawing import format_quantity, sparkline
    from pcmedge.durations import format_duration

    at = model.last_recalibration_age_s
    last = "" if at is None else f", last at age {format_duration(at)}"
    times = "once" if model.recalibrations == 1 else f"{model.recalibrations} times"
    agreement = "" if model.last_agreement is None else f", agreement {model.last_agreement:.1%}"
    console.say(model.name, style="bold")
    console.say(
        f"  age {format_duration(model.age_s)}; {model.inferences} inferences, about "
        f"{format_quantity(model.energy_j, 'J')}; program generation {model.program_generation}, "
        f"statistics generation {model.statistics_generation}"
    )
    console.say(
        f"  drift factor {model.median_drift_factor:.4f}, ADC saturation {model.adc_saturation:.2%}{agreement}; "
        f"recalibrated {times}{last}, {model.recalibrations_refused} refused"
    )
    if len(model.self_tests) > 1:
        console.say(f"  self-tests {sparkline([test.agreement for test in model.self_tests])} agreement, 0 to 100 %")


def _draw_tiles(console: Screen, reading: Telemetry) -> None:
    from rich.table import Table
    from rich.text import Text

    rows = [tile for model in reading.models for tile in model.tiles]
    if not rows:
        return
    table = Table(box=None, header_style="dim")
    diagnosed = any(tile.retired or tile.findings for tile in rows)
    for title in ("tile", "layer", "drift factor", "saturation", "MVMs", *(["diagnosis"] if diagnosed else [])):
        table.add_column(title, justify="left" if title in ("layer", "diagnosis") else "right")
    for tile in rows:
        saturation = f"{tile.adc_saturation:.2%}"
        cells = (str(tile.tile), Text(tile.layer), f"{tile.drift_factor:.4f}", saturation, str(tile.mvms))
        table.add_row(*cells, *([Text(_diagnosis(tile))] if diagnosed else []))
    console.print(table)


def _diagnosis(tile: TileTelemetry) -> str:
    """Whether it is retired, and what is wrong with it, the worst first."""
    places = [finding.place for finding in tile.findings]
    worst = ", ".join(places[:SHOWN_FINDINGS]) + (
        f" and {len(places) - SHOWN_FINDINGS} more" if len(places) > SHOWN_FINDINGS else ""
    )
    return "; ".join(part for part in ("retired" if tile.retired else "", worst) if part)
