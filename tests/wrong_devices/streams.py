"""Devices that break rules 24, 29 and 31: streams, the queue and the statistics of inference."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from pcmedge.errors import InputValueError
from pcmedge_emulator.service.scheduling import Scheduling

from wrong_devices.firmware import Call, Firmware, Refused

# -------------------------------------------------------------------------------------------------------------- streams


class _Streaming(Firmware):
    def wire(self, call: Call) -> Any:
        return self.stream(call) if call.name == "ModelStreamInfer" else call.go_on()

    def stream(self, call: Call) -> Iterator[Any]:
        yield from call.go_on()

    def together(self, call: Call) -> Iterator[list[Any]]:
        """Answers to what arrived within a moment, each request asked alone."""
        arrived: queue.Queue[Any] = queue.Queue()

        def read() -> None:
            try:
                for request in call.request:
                    arrived.put(request)
            finally:
                arrived.put(None)

        threading.Thread(target=read, daemon=True).start()
        request = arrived.get()
        while request is not None:
            taken = [request]
            while True:
                try:
                    request = arrived.get(timeout=0.05)
                except queue.Empty:
                    request = ...
                if request is None or request is ...:
                    break
                taken.append(request)
            yield [reply for each in taken for reply in call.answer(iter([each]))]
            if request is ...:
                request = arrived.get()


class StreamsReordered(_Streaming, rules=("R24",)):
    """Workers take requests of a stream from a stack and answer when they are done: the last first."""

    def stream(self, call: Call) -> Iterator[Any]:
        for replies in self.together(call):
            yield from reversed(replies)


class ErrorsOvertake(_Streaming, rules=("R24",)):
    """Refuses a bad request in a stream at once, before the good ones ahead of it are computed."""

    def stream(self, call: Call) -> Iterator[Any]:
        for replies in self.together(call):
            yield from sorted(replies, key=lambda reply: not reply.error_message)


class StreamEndsAtBadRequest(_Streaming, rules=("R24",)):
    """A request that is wrong ends the stream it came in, with its error."""

    def stream(self, call: Call) -> Iterator[Any]:
        for reply in call.go_on():
            if reply.error_message:
                raise InputValueError(reply.error_message)
            yield reply


class BadRequestsSkipped(_Streaming, rules=("R24",)):
    """Drops requests of a stream that are wrong, and answers the others."""

    def stream(self, call: Call) -> Iterator[Any]:
        yield from (reply for reply in call.go_on() if not reply.error_message)


class StreamErrorsWithoutReason(_Streaming, rules=("R24",)):
    """Errors in a stream have a text, as in Triton, and no reason."""

    def stream(self, call: Call) -> Iterator[Any]:
        for reply in call.go_on():
            if reply.error_message:
                del reply.infer_response.parameters["pcm_error_reason"]
            yield reply


class StreamErrorsWithoutMetadata(_Streaming, rules=("R24",)):
    """Errors in a stream have a reason, and none of the metadata they have elsewhere."""

    def stream(self, call: Call) -> Iterator[Any]:
        for reply in call.go_on():
            for key in [key for key in reply.infer_response.parameters if key.startswith("pcm_error_metadata_")]:
                del reply.infer_response.parameters[key]
            yield reply


# ------------------------------------------------------------------------------------------------ queue and statistics


class BusyWithoutBound(Firmware, rules=("R29",)):
    """Computes two requests at a time and lets one wait; says BUSY to others, and not how many may wait."""

    scheduling: ClassVar[Scheduling] = Scheduling(max_queue_size=1)
    threads = 10

    def wire(self, call: Call) -> Any:
        try:
            return call.go_on()
        except Refused as refused:
            info = refused.info
            info.metadata.pop("max_queue_size", None)
            raise refused.as_(info=info) from None


class RejectionsNotCounted(Firmware, rules=("R29",)):
    """Computes two requests at a time and lets one wait; does not count those that found the queue full."""

    scheduling: ClassVar[Scheduling] = Scheduling(max_queue_size=1)
    threads = 10

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "GetTelemetry":
            reply.requests_rejected = 0
        return reply


class CountsRuns(Firmware, rules=("R31",)):
    """Counts requests where the protocol wants samples."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "ModelStatistics":
            for model in reply.model_stats:
                model.inference_count = model.inference_stats.success.count
        return reply


class BatchesNotTold(Firmware, rules=("R31",)):
    """ModelStatistics has no batch_stats."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "ModelStatistics":
            for model in reply.model_stats:
                del model.batch_stats[:]
        return reply


class QueueTimeNotTold(Firmware, rules=("R31",)):
    """ModelStatistics knows nothing of the time in the queue."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "ModelStatistics":
            for model in reply.model_stats:
                model.inference_stats.ClearField("queue")
        return reply
