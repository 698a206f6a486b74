"""Options of ``pcmedge serve`` about who is let in, what is programmed, and how much one client may take."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

PANEL, BOUNDS = "Security", "Bounds"


class Signatures(enum.StrEnum):
    off = "off"
    warn = "warn"
    require = "require"


TlsCert = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Certificate (PEM); the address is then grpcs://.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its key (PEM, mode 600).", show_default=False, rich_help_panel=PANEL),
]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Mutual TLS: clients must show a certificate of these authorities.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Every call needs a token of this file ('pcmedge token new') with the call's role.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Listen without TLS where other machines reach it; metrics too.",
        rich_help_panel=PANEL,
    ),
]
SignaturesOption = Annotated[
    Signatures,
    typer.Option(
        "--signatures", help="Images without a signature of a trusted key: take, note or refuse.", rich_help_panel=PANEL
    ),
]
TrustedKey = Annotated[
    list[Path] | None,
    typer.Option(
        "--trusted-key",
        metavar="FILE",
        help="Public key (PEM) whose signatures count; may be repeated.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
AllowRollback = Annotated[
    bool | None,
    typer.Option(
        "--allow-rollback/--refuse-rollback",
        help="Images older than the device has held.",
        show_default="refused with --signatures require",
        rich_help_panel=PANEL,
    ),
]
MaxImageBytes = Annotated[
    int, typer.Option(min=1, metavar="BYTES", help="A larger image is refused at once.", rich_help_panel=BOUNDS)
]
MaxMessageBytes = Annotated[
    int, typer.Option(min=1024, metavar="BYTES", help="Of one request or answer.", rich_help_panel=BOUNDS)
]
MaxConnections = Annotated[int, typer.Option(min=1, metavar="N", help="More are closed.", rich_help_panel=BOUNDS)]
MaxUploads = Annotated[
    int, typer.Option(min=1, metavar="N", help="Images and buffers taken in at once.", rich_help_panel=BOUNDS)
]
MaxConnectionAge = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="End every connection after so long, e.g. 1d; clients connect again and are checked anew.",
        show_default=False,
        rich_help_panel=BOUNDS,
    ),
]
