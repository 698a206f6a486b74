"""A PCM device, emulated or silicon, near or far: the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from pcmedge.device import _buffer, _classify, _images, _inference, _lab, _upkeep
from pcmedge.device._calls import Backoff, Session
from pcmedge.device._drive import Driver, call, watch
from pcmedge.device._inference import Inputs
from pcmedge.device._pickling import HERE, PART, Reopening, reduced
from pcmedge.device._stream import check_options, infer_stream
from pcmedge.device.results import InferResult
from pcmedge.device.transport import Transport
from pcmedge.errors import Error, UnimplementedError


class Lab(Driver):
    """What only an emulator answers; UnimplementedError from a device that does not serve it."""

    clock = call(_lab.clock)
    set_clock = call(_lab.set_clock)
    advance = call(_lab.advance)
    snapshot = call(_lab.snapshot)
    restore = call(_lab.restore)
    snapshots = call(_lab.snapshots)
    delete_snapshot = call(_lab.delete_snapshot)
    set_noise = call(_lab.set_noise)
    inject_faults = call(_lab.inject_faults)
    clear_faults = call(_lab.clear_faults)
    faults = call(_lab.faults)
    set_temperature = call(_lab.set_temperature)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, PART)


class Device(Driver):
    """Made by :func:`pcmedge.connect` or :func:`pcmedge.Emulator`; thread-safe; a context manager.

    ::

        with pcmedge.connect("grpc://127.0.0.1:7390") as device:
            device.program("model.pcmi")
            answer = device.infer(batch)

    Calls that change nothing, inference among them, are repeated with back-off while the device cannot be reached;
    calls that change the device never are: each carries a request id, so a caller may repeat one safely by passing the
    same id in :class:`Mutation`. Every call has a deadline (``timeout_s``). Raises only :mod:`pcmedge.errors`.

    One that was connected by its address can be pickled: it is opened again, lazily, where it is unpickled. Others
    cannot (DeviceStateError), nor can one whose token was given as text.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        session: Session | None = None,
        backoff: Backoff | None = None,
        reopening: Reopening = HERE,
    ) -> None:
        super().__init__(transport, session or Session(), backoff or Backoff())
        self.lab = Lab(self._transport, self._session, self._backoff)
        self._reopening = reopening

    identity = call(_images.identity)
    program = call(_images.program)
    models = call(_images.models)
    manifest = call(_images.manifest)
    activate = call(_images.activate)
    deactivate = call(_images.deactivate)
    erase = call(_images.erase)
    acquire_lease = call(_images.acquire_lease)
    renew_lease = call(_images.renew_lease)
    release_lease = call(_images.release_lease)
    operations = call(_images.operations)
    cancel_operation = call(_images.cancel_operation)
    watch_operation = watch(_images.watch_operation)

    infer = call(_inference.infer)
    infer_detailed = call(_inference.infer_detailed)
    model_spec = call(_inference.model_spec)
    classify = call(_classify.classify)

    recalibrate = call(_upkeep.recalibrate)
    rollback = call(_upkeep.rollback)
    policy = call(_upkeep.policy)
    set_policy = call(_upkeep.set_policy)
    calibration_buffer = call(_buffer.calibration_buffer)
    replace_calibration_buffer = call(_buffer.replace_calibration_buffer)
    append_calibration_buffer = call(_buffer.append_calibration_buffer)
    self_test = call(_upkeep.self_test)
    telemetry = call(_upkeep.telemetry)
    watch_telemetry = watch(_upkeep.watch_telemetry)
    events = call(_upkeep.events)
    watch_events = watch(_upkeep.watch_events)
    read_tile = call(_upkeep.read_tile)
    diagnose = call(_upkeep.diagnose)

    @property
    def address(self) -> str:
        return self._transport.address

    def infer_stream(
        self,
        batches: Iterable[Inputs],
        *,
        model: str | None = None,
        window: int = 8,
        detailed: bool = False,
        errors: Literal["raise", "yield"] = "raise",
    ) -> Generator[Any, None, None]:
        """Many batches over one stream: results in the order of ``batches``, at most ``window`` under way at once.

        ``batches`` is read as results are taken, so an endless camera is fine. ``detailed``: yield
        :class:`InferResult`. ``errors``: "raise" ends the stream at the first failed batch, "yield" puts its typed
        error in place of its result and goes on. UnavailableError if the device goes away in mid-stream.
        """
        check_options(window, errors)
        spec = self._run(_inference.model_spec(self._session, model))
        answers = infer_stream(self._transport, spec, batches, window)
        try:
            for answer in answers:
                yield stream_item(answer, detailed, errors)
        except UnimplementedError as error:
            raise self._explained("ModelStreamInfer", error) from None
        finally:
            answers.close()

    def close(self) -> None:
        """Ends the connection; for an emulator in this process, the emulator."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self, self._reopening)

    def __repr__(self) -> str:
        return f"<Device {self.address}>"


def stream_item(answer: InferResult | Error, detailed: bool, errors: str) -> Any:
    """What a stream yields for one answer."""
    if isinstance(answer, Error):
        if errors == "raise":
            raise answer
        return answer
    return answer if detailed else _inference.plain_outputs(answer)
