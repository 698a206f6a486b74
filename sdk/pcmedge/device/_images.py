"""Scripts of identity, programming and resident images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge._contract import device_pb2, image_pb2
from pcmedge.device import _decode
from pcmedge.device._calls import (
    Call,
    Script,
    Session,
    Stream,
    build_message,
    checked_timeout,
    mutation_message,
    new_request_id,
)
from pcmedge.device._inference import find_model
from pcmedge.device._versions import needs, version_of
from pcmedge.device.results import Identity, ProgramResult, Progress, ResidentModel
from pcmedge.errors import CancelledError, FileMissingError, InputTypeError, InternalError, ModelNotFoundError
from pcmedge.protocol.status import from_detail
from pcmedge.protocol.values import Lease, Mutation, ProgramAndVerify

if TYPE_CHECKING:
    import os

    from pcmedge.image import ChipImage

CHUNK_BYTES = 1 << 20
"""Largest piece of an image in one message; the contract's limit."""

OnProgress = Callable[[Progress], None]


def identity(session: Session) -> Script[Identity]:
    """Who the device is, its geometry, and the names of what it can do."""
    reply = yield session.read("GetIdentity", device_pb2.GetIdentityRequest())
    session.peer.contract = version_of(reply)
    return _decode.identity(reply)


def program(
    session: Session,
    image: str | os.PathLike[str] | bytes | ChipImage,
    *,
    replace: bool = False,
    use_retired: bool = False,
    activate: bool = True,
    program_and_verify: ProgramAndVerify | None = None,
    progress: OnProgress | None = None,
    mutation: Mutation | None = None,
    timeout_s: float | None = None,
) -> Script[ProgramResult]:
    """Program a chip image (a path, a ChipImage or its bytes); afterwards it answers.

    Atomic: whatever goes wrong, the device keeps its old state whole. ``replace``: if the new image does not fit beside
    the resident ones, erase first and accept an outage. ``use_retired``: also take tiles that
    ``diagnose`` retired. ``activate=False``: leave it resident, not answering.
    ``program_and_verify``: iterate until each device is within the margin. ``progress``: called with :class:`Progress`;
    an exception it raises cancels the programming. Raises ImageCorruptError, ImageProfileError, ImageFeatureError,
    ImageTooLargeError, CapacityError, LeaseHeldError, GenerationMismatchError.
    """
    data = image_bytes(image)
    if replace:
        yield from needs(session, "program.replace", "way to program over resident images (replace)")
    if use_retired:
        yield from needs(session, "diagnose", "retired tiles (use_retired)")
    if program_and_verify is not None:
        yield from needs(session, "program.verify", "program-and-verify")
    header = device_pb2.ProgramHeader(
        mutation=mutation_message(mutation),
        image_size=len(data),
        replace=replace,
        keep_inactive=not activate,
        use_retired=use_retired,
    )
    if program_and_verify is not None:
        header.program_and_verify.CopyFrom(
            build_message(
                device_pb2.ProgramAndVerify,
                margin_microsiemens=program_and_verify.margin_microsiemens,
                max_iterations=program_and_verify.max_iterations,
            )
        )
    session.forget_models()
    last = yield operation(session, "Program", _program_requests(header, data), progress, timeout_s)
    session.forget_models()
    return _decode.programmed(finished(last).program)


def operation(session: Session, name: str, request: Any, progress: OnProgress | None, timeout_s: float | None) -> Call:
    """A long call that reports progress; its reply is the last update."""

    def report(update: device_pb2.OperationUpdate) -> None:
        if progress is not None:
            progress(_decode.progress(update))

    deadline_s = session.operation_timeout_s if timeout_s is None else checked_timeout(timeout_s)
    return session.change(name, request, timeout_s=deadline_s, on_message=report)


def finished(last: device_pb2.OperationUpdate | None) -> device_pb2.OperationUpdate:
    """The last update of an operation that succeeded; raises what it failed with otherwise."""
    if last is not None and last.state == device_pb2.OPERATION_STATE_SUCCEEDED:
        return last
    if last is not None and last.HasField("error"):
        raise from_detail(last.error)
    if last is not None and last.state == device_pb2.OPERATION_STATE_CANCELLED:
        raise CancelledError(f"operation {last.operation_id} was cancelled; the device keeps its old state")
    raise InternalError("the device ended an operation without saying how it went; ask its journal with events()")


def image_bytes(image: str | os.PathLike[str] | bytes | ChipImage) -> memoryview:
    """The bytes of an image however it is given; FileMissingError for a path that cannot be read."""
    from pcmedge.image import ChipImage

    if isinstance(image, ChipImage):
        return memoryview(image.to_bytes())
    if isinstance(image, bytes | bytearray | memoryview):
        return memoryview(image)
    try:
        path = Path(image)
    except TypeError:
        raise InputTypeError(
            f"expected a chip image as a path, its bytes or a ChipImage; found {type(image).__name__}", argument="image"
        ) from None
    try:
        return memoryview(path.read_bytes())
    except OSError as error:
        raise FileMissingError(
            f"expected a chip image at {path}; cannot read it: {error.strerror}", path=path
        ) from error


