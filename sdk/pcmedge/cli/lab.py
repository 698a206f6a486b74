"""``pcmedge lab``: what only an emulated device can do. The device must run with ``--lab``."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli import faults
from pcmedge.cli.options import DeviceUrl, Json, Timeout
from pcmedge.cli.registry import add_command
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcmedge.cli.output import Screen
    from pcmedge.protocol.values import Advance, Clock, Snapshot

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Move an emulated device's time, save its state, break it."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a snapshot.", show_default=False)]


class Mode(enum.StrEnum):
    real = "real"
    accelerated = "accelerated"
    manual = "manual"


class NoiseKind(enum.StrEnum):
    off = "off"
    additive = "additive"
    input_dependent = "input-dependent"


def advance(
    by: Annotated[str, typer.Argument(metavar="TIME", help="25s, 1h30m, 1d, 1y, ...", show_default=False)],
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Let time pass on a manual or accelerated clock; the policy recalibrates on the way.

    \b
    Example:
      pcmedge lab advance 30d
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device
    from pcmedge.durations import parse_duration

    seconds = parse_duration(by)
    with open_device(device, timeout_s=timeout) as connected:
        result = connected.lab.advance(seconds)
    Output(json=json).result(result, lambda console: _draw_advanced(console, result, seconds))


def _draw_advanced(console: Screen, result: Advance, seconds: float) -> None:
    from pcmedge.durations import format_duration

    times = "once" if result.recalibrations == 1 else f"{result.recalibrations} times"
    console.say(f"advanced by {format_duration(seconds)}; the policy recalibrated {times}")
    _draw_clock(console, result.clock)


def clock(
    mode: Annotated[
        Mode | None, typer.Option(help="Change the clock; without it, show it.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Device seconds per second (accelerated).", show_default=False)
    ] = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show or change the clock of a device.

    \b
    Examples:
      pcmedge lab clock
      pcmedge lab clock --mode accelerated --rate 3600
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    if rate is not None and mode is None:
        mode = Mode.accelerated
    if mode is Mode.accelerated and rate is None:
        raise InputValueError("an accelerated clock needs --rate, for example --rate 3600")
    with open_device(device, timeout_s=timeout) as connected:
        found = (
            connected.lab.clock()
            if mode is None
            else connected.lab.set_clock(mode.value, rate=1.0 if rate is None else rate)
        )
    Output(json=json).result(found, lambda console: _draw_clock(console, found))


def _draw_clock(console: Screen, found: Clock) -> None:
    from pcmedge.durations import format_duration

    rate = f" at {found.rate:g} device seconds per second" if found.mode == "accelerated" else ""
    console.say(f"{found.mode} clock{rate}; device time {format_duration(found.device_time_s)}")


def noise(
    kind: Annotated[NoiseKind, typer.Argument(help="Read noise of each matrix-vector product.", show_default=False)],
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Switch the short-term read noise of an emulated device, for comparison.

    \b
    Example:
      pcmedge lab noise off
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        now = connected.lab.set_noise(kind.value)
    Output(json=json).result({"read_noise_per_mvm": now}, lambda console: console.say(f"read noise per MVM: {now}"))


def snapshot(name: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Save the whole state of a device under a name.

    \b
    Example:
      pcmedge lab snapshot fresh
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        saved = connected.lab.snapshot(name)
    Output(json=json).result(saved, lambda console: _draw_snapshots(console, [saved], "saved "))


def restore(name: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Bring a device back to a snapshot, its age included.

    \b
    Example:
      pcmedge lab restore fresh
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        restored = connected.lab.restore(name)
    Output(json=json).result(restored, lambda console: _draw_snapshots(console, [restored], "restored "))


def snapshots(device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """List the snapshots of a device."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        found = connected.lab.snapshots()
    Output(json=json).result({"snapshots": found}, lambda console: _draw_snapshots(console, found))


def delete_snapshot(name: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Delete a snapshot."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        connected.lab.delete_snapshot(name)
    Output(json=json).result({"deleted": name}, lambda console: console.say(f"deleted {name}"))


def _draw_snapshots(console: Screen, found: Sequence[Snapshot], verb: str = "") -> None:
    from pcmedge.durations import format_duration

    if not found:
        console.say("no snapshots")
    for item in found:
        models = ", ".join(item.models) or "no model"
        age = format_duration(item.device_time_s)
        console.say(f"{verb}{item.name}: device time {age}, {models}, {item.bytes:,} bytes")


for _command in (advance, clock, noise, snapshot, restore, snapshots, delete_snapshot):
    add_command(app, _command.__name__.replace("_", "-"), _command)
app.add_typer(faults.app, name="faults")
