"""A chip program from an image, and what is refused although every hash is right."""

from __future__ import annotations

from dataclasses import replace

import engine_programs as programs
import image_parts
import numpy as np
import onnx
import pytest
from engine_programs import Maker
from onnx import helper
from pcmedge._contract import image_pb2
from pcmedge.errors import ImageCorruptError, ImageFeatureError, InputShapeError, InputValueError, UnimplementedError
from pcmedge_emulator.engine import AnalogLayer, ChipProgram, FastEngine, ReferenceEngine, Snapshot


def test_a_program_from_an_image_runs() -> None:
    image = image_parts.tiny_image()
    program = ChipProgram.from_image(image)
    assert list(program.layers) == ["conv", "fc"]
    assert [tile.tile for tile in program.layers["fc"].blocks["W"].tiles] == [1, 2, 3, 4]
    assert program.inputs[0].shape == (None, 2, 4, 4)
    assert program.inputs[0].dtype == np.float32
    norm = program.statistics["norm"]
    assert (norm.layer, norm.kind) == ("conv", image_pb2.STATISTICS_KIND_BATCH_NORM)
    assert norm.mean.tolist() == [0.125, -0.5]
    assert program.layer_of_tile()[0] == ("conv", "W")
    assert program.reference_statistics["norm"][0].tolist() == [0.5, -1.5]
    snapshot = Snapshot(
        conductances={tile.tile: image.target(tile).astype(np.float32) / 32767 for tile in image.tiles()}
    )
    inputs = image.reference_set()[0]
    fast = FastEngine(program, snapshot).run(inputs)["y"]
    assert np.allclose(fast, ReferenceEngine(program, snapshot).run(inputs)["y"], atol=1e-6)
    assert fast.shape == (2, 5)


def dense_program(**changes) -> tuple[Maker, dict]:
    maker = Maker(programs.profile(rows=16, columns=16))
    maker.gemm("x", "a", maker.rng.normal(0, 0.2, (30, 20)))
    maker.norm("a", "y", 20, "a")
    parts = {
        "model": maker.model({"x": ["N", 30]}, {"y": ["N", 20]}),
        "layers": dict(maker.layers),
        "profile": maker.chip,
        "statistics_of": maker.statistics_of,
    }
    return maker, parts | changes


def with_tiles(layers: dict, change) -> dict:
    block = layers["a"].blocks["W"]
    changed = replace(block, tiles=tuple(change(list(block.tiles))))
    return {"a": AnalogLayer(name="a", operator="AnalogGemm", blocks={"W": changed})}


TILE_TROUBLE = {
    "missing": lambda tiles: tiles[1:],
    "doubled": lambda tiles: [*tiles, tiles[0]],
    "shifted": lambda tiles: [replace(tiles[0], first_row=1), *tiles[1:]],
    "outside": lambda tiles: [replace(tiles[0], first_column=10), *tiles[1:]],
    "negative": lambda tiles: [replace(tiles[0], first_row=-1), *tiles[1:]],
    "swapped": lambda tiles: [replace(tiles[0], first_column=tiles[1].first_column), *tiles[1:]],
    "same number": lambda tiles: [replace(tiles[0], tile=tiles[1].tile), *tiles[1:]],
    "no ADC step": lambda tiles: [replace(tiles[0], adc_step=0.0), *tiles[1:]],
    "ADC step not a number": lambda tiles: [replace(tiles[0], adc_step=float("nan")), *tiles[1:]],
}


@pytest.mark.parametrize("trouble", TILE_TROUBLE)
def test_tiles_that_do_not_make_up_the_block_are_refused(trouble: str) -> None:
    _maker, parts = dense_program()
    parts["layers"] = with_tiles(parts["layers"], TILE_TROUBLE[trouble])
    with pytest.raises(ImageCorruptError) as caught:
        ChipProgram.build(**parts)
    assert caught.value.metadata["check"] == "tiles"


def test_a_tile_larger_than_the_chip_is_refused() -> None:
    _maker, parts = dense_program(profile=programs.profile(rows=8, columns=16))
    with pytest.raises(ImageCorruptError, match="larger than the chip's tiles"):
        ChipProgram.build(**parts)


def rename(model: onnx.ModelProto, **changes) -> onnx.ModelProto:
    """The model with attributes of its analog node replaced."""
    node = model.graph.node[0]
    kept = [item for item in node.attribute if item.name not in changes]
    del node.attribute[:]
    node.attribute.extend(kept + [helper.make_attribute(name, value) for name, value in changes.items()])
    return model


def test_program_and_layers_must_name_each_other() -> None:
    _maker, parts = dense_program()
    with pytest.raises(ImageCorruptError, match="layer 'b'"):
        ChipProgram.build(**parts | {"model": rename(dense_program()[1]["model"], layer="b")})
    with pytest.raises(ImageCorruptError, match="describes it not at all"):
        ChipProgram.build(**parts | {"layers": {}})
    extra = {**parts["layers"], "b": replace(parts["layers"]["a"], name="b")}
    with pytest.raises(ImageCorruptError, match=r"no node of the program uses layers \['b'\]"):
        ChipProgram.build(**parts | {"layers": extra})
    with pytest.raises(ImageCorruptError, match="which the program lacks"):
        ChipProgram.build(**parts | {"statistics_of": {"elsewhere": ("a", 1)}})


