"""The calls of the contract, read from its service descriptors.

One table instead of generated stubs: the client makes its stubs and the server its handlers from the same entries, and
no generated code reaches into a descriptor pool that other gRPC clients share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pcmedge._contract import device_pb2, inference_pb2, lab_pb2

DEVICE_SERVICE = "pcm.device.v1.DeviceService"
LAB_SERVICE = "pcm.lab.v1.LabService"
INFERENCE_SERVICE = "inference.GRPCInferenceService"
SERVICES = (DEVICE_SERVICE, LAB_SERVICE, INFERENCE_SERVICE)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One call: its gRPC path, message classes and kinds of streaming; ``handler`` is its name in Python."""

    name: str
    service: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    @property
    def handler(self) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()


def _method(descriptor: MethodDescriptor) -> Method:
    return Method(
        name=descriptor.name,
        service=descriptor.containing_service.full_name,
        request=GetMessageClass(descriptor.input_type),
        response=GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
    )


def _table() -> Mapping[str, Method]:
    table: dict[str, Method] = {}
    for file in (device_pb2.DESCRIPTOR, lab_pb2.DESCRIPTOR, inference_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for descriptor in service.methods:
                if descriptor.name in table:
                    raise RuntimeError(f"two calls of the contract are named {descriptor.name}")
                table[descriptor.name] = _method(descriptor)
    return MappingProxyType(table)


METHODS: Mapping[str, Method] = _table()
"""Every call of the three services by its name; names are unique over the whole contract."""
