"""Reach the device a command talks to."""

from __future__ import annotations

import os
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.device import Device

DEFAULT_LISTEN = "127.0.0.1:7390"
"""Where ``pcmedge serve`` listens, and where ``pcmedge devices`` looks, unless told otherwise."""

TOKEN_FILE_VARIABLE = "PCMEDGE_TOKEN_FILE"

_token_file: ContextVar[Path | None] = ContextVar("pcmedge token file", default=None)


def use_token_file(path: Path | None) -> None:
    """The token of this command's calls is in this file; None: in the environment, or there is none."""
    _token_file.set(path)


def open_device(url: str | None, *, timeout_s: float | None = None) -> Device:
    """Connect to ``url`` or $PCMEDGE_DEVICE; the device is a context manager.

    ``timeout_s`` bounds short and long calls alike. Secrets come from files and the environment, where ``ps`` does
    not show them: --token-file or $PCMEDGE_TOKEN_FILE, else $PCMEDGE_TOKEN, and the PEM files $PCMEDGE_CA_FILE,
    $PCMEDGE_CERT_FILE and $PCMEDGE_KEY_FILE.
    Raises InputValueError if no address is given, and what connecting raises.
    """
    import pcmedge
    from pcmedge.device.connecting import OPERATION_TIMEOUT_S, TIMEOUT_S

    url = url or _environment("DEVICE")
    if url is None:
        raise InputValueError(
            f"no device named. Give --device URL or set PCMEDGE_DEVICE, e.g. grpc://{DEFAULT_LISTEN}; "
            "'pcmedge devices' looks for running ones"
        )
    return pcmedge.connect(
        url,
        timeout_s=timeout_s or TIMEOUT_S,
        operation_timeout_s=timeout_s or OPERATION_TIMEOUT_S,
        token=_token(),
        ca_file=_environment("CA_FILE"),
        cert_file=_environment("CERT_FILE"),
        key_file=_environment("KEY_FILE"),
    )


def _token() -> str | None:
    from pcmedge.protocol.tokens import read_token

    path = _token_file.get()
    return _environment("TOKEN") if path is None else read_token(path)


def _environment(name: str) -> str | None:
    return os.environ.get(f"PCMEDGE_{name}") or None
