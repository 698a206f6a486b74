"""TLS of the service: certificate and key from files, checked before gRPC sees them, and read again when renewed."""

from __future__ import annotations

import logging
import os
import ssl
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
from pcmedge.errors import Error, FileMissingError, InputValueError
from pcmedge.log_events import event

_LOG = logging.getLogger("pcmedge_emulator.service")


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """Files in PEM format. ``cert_file``: the service's certificate and those between it and the authority clients
    trust; ``key_file``: its key, which nobody else may read. ``client_ca_file``: authorities whose certificates clients
    must show (mutual TLS); None lets clients come without.

    The files are read again for a new connection when they have changed; while they do not fit together the ones before
    stay in use, and the log says so.
    """

    cert_file: str | os.PathLike[str]
    key_file: str | os.PathLike[str]
    client_ca_file: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """FileMissingError, InputValueError if the files are not what they should be."""
        # gRPC's stubs do not say that None means no change.
        renewal = cast(Callable[[], grpc.ServerCertificateConfiguration], _Renewal(self).configuration)
        return grpc.dynamic_ssl_server_credentials(self._configuration(), renewal, self.client_ca_file is not None)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = _read(self.cert_file), _read(self.key_file)
        _check_private(Path(self.key_file))
        _check_pair(self.cert_file, self.key_file)
        authorities = None
        if self.client_ca_file is not None:
            authorities = _read(self.client_ca_file)
            _check_authorities(self.client_ca_file)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)

    def _state(self) -> tuple[object, ...]:
        paths = (self.cert_file, self.key_file, self.client_ca_file)
        try:
            found = [os.stat(path) for path in paths if path is not None]
        except OSError as error:
            return (error.errno,)
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size, each.st_mode) for each in found)


class _Renewal:
    """What gRPC asks at every handshake: other files since last time?"""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._seen = tls._state()
        self._lock = threading.Lock()

    def configuration(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            now = self._tls._state()
            if now == self._seen:
                return None
            self._seen = now
            try:
                renewed = self._tls._configuration()
            except Error as error:
                told = event("certificate-refused", path=self._tls.cert_file)
                _LOG.error("the certificate before stays in use: %s", error.message, extra=told)
                return None
            told = event("certificate-renewed", path=self._tls.cert_file)
            _LOG.info("the certificate %s was renewed", self._tls.cert_file, extra=told)
            return renewed


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        # At once: a named pipe would keep the handshake, and with it every other one, waiting for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return file.read()
    except OSError as error:
        raise FileMissingError(
            f"cannot read {path}: {error.strerror}; expected a file in PEM format", path=path
        ) from error


def _check_private(key_file: Path) -> None:
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise InputValueError(
            f"the key {key_file} has mode {mode:o}: others could read it, or others of the group change it; chmod 600",
            path=key_file,
        )


def _no_password() -> str:
    return ""


def _check_pair(cert_file: str | os.PathLike[str], key_file: str | os.PathLike[str]) -> None:
    try:
        # A callback, so that OpenSSL asks nobody at the terminal for the password of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, _no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "unreadable"
        raise InputValueError(
            f"{cert_file} and {key_file} are not a certificate and its unencrypted key in PEM format ({reason})",
            cert_file=cert_file,
            key_file=key_file,
        ) from None


def _check_authorities(path: str | os.PathLike[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "unreadable"
        raise InputValueError(f"{path} holds no certificates in PEM format ({reason})", path=path) from None
