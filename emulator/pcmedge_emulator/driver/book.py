"""What a chip made of hardware keeps of its models, over restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcmedge.errors import ModelNotFoundError, NotProgrammedError

from pcmedge_emulator import codec
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.driver import residents
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.ledger import Answer, Ledger, check_generations, nothing
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction


@dataclass(frozen=True, kw_only=True)
class Counters:
    """The highest generations ever given out, and the starts of the device."""

    program_generation: int = 0
    statistics_generation: int = 0
    boots: int = 0


class Book(Ledger):
    """Memory follows the store: :meth:`commit` writes, then :attr:`models` is replaced."""

    def __init__(self, directory: Path | None, load: Callable[[Any, tuple[int, ...]], Any]) -> None:
        store = Store(directory)
        try:
            super().__init__(store, Clock.real(), keep_clock_mode=True)
            self._open(load)
        except BaseException:
            store.close()
            raise

    def _open(self, load: Callable[[Any, tuple[int, ...]], Any]) -> None:
        self.models: Mapping[str, Model] = {
            record.name: Model(
                record=record,
                image=image,
                loaded=load(image, record.tiles),
                compensation=arrays.get("compensation", {}),
                previous=arrays.get("previous"),
                buffer=arrays.get("buffer"),
            )
            for record, image, arrays in residents.read(self.store)
        }
        counters = self.store.get("device", "counters")
        before = Counters() if counters is None else codec.decode(counters, Counters)
        self.counters = replace(before, boots=before.boots + 1)
        self.commit(events=[self.event("started", "The device started.", details={"boots": str(self.counters.boots)})])

    @property
    def placed(self) -> Mapping[str, tuple[int, ...]]:
        """Physical tiles of every model."""
        return {name: model.record.tiles for name, model in self.models.items()}

    def model(self, name: str) -> Model:
        """ModelNotFoundError, or NotProgrammedError on an empty device."""
        found = self.models.get(name)
        if found is not None:
            return found
        if not self.models:
            raise NotProgrammedError(f"The device holds no image, so no model '{name}'. Program one first.", model=name)
        known = ", ".join(sorted(self.models))
        raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {known}.", model=name)

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
