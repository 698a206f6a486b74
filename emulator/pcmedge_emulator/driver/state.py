"""The one owner of everything about a chip made of hardware that changes: its models, over restarts.

The verbs (``images.py``, ``inference.py``, ``recalibration.py``, ``buffers.py``, ``observe.py``) are functions on it;
:class:`pcmedge_emulator.driver.driven.DrivenChip` is their face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pcmedge.errors import ModelNotFoundError, NotProgrammedError

from pcmedge_emulator import codec
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.driver import residents
from pcmedge_emulator.driver.hardware import Hardware
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.ledger import Answer, Ledger, check_generations, nothing
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction
from pcmedge_emulator.tile_allocator import with_residents


@dataclass(frozen=True, kw_only=True)
class Counters:
    """The highest generations ever given out, and the starts of the device."""

    program_generation: int = 0
    statistics_generation: int = 0
    boots: int = 0


class State(Ledger):
    """Memory follows the store: :meth:`commit` writes, then :attr:`models` is replaced."""

    def __init__(self, hardware: Hardware, directory: Path | None) -> None:
        self.hardware = hardware
        self.description = hardware.describe()
        self.out_of_service: frozenset[str] = frozenset()
        store = Store(directory)
        try:
            super().__init__(store, Clock.real(), keep_clock_mode=True)
            self.models: Mapping[str, Model] = {model.record.name: model for model in self._stored()}
            counters = store.get("device", "counters")
            before = Counters() if counters is None else codec.decode(counters, Counters)
            self.counters = replace(before, boots=before.boots + 1)
            details = {"boots": str(self.counters.boots)}
            self.commit(events=[self.event("started", "The device started.", details=details)])
        except BaseException:
            store.close()
            raise

    def _stored(self) -> Iterator[Model]:
        for record, image, arrays in residents.read(self.store):
            yield Model(
                record=record,
                image=image,
                loaded=self.hardware.load(image, record.tiles),
                compensation=arrays.get("compensation", {}),
                previous=arrays.get("previous"),
                buffer=arrays.get("buffer"),
            )

    # ------------------------------------------------------------------------------------------------- what there is

    @property
    def placed(self) -> Mapping[str, tuple[int, ...]]:
        """Physical tiles of every model."""
        return {name: model.record.tiles for name, model in self.models.items()}

    @property
    def free_tiles(self) -> int:
        return with_residents(self.description.profile.tiles, self.placed).free

    def model(self, name: str) -> Model:
        """ModelNotFoundError, or NotProgrammedError on an empty device."""
        found = self.models.get(name)
        if found is not None:
            return found
        if not self.models:
            raise NotProgrammedError(f"The device holds no image, so no model '{name}'. Program one first.", model=name)
        known = ", ".join(sorted(self.models))
        raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {known}.", model=name)

    def age_s(self, model: Model) -> float:
        """Seconds since programming on the device's clock."""
        return max(0.0, self.clock.now() - model.record.programmed_at_s)

    # -------------------------------------------------------------------------------------------------------- changing

    def check(self, mutation: Mutation, model: Model | None) -> None:
        """GenerationMismatchError unless the model's (without one: the device's) generations are as expected."""
        check_generations(mutation, self.counters if model is None else model.record)

    def commit(
        self,
        write: Callable[[Transaction], None] = nothing,
        *,
        events: Sequence[Event] = (),
        counters: Counters | None = None,
        put: Sequence[Model] = (),
        gone: Sequence[str] = (),
        remember: Answer | None = None,
    ) -> None:
        """See :meth:`pcmedge_emulator.ledger.Ledger.commit`. Counters are replaced, and models put and gone."""
        counters = counters or self.counters
        kept = {name: model for name, model in self.models.items() if name not in gone}
        kept |= {model.record.name: model for model in put}

        def all_of_it(transaction: Transaction) -> None:
            for name in gone:
                residents.delete(transaction, self.models[name])
            write(transaction)
            for model in put:
                residents.write(transaction, model)
            transaction.keep_contents(model.record.program_generation for model in kept.values())
            transaction.put("device", "counters", codec.encode(counters))

        def replace_memory() -> None:
            self.counters = counters
            self.models = kept

        self._transact(all_of_it, events, remember, replace_memory)

    def numbered(self, *, program: int = 0, statistics: int = 0) -> Counters:
        """The counters once these generations were given out."""
        before = self.counters
        return replace(
            before,
            program_generation=max(before.program_generation, program),
            statistics_generation=max(before.statistics_generation, statistics),
        )
