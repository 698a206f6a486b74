"""Devices that break what the contract says of versions (rules 49, 50). Made together with the checks of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from wrong_devices.firmware import Call, Firmware


class TellsTheNextVersion(Firmware, rules=("R49",)):
    """Its maker counts the contract's version up with every addition, in the services of version 1."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "GetIdentity":
            reply.contract_version = 2
        return reply


class UnknownValuesAreDefaults(Firmware, rules=("R50",)):
    """A switch over the method ends in the default: a value it does not know recalibrates as if none had been given."""

    def wire(self, call: Call) -> Any:
        if call.name == "Recalibrate" and call.request.method > 100:
            call.request.method = 0
        return call.go_on()


class UnknownPartsSkipped(Firmware, rules=("R50",)):
    """Skips parts of an upload that it does not know, as it does with fields."""

    def wire(self, call: Call) -> Any:
        return call.answer(_known(call.request)) if call.method.client_streaming else call.go_on()


def _known(requests: Iterator[Message]) -> Iterator[Message]:
    for request in requests:
        if request.DESCRIPTOR.name == "ModelInferRequest" or request.WhichOneof("part"):
            yield request


class StreamErrorsWithoutStatus(Firmware, rules=("R50",)):
    """Errors in a stream have a reason alone: whoever knows all reasons needs no status."""

    def wire(self, call: Call) -> Any:
        return self._without(call) if call.name == "ModelStreamInfer" else call.go_on()

    def _without(self, call: Call) -> Iterator[Any]:
        for reply in call.go_on():
            if reply.error_message:
                reply.infer_response.parameters.pop("pcm_error_status", None)
            yield reply
