"""``pcmedge events``: the journal of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcmedge.cli.output import Screen
    from pcmedge.protocol.values import Event


def run(
    after: Annotated[int, typer.Option(min=0, metavar="SEQUENCE", help="Only events after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, oldest first.")] = 100,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep printing new events until Ctrl-C.")] = False,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show what happened to a device: programmed, recalibrated, refused, rolled back, restarted.

    The journal is bounded; it says how many events after --after it no longer has.

    \b
    Examples:
      pcmedge events
      pcmedge events --watch --json
    With --watch --json there is one JSON document per line.
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    out = Output(json=json)
    with open_device(device, timeout_s=timeout) as connected:
        if watch:
            for event in connected.watch_events(after=after):
                if event.lost_before:
                    out.note(f"{event.lost_before} events before the next one are no longer kept")
                out.line(event, one_line(event))
            return
        found = connected.events(after=after, limit=limit)
    out.result({"events": found}, lambda console: _draw(console, found))


def _draw(console: Screen, events: Sequence[Event]) -> None:
    for event in events:
        if event.lost_before:
            console.say(f"{event.lost_before} earlier events are no longer kept", style="yellow")
        console.say(one_line(event))
    if not events:
        console.say("no events")


def one_line(event: Event) -> str:
    """Sequence, wall-clock time, device time, kind, message and details of an event."""
    from datetime import datetime

    from pcmedge.durations import format_duration

    moment = datetime.fromtimestamp(event.time_unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    model = f"{event.model}: " if event.model else ""
    details = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in sorted(event.details.items())
        if value and name != "age_s"
    )
    return (
        f"{event.sequence:>5}  {moment}  {format_duration(event.device_time_s):>7}  {event.kind:<21}  "
        f"{model}{event.message}{f' ({details})' if details else ''}"
    )
