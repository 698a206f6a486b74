"""Errors on the wire: a gRPC status with ``google.rpc.ErrorInfo`` in its details.

The reason in ErrorInfo is the stable part and decides the exception class; the status code is for tools that know
nothing of this contract, and for clients older than the reason. gRPC carries all of it in response headers, which
clients cap at 8 KiB, so long messages are cut here, the same way in process.
"""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.errors import ERROR_DOMAIN, Error, error_from_reason

DETAILS_KEY = "grpc-status-details-bin"
"""Metadata key under which gRPC carries a google.rpc.Status."""

_MESSAGE_BYTES = 1500
_METADATA_BYTES = 1500


def limited(error: Error) -> Error:
    """The same error if it fits into response headers, else a copy with message and metadata cut to fit."""
    message = _cut(error.message, _MESSAGE_BYTES)
    metadata: dict[str, str] = {}
    left = _METADATA_BYTES
    for key, value in error.metadata.items():
        value = _cut(value, max(left - len(key), 0))
        left -= len(key) + len(value.encode())
        if left < 0:
            break
        metadata[key] = value
    if message == error.message and metadata == error.metadata:
        return error
    return error.said_as(message, metadata)


def _cut(text: str, limit: int) -> str:
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: max(limit - 3, 0)].decode(errors="ignore") + "…" if limit >= 3 else ""


def to_status(error: Error) -> Status:
    """google.rpc.Status of an error: code, message and ErrorInfo with reason and metadata."""
    error = limited(error)
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata))
    return Status(code=Code.Value(error.status), message=error.message, details=[detail])


def from_status(data: bytes) -> Error | None:
    """The typed error in a serialized google.rpc.Status, or None if it holds no ErrorInfo of this contract."""
    try:
        status = Status.FromString(data)
        for detail in status.details:
            info = ErrorInfo()
            if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                return error_from_reason(info.reason, status.message, info.metadata, status=_name(status.code))
    except DecodeError:
        return None
    return None


def to_detail(error: Error) -> device_pb2.ErrorDetail:
    """The error as it is reported inside an :class:`OperationUpdate`."""
    return device_pb2.ErrorDetail(
        reason=error.reason, status=error.status, message=error.message, metadata=error.metadata
    )


def from_detail(detail: device_pb2.ErrorDetail) -> Error:
    return error_from_reason(detail.reason, detail.message, detail.metadata, status=detail.status)


def _name(code: int) -> str:
    """Of a gRPC status; a number that no status has stands for none."""
    return str(Code.Name(code)) if code in Code.values() else ""


_STREAM_REASON = "pcm_error_reason"
_STREAM_STATUS = "pcm_error_status"
_STREAM_METADATA = "pcm_error_metadata_"


def to_stream_reply(error: Error, request: inference_pb2.ModelInferRequest) -> inference_pb2.ModelStreamInferResponse:
    """The reply to a failed request in a stream: error_message for everybody, reason and metadata as parameters."""
    error = limited(error)
    reply = inference_pb2.ModelStreamInferResponse(error_message=error.message or error.reason)
    reply.infer_response.model_name = request.model_name
    reply.infer_response.id = request.id
    reply.infer_response.parameters[_STREAM_REASON].string_param = error.reason
    reply.infer_response.parameters[_STREAM_STATUS].string_param = error.status
    for key, value in error.metadata.items():
        reply.infer_response.parameters[_STREAM_METADATA + key].string_param = value
    return reply


def from_stream_reply(reply: inference_pb2.ModelStreamInferResponse) -> Error | None:
    """The typed error of one failed request in a stream; None if it did not fail."""
    if not reply.error_message:
        return None
    parameters = {key: value.string_param for key, value in reply.infer_response.parameters.items()}
    metadata = {
        key.removeprefix(_STREAM_METADATA): value
        for key, value in parameters.items()
        if key.startswith(_STREAM_METADATA)
    }
    reason, status = parameters.get(_STREAM_REASON, ""), parameters.get(_STREAM_STATUS, "")
    return error_from_reason(reason, reply.error_message, metadata, status=status)
