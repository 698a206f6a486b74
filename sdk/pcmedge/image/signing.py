"""Ed25519 signatures of chip images, and the keys that make and check them.

A signature is over the 32-byte SHA-256 of the manifest, which holds the hash of every segment: it says who made the
image and that nothing in it changed since. It hides nothing: images are signed, not encrypted.

Needs the extra ``sign`` (the package ``cryptography``). Keys are PEM files: PKCS #8 for the private one,
SubjectPublicKeyInfo for the public one, as ``openssl genpkey -algorithm ed25519`` and ``openssl pkey -pubout`` make
them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge._contract.image_pb2 import Signature, SignatureBlock
from pcmedge.errors import (
    FileMissingError,
    FileUnwritableError,
    ImageSignatureError,
    ImageSignerError,
    ImageUnsignedError,
    InputValueError,
    MissingExtraError,
)
from pcmedge.image.files import write_atomically
from pcmedge.image.reader import ChipImage
from pcmedge.image.writer import with_signatures

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "ed25519"
PASSPHRASE_VARIABLE = "PCMEDGE_KEY_PASSPHRASE"
"""Environment variable with the passphrase of an encrypted private key."""

_KEY_ID_BYTES = 16
_MAX_PEM_BYTES = 64 << 10
_PUBLIC = b"-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with; ``raw`` is its 32 bytes."""

    raw: bytes

    @property
    def key_id(self) -> bytes:
        """First 16 bytes of the SHA-256 of the key, as a signature names it."""
        return hashlib.sha256(self.raw).digest()[:_KEY_ID_BYTES]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PublicKey:
        """From a PEM file. FileMissingError; InputValueError if it holds no public Ed25519 key; MissingExtraError."""
        asymmetric, serialization = _cryptography()
        data = _read(path)
        try:
            key = serialization.load_pem_public_key(data)
        except Exception as error:
            raise _no_key(path, "public", error) from None
        if not isinstance(key, asymmetric.Ed25519PublicKey):
            raise _no_key(path, "public")
        return cls(key.public_bytes_raw())

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether ``signature`` is this key's of the bytes ``signed``. MissingExtraError."""
        asymmetric, _ = _cryptography()
        from cryptography.exceptions import InvalidSignature

        try:
            asymmetric.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, signed)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private key; never shown, not even in ``repr``."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key. MissingExtraError."""
        asymmetric, _ = _cryptography()
        return cls(asymmetric.Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: str | None = None) -> SigningKey:
        """From a PEM file, which nobody else may read.

        FileMissingError; InputValueError if others may read it, if it holds a public key or no Ed25519 key at all, or
        for a wrong or missing passphrase; MissingExtraError.
        """
        asymmetric, serialization = _cryptography()
        data = _read(path)
        if _PUBLIC in data:
            raise _public_half(path)
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputValueError(f"the private key {path} has mode {mode:o}: others may use it; chmod 600", path=path)
        try:
            key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
        except Exception as error:
            if isinstance(error, TypeError) or (passphrase and b"ENCRYPTED" in data):
                raise InputValueError(
                    f"the private key {path} is encrypted and ${PASSPHRASE_VARIABLE} is not its passphrase, or it is "
                    "not encrypted and one was given",
                    path=path,
                ) from None
            raise _no_key(path, "private", error) from None
        if not isinstance(key, asymmetric.Ed25519PrivateKey):
            raise _no_key(path, "private")
        return cls(key)

    def save(self, path: str | os.PathLike[str], passphrase: str | None = None) -> Path:
        """Writes the private key to ``path`` (mode 600) and the public one beside it, with ``.pub`` added: its path.

        Refuses to replace either (FileUnwritableError): a lost private key cannot be made again.
        """
        _, serialization = _cryptography()
        private, public = Path(path), Path(f"{os.fspath(path)}.pub")
        for file in (private, public):
            if file.exists():
                raise FileUnwritableError(f"{file} exists, and keys are never replaced; choose another name", path=file)
        encryption = (
            serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        )
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        write_atomically(private, self._key.private_bytes(pem, form, encryption), mode=0o600)
        shape = serialization.PublicFormat.SubjectPublicKeyInfo
        write_atomically(public, self._key.public_key().public_bytes(pem, shape), mode=0o644)
        return public

    def sign(self, image: ChipImage) -> ChipImage:
        """The image with this key's signature; those of other keys stay. Checks every byte of the image first."""
        image.verify()
        signature = Signature(
            algorithm=ALGORITHM, key_id=self.public.key_id, signature=self._key.sign(image.manifest_sha256)
        )
        block = SignatureBlock()
        block.signatures.extend(each for each in image.signatures.signatures if each.key_id != self.public.key_id)
        block.signatures.append(signature)
        return with_signatures(image, block)

    def __repr__(self) -> str:
        return f"<SigningKey {self.public.key_id.hex()}>"


def check_signed(image: ChipImage, trusted: Sequence[PublicKey]) -> PublicKey:
    """The first trusted key with a valid signature of the image's manifest.

    The manifest's hash was checked when the image was opened; call ``image.verify()`` for everything under it.
    ImageUnsignedError without signatures; ImageSignerError if none is of a trusted key; ImageSignatureError if there
    are such, and none fits: the manifest is not the one that was signed. MissingExtraError.
    """
    signatures = image.signatures.signatures
    if not signatures:
        raise ImageUnsignedError(
            f"image '{image.name}' is not signed; sign it with 'pcmedge sign' and a key that is trusted here",
            model=image.name,
        )
    known = {key.key_id: key for key in trusted}
    found = [(known[each.key_id], each) for each in signatures if each.key_id in known and each.algorithm == ALGORITHM]
    if not found:
        signers = ", ".join(each.key_id.hex() for each in signatures)
        raise ImageSignerError(
            f"image '{image.name}' is signed by {signers}; trusted are "
            f"{', '.join(key_id.hex() for key_id in known) or 'no keys at all'}",
            model=image.name,
            signers=signers,
        )
    for key, signature in found:
        if key.verify(signature.signature, image.manifest_sha256):
            return key
    raise ImageSignatureError(
        f"the signature of image '{image.name}' by {found[0][0].key_id.hex()} does not fit its manifest: the image was "
        "changed after it was signed. Do not use it; get it again from where it was made",
        model=image.name,
        key_id=found[0][0].key_id.hex(),
    )


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("sign", "Signing and checking signatures") from error
    return ed25519, serialization


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise FileMissingError(
            f"cannot read {path}: {error.strerror}; expected a key in PEM format", path=path
        ) from None


def _public_half(path: str | os.PathLike[str]) -> InputValueError:
    private = os.fspath(path).removesuffix(".pub")
    named = f", {private}" if private != os.fspath(path) else ""
    return InputValueError(
        f"{path} is the public half of a key: devices check signatures with it. Sign with the private one{named}",
        path=path,
    )


def _no_key(path: str | os.PathLike[str], kind: str, error: Exception | None = None) -> InputValueError:
    why = f" ({type(error).__name__})" if error is not None else ""
    return InputValueError(
        f"{path} holds no {kind} Ed25519 key in PEM format{why}; 'pcmedge keygen' makes one", path=path
    )
