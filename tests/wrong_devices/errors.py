"""Devices that break what is general in the contract (rules 1 to 6): additions, units, absent calls, errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from pcmedge._contract import lab_pb2
from pcmedge.errors import InputError
from pcmedge_emulator.outcomes import ModelInfo

from wrong_devices.firmware import Call, Firmware, Refused, refusal


class _Refusing(Firmware):
    """Every refusal passes :meth:`refuse` on its way out."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused

    def wire(self, call: Call) -> Any:
        return self._streamed(call) if call.method.server_streaming else self._single(call)

    def _single(self, call: Call) -> Any:
        try:
            return call.go_on()
        except Refused as refused:
            raise self.refuse(refused, call) from None

    def _streamed(self, call: Call) -> Iterator[Any]:
        try:
            yield from call.go_on()
        except Refused as refused:
            raise self.refuse(refused, call) from None


class ErrorsWithoutReason(_Refusing, rules=("R5",)):
    """Answers errors as gRPC's own server library does: code and message, no details."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused.bare()


class ForeignErrorDomain(_Refusing, rules=("R5",)):
    """Puts the vendor's name into ErrorInfo.domain, as google.rpc's documentation suggests."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        info = refused.info
        info.domain = "pcm.vendor.example"
        return refused.as_(info=info)


class VendorReasons(_Refusing, rules=("R5",)):
    """Gives the numbers of its own error table as reasons."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        info = refused.info
        return refused.as_(
            info=ErrorInfo(domain=info.domain, reason=f"E{len(info.reason):04d}", metadata=info.metadata)
        )


class MetadataDump(_Refusing, rules=("R5",)):
    """Attaches a dump of its registers to every error, for support: more than headers are meant to carry."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        info = refused.info
        info.metadata["registers"] = "deadbeef" * 300
        return refused.as_(info=info)


class TwoErrorInfos(_Refusing, rules=("R5",)):
    """Adds an ErrorInfo of the layer above to the one of the layer below, so that there are two."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        changed = refused.as_()
        changed.status.details.add().Pack(ErrorInfo(domain="pcm", reason="INTERNAL"))
        return changed


class WrongStatusForShape(_Refusing, rules=("R5", "R25")):
    """A shape that does not fit is OUT_OF_RANGE, because the author thought of array bounds."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused.as_(code=Code.OUT_OF_RANGE) if refused.info.reason == "INPUT_SHAPE" else refused


class NotFoundIsInvalid(_Refusing, rules=("R5",)):
    """Whatever is wrong with a call is INVALID_ARGUMENT; the reason alone says that a thing was not found."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused.as_(code=Code.INVALID_ARGUMENT) if refused.status.code == Code.NOT_FOUND else refused


class TerseMessages(_Refusing, rules=("R6",)):
    """The message is the reason again; there was no room for texts in the flash."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused.as_(message=refused.info.reason)


class StackTraces(_Refusing, rules=("R6",)):
    """A build with debug symbols: messages end with where in the firmware they came from."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        place = 'Traceback (most recent call last):\n  File "/fw/src/rpc.py", line 221, in handle'
        return refused.as_(message=f"{refused.status.message[:900]}\n{place}")


class StrictParser(Firmware, rules=("R1",)):
    """Refuses requests with fields it does not know, to catch typing errors early."""

    def wire(self, call: Call) -> Any:
        if isinstance(call.request, Message) and len(UnknownFieldSet(call.request)):
            raise refusal(InputError("the request has fields that this firmware does not know; expected none"))
        return call.go_on()


class MillisecondTimestamps(Firmware, rules=("R2",)):
    """Tells the wall-clock time of programming in milliseconds, as its operating system does."""

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(replace(m, programmed_at_unix_s=m.programmed_at_unix_s * 1e3) for m in super().models())


class AgesInMinutes(Firmware, rules=("R2", "R33")):
    """The self-test's report has its age in minutes."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "SelfTest":
            reply.age_s /= 60.0
        return reply


class BareUnimplemented(_Refusing, rules=("R3", "R5")):
    """Calls it does not have are left to gRPC, which answers UNIMPLEMENTED and no reason."""

    def refuse(self, refused: Refused, call: Call) -> Refused:
        return refused.bare() if refused.status.code == Code.UNIMPLEMENTED else refused


class StubSaysOk(Firmware, rules=("R3",)):
    """The stub generator's empty reply was left in for a call that nobody implemented."""

    def wire(self, call: Call) -> Any:
        return lab_pb2.Temperature() if call.name == "SetTemperature" else call.go_on()


class _Identity(Firmware):
    def capabilities_of(self, known: list[str]) -> list[str]:
        return known

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "GetIdentity":
            told = self.capabilities_of(list(reply.capabilities))
            del reply.capabilities[:]
            reply.capabilities.extend(told)
        return reply


class AdvertisesTemperature(_Identity, rules=("R3",)):
    """The capability of a call that comes with the next release is in the list already."""

    def capabilities_of(self, known: list[str]) -> list[str]:
        return [*known, "lab.temperature"]


class CapabilitiesTwice(_Identity, rules=("R3",)):
    """Two tables of capabilities, one after the other; what is in both is told twice."""

    def capabilities_of(self, known: list[str]) -> list[str]:
        return [*known, *known[:4]]


class MisspelledCapabilities(_Identity, rules=("R3", "R18")):
    """Spells a capability in its own way, so that a client who asks for it does not find it."""

    def capabilities_of(self, known: list[str]) -> list[str]:

        return [name.replace("recalibrate.", "recalibration.") for name in known]


class SmallMessages(Firmware, rules=("R4",)):
    """The server's limit on messages was left at gRPC's own, 4 MiB."""

    message_bytes = 4 << 20
