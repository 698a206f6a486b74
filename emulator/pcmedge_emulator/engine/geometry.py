"""How a block's tiles make up its matrix: bands of rows, and tables of tiles joined to dense arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.engine.program import Block

if TYPE_CHECKING:
    from pcmedge.image import Tile

Float64Array = npt.NDArray[np.float64]
Table = Mapping[int, Any]


@dataclass(frozen=True)
class Band:
    """The tiles of a block that share a row range: one analog MVM, its columns converted tile by tile."""

    first_row: int
    rows: int
    tiles: tuple[Tile, ...]


def bands(block: Block) -> tuple[Band, ...]:
    """The row tiles of a block, from the first row on; their partial results are summed digitally."""
    found: dict[tuple[int, int], list[Tile]] = {}
    for tile in block.tiles:
        found.setdefault((tile.first_row, tile.rows), []).append(tile)
    return tuple(Band(first, rows, tuple(tiles)) for (first, rows), tiles in sorted(found.items()))


def driven(block: Block, band: Band) -> tuple[int, int]:
    """First row of the band that an input drives, and one behind its last; equal if it holds nothing but the bias."""
    return band.first_row, min(band.first_row + band.rows, block.input_rows)


def has_bias_row(block: Block, band: Band) -> bool:
    return band.first_row + band.rows > block.input_rows


def dense(block: Block, band: Band, table: Table) -> Float64Array:
    """The band's matrix from per-tile arrays: float64 [block.groups, band.rows, block.columns]."""
    matrix = np.zeros((block.groups, band.rows, block.columns))
    for tile in band.tiles:
        matrix[_groups(tile), :, _columns(tile)] = table[tile.tile]
    return matrix


def per_column(block: Block, band: Band, table: Table) -> Float64Array:
    """Per-tile scalars or arrays [groups * columns] for every column: float64 [block.groups * block.columns]."""
    values = np.zeros((block.groups, block.columns))
    for tile in band.tiles:
        entry = np.asarray(table[tile.tile], np.float64)
        cell = entry.reshape(tile.groups, tile.columns) if entry.size > 1 else entry.reshape(())
        values[_groups(tile), _columns(tile)] = cell
    return values.reshape(-1)


def of_tile(block: Block, tile: Tile, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns of one tile from per-column values [..., block.groups * block.columns] -> [..., groups * columns]."""
    shaped = values.reshape(*values.shape[:-1], block.groups, block.columns)
    part = shaped[..., _groups(tile), _columns(tile)]
    return np.ascontiguousarray(part).reshape(*values.shape[:-1], tile.groups * tile.columns)


def _groups(tile: Tile) -> slice:
    return slice(tile.first_group, tile.first_group + tile.groups)


def _columns(tile: Tile) -> slice:
    return slice(tile.first_column, tile.first_column + tile.columns)
