"""Addresses of devices: ``grpc://host:port``, ``grpcs://host:port``, ``unix:///path``, ``host:port``."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pcmedge.errors import InputTypeError, InputValueError

ENVIRONMENT = "PCMEDGE_DEVICE"
DIGITAL = "digital://"
_FORMS = "grpc://host:port, grpcs://host:port, unix:///path/of/socket, digital:///path/of/model.tflite or host:port"
# sockaddr_un.sun_path holds 108 bytes with its terminator.
_UNIX_PATH_BYTES = 107


@dataclass(frozen=True)
class Address:
    """Where a device answers: ``scheme`` "grpc", "grpcs" or "unix"; host and port, or the socket's path."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def target(self) -> str:
        """As gRPC wants it."""
        if self.scheme == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.target}"

    @property
    def local(self) -> bool:
        """Whether nothing but this machine is involved."""
        if self.scheme == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.url


def parse_address(text: str, *, listen: bool = False) -> Address:
    """Read an address; port 0 (any free port) only where one listens. InputValueError for anything else."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("unix", text[5:]) if text.startswith("unix:") else ("grpc", text)
    if scheme == "unix":
        return _unix(text, rest)
    if scheme not in ("grpc", "grpcs"):
        raise InputValueError(f"expected {_FORMS}; found {text!r}", address=text)
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.path not in ("", "/") or parts.query or parts.username:
        raise InputValueError(f"expected {_FORMS}; found {text!r}", address=text)
    if port == 0 and not listen:
        raise InputValueError(f"port 0 is for servers; expected the port the device listens on, found {text!r}")
    return Address(scheme=scheme, host=host, port=port)


def _unix(text: str, path: str) -> Address:
    if not path.startswith("/") and text.startswith("unix://"):
        raise InputValueError(f"a socket's path is absolute, as in unix:///run/pcm0.sock; found {text!r}", address=text)
    if not path or len(os.fsencode(path)) > _UNIX_PATH_BYTES:
        raise InputValueError(
            f"the path of a unix socket has 1 to {_UNIX_PATH_BYTES} bytes; found {len(os.fsencode(path))} in {text!r}",
            address=text,
        )
    return Address(scheme="unix", path=os.path.abspath(path))


def digital_path(text: str | None) -> str | None:
    """The file named by ``digital:///path/model.tflite``, given or in $PCMEDGE_DEVICE; None for any other address.

    Percent-escapes stand for their characters, as in any URL. A path without the third slash is relative to the working
    directory: ``digital://models/model.tflite``. Returns an absolute path.
    """
    text = text or os.environ.get(ENVIRONMENT)
    if not isinstance(text, str) or not text.startswith(DIGITAL):
        return None
    path = text.removeprefix(DIGITAL)
    decoded = unquote(path)
    if not decoded or "\0" in decoded:
        raise InputValueError(f"expected digital:///path/of/model.tflite; found {text!r}", address=text)
    return os.path.abspath(decoded)


def address_or_environment(text: str | None) -> Address:
    """The address given, else the one in $PCMEDGE_DEVICE. InputValueError if there is neither."""
    if not isinstance(text, str | None):
        raise InputTypeError(f"an address is text such as grpc://host:port; found {text!r}", address=text)
    text = text or os.environ.get(ENVIRONMENT)
    if not text:
        raise InputValueError(
            f"no device address: pass one to connect(), or set ${ENVIRONMENT}, as {_FORMS}", variable=ENVIRONMENT
        )
    return parse_address(text)
