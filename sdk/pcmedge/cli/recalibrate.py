"""``pcmedge recalibrate | rollback``: compensate drift on the device, or take that back."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Reads, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import RecalibrationResult


class Method(enum.StrEnum):
    default = "default"
    gdc = "gdc"
    gdc_per_column = "gdc-per-column"
    adabs = "adabs"
    adabs_paired = "adabs-paired"


MethodOption = Annotated[
    Method,
    typer.Option(
        metavar="METHOD",
        help="gdc, gdc-per-column, adabs, adabs-paired or default (paired statistics where they exist, else GDC).",
    ),
]


def run(
    model: Model = None,
    method: MethodOption = Method.default,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Plain AdaBS: mini-batches (default: up to 13).", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Plain AdaBS: samples of each (default: up to 200).", show_default=False)
    ] = None,
    reads: Reads = None,
    gdc_everywhere: Annotated[
        bool, typer.Option("--gdc-everywhere", help="Global drift compensation also before batch norms.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Commit without asking the guard.")] = False,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Re-measure on the device what drift has changed and compensate digitally.

    The guard commits the new statistics only if the self-test does not get worse; a refusal is exit code 5 and the
    old statistics stay.

    \b
    Examples:
      pcmedge recalibrate
      pcmedge recalibrate --reads 16
      pcmedge recalibrate --method gdc --json
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    out = Output(json=json)
    with open_device(device, timeout_s=timeout) as connected, out.progress("recalibrating") as bar:
        result = connected.recalibrate(
            method.value,
            model=model,
            batches=batches or 0,
            batch_size=batch_size or 0,
            reads=reads or 0,
            gdc_everywhere=gdc_everywhere,
            force=force,
            progress=bar.show,
        )
    result.raise_for_refusal()
    out.result(result, lambda console: _draw(console, result))


def rollback(model: Model = None, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Go back to the statistics before the last recalibration.

    \b
    Example:
      pcmedge rollback --model digits
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        generation = connected.rollback(model=model)
    text = f"rolled back; statistics generation {generation}"
    Output(json=json).result({"statistics_generation": generation}, lambda console: console.say(text))


def _draw(console: Screen, result: RecalibrationResult) -> None:
    from pcmedge.durations import format_duration

    reads = f" on {result.reads} reads" if result.reads > 1 else ""
    samples = f" with {result.samples} samples{reads}" if result.samples else ""
    console.say(
        f"recalibrated at age {format_duration(result.age_s)} in {result.duration_s:.2f} s{samples}; "
        f"statistics generation {result.statistics_generation}"
    )
    console.say(
        f"agreement {result.agreement_before:.1%} before, {result.agreement_after:.1%} after; "
        f"median drift factor {result.median_drift_factor:.4f}, mean shift {result.mean_shift:.3g} sigma"
    )
