"""What a driven chip tells of itself: counters, telemetry, the journal, conductances."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pcmedge.errors import NotFoundError, UnimplementedError

from pcmedge_emulator.driver.placing import allocator
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

if TYPE_CHECKING:
    from pcmedge_emulator.driver.book import Book
    from pcmedge_emulator.driver.hardware import Description, Hardware

_SERVING_WINDOW_S = 2.0


class Telling:
    """Needs the attributes of :class:`~pcmedge_emulator.driver.driven.DrivenChip`."""

    book: Book
    hardware: Hardware
    description: Description

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._counting = threading.Lock()
        self._served = self._failed = 0
        self._last_request_s = float("-inf")

    def _count(self, *, served: int = 0, failed: int = 0, model: Model | None = None, samples: int = 0) -> None:
        with self._counting:
            self._served += served
            self._failed += failed
            if served:
                self._last_request_s = time.monotonic()
            if model is not None:
                model.counts["inferences"] += samples

    def telemetry(self, *, include_tiles: bool = False, include_self_tests: bool = False) -> Telemetry:
        """No history of self-tests is kept (capability ``self-test.history``), so none is ever included."""
        profile = self.description.profile
        recent = time.monotonic() - self._last_request_s < _SERVING_WINDOW_S
        return Telemetry(
            time_unix_s=time.time(),
            device_time_s=self.book.clock.now(),
            uptime_s=time.monotonic() - self._started_s,
            state=self.book.busy_with or ("serving" if recent else "idle"),
            models=tuple(self._told(model, include_tiles) for model in self.book.models.values()),
            tiles=profile.tiles,
            free_tiles=allocator(self.description, self.book.models).free,
            requests_served=self._served,
            requests_failed=self._failed,
            memory_bytes=self.hardware.memory_bytes(),
        )

    def _told(self, model: Model, include_tiles: bool) -> ModelTelemetry:
        record, age_s = model.record, model.age_s(self.book.clock.now())
        placed = zip(model.image.tiles(), record.tiles, strict=True) if include_tiles else ()
        inferences = model.counts["inferences"]
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
