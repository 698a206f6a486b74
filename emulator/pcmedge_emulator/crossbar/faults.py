"""The faults of one physical tile, and what they do to its conductances and converters.

Faults belong to the silicon: they stay where they are whatever is programmed, and the conductances that programming
left in a device stay behind them, so that clearing a fault shows them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.crossbar.converters import converter_spread
from pcmedge_emulator.injected import Fault, FaultKind
from pcmedge_emulator.physics.faults import StuckAt, failed_devices, stuck_conductances

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


STUCK: dict[FaultKind, StuckAt] = {
    FaultKind.STUCK_AT_RESET: "reset",
    FaultKind.STUCK_AT_G_MAX: "g-max",
    FaultKind.STUCK_AT_RANDOM: "random",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TileFaults:
    """What the faults of one physical tile come to.

    Stuck device i is that of G- (``minus[i]``) or G+ of the pair at ``rows[i]``, ``columns[i]`` and has the relative
    conductance ``g[i]``; the last of several counts. ``gain`` and ``offset`` [tile columns] change the ADCs' (None: as
    they were).
    """

    rows: Index
    columns: Index
    minus: npt.NDArray[np.bool_]
    g: Array
    dead_rows: frozenset[int] = frozenset()
    dead_columns: frozenset[int] = frozenset()
    gain: Array | None = None
    offset: Array | None = None
    lost: bool = False

    def hold(self, g_plus: Array, g_minus: Array, g_max_microsiemens: float) -> tuple[Array, Array]:
        """(G+, G-) as they are with the faults; float32 [groups, rows, columns] in microsiemens, in and out.

        Group g lies at rows g * rows and columns g * columns of the tile. Stuck devices outside of the block are not
        connected.
        """
        if self is NO_FAULTS:
            return g_plus, g_minus
        if self.lost:
            return np.zeros_like(g_plus), np.zeros_like(g_minus)
        held = g_plus.copy(), g_minus.copy()
        groups, rows, columns = g_plus.shape
        at = self._in_block(groups, rows, columns)
        for minus, g in enumerate(held):
            mine = at[self.minus[at] == bool(minus)]
            row, column = self.rows[mine], self.columns[mine]
            g[row // rows, row % rows, column % columns] = self.g[mine] * np.float32(g_max_microsiemens)
            for dead in self.dead_rows:
                if dead < groups * rows:
                    g[dead // rows, dead % rows, :] = 0
            for dead in self.dead_columns:
                if dead < groups * columns:
                    g[dead // columns, :, dead % columns] = 0
        return held

    def stuck(self, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which devices of a block [groups, rows, columns] programming cannot move: of G+, and of G-."""
        groups, rows, columns = shape
        found = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        at = self._in_block(groups, rows, columns)
        for minus, mask in enumerate(found):
            mine = at[self.minus[at] == bool(minus)]
            mask[self.rows[mine] // rows, self.rows[mine] % rows, self.columns[mine] % columns] = True
            lines = np.arange(groups * rows).reshape(groups, rows, 1), np.arange(groups * columns)
            mask |= np.isin(lines[0], list(self.dead_rows))
            mask |= np.isin(lines[1].reshape(groups, 1, columns), list(self.dead_columns))
            mask |= self.lost
        return found

    def _in_block(self, groups: int, rows: int, columns: int) -> Index:
        group = self.rows // rows
        return np.flatnonzero((group < groups) & (group == self.columns // columns))

    def converters(self, gain: Array | None, offset: Array | None, columns: int) -> tuple[Array | None, Array | None]:
        """(gain, offset) of the first ``columns`` ADCs, with the faults; both None for perfect ones."""
        if self.lost:
            return np.zeros(columns, np.float32), np.zeros(columns, np.float32)
        if self.gain is not None:
            changed = self.gain[:columns]
            gain = changed if gain is None else gain * changed
        if self.offset is not None:
            moved = self.offset[:columns]
            offset = moved if offset is None else offset + moved
        if gain is None and offset is None:
            return None, None
        return (
            np.ones(columns, np.float32) if gain is None else np.maximum(gain, np.float32(0)),
            np.zeros(columns, np.float32) if offset is None else offset,
        )

    def dead(self, columns: int) -> npt.NDArray[np.bool_]:
        """Which of the first ``columns`` columns carry no current at all."""
        found = np.full(columns, self.lost)
        found[[column for column in self.dead_columns if column < columns]] = True
        return found


NO_FAULTS = TileFaults(
    rows=np.zeros(0, np.int64), columns=np.zeros(0, np.int64), minus=np.zeros(0, np.bool_), g=np.zeros(0, np.float32)
)


def tile_faults(
    faults: Iterable[Fault], rows: int, columns: int, stream: Callable[[int], np.random.Generator]
) -> TileFaults:
    """What ``faults``, all of one tile of ``rows`` x ``columns`` pairs, come to. ``stream``: by a fault's number."""
    found = NO_FAULTS
    for fault in faults:
        rng = stream(fault.number)
        if fault.kind in STUCK:
            found = _with_stuck(found, fault, rows, columns, rng)
        elif fault.kind is FaultKind.DEAD_ROW:
            found = replace(found, dead_rows=found.dead_rows | {fault.row})
        elif fault.kind is FaultKind.DEAD_COLUMN:
            found = replace(found, dead_columns=found.dead_columns | {fault.column})
        elif fault.kind is FaultKind.TILE_LOST:
            found = replace(found, lost=True)
        else:
            found = _with_converter(found, fault, columns, rng)
    return found


def _with_stuck(found: TileFaults, fault: Fault, rows: int, columns: int, rng: np.random.Generator) -> TileFaults:
    cells = rows * columns
    if fault.amount:
        devices = failed_devices(fault.amount, 2 * cells, rng)
    else:
        devices = np.array([fault.row * columns + fault.column + cells * fault.minus], np.int64)
    pair = devices % cells
    return replace(
        found,
        rows=np.concatenate([found.rows, pair // columns]),
        columns=np.concatenate([found.columns, pair % columns]),
        minus=np.concatenate([found.minus, devices >= cells]),
        g=np.concatenate([found.g, stuck_conductances(STUCK[fault.kind], len(devices), rng)]),
    )


def _with_converter(found: TileFaults, fault: Fault, columns: int, rng: np.random.Generator) -> TileFaults:
    gain = np.ones(columns, np.float32)
    offset = np.zeros(columns, np.float32)
    of_gain = fault.kind is FaultKind.ADC_GAIN
    if fault.spread:
        gain, offset = converter_spread(
            fault.amount if of_gain else 0.0, 0.0 if of_gain else fault.amount, columns, rng
        )
    elif of_gain:
        gain[fault.column] += np.float32(fault.amount)
    else:
        offset[fault.column] += np.float32(fault.amount)
    if of_gain:
        return replace(found, gain=gain if found.gain is None else found.gain * gain)
    return replace(found, offset=offset if found.offset is None else found.offset + offset)


class FaultsByTile(Mapping[int, TileFaults]):
    """What the faults of a chip come to, by physical tile; reckoned when a tile is first asked for.

    ``before``: tiles whose faults are the same as there are taken from it.
    """

    def __init__(
        self,
        faults: Iterable[Fault],
        rows: int,
        columns: int,
        stream: Callable[[int], np.random.Generator],
        before: FaultsByTile | None = None,
    ) -> None:
        by_tile: dict[int, list[Fault]] = {}
        for fault in faults:
            by_tile.setdefault(fault.tile, []).append(fault)
        self._faults = {tile: tuple(found) for tile, found in by_tile.items()}
        self._shape = rows, columns
        self._stream = stream
        self._known: dict[int, TileFaults] = {}
        if before is not None and before._shape == self._shape:
            known = dict(before._known)  # others may ask for more of its tiles meanwhile
            self._known = {
                tile: found for tile, found in known.items() if before._faults[tile] == self._faults.get(tile)
            }

    def __getitem__(self, tile: int) -> TileFaults:
        found = self._known.get(tile)
        if found is None:
            found = self._known[tile] = tile_faults(self._faults[tile], *self._shape, self._stream)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._faults)

    def __len__(self) -> int:
        return len(self._faults)
