"""How resident models and snapshots of them lie in the store: what is written when, and how it is read back.

The changing part of a model (record, compensation, buffer) is three small records; the part that never changes again
(image, devices) is contents under the program generation. What a model has beside, engine and counters, is made anew by
:class:`pcmedge_emulator.state.State`. A snapshot is a copy of all models' changing parts in a space of its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import StoreCorruptError
from pcmedge.image import ChipImage

from pcmedge_emulator import codec
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.history import keep_self_tests, stored_self_tests
from pcmedge_emulator.outcomes import SelfTestRecord
from pcmedge_emulator.programming import program_on
from pcmedge_emulator.records import ModelRecord, SnapshotRecord, pack_parameters, unpack_parameters
from pcmedge_emulator.resident import Buffer, Programmed, ProgrammedTile, Resident
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

_COLLECTIONS = ("models", "parameters", "buffers")
"""What a snapshot copies. Journal, request ids, clock and the device's own record go on."""


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """What the store keeps of a model; fields as of :class:`~pcmedge_emulator.resident.Resident`."""

    record: ModelRecord
    programmed: Programmed
    parameters: Parameters
    previous: Parameters | None
    buffer: Buffer | None
    self_tests: Mapping[int, SelfTestRecord]


# -------------------------------------------------------------------------------------------------------------- writing


def write(transaction: Transaction, resident: Resident) -> None:
    """The changing part of a resident: record, compensation, buffer; and what its history has not stored yet."""
    name = resident.record.name
    resident.history.write(transaction)
    transaction.put("models", name, codec.encode(resident.record))
    transaction.put("parameters", name, pack_parameters(resident.parameters, resident.previous))
    if resident.buffer is None:
        transaction.delete("buffers", name)
    else:
        transaction.put("buffers", name, resident.buffer.to_bytes())


def write_self_tests(transaction: Transaction, resident: Resident) -> int:
    """The record and the newest self-tests alone; see :meth:`pcmedge_emulator.history.SelfTestHistory.write`."""
    transaction.put("models", resident.record.name, codec.encode(resident.record))
    return resident.history.write(transaction)


def write_programmed(transaction: Transaction, programmed: Programmed) -> None:
    """The part that never changes again: image and devices."""
    transaction.put_content(programmed.generation, "image", programmed.image.to_bytes())
    for tile in programmed.tiles:
        transaction.put_content(programmed.generation, f"tile/{tile.tile.tile:08d}", tile.to_bytes())


def delete(transaction: Transaction, name: str) -> None:
    """The changing part of a model; :func:`drop_unused` takes the rest if no snapshot needs it."""
    for collection in _COLLECTIONS:
        transaction.delete(collection, name)


def write_snapshot(transaction: Transaction, name: str, snapshot: SnapshotRecord) -> None:
    """Copies the live models' changing parts; an earlier snapshot of that name is replaced."""
    transaction.delete_space(name)
    transaction.copy_space("", name, _COLLECTIONS)
    transaction.put("snapshot", "snapshot", codec.encode(snapshot), space=name)


def restore_snapshot(transaction: Transaction, name: str) -> None:
    """Puts a snapshot's changing parts in place of the live models'; records are as they were written then."""
    transaction.copy_space(name, "", _COLLECTIONS)


def drop_unused(store: Store, transaction: Transaction) -> None:
    """Deletes the contents no live model and no snapshot needs; call after the records were written."""
    spaces = ("", *store.spaces())
    needed = {record.program_generation for space in spaces for record in records(store, space).values()}
    transaction.keep_contents(needed)
    keep_self_tests(store, transaction, needed)


# -------------------------------------------------------------------------------------------------------------- reading


def records(store: Store, space: str = "") -> dict[str, ModelRecord]:
    """The records of the live models, or of those in the snapshot ``space``, by name."""
    return {name: codec.decode(data, ModelRecord) for name, data in store.items("models", space=space).items()}


def read(store: Store, profile: ChipProfile | None, now_s: float, space: str = "") -> Iterator[StoredModel]:
    """The live models, or those of the snapshot ``space`` with the ages they had, ``now_s`` being device time now.

    Raises StoreCorruptError.
    """
    parameters = store.items("parameters", space=space)
    buffers = store.items("buffers", space=space)
    # Histories go on, like the journal: a snapshot has none of its own.
    histories = stored_self_tests(store)
    # Ages are as they were: device time does not jump back, so the programming moves forward.
    later_s = now_s - snapshot_record(store, space).device_time_s if space else 0.0
    for name, record in records(store, space).items():
        current, previous = unpack_parameters(parameters[name])
        yield StoredModel(
            record=replace(record, programmed_at_s=record.programmed_at_s + later_s),
            programmed=_programmed(store, profile, record),
            parameters=current,
            previous=previous,
            buffer=Buffer.from_bytes(buffers[name]) if name in buffers else None,
            self_tests=histories.get(record.program_generation, {}),
        )


def _programmed(store: Store, profile: ChipProfile | None, record: ModelRecord) -> Programmed:
    parts = store.contents(record.program_generation)
    if profile is None or "image" not in parts:
        raise StoreCorruptError(
            f"The store lacks the image of resident model '{record.name}'. Move it away to start with an empty "
            "device, or restore a copy."
        )
    image = ChipImage.from_bytes(parts["image"])
    tiles = []
    for tile, physical in zip(image.tiles(), record.physical, strict=True):
        part = parts.get(f"tile/{tile.tile:08d}")
        if part is None:
            raise StoreCorruptError(f"The store lacks tile {tile.tile} of resident model '{record.name}'.")
        tiles.append(ProgrammedTile.from_bytes(part, image, tile, physical))
    return Programmed(
        image=image,
        program=program_on(profile, image),
        profile=profile,
        generation=record.program_generation,
        tiles=tuple(tiles),
    )


def snapshot_record(store: Store, name: str) -> SnapshotRecord:
    """The record of a snapshot that is there: StoreCorruptError without one."""
    data = store.get("snapshot", "snapshot", space=name)
    if data is None:
        raise StoreCorruptError(f"The store lacks the record of snapshot '{name}'.")
    return codec.decode(data, SnapshotRecord)
