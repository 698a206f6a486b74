"""DeviceService: what any PCM device answers. Messages in, messages out, typed errors; no gRPC."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pcmedge._contract import device_pb2
from pcmedge.errors import CancelledError, InternalError, UnavailableError
from pcmedge.protocol.dispatch import CallContext
from pcmedge.protocol.limits import check_interval

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.operations import Operation
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.service import messages, upload

_BAND_BYTES = 1 << 19
_GLANCE_S = 0.2
"""How often a waiting stream looks whether its caller or the device is gone. Seconds."""


class DeviceHandlers:
    """One method per call of DeviceService.

    ``capabilities``: names of what the device offers. ``closing`` is set when the device shuts down. ``queue`` tells
    how many inference requests wait now and how many were refused since the start because too many did.
    """

    def __init__(
        self,
        chip: DeviceChip,
        capabilities: tuple[str, ...],
        closing: threading.Event,
        queue: Callable[[], tuple[int, int]],
        max_image_bytes: int = upload.MAX_IMAGE_BYTES,
    ) -> None:
        self._chip = chip
        self._capabilities = capabilities
        self._closing = closing
        self._queue = queue
        self._max_image_bytes = max_image_bytes

    def get_identity(self, request: device_pb2.GetIdentityRequest, context: CallContext) -> device_pb2.Identity:
        return messages.identity(self._chip.identity(), self._capabilities)

    # ----------------------------------------------------------------------------------------------------------- lease

    def acquire_lease(self, request: device_pb2.AcquireLeaseRequest, context: CallContext) -> device_pb2.Lease:
        return messages.lease(self._chip.acquire_lease(request.holder, request.duration_s, request.request_id))

    def renew_lease(self, request: device_pb2.RenewLeaseRequest, context: CallContext) -> device_pb2.Lease:
        return messages.lease(self._chip.renew_lease(request.lease_id, request.duration_s))

    def release_lease(
        self, request: device_pb2.ReleaseLeaseRequest, context: CallContext
    ) -> device_pb2.ReleaseLeaseResponse:
        self._chip.release_lease(request.lease_id)
        return device_pb2.ReleaseLeaseResponse()

    # ----------------------------------------------------------------------------------------------------- programming

    def program(
        self, requests: Iterator[device_pb2.ProgramRequest], context: CallContext
    ) -> Iterator[device_pb2.OperationUpdate]:
        requests = iter(requests)
        header = upload.program_header(requests, self._max_image_bytes)
        mutation = messages.mutation(header.mutation)
        # Before anything is sent for nothing; asked again under the lock when the image is there.
        self._chip.check_program(header.image_size, mutation=mutation)
        with upload.received_image(requests, header.image_size) as image:
            yield from self._operate(
                "program",
                context,
                lambda progress, cancelled: self._chip.program(
                    image,
                    replace=header.replace,
                    use_retired=header.use_retired,
                    activate=not header.keep_inactive,
                    program_and_verify=messages.program_and_verify(header),
                    progress=progress,
                    cancelled=cancelled,
                    mutation=mutation,
                ),
            )

    def _operate(
        self, kind: str, context: CallContext, work: Callable[[Any, Callable[[], bool]], Any]
    ) -> Iterator[device_pb2.OperationUpdate]:
        """Run work as an operation, reporting to the caller; a caller who goes away cancels it."""
        operation = self._chip.operations.start(
            kind, lambda progress, cancelled: work(progress, lambda: cancelled() or not context.active())
        )
        context.on_end(operation.cancel)
        try:
            yield from _reported(operation)
        finally:
            operation.cancel()

    def list_operations(
        self, request: device_pb2.ListOperationsRequest, context: CallContext
    ) -> device_pb2.ListOperationsResponse:
        updates = [messages.operation(update) for update in self._chip.operations.list()]
        return device_pb2.ListOperationsResponse(operations=updates)

    def watch_operation(
        self, request: device_pb2.WatchOperationRequest, context: CallContext
    ) -> Iterator[device_pb2.OperationUpdate]:
        operation = self._chip.operations.get(request.operation_id)
        for update in operation.updates(lambda: _check_wanted(context)):
            yield messages.operation(update)

    def cancel_operation(
        self, request: device_pb2.CancelOperationRequest, context: CallContext
    ) -> device_pb2.OperationUpdate:
        return messages.operation(self._chip.operations.get(request.operation_id).cancel())

    # ---------------------------------------------------------------------------------------------------------- images

    def list_images(self, request: device_pb2.ListImagesRequest, context: CallContext) -> device_pb2.ListImagesResponse:
        models = self._chip.models()
        manifests = (
            [self._chip.image(model.name).manifest.SerializeToString() for model in models]
            if request.include_manifests
            else []
        )
        return device_pb2.ListImagesResponse(images=[messages.resident(model) for model in models], manifests=manifests)

    def activate_image(
        self, request: device_pb2.ActivateImageRequest, context: CallContext
    ) -> device_pb2.ResidentImage:
        return messages.resident(self._chip.activate(request.model_name, mutation=_mutation(request)))

    def deactivate_image(
        self, request: device_pb2.DeactivateImageRequest, context: CallContext
    ) -> device_pb2.ResidentImage:
        return messages.resident(self._chip.deactivate(request.model_name, mutation=_mutation(request)))

    def erase_image(self, request: device_pb2.EraseImageRequest, context: CallContext) -> device_pb2.EraseImageResponse:
        outcome = self._chip.erase(request.model_name, mutation=_mutation(request))
        return device_pb2.EraseImageResponse(freed_tiles=outcome.freed_tiles)

    # --------------------------------------------------------------------------------------------------- recalibration

    def recalibrate(
        self, request: device_pb2.RecalibrateRequest, context: CallContext
    ) -> Iterator[device_pb2.OperationUpdate]:
        method = messages.method(request.method)
        return self._operate(
            "recalibrate",
            context,
            lambda progress, cancelled: self._chip.recalibrate(
                request.model_name,
                method,
                batches=request.batches,
                batch_size=request.batch_size,
                reads=request.reads,
                gdc_everywhere=request.gdc_everywhere,
                force=request.force,
                progress=progress,
                cancelled=cancelled,
                mutation=_mutation(request),
            ),
        )

    def rollback_statistics(
        self, request: device_pb2.RollbackStatisticsRequest, context: CallContext
    ) -> device_pb2.RollbackStatisticsResponse:
        outcome = self._chip.rollback(request.model_name, mutation=_mutation(request))
        return device_pb2.RollbackStatisticsResponse(statistics_generation=outcome.statistics_generation)

    def get_recalibration_policy(
        self, request: device_pb2.GetRecalibrationPolicyRequest, context: CallContext
    ) -> device_pb2.RecalibrationPolicy:
        return messages.policy(*self._chip.policy(request.model_name))

    def set_recalibration_policy(
        self, request: device_pb2.SetRecalibrationPolicyRequest, context: CallContext
    ) -> device_pb2.RecalibrationPolicy:
        policy = messages.policy_from(request.policy)
        return messages.policy(*self._chip.set_policy(request.model_name, policy, mutation=_mutation(request)))

    def replace_calibration_buffer(
        self, requests: Iterator[device_pb2.CalibrationBufferRequest], context: CallContext
    ) -> device_pb2.CalibrationBufferDescription:
        name, received, mutation = self._received(requests)
        return messages.buffer(self._chip.replace_buffer(name, **received, mutation=mutation))

    def append_calibration_buffer(
        self, requests: Iterator[device_pb2.CalibrationBufferRequest], context: CallContext
    ) -> device_pb2.CalibrationBufferDescription:
        name, received, mutation = self._received(requests)
        return messages.buffer(self._chip.append_buffer(name, **received, mutation=mutation))

    def _received(
        self, requests: Iterator[device_pb2.CalibrationBufferRequest]
    ) -> tuple[str, dict[str, Any], Mutation]:
        """Model, what is to be in its buffer (arguments of the chip's verb), mutation."""
        requests = iter(requests)
        header = upload.buffer_header(requests)
        samples, statistics, image = upload.received_buffer(
            requests, self._chip.image(header.model_name).manifest.model
        )
        received = {"samples": samples, "statistics": statistics, "image_sha256": image}
        return header.model_name, received, messages.mutation(header.mutation)

    def describe_calibration_buffer(
        self, request: device_pb2.DescribeCalibrationBufferRequest, context: CallContext
    ) -> device_pb2.CalibrationBufferDescription:
        return messages.buffer(self._chip.describe_buffer(request.model_name))

    # -------------------------------------------------------------------------------------------------- how it is doing

    def self_test(self, request: device_pb2.SelfTestRequest, context: CallContext) -> device_pb2.SelfTestResult:
        return messages.self_test(self._chip.self_test(request.model_name))

    def get_telemetry(self, request: device_pb2.GetTelemetryRequest, context: CallContext) -> device_pb2.Telemetry:
        return self._telemetry(request, 0)

    def _telemetry(
        self, request: device_pb2.GetTelemetryRequest | device_pb2.WatchTelemetryRequest, sequence: int
    ) -> device_pb2.Telemetry:
        queued, rejected = self._queue()
        reading = self._chip.telemetry(
            include_tiles=request.include_tiles, include_self_tests=request.include_self_tests
        )
        return messages.telemetry(reading, sequence, queued=queued, rejected=rejected)

    def watch_telemetry(
        self, request: device_pb2.WatchTelemetryRequest, context: CallContext
    ) -> Iterator[device_pb2.Telemetry]:
        check_interval(request.interval_s)
        interval_s = request.interval_s or 1.0
        sequence = 0
        while True:
            self._go_on(context)
            sequence += 1
            yield self._telemetry(request, sequence)
            due_s = time.monotonic() + interval_s
            while (left_s := due_s - time.monotonic()) > 0:
                self._closing.wait(min(left_s, _GLANCE_S))
                self._go_on(context)

    def _go_on(self, context: CallContext) -> None:
        """Ends a stream that has no end of its own: UnavailableError, or CancelledError when nobody wants it."""
        if self._closing.is_set():
            raise UnavailableError("the device is shutting down; connect again when it is back")
        _check_wanted(context)

    def list_events(self, request: device_pb2.ListEventsRequest, context: CallContext) -> device_pb2.ListEventsResponse:
        events = self._chip.events(request.after_sequence, request.limit or 1000)
        return device_pb2.ListEventsResponse(events=[messages.event(event) for event in events])

    def watch_events(self, request: device_pb2.WatchEventsRequest, context: CallContext) -> Iterator[device_pb2.Event]:
        after = request.after_sequence
        while True:
            self._go_on(context)
            for event in self._chip.wait_events(after, _GLANCE_S):
                after = event.sequence
                yield messages.event(event)

    def read_tile(self, request: device_pb2.ReadTileRequest, context: CallContext) -> Iterator[device_pb2.TileReadout]:
        readout = self._chip.read_tile(request.model_name, request.tile)
        rows = max(1, _BAND_BYTES // (4 * max(1, readout.columns)))
        for first_row in range(0, readout.rows, rows):
            yield messages.tile_band(readout, first_row, rows)

    def diagnose(self, request: device_pb2.DiagnoseRequest, context: CallContext) -> device_pb2.DiagnoseResult:
        outcome = self._chip.diagnose(
            request.model_name,
            false_alarm_rate=request.false_alarm_rate,
            tolerated_cells=request.tolerated_cells if request.HasField("tolerated_cells") else None,
            cancelled=lambda: not context.active(),
            mutation=_mutation(request),
        )
        return messages.diagnosis(outcome)


def _check_wanted(context: CallContext) -> None:
    if not context.active():
        raise CancelledError("the caller of this stream is gone, or its deadline has passed")


def _reported(operation: Operation) -> Iterator[device_pb2.OperationUpdate]:
    """Updates until the operation has succeeded; raises what it failed with."""
    for update in operation.updates():
        if update.error is not None:
            unforeseen = update.error.__cause__ if isinstance(update.error, InternalError) else None
            raise unforeseen if isinstance(unforeseen, Exception) else copy.copy(update.error)
        yield messages.operation(update)


def _mutation(request: Any) -> Mutation:
    return messages.mutation(request.mutation)
