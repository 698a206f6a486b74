"""Devices in a pickle, as processes started with "spawn" get them (workers of a DataLoader): opened again, or refused.

A pickle is often kept, in files and caches. So it has what a device is reached by, and never a secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pcmedge.errors import DeviceStateError

Reopening = Callable[[], Any] | str
"""What opens a device again in another process (it is pickled itself), or why nothing can."""

HERE = (
    "it lives in this process. Make one in each process (DataLoader: in worker_init_fn), or serve it and pickle a "
    "connection to it"
)
SECRET = (
    "its token was given as text, and a pickle is no place for a secret. Connect with token_file=, or in each process "
    "(DataLoader: in worker_init_fn)"
)
LOOP = "it belongs to its event loop. Connect in each process, or pickle a blocking connection"
PAIR = "its threads look after both devices. Make a pair in each process (DataLoader: in worker_init_fn)"
PART = "it is a part of a device; pickle the device"


def reduced(what: object, reopening: Reopening) -> tuple[Callable[[], Any], tuple[()]]:
    """What ``__reduce__`` returns for ``what``. DeviceStateError if it cannot be opened again."""
    if isinstance(reopening, str):
        raise DeviceStateError(f"{what!r} cannot be pickled or copied: {reopening}", process=os.getpid())
    return reopening, ()
