"""Whether a call ended as the contract says it may."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.errors import ERROR_DOMAIN, error_from_reason

from .wire import Ended, Way

HEALTHS_OWN = ("NOT_FOUND", "INVALID_ARGUMENT")
"""gRPC's health service names no reasons."""

ONE_MESSAGE = "requires exactly one request message"
"""gRPC's own answer to a call of one message that has none."""


def defect(way: Way, requests: int, ended: Ended) -> str:
    """What is wrong with the end of a call, or ""."""
    if ended.code == "OK" or ended.given_up:
        return _replies_defect(way, ended)
    if ended.code == "DEADLINE_EXCEEDED" and not ended.reason:
        return _replies_defect(way, ended)
    if ended.code in ("INTERNAL", "UNKNOWN") or ended.reason == "INTERNAL":
        return "a bug, by its own word"
    if not ended.reason:
        return "" if _transports_own(way, requests, ended) else "no reason"
    if ended.domain != ERROR_DOMAIN:
        return f"domain {ended.domain!r}"
    known = error_from_reason(ended.reason, "")
    if known.reason != ended.reason:
        return "a reason that is not in the table"
    if known.status != ended.code:
        return f"the table says {known.status} for this reason"
    return "" if ended.message else "no message"


def _transports_own(way: Way, requests: int, ended: Ended) -> bool:
    if not way.client_streaming and requests != 1 and ended.code == "UNIMPLEMENTED" and ONE_MESSAGE in ended.message:
        return True
    return not way.ours and ended.code in HEALTHS_OWN


def _replies_defect(way: Way, ended: Ended) -> str:
    """Replies that cannot be read, and errors they carry."""
    if not way.server_streaming and ended.code == "OK" and len(ended.replies) != 1:
        return f"{len(ended.replies)} replies instead of one"
    for data in ended.replies:
        try:
            reply = way.response.FromString(data)
        except DecodeError:
            return "a reply that is no message"
        if isinstance(reply, inference_pb2.ModelStreamInferResponse) and reply.error_message:
            reason = reply.infer_response.parameters["pcm_error_reason"].string_param
        elif isinstance(reply, device_pb2.OperationUpdate) and reply.HasField("error"):
            reason = reply.error.reason
        else:
            continue
        if reason == "INTERNAL" or error_from_reason(reason, "").reason != reason:
            return f"a reply with the reason {reason!r}"
    return ""
