"""What a driven chip tells of itself: counters, telemetry, the journal, conductances."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pcmedge.errors import NotFoundError, UnimplementedError

from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.operations import Cancelled, Progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    Diagnosis,
    Event,
    ModelTelemetry,
    Mutation,
    Telemetry,
    TileReadout,
    TileTelemetry,
)
from pcmedge_emulator.tile_allocator import with_residents

if TYPE_CHECKING:
    from pcmedge_emulator.driver.book import Book
    from pcmedge_emulator.driver.hardware import Description, Hardware


class Telling:
    """Needs the attributes of :class:`~pcmedge_emulator.driver.driven.DrivenChip`."""

    book: Book
    hardware: Hardware
    description: Description

    def telemetry(self, *, include_tiles: bool = False, include_self_tests: bool = False) -> Telemetry:
        """No history of self-tests is kept (capability ``self-test.history``), so none is ever included."""
        profile, activity = self.description.profile, self.book.activity
        return Telemetry(
            time_unix_s=time.time(),
            device_time_s=self.book.clock.now(),
            uptime_s=activity.uptime_s,
            state=activity.state() or "idle",
            models=tuple(self._told(model, include_tiles) for model in self.book.models.values()),
            tiles=profile.tiles,
            free_tiles=with_residents(profile.tiles, self.book.placed).free,
            requests_served=activity.requests_served,
            requests_failed=activity.requests_failed,
            memory_bytes=self.hardware.memory_bytes(),
        )

    def _told(self, model: Model, include_tiles: bool) -> ModelTelemetry:
        record, age_s = model.record, model.age_s(self.book.clock.now())
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

    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]:
        return self.book.journal.after(after, limit)

    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]:
        return self.book.journal.wait(after, timeout_s)

    def diagnose(
        self,
        name: str,
        *,
        false_alarm_rate: float = 0.0,
        tolerated_cells: float | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> Diagnosis:
        """What healthy devices of a technology read at an age is their maker's to know."""
        raise UnimplementedError("this chip does not diagnose its tiles", capability="diagnose")

    def read_tile(self, name: str, tile: int) -> TileReadout:
        if not self.description.reads_tiles:
            raise UnimplementedError("this chip does not read tiles back", capability="tile.read")
        model = self.book.model(name)
        if tile not in model.record.tiles:
            raise NotFoundError(
                f"Model '{name}' does not occupy tile {tile}; it occupies {list(model.record.tiles)}.", tile=tile
            )
        return self.hardware.read_tile(model.loaded, tile)
