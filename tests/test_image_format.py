"""The chip image as its users see it: round trip, golden bytes, laziness, files, size."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from image_parts import bias_row_parts, contents_of, manifest, parts, program, seal, tile_targets, tiny_image
from pcmedge._contract.image_pb2 import BIAS_PLACEMENT_ROW, CalibrationBuffer, SignatureBlock
from pcmedge.errors import (
    FileMissingError,
    FileUnwritableError,
    ImageCorruptError,
    ImageError,
    InputShapeError,
    InputTypeError,
    InputValueError,
)
from pcmedge.image import ChipImage, Tile, build_image
from pcmedge.image.profiles import profile
from pcmedge.image.writer import with_signatures

GOLDEN = Path(__file__).parent / "golden" / "tiny-v1.pcmi"


def test_the_writer_makes_the_golden_bytes():
    assert tiny_image().to_bytes() == GOLDEN.read_bytes()


def test_the_reader_reads_the_golden_values():
    image = ChipImage.open(GOLDEN)
    assert (image.name, image.version, image.path) == ("tiny", 3, GOLDEN)
    assert image.manifest.profile.name == "test-18x4"
    assert list(image.manifest.required_features) == ["pcm-analog-1"]
    assert [segment.name for segment in image.manifest.segments] == [
        "program", "tiles", "columns", "statistics", "reference", "buffer", "targets",
    ]  # fmt: skip
    assert all(segment.offset % 64 == 0 for segment in image.manifest.segments)
    tiles = image.tiles()
    assert [tile.offset for tile in tiles] == [0, 64, 128, 192, 256]
    assert [tile.shape for tile in tiles] == [(2, 9, 1), (1, 6, 4), (1, 6, 1), (1, 2, 4), (1, 2, 1)]
    assert tiles[4].adc_step == 1.5
    assert image.target(tiles[1])[0, 0].tolist() == [-32767, -32667, -32567, -32467]
    assert image.target(tiles[2])[0, :, 0].tolist() == [32200, 32300, 32400, 32500, 32600, 32700]
    scales = image.weight_scales()
    assert {key: scale.tolist() for key, scale in scales.items()} == {
        ("conv", "W"): [0.5, 0.75],
        ("fc", "W"): [0.25] * 5,
    }
    mean, variance = image.reference_statistics()["norm"]
    assert (mean.tolist(), variance.tolist()) == ([0.5, -1.5], [2.0, 0.0])
    buffer = image.calibration_buffer()["x"]
    assert (buffer.shape, buffer.dtype, buffer[2, 1, 3, 3]) == ((3, 2, 4, 4), np.float32, 95 / 32)
    inputs, outputs = image.reference_set()
    assert inputs["x"][0, 0, 0, 0] == -1.0
    assert outputs["y"].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert not image.signatures.signatures


def test_a_bias_row_has_golden_bytes_and_is_read_back():
    golden = GOLDEN.with_name("bias-row-v1.pcmi")
    assert build_image(**bias_row_parts()).to_bytes() == golden.read_bytes()
    image = ChipImage.open(golden)
    assert image.verify()
    assert list(image.manifest.required_features) == ["bias-row-1", "pcm-analog-1"]
    layer = image.manifest.layers[1]
    assert (layer.bias, layer.blocks[0].rows, layer.blocks[0].bias_code) == (BIAS_PLACEMENT_ROW, 9, 40)
    assert [tile.shape for tile in image.tiles()[1:]] == [(1, 6, 4), (1, 6, 1), (1, 3, 4), (1, 3, 1)]
    rows = [image.target(tile)[0, -1].tolist() for tile in image.tiles()[3:]]
    assert rows == [[0, 8000, 16000, 24000], [32000]]


def test_the_same_parts_in_another_order_give_the_same_bytes():
    made = parts()
    again = build_image(**{name: made[name] for name in reversed(made)})
    assert again == tiny_image()
    assert hash(again) == hash(tiny_image())
    assert again != tiny_image(weight_scales={("conv", "W"): np.ones(2), ("fc", "W"): np.ones(5)})


def test_targets_are_read_only_views_of_the_mapped_file():
    image = ChipImage.open(GOLDEN)
    tile = image.tiles()[0]
    target = image.target(tile)
    assert np.shares_memory(target, image.target(tile))
    assert not target.flags.owndata
    assert not target.flags.writeable
    for array in (*image.weight_scales().values(), *image.calibration_buffer().values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_views_outlive_the_image():
    target = ChipImage.open(GOLDEN).target(ChipImage.open(GOLDEN).tiles()[1])
    assert target[0, 0, 0] == -32767


def test_bytes_that_could_change_are_copied():
    data = bytearray(GOLDEN.read_bytes())
    image = ChipImage.from_bytes(data)
    data[:] = bytes(len(data))
    assert image.verify().complete


def test_an_image_can_be_pickled():
    image = ChipImage.open(GOLDEN)
    again = pickle.loads(pickle.dumps(image))
    assert again == image
    assert again.sha256 == image.sha256


def test_the_report_names_what_was_checked():
    report = tiny_image().verify()
    assert report.complete
    names = [check.name for check in report.checks]
    assert names[:4] == ["header", "manifest", "signature block", "padding"]
    assert {"segment targets", "tables", "program"} <= set(names)
    assert "5 tiles" in str(report)


def test_signatures_change_neither_manifest_nor_segments():
    block = SignatureBlock()
    block.signatures.add(algorithm="ed25519", key_id=b"k" * 16, signature=b"s" * 64)
    image = tiny_image()
    signed = with_signatures(image, block)
    assert signed.signatures == block
    assert signed.manifest_sha256 == image.manifest_sha256
    assert contents_of(signed) == contents_of(image)
    assert signed.verify().complete
    assert with_signatures(signed, SignatureBlock()) == image
    assert tiny_image(signatures=block) == signed


@pytest.mark.parametrize(
    ("datatype", "element", "kind"),
    [
        ("FP32", 1, np.float32), ("UINT8", 2, np.uint8), ("INT8", 3, np.int8), ("UINT16", 4, np.uint16),
        ("INT16", 5, np.int16), ("INT32", 6, np.int32), ("INT64", 7, np.int64), ("BOOL", 9, np.bool_),
        ("FP16", 10, np.float16), ("FP64", 11, np.float64), ("UINT32", 12, np.uint32), ("UINT64", 13, np.uint64),
    ],
)  # fmt: skip
def test_every_kind_of_tensor_survives(datatype: str, element: int, kind: type):
    made, values = manifest(), (np.arange(64) * 7 % 120).reshape(2, 2, 4, 4).astype(kind)
    made.model.inputs[0].datatype = datatype
    image = tiny_image(
        manifest=made,
        program=program(element),
        buffer={"x": values},
        reference=({"x": values[::-1]}, parts()["reference"][1]),
    )
    image = ChipImage.from_bytes(image.to_bytes())
    buffer, (inputs, _) = image.calibration_buffer(), image.reference_set()
    assert buffer["x"].dtype == inputs["x"].dtype == kind
    assert np.array_equal(buffer["x"], values)
    assert np.array_equal(inputs["x"], values[::-1])


def test_an_input_without_further_axes_survives():
    made = manifest()
    made.model.outputs[0].shape[:] = [-1]
    with pytest.raises(ImageError) as caught:
        tiny_image(manifest=made, reference=(parts()["reference"][0], {"y": np.array([1.5, 2.5], np.float32)}))
    # The tables take it; it is the program that has another output.
    assert caught.value.metadata["check"] == "program-tensors"


# ---------------------------------------------------------------------------------------------------------------- files


def test_save_replaces_a_file_whole_and_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "model.pcmi"
    path.write_bytes(b"older")
    path.chmod(0o640)
    opened_before = path.open("rb")
    tiny_image().save(path)
    assert ChipImage.open(path) == tiny_image()
    assert path.stat().st_mode & 0o777 == 0o640
    with opened_before:
        assert opened_before.read() == b"older"
    assert os.listdir(tmp_path) == ["model.pcmi"]


def test_a_new_file_follows_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        tiny_image().save(tmp_path / "model.pcmi")
    finally:
        os.umask(before)
    assert (tmp_path / "model.pcmi").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["missing/model.pcmi", "file/model.pcmi", "folder", "x" * 300])
def test_saving_where_nothing_can_be_written_is_a_typed_error(tmp_path: Path, place: str):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileUnwritableError, match="could not write"):
        tiny_image().save(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    """The process may write 4 KiB per file; the image is larger."""
    path = tmp_path / "model.pcmi"
    path.write_bytes(b"older")
    code = (
        "import resource, signal, sys\n"
        "from pcmedge.errors import FileUnwritableError\n"
        "from pcmedge.image import ChipImage\n"
        f"image = ChipImage.open({str(GOLDEN)!r})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        f"    image.save({str(path)!r})\n"
        "except FileUnwritableError as error:\n"
        "    sys.exit(42)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 42
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["model.pcmi"]


@pytest.mark.parametrize("place", ["missing.pcmi", "folder", "missing/model.pcmi"])
def test_opening_what_is_not_there_is_a_typed_error(tmp_path: Path, place: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileMissingError):
        ChipImage.open(tmp_path / place)


def test_an_empty_file_and_a_fifo_are_refused_at_once(tmp_path: Path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ImageCorruptError, match="empty"):
        ChipImage.open(tmp_path / "empty")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileMissingError, match="not a regular file"):
        ChipImage.open(tmp_path / "fifo")


# ---------------------------------------------------------------------------------------------- arguments of the writer


def test_parts_of_the_wrong_type_or_shape_are_input_errors():
    tile, target = tile_targets()[0]
    rest = tile_targets()[1:]
    with pytest.raises(InputTypeError, match="int16"):
        tiny_image(tile_targets=[(tile, target.astype(np.int32)), *rest])
    with pytest.raises(InputShapeError, match="shape"):
        tiny_image(tile_targets=[(tile, target[:1]), *rest])
    with pytest.raises(InputShapeError, match="mean and variance"):
        tiny_image(reference_statistics={"norm": ("conv", np.zeros(2), np.zeros(3))})
    with pytest.raises(InputShapeError, match="numbers of samples"):
        tiny_image(reference=({"x": np.zeros((2, 2, 4, 4), np.float32)}, {"y": np.zeros((3, 5), np.float32)}))
    with pytest.raises(InputValueError, match="expected arrays for x"):
        tiny_image(buffer={"z": np.zeros((1, 2, 4, 4), np.float32)})
    made = manifest()
    made.calibration_buffer.kind = "synthetic"
    with pytest.raises(InputValueError, match="takes no samples"):
        tiny_image(manifest=made)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"weight_scales": {("conv", "W"): np.ones(2, np.float32)}}, "columns-layers"),
        ({"tile_targets": tile_targets()[:-1]}, "tile-coverage"),
        ({"reference_statistics": {"norm": ("conv", np.zeros(2), np.array([1, np.nan]))}}, "statistics-values"),
        ({"program": b"no onnx"}, "program-parse"),
        ({"buffer": {"x": np.zeros((1, 2, 4, 5), np.float32)}}, "table-schema"),
        ({"buffer": {"x": np.zeros((1, 2, 4, 4), np.float64)}}, "table-schema"),
        ({"buffer": {"x": np.zeros((0, 2, 4, 4), np.float32)}}, "manifest-buffer"),
    ],
)
def test_parts_that_contradict_each_other_are_named(change: dict[str, Any], check: str):
    with pytest.raises(ImageError, match="do not make a chip image") as caught:
        tiny_image(**change)
    assert caught.value.metadata["check"] == check
    assert not isinstance(caught.value, ImageCorruptError)


def test_an_image_without_buffer_and_statistics():
    image = tiny_image(buffer=None, reference_statistics={})
    assert image.calibration_buffer() == {}
    assert image.reference_statistics() == {}
    assert image.manifest.calibration_buffer.kind == "none"
    assert not image.manifest.calibration_buffer.has_reference_statistics


def test_a_synthetic_buffer_is_made_from_the_manifest():
    made = manifest()
    buffer = made.calibration_buffer
    buffer.kind, buffer.samples, buffer.generator, buffer.seed = "synthetic", 20, "three-scales-1", 7
    buffer.inputs.add(name="x", shape=[2, 4, 4], mean=[0.25, -1.0], std=[0.5, 0.25], minimum=-2.0, maximum=2.0)
    image = tiny_image(manifest=made, buffer=None)
    assert "synthetic-buffer-1" in image.manifest.required_features
    assert image.manifest.calibration_buffer.has_reference_statistics
    samples = image.calibration_buffer()["x"]
    assert (samples.shape, samples.dtype) == ((20, 2, 4, 4), np.float32)
    assert np.array_equal(samples, ChipImage.from_bytes(image.to_bytes()).calibration_buffer()["x"])
    for wrong in ("magic-1", ""):
        data = seal(image, change=lambda m, wrong=wrong: setattr(m.calibration_buffer, "generator", wrong))
        with pytest.raises(ImageCorruptError) as caught:
            ChipImage.from_bytes(data)
        assert caught.value.metadata["check"] == "manifest-buffer"


def test_chosen_samples_need_a_newer_reader():
    made = manifest()
    buffer = made.calibration_buffer
    buffer.kind, buffer.samples, buffer.generator, buffer.seed = "synthetic", 3, "leaves-1", 7
    buffer.chosen.extend([9, 4, 30])
    buffer.inputs.add(name="x", shape=[2, 4, 4], mean=[0.25, -1.0], std=[0.5, 0.25], minimum=-2.0, maximum=2.0)
    image = tiny_image(manifest=made, buffer=None)
    assert {"synthetic-buffer-2"} == {name for name in image.manifest.required_features if "synthetic" in name}
    assert image.calibration_buffer()["x"].shape == (3, 2, 4, 4)
    for wrong in ({"chosen": [1]}, {"samples": 5}, {"coverage": float("nan")}):
        data = seal(image, change=lambda m, wrong=wrong: m.calibration_buffer.MergeFrom(CalibrationBuffer(**wrong)))
        with pytest.raises(ImageCorruptError) as caught:
            ChipImage.from_bytes(data)
        assert caught.value.metadata["check"] == "manifest-buffer"


# ------------------------------------------------------------------------------------------------------- size and speed


def large_parts(layers: int, rows: int, columns: int) -> dict[str, Any]:
    """Arguments for ``layers`` fully connected layers of rows x columns on tiles of 512 x 512."""
    from onnx import TensorProto, helper

    made = manifest()
    made.ClearField("layers")
    made.ClearField("application")
    made.profile.CopyFrom(profile())
    del made.model.inputs[:], made.model.outputs[:]
    made.model.inputs.add(name="x", datatype="FP32", shape=[-1, rows])
    made.model.outputs.add(name="y", datatype="FP32", shape=[-1, columns])
    rng, tiles, nodes = np.random.default_rng(0), [], []
    for index in range(layers):
        layer = made.layers.add(name=f"stage{index}.projection", operator="AnalogGemm", channels=columns)
        layer.blocks.add(
            name="W", rows=rows, columns=columns, groups=1, dac_step=0.1, dac_mean_square=0.1, scaling="layer"
        )
        for r in range(0, rows, 512):
            for c in range(0, columns, 512):
                shape = (1, min(512, rows - r), min(512, columns - c))
                tile = Tile(tile=len(tiles), layer=layer.name, block="W", first_row=r, rows=shape[1], first_column=c,
                            columns=shape[2], adc_step=1.0)  # fmt: skip
                tiles.append((tile, rng.integers(-32767, 32767, shape, dtype=np.int16)))
        source = nodes[-1].output[0] if nodes else "x"
        result = "y" if index == layers - 1 else f"t{index}"
        nodes.append(helper.make_node("AnalogGemm", [source], [result], domain="pcm", layer=layer.name))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", columns])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("pcm", 1)]
    reference = ({"x": np.zeros((2, rows), np.float32)}, {"y": np.zeros((2, columns), np.float32)})
    return {
        "manifest": made,
        "program": helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(),
        "tile_targets": tiles,
        "weight_scales": {(layer.name, "W"): np.ones(columns, np.float32) for layer in made.layers},
        "reference_statistics": {},
        "buffer": None,
        "reference": reference,
    }


@pytest.mark.parametrize(("layers", "rows", "columns"), [(1, 10, 10), (60, 24, 24), (200, 24, 24), (4, 2048, 512)])
def test_the_overhead_is_within_its_budget(layers: int, rows: int, columns: int):
    """At most 2.2 bytes per analog weight + 96 KiB (no digital parameters here), reference inputs apart."""
    image = build_image(**large_parts(layers, rows, columns))
    reference = 4 * 2 * (rows + columns)
    assert image.size <= 2.2 * layers * rows * columns + 96 * 1024 + reference


def mobile_parts(widths: list[int]) -> tuple[dict[str, Any], int, int]:
    """Arguments for pairs of a depthwise 3 x 3 and a pointwise layer, each with batch norm and placement report.

    Returns them with the numbers of analog weights and of digital parameters (scale, shift, mean, variance).
    """
    from onnx import TensorProto, helper

    made = manifest()
    made.ClearField("layers")
    made.ClearField("application")
    made.profile.CopyFrom(profile())
    made.model.inputs[0].shape[:] = [-1, widths[0], 32, 32]
    made.model.outputs[0].shape[:] = [-1, widths[-1], 32, 32]
    tiles: list[Any] = []
    nodes, constants, statistics, scales, tensor = [], [], {}, {}, "x"
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        for kind, rows, columns, groups in (("dw", 9, 1, inputs), ("pw", inputs, outputs, 1)):
            name = f"/features/features.{index}/conv.{kind}/Conv"
            channels = groups * columns
            layer = made.layers.add(name=name, operator="AnalogConv", source_node=name, source_operator="Conv",
                                    channels=channels, statistics_node=f"{name}/norm")  # fmt: skip
            layer.statistics_kind, layer.bias = 2, 1
            layer.blocks.add(name="W", rows=rows, columns=columns, groups=groups, dac_step=0.123456789,
                             dac_mean_square=0.0123456789, scaling="layer")  # fmt: skip
            whole = min(512 // rows, 512 // columns)
            for first in range(0, groups, whole):
                part = min(whole, groups - first)
                tile = Tile(tile=len(tiles), layer=name, block="W", first_group=first, groups=part, rows=rows,
                            columns=columns, adc_step=1.25)  # fmt: skip
                tiles.append((tile, np.ones((part, rows, columns), np.int16)))
            kernel = 3 if kind == "dw" else 1
            nodes.append(helper.make_node(
                "AnalogConv", [tensor], [f"{name}/y"], name, domain="pcm", layer=name, kernel_shape=[kernel] * 2,
                strides=[1, 1], pads=[kernel // 2] * 4, dilations=[1, 1], group=groups,
            ))  # fmt: skip
            names = [f"{name}/{parameter}" for parameter in ("scale", "shift", "mean", "var")]
            constants += [helper.make_tensor(n, TensorProto.FLOAT, [channels], np.ones(channels)) for n in names]
            nodes.append(helper.make_node("BatchNormalization", [f"{name}/y", *names], [f"{name}/z"], f"{name}/norm"))
            nodes.append(helper.make_node("Clip", [f"{name}/z"], [f"{name}/r"], f"{name}/relu6"))
            tensor = f"{name}/r"
            for node in nodes[-3:]:
                made.placement.nodes.add(node=node.name, operator=node.op_type, analog=node.domain == "pcm", tiles=3,
                                         reason="constant weights; its matrix fits the profile's tiles as it is",
                                         macs=123456, mvms=1024, phases=1, energy_j=1.23e-6, latency_s=1.2e-5,
                                         utilisation=0.123)  # fmt: skip
            statistics[f"{name}/norm"] = (name, np.ones(channels), np.ones(channels))
            scales[name, "W"] = np.ones(channels)
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes, "mobile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", widths[0], 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", widths[-1], 32, 32])], constants,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("pcm", 1)]
    outside = (
        {"x": np.zeros((1, widths[0], 32, 32), np.float32)},
        {"y": np.zeros((1, widths[-1], 32, 32), np.float32)},
    )
    arguments = {
        "manifest": made,
        "program": helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(),
        "tile_targets": tiles, "weight_scales": scales, "reference_statistics": statistics,
        "buffer": {"x": outside[0]["x"]}, "reference": outside,
    }  # fmt: skip
    channels = sum(len(scale) for scale in scales.values())
    return arguments, sum(tile.cells for tile, _ in tiles), 4 * channels


@pytest.mark.parametrize(
    "widths",
    [
        [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256],
        [16, 32, 64, 64, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512],
        [4] * 14,
    ],
)
def test_the_overhead_of_many_channels_with_few_weights_is_within_the_budget(widths: list[int]):
    arguments, weights, parameters = mobile_parts(widths)
    image = build_image(**arguments)
    buffer = sum(4 * array.size for array in (arguments["buffer"]["x"], *arguments["reference"][0].values()))
    buffer += sum(4 * array.size for array in arguments["reference"][1].values())
    assert image.size <= 2.2 * weights + 4.1 * parameters + 96 * 1024 + buffer


@pytest.fixture(scope="module")
def hundred_megabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.pcmi"
    build_image(**large_parts(12, 2048, 2048)).save(path)
    return path


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="pages in memory are counted as Linux counts them")
def test_of_a_hundred_megabytes_only_what_is_asked_for_is_read(hundred_megabytes: Path):
    assert hundred_megabytes.stat().st_size > 100e6
    image = ChipImage.open(hundred_megabytes, verify=False)
    tile, *_ = image.tiles()
    assert pages_read(hundred_megabytes) < 7e6
    assert image.target(tile).any()
    assert 2 * tile.cells <= pages_read(hundred_megabytes) < 2 * tile.cells + 8e6
    image.verify()
    assert pages_read(hundred_megabytes) > 100e6


def pages_read(path: Path) -> int:
    """Bytes of a mapped file that this process has touched."""
    mappings = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    return sum(1024 * int(mapping.split("Rss:")[1].split()[0]) for mapping in mappings)


# --------------------------------------------------------------------------------------------------------- base install


def test_the_base_install_opens_verifies_and_reads_targets_without_arrow_and_onnx():
    tile = ChipImage.open(GOLDEN).tiles()[1]
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyarrow", "onnx", "onnxruntime", "torch", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ("pyarrow", "onnx") else real(name, package)
from pcmedge.errors import MissingExtraError
from pcmedge.image import ChipImage, Tile
image = ChipImage.open({str(GOLDEN)!r})
assert [c.name for c in image.verify().checks if c.outcome == "skipped"] == ["tables", "program"]
assert not image.verify().complete
assert image.manifest.model.name == "tiny" and len(image.program()) > 100 and len(image.sha256) == 32
assert image.target({tile!r})[0, 0, 0] == -32767
for call in (image.tiles, image.weight_scales, image.reference_statistics, image.calibration_buffer,
             image.reference_set):
    try:
        call()
    except MissingExtraError as error:
        assert "pip install 'pcmedge[emulator]'" in error.message
    else:
        raise AssertionError(call)
"""
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_the_public_name():
    assert pcmedge.ChipImage is ChipImage
