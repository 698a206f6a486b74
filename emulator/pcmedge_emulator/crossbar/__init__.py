"""A crossbar tile: differential pairs of devices, converters, the matrix-vector product; and which tiles are taken.

Arrays only; conductances in microsiemens, partial sums in DAC codes. The definitions are in docs/physics.md.
"""

from pcmedge_emulator.crossbar.converters import AdcCodes, adc, adc_limit, converter_spread, dac, dac_limits, saturated
from pcmedge_emulator.crossbar.faults import NO_FAULTS, FaultsByTile, TileFaults, tile_faults
from pcmedge_emulator.crossbar.idle import IdleCells, idle_cells
from pcmedge_emulator.crossbar.ir_drop import ir_drop
from pcmedge_emulator.crossbar.mvm import mvm, tile_codes
from pcmedge_emulator.crossbar.tile import (
    TARGET_FULL_SCALE,
    TileDevices,
    TileProgramming,
    column_noise_sigma,
    conductances,
    net,
    program_tile,
    target_conductances,
    total,
)
from pcmedge_emulator.tile_allocator import TileAllocator

__all__ = [
    "NO_FAULTS",
    "TARGET_FULL_SCALE",
    "AdcCodes",
    "FaultsByTile",
    "IdleCells",
    "TileAllocator",
    "TileDevices",
    "TileFaults",
    "TileProgramming",
    "adc",
    "adc_limit",
    "column_noise_sigma",
    "conductances",
    "converter_spread",
    "dac",
    "dac_limits",
    "idle_cells",
    "ir_drop",
    "mvm",
    "net",
    "program_tile",
    "saturated",
    "target_conductances",
    "tile_codes",
    "tile_faults",
    "total",
]
