"""What an engine computes with beside the program: the conductances of a moment, and the parameters in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError, InputValueError

from pcmedge_emulator.engine.program import ChipProgram

if TYPE_CHECKING:
    from pcmedge.image import Tile

FloatArray = npt.NDArray[np.float32]
Converters = Literal["profile", "ideal"]
ReadNoise = Literal["off", "additive", "input-dependent"]
Precision = Literal["exact", "turbo"]
"""Arithmetic of the products: float32, or int8 where nothing has to enter between product and ADC."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The chip's analog state at one moment; an engine is made for one snapshot.

    All mappings are keyed by the logical tile number; per-column arrays are [groups * columns], group by group.

    * ``conductances``: net normalised conductance (G+ - G-)/g_max, float32 [groups, rows, columns].
    * ``column_sigma``: standard deviation of the additive short-term read noise, unit "code" (before the ADC).
    * ``pair_sums``: (G+ + G-)/g_max, same shape as the conductances; with ``noise_coefficient`` w this gives the
      input-dependent noise sigma = w * sqrt(sum_r (G+ + G-)[r] code[r]^2) (aihwkit's PCM_READ, papers: w = 0.0175).
    * ``gain`` (1) and ``offset`` (unit: ADC codes) of each column's ADC.
    * ``converters``: "ideal" leaves out every rounding and clipping. ``read_noise`` selects the noise of each MVM.
    """

    conductances: Mapping[int, FloatArray]
    column_sigma: Mapping[int, FloatArray] | None = None
    pair_sums: Mapping[int, FloatArray] | None = None
    noise_coefficient: float = 0.0175
    gain: Mapping[int, FloatArray] | None = None
    offset: Mapping[int, FloatArray] | None = None
    converters: Converters = "profile"
    read_noise: ReadNoise = "off"

    def check(self, program: ChipProgram) -> None:
        """Raise :class:`InputShapeError` or :class:`InputValueError` unless this snapshot fits ``program``."""
        if self.converters not in ("profile", "ideal"):
            raise InputValueError(f"expected converters 'profile' or 'ideal', found {self.converters!r}")
        if self.read_noise not in ("off", "additive", "input-dependent"):
            raise InputValueError(
                f"expected read_noise 'off', 'additive' or 'input-dependent', found {self.read_noise!r}"
            )
        if self.read_noise == "additive" and self.column_sigma is None:
            raise InputValueError("additive read noise needs the snapshot's column_sigma")
        if self.read_noise == "input-dependent" and self.pair_sums is None:
            raise InputValueError("input-dependent read noise needs the snapshot's pair_sums")
        for layer in program.layers.values():
            for block in layer.blocks.values():
                for tile in block.tiles:
                    cells = (tile.groups, tile.rows, tile.columns)
                    columns = (tile.groups * tile.columns,)
                    _check_entry(self.conductances, "conductances", tile.tile, cells)
                    _check_entry(self.pair_sums, "pair_sums", tile.tile, cells)
                    for name in ("column_sigma", "gain", "offset"):
                        _check_entry(getattr(self, name), name, tile.tile, columns)


def _check_entry(table: Mapping[int, FloatArray] | None, name: str, tile: int, shape: tuple[int, ...]) -> None:
    if table is None:
        return
    if tile not in table:
        raise InputValueError(f"the snapshot's {name} lack tile {tile} of the program", tile=tile)
    if np.shape(table[tile]) != shape:
        raise InputShapeError(
            f"the snapshot's {name} of tile {tile}: expected shape {shape}, found {np.shape(table[tile])}", tile=tile
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameters:
    """What a recalibration changes; one consistent set per request, never mixed.

    ``drift_factors``: per logical tile a scalar or an array [groups * columns] that multiplies the tile's partial
    results; a missing tile has 1. ``statistics``: BatchNormalization node name -> (mean, variance), float32 [C]; a
    missing node has the image's. Treat the mappings as immutable: engines remember what they computed from them.
    """

    drift_factors: Mapping[int, float | FloatArray] = field(default_factory=dict)
    statistics: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    def drift_factor(self, tile: Tile) -> npt.NDArray[np.float64]:
        """The factor of one tile, a scalar or [groups * columns]; raises :class:`InputShapeError` for another shape."""
        factor = np.asarray(self.drift_factors.get(tile.tile, 1.0), np.float64)
        if factor.ndim and factor.shape != (tile.groups * tile.columns,):
            raise InputShapeError(
                f"drift factors of tile {tile.tile}: expected one number or {tile.groups * tile.columns}, found shape "
                f"{factor.shape}",
                tile=tile.tile,
            )
        return factor
