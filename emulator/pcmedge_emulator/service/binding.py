"""Taking an address to listen on, and saying clearly when somebody else has it.

grpcio itself would share a TCP port between servers, and take a unix socket away from the one that serves on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

import grpc
from pcmedge.errors import AddressInUseError, InputValueError, InsecureAddressError
from pcmedge.protocol.address import Address

from pcmedge_emulator.service.tls import ServerTls


def checked(address: Address, tls: ServerTls | None, *, insecure: bool) -> Address:
    """The address with the scheme it is served under.

    InsecureAddressError for one that other machines reach, without TLS, unless ``insecure``; InputValueError for a
    certificate where there is nothing to encrypt, and none where there is.
    """
    if address.scheme == "unix":
        if tls is not None:
            raise InputValueError(f"a unix socket never leaves this machine; leave the certificate out ({address})")
        return address
    if tls is not None:
        return Address(scheme="grpcs", host=address.host, port=address.port)
    if address.scheme == "grpcs":
        raise InputValueError(
            f"{address} needs a certificate and its key: --tls-cert and --tls-key, or tls=ServerTls(...)"
        )
    if not address.local and not insecure:
        raise InsecureAddressError(
            f"other machines reach {address}, and without TLS everybody on the way reads and changes what is sent. "
            "Give a certificate (--tls-cert, --tls-key), listen on 127.0.0.1 or unix:///PATH, or say --insecure",
            address=address,
        )
    return address


def bind(server: grpc.Server, address: Address, credentials: grpc.ServerCredentials | None = None) -> Address:
    """Let the server listen; returns the address with its real port.

    AddressInUseError if another process listens there; InputValueError if this machine has no such address or may not
    use it. A socket file nobody listens on is removed.
    """
    if address.scheme == "unix":
        return _bind_unix(server, address)
    _probe_tcp(address)
    try:
        port = (
            server.add_insecure_port(address.target)
            if credentials is None
            else server.add_secure_port(address.target, credentials)
        )
    except RuntimeError as error:
        # Somebody was faster between the probe and here.
        raise _in_use(address) from error
    return Address(scheme=address.scheme, host=address.host, port=port)


def _in_use(address: Address) -> AddressInUseError:
    return AddressInUseError(
        f"another process already listens on {address}; stop it, or choose another address (port 0 takes a free one)",
        address=address,
    )


def _probe_tcp(address: Address) -> None:
    """Bind and release every address the host name stands for."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputValueError(f"cannot listen on {address}: {error}", address=address) from error
    for family, kind, protocol, _, target in found:
        with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(target)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _in_use(address) from error
                if len(found) == 1 or error.errno != errno.EADDRNOTAVAIL:
                    raise InputValueError(f"cannot listen on {address}: {error.strerror}", address=address) from error


def _bind_unix(server: grpc.Server, address: Address) -> Address:
    _clear_socket(address)
    # Only this user may connect, from the first moment on. (A process has one umask: others' new files are a moment
    # more private, too.)
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(address.target)
    except RuntimeError as error:
        raise InputValueError(
            f"cannot listen on {address}: {error}; expected a folder that exists and may be written", address=address
        ) from error
    finally:
        os.umask(mask)
    return address


def _clear_socket(address: Address) -> None:
    folder = os.path.dirname(address.path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputValueError(f"cannot listen on {address}: {folder} is no folder that may be written", address=address)
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputValueError(f"cannot listen on {address}: {error.strerror}", address=address) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise InputValueError(
            f"{address.path} exists and is no socket; choose another path, nothing was touched", address=address
        )
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(address.path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.path)
            return
        except OSError as error:
            if error.errno == errno.EACCES:
                raise InputValueError(f"cannot listen on {address}: {error.strerror}", address=address) from error
    raise _in_use(address)


def release(address: Address) -> None:
    """Remove the file of a unix socket that is no longer served."""
    if address.scheme == "unix":
        with contextlib.suppress(OSError):
            os.unlink(address.path)
