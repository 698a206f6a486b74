"""The signature block: the last thing in the file, outside the manifest it signs.

A signature is over the 32 bytes of the manifest's SHA-256. The manifest holds the hash of every segment, so a signature
covers all that the image means; adding one changes header and signature block only.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from pcmedge._contract.image_pb2 import SignatureBlock
from pcmedge.errors import InputValueError
from pcmedge.image.format import MAX_SIGNATURES_LENGTH, corrupt


def parse_signatures(block: bytes) -> SignatureBlock:
    """The signatures of a block whose hash has been checked; ImageCorruptError (``signature-parse``)."""
    found = SignatureBlock()
    try:
        found.ParseFromString(block)
    except DecodeError as error:
        raise corrupt("signature-parse", f"the signature block is not a protobuf message: {error}") from error
    return found


def signature_bytes(block: SignatureBlock | None) -> bytes:
    """What the writer puts into the file; no signatures are no bytes. InputValueError over 64 KiB."""
    data = b"" if block is None else block.SerializeToString(deterministic=True)
    if len(data) > MAX_SIGNATURES_LENGTH:
        raise InputValueError(f"a signature block of {len(data)} bytes; at most {MAX_SIGNATURES_LENGTH} are allowed")
    return data
