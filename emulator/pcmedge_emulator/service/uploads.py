"""Uploads over a network: a bounded number at the same time, and none slower than a least rate.

A slow client, or one that stopped in the middle, would hold a thread, memory and a place among the uploads for as long
as it likes. The time the device itself takes to work on what came does not count.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from pcmedge.errors import BusyError, DeadlineError
from pcmedge.protocol.dispatch import CallContext

from pcmedge_emulator.service.limits import Limits

UPLOADS = frozenset({"Program", "ReplaceCalibrationBuffer", "AppendCalibrationBuffer"})
"""Calls that stream data in. (A stream of inferences is as slow as its camera.)"""

_READ_AHEAD = 2


class Uploads:
    """Counts uploads under way and paces each by the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = threading.BoundedSemaphore(limits.max_uploads)

    def begin(self, requests: Iterator[Any], context: CallContext, call: str) -> Iterator[Any]:
        """The requests of a call, at their pace; the place is free again when the call is over.

        BusyError if there is none; the iterator raises DeadlineError when the client is too slow, and what
        ``requests`` raises.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError(
                f"the device takes in {self._limits.max_uploads} uploads at once already; try again later", call=call
            )
        ended = threading.Event()
        room = threading.Semaphore(_READ_AHEAD)

        def end() -> None:
            ended.set()
            room.release()
            self._free.release()

        context.on_end(end)
        arrived = _Arrived()
        # A daemon, and never joined: gRPC ends its wait for a request only after the call is over.
        reader = threading.Thread(target=_read, args=(requests, arrived, room, ended), name="pcm-upload", daemon=True)
        reader.start()
        return self._paced(arrived, room, call)

    def _paced(self, arrived: _Arrived, room: threading.Semaphore, call: str) -> Iterator[Any]:
        waited_s, received = 0.0, 0
        while True:
            allowed_s = self._limits.upload_grace_s + received / self._limits.upload_bytes_per_s
            before_s = time.monotonic()
            try:
                item = arrived.get(timeout=max(0.0, allowed_s - waited_s))
            except queue.Empty:
                raise DeadlineError(
                    f"{call} brought {received} bytes in {allowed_s:.0f} s; expected at least "
                    f"{self._limits.upload_bytes_per_s:.0f} bytes per second after the first "
                    f"{self._limits.upload_grace_s:.0f} s. Nothing was changed; send it again over a faster line",
                    call=call,
                    received=received,
                ) from None
            waited_s += time.monotonic() - before_s
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            received += item.ByteSize()
            yield item
            room.release()


_Arrived = queue.SimpleQueue[Any]
"""Messages, then an exception or None at the end."""


def _read(requests: Iterator[Any], arrived: _Arrived, room: threading.Semaphore, ended: threading.Event) -> None:
    try:
        while room.acquire() and not ended.is_set():
            try:
                arrived.put(next(requests))
            except StopIteration:
                break
    except Exception as error:
        arrived.put(error)
    finally:
        arrived.put(None)
