"""``pcmedge devices``: who is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import Json
from pcmedge.cli.session import DEFAULT_LISTEN

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import Identity, ResidentModel, Telemetry
    from pcmedge.errors import Error

_HOST, _, _PORT = DEFAULT_LISTEN.rpartition(":")
DEFAULT_ADDRESSES = tuple(f"grpc://{_HOST}:{int(_PORT) + step}" for step in range(4))
"""Where ``pcmedge devices`` looks if nobody names an address: the port ``pcmedge serve`` takes, and the next three."""


@dataclass(frozen=True, kw_only=True)
class FoundDevice:
    """What a device says of itself."""

    url: str
    identity: Identity
    models: tuple[ResidentModel, ...]
    telemetry: Telemetry


def run(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL", help="Addresses to ask.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="How long to wait for each.")] = 2.0,
    json: Json = False,
) -> int:
    """Find devices: identity, state, models and their age.

    Asks the addresses you name, else $PCMEDGE_DEVICE and the default ports on this machine. An address you name that
    does not answer is an error (exit code 6).

    \b
    Examples:
      pcmedge devices
      pcmedge devices grpc://10.0.0.7:7390 unix:///run/pcm0.sock --json
    """
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    from pcmedge.cli.output import Output
    from pcmedge.errors import AccessError

    named = list(urls or [])
    addresses = named or _default_addresses()
    with ThreadPoolExecutor(max_workers=min(8, len(addresses))) as pool:
        # Each in a copy of this context, which knows the file with the token.
        asked = [pool.submit(copy_context().run, _ask, url, timeout) for url in addresses]
        answers = [each.result() for each in asked]
    found = [answer for answer in answers if isinstance(answer, FoundDevice)]
    silent = [
        (url, answer) for url, answer in zip(addresses, answers, strict=True) if not isinstance(answer, FoundDevice)
    ]
    document = {
        "devices": found,
        "silent": [{"url": url, "reason": error.reason, "message": error.message} for url, error in silent],
    }
    out = Output(json=json)
    closed = [(url, error.message) for url, error in silent if isinstance(error, AccessError) and not named]
    out.result(document, lambda console: _draw(console, found, closed, [] if named else addresses))
    if not named or not silent:
        return 0
    for url, error in silent:
        out.note(f"{url}: {error.message}")
    return silent[0][1].exit_code


def _default_addresses() -> list[str]:
    named = os.environ.get("PCMEDGE_DEVICE")
    return list(dict.fromkeys([*([named] if named else []), *DEFAULT_ADDRESSES]))


def describe_device(url: str, *, timeout_s: float) -> FoundDevice:
    """Ask one device. Raises UnavailableError and whatever else connecting raises."""
    from pcmedge.cli.session import open_device

    with open_device(url, timeout_s=timeout_s) as device:
        return FoundDevice(url=url, identity=device.identity(), models=device.models(), telemetry=device.telemetry())


def _ask(url: str, timeout_s: float) -> FoundDevice | Error:
    from pcmedge.errors import Error

    try:
        return describe_device(url, timeout_s=timeout_s)
    except Error as problem:
        return problem


def _draw(
    console: Screen, found: Sequence[FoundDevice], closed: Sequence[tuple[str, str]], looked_at: Sequence[str]
) -> None:
    from pcmedge.cli.images import draw_images
    from pcmedge.device._versions import version_of
    from pcmedge.protocol.version import spelled

    for device in found:
        identity, telemetry = device.identity, device.telemetry
        kind = " (emulated)" if identity.emulated else ""
        console.say(f"{device.url}", style="bold")
        console.say(
            f"  {identity.product} {identity.serial} by {identity.vendor}{kind}, {identity.technology}, "
            f"firmware {identity.firmware_version}, contract {spelled(*version_of(identity))}",
        )
        geometry = identity.geometry
        tiles = (
            f"{geometry.profile or 'profile of its first image'}: {geometry.free_tiles} of {geometry.tiles} tiles free"
            if "program" in identity.capabilities or geometry.tiles
            else "no tiles"
        )
        console.say(f"  {telemetry.state}; {tiles}")
        draw_images(console, device.models)
    for url, why in closed:
        console.say(url, style="bold")
        console.say(f"  answers, but lets nobody in without a token: {why}")
    if not found and not closed and looked_at:
        console.say(f"no device answers at {', '.join(looked_at)}")
        console.say("start an emulated one: pcmedge serve IMAGE")
