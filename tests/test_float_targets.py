"""Images with float32 targets: the format, what refuses broken ones, and devices that hold them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
import torch
import torch_zoo
from chip_models import INPUT, OUTPUT, digits, digits_image, digits_model
from cli_models import write_sources
from cli_process import run
from compiler_models import float_outputs, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_parts import parts, seal, tile_targets, tiny_image
from pcmedge.compiler import with_buffer
from pcmedge.drift import DriftPlan, run_study
from pcmedge.errors import ImageCorruptError, ImageError, ImageFeatureError, InputTypeError, InputValueError
from pcmedge.frontends import torch as frontend
from pcmedge.image import ChipImage, build_image, tables
from pcmedge.image.manifest import TILES
from pcmedge_emulator import images
from pcmedge_emulator.calibration.gdc import cell_weights, counted_cells
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.crossbar.tile import target_conductances

OFF: dict[str, Any] = {"physics": "ideal", "converters": "ideal", "read_noise": "off"}


def float_parts() -> dict[str, Any]:
    """As image_parts.parts(), with targets that no int16 code stands for."""
    made = parts()
    made["tile_targets"] = [(tile, (q / 32767 * 0.987654321).astype(np.float32)) for tile, q in tile_targets()]
    return made


def float_image() -> ChipImage:
    return build_image(**float_parts())


def with_value(value: float) -> bytes:
    """The float image with one target changed in its first tile, under right hashes."""
    image = float_image()
    targets = bytearray(image.segment("targets"))
    targets[:4] = np.float32(value).tobytes()
    tiles = list(image.tiles())
    digest = hashlib.sha256(targets[: tiles[0].length]).digest()
    tiles[0] = replace(tiles[0], sha256=digest)
    names = tables.schema(TILES).names
    table = tables.write_table(TILES, {name: [getattr(tile, name) for tile in tiles] for name in names})
    return seal(image, contents={"targets": bytes(targets), "tiles": bytes(table)})


def test_float_targets_have_golden_bytes_and_are_read_back_bit_for_bit() -> None:
    golden = Path(__file__).with_name("golden") / "float-targets-v1.pcmi"
    assert float_image().to_bytes() == golden.read_bytes()
    image = ChipImage.open(golden)
    assert image.verify()
    assert list(image.manifest.required_features) == ["float-targets-1", "pcm-analog-1"]
    segment = image.manifest.segments[-1]
    assert (segment.name, segment.dtype, 4 * segment.shape[0]) == ("targets", "<f4", segment.length)
    for tile, (_, wanted) in zip(image.tiles(), float_parts()["tile_targets"], strict=True):
        assert tile.length == 4 * tile.cells
        assert tile.offset % 64 == 0
        assert image.target(tile).dtype == np.float32
        assert not image.target(tile).flags.owndata
        assert np.array_equal(image.target(tile), wanted)
        assert np.array_equal(image.normalised_target(tile), wanted)


def test_int16_targets_normalised() -> None:
    image = tiny_image()
    assert "float-targets-1" not in image.manifest.required_features
    for tile in image.tiles():
        assert np.array_equal(image.normalised_target(tile), image.target(tile) / np.float32(32767))


def test_the_value_changer_of_these_tests_makes_whole_images() -> None:
    image = ChipImage.from_bytes(with_value(-1.0))
    assert image.verify()
    assert image.target(image.tiles()[0])[0, 0, 0] == -1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -1.5, np.nextafter(np.float32(1), np.float32(2))])
def test_values_that_are_no_conductance_are_refused(value: float) -> None:
    image = ChipImage.from_bytes(with_value(value))
    with pytest.raises(ImageCorruptError) as caught:
        image.verify()
    assert caught.value.metadata["check"] == "tile-values"
    with Chip(clock=Clock.manual(), default_policy=MANUAL) as chip:
        with pytest.raises(ImageError):
            chip.program(ChipImage.from_bytes(with_value(value), verify=False))
        assert not chip.models()
    made = float_parts()
    made["tile_targets"][0][1][0, 0, 0] = value
    with pytest.raises(ImageError, match=r"which is not in -1\.\.1"):
        build_image(**made)


def test_tiles_of_int16_length_do_not_fit_a_float_segment() -> None:
    image, small = float_image(), tiny_image()
    contents = {"targets": bytes(small.segment("targets")), "tiles": bytes(small.segment("tiles"))}
    with pytest.raises(ImageCorruptError) as caught:
        ChipImage.from_bytes(seal(image, contents=contents)).verify()
    assert caught.value.metadata["check"] == "tile-offset"
    with pytest.raises(ImageCorruptError) as caught:
        ChipImage.from_bytes(seal(image, change=lambda m: setattr(m.segments[-1], "dtype", "<i2"))).verify()
    assert caught.value.metadata["check"] == "manifest-segments"


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_targets_of_other_types_are_refused(dtype: Any) -> None:
    every = [(tile, target.astype(dtype)) for tile, target in float_parts()["tile_targets"]]
    with pytest.raises(InputTypeError, match="all int16 or all float32"):
        build_image(**{**parts(), "tile_targets": every})
    with pytest.raises(InputTypeError, match=r"tile 1: .*all int16 or all float32"):
        build_image(**{**parts(), "tile_targets": [tile_targets()[0], *every[1:]]})


@settings(max_examples=50, deadline=None)
@given(arrays(np.int16, (1, 3, 4), elements=st.integers(-32767, 32767)), st.sampled_from([5.0, 25.0]))
def test_a_device_makes_of_codes_and_of_what_they_stand_for_the_same(codes: Any, g_max: float) -> None:
    g = (codes / 32767).astype(np.float32)
    for one, other in zip(target_conductances(codes, g_max), target_conductances(g, g_max), strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-7)
    np.testing.assert_allclose(cell_weights(codes), cell_weights(g), rtol=3e-7)
    assert np.array_equal(counted_cells(codes), counted_cells(g))


def test_a_device_answers_as_onnx_runtime_where_int16_does_not() -> None:
    model, (values,) = torch_zoo.network("mobilenet-v3"), torch_zoo.inputs("mobilenet-v3")
    source = frontend.load(model, torch.from_numpy(values[:1]))
    (expected,) = float_outputs(source, {source.graph.input[0].name: values}).values()
    errors, sizes = {}, {}
    for targets in ("int16", "float32"):
        image = pcmedge.compile(source, calibration=values, scaling="column", targets=targets)
        with pcmedge.Emulator(image, **OFF) as device:
            errors[targets] = relative_error(device.infer(values), expected)
        sizes[targets] = len(image.segment("targets"))
    assert errors["int16"] > 1e-4
    assert errors["float32"] <= 1e-5
    assert sizes["float32"] > 1.9 * sizes["int16"]


@pytest.mark.parametrize(
    "options",
    [{"scaling": "layer"}, {"scaling": "auto", "clip_sigma": "search", "bias_correction": True}, {"bias": "row"}],
)
def test_float_targets_go_with_the_other_options(options: dict[str, Any]) -> None:
    pictures = digits()[0][:128]
    images = [
        pcmedge.compile(digits_model(), calibration=pictures, targets=targets, **options)
        for targets in ("int16", "float32")
    ]
    for one, other in zip(images[0].tiles(), images[1].tiles(), strict=True):
        np.testing.assert_allclose(
            images[0].normalised_target(one), images[1].normalised_target(other), atol=0.501 / 32767
        )
    assert '"targets"' not in images[0].manifest.provenance.compile_options_json
    assert '"targets": "float32"' in images[1].manifest.provenance.compile_options_json


def test_an_unknown_way_to_store_is_refused() -> None:
    with pytest.raises(InputValueError, match="targets: expected one of int16, float32; found 'float16'"):
        pcmedge.compile(digits_model(), calibration=digits()[0][:8], targets="float16")  # type: ignore[arg-type]


def test_digital_statistics_and_another_buffer_keep_float_targets() -> None:
    image, samples = digits_image(targets="float32"), digits()[0][:64]
    found = with_buffer(image, samples)
    assert "float-targets-1" in found.manifest.required_features
    assert bytes(found.segment("targets")) == bytes(image.segment("targets"))
    as_int16 = with_buffer(digits_image(), samples).reference_statistics()
    for node, (mean, variance) in found.reference_statistics().items():
        np.testing.assert_allclose(mean, as_int16[node][0], atol=1e-3)
        np.testing.assert_allclose(variance, as_int16[node][1], rtol=1e-3)


def test_a_device_without_the_feature_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Chip(clock=Clock.manual(), default_policy=MANUAL) as chip:
        assert "float-targets-1" in chip.identity().image_features
    monkeypatch.setattr(images, "IMAGE_FEATURES", ("pcm-analog-1",))
    with (
        Chip(clock=Clock.manual(), default_policy=MANUAL) as chip,
        pytest.raises(ImageFeatureError, match="requires float-targets-1"),
    ):
        chip.program(digits_image(targets="float32"))


def test_a_chip_goes_on_with_float_targets_after_a_restart(tmp_path: Path) -> None:
    image, pictures = digits_image(targets="float32"), digits()[2][:40]
    with Chip(store=tmp_path, clock=Clock.manual(), read_noise="off", default_policy=MANUAL) as chip:
        chip.program(image)
        chip.advance(86400)
        chip.recalibrate("digits", "gdc", force=True)
        before = chip.infer("digits", {INPUT: pictures}).outputs[OUTPUT]
    with Chip(store=tmp_path, read_noise="off") as chip:
        assert chip.models()[0].image_sha256 == image.sha256
        assert np.array_equal(chip.infer("digits", {INPUT: pictures}).outputs[OUTPUT], before)
        chip.recalibrate("digits", "adabs-paired", force=True)
        assert chip.infer("digits", {INPUT: pictures}).outputs[OUTPUT].shape == (40, 10)


def test_a_drift_study_of_float_targets_is_as_that_of_int16() -> None:
    """float32 targets change nothing that a chip can do: devices differ by what int16 rounds, below their noise."""
    plan = DriftPlan(ages_s=("1d",), chips=2, modes=("none", "gdc", "adabs-paired"))
    _, _, pictures, labels = digits()
    one, other = (
        [row.accuracy for row in run_study(image, pictures[:200], labels[:200], plan=plan, workers=1).rows]
        for image in (digits_image(), digits_image(targets="float32"))
    )
    np.testing.assert_allclose(one, other, atol=0.05)


def test_the_command_line_compiles_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = write_sources(tmp_path)
    target = tmp_path / "float.pcmi"
    given_options = ("--calibration", sources.data, "--targets", "float32", "--output", target, "--json")
    document = run(capsys, "compile", sources.model, *given_options).document
    assert "float-targets-1" in document["manifest"]["required_features"]
    assert ChipImage.open(target).manifest.segments[-1].dtype == "<f4"
    assert "float32" in run(capsys, "inspect", target).out
