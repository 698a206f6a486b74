"""Connecting to a device by its address."""

from __future__ import annotations

import os
from numbers import Real

from pcmedge.device._calls import LONGEST_TIMEOUT_S, Backoff, Session, checked_timeout
from pcmedge.device._grpc_common import MAX_MESSAGE_BYTES, Security
from pcmedge.device._versions import check_contract
from pcmedge.device.async_device import AsyncDevice
from pcmedge.device.device import Device
from pcmedge.errors import InputValueError
from pcmedge.protocol.address import address_or_environment, digital_path

TIMEOUT_S = 30.0
OPERATION_TIMEOUT_S = 900.0


def _session(timeout_s: float, operation_timeout_s: float) -> Session:
    return Session(
        timeout_s=checked_timeout(timeout_s),
        operation_timeout_s=checked_timeout(operation_timeout_s, "operation_timeout_s"),
    )


def _greeting(session: Session, wait_s: float) -> Session:
    """Of the first call, which may wait for a device that is still starting."""
    if isinstance(wait_s, bool) or not isinstance(wait_s, Real) or not 0 <= wait_s <= LONGEST_TIMEOUT_S:
        raise InputValueError(f"wait_s is 0 or more seconds; found {wait_s!r}", argument="wait_s")
    return Session(timeout_s=max(session.timeout_s, wait_s))


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
    ca_file: str | os.PathLike[str] | None = None,
    cert_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
    server_name: str | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Device:
    """A device at ``grpc://host:port``, ``grpcs://host:port`` or ``unix:///path``; without one, at $PCMEDGE_DEVICE.

    ``digital:///path/model.tflite`` (or ``.onnx``) is no connection but a :func:`pcmedge.DigitalDevice` here.

    ``timeout_s``: deadline of each call, seconds. ``operation_timeout_s``: of programming, recalibration and the like.
    ``wait_s``: how long to wait for a device that is still starting. ``lazy``: do not ask who is there; a device that
    is down is noticed by the first call (``wait_s`` then means nothing). ``token``: bearer token (encrypted or local
    connections only). ``ca_file``, ``cert_file``, ``key_file``, ``server_name``: TLS, PEM files. Raises
    UnavailableError if no device answers, ContractVersionError if what answers is no device of this version of the
    contract, InputValueError for an address nobody can mean.
    """
    if (path := digital_path(url)) is not None:
        from pcmedge.digital import DigitalDevice

        return DigitalDevice(path)
    from pcmedge.device._grpc import GrpcTransport

    session = _session(timeout_s, operation_timeout_s)
    greeting = _greeting(session, wait_s)
    address = address_or_environment(url)
    security = Security(token=token, ca_file=ca_file, cert_file=cert_file, key_file=key_file, server_name=server_name)
    transport = GrpcTransport(address, security=security, max_message_bytes=max_message_bytes)
    if lazy:
        return Device(transport, session=session)
    try:
        greeted = Device(transport, session=greeting, backoff=_backoff(wait_s))
        greeted._run(check_contract(greeting, address.url))
    except BaseException:
        transport.close()
        raise
    session.contract = greeting.contract
    return Device(transport, session=session)


async def connect_async(
    url: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    operation_timeout_s: float = OPERATION_TIMEOUT_S,
    wait_s: float = 0.0,
    lazy: bool = False,
    token: str | None = None,
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

    session = _session(timeout_s, operation_timeout_s)
    greeting = _greeting(session, wait_s)
    address = address_or_environment(url)
    security = Security(token=token, ca_file=ca_file, cert_file=cert_file, key_file=key_file, server_name=server_name)
    transport = AsyncGrpcTransport(address, security=security, max_message_bytes=max_message_bytes)
    if lazy:
        return AsyncDevice(transport, session=session)
    try:
        greeted = AsyncDevice(transport, session=greeting, backoff=_backoff(wait_s))
        await greeted._run(check_contract(greeting, address.url))
    except BaseException:
        await transport.close()
        raise
    session.contract = greeting.contract
    return AsyncDevice(transport, session=session)
