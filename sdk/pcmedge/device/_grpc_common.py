"""What the blocking and the awaiting gRPC transport share: channel options, credentials, errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from pcmedge.device._calls import Call
from pcmedge.device.transport import deadline_error
from pcmedge.errors import (
    BusyError,
    CancelledError,
    CertificateError,
    Error,
    FileMissingError,
    InputValueError,
    InternalError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from pcmedge.protocol.address import Address
from pcmedge.protocol.limits import MAX_MESSAGE_BYTES as MAX_MESSAGE_BYTES
from pcmedge.protocol.status import DETAILS_KEY, from_status

_BROKEN_OFF = "Internal error from Core"
"""What grpc.aio itself says when it was writing to a stream whose connection had just gone; no device sends it."""


_CANCELLED_HERE = ("Locally cancelled by application!", "Channel closed!")
"""What gRPC says of a call that this process cancelled, or whose connection it closed."""


@dataclass(frozen=True, kw_only=True)
class Security:
    """How to trust a device and be trusted; files in PEM format.

    ``ca_file``: certificates to trust instead of the system's. ``cert_file``, ``key_file``: this client's own (mutual
    TLS). ``server_name``: the name in the device's certificate if it is not the host's. ``token``: bearer token.
    """

    token: str | None = None
    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def check(self, address: Address) -> None:
        """InputValueError if what was given does not go with the address."""
        encrypted = address.scheme == "grpcs"
        if not encrypted and (self.ca_file or self.cert_file or self.key_file or self.server_name):
            raise InputValueError(f"certificates go with a grpcs:// address; found {address}", address=address)
        if self.token is not None and not (
            isinstance(self.token, str) and self.token.isascii() and self.token.isprintable()
        ):
            # The token itself stays out of the message: messages end up in logs.
            raise InputValueError("a token has printable ASCII characters only; is there a line end in it?")
        if self.token and not encrypted and not address.local:
            raise InputValueError(
                f"a token would travel readable for everybody to {address}; use grpcs://, or a tunnel to this machine",
                address=address,
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise InputValueError("cert_file and key_file belong together; found only one of them")

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca_file),
            private_key=_pem(self.key_file),
            certificate_chain=_pem(self.cert_file),
        )

    def metadata(self) -> list[tuple[str, str | bytes]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []


def _pem(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileMissingError(
            f"cannot read {path}: {error.strerror}; expected a file in PEM format", path=path
        ) from error


def channel_options(security: Security, max_message_bytes: int) -> list[tuple[str, Any]]:
    """Message limit; quick reconnects; keepalive, so that a device that fell off the network is noticed in half a
    minute even while nothing is sent.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # How long one attempt to connect may take, whatever the name says.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_retries", 0),
        # A proxy configured for the web has no business between an application and its accelerator.
        ("grpc.enable_http_proxy", 0),
        # A channel of its own per device object: closing one never disturbs another.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    return options


def typed_error(code: Any, details: str | None, trailing: Sequence[Any] | None, call: Call, address: str) -> Error:
    """The typed error of a failed call: from ErrorInfo where the device sent it, else from gRPC's own status."""
    for key, value in trailing or ():
        if key == DETAILS_KEY:
            error = from_status(value)
            if error is not None:
                return error
    text = details or ""
    facts = {"address": address, "call": call.method.name}
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return _unreachable(text, address, facts)
        case grpc.StatusCode.INTERNAL if text == _BROKEN_OFF:
            return UnavailableError(
                f"the connection to {address} broke off during {call.method.name}; repeat the call when the device is "
                "back",
                **facts,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return deadline_error(call, address)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than" in text:
            return InputValueError(
                f"{call.method.name} needs a message larger than the limit of the connection ({text}); split the "
                "batch, or use infer_stream()",
                **facts,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BusyError(f"the device at {address} has too many calls at once ({text}); try again later", **facts)
        case grpc.StatusCode.CANCELLED if text not in _CANCELLED_HERE:
            # A device that shuts down resets what reaches it while it tells its clients to go.
            return UnavailableError(
                f"the device at {address} broke off {call.method.name} ({text}): it may be shutting down, or have "
                "too many calls; repeat this one",
                **facts,
            )
        case grpc.StatusCode.CANCELLED:
            return CancelledError(f"{call.method.name} was cancelled", **facts)
        case grpc.StatusCode.UNIMPLEMENTED:
            return UnimplementedError(
                f"{address} does not offer {call.method.path}; its capabilities are in identity()", **facts
            )
        case grpc.StatusCode.UNAUTHENTICATED:
            return UnauthenticatedError(
                f"the device at {address} does not know this client ({text}); check token=", **facts
            )
        case grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDeniedError(f"the device at {address} refuses this client ({text}); check token=", **facts)
    name = code.name if isinstance(code, grpc.StatusCode) else str(code)
    return InternalError(f"{call.method.name} failed at {address} with gRPC status {name}: {text}", **facts)


def _unreachable(text: str, address: str, facts: dict[str, str]) -> UnavailableError:
    """No connection, or none any more: what gRPC and its TLS say about why, in words that help."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = "has expired" if "expired" in text else "is of no authority this client trusts (ca_file=)"
        return CertificateError(
            f"the device at {address} was not trusted: its certificate {why}. Nothing was sent. ({_tls(text)})", **facts
        )
    if "Hostname Verification Check failed" in text:
        return CertificateError(
            f"the device at {address} was not trusted: its certificate is for another name; give that name as "
            f"server_name= if it is the right device. Nothing was sent. ({_tls(text)})",
            **facts,
        )
    if "WRONG_VERSION_NUMBER" in text:
        return CertificateError(f"what answers at {address} does not speak TLS; did you mean grpc://?", **facts)
    if address.startswith("grpcs:") and "failed to connect" in text and "Socket closed" in text:
        return UnavailableError(
            f"the device at {address} ended the connection right after TLS began: it may want a client certificate of "
            "an authority it trusts, that has not expired (cert_file=, key_file=), or have no room for more "
            f"connections ({text})",
            **facts,
        )
    if address.startswith("grpc:") and "failed to connect" in text and "Socket closed" in text:
        return UnavailableError(
            f"what answers at {address} ended the connection at once ({text}): it may serve TLS (then say grpcs://), "
            "or have no room for more connections",
            **facts,
        )
    return UnavailableError(
        f"no device answers at {address} ({text}); start one with 'pcmedge serve --listen {address}', or check "
        "the address, the network and whether the device is still running",
        **facts,
    )


def _tls(text: str) -> str:
    """The part of gRPC's message that TLS itself said."""
    return text.rpartition("OPENSSL_internal:")[2].removesuffix(": OK")