def _program_requests(header: device_pb2.ProgramHeader, data: memoryview) -> Iterator[device_pb2.ProgramRequest]:
    yield device_pb2.ProgramRequest(header=header)
    digest = hashlib.sha256()
    for start in range(0, len(data), CHUNK_BYTES):
        chunk = bytes(data[start : start + CHUNK_BYTES])
        digest.update(chunk)
        yield device_pb2.ProgramRequest(chunk=chunk)
    yield device_pb2.ProgramRequest(end=device_pb2.ProgramEnd(image_sha256=digest.digest()))


def models(session: Session) -> Script[tuple[ResidentModel, ...]]:
    """The resident images."""
    reply = yield session.read("ListImages", device_pb2.ListImagesRequest())
    return tuple(_decode.model(image) for image in reply.images)


def manifest(session: Session, model: str | None = None) -> Script[image_pb2.Manifest]:
    """The manifest of a resident image: layers, placement, preprocessing, labels (message pcm.image.v1.Manifest)."""
    name = yield from find_model(session, model)
    return (yield from manifest_of(session, name))[1]


def manifest_of(session: Session, name: str) -> Script[tuple[ResidentModel, image_pb2.Manifest]]:
    """A resident image and its manifest. ModelNotFoundError if there is none of this name."""
    reply = yield session.read("ListImages", device_pb2.ListImagesRequest(include_manifests=True))
    for image, data in zip(reply.images, reply.manifests, strict=True):
        if image.model_name == name:
            return _decode.model(image), image_pb2.Manifest.FromString(data)
    known = ", ".join(image.model_name for image in reply.images) or "none"
    raise ModelNotFoundError(f"no resident model is named {name!r}; resident: {known}", model=name)


def activate(session: Session, model: str, *, mutation: Mutation | None = None) -> Script[ResidentModel]:
    """Let a resident image answer."""
    request = build_message(device_pb2.ActivateImageRequest, model_name=model, mutation=mutation_message(mutation))
    session.forget_models()
    return _decode.model((yield session.change("ActivateImage", request)))


def deactivate(session: Session, model: str, *, mutation: Mutation | None = None) -> Script[ResidentModel]:
    """Stop a resident image from answering; it keeps its tiles."""
    request = build_message(device_pb2.DeactivateImageRequest, model_name=model, mutation=mutation_message(mutation))
    session.forget_models()
    return _decode.model((yield session.change("DeactivateImage", request)))


def erase(session: Session, model: str, *, mutation: Mutation | None = None) -> Script[int]:
    """Remove a resident image; returns the number of tiles freed."""
    request = build_message(device_pb2.EraseImageRequest, model_name=model, mutation=mutation_message(mutation))
    session.forget_models()
    reply = yield session.change("EraseImage", request)
    return int(reply.freed_tiles)


def acquire_lease(session: Session, holder: str, *, duration_s: float = 0.0) -> Script[Lease]:
    """The exclusive right to program, erase and activate, for 1 to 3600 seconds (0: 60) unless renewed.

    ``holder`` is shown to others who are refused (LeaseHeldError).
    """
    request = build_message(
        device_pb2.AcquireLeaseRequest, holder=holder, duration_s=duration_s, request_id=new_request_id()
    )
    return _decode.lease((yield session.change("AcquireLease", request)))


def renew_lease(session: Session, lease: Lease, *, duration_s: float = 0.0) -> Script[Lease]:
    """Keep a lease for ``duration_s`` from now (0: 60)."""
    request = build_message(device_pb2.RenewLeaseRequest, lease_id=lease.lease_id, duration_s=duration_s)
    return _decode.lease((yield session.change("RenewLease", request)))


def release_lease(session: Session, lease: Lease) -> Script[None]:
    """Give a lease back."""
    yield session.change("ReleaseLease", build_message(device_pb2.ReleaseLeaseRequest, lease_id=lease.lease_id))


def operations(session: Session) -> Script[tuple[Progress, ...]]:
    """Long operations running and recently finished, oldest first."""
    reply = yield session.read("ListOperations", device_pb2.ListOperationsRequest())
    return tuple(_decode.progress(update) for update in reply.operations)


def cancel_operation(session: Session, operation_id: str) -> Script[Progress]:
    """Ask an operation to stop; the device keeps the state from before it."""
    request = build_message(device_pb2.CancelOperationRequest, operation_id=operation_id, request_id=new_request_id())
    return _decode.progress((yield session.change("CancelOperation", request)))


def watch_operation(session: Session, operation_id: str) -> Stream[Progress]:
    """The progress of an operation until it ends; the last one says how in ``state``."""
    return session.watch(
        "WatchOperation", build_message(device_pb2.WatchOperationRequest, operation_id=operation_id), _decode.progress
    )
