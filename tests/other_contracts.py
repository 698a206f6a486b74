"""The contract as it was and as it may become, made from today's descriptors, and devices that speak those.

Everything goes through classes of its own descriptor pool and loses what they do not know, as in software of that age.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status
from pcmedge.errors import Error
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import to_status
from pcmedge_emulator.service.handlers import Handlers

TOMORROW = "of_tomorrow"
"""A field that every message of the newer contract has."""
UNKNOWN = 77
"""A value that every enumeration of the newer contract has."""

_SINCE = {
    "pcm.device.v1.Identity": ["contract_minor"],
    "pcm.device.v1.Telemetry": ["health", "store_bytes", "retired_tiles", "requests_queued", "degraded_reasons"],
    "pcm.device.v1.ModelTelemetry": ["self_tests", "agreement_floor"],
    "pcm.device.v1.TileTelemetry": ["retired"],
    "pcm.device.v1.GetTelemetryRequest": ["include_self_tests"],
    "pcm.device.v1.RecalibrateRequest": ["reads"],
    "pcm.device.v1.RecalibrationResult": ["reads"],
    "pcm.device.v1.RecalibrationPolicy": ["reads", "self_test_interval_s", "self_test_ratio", "agreement_drop"],
    "pcm.device.v1.CalibrationBufferRequest": ["statistics"],
    "pcm.device.v1.Event": ["lost_before"],
    "pcm.device.v1.ProgramHeader": ["use_retired"],
}
_CALLS_SINCE = {"Diagnose", "DiagnoseWithProgress", "WatchEvents", "ModelConfig"}
_CAPABILITIES_SINCE = {
    "buffer.statistics", "diagnose", "events.watch", "policy.self-test-trigger", "recalibrate.reads",
    "self-test.history", "telemetry.health",
}  # fmt: skip


def today() -> FileDescriptorSet:
    return FileDescriptorSet.FromString((resources.files("pcmedge._contract") / "contract.binpb").read_bytes())


def older() -> FileDescriptorSet:
    """Before minors were counted: no diagnosis, no health, no history, no statistics of buffers, no lab."""
    files = today()
    for file in files.file:
        for message in file.message_type:
            gone = _SINCE.get(f"{file.package}.{message.name}", [])
            kept = [field for field in message.field if field.name not in gone]
            assert len(message.field) - len(kept) == len(gone), message.name
            del message.field[:]
            message.field.extend(kept)
        for service in file.service:
            kept_calls = [method for method in service.method if method.name not in _CALLS_SINCE]
            del service.method[:]
            service.method.extend(kept_calls)
        if file.package == "pcm.lab.v1":
            del file.service[:]
    return files


def newer() -> FileDescriptorSet:
    """A field more in every message, a value more in every enumeration, a part more in every stream, a call more."""
    files = today()
    for file in files.file:
        for message in file.message_type:
            _extend(message)
        for enum in file.enum_type:
            enum.value.add(name=f"{enum.name.upper()}_TOMORROW", number=UNKNOWN)
        for service in file.service:
            first = service.method[0]
            service.method.add(name="Levitate", input_type=first.input_type, output_type=first.output_type)
    return files


def _extend(message: DescriptorProto) -> None:
    if message.options.map_entry:
        return
    for index, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):
            field = message.field.add(name=f"{oneof.name}_of_tomorrow", number=2000 + index, oneof_index=index)
            field.type, field.label = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=TOMORROW, number=1000)
    field.type, field.label = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.LABEL_OPTIONAL
    for nested in message.nested_type:
        _extend(nested)


class Contract:
    """Message classes and calls of one descriptor set."""

    def __init__(self, files: FileDescriptorSet) -> None:
        pool = DescriptorPool()
        self.calls: dict[str, Any] = {}
        for file in files.file:
            pool.AddSerializedFile(file.SerializeToString())
        for file in files.file:
            for service in pool.FindFileByName(file.name).services_by_name.values():
                self.calls |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
        self._pool = pool

    def message(self, name: str) -> type[Message]:
        """By its full name."""
        return GetMessageClass(self._pool.FindMessageTypeByName(name))

    def request(self, path: str) -> type[Message]:
        return GetMessageClass(self.calls[path].input_type)

    def response(self, path: str) -> type[Message]:
        return GetMessageClass(self.calls[path].output_type)

    def stub(self, channel: grpc.Channel, path: str) -> Callable[..., Any]:
        method = self.calls[path]
        kinds = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        made: Callable[..., Any] = kinds[method.client_streaming, method.server_streaming](
            path,
            request_serializer=self.request(path).SerializeToString,
            response_deserializer=self.response(path).FromString,
        )
        return made


def fill(message: Any) -> None:
    """Sets the field of tomorrow in a message and all it holds."""
    setattr(message, TOMORROW, "more")
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            for each in value if isinstance(value, MutableSequence) else [value]:
                fill(each)


@contextlib.contextmanager
def served(
    handlers: Handlers,
    contract: Contract,
    edit: Callable[[str, Any], None] = lambda name, reply: None,
    blame: Callable[[Error], Error] = lambda error: error,
) -> Iterator[str]:
    """The address of a device that speaks ``contract``: ``edit`` changes its replies, ``blame`` its errors.

    A call the contract does not have gets gRPC's own bare UNIMPLEMENTED.
    """

    class Calls(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            name = details.method.rpartition("/")[2]
            if details.method not in contract.calls or name not in METHODS:
                return None
            return _handler(handlers, contract, details.method, name, edit, blame)

    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Calls(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        handlers.close()
        server.stop(None).wait()


class _Context:
    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def active(self) -> bool:
        return self._context.is_active()

    def on_end(self, callback: Callable[[], object]) -> None:
        if not self._context.add_callback(callback):
            callback()


def _handler(handlers: Handlers, contract: Contract, path: str, name: str, edit: Any, blame: Any) -> Any:
    method = METHODS[name]

    def inward(data: bytes) -> Any:
        message: Any = contract.request(path).FromString(data)
        message.DiscardUnknownFields()
        return method.request.FromString(message.SerializeToString())

    def outward(reply: Any) -> bytes:
        message: Any = contract.response(path).FromString(reply.SerializeToString())
        message.DiscardUnknownFields()
        edit(name, message)
        return bytes(message.SerializeToString())

    def unary(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return handlers.call(name, request, _Context(context))
        except Error as error:
            context.abort_with_status(rpc_status.to_status(to_status(blame(error))))

    def stream(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            yield from handlers.call(name, request, _Context(context))
        except Error as error:
            context.abort_with_status(rpc_status.to_status(to_status(blame(error))))

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    return make(stream if method.server_streaming else unary, request_deserializer=inward, response_serializer=outward)


def without_new_capabilities(name: str, reply: Any) -> None:
    """As an older device lists them."""
    if name == "GetIdentity":
        kept = [each for each in reply.capabilities if each not in _CAPABILITIES_SINCE]
        del reply.capabilities[:]
        reply.capabilities.extend(kept)
