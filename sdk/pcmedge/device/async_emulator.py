"""Devices in this process for an event loop: the twins of what makes a blocking one."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, cast

from pcmedge.device.async_device import AsyncDevice
from pcmedge.device.device import Device
from pcmedge.device.emulator import Emulator
from pcmedge.device.transport import AsyncLocalTransport, LocalTransport

P = ParamSpec("P")


def awaited(make: Callable[P, Device], name: str, twin: str) -> Callable[P, Coroutine[Any, Any, AsyncDevice]]:
    """``make`` for an event loop; its device has a :class:`LocalTransport`. ``twin``: what ``make`` is known as."""

    @functools.wraps(make)
    async def made(*args: P.args, **kwargs: P.kwargs) -> AsyncDevice:
        making = asyncio.ensure_future(asyncio.to_thread(make, *args, **kwargs))
        try:
            device = await asyncio.shield(making)
        except asyncio.CancelledError:
            # A worker thread cannot be stopped; what it makes has to be closed by somebody.
            await asyncio.wait([making])
            if making.exception() is None:
                making.result().close()
            raise
        transport = AsyncLocalTransport(cast(LocalTransport, device._transport))
        return AsyncDevice(transport, session=device._session)

    made.__name__ = made.__qualname__ = name
    made.__module__ = make.__module__
    made.__signature__ = inspect.signature(make).replace(return_annotation="AsyncDevice")  # type: ignore[attr-defined]
    made.__doc__ = f"The awaiting twin of :func:`{twin}`, with the same arguments.\n\n    {make.__doc__}"
    return made


AsyncEmulator = awaited(Emulator, "AsyncEmulator", "pcmedge.Emulator")
