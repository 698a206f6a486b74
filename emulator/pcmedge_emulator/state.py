"""The one owner of everything about an emulated device that changes.

:class:`State` is the device's ledger (``ledger.py``: what happened, who may change it) with its models, conductances
and faults in memory. It changes in one way only: :meth:`State.commit` writes a transaction, and after it succeeded the
values in memory are replaced. How a model lies in the store is ``stored_models.py``'s. The verbs
(``images.py``, ``recalibration.py``, ``buffers.py``, ``policies.py``, ``lab.py``) are functions on it;
:class:`pcmedge_emulator.chip.Chip` is their face.

Two locks. ``changing``, the ledger's, serialises mutations. ``swapping`` guards replacing a resident and is held for
pointer assignments only. An inference takes neither: it reads one immutable
:class:`~pcmedge_emulator.resident.Resident`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import ModelNotFoundError, NotProgrammedError

from pcmedge_emulator import codec, stored_models
from pcmedge_emulator.born import with_born_faults
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.clock import Clock, ClockMode
from pcmedge_emulator.crossbar.faults import FaultsByTile
from pcmedge_emulator.fault_checks import told
from pcmedge_emulator.findings import Findings
from pcmedge_emulator.history import SelfTestHistory
from pcmedge_emulator.journal import DEFAULT_BOUNDS, JournalBounds
from pcmedge_emulator.ledger import Answer, Ledger, check_generations, nothing
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.readout import Readout
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.resident import Counters, Resident
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction
from pcmedge_emulator.stored_models import StoredModel
from pcmedge_emulator.streams import Streams
from pcmedge_emulator.tile_allocator import TileAllocator, with_residents


class State(Ledger):
    """See the module. Attributes are read by the verbs; only methods of this class assign them."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        keep_clock_mode: bool,
        identity: Callable[[DeviceRecord | None], DeviceRecord],
        circuits: Callable[[DeviceRecord], Circuits],
        same_read: bool,
        journal: JournalBounds = DEFAULT_BOUNDS,
    ) -> None:
        super().__init__(store, clock, keep_clock_mode=keep_clock_mode, journal=journal)
        self.swapping = threading.Lock()
        self.wake = threading.Event()
        self.out_of_service: frozenset[str] = frozenset()
        self.residents: Mapping[str, Resident] = {}
        stored = store.get("device", "device")
        found = identity(None if stored is None else codec.decode(stored, DeviceRecord))
        device = with_born_faults(found)
        self.device = replace(device, boots=device.boots + 1)
        self.readout = Readout(
            circuits=circuits(self.device),
            streams=Streams(self.device.serial, self.device.seed),
            same_read=same_read,
        )
        self.set_faults(self.device)
        self.findings = Findings.stored(store)
        self.residents = {resident.record.name: resident for resident in self.load()}
        details = {"models": ",".join(self.residents), "boots": str(self.device.boots)}
        events = [self.event("started", "The device started.", details=details)]
        self.commit(events=[*events, *self.born_event(found, device)], device=self.device)

    # ------------------------------------------------------------------------------------------------- what there is

    @property
    def profile(self) -> ChipProfile | None:
        """The chip's profile; None until the first image is adopted."""
        return ChipProfile.FromString(self.device.profile) if self.device.profile else None

    @property
    def circuits(self) -> Circuits:
        return self.readout.circuits

    @property
    def streams(self) -> Streams:
        return self.readout.streams

    @property
    def placed(self) -> Mapping[str, tuple[int, ...]]:
        """Physical tiles of every model."""
        return {name: resident.record.physical for name, resident in self.residents.items()}

    @property
    def allocator(self) -> TileAllocator | None:
        """Which physical tiles are taken, by residents or because they are retired; None without a profile."""
        profile = self.profile
        return None if profile is None else with_residents(profile.tiles, self.placed, self.device.retired)

    def resident(self, name: str) -> Resident:
        """ModelNotFoundError, or NotProgrammedError on an empty device."""
        found = self.residents.get(name)
        if found is not None:
            return found
        if not self.residents:
            raise NotProgrammedError(
                f"The device holds no image, so there is no model '{name}'. Program an image first.", model=name
            )
        known = ", ".join(sorted(self.residents))
        raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {known}.", model=name, known=known)

    def age_s(self, resident: Resident) -> float:
        """Seconds since programming on the device's clock."""
        return max(0.0, self.clock.now() - resident.record.programmed_at_s)

    def load(self, space: str = "") -> list[Resident]:
        """The models as the store holds them, at their age now; ``space`` is a snapshot's name. Installs nothing."""
        return [
            self._at_its_age(model) for model in stored_models.read(self.store, self.profile, self.clock.now(), space)
        ]

    def _at_its_age(self, model: StoredModel) -> Resident:
        record = model.record
        age_s = self.inference_age_s(max(0.0, self.clock.now() - record.programmed_at_s))
        return Resident(
            record=record,
            programmed=model.programmed,
            parameters=model.parameters,
            previous=model.previous,
            buffer=model.buffer,
            engine=self.readout.inference_engine(model.programmed, age_s),
            engine_age_s=age_s,
            first_seed=self.streams.products(record.program_generation, self.device.boots),
            counters=Counters(),
            history=SelfTestHistory(record.program_generation, model.self_tests),
        )

    # --------------------------------------------------------------------------------------------------- conductances

    def inference_age_s(self, age_s: float) -> float:
        """The age inference computes with: exact on a manual clock, the start of its log-time cell on a running one."""
        return age_s if self.clock.mode is ClockMode.MANUAL else self.readout.cell_start_s(age_s)

    def take_reads(self, count: int) -> int:
        """The first of ``count`` read-noise realisations nobody has used. Stored with the next commit."""
        first = self.device.reads
        self.device = replace(self.device, reads=first + count)
        return first

    def is_stale(self, resident: Resident) -> bool:
        """Whether a model's conductances are of an earlier cell of the log-time grid than the present one."""
        return self.inference_age_s(self.age_s(resident)) > resident.engine_age_s

    def refresh(self, name: str, *, force: bool = False) -> bool:
        """Brings a model's conductances to this moment, beside serving; whether there was anything to do."""
        resident = self.residents.get(name)
        if resident is None:
            return False
        age_s = self.inference_age_s(self.age_s(resident))
        if not force and age_s <= resident.engine_age_s:
            return False
        readout = self.readout
        engine = readout.inference_engine(resident.programmed, age_s)

        def with_engine(current: Resident) -> Resident:
            # Erased and programmed again meanwhile, or another thread was there with a later moment.
            if current.programmed is not resident.programmed or (current.engine_age_s > age_s and not force):
                return current
            # Broken or mended meanwhile: whoever did that makes an engine of its own.
            if self.readout is not readout:
                return current
            return replace(current, engine=engine, engine_age_s=age_s)

        self.swap(name, with_engine)
        return True

    def swap(self, name: str, change: Callable[[Resident], Resident]) -> None:
        """Replaces one resident as a whole. Requests under way finish with what they took."""
        with self.swapping:
            current = self.residents.get(name)
            if current is not None:
                self.residents = {**self.residents, name: change(current)}

    def install(self, add: Sequence[Resident] = (), remove: Sequence[str] = ()) -> None:
        """Replaces whole models at once."""
        with self.swapping:
            kept = {name: r for name, r in self.residents.items() if name not in remove}
            self.residents = kept | {resident.record.name: resident for resident in add}
        self.wake.set()

    def set_out_of_service(self, names: Sequence[str]) -> None:
        """Models whose tiles are being programmed over and that do not answer meanwhile."""
        self.out_of_service = frozenset(names)

    def set_circuits(self, circuits: Circuits) -> None:
        self.readout = replace(self.readout, circuits=circuits)

    def set_faults(self, device: DeviceRecord) -> None:
        """The chip is read with the faults of this record from now on; engines are :meth:`refresh`'s."""
        profile, before = ChipProfile.FromString(device.profile), self.circuits.faults
        found = FaultsByTile(
            device.faults,
            profile.tile_rows,
            profile.tile_columns,
            self.streams.fault,
            before if isinstance(before, FaultsByTile) else None,
        )
        self.set_circuits(replace(self.circuits, faults=found))

    def set_findings(self, findings: Findings) -> None:
        self.findings = findings

    def born_event(self, before: DeviceRecord, after: DeviceRecord) -> list[Event]:
        """What the journal says of the faults that a chip comes with; nothing if there are none."""
        new = after.faults[len(before.faults) :]
        message = f"This chip came with {len(new)} faults on {told(new)}."
        return [self.event("faults-injected", message)] if new else []

    def set_realisation(self, realisation: int) -> None:
        self.readout = replace(self.readout, realisation=realisation)

    # -------------------------------------------------------------------------------------------------------- changing

    def check(self, mutation: Mutation, resident: Resident | None) -> None:
        """GenerationMismatchError unless the model's (without one: the device's) generations are as expected."""
        check_generations(mutation, self.device if resident is None else resident.record)

    def commit(
        self,
        write: Callable[[Transaction], None] = nothing,
        *,
        events: Sequence[Event] = (),
        device: DeviceRecord | None = None,
        remember: Answer | None = None,
    ) -> None:
        """See :meth:`pcmedge_emulator.ledger.Ledger.commit`. Of the device, its record is replaced; of its models, the
        caller replaces what is in memory after this returns.
        """
        device = self.device if device is None else device

        def all_of_it(transaction: Transaction) -> None:
            write(transaction)
            transaction.put("device", "device", codec.encode(device))

        def replace_device() -> None:
            self.device = device

        self._transact(all_of_it, events, remember, replace_device)
