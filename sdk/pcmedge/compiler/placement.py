"""Weight blocks → tiles: which rows, columns and groups of a block each crossbar tile holds.

The rules, for tiles of R rows x C columns and a block of `groups` matrices of rows x columns each:

* whole groups that fit are packed block-diagonally, ``min(R // rows, C // columns)`` consecutive groups per tile;
* otherwise every group has tiles of its own: row tiles x column tiles;
* row tiles end on channel borders (``R // window`` channels each, a channel being `window` rows), unless one
  channel alone has more rows than a tile: then each channel is cut into pieces of at most R rows;
* column tiles hold C columns, the last one the rest;
* a bias row is the last row of its group: on the last row tile, or on one of its own if that is full (then so are
  all others, since row tiles are cut to equal size from the first row on).

Tiles are listed group by group, then row tile by row tile, then column tile by column tile.
"""

from __future__ import annotations

from typing import NamedTuple

from .layers import Block


class Region(NamedTuple):
    """What one tile holds of a block; rows and columns count within each group."""

    first_group: int
    groups: int
    first_row: int
    rows: int
    first_column: int
    columns: int

    @property
    def used_cells(self) -> int:
        """Cells that hold a weight (a device pair each)."""
        return self.groups * self.rows * self.columns

    @property
    def active_cells(self) -> int:
        """Word lines in use x bit lines in use: what is driven and converted, also between the packed groups."""
        return (self.groups * self.rows) * (self.groups * self.columns)


def place(block: Block, tile_rows: int, tile_columns: int) -> list[Region]:
    """The tiles of one block; together they hold every weight exactly once."""
    groups, rows, columns = block.weights.shape
    if rows <= tile_rows and columns <= tile_columns:
        packed = min(tile_rows // rows, tile_columns // columns)
        return [Region(first, min(packed, groups - first), 0, rows, 0, columns) for first in range(0, groups, packed)]
    row_pieces = _row_pieces(block.input_rows, block.window, tile_rows)
    if block.bias_code:
        row_pieces = _with_bias_row(row_pieces, tile_rows)
    column_pieces = _pieces(0, columns, tile_columns)
    return [
        Region(group, 1, first_row, height, first_column, width)
        for group in range(groups)
        for first_row, height in row_pieces
        for first_column, width in column_pieces
    ]


def _row_pieces(rows: int, window: int, tile_rows: int) -> list[tuple[int, int]]:
    if window <= tile_rows:
        return _pieces(0, rows, tile_rows // window * window)
    return [piece for first in range(0, rows, window) for piece in _pieces(first, first + window, tile_rows)]


def _with_bias_row(pieces: list[tuple[int, int]], tile_rows: int) -> list[tuple[int, int]]:
    first, height = pieces[-1]
    if height < tile_rows:
        return [*pieces[:-1], (first, height + 1)]
    return [*pieces, (first + height, 1)]


def _pieces(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(size, stop - first)) for first in range(start, stop, size)]
