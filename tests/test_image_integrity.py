"""No damaged image is ever taken for a good one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_parts import seal, tiny_image
from pcmedge.errors import ImageCorruptError
from pcmedge.image import ChipImage

DATA = seal(tiny_image(), signatures=b"\x0a\x09\x0a\x07ed25519")
BITS = 8 * len(DATA)
BYTE_CHECKS = {"magic", "header-sha256", "manifest-sha256", "signature-sha256", "segment-sha256", "padding"}
SETTINGS = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))


def refused(data: bytes) -> str:
    """The name of the check that refused ``data``."""
    with pytest.raises(ImageCorruptError) as caught:
        ChipImage.from_bytes(data)
    assert caught.value.metadata["check"] in caught.value.message
    return caught.value.metadata["check"]


def test_the_image_itself_is_accepted():
    assert ChipImage.from_bytes(DATA).verify().complete


@SETTINGS
@given(st.sets(st.integers(0, BITS - 1), min_size=1, max_size=3))
def test_any_flipped_bits_are_refused_with_the_check_named(bits: set[int]):
    data = bytearray(DATA)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(data)) in BYTE_CHECKS


def test_a_flip_in_every_single_byte_is_refused():
    data = bytearray(DATA)
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        assert refused(bytes(data)) in BYTE_CHECKS
        data[position] ^= 1 << position % 8


@settings(SETTINGS, max_examples=200)
@given(st.integers(0, len(DATA) - 1))
def test_any_truncation_is_refused(length: int):
    assert refused(DATA[:length]) in {"truncated", "file-length"}


@settings(SETTINGS, max_examples=100)
@given(st.binary(min_size=1, max_size=200), st.integers(0, len(DATA)))
def test_bytes_inserted_or_appended_anywhere_are_refused(extra: bytes, position: int):
    # Inserting a copy of what stands there anyway is caught by the length.
    assert refused(DATA[:position] + extra + DATA[position:]) in {"magic", "header-sha256", "file-length"}


@settings(SETTINGS, max_examples=200)
@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)))
def test_a_zeroed_range_is_refused_unless_it_was_zero(start: int, stop: int):
    damaged = DATA[:start] + bytes(max(stop - start, 0)) + DATA[max(start, stop) :]
    if damaged == DATA:
        assert ChipImage.from_bytes(damaged).size == len(DATA)
    else:
        assert refused(damaged) in BYTE_CHECKS


@settings(SETTINGS, max_examples=200)
@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(data: bytes):
    assert refused(data) in {"truncated", "magic"}


@settings(SETTINGS, max_examples=200)
@given(st.integers(8 * 192, BITS - 1))
def test_without_verification_damage_is_found_at_first_use(bit: int):
    """Nothing damaged is handed out; what is not touched (padding) may stay unnoticed."""
    data = bytearray(DATA)
    data[bit // 8] ^= 1 << bit % 8
    good, found = ChipImage.from_bytes(DATA), None
    try:
        image = ChipImage.from_bytes(bytes(data), verify=False)
        image.program()
        targets = [image.target(tile) for tile in image.tiles()]
        image.weight_scales(), image.reference_statistics(), image.calibration_buffer(), image.reference_set()
    except ImageCorruptError as error:
        found = error.metadata["check"]
    if found is None:
        assert all((a == good.target(tile)).all() for a, tile in zip(targets, good.tiles(), strict=True))
        found = refused(bytes(data))
        assert found in {"padding", "segment-sha256"}
    assert found in BYTE_CHECKS | {"tile-sha256"}
