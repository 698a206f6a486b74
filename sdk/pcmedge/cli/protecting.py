"""Who ``pcmedge serve`` lets in, which images, and how much one client may take: its options, and what they mean."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pcmedge.cli.settings import checked
from pcmedge.durations import parse_duration
from pcmedge.errors import InputValueError

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
MaxSnapshots = Annotated[
    int, typer.Option(min=1, metavar="N", help="With --lab: more are refused.", rich_help_panel=BOUNDS)
]
MaxSnapshotBytes = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="BYTES",
        help="With --lab: no further snapshot when those kept hold so much.",
        rich_help_panel=BOUNDS,
    ),
]
MaxConnectionAge = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        callback=checked(parse_duration),
        help="End every connection after so long, e.g. 1d; clients connect again and are checked anew.",
        show_default=False,
        rich_help_panel=BOUNDS,
    ),
]


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Any:
    """A ServerTls of these files, None of none. InputValueError for one of certificate and key without the other."""
    from pcmedge_emulator.service.tls import ServerTls

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InputValueError("TLS takes a certificate and its key: --tls-cert FILE --tls-key FILE")
    return ServerTls(cert_file=cert, key_file=key, client_ca_file=client_ca)


def protection(
    listen: str,
    *,
    tls: Any,
    tokens: Path | None,
    insecure: bool,
    max_message_bytes: int,
    max_connection_age: str | None,
    **bounds: Any,
) -> dict[str, Any]:
    """How a service is protected, as ``serve`` of the emulator takes it; ``bounds`` are fields of its Limits.

    Checked before the device is made and programmed: a wrong file or address must change nothing in its store.
    Raises what serving raises for them.
    """
    from pcmedge_emulator.service.limits import Limits
    from pcmedge_emulator.service.server import check_served

    age_s = None if max_connection_age is None else parse_duration(max_connection_age)
    check_served(listen, tls=tls, tokens=tokens, insecure=insecure)
    return {
        "tls": tls,
        "tokens": tokens,
        "insecure": insecure,
        "max_message_bytes": max_message_bytes,
        "limits": Limits(max_connection_age_s=age_s, **bounds),
    }
