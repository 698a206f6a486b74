"""Images with right hashes and wrong contents: what a hostile or broken writer makes. Each has its named error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from image_parts import contents_of, seal, tile_targets, tiny_image
from onnx import helper
from pcmedge._contract.image_pb2 import BIAS_PLACEMENT_ROW, Manifest, NamedTensor, Quantization
from pcmedge.errors import ImageCorruptError, ImageError, ImageFeatureError, InputValueError
from pcmedge.image import ChipImage

GOOD = tiny_image()
NAN = float("nan")
Change = Callable[[Manifest], Any]


def check_of(data: bytes) -> str:
    """The check that refuses a whole image, byte by byte and table by table."""
    with pytest.raises(ImageError) as caught:
        ChipImage.from_bytes(data).verify()
    return caught.value.metadata["check"]


def setter(path: str, value: Any) -> Change:
    """A change of one manifest field: "layers.0.name"."""

    def change(manifest: Manifest) -> None:
        *steps, last = path.split(".")
        node: Any = manifest
        for step in steps:
            node = node[int(step)] if step.isdigit() else getattr(node, step)
        if last.isdigit():
            node[int(last)] = value
        else:
            setattr(node, last, value)

    return change


def with_bias_row(manifest: Manifest, code: int) -> None:
    manifest.required_features.append("bias-row-1")
    manifest.layers[1].bias, manifest.layers[1].blocks[0].bias_code = BIAS_PLACEMENT_ROW, code


def with_float_targets(manifest: Manifest, dtype: str) -> None:
    manifest.required_features.append("float-targets-1")
    manifest.segments[-1].dtype = dtype


def codes(manifest: Manifest, **fields: Any) -> None:
    quantization = Quantization(**{"datatype": "INT8", "scale": 0.5, "zero_point": -3, **fields})
    manifest.model.inputs[0].quantization.CopyFrom(quantization)


MANIFESTS: dict[str, tuple[str, Change]] = {
    "no format version": ("manifest-version", setter("format_version", 0)),
    "base feature missing": ("manifest-features", lambda m: m.ClearField("required_features")),
    "lstm without its feature": ("manifest-features", setter("layers.0.operator", "AnalogLSTM")),
    "no model name": ("manifest-model", setter("model.name", "")),
    "path as model name": ("manifest-model", setter("model.name", "../../etc/passwd")),
    "endless model name": ("manifest-model", setter("model.name", "a" * 129)),
    "model version 0": ("manifest-model", setter("model.version", 0)),
    "no inputs": ("manifest-model", lambda m: m.model.ClearField("inputs")),
    "no outputs": ("manifest-model", lambda m: m.model.ClearField("outputs")),
    "input twice": ("manifest-model", lambda m: m.model.inputs.add().CopyFrom(m.model.inputs[0])),
    "unknown datatype": ("manifest-model", setter("model.inputs.0.datatype", "COMPLEX")),
    "no batch axis": ("manifest-model", setter("model.inputs.0.shape.0", 1)),
    "negative dimension": ("manifest-model", setter("model.inputs.0.shape.1", -2)),
    "rank 1000": ("manifest-model", lambda m: m.model.inputs[0].shape.extend([1] * 1000)),
    "no tiles on the chip": ("manifest-profile", setter("profile.tiles", 0)),
    "1-bit converter": ("manifest-profile", setter("profile.adc_bits", 1)),
    "32-bit converter": ("manifest-profile", setter("profile.dac_bits", 32)),
    "g_max nan": ("manifest-profile", setter("profile.g_max_microsiemens", NAN)),
    "tile of 2^32-1 rows": ("manifest-profile", setter("profile.tile_rows", 2**32 - 1)),
    "segment name twice": ("manifest-segments", setter("segments.1.name", "program")),
    "segment without a name": ("manifest-segments", setter("segments.1.name", "")),
    "program missing": ("manifest-segments", setter("segments.0.name", "other")),
    "program said to be a table": ("manifest-segments", setter("segments.0.kind", 3)),
    "short hash": ("manifest-segments", setter("segments.0.sha256", b"1234")),
    "no hash": ("manifest-segments", setter("segments.0.sha256", b"")),
    "targets of float32 without the feature": ("manifest-features", lambda m: setattr(m.segments[-1], "dtype", "<f4")),
    "int16 targets said to be float32": ("manifest-segments", lambda m: with_float_targets(m, "<f4")),
    "targets of float64": ("manifest-segments", lambda m: with_float_targets(m, "<f8")),
    "big-endian float targets": ("manifest-segments", lambda m: with_float_targets(m, ">f4")),
    "targets of nothing known": ("manifest-segments", lambda m: with_float_targets(m, "nonsense")),
    "targets of another shape": ("manifest-segments", lambda m: m.segments[-1].shape.append(2)),
    "shape times two over length": ("manifest-segments", lambda m: m.segments[-1].shape.__setitem__(0, 2**63)),
    "dtype on a table": ("manifest-segments", setter("segments.1.dtype", "<i2")),
    "1000 segments": ("manifest-segments", lambda m: [m.segments.add(name=str(i)) for i in range(1000)]),
    "overlapping segments": ("segment-layout", setter("segments.1.offset", 192)),
    "segment in the header": ("segment-layout", setter("segments.0.offset", 0)),
    "segment far outside": ("segment-layout", setter("segments.1.offset", 2**63)),
    "length wraps 64 bits": ("segment-layout", lambda m: setattr(m.segments[-1], "offset", 2**64 - 64)),
    "hole between segments": ("segment-layout", lambda m: setattr(m.segments[2], "offset", m.segments[2].offset + 64)),
    "segment unaligned": ("segment-layout", lambda m: setattr(m.segments[2], "offset", m.segments[2].offset - 2)),
    "program of 2^62 bytes": ("manifest-segments", setter("segments.0.length", 2**62)),
    "segment too long for the file": ("segment-layout", setter("segments.0.length", 2**29)),
    "unknown segment of 2^62 bytes": ("segment-layout", lambda m: m.segments.add(
        name="x", offset=(m.segments[-1].offset + m.segments[-1].length + 63) // 64 * 64, length=2**62,
        sha256=bytes(32))),
    "layer twice": ("manifest-layers", setter("layers.1.name", "conv")),
    "layer without a name": ("manifest-layers", setter("layers.0.name", "")),
    "unknown analog operator": ("manifest-layers", setter("layers.0.operator", "AnalogMagic")),
    "block missing": ("manifest-layers", lambda m: m.layers[0].ClearField("blocks")),
    "block of zero rows": ("manifest-layers", setter("layers.0.blocks.0.rows", 0)),
    "dac_step nan": ("manifest-layers", setter("layers.0.blocks.0.dac_step", NAN)),
    "dac_step 0": ("manifest-layers", setter("layers.0.blocks.0.dac_step", 0.0)),
    "dac_step infinite": ("manifest-layers", setter("layers.0.blocks.0.dac_step", float("inf"))),
    "mean square over 1": ("manifest-layers", setter("layers.0.blocks.0.dac_mean_square", 1.5)),
    "unknown scaling": ("manifest-layers", setter("layers.0.blocks.0.scaling", "row")),
    "bias row without its feature": ("manifest-features", setter("layers.1.bias", BIAS_PLACEMENT_ROW)),
    "bias row without a code": ("manifest-layers", lambda m: with_bias_row(m, 0)),
    "bias code beyond the DAC": ("manifest-layers", lambda m: with_bias_row(m, 256)),
    "bias code without a bias row": ("manifest-layers", setter("layers.1.blocks.0.bias_code", 1)),
    "bias row and no other row": ("manifest-layers", lambda m: (
        with_bias_row(m, 255), setter("layers.1.blocks.0.rows", 1)(m))),
    "bias row of an LSTM": ("manifest-layers", lambda m: (
        with_bias_row(m, 1), m.required_features.append("lstm-1"), setter("layers.1.operator", "AnalogLSTM")(m),
        m.layers[1].blocks.add().CopyFrom(m.layers[1].blocks[0]), setter("layers.1.blocks.1.name", "R")(m))),
    "statistics node without kind": ("manifest-layers", setter("layers.0.statistics_kind", 1)),
    "kind without statistics node": ("manifest-layers", setter("layers.0.statistics_node", "")),
    "unknown buffer kind": ("manifest-buffer", setter("calibration_buffer.kind", "magic")),
    "no samples": ("manifest-buffer", setter("calibration_buffer.samples", 0)),
    "samples of no buffer": ("manifest-buffer", setter("calibration_buffer.kind", "none")),
    "statistics of no buffer": ("manifest-buffer", lambda m: (
        setter("calibration_buffer.kind", "none")(m), setter("calibration_buffer.samples", 0)(m))),
    "buffer there but said to be none": ("manifest-segments", lambda m: (
        m.ClearField("calibration_buffer"), setter("calibration_buffer.kind", "none")(m))),
    "other number of samples": ("table-values", setter("calibration_buffer.samples", 4)),
    "statistics said to be there": ("statistics-nodes", lambda m: (
        setter("layers.1.statistics_kind", 3)(m), setter("layers.1.statistics_node", "other")(m))),
    "class output unknown": ("manifest-application", setter("application.class_output", "z")),
    "preprocessing of an unknown input": ("manifest-application", setter("application.preprocessing.input", "z")),
    "preprocessing to 2^32 pixels": ("manifest-application", setter("application.preprocessing.width", 2**32 - 1)),
    "two colour channels": ("manifest-application", setter("application.preprocessing.channels", 2)),
    "std 0": ("manifest-application", lambda m: m.application.preprocessing.std.append(0.0)),
    "scale nan": ("manifest-application", setter("application.preprocessing.scale", NAN)),
    "codes of floats": ("manifest-interface", lambda m: codes(m, datatype="FP32")),
    "codes of another type than the tensor": ("manifest-interface", lambda m: (
        setter("model.outputs.0.datatype", "UINT8")(m), m.model.outputs[0].quantization.MergeFrom(
            Quantization(datatype="INT8", scale=1)))),
    "scale 0": ("manifest-interface", lambda m: codes(m, scale=0.0)),
    "scale of codes nan": ("manifest-interface", lambda m: codes(m, scale=NAN)),
    "zero point beyond its type": ("manifest-interface", lambda m: codes(m, zero_point=128)),
    "signature without a key": ("manifest-interface", lambda m: m.application.signatures.add(key="")),
    "signature twice": ("manifest-interface", lambda m: [m.application.signatures.add(key="s") for _ in range(2)]),
    "signature of an unknown tensor": ("manifest-interface", lambda m: m.application.signatures.add(key="s").inputs.add(
        name="a", tensor="y")),
    "signature names a tensor twice": ("manifest-interface", lambda m: m.application.signatures.add(
        key="s", inputs=[NamedTensor(name=name, tensor="x") for name in "ab"])),
    "more rows than tiles cover": ("tile-coverage", setter("layers.1.blocks.0.rows", 9)),
    "fewer rows than tiles reach": ("tile-geometry", setter("layers.1.blocks.0.rows", 7)),
    "tile larger than the profile": ("tile-geometry", setter("profile.tile_rows", 17)),
    "batch norm not in the program": ("program-nodes", lambda m: (
        setter("layers.0.statistics_node", "zz")(m),
        setter("calibration_buffer.has_reference_statistics", False)(m))),
    "another opset": ("program-opset", setter("model.onnx_opset", 22)),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_contradicts_itself_is_refused(name: str):
    check, change = MANIFESTS[name]
    assert check_of(seal(GOOD, change=change)) == check


def test_the_sealer_and_the_writer_make_the_same_bytes():
    assert seal(GOOD) == GOOD.to_bytes()


@pytest.mark.parametrize(
    ("header", "kind", "check"),
    [
        ({"version": 2}, ImageFeatureError, "container-version"),
        ({"flags": 1}, ImageFeatureError, "container-flags"),
        ({"header_length": 256}, ImageCorruptError, "header-fields"),
        ({"alignment": 1}, ImageCorruptError, "header-fields"),
        ({"manifest_offset": 0}, ImageCorruptError, "header-fields"),
        ({"manifest_length": 0}, ImageCorruptError, "header-fields"),
        ({"manifest_length": 2**63}, ImageCorruptError, "header-fields"),
        ({"signature_length": 2**63}, ImageCorruptError, "header-fields"),
        ({"signature_offset": 2**64 - 1}, ImageCorruptError, "header-fields"),
        ({"signature_offset": 0}, ImageCorruptError, "header-fields"),
        ({"file_length": 2**63}, ImageCorruptError, "header-fields"),
        ({"file_length": 1}, ImageCorruptError, "file-length"),
        ({"manifest_length": 100}, ImageCorruptError, "manifest-sha256"),
    ],
)
def test_a_header_with_a_right_hash_and_wrong_fields_is_refused(header: dict[str, int], kind: type, check: str):
    with pytest.raises(kind) as caught:
        ChipImage.from_bytes(seal(GOOD, header=header))
    assert caught.value.metadata["check"] == check


def test_padding_that_is_not_zero_is_refused():
    assert check_of(seal(GOOD, padding=b"\1")) == "padding"


def test_newer_format_and_unknown_required_features_are_refused_by_name():
    with pytest.raises(ImageFeatureError, match="format version 2"):
        ChipImage.from_bytes(seal(GOOD, change=setter("format_version", 2)))
    with pytest.raises(ImageFeatureError, match="zebra-1") as caught:
        ChipImage.from_bytes(seal(GOOD, change=lambda m: m.required_features.append("zebra-1")))
    assert caught.value.metadata["features"] == "zebra-1"


def test_optional_features_unknown_fields_and_unknown_segments_are_ignored():
    def extend(manifest: Manifest) -> None:
        manifest.optional_features.append("zebra-1")
        manifest.MergeFromString(b"\xfa\x3e\x05extra")

    assert ChipImage.from_bytes(seal(GOOD, change=extend)).verify().complete
    extended = ChipImage.from_bytes(seal(GOOD, contents={"future": b"anything at all"}))
    assert extended.verify().complete
    assert bytes(extended.segment("future")) == b"anything at all"


def table(name: str) -> pa.Table:
    return pa.ipc.open_file(contents_of(GOOD)[name]).read_all()


def written(found: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, found.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(found)
    return sink.getvalue().to_pybytes()


def with_column(name: str, column: str, values: Any) -> dict[str, bytes]:
    found = table(name)
    field = found.schema.field(column)
    array = values if isinstance(values, pa.Array) else pa.array(values, field.type)
    return {name: written(found.set_column(found.schema.get_field_index(column), field, array))}


def broken_offsets() -> pa.Array:
    """Lists that reach behind their values: full validation finds it, a plain read does not."""
    kind = table("columns").schema.field("weight_scale").type
    offsets, values = pa.py_buffer(np.array([0, 2**30, 7], np.int32)), pa.array(np.ones(7, np.float32))
    return pa.Array.from_buffers(kind, 2, [None, offsets], children=[values])


TABLES: dict[str, tuple[str, Callable[[], dict[str, bytes]]]] = {
    "no Arrow at all": ("table-format", lambda: {"tiles": b"x" * 3000}),
    "empty table segment": ("table-format", lambda: {"tiles": b""}),
    "cut Arrow file": ("table-format", lambda: {"tiles": contents_of(GOOD)["tiles"][:-200] + b"\x10\0\0\0ARROW1"}),
    "compressed": ("table-format", lambda: {"columns": written(table("columns"), "zstd")}),
    "list behind the values": ("table-format", lambda: with_column("columns", "weight_scale", broken_offsets())),
    "column missing": ("table-schema", lambda: {"columns": written(table("columns").drop_columns(["block"]))}),
    "column of another type": ("table-schema", lambda: {"columns": written(table("columns").set_column(
        2, pa.field("weight_scale", pa.list_(pa.float64()), nullable=False), pa.array([[1.0] * 2, [1.0] * 5])))}),
    "null": ("table-values", lambda: with_column("columns", "weight_scale", [None, [1.0] * 5])),
    "null in a list": ("table-values", lambda: with_column("columns", "weight_scale", [[1.0, None], [1.0] * 5])),
    "scale nan": ("columns-values", lambda: with_column("columns", "weight_scale", [[NAN, 1.0], [1.0] * 5])),
    "scale negative": ("columns-values", lambda: with_column("columns", "weight_scale", [[-1.0, 1.0], [1.0] * 5])),
    "too few scales": ("columns-layers", lambda: with_column("columns", "weight_scale", [[1.0, 1.0], [1.0] * 4])),
    "scales of no layer": ("columns-layers", lambda: with_column("columns", "layer", ["conv", "zz"])),
    "scales of no block": ("columns-layers", lambda: with_column("columns", "block", ["W", "R"])),
    "scales twice": ("columns-layers", lambda: with_column("columns", "layer", ["fc", "fc"])),
    "scales missing": ("columns-layers", lambda: {"columns": written(table("columns").slice(0, 1))}),
    "variance negative": ("statistics-values", lambda: with_column("statistics", "reference_variance", [[-1.0, 1.0]])),
    "mean infinite": ("statistics-values",
                      lambda: with_column("statistics", "reference_mean", [[float("inf"), 1.0]])),
    "fewer means than variances": ("statistics-values", lambda: with_column("statistics", "reference_mean", [[1.0]])),
    "statistics of no layer": ("statistics-nodes", lambda: with_column("statistics", "layer", ["zz"])),
    "statistics without a node": ("statistics-nodes", lambda: with_column("statistics", "node", [""])),
    "statistics missing": ("statistics-nodes", lambda: {"statistics": written(table("statistics").slice(0, 0))}),
    "tile offset outside": ("tile-offset", lambda: with_column("tiles", "offset", [0, 64, 128, 192, 2**62])),
    "tile offset negative": ("tile-offset", lambda: with_column("tiles", "offset", [-64, 64, 128, 192, 256])),
    "tiles at the same place": ("tile-offset", lambda: with_column("tiles", "offset", [0, 64, 64, 192, 256])),
    "tile length wrong": ("tile-offset", lambda: with_column("tiles", "length", [36, 48, 12, 16, 2])),
    "tile numbered wrongly": ("tile-number", lambda: with_column("tiles", "tile", [0, 1, 2, 4, 3])),
    "tile of an unknown layer": ("tile-layer", lambda: with_column("tiles", "layer", ["conv"] + ["zz"] * 4)),
    "tile with a negative row": ("tile-geometry", lambda: with_column("tiles", "first_row", [0, -1, 0, 6, 6])),
    "tile of no rows": ("tile-geometry", lambda: with_column("tiles", "rows", [9, 0, 6, 2, 2])),
    "tiles overlap": ("tile-coverage", lambda: with_column("tiles", "first_row", [0, 0, 0, 5, 6])),
    "adc_step nan": ("tile-adc-step", lambda: with_column("tiles", "adc_step", [4.0, 2.5, NAN, 1.0, 1.0])),
    "adc_step 0": ("tile-adc-step", lambda: with_column("tiles", "adc_step", [4.0, 2.5, 0.0, 1.0, 1.0])),
    "tile hash wrong": ("tile-sha256", lambda: with_column("tiles", "sha256", [b"\0" * 32] * 5)),
    "targets too short": ("tile-offset", lambda: {"targets": contents_of(GOOD)["targets"][:-2]}),
    "targets too long": ("tile-offset", lambda: {"targets": contents_of(GOOD)["targets"] + b"\0\0"}),
    "hole between tiles not zero": ("tile-offset", lambda: {
        "targets": contents_of(GOOD)["targets"][:36] + b"\1" + contents_of(GOOD)["targets"][37:]}),
    "buffer of another input": ("table-schema", lambda: {
        "buffer": written(table("buffer").rename_columns(["z"]))}),
    "buffer is another table": ("table-schema", lambda: {"buffer": contents_of(GOOD)["columns"]}),
    "program is no ONNX": ("program-parse", lambda: {"program": b"\xff" * 64}),
    "program is empty": ("program-opset", lambda: {"program": b""}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_segment_with_a_right_hash_and_wrong_contents_is_refused(name: str):
    check, contents = TABLES[name]
    assert check_of(seal(GOOD, contents=contents())) == check


@pytest.mark.parametrize("shape", [b"", b"2,4", b"2,4,-4", b"2,4,99999999999999", b"4,2,4", b"\xff", b"2,4,4,"])
def test_a_buffer_whose_metadata_lies_about_its_shape_is_refused(shape: bytes):
    found = table("buffer")
    field = found.schema.field(0).with_metadata({b"shape": shape})
    assert check_of(seal(GOOD, contents={"buffer": written(found.cast(pa.schema([field])))})) == "table-schema"


def test_a_buffer_with_nan_is_refused():
    samples = GOOD.calibration_buffer()["x"].copy()
    samples[1, 0, 2, 3] = NAN
    with pytest.raises(ImageError) as caught:
        tiny_image(buffer={"x": samples})
    assert caught.value.metadata["check"] == "table-values"


def test_a_target_below_the_range_is_refused():
    placed = tile_targets()
    placed[1] = (placed[1][0], np.full((1, 6, 4), -32768, np.int16))
    with pytest.raises(ImageError) as caught:
        tiny_image(tile_targets=placed)
    assert caught.value.metadata["check"] == "tile-values"


def altered(change: Callable[[Any], Any]) -> bytes:
    model = onnx.load_model_from_string(GOOD.program())
    change(model)
    return model.SerializeToString()


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hidden_external(model: Any) -> None:
    """The same inside a branch of an If."""
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    branch = helper.make_graph([helper.make_node("Constant", [], ["t"], value=tensor)], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def hidden_analog(model: Any) -> None:
    """An analog node in a branch of an If, where no one counts tiles."""
    branch = helper.make_graph([helper.make_node("AnalogGemm", ["d"], ["q"], domain="pcm", layer="fc")], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def hidden_sparse(model: Any) -> None:
    """Data in another file, behind a sparse tensor."""
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    model.graph.node[2].attribute.add(name="s", type=11).sparse_tensor.values.CopyFrom(tensor)


def other_layer(model: Any) -> None:
    next(found for found in model.graph.node[0].attribute if found.name == "layer").s = b"zz"


PROGRAMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "data in another file": ("program-external-data", external),
    "data in another file, in a branch": ("program-external-data", hidden_external),
    "data in another file, in a sparse tensor": ("program-external-data", hidden_sparse),
    "an analog node in a branch": ("program-nodes", hidden_analog),
    "an analog node too many": ("program-nodes", lambda m: m.graph.node.append(m.graph.node[0])),
    "an analog node of another layer": ("program-nodes", other_layer),
    "batch norm renamed": ("program-nodes", lambda m: setattr(m.graph.node[1], "name", "zz")),
    "input renamed": ("program-tensors", lambda m: setattr(m.graph.input[0], "name", "zz")),
    "output of another type": ("program-tensors",
                               lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 11)),
    "other opset": ("program-opset", lambda m: setattr(m.opset_import[0], "version", 9)),
    "foreign domain": ("program-opset", lambda m: m.opset_import.append(helper.make_opsetid("com.evil", 1))),
    "unknown operator": ("program-parse", lambda m: setattr(m.graph.node[2], "op_type", "Nope")),
    "cycle": ("program-parse", lambda m: m.graph.node.append(helper.make_node("Relu", ["q"], ["q"]))),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_does_not_belong_to_the_manifest_is_refused(name: str):
    check, change = PROGRAMS[name]
    assert check_of(seal(GOOD, contents={"program": altered(change)})) == check


def test_a_signature_block_that_does_not_parse_is_an_error_only_when_asked_for():
    image = ChipImage.from_bytes(seal(GOOD, signatures=b"\xff\xff\xff"))
    with pytest.raises(ImageCorruptError) as caught:
        _ = image.signatures
    assert caught.value.metadata["check"] == "signature-parse"


def test_a_tile_of_another_image_is_refused():
    tile = GOOD.tiles()[0]
    for wrong in (replace(tile, offset=2**40), replace(tile, rows=10), replace(tile, offset=-64)):
        with pytest.raises(InputValueError, match="take it from tiles"):
            GOOD.target(wrong)
