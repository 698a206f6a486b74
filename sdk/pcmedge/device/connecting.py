"""Connecting to a device by its address."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any
from urllib.parse import quote

from pcmedge.device._calls import LONGEST_TIMEOUT_S, Backoff, Session, checked_timeout
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security
from pcmedge.device._pickling import SECRET, Reopening
from pcmedge.device.async_device import AsyncDevice
from pcmedge.device.device import Device
from pcmedge.errors import InputValueError
from pcmedge.protocol.address import DIGITAL, Address, address_or_environment, digital_path
from pcmedge.protocol.tokens import exposure, read_token

TIMEOUT_S = 30.0
OPERATION_TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class _Line:
    """What both kinds of connection need. ``greeting``: the session of the first call."""

    address: Address
    security: Security
    session: Session
    greeting: Session
    reopening: Reopening


def _line(
    url: str | None,
    *,
    timeout_s: float,
    operation_timeout_s: float,
    wait_s: float,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    max_message_bytes: int,
    **files: Any,
) -> _Line:
    session = Session(
        timeout_s=checked_timeout(timeout_s),
        operation_timeout_s=checked_timeout(operation_timeout_s, "operation_timeout_s"),
    )
    greeting = _greeting(session, wait_s)
    address = address_or_environment(url)
    reopening = partial(
        connect,
        address.url,
        timeout_s=timeout_s,
        operation_timeout_s=operation_timeout_s,
        lazy=True,
        token_file=token_file,
        max_message_bytes=max_message_bytes,
        **files,
    )
    return _Line(
        address=address,
        security=Security(token=_token(token, token_file), **files),
        session=session,
        greeting=greeting,
        reopening=SECRET if token else reopening,
    )


def _token(token: str | None, file: str | os.PathLike[str] | None) -> str | None:
    if file is None:
        return token
    if token is not None:
        raise InputValueError("token and token_file are two ways to say the same; give one", argument="token_file")
    found = read_token(file)
    if problem := exposure(file):
        warnings.warn(problem, stacklevel=4)
    return found


def _digital(path: str) -> Device:
    from pcmedge.digital import DigitalDevice

    device = DigitalDevice(path)
    device._reopening = partial(connect, DIGITAL + quote(path))
    return device


def _greeting(session: Session, wait_s: float) -> Session:
    """Of the first call, which may wait for a device that is still starting."""
    if isinstance(wait_s, bool) or not isinstance(wait_s, Real) or not 0 <= wait_s <= LONGEST_TIMEOUT_S:
        raise InputValueError(f"wait_s is 0 or more seconds; found {wait_s!r}", argument="wait_s")
    return Session(timeout_s=max(session.timeout_s, wait_s), peer=session.peer)


def _backoff(wait_s: float) -> Backoff:
    """Attempts enough to go on for ``wait_s``, and never fewer than usual."""
    usual = Backoff()
    return Backoff(attempts=max(usual.attempts, 4 + int(wait_s / (usual.longest_s * 2 / 3)) + 1))


def connect(
    url: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    operation_timeout_s: float = OPERATION_TIMEOUT_S,
    wait_s: float = 0.0,
    lazy: bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
    server_name: str | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Device:
    """A device at ``grpc://host:port``, ``grpcs://host:port`` or ``unix:///path``; without one, at $PCMEDGE_DEVICE.

    ``digital:///path/model.tflite`` (or ``.onnx``) is no connection but a :func:`pcmedge.DigitalDevice` here.

    ``timeout_s``: deadline of each call, seconds. ``operation_timeout_s``: of programming, recalibration and the like.
    ``wait_s``: how long to wait for a device that is still starting. ``lazy``: do not ask who is there; the first call
    does, and raises what connecting would (``wait_s`` then means nothing). ``token``: bearer token (encrypted or local
    connections only), or ``token_file`` that holds it alone, read now; UserWarning if others may read it. ``ca_file``,
    ``cert_file``, ``key_file``, ``server_name``: TLS, PEM files. Raises UnavailableError if no device answers,
    ContractVersionError if what answers is no device of this version of the contract, InputValueError for an address
    nobody can mean, FileMissingError.
    """
    if (path := digital_path(url)) is not None:
        return _digital(path)
    from pcmedge.device._grpc import GrpcTransport

    line = _line(
        url,
        timeout_s=timeout_s,
        operation_timeout_s=operation_timeout_s,
        wait_s=wait_s,
        token=token,
        token_file=token_file,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        server_name=server_name,
        max_message_bytes=max_message_bytes,
    )
    transport = GrpcTransport(line.address, security=line.security, max_message_bytes=max_message_bytes)
    line.session.peer.unmet = line.address.url
    if not lazy:
        try:
            Device(transport, session=line.greeting, backoff=_backoff(wait_s))._meet()
        except BaseException:
            transport.close()
            raise
    return Device(transport, session=line.session, reopening=line.reopening)


async def connect_async(
    url: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    operation_timeout_s: float = OPERATION_TIMEOUT_S,
    wait_s: float = 0.0,
    lazy: bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
    server_name: str | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> AsyncDevice:
    """An :class:`AsyncDevice` for the running event loop; arguments as for :func:`connect`."""
    if (path := digital_path(url)) is not None:
        from pcmedge.digital import AsyncDigitalDevice

        return await AsyncDigitalDevice(path)
    from pcmedge.device._grpc_aio import AsyncGrpcTransport

    line = _line(
        url,
        timeout_s=timeout_s,
        operation_timeout_s=operation_timeout_s,
        wait_s=wait_s,
        token=token,
        token_file=token_file,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        server_name=server_name,
        max_message_bytes=max_message_bytes,
    )
    transport = AsyncGrpcTransport(line.address, security=line.security, max_message_bytes=max_message_bytes)
    line.session.peer.unmet = line.address.url
    if not lazy:
        try:
            await AsyncDevice(transport, session=line.greeting, backoff=_backoff(wait_s))._meet()
        except BaseException:
            await transport.close()
            raise
    return AsyncDevice(transport, session=line.session)
