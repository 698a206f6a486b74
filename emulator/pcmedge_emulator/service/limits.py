"""Bounds of a service: what one client may take of it, and how long a slow or silent one is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pcmedge.errors import InputValueError

from pcmedge_emulator.service.upload import MAX_IMAGE_BYTES


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``max_image_bytes``: a larger image is refused at its header. ``max_uploads``: images and calibration buffers
    taken in at the same time; ``upload_grace_s`` and ``upload_bytes_per_s``: an upload that after the grace has brought
    less than this rate since its start is ended. ``max_connections``: more are closed at once.
    ``max_calls_per_connection``: more wait in the client. ``handshake_s``: a connection that has not said a whole
    greeting (TLS and HTTP/2) by then is closed. ``request_s``: a unary call whose request is not there by then is
    ended; of those that wait for it the oldest also when there are many. ``keepalive_s``, ``keepalive_timeout_s``: a
    client that does not answer a ping is gone, and with it its calls. ``max_idle_s``: a connection without calls is
    closed (clients come back by themselves). ``max_connection_age_s``, ``max_connection_age_grace_s``: any connection,
    and then its calls, streams too; None for no end. ``max_snapshots``, ``max_snapshot_bytes``: with the lab, one more
    snapshot is refused when so many are kept, or when those kept hold so many bytes together.
    """

    max_image_bytes: int = MAX_IMAGE_BYTES
    max_uploads: int = 4
    upload_grace_s: float = 30.0
    upload_bytes_per_s: float = 16 << 10
    max_connections: int = 256
    max_calls_per_connection: int = 128
    handshake_s: float = 20.0
    request_s: float = 30.0
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 10.0
    max_idle_s: float = 600.0
    max_connection_age_s: float | None = None
    max_connection_age_grace_s: float = 60.0
    max_snapshots: int = 64
    max_snapshot_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < 2**40:
                raise InputValueError(f"{name} is more than 0; found {value!r}", argument=name)

    def options(self) -> list[tuple[str, Any]]:
        """As gRPC wants them."""
        options: list[tuple[str, Any]] = [
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_concurrent_streams", self.max_calls_per_connection),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_s)),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.max_connection_idle_ms", _ms(self.max_idle_s)),
        ]
        if self.max_connection_age_s is not None:
            options.append(("grpc.max_connection_age_ms", _ms(self.max_connection_age_s)))
            options.append(("grpc.max_connection_age_grace_ms", _ms(self.max_connection_age_grace_s)))
        return options


def _ms(seconds: float) -> int:
    return min(max(1, round(1e3 * seconds)), 2**31 - 1)


DEFAULT_LIMITS = Limits()
