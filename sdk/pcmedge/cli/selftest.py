"""``pcmedge self-test``: does the device still agree with the reference outputs in its image?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device import Device
    from pcmedge.device.results import ModelTelemetry
    from pcmedge.protocol.values import SelfTest

SHOWN_RECORDS = 20
"""Lines of a history's table; its plot and ``--json`` have all that the device keeps."""


def run(
    history: Annotated[
        bool, typer.Option("--history", help="Test nothing; show what self-tests have found since programming.")
    ] = False,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> int:
    """Run the reference inputs stored in the image and compare with their digital outputs.

    Exit codes: 0 passed (with --history: shown), 1 agreement below the device's threshold.

    \b
    Examples:
      pcmedge self-test --json | jq .agreement
      pcmedge self-test --history
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    out = Output(json=json)
    with open_device(device, timeout_s=timeout) as connected:
        if history:
            past = _past(connected, model)
            out.result(
                {"model": past.name, "self_tests": past.self_tests}, lambda console: _draw_history(console, past)
            )
            return 0
        result = connected.self_test(model=model)
    out.result(result, lambda console: _draw(console, result))
    return 0 if result.passed else 1


def _past(device: Device, model: str | None) -> ModelTelemetry:
    """The telemetry of the model meant, with its history. UnimplementedError if the device keeps none."""
    from pcmedge.device._versions import lacking

    identity = device.identity()
    if "self-test.history" not in identity.capabilities:
        raise lacking(identity, "self-test.history", "history of its self-tests")
    name = device.model_spec(model).name
    return next(found for found in device.telemetry(self_tests=True).models if found.name == name)


def _draw(console: Screen, result: SelfTest) -> None:
    from pcmedge.durations import format_duration

    verdict = "passed" if result.passed else "failed"
    console.say(
        f"self-test {verdict}: {result.agreement:.1%} of {result.reference_inputs} reference inputs agree "
        f"(threshold {result.threshold:.1%}), relative error {result.relative_error:.3g}, "
        f"mean absolute difference {result.mean_absolute_difference:.3g}, age {format_duration(result.age_s)}",
        style="green" if result.passed else "bold red",
    )


def _draw_history(console: Screen, past: ModelTelemetry) -> None:
    from rich.table import Table

    from pcmedge.cli.drawing import sparkline
    from pcmedge.durations import format_duration

    records = past.self_tests
    if not records:
        console.say(f"{past.name}: no self-test since it was programmed")
        return
    count = f"{len(records)} self-test{'s' if len(records) > 1 else ''}"
    ages = f"{format_duration(records[0].age_s)} to {format_duration(records[-1].age_s)}"
    console.say(f"{past.name}: {count} at the age of {ages}", style="bold")
    console.say(f"{sparkline([record.agreement for record in records])}  agreement, 0 to 100 %")
    table = Table(box=None, header_style="dim")
    for title in ("age", "agreement", "difference", "statistics", "cause"):
        table.add_column(title, justify="left" if title == "cause" else "right")
    for record in records[-SHOWN_RECORDS:]:
        table.add_row(
            format_duration(record.age_s),
            f"{record.agreement:.1%}",
            f"{record.mean_absolute_difference:.3g}",
            str(record.statistics_generation),
            record.cause,
        )
    console.print(table)
    if len(records) > SHOWN_RECORDS:
        console.say(f"... {len(records) - SHOWN_RECORDS} earlier; --json has them all")
