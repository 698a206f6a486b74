"""``pcmedge health``: whether to send requests to a device, as an exit code."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout


class Wanted(enum.StrEnum):
    alive = "alive"
    ready = "ready"
    healthy = "healthy"


_ENOUGH = {
    Wanted.alive: ("alive", "ready", "recalibrating", "degraded"),
    Wanted.ready: ("ready", "recalibrating", "degraded"),
    Wanted.healthy: ("ready", "recalibrating"),
}


def run(
    require: Annotated[
        Wanted,
        typer.Option(help="alive: it answers; ready: it answers inference; healthy: and nothing is degraded."),
    ] = Wanted.ready,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Say whether a device is alive, ready, recalibrating or degraded; for health checks of containers and scripts.

    \b
    Examples:
      pcmedge health
      pcmedge health --require alive --timeout 3

    A device that wants a token and gets none is alive, and says no more.

    Exit codes: 0 as required, 1 less than that, 6 no device there, 9 the device does not tell, 11 no token, or one it
    does not know.
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device
    from pcmedge.device._versions import lacking
    from pcmedge.errors import AccessError

    out = Output(json=json)
    try:
        with open_device(device, timeout_s=timeout) as connected:
            reading = connected.telemetry()
            if reading.health not in _ENOUGH[Wanted.alive]:
                raise lacking(
                    connected.identity(), "telemetry.health", "one word for its health; 'pcmedge telemetry' shows more"
                )
    except AccessError as error:
        if require is not Wanted.alive:
            raise
        document = {"health": "alive", "state": "unknown", "degraded_reasons": ()}
        text = f"alive, and says no more: {error.message}"
        out.result(document, lambda console: console.say(text))
        return
    document = {"health": reading.health, "state": reading.state, "degraded_reasons": reading.degraded_reasons}
    text = "\n".join((f"{reading.health}, {reading.state}", *reading.degraded_reasons))
    out.result(document, lambda console: console.say(text))
    if reading.health not in _ENOUGH[require]:
        raise typer.Exit(1)
