"""Weights on tiles: counts worked out by hand, and that every weight is in exactly one tile."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from compiler_models import linear, onnx_model, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from pcmedge.compiler import compile
from pcmedge.compiler.layers import Block
from pcmedge.compiler.placement import Region, place
from pcmedge.errors import ImageTooLargeError
from pcmedge.image.profiles import profile


def block(groups: int, rows: int, columns: int, window: int = 1) -> Block:
    return Block("W", np.ones((groups, rows, columns), np.float32), window)


@pytest.mark.parametrize(
    ("shape", "tile", "tiles"),
    [
        # A matrix that fits: one tile.
        ((1, 512, 512, 1), (512, 512), 1),
        # 784 x 1000 on 512 x 512: 2 row tiles x 2 column tiles.
        ((1, 784, 1000, 1), (512, 512), 4),
        # 3x3 kernels: 512 rows hold 56 channels (504 rows), so 64 channels need 2 row tiles.
        ((1, 64 * 9, 64, 9), (512, 512), 2),
        # 56 channels of 3x3 fit exactly into one.
        ((1, 56 * 9, 56, 9), (512, 512), 1),
        # Depthwise 3x3: 56 groups per tile by rows (56 * 9 = 504), so 128 channels need 3 tiles.
        ((128, 9, 1, 9), (512, 512), 3),
        # Depthwise, limited by columns: 4 outputs per group, 512 columns hold 128 groups, rows only 56.
        ((64, 9, 4, 9), (512, 512), 2),
        # Groups that do not fit: each has row tiles x column tiles of its own: 4 * (2 x 1).
        ((4, 600, 100, 1), (512, 512), 8),
        # A kernel of 7x7 on tiles of 32 rows: 2 pieces per channel, 3 channels.
        ((1, 3 * 49, 8, 49), (32, 8), 6),
        # ResNet-34's widest convolution: 512 channels of 3x3 in, 512 out: ceil(512 / 56) = 10 row tiles.
        ((1, 512 * 9, 512, 9), (512, 512), 10),
    ],
)
def test_tile_counts(shape: tuple[int, int, int, int], tile: tuple[int, int], tiles: int) -> None:
    assert len(place(block(*shape), *tile)) == tiles


def test_row_tiles_end_on_channel_borders_and_come_row_by_row() -> None:
    assert place(block(1, 5 * 9, 12, 9), 20, 8) == [
        Region(0, 1, 0, 18, 0, 8),
        Region(0, 1, 0, 18, 8, 4),
        Region(0, 1, 18, 18, 0, 8),
        Region(0, 1, 18, 18, 8, 4),
        Region(0, 1, 36, 9, 0, 8),
        Region(0, 1, 36, 9, 8, 4),
    ]


@settings(deadline=None, max_examples=200)
@given(
    groups=st.integers(1, 12),
    channels=st.integers(1, 9),
    window=st.integers(1, 9),
    columns=st.integers(1, 20),
    tile_rows=st.integers(1, 40),
    tile_columns=st.integers(1, 16),
)
def test_every_weight_is_in_exactly_one_tile(
    groups: int, channels: int, window: int, columns: int, tile_rows: int, tile_columns: int
) -> None:
    rows = channels * window
    seen = np.zeros((groups, rows, columns), int)
    for region in place(block(groups, rows, columns, window), tile_rows, tile_columns):
        assert region.groups * region.rows <= tile_rows
        assert region.groups * region.columns <= tile_columns
        if region.groups > 1:
            assert (region.rows, region.columns) == (rows, columns)
        if window <= tile_rows:
            assert region.first_row % window == 0
        seen[
            region.first_group : region.first_group + region.groups,
            region.first_row : region.first_row + region.rows,
            region.first_column : region.first_column + region.columns,
        ] += 1
    assert np.all(seen == 1)


def test_the_image_holds_the_weights_where_the_table_says() -> None:
    model = linear(20, 9)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    image = compile(model, calibration=samples(8, 20), profile=profile(tile_rows=8, tile_columns=4, tiles=99))
    scale = image.weight_scales()["fc", "W"]
    assert np.all(scale == np.abs(weights).max())
    rebuilt = np.zeros((20, 9))
    for tile in image.tiles():
        rows = slice(tile.first_row, tile.first_row + tile.rows)
        columns = slice(tile.first_column, tile.first_column + tile.columns)
        rebuilt[rows, columns] = image.target(tile)[0] / 32767 * scale[columns]
    np.testing.assert_allclose(rebuilt, weights, atol=scale[0] / 32767)
    assert len(image.tiles()) == 3 * 3


def test_convolution_rows_are_channel_then_kernel() -> None:
    weights = np.arange(1, 2 * 3 * 2 * 2 + 1, dtype=np.float32).reshape(2, 3, 2, 2)
    model = onnx_model(
        [helper.make_node("Conv", ["x", "k"], ["y"], name="c")], {"x": ["n", 3, 4, 4]}, ["y"], {"k": weights}
    )
    image = compile(model, calibration=samples(4, 3, 4, 4))
    target = image.target(image.tiles()[0])[0]
    np.testing.assert_allclose(target / 32767 * 24, weights.reshape(2, 12).T, atol=24 / 32767)


def test_scaling_per_column_and_clipping() -> None:
    weights = np.array([[1.0, 0.0, 10.0], [-2.0, 0.0, 0.1], [0.5, 0.0, 0.1], [0.5, 0.0, -0.2]], np.float32)
    model = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"x": ["n", 4]}, ["y"], {"w": weights}
    )
    by_column = compile(model, calibration=samples(8, 4), scaling="column")
    # A column without weights takes the layer's scale.
    assert by_column.weight_scales()["m", "W"].tolist() == [2.0, 10.0, 10.0]
    clipped = compile(model, calibration=samples(8, 4), clip_sigma=1.5)
    limit = np.float32(1.5 * weights.astype(float).std())
    assert clipped.weight_scales()["m", "W"].tolist() == [limit] * 3
    assert clipped.target(clipped.tiles()[0])[0, 0].tolist() == [round(32767 / limit.item()), 0, 32767]


def test_tied_weights_get_tiles_of_their_own() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="second"),
    ]
    image = compile(onnx_model(nodes, {"x": ["n", 4]}, ["y"], {"w": samples(4, 4)}), calibration=samples(8, 4))
    assert [tile.layer for tile in image.tiles()] == ["first", "second"]


def test_a_model_that_needs_more_tiles_than_the_chip_has() -> None:
    with pytest.raises(
        ImageTooLargeError, match=r"needs 6 tiles of 8 x 4; the chip profile 'tiny' has 5.*fc 6"
    ) as caught:
        compile(
            linear(20, 8),
            calibration=samples(8, 20),
            profile=profile(name="tiny", tile_rows=8, tile_columns=4, tiles=5),
        )
    assert caught.value.metadata == {"needed": "6", "available": "5"}
