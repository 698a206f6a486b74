"""Verbs that look and change nothing: identity, telemetry and reading a tile back."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import NotFoundError

from pcmedge_emulator.outcomes import Geometry, Health, Identity, ModelTelemetry, Telemetry, TileReadout, TileTelemetry
from pcmedge_emulator.programming import IMAGE_FEATURES
from pcmedge_emulator.resident import ProgrammedTile, Resident
from pcmedge_emulator.state import State


def identity(state: State) -> Identity:
    """What the device says of itself; the geometry is empty until a profile is adopted."""
    profile, allocator = state.profile, state.allocator
    geometry = Geometry()
    if profile is not None and allocator is not None:
        geometry = Geometry(
            profile=profile.name,
            tile_rows=profile.tile_rows,
            tile_columns=profile.tile_columns,
            tiles=profile.tiles,
            free_tiles=allocator.free,
            dac_bits=profile.dac_bits,
            adc_bits=profile.adc_bits,
            g_max_microsiemens=profile.g_max_microsiemens,
        )
    return Identity(
        vendor="pcmedge",
        product="pcmedge emulator",
        serial=state.device.serial,
        firmware_version=version("pcmedge"),
        technology=state.device.technology,
        geometry=geometry,
        image_features=IMAGE_FEATURES,
    )


def telemetry(state: State, *, include_tiles: bool, include_self_tests: bool) -> Telemetry:
    """Figures of this moment. Counters start with the emulator, recalibrations count since programming."""
    activity, profile, allocator = state.activity, state.profile, state.allocator
    reasons = _degraded_reasons(state)
    return Telemetry(
        time_unix_s=state.clock.wall_unix_s(),
        device_time_s=state.clock.now(),
        uptime_s=activity.uptime_s,
        state=activity.state() or ("degraded" if reasons else "idle"),
        models=tuple(_model(state, r, include_tiles, include_self_tests) for r in state.residents.values()),
        tiles=profile.tiles if profile else 0,
        free_tiles=allocator.free if allocator else 0,
        requests_served=activity.requests_served,
        requests_failed=activity.requests_failed,
        memory_bytes=_memory_bytes(),
        degraded_reasons=reasons,
        health=_health(state, degraded=bool(reasons)),
        store_bytes=state.store.size_bytes(),
        retired_tiles=len(state.device.retired),
    )


def _health(state: State, *, degraded: bool) -> Health:
    if not any(r.record.active and name not in state.out_of_service for name, r in state.residents.items()):
        return Health.ALIVE
    if degraded:
        return Health.DEGRADED
    return Health.RECALIBRATING if state.activity.busy == "recalibrating" else Health.READY


def _degraded_reasons(state: State) -> tuple[str, ...]:
    """One sentence per active model whose last agreement is below what its policy asks for, per one on tiles that a
    diagnosis found unfit, and for a store that could not be written."""
    waiting = f" ({state.journal.waiting} events of the journal wait to be stored)" if state.journal.waiting else ""
    store = (f"the last change could not be stored: {state.store_problem}{waiting}",) if state.store_problem else ()
    records = [resident.record for resident in state.residents.values() if resident.record.active]
    unfit = [(record, sorted(set(record.physical) & set(state.device.retired))) for record in records]
    low = (
        f"self-test agreement of '{record.name}' is {record.last_agreement:.4g}, below {record.agreement_floor:.4g}"
        for record in records
        if 0.0 <= record.last_agreement < record.agreement_floor
    )
    broken = (
        f"a diagnosis found faults on {len(tiles)} of the tiles of '{record.name}' ({', '.join(map(str, tiles[:8]))}"
        f"{', ...' if len(tiles) > 8 else ''}); program it again to move it to other tiles"
        for record, tiles in unfit
        if tiles
    )
    return (*store, *low, *broken)


def _memory_bytes() -> int:
    """Resident memory of this process; its peak where the system tells no more."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _model(state: State, resident: Resident, include_tiles: bool, include_self_tests: bool) -> ModelTelemetry:
    record, counters = resident.record, resident.counters
    placement = resident.programmed.image.manifest.placement
    age_s = state.age_s(resident)
    tiles: tuple[TileTelemetry, ...] = ()
    if include_tiles:
        per_tile = {node.layer: node.mvms / node.tiles for node in placement.nodes if node.analog and node.tiles}
        tiles = tuple(
            _diagnosed(state, _tile(resident, tile, per_tile.get(tile.tile.layer, 0.0), age_s))
            for tile in resident.programmed.tiles
        )
    return ModelTelemetry(
        name=record.name,
        age_s=age_s,
        program_generation=record.program_generation,
        statistics_generation=record.statistics_generation,
        inferences=counters.inferences,
        last_recalibration_age_s=record.last_committed_age_s,
        median_drift_factor=record.median_factor,
        adc_saturation=counters.saturation_share(),
        last_agreement=record.last_agreement,
        energy_j=counters.inferences * placement.energy_j,
        recalibrations=record.recalibrations,
        recalibrations_refused=record.refused,
        tiles=tiles,
        self_tests=resident.history.records() if include_self_tests else (),
        agreement_floor=record.agreement_floor,
    )


def _diagnosed(state: State, tile: TileTelemetry) -> TileTelemetry:
    """With what the last diagnosis of the physical tile said."""
    found = state.findings.of(tile.tile)
    return replace(
        tile,
        retired=tile.tile in state.device.retired,
        findings=() if found is None else found.findings,
        faulty_cells=0 if found is None else found.faulty_cells,
    )


def _tile(resident: Resident, tile: ProgrammedTile, mvms: float, age_s: float) -> TileTelemetry:
    factor = resident.parameters.drift_factors.get(tile.tile.tile, 1.0)
    return TileTelemetry(
        tile=tile.physical,
        layer=tile.tile.layer,
        drift_factor=float(np.mean(factor)),
        adc_saturation=resident.counters.saturation_share(tile.tile.tile),
        mvms=round(mvms * resident.counters.inferences),
        age_s=age_s,
    )


def read_tile(state: State, name: str, physical: int) -> TileReadout:
    """Conductances of a physical tile now, with a realisation of read noise of its own."""
    with state.changing:
        resident = state.resident(name)
        tile = next((tile for tile in resident.programmed.tiles if tile.physical == physical), None)
        if tile is None:
            raise NotFoundError(
                f"Model '{name}' does not occupy tile {physical}; it occupies {sorted(resident.record.physical)}.",
                model=name,
                tile=physical,
            )
        number = state.device.reads
        state.take_reads(1)
        age_s = state.age_s(resident)
    g_plus, g_minus = tile.conductances(age_s, state.circuits, state.streams.diagnosis(number, physical))
    return TileReadout(
        tile=physical,
        layer=tile.tile.layer,
        rows=tile.tile.groups * tile.tile.rows,
        columns=tile.tile.groups * tile.tile.columns,
        g_plus=_on_the_tile(g_plus),
        g_minus=_on_the_tile(g_minus),
        age_s=age_s,
    )


def _on_the_tile(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """[groups, rows, columns] as it lies on the tile: a block diagonal [groups * rows, groups * columns]."""
    groups, rows, columns = blocks.shape
    tile = np.zeros((groups, rows, groups, columns), dtype=np.float32)
    tile[np.arange(groups), :, np.arange(groups), :] = blocks
    return tile.reshape(groups * rows, groups * columns)
