"""How ``pcmedge serve`` is operated: its options of logs, metrics, journal and draining, and what they mean."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from pcmedge.cli.logs import LogFormat, LogLevel
from pcmedge.cli.settings import checked
from pcmedge.durations import parse_duration
from pcmedge.errors import MissingExtraError
from pcmedge.protocol.address import parse_address

checked_address = checked(partial(parse_address, listen=True))

LogFormatOption = Annotated[LogFormat, typer.Option(help="Logs on stderr: lines for people, or a JSON document each.")]
LogLevelOption = Annotated[LogLevel, typer.Option(help="The least important lines to log.")]
AccessLog = Annotated[
    bool, typer.Option("--access-log", help="Also log every call: id, status, duration. Health: level debug.")
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        callback=checked_address,
        help="Expose Prometheus metrics over HTTP, on this machine only unless --insecure (extra 'metrics').",
        show_default=False,
    ),
]
DrainTimeout = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        callback=checked(parse_duration),
        help="How long requests in flight may finish after SIGTERM or Ctrl-C.",
    ),
]
JournalMaxEvents = Annotated[int, typer.Option(min=1, metavar="EVENTS", help="The newest events that are kept.")]
JournalMaxBytes = Annotated[int, typer.Option(min=1, metavar="BYTES", help="What they may take in the store.")]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print every option's value and where it came from, and exit.")
]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How one service is to be operated. ``log``: structlog's; ``grace_s``: for requests in flight at the end."""

    log: Any
    access_log: bool
    metrics: str | None
    insecure: bool
    grace_s: float

    def prepared(self) -> Watching:
        """The observers of the service to be, before anything is opened. InputValueError, MissingExtraError."""
        observers: list[Callable[[Any], None]] = []
        if self.access_log:
            from pcmedge_emulator.service.lifecycle import access_log

            observers.append(access_log(self.log))
        if self.metrics is None:
            return Watching(observers=tuple(observers))
        try:
            from pcmedge_emulator.service.metrics import Metrics, metrics_address
        except ModuleNotFoundError as problem:
            raise MissingExtraError.for_extra("metrics", "Exposing metrics") from problem
        counted = Metrics()
        address = metrics_address(self.metrics, insecure=self.insecure)
        return Watching(observers=(*observers, counted), metrics=counted, address=address)


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Who watches a service: observers of its calls, and the metrics to expose."""

    observers: tuple[Callable[[Any], None], ...] = ()
    metrics: Any = None
    address: Any = None

    @contextmanager
    def over(self, server: Any) -> Iterator[str | None]:
        """Exposes metrics of a running service; yields their URL, None without."""
        with ExitStack() as opened:
            url: str | None = None
            if self.metrics is not None:
                from pcmedge_emulator.service.metrics import exposed

                url = opened.enter_context(exposed(self.metrics, server.ask, self.address))
            yield url


def notify(state: str) -> None:
    """Tells the service manager, if there is one that listens (sd_notify(3)): READY=1, STOPPING=1, STATUS=..."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    # A manager that went away is no reason to stop serving.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), address)
