"""Random changes under right hashes: either a named refusal or a whole image, never another exception or a crash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from image_parts import contents_of, seal, tiny_image
from pcmedge.errors import ImageError
from pcmedge.image import ChipImage

GOOD = tiny_image()
BYTES = GOOD.to_bytes()
CONTENTS = contents_of(GOOD)
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)


WITHOUT_ROWS = [(3802, 0)]
"""A reference set with this change is an intact table without rows, as images without a self-test have it."""


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    found = bytearray(data)
    for position, value in changes:
        found[position % len(found)] = value
    return bytes(found)


def use_everything(data: bytes) -> str:
    """Read all of an image as a device would; returns the check that refused it or "accepted"."""
    try:
        image = ChipImage.from_bytes(data)
        image.verify()
    except ImageError as error:
        return error.metadata["check"]
    for tile in image.tiles():
        assert image.target(tile).shape == tile.shape
    assert set(image.weight_scales()) == {(ly.name, b.name) for ly in image.manifest.layers for b in ly.blocks}
    inputs, outputs = image.reference_set()
    (samples,) = {len(array) for array in (*inputs.values(), *outputs.values())}
    assert samples <= 2
    return "accepted"


@pytest.mark.parametrize("name", ["tiles", "columns", "statistics", "buffer", "reference", "program"])
def test_changed_segments(name: str):
    @SETTINGS
    @example(WITHOUT_ROWS)
    @given(CHANGES)
    def run(changes: list[tuple[int, int]]) -> None:
        assert use_everything(seal(GOOD, contents={name: changed(CONTENTS[name], changes)}))

    run()


@pytest.mark.parametrize("name", ["tiles", "columns", "reference", "program"])
def test_cut_segments(name: str):
    @settings(SETTINGS, max_examples=60)
    @given(st.integers(0, len(CONTENTS[name]) - 1))
    def run(length: int) -> None:
        outcome = use_everything(seal(GOOD, contents={name: CONTENTS[name][:length]}))
        assert outcome.split("-")[0] == ("program" if name == "program" else "table")

    run()


@settings(SETTINGS, max_examples=600)
@given(CHANGES)
def test_changed_manifests(changes: list[tuple[int, int]]):
    length = GOOD.header.manifest_length
    manifest = changed(BYTES[192 : 192 + length], changes)
    data = bytearray(BYTES)
    data[192 : 192 + length] = manifest
    data[64:96] = hashlib.sha256(manifest).digest()
    data[160:192] = hashlib.sha256(data[:160]).digest()
    assert use_everything(bytes(data))


@settings(SETTINGS, max_examples=300)
@given(CHANGES)
def test_changed_headers(changes: list[tuple[int, int]]):
    header = changed(BYTES[:160], changes)
    data = header + hashlib.sha256(header).digest() + BYTES[192:]
    assert (use_everything(data) == "accepted") == (data == BYTES)