def test_the_same_layer_twice_is_refused() -> None:
    _maker, parts = dense_program()
    model = parts["model"]
    again = model.graph.node.add()
    again.CopyFrom(model.graph.node[0])
    again.output[0] = "again"
    with pytest.raises(ImageCorruptError, match="two analog nodes"):
        ChipProgram.build(**parts)


def test_unknown_operators_and_operator_sets_are_refused() -> None:
    _maker, parts = dense_program()
    parts["model"].graph.node[0].op_type = "AnalogAttention"
    with pytest.raises(ImageFeatureError, match=r"pcm\.AnalogAttention"):
        ChipProgram.build(**parts)
    for domain, version in (("", 99), ("pcm", 2), ("com.example", 1)):
        _maker, parts = dense_program()
        parts["model"].opset_import.append(helper.make_opsetid(domain, version))
        with pytest.raises(ImageFeatureError, match="operator set"):
            ChipProgram.build(**parts)


def test_analog_nodes_inside_control_flow_are_refused() -> None:
    _maker, parts = dense_program()
    graph = parts["model"].graph
    body = helper.make_graph([graph.node[0]], "then", [], [])
    graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=body, else_branch=body))
    with pytest.raises(ImageCorruptError, match="control-flow body"):
        ChipProgram.build(**parts)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kernel_shape": [5, 5]}, "rows"),
        ({"kernel_shape": [3, 3, 2]}, "kernel"),
        ({"group": 2}, "group 2"),
        ({"strides": [0, 1]}, "strides"),
        ({"pads": [1, 1]}, "pads"),
        ({"pads": [-1, 0, 0, 0]}, "pads"),
        ({"dilations": [1]}, "dilations"),
    ],
)
def test_impossible_convolutions_are_refused(attributes: dict, message: str) -> None:
    maker = Maker()
    maker.conv("x", "y", maker.rng.normal(0, 1, (4, 2, 3, 3)))
    model = rename(maker.model({"x": ["N", 2, 8, 8]}, {"y": ["N", 4, 6, 6]}), **attributes)
    with pytest.raises(ImageCorruptError, match=message):
        ChipProgram.build(model, maker.layers, maker.chip)


def test_impossible_numbers_are_refused() -> None:
    _maker, parts = dense_program()
    layer = parts["layers"]["a"]
    block = layer.blocks["W"]
    for changes in (
        {"dac_step": 0.0},
        {"dac_step": float("inf")},
        {"weight_scale": np.full(20, np.nan, np.float32)},
        {"weight_scale": np.ones(3, np.float32)},
        {"columns": 0},
    ):
        bad = {"a": AnalogLayer(name="a", operator="AnalogGemm", blocks={"W": replace(block, **changes)})}
        with pytest.raises(ImageCorruptError):
            ChipProgram.build(**parts | {"layers": bad})
    for bits in ({"dac_bits": 1}, {"adc_bits": 13}):
        with pytest.raises(ImageCorruptError, match="bits"):
            ChipProgram.build(**parts | {"profile": programs.profile(rows=16, columns=16, **bits)})
    with pytest.raises(ImageCorruptError, match="reference statistics"):
        ChipProgram.build(**parts, reference_statistics={"y": (np.zeros(3, np.float32), np.ones(3, np.float32))})


def test_a_snapshot_must_fit_the_program() -> None:
    maker, parts = dense_program()
    program = ChipProgram.build(**parts)
    first = next(iter(maker.conductances))
    lacking = {tile: g for tile, g in maker.conductances.items() if tile != first}
    wrong = {**maker.conductances, first: np.zeros((1, 2, 3), np.float32)}
    for engine in (FastEngine, ReferenceEngine):
        with pytest.raises(InputValueError, match=f"lack tile {first}"):
            engine(program, Snapshot(conductances=lacking))
        with pytest.raises(InputShapeError, match="expected shape"):
            engine(program, Snapshot(conductances=wrong))
        with pytest.raises(InputValueError, match="column_sigma"):
            engine(program, maker.snapshot(read_noise="additive"))
        with pytest.raises(InputValueError, match="pair_sums"):
            engine(program, maker.snapshot(read_noise="input-dependent"))
        with pytest.raises(InputValueError, match="converters"):
            engine(program, maker.snapshot(converters="perfect"))
        with pytest.raises(InputValueError, match="read_noise"):
            engine(program, maker.snapshot(read_noise="pink"))


def test_ir_drop_weakens_the_reference_and_is_refused_by_the_fast_engine() -> None:
    maker = Maker(programs.profile(ir_drop=1.0, wire_resistance_ohm=0.35))
    program = programs.mlp(maker)
    x = maker.rng.normal(0, 1, (20, 64)).astype(np.float32)
    with pytest.raises(UnimplementedError, match='engine="reference"'):
        FastEngine(program, maker.snapshot())
    dropped = ReferenceEngine(program, maker.snapshot()).run_layer("g1", np.full((1, 64), 100))
    plain_maker = Maker()
    plain_program = programs.mlp(plain_maker)
    plain = ReferenceEngine(plain_program, plain_maker.snapshot()).run_layer("g1", np.full((1, 64), 100))
    assert all(np.abs(dropped[tile]).sum() < np.abs(plain[tile]).sum() for tile in plain)
    ideal = FastEngine(program, maker.snapshot(converters="ideal")).run({"x": x})["y"]
    assert np.allclose(
        ideal, ReferenceEngine(program, maker.snapshot(converters="ideal")).run({"x": x})["y"], atol=1e-4
    )
