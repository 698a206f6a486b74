"""Where the weights lie: tiles, and the rules a table of tiles keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pcmedge._contract.image_pb2 import ChipProfile, Manifest, WeightBlock
from pcmedge.image.format import MAX_TILES, TILE_ALIGNMENT, align, corrupt


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The part of one weight block that lies on one crossbar tile.

    ``tile`` counts 0, 1, ... in the image; the device picks the physical tile. The target array has the shape
    (groups, rows, columns), with rows and columns per group; ``first_row`` and ``first_column`` count within a group.
    ``offset`` (from the start of the segment "targets") and ``length`` are in bytes, ``adc_step`` is in DAC codes per
    ADC code. The writer fills in ``offset``, ``length`` and ``sha256``.
    """

    tile: int
    layer: str
    block: str
    first_group: int = 0
    groups: int = 1
    first_row: int = 0
    rows: int
    first_column: int = 0
    columns: int
    offset: int = 0
    length: int = 0
    sha256: bytes = b""
    adc_step: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(groups, rows, columns) of the target array."""
        return (self.groups, self.rows, self.columns)

    @property
    def cells(self) -> int:
        return self.groups * self.rows * self.columns


def target_layout(tiles: Iterable[Tile], itemsize: int) -> tuple[list[int], int]:
    """Offset of every tile's targets in the segment "targets" and the segment's length, in bytes.

    ``itemsize``: bytes of one target. Targets follow each other in table order, each begins at a multiple of 64, and
    nothing follows the last one.
    """
    offsets, end = [], 0
    for tile in tiles:
        start = align(end, TILE_ALIGNMENT)
        offsets.append(start)
        end = start + itemsize * tile.cells
    return offsets, end


def check_tiles(tiles: Sequence[Tile], manifest: Manifest, targets_length: int, itemsize: int) -> None:
    """Check a table of tiles against the layers, the profile and the segment "targets"; raises ImageCorruptError.

    ``targets_length`` of the segment and ``itemsize`` of one target in bytes.

    Names of checks: ``tile-count``, ``tile-number``, ``tile-layer``, ``tile-geometry``, ``tile-adc-step``,
    ``tile-offset``, ``tile-coverage``.
    """
    if len(tiles) > MAX_TILES:
        raise corrupt("tile-count", f"{len(tiles)} tiles, at most {MAX_TILES}")
    blocks = {(layer.name, block.name): block for layer in manifest.layers for block in layer.blocks}
    of_block: dict[tuple[str, str], list[Tile]] = {key: [] for key in blocks}
    for index, tile in enumerate(tiles):
        if tile.tile != index:
            raise corrupt("tile-number", f"row {index} of the table is tile {tile.tile}", tile=tile.tile)
        block = blocks.get((tile.layer, tile.block))
        if block is None:
            raise corrupt("tile-layer", f"tile {index}: no layer {tile.layer!r} with block {tile.block!r}", tile=index)
        _check_geometry(tile, block, manifest.profile)
        if not (math.isfinite(tile.adc_step) and tile.adc_step > 0):
            raise corrupt("tile-adc-step", f"tile {index}: adc_step {tile.adc_step} is not positive", tile=index)
        of_block[tile.layer, tile.block].append(tile)
    offsets, end = target_layout(tiles, itemsize)
    for tile, offset in zip(tiles, offsets, strict=True):
        if (tile.offset, tile.length) != (offset, itemsize * tile.cells):
            raise corrupt(
                "tile-offset",
                f"tile {tile.tile}: expected offset {offset} and length {itemsize * tile.cells}, "
                f"found {tile.offset} and {tile.length}",
                tile=tile.tile,
            )
    if end != targets_length:
        raise corrupt("tile-offset", f"tiles end at byte {end} of 'targets', which has {targets_length}")
    for key, block in blocks.items():
        _check_coverage(key, of_block[key], block)


def _check_geometry(tile: Tile, block: WeightBlock, profile: ChipProfile) -> None:
    inside = (
        tile.groups >= 1
        and tile.rows >= 1
        and tile.columns >= 1
        and 0 <= tile.first_group <= block.groups - tile.groups
        and 0 <= tile.first_row <= block.rows - tile.rows
        and 0 <= tile.first_column <= block.columns - tile.columns
    )
    if not inside:
        raise corrupt(
            "tile-geometry",
            f"tile {tile.tile} reaches outside its block of {block.groups} x {block.rows} x {block.columns}",
            tile=tile.tile,
        )
    if tile.groups * tile.rows > profile.tile_rows or tile.groups * tile.columns > profile.tile_columns:
        raise corrupt(
            "tile-geometry",
            f"tile {tile.tile} of {tile.groups} x ({tile.rows} x {tile.columns}) is larger than the profile's "
            f"{profile.tile_rows} x {profile.tile_columns}",
            tile=tile.tile,
        )
    if tile.groups > 1 and (tile.rows, tile.columns) != (block.rows, block.columns):
        raise corrupt("tile-geometry", f"tile {tile.tile} holds several groups, but not whole ones", tile=tile.tile)


def _check_coverage(key: tuple[str, str], tiles: list[Tile], block: WeightBlock) -> None:
    """Every weight lies on exactly one tile: whole groups, or per group a grid of row ranges x column ranges."""
    group = row = column = 0
    band = 0
    for tile in sorted(tiles, key=lambda t: (t.first_group, t.first_row, t.first_column)):
        fits = (tile.first_group, tile.first_row, tile.first_column) == (group, row, column)
        if not fits or (column > 0 and tile.rows != band):
            raise corrupt(
                "tile-coverage",
                f"layer {key[0]!r} block {key[1]!r}: tile {tile.tile} overlaps another or leaves a gap",
                tile=tile.tile,
            )
        band = tile.rows
        column += tile.columns
        if column == block.columns:
            column, row = 0, row + band
        if row == block.rows:
            row, group = 0, group + tile.groups
    if (group, row, column) != (block.groups, 0, 0):
        raise corrupt("tile-coverage", f"layer {key[0]!r} block {key[1]!r} has weights without a tile")
