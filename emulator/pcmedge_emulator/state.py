"""The one owner of everything about a device that changes.

:class:`State` holds it in memory and changes it in one way only: :meth:`State.commit` writes a transaction, and after
it succeeded the values in memory are replaced. How a model lies in the store is ``stored_models.py``'s. The verbs
(``images.py``, ``recalibration.py``, ``buffers.py``, ``policies.py``, ``lab.py``) are functions on it;
:class:`pcmedge_emulator.chip.Chip` is their face.

Two locks. ``changing`` serialises mutations and may be held for as long as programming takes. ``swapping`` guards
replacing a resident and is held for pointer assignments only. An inference takes neither: it reads one immutable
:class:`~pcmedge_emulator.resident.Resident`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import (
    CancelledError,
    Error,
    GenerationMismatchError,
    ModelNotFoundError,
    NotProgrammedError,
    StoreUnwritableError,
)

from pcmedge_emulator import codec, stored_models
from pcmedge_emulator.born import with_born_faults
from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.clock import Clock, ClockMode, ClockState
from pcmedge_emulator.crossbar.faults import FaultsByTile
from pcmedge_emulator.engine import FastEngine, ReferenceEngine
from pcmedge_emulator.fault_checks import told
from pcmedge_emulator.findings import Findings
from pcmedge_emulator.history import SelfTestHistory
from pcmedge_emulator.journal import DEFAULT_BOUNDS, Journal, JournalBounds
from pcmedge_emulator.lease import LeaseBook
from pcmedge_emulator.operations import Operations
from pcmedge_emulator.outcomes import Event, Mutation
from pcmedge_emulator.programming import with_residents
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.requests import Requests
from pcmedge_emulator.resident import Counters, Programmed, Resident
from pcmedge_emulator.store import Store, Transaction
from pcmedge_emulator.stored_models import StoredModel
from pcmedge_emulator.streams import Streams, cell_start_s, log_time_cell
from pcmedge_emulator.tile_allocator import TileAllocator

GRID_RATIO = 1.05
"""Conductances are refreshed whenever 1 + age / t0 has grown by this ratio: G moves by 0.3 % from cell to cell."""

GLANCE_S = 0.1
"""How often a change that waits for another looks whether it is still wanted. Seconds."""

Outcome = TypeVar("Outcome")


@dataclass
class Activity:
    """What the device is busy with and has done since it started; counters only."""

    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    started_s: float = field(default_factory=time.monotonic)
    busy: str = ""
    last_request_s: float = float("-inf")
    requests_served: int = 0
    requests_failed: int = 0

    def served(self) -> None:
        with self.lock:
            self.requests_served += 1
            self.last_request_s = time.monotonic()

    def failed(self) -> None:
        with self.lock:
            self.requests_failed += 1


class State:
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
        self.store = store
        self.store_problem = ""
        self.stored_device_s = 0.0
        self.clock = clock
        self.same_read = same_read
        self.realisation = 0
        self.journal = Journal(store, journal)
        self.requests = Requests(store)
        self.leases = LeaseBook()
        self.operations = Operations()
        self.activity = Activity()
        self.changing = threading.RLock()
        self.swapping = threading.Lock()
        self.wake = threading.Event()
        self.out_of_service: frozenset[str] = frozenset()
        self.residents: Mapping[str, Resident] = {}
        stored = store.get("device", "device")
        found = identity(None if stored is None else codec.decode(stored, DeviceRecord))
        device = with_born_faults(found)
        self.device = replace(device, boots=device.boots + 1)
        self.circuits = circuits(self.device)
        self.streams = Streams(self.device.serial, self.device.seed)
        clock_state = store.get("device", "clock")
        if clock_state is not None:
            clock.resume(codec.decode(clock_state, ClockState), keep_mode=keep_clock_mode)
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

    def allocator(self, without: Sequence[str] = (), *, use_retired: bool = False) -> TileAllocator | None:
        """Which physical tiles are taken, by all residents but the named ones, or retired; None without a profile."""
        profile = self.profile
        if profile is None:
            return None
        taken = ((name, r.record.physical) for name, r in self.residents.items() if name not in without)
        return with_residents(profile.tiles, taken, () if use_retired else self.device.retired)

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
            engine=self.inference_engine(model.programmed, age_s),
            engine_age_s=age_s,
            first_seed=self.streams.products(record.program_generation, self.device.boots),
            counters=Counters(),
            history=SelfTestHistory(record.program_generation, model.self_tests),
        )

    # --------------------------------------------------------------------------------------------------- conductances

    def inference_age_s(self, age_s: float) -> float:
        """The age inference computes with: exact on a manual clock, the start of its log-time cell on a running one."""
        if self.clock.mode is ClockMode.MANUAL:
            return age_s
        t0_s = self.circuits.technology.t0_s
        return cell_start_s(log_time_cell(age_s, t0_s, GRID_RATIO), t0_s, GRID_RATIO)

    def inference_engine(self, programmed: Programmed, age_s: float) -> FastEngine | ReferenceEngine:
        """The engine of one age, warmed up so that no request pays for it."""
        generation, streams, realisation = programmed.generation, self.streams, self.realisation
        cell = log_time_cell(age_s, self.circuits.technology.t0_s, GRID_RATIO)
        snapshot = programmed.snapshot(
            age_s,
            self.circuits,
            lambda tile: streams.inference(generation, tile, cell, realisation),
            lambda tile: streams.idle(generation, tile),
        )
        engine = programmed.engine(snapshot, self.circuits)
        inputs, _ = programmed.image.reference_set()
        if sample_count(inputs) and isinstance(engine, FastEngine):
            engine.run({name: values[:1] for name, values in inputs.items()}, noise_seed=0)
        return engine

    def recalibration_engine(self, programmed: Programmed, age_s: float, read: int) -> FastEngine | ReferenceEngine:
        """The engine of one age with recalibration's own realisation number ``read`` of the read noise."""
        snapshot = programmed.snapshot(
            age_s,
            self.circuits,
            lambda tile: self.recalibration_stream(programmed, tile, age_s, read),
            lambda tile: self.streams.idle(programmed.generation, tile),
        )
        return programmed.engine(snapshot, self.circuits)

    def recalibration_stream(self, programmed: Programmed, tile: int, age_s: float, read: int) -> np.random.Generator:
        """1/f noise of a physical tile for recalibration; inference's own only with ``same_read`` (for studies)."""
        if self.same_read:
            cell = log_time_cell(age_s, self.circuits.technology.t0_s, GRID_RATIO)
            return self.streams.inference(programmed.generation, tile, cell, self.realisation)
        return self.streams.recalibration(read, tile)

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
        circuits = self.circuits
        engine = self.inference_engine(resident.programmed, age_s)

        def with_engine(current: Resident) -> Resident:
            # Erased and programmed again meanwhile, or another thread was there with a later moment.
            if current.programmed is not resident.programmed or (current.engine_age_s > age_s and not force):
                return current
            # Broken or mended meanwhile: whoever did that makes an engine of its own.
            if self.circuits is not circuits:
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
        self.circuits = circuits

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
        self.circuits = replace(self.circuits, faults=found)

    def set_findings(self, findings: Findings) -> None:
        self.findings = findings

    def born_event(self, before: DeviceRecord, after: DeviceRecord) -> list[Event]:
        """What the journal says of the faults that a chip comes with; nothing if there are none."""
        new = after.faults[len(before.faults) :]
        message = f"This chip came with {len(new)} faults on {told(new)}."
        return [self.event("faults-injected", message)] if new else []

    def set_realisation(self, realisation: int) -> None:
        self.realisation = realisation

    # -------------------------------------------------------------------------------------------------------- changing

    def check(self, mutation: Mutation, resident: Resident | None) -> None:
        """GenerationMismatchError unless the model's (without one: the device's) generations are as expected."""
        program = self.device.program_generation if resident is None else resident.record.program_generation
        statistics = self.device.statistics_generation if resident is None else resident.record.statistics_generation
        for what, expected, found in (
            ("program", mutation.expected_program_generation, program),
            ("statistics", mutation.expected_statistics_generation, statistics),
        ):
            if expected is not None and expected != found:
                raise GenerationMismatchError(
                    f"The caller expected {what} generation {expected}, the device is at {found}. Look at what "
                    "changed, then repeat the call with the new number.",
                    expected=expected,
                    found=found,
                    what=what,
                )

    def once(self, mutation: Mutation, verb: str, kind: type[Outcome], body: Callable[[], Outcome]) -> Outcome:
        """Runs ``body`` unless this request id was answered before; then that answer."""
        with self.requests.claim(mutation.request_id):
            earlier = self.requests.answered(mutation.request_id, verb, kind)
            return body() if earlier is None else earlier

    @contextmanager
    def busy(self, with_what: str, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """One mutation at a time; ``with_what`` is what telemetry says meanwhile ("" for nothing).

        ``cancelled`` is asked while another mutation is waited for; CancelledError if it says so.
        """
        self._take_turn(cancelled)
        try:
            before, self.activity.busy = self.activity.busy, with_what or self.activity.busy
            try:
                yield
            finally:
                self.activity.busy = before
        finally:
            self.changing.release()

    def _take_turn(self, cancelled: Callable[[], bool] | None) -> None:
        if cancelled is None:
            self.changing.acquire()
            return
        while not self.changing.acquire(timeout=GLANCE_S):
            if cancelled():
                raise CancelledError("Cancelled while another change of the device was under way; nothing was changed.")

    def event(self, kind: str, message: str, model: str = "", details: Mapping[str, str] | None = None) -> Event:
        """Of this moment; the journal gives it its number."""
        return Event(
            sequence=0,
            time_unix_s=self.clock.wall_unix_s(),
            device_time_s=self.clock.now(),
            kind=kind,
            message=message,
            model=model,
            details=dict(details or {}) | ({"holder": self.leases.acting} if self.leases.acting else {}),
        )

    def commit(
        self,
        write: Callable[[Transaction], None] = lambda _: None,
        *,
        events: Sequence[Event] = (),
        device: DeviceRecord | None = None,
        remember: tuple[Mutation, str, Any] | None = None,
    ) -> None:
        """One transaction: the change, the device's record and clock, the events, and the answer to the request id.

        Raises StoreUnwritableError with nothing changed; ``store_problem`` says so until a commit succeeds. The caller
        replaces what is in memory after it returns.
        """
        device = self.device if device is None else device
        answer = None
        with self._noting_store_problems(), self.store.transaction() as transaction:
            write(transaction)
            transaction.put("device", "device", codec.encode(device))
            clock = self.clock.state()
            transaction.put("device", "clock", codec.encode(clock))
            numbered = self.journal.write(transaction, events)
            if remember is not None:
                mutation, verb, outcome = remember
                answer = self.requests.write(transaction, mutation.request_id, verb, outcome)
        self.device = device
        self.stored_device_s = clock.device_time_s
        self.journal.publish(numbered)
        if remember is not None:
            self.requests.publish(remember[0].request_id, answer)

    @contextmanager
    def _noting_store_problems(self) -> Iterator[None]:
        try:
            yield
        except StoreUnwritableError as error:
            self.store_problem = error.message
            raise
        self.store_problem = ""

    def report(self, kind: str, message: str, model: str = "", details: Mapping[str, str] | None = None) -> None:
        """An event on its own. With a store that cannot be written it waits; the caller has an error to raise."""
        with self.changing:
            event = self.event(kind, message, model, details)
            try:
                self.commit(events=[event])
            except Error:
                self.journal.hold(event)
