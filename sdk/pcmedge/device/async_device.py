"""The same device for an event loop: the same scripts, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from pcmedge.device import _buffer, _classify, _images, _inference, _lab, _upkeep
from pcmedge.device._calls import Backoff, Session
from pcmedge.device._drive import AsyncDriver, async_call, async_watch
from pcmedge.device._inference import Inputs
from pcmedge.device._pickling import LOOP, PART, reduced
from pcmedge.device._stream import async_infer_stream, check_options
from pcmedge.device.device import stream_item
from pcmedge.device.transport import AsyncTransport
from pcmedge.errors import UnimplementedError


class AsyncLab(AsyncDriver):
    """What only an emulator answers; UnimplementedError from a device that does not serve it."""

    clock = async_call(_lab.clock)
    set_clock = async_call(_lab.set_clock)
    advance = async_call(_lab.advance)
    snapshot = async_call(_lab.snapshot)
    restore = async_call(_lab.restore)
    snapshots = async_call(_lab.snapshots)
    delete_snapshot = async_call(_lab.delete_snapshot)
    set_noise = async_call(_lab.set_noise)
    inject_faults = async_call(_lab.inject_faults)
    clear_faults = async_call(_lab.clear_faults)
    faults = async_call(_lab.faults)
    set_temperature = async_call(_lab.set_temperature)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, PART)


class AsyncDevice(AsyncDriver):
    """Made by :func:`pcmedge.connect_async` or :func:`pcmedge.AsyncEmulator`, for the event loop it was made in.

    An asynchronous context manager. The methods of :class:`pcmedge.Device`, awaited; watching and streaming are
    asynchronous iterators.
    """

    def __init__(
        self, transport: AsyncTransport, *, session: Session | None = None, backoff: Backoff | None = None
    ) -> None:
        super().__init__(transport, session or Session(), backoff or Backoff())
        self.lab = AsyncLab(self._transport, self._session, self._backoff)

    identity = async_call(_images.identity)
    program = async_call(_images.program)
    models = async_call(_images.models)
    manifest = async_call(_images.manifest)
    activate = async_call(_images.activate)
    deactivate = async_call(_images.deactivate)
    erase = async_call(_images.erase)
    acquire_lease = async_call(_images.acquire_lease)
    renew_lease = async_call(_images.renew_lease)
    release_lease = async_call(_images.release_lease)
    operations = async_call(_images.operations)
    cancel_operation = async_call(_images.cancel_operation)
    watch_operation = async_watch(_images.watch_operation)

    infer = async_call(_inference.infer)
    infer_detailed = async_call(_inference.infer_detailed)
    model_spec = async_call(_inference.model_spec)
    classify = async_call(_classify.classify)

    recalibrate = async_call(_upkeep.recalibrate)
    rollback = async_call(_upkeep.rollback)
    policy = async_call(_upkeep.policy)
    set_policy = async_call(_upkeep.set_policy)
    calibration_buffer = async_call(_buffer.calibration_buffer)
    replace_calibration_buffer = async_call(_buffer.replace_calibration_buffer)
    append_calibration_buffer = async_call(_buffer.append_calibration_buffer)
    self_test = async_call(_upkeep.self_test)
    telemetry = async_call(_upkeep.telemetry)
    watch_telemetry = async_watch(_upkeep.watch_telemetry)
    events = async_call(_upkeep.events)
    watch_events = async_watch(_upkeep.watch_events)
    read_tile = async_call(_upkeep.read_tile)
    diagnose = async_call(_upkeep.diagnose)

    @property
    def address(self) -> str:
        return self._transport.address

    async def infer_stream(
        self,
        batches: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        model: str | None = None,
        window: int = 8,
        detailed: bool = False,
        errors: Literal["raise", "yield"] = "raise",
    ) -> AsyncGenerator[Any, None]:
        """Many batches over one stream; see :meth:`pcmedge.Device.infer_stream`. ``batches`` may be asynchronous."""
        check_options(window, errors)
        spec = await self._run(_inference.model_spec(self._session, model))
        answers = async_infer_stream(self._transport, spec, batches, window)
        try:
            async for answer in answers:
                yield stream_item(answer, detailed, errors)
        except UnimplementedError as error:
            raise await self._explained("ModelStreamInfer", error) from None
        finally:
            await answers.aclose()

    async def close(self) -> None:
        """Ends the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, LOOP)

    def __repr__(self) -> str:
        return f"<AsyncDevice {self.address}>"
