"""The container of a chip image: fixed header, alignment, limits. docs/image-format.md is the specification.

The header is 192 bytes, little-endian, and ends with the SHA-256 of its own first 160 bytes; it holds the SHA-256 of
the manifest and of the signature block, and the manifest holds the SHA-256 of every segment. Padding is zero and every
position follows from the lengths, so each bit of a file is either hashed or determined.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from pcmedge.errors import ImageCorruptError, ImageFeatureError

Bytes: TypeAlias = bytes | bytearray | memoryview

MAGIC: Final = b"\x89PCMI\r\n\x1a"
CONTAINER_VERSION: Final = 1
UPDATE: Final = "update the software that refuses it: pcmedge here, a device's own there"
HEADER_LENGTH: Final = 192
HASHED_HEADER_LENGTH: Final = 160
ALIGNMENT: Final = 64
TILE_ALIGNMENT: Final = 64

# Limits on what a reader takes in, whatever a file claims. Unit: bytes, or entries.
MAX_MANIFEST_LENGTH: Final = 4 * 2**20
MAX_SIGNATURES_LENGTH: Final = 64 * 2**10
MAX_FILE_LENGTH: Final = 2**40
MAX_PROGRAM_LENGTH: Final = 2**30
MAX_TABLE_LENGTH: Final = 2**30
MAX_SYNTHETIC_VALUES: Final = 2**25
MAX_SEGMENTS: Final = 64
MAX_LAYERS: Final = 8192
MAX_TILES: Final = 65536

# magic, container version, header length, alignment, flags, file length, manifest offset and length, signature offset
# and length, SHA-256 of the manifest, SHA-256 of the signature block, 32 reserved bytes; the header's SHA-256 follows.
_FIELDS: Final = struct.Struct("<8sIIIIQQQQQ32s32s32s")
assert _FIELDS.size == HASHED_HEADER_LENGTH


def align(position: int, alignment: int = ALIGNMENT) -> int:
    """The next multiple of ``alignment`` (bytes) at or after ``position``."""
    return -(-position // alignment) * alignment


def sha256(data: Bytes) -> bytes:
    return hashlib.sha256(data).digest()


def corrupt(check: str, message: str, **metadata: object) -> ImageCorruptError:
    """The error for a failed check; ``check`` is its stable name."""
    return ImageCorruptError(f"chip image refused ({check}): {message}", check=check, **metadata)


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fixed header. Offsets and lengths in bytes from the start of the file."""

    file_length: int
    manifest_length: int
    manifest_sha256: bytes
    signature_offset: int
    signature_length: int
    signature_sha256: bytes

    def pack(self) -> bytes:
        fields = _FIELDS.pack(
            MAGIC,
            CONTAINER_VERSION,
            HEADER_LENGTH,
            ALIGNMENT,
            0,
            self.file_length,
            HEADER_LENGTH,
            self.manifest_length,
            self.signature_offset,
            self.signature_length,
            self.manifest_sha256,
            self.signature_sha256,
            bytes(32),
        )
        return fields + sha256(fields)

    @classmethod
    def unpack(cls, data: Bytes) -> Header:
        """Read and check the header of a whole image.

        Raises ImageCorruptError with ``check`` one of ``truncated``, ``magic``, ``header-sha256``, ``header-fields``,
        ``file-length``, and ImageFeatureError for a container version this reader does not know.
        """
        size = len(data)
        if size < HEADER_LENGTH:
            raise corrupt("truncated", f"expected at least the {HEADER_LENGTH} bytes of a header, found {size}")
        if bytes(data[:8]) != MAGIC:
            raise corrupt("magic", "the file does not begin like a .pcmi chip image; is this the right file?")
        if sha256(data[:HASHED_HEADER_LENGTH]) != bytes(data[HASHED_HEADER_LENGTH:HEADER_LENGTH]):
            raise corrupt("header-sha256", "the header does not match its SHA-256; copy the image again")
        (_, version, header_length, alignment, flags, file_length, manifest_offset, manifest_length, signature_offset,
         signature_length, manifest_sha256, signature_sha256, reserved) = _FIELDS.unpack_from(data)  # fmt: skip
        if version != CONTAINER_VERSION:
            raise ImageFeatureError(
                f"chip image has container version {version}, this reader knows {CONTAINER_VERSION}; {UPDATE}",
                check="container-version",
                found=version,
                known=CONTAINER_VERSION,
            )
        if flags:
            raise ImageFeatureError(
                f"chip image sets container flags {flags:#010x}, this reader knows none; {UPDATE}",
                check="container-flags",
                found=flags,
            )
        fixed = (header_length, alignment, manifest_offset, reserved)
        if fixed != (HEADER_LENGTH, ALIGNMENT, HEADER_LENGTH, bytes(32)):
            raise corrupt("header-fields", f"constant header fields have other values than version {version} allows")
        if not 0 < manifest_length <= MAX_MANIFEST_LENGTH:
            raise corrupt(
                "header-fields", f"manifest of {manifest_length} bytes, allowed are 1 to {MAX_MANIFEST_LENGTH}"
            )
        if signature_length > MAX_SIGNATURES_LENGTH:
            raise corrupt(
                "header-fields", f"signature block of {signature_length} bytes, at most {MAX_SIGNATURES_LENGTH}"
            )
        if file_length > MAX_FILE_LENGTH:
            raise corrupt("header-fields", f"file length {file_length} is over the limit of {MAX_FILE_LENGTH} bytes")
        if file_length != size:
            raise corrupt("file-length", f"the header says {file_length} bytes, found {size}; copy the image again")
        first_free = HEADER_LENGTH + manifest_length
        if not (align(first_free) <= signature_offset and signature_offset + signature_length == file_length):
            raise corrupt("header-fields", "the signature block is not the last thing in the file")
        return cls(
            file_length=file_length,
            manifest_length=manifest_length,
            manifest_sha256=manifest_sha256,
            signature_offset=signature_offset,
            signature_length=signature_length,
            signature_sha256=signature_sha256,
        )

    def manifest_in(self, data: memoryview) -> memoryview:
        """The manifest's bytes after checking their hash; ImageCorruptError (``manifest-sha256``)."""
        manifest = data[HEADER_LENGTH : HEADER_LENGTH + self.manifest_length]
        if sha256(manifest) != self.manifest_sha256:
            raise corrupt("manifest-sha256", "the manifest does not match its SHA-256; copy the image again")
        return manifest

    def signatures_in(self, data: memoryview) -> bytes:
        """The signature block's bytes after checking their hash; ImageCorruptError (``signature-sha256``)."""
        block = bytes(data[self.signature_offset : self.signature_offset + self.signature_length])
        if sha256(block) != self.signature_sha256:
            raise corrupt("signature-sha256", "the signature block does not match its SHA-256; copy the image again")
        return block
