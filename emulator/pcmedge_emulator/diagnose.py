"""The verb that tests a model's tiles and retires those that should not be programmed again."""

from __future__ import annotations

import math
from dataclasses import replace

from pcmedge.errors import CancelledError, InputTypeError, InputValueError

from pcmedge_emulator.calibration.gdc import DEFAULT_READS, read_cells
from pcmedge_emulator.diagnosis import SCATTERED_TAIL, Limits, Verdict, healthy_cells, judge_tile
from pcmedge_emulator.operations import Cancelled
from pcmedge_emulator.outcomes import Diagnosis, Event, Mutation, TileDiagnosis
from pcmedge_emulator.resident import ProgrammedTile, Resident
from pcmedge_emulator.state import State

DEFAULT_FALSE_ALARM_RATE = 1e-3
DEFAULT_TOLERATED_CELLS = 5e-4
"""Share of faulty cells that retires no tile: large networks lose accuracy from 0.05 % on (Rasch et al. 2023)."""

_FAMILIES = 5
"""Tests that share the false alarm rate: cells, their count, offsets, and rows with columns, which get two shares."""


def diagnose(
    state: State,
    name: str,
    false_alarm_rate: float,
    tolerated_cells: float | None,
    cancelled: Cancelled,
    mutation: Mutation,
) -> Diagnosis:
    """See :meth:`pcmedge_emulator.chip.Chip.diagnose`."""
    rate = _share("false_alarm_rate", false_alarm_rate) or DEFAULT_FALSE_ALARM_RATE
    if rate >= 1:
        raise InputValueError(f"A false alarm rate is above 0 and below 1, got {false_alarm_rate!r}.")
    tolerated = DEFAULT_TOLERATED_CELLS if tolerated_cells is None else _share("tolerated_cells", tolerated_cells)
    with state.busy("", cancelled):
        resident = state.resident(name)
        state.check(mutation, resident)
        outcome = _outcome(state, resident, rate, tolerated, cancelled)
        device = replace(state.device, retired=outcome.retired_tiles)
        state.commit(events=_events(state, name, outcome), device=device, remember=(mutation, "diagnose", outcome))
        return outcome


def _share(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"{name} is a number, got {value!r}.", argument=name)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise InputValueError(f"{name} is a number from 0 to 1, got {value!r}.", argument=name)
    return float(value)


def _outcome(state: State, resident: Resident, rate: float, tolerated: float, cancelled: Cancelled) -> Diagnosis:
    programmed, circuits, profile = resident.programmed, state.circuits, resident.programmed.profile
    age_s, number = state.age_s(resident), state.take_reads(1)
    # A model may have no tiles at all, and then nothing to share the rate between.
    tiles = max(1, len(programmed.tiles))
    cells = max(1, sum(tile.devices.g_plus.size for tile in programmed.tiles))
    share = rate / _FAMILIES
    cell_tail = share / (2 * cells)
    healthy = healthy_cells(
        circuits.technology.at_g_max(profile.g_max_microsiemens),
        age_s,
        (cell_tail, SCATTERED_TAIL),
        reads=DEFAULT_READS,
        noisy=circuits.noisy,
    )
    diagnosed = []
    for tile in programmed.tiles:
        if cancelled():
            raise CancelledError("The diagnosis was cancelled; no tile was retired.")
        rng = state.streams.diagnosis(number, tile.physical)
        gain, offset = tile.converters(circuits)
        reading = read_cells(
            *tile.conductances(age_s, circuits, rng),
            profile.g_max_microsiemens,
            circuits.technology,
            dac_levels=tile.dac_levels,
            adc_bits=profile.adc_bits,
            rng=rng if circuits.noisy else None,
            gain=gain,
            offset=offset,
            ideal_converters=circuits.converters == "ideal",
        )
        limits = Limits(
            cells=healthy,
            cell_tail=cell_tail,
            lines=2 * share / tiles,
            offsets=share / tiles,
            scattered=share / tiles,
            quantum=reading.step / tile.dac_levels,
            gain_spread=profile.adc_gain_spread,
            offset_spread=profile.adc_offset_spread_codes,
        )
        verdict = judge_tile(
            reading.codes * (reading.step / tile.dac_levels),
            reading.zeros,
            programmed.image.target(tile.tile),
            limits,
        )
        diagnosed.append(_tile(tile, verdict, tolerated))
    looked_at = {tile.tile for tile in diagnosed}
    found = {tile.tile for tile in diagnosed if tile.retired}
    return Diagnosis(
        tiles=tuple(diagnosed),
        retired_tiles=tuple(sorted(set(state.device.retired) - looked_at | found)),
        false_alarm_rate=rate,
        age_s=age_s,
        program_generation=resident.record.program_generation,
    )


def _tile(tile: ProgrammedTile, verdict: Verdict, tolerated: float) -> TileDiagnosis:
    cells = tile.devices.g_plus.size
    return TileDiagnosis(
        tile=tile.physical,
        layer=tile.tile.layer,
        cells=cells,
        faulty_cells=verdict.faulty_cells,
        retired=verdict.unfit(cells, tolerated),
        findings=verdict.findings,
    )


def _events(state: State, name: str, outcome: Diagnosis) -> list[Event]:
    """One of the diagnosis, and one per tile with a finding."""
    bad = [tile for tile in outcome.tiles if tile.findings]
    retired = sum(tile.retired for tile in bad)
    message = f"Diagnosed {len(outcome.tiles)} tiles of '{name}': {len(bad)} with faults, {retired} of them retired."
    events = [state.event("diagnosed", message, name, {"faulty": str(len(bad)), "retired": str(retired)})]
    for tile in bad:
        worst = tile.findings[0]
        place = "".join(
            f", {line} {at}" for line, at in (("row", worst.row), ("column", worst.column)) if at is not None
        )
        message = (
            f"Tile {tile.tile} (layer '{tile.layer}'): {worst.kind}{place}, measured {worst.measured:.4g} instead of "
            f"{worst.expected:.4g} ± {worst.bound:.4g}; {tile.faulty_cells} of {tile.cells} cells are faulty."
        )
        details = {
            "tile": str(tile.tile),
            "layer": tile.layer,
            "kinds": ",".join(sorted({finding.kind for finding in tile.findings})),
            "faulty_cells": str(tile.faulty_cells),
            "retired": str(tile.retired).lower(),
        }
        events.append(state.event("fault-detected", message, name, details))
    return events
