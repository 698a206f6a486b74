"""Signed images: who is trusted, what a device refuses, and that nothing changes when it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pcmedge
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pcmedge._contract.image_pb2 import Manifest, Signature, SignatureBlock
from pcmedge.errors import (
    FileMissingError,
    FileUnwritableError,
    ImageCorruptError,
    ImageError,
    ImageRollbackError,
    ImageSignatureError,
    ImageSignerError,
    ImageTrustError,
    ImageUnsignedError,
    InputTypeError,
    InputValueError,
    NotProgrammedError,
)
from pcmedge.image import ChipImage
from pcmedge.image.format import HEADER_LENGTH, sha256
from pcmedge.image.signing import PublicKey, SigningKey, check_signed
from pcmedge.image.writer import build_image, with_signatures
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.server import serve
from service_models import classifier, pictures

KEY, OTHER = SigningKey.generate(), SigningKey.generate()


def versioned(version: int, name: str = "small") -> ChipImage:
    """The classifier under another version; every hash is right."""
    image = classifier(name)
    manifest = Manifest()
    manifest.CopyFrom(image.manifest)
    manifest.model.version = version
    return build_image(
        manifest=manifest,
        program=image.program(),
        tile_targets=[(tile, image.target(tile)) for tile in image.tiles()],
        weight_scales=image.weight_scales(),
        reference_statistics={node: ("", *pair) for node, pair in image.reference_statistics().items()},
        buffer=image.calibration_buffer(),
        reference=image.reference_set(),
    )


def forged(signed: ChipImage, version: int) -> ChipImage:
    """Another manifest under the signatures of ``signed``, hashed as it should be: what an attacker would send."""
    return with_signatures(versioned(version), signed.signatures)


# ----------------------------------------------------------------------------------------------------------- signatures


def test_a_signed_image_is_the_same_image_with_a_signer() -> None:
    image = classifier()
    signed = KEY.sign(image)
    assert signed.manifest_sha256 == image.manifest_sha256
    assert signed.verify().complete
    assert check_signed(signed, [OTHER.public, KEY.public]) == KEY.public
    assert KEY.public.verify(signed.signatures.signatures[0].signature, sha256(signed.manifest.SerializeToString()))


def test_several_parties_sign_and_each_once() -> None:
    signed = KEY.sign(OTHER.sign(KEY.sign(classifier())))
    assert sorted(each.key_id for each in signed.signatures.signatures) == sorted(
        [KEY.public.key_id, OTHER.public.key_id]
    )
    assert check_signed(signed, [OTHER.public]) == OTHER.public
    assert check_signed(signed, [KEY.public]) == KEY.public


def test_an_image_without_trusted_signature_says_why() -> None:
    with pytest.raises(ImageUnsignedError, match="pcmedge sign"):
        check_signed(classifier(), [KEY.public])
    with pytest.raises(ImageSignerError, match=OTHER.public.key_id.hex()):
        check_signed(OTHER.sign(classifier()), [KEY.public])
    with pytest.raises(ImageSignatureError, match="changed after it was signed"):
        check_signed(forged(KEY.sign(classifier()), 9), [KEY.public])


@given(signature=st.binary(max_size=80), algorithm=st.sampled_from(["ed25519", "", "none", "rsa"]))
def test_no_signature_but_the_keys_own_is_taken(signature: bytes, algorithm: str) -> None:
    block = SignatureBlock()
    block.signatures.append(Signature(algorithm=algorithm, key_id=KEY.public.key_id, signature=signature))
    with pytest.raises(ImageTrustError):
        check_signed(with_signatures(classifier(), block), [KEY.public])


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_bit_of_a_signed_image_is_trusted(data: Any) -> None:
    good = KEY.sign(classifier()).to_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ImageError):
        check_signed(ChipImage.from_bytes(changed), [KEY.public])


# ----------------------------------------------------------------------------------------------------------------- keys


def test_keys_survive_files_and_are_never_replaced(tmp_path: Path) -> None:
    private = tmp_path / "vendor.key"
    public = KEY.save(private)
    assert private.stat().st_mode & 0o777 == 0o600
    assert PublicKey.load(public) == KEY.public == SigningKey.load(private).public
    with pytest.raises(FileUnwritableError, match="never replaced"):
        OTHER.save(private)
    assert PublicKey.load(public) == KEY.public
    private.chmod(0o640)
    with pytest.raises(InputValueError, match="chmod 600"):
        SigningKey.load(private)


def test_an_encrypted_key_wants_its_passphrase_and_shows_neither(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key", "correct horse")
    assert SigningKey.load(tmp_path / "key", "correct horse").public == KEY.public
    for wrong in (None, "battery staple"):
        with pytest.raises(InputValueError, match="PCMEDGE_KEY_PASSPHRASE") as caught:
            SigningKey.load(tmp_path / "key", wrong)
        assert "staple" not in str(caught.value)
    assert repr(KEY) == f"<SigningKey {KEY.public.key_id.hex()}>"


def test_files_that_hold_no_ed25519_key_are_named(tmp_path: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "ec.pub").write_bytes(elliptic.public_key().public_bytes(serialization.Encoding.PEM, form))
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    KEY.save(tmp_path / "key")
    for name in ("ec.pub", "noise", "key"):
        with pytest.raises(InputValueError, match="no public Ed25519 key"):
            PublicKey.load(tmp_path / name)
    (tmp_path / "noise").chmod(0o600)
    with pytest.raises(InputValueError, match="no private Ed25519 key"):
        SigningKey.load(tmp_path / "noise")
    with pytest.raises(FileMissingError, match="nothing"):
        PublicKey.load(tmp_path / "nothing")


# ------------------------------------------------------------------------------------------------- the device's policy


@pytest.fixture
def strict() -> Iterator[pcmedge.Device]:
    """A device behind gRPC that takes images of KEY only, and holds version 5 of "small"."""
    with (
        Chip(signatures="require", trusted_keys=[KEY.public]) as chip,
        serve(chip) as server,
        pcmedge.connect(server.address) as device,
    ):
        device.program(KEY.sign(versioned(5)))
        yield device


def tampered_bytes() -> bytes:
    data = bytearray(KEY.sign(versioned(6)).to_bytes())
    data[HEADER_LENGTH + 400] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("image", "kind", "status"),
    [
        (lambda: versioned(6), ImageUnsignedError, "FAILED_PRECONDITION"),
        (lambda: OTHER.sign(versioned(6)), ImageSignerError, "FAILED_PRECONDITION"),
        (lambda: forged(KEY.sign(versioned(5)), 6), ImageSignatureError, "DATA_LOSS"),
        (tampered_bytes, ImageCorruptError, "DATA_LOSS"),
        (lambda: KEY.sign(versioned(4)), ImageRollbackError, "FAILED_PRECONDITION"),
    ],
    ids=["unsigned", "wrong-key", "forged", "tampered", "rolled-back"],
)
def test_what_the_policy_refuses_changes_nothing(
    strict: pcmedge.Device, image: Any, kind: type[ImageError], status: str
) -> None:
    before = strict.models()[0]
    answer = strict.infer(pictures(2))
    with pytest.raises(ImageError) as caught:
        strict.program(image(), replace=True)
    assert type(caught.value) is kind
    assert caught.value.status == status
    after = strict.models()[0]
    ages = {"age_s": 0.0}
    assert dataclasses.replace(after, **ages) == dataclasses.replace(before, **ages)
    assert strict.infer(pictures(2)).shape == answer.shape
    assert [event.details["reason"] for event in strict.events() if event.kind == "failed"] == (
        [] if kind is ImageCorruptError else [kind.reason]
    )


def test_the_same_and_later_versions_are_taken_and_names_count_apart(strict: pcmedge.Device) -> None:
    strict.program(KEY.sign(versioned(5)))
    strict.program(KEY.sign(versioned(7)))
    strict.program(KEY.sign(versioned(1, "another")))
    with pytest.raises(ImageRollbackError) as caught:
        strict.program(KEY.sign(versioned(6)))
    assert (caught.value.metadata["version"], caught.value.metadata["highest"]) == ("6", "7")


def test_the_highest_version_survives_erasing_and_a_restart(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"signatures": "require", "trusted_keys": [KEY.public], "store": tmp_path / "store"}
    with Chip(**policy) as chip:
        chip.program(KEY.sign(versioned(5)))
        chip.erase("small")
    with Chip(**policy) as chip, pytest.raises(ImageRollbackError):
        chip.program(KEY.sign(versioned(4)))
    with Chip(**policy, refuse_rollback=False) as chip:
        assert chip.program(KEY.sign(versioned(4))).model.version == 4


def test_an_unsigned_image_cannot_shut_out_later_versions(tmp_path: Path) -> None:
    with Chip(store=tmp_path / "store") as chip:
        chip.program(versioned(2**63))
        chip.erase("small")
    with Chip(store=tmp_path / "store", signatures="require", trusted_keys=[KEY.public]) as chip:
        assert chip.program(KEY.sign(versioned(2))).model.version == 2


def test_warn_takes_it_and_says_so_in_the_journal() -> None:
    with pcmedge.Emulator(versioned(2), signatures="warn", trusted_keys=[KEY.public]) as device:
        programmed = [event for event in device.events() if event.kind == "programmed"]
        assert [event.details["signature"] for event in programmed] == ["IMAGE_UNSIGNED"]
        device.program(KEY.sign(versioned(1)))
        assert "signature" not in device.events()[-1].details


def test_a_resident_model_nobody_vouches_for_stops_answering_when_signatures_are_required(tmp_path: Path) -> None:
    with Chip(store=tmp_path / "store") as chip:
        chip.program(versioned(2))
    with Chip(store=tmp_path / "store", signatures="require", trusted_keys=[KEY.public]) as chip:
        with pytest.raises(NotProgrammedError):
            chip.infer("small", {"x": pictures(1)})
        with pytest.raises(ImageUnsignedError):
            chip.activate("small")
        assert [event.details["reason"] for event in chip.events() if event.kind == "untrusted"] == ["IMAGE_UNSIGNED"]
        chip.program(KEY.sign(versioned(2)))
        assert chip.infer("small", {"x": pictures(1)}).outputs["scores"].shape == (1, 4)


def test_a_snapshot_does_not_bring_back_what_is_not_trusted(tmp_path: Path) -> None:
    with Chip(store=tmp_path / "store") as chip:
        chip.program(versioned(2))
        chip.snapshot("before")
    with Chip(store=tmp_path / "store", signatures="require", trusted_keys=[KEY.public]) as chip:
        chip.program(KEY.sign(versioned(2)))
        chip.restore("before")
        with pytest.raises(NotProgrammedError):
            chip.infer("small", {"x": pictures(1)})


def test_a_policy_and_its_keys_go_together(tmp_path: Path) -> None:
    for arguments in ({"signatures": "require"}, {"signatures": "warn"}, {"trusted_keys": [KEY.public]}):
        with pytest.raises(InputValueError, match="trusted_keys"):
            Chip(**arguments)
    with pytest.raises(InputValueError, match="off, warn, require"):
        Chip(signatures="always", trusted_keys=[KEY.public])
    with pytest.raises(FileMissingError):
        Chip(signatures="require", trusted_keys=[tmp_path / "none.pub"])
    with pytest.raises(InputTypeError, match="is a list"):
        Chip(signatures="require", trusted_keys="vendor.key.pub")
