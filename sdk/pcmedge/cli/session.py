"""Reach the device a command talks to."""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.device import Device, FallbackDevice
    from pcmedge.device._grpc_common import Security

DEFAULT_LISTEN = "127.0.0.1:7390"
"""Where ``pcmedge serve`` listens, and where ``pcmedge devices`` looks, unless told otherwise."""

TOKEN_FILE_VARIABLE = "PCMEDGE_TOKEN_FILE"


class TokenFile:
    """A client's file with a token; says once that others may read it, however many threads of a command ask for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._told = False

    def read(self) -> str:
        """The token. What :func:`pcmedge.protocol.tokens.read_token` raises."""
        from pcmedge.protocol.tokens import exposure, read_token

        token = read_token(self._path)
        with self._lock:
            told, self._told = self._told, True
        problem = exposure(self._path)
        if problem and not told:
            from pcmedge.cli.output import Output

            Output(json=False).note(f"warning: {problem}")
        return token


_token_file: ContextVar[TokenFile | None] = ContextVar("pcmedge token file", default=None)


def use_token_file(path: Path | None) -> None:
    """The token of this command's calls is in this file; None: in the environment, or there is none."""
    _token_file.set(None if path is None else TokenFile(path))


def open_device(url: str | None, *, timeout_s: float | None = None, lazy: bool = False) -> Device:
    """Connect to ``url`` or $PCMEDGE_DEVICE; the device is a context manager.

    ``lazy``: it need not be there yet. ``timeout_s`` bounds short and long calls alike. Secrets come from files and
    the environment, where ``ps`` does not show them: --token-file or $PCMEDGE_TOKEN_FILE, else $PCMEDGE_TOKEN, and the
    PEM files $PCMEDGE_CA_FILE, $PCMEDGE_CERT_FILE and $PCMEDGE_KEY_FILE.
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
        lazy=lazy,
        token=_token(),
        ca_file=_environment("CA_FILE"),
        cert_file=_environment("CERT_FILE"),
        key_file=_environment("KEY_FILE"),
    )


def open_pair(
    url: str | None,
    fallback: str,
    *,
    timeout_s: float | None = None,
    deadline_s: float | None = None,
    min_agreement: float | None = None,
) -> FallbackDevice:
    """The device at ``url``, and ``fallback`` for when it cannot answer: an address, or a model file run here.

    A chip image runs on an emulated chip without any physics. Raises what making either device raises, and InputError
    if they do not fit each other.
    """
    import pcmedge

    with contextlib.ExitStack() as opened:
        primary = opened.enter_context(open_device(url, timeout_s=timeout_s, lazy=True))
        pair = pcmedge.FallbackDevice(primary, fallback, deadline_s=deadline_s, min_agreement=min_agreement)
        opened.pop_all()
    return pair


def _token() -> str | None:
    file = _token_file.get()
    return _environment("TOKEN") if file is None else file.read()


def _environment(name: str) -> str | None:
    return os.environ.get(f"PCMEDGE_{name}") or None


def security_from_environment() -> Security:
    """How the connections of the command line are secured: what :func:`open_device` reads."""
    from pcmedge.device._grpc_common import Security

    return Security(
        token=_token(),
        ca_file=_environment("CA_FILE"),
        cert_file=_environment("CERT_FILE"),
        key_file=_environment("KEY_FILE"),
    )
