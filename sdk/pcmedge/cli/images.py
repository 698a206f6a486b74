"""``pcmedge images | activate | deactivate | erase``: what is resident on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcmedge.cli.output import Screen
    from pcmedge.device.results import ResidentModel

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a resident model.", show_default=False)]


def list_images(device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """List the images resident on a device: tiles, age, generations, active or not.

    \b
    Example:
      pcmedge images --device grpc://127.0.0.1:7390
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        resident = connected.models()
    Output(json=json).result({"models": resident}, lambda console: draw_images(console, resident))


def activate(model: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Let a resident model answer requests."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        changed = connected.activate(model)
    Output(json=json).result({"model": changed}, lambda console: console.say(f"{model} is active"))


def deactivate(model: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Stop a resident model from answering; it stays on its tiles."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        changed = connected.deactivate(model)
    Output(json=json).result({"model": changed}, lambda console: console.say(f"{model} is inactive"))


def erase(model: Name, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> None:
    """Erase a resident model and free its tiles."""
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        freed = connected.erase(model)
    document = {"model": model, "freed_tiles": freed}
    Output(json=json).result(document, lambda console: console.say(f"erased {model}: {freed} tiles free"))


def draw_images(console: Screen, images: Sequence[ResidentModel]) -> None:
    """A table of resident images."""
    from rich.table import Table
    from rich.text import Text

    from pcmedge.durations import format_duration

    if not images:
        console.say("no image on this device; program one: pcmedge program IMAGE")
        return
    table = Table(box=None, header_style="dim")
    for title in ("model", "version", "state", "tiles", "age", "program", "statistics", "image"):
        table.add_column(title, justify="right" if title in ("version", "tiles", "program", "statistics") else "left")
    for image in images:
        table.add_row(
            Text(image.name),
            str(image.version),
            Text("active", style="green") if image.active else Text("inactive", style="dim"),
            str(image.tiles),
            format_duration(image.age_s),
            str(image.program_generation),
            str(image.statistics_generation),
            image.image_sha256[:12],
        )
    console.print(table)
