"""Verbs that look and change nothing: capabilities, identity, telemetry and reading a tile back."""

from __future__ import annotations

import time

from pcmedge.errors import NotFoundError, UnimplementedError

from pcmedge_emulator.driver.hardware import Description
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.outcomes import Geometry, Identity, Method, ModelTelemetry, Telemetry, TileReadout, TileTelemetry

_METHOD_CAPABILITIES = {
    Method.GDC: "recalibrate.gdc",
    Method.GDC_PER_COLUMN: "recalibrate.gdc-per-column",
    Method.ADABS: "recalibrate.adabs",
}


def capabilities(known: Description) -> tuple[str, ...]:
    names = ["events", "events.watch", "images", "infer", "infer.stream", "lease", "operations", "program"]
    names += ["program.replace", "self-test", "telemetry", "telemetry.watch"]
    if known.methods:
        names += ["buffer", "rollback"]
        names += [_METHOD_CAPABILITIES[m] for m in known.methods if m in _METHOD_CAPABILITIES]
    if known.reads_tiles:
        names.append("tile.read")
    return tuple(sorted(names))


def identity(state: State) -> Identity:
    known, profile = state.description, state.description.profile
    geometry = Geometry(
        profile=profile.name,
        tile_rows=profile.tile_rows,
        tile_columns=profile.tile_columns,
        tiles=profile.tiles,
        free_tiles=state.free_tiles,
        dac_bits=profile.dac_bits,
        adc_bits=profile.adc_bits,
        g_max_microsiemens=profile.g_max_microsiemens,
    )
    return Identity(
        vendor=known.vendor,
        product=known.product,
        serial=known.serial,
        firmware_version=known.firmware_version,
        technology=known.technology,
        geometry=geometry,
        image_features=known.image_features,
        emulated=known.emulated,
    )


def telemetry(state: State, *, include_tiles: bool) -> Telemetry:
    profile, activity = state.description.profile, state.activity
    return Telemetry(
        time_unix_s=time.time(),
        device_time_s=state.clock.now(),
        uptime_s=activity.uptime_s,
        state=activity.state() or "idle",
        models=tuple(_told(state, model, include_tiles) for model in state.models.values()),
        tiles=profile.tiles,
        free_tiles=state.free_tiles,
        requests_served=activity.requests_served,
        requests_failed=activity.requests_failed,
        memory_bytes=state.hardware.memory_bytes(),
    )


def _told(state: State, model: Model, include_tiles: bool) -> ModelTelemetry:
    record, age_s = model.record, state.age_s(model)
    placed = zip(model.image.tiles(), record.tiles, strict=True) if include_tiles else ()
    inferences = model.inferences.samples
    return ModelTelemetry(
        name=record.name,
        age_s=age_s,
        program_generation=record.program_generation,
        statistics_generation=record.statistics_generation,
        inferences=inferences,
        last_recalibration_age_s=record.last_committed_age_s,
        median_drift_factor=record.median_factor,
        adc_saturation=0.0,
        last_agreement=record.last_agreement,
        energy_j=inferences * model.image.manifest.placement.energy_j,
        recalibrations=record.recalibrations,
        recalibrations_refused=record.refused,
        tiles=tuple(
            TileTelemetry(
                tile=physical,
                layer=tile.layer,
                drift_factor=record.median_factor,
                adc_saturation=0.0,
                mvms=0,
                age_s=age_s,
            )
            for tile, physical in placed
        ),
    )


def read_tile(state: State, name: str, tile: int) -> TileReadout:
    if not state.description.reads_tiles:
        raise UnimplementedError("this chip does not read tiles back", capability="tile.read")
    model = state.model(name)
    if tile not in model.record.tiles:
        raise NotFoundError(
            f"Model '{name}' does not occupy tile {tile}; it occupies {list(model.record.tiles)}.", tile=tile
        )
    return state.hardware.read_tile(model.loaded, tile)
