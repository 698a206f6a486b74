"""Reach the device a command talks to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.device import Device

DEFAULT_LISTEN = "127.0.0.1:7390"
"""Where ``pcmedge serve`` listens, and where ``pcmedge devices`` looks, unless told otherwise."""


@contextmanager
def open_device(url: str | None, *, timeout_s: float | None = None) -> Iterator[Device]:
    """The device at ``url`` or $PCMEDGE_DEVICE. Raises InputValueError if neither is given."""
    import pcmedge

    url = url or os.environ.get("PCMEDGE_DEVICE") or None
    if url is None:
        raise InputValueError(
            "no device named. Give --device URL or set PCMEDGE_DEVICE, e.g. grpc://127.0.0.1:7390; "
            "'pcmedge devices' looks for running ones"
        )
    if timeout_s is None:
        device = pcmedge.connect(url)
    else:
        device = pcmedge.connect(url, timeout_s=timeout_s, operation_timeout_s=timeout_s)
    with device:
        yield device
