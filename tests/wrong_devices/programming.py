"""Devices that break rules 11 to 16: programming, and long calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pcmedge._contract import device_pb2
from pcmedge.image import ChipImage, manifest_checks
from pcmedge_emulator import images
from pcmedge_emulator.service import upload

from wrong_devices.firmware import NO_MUTATION, Call, Firmware, Mutation

Part = device_pb2.ProgramRequest

# ------------------------------------------------------------------------------------------------------------ uploading


class _Uploading(Firmware):
    """What arrives at Program passes :meth:`received`."""

    def received(self, parts: Iterator[Any]) -> Iterator[Any]:
        return parts

    def wire(self, call: Call) -> Any:
        return call.answer(self.received(iter(call.request))) if call.name == "Program" else call.go_on()


class WrongDigestAccepted(Firmware, rules=("R11",)):
    """Checks the size of what arrived and leaves the digest at the end unread."""

    @classmethod
    def libraries(cls) -> contextlib.AbstractContextManager[Any]:
        good = upload._check_end

        def size_only(end: Any, size: int, received: int, digest: bytes) -> None:
            good(device_pb2.ProgramEnd(image_sha256=digest), size, received, digest)

        return mock.patch.object(upload, "_check_end", size_only)


class WrongSizeAccepted(Firmware, rules=("R11",)):
    """Takes the size in the header for a hint: fewer bytes with the right digest are as good."""

    @classmethod
    def libraries(cls) -> contextlib.AbstractContextManager[Any]:
        good = upload._check_end

        def digest_only(end: Any, size: int, received: int, digest: bytes) -> None:
            good(end, received, received, digest)

        return mock.patch.object(upload, "_check_end", digest_only)


class _Lenient:
    @staticmethod
    def from_bytes(data: bytes) -> ChipImage:
        image = ChipImage.from_bytes(data, verify=False)
        image._intact.update(image._segments)
        image.verify = lambda: None  # type: ignore[method-assign,assignment,return-value]
        return image


class ImageHashesNotChecked(Firmware, rules=("R11",)):
    """Trusts an image whose bytes arrived as they were sent; whether they were whole before is not asked."""

    @classmethod
    def libraries(cls) -> contextlib.AbstractContextManager[Any]:
        return mock.patch.object(upload, "ChipImage", _Lenient)


class _Everything(set[str]):
    def __rsub__(self, other: Any) -> set[str]:
        return set()


class UnknownFeatureAccepted(Firmware, rules=("R11",)):
    """Ignores what an image requires and it does not know, as one does with unknown fields."""

    @classmethod
    @contextlib.contextmanager
    def libraries(cls) -> Iterator[None]:
        with (
            mock.patch.object(manifest_checks, "KNOWN_FEATURES", _Everything(manifest_checks.KNOWN_FEATURES)),
            mock.patch.object(images, "check_features"),
        ):
            yield


class ProfileNotChecked(Firmware, rules=("R11",)):
    """Programs images that were compiled for other converters, as long as the tiles are as large."""

    @classmethod
    def libraries(cls) -> contextlib.AbstractContextManager[Any]:
        return mock.patch.object(images, "check_profile")


class LargeChunksAccepted(_Uploading, rules=("R11",)):
    """Takes chunks of any size its gRPC library lets through."""

    def received(self, parts: Iterator[Any]) -> Iterator[Any]:
        for part in parts:
            chunk = part.chunk
            if len(chunk) <= 1 << 20:
                yield part
            for start in range(0, len(chunk) if len(chunk) > 1 << 20 else 0, 1 << 20):
                yield Part(chunk=chunk[start : start + (1 << 20)])


class NoEndNeeded(_Uploading, rules=("R11", "R13")):
    """Programs as soon as all announced bytes are there; a client that stops before its end message is programmed."""

    def received(self, parts: Iterator[Any]) -> Iterator[Any]:
        digest, size, received = upload.hashlib.sha256(), 0, 0
        for part in parts:
            size = size or part.header.image_size
            received += len(part.chunk)
            digest.update(part.chunk)
            yield part
            if part.HasField("end"):
                return
        if received == size:
            yield Part(end=device_pb2.ProgramEnd(image_sha256=digest.digest()))


class PartsInAnyOrder(_Uploading, rules=("R11",)):
    """Sorts the parts of a stream before it looks at them: the header may come after chunks."""

    def received(self, parts: Iterator[Any]) -> Iterator[Any]:
        early = []
        for part in parts:
            if part.HasField("header"):
                yield part
                break
            early.append(part)
        yield from early
        yield from parts


class RefusesLate(Firmware, rules=("R11",)):
    """Looks at lease and generations when the image is there; the line is kept busy for nothing."""

    def check_program(self, size: int, *, mutation: Mutation = NO_MUTATION) -> None:
        pass
