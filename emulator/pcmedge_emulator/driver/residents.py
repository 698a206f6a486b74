"""Models on hardware: their records, and how they lie in the store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pcmedge.image import ChipImage
from pcmedge.image.datatypes import numpy_dtype

from pcmedge_emulator import codec
from pcmedge_emulator.driver.hardware import Arrays
from pcmedge_emulator.outcomes import BufferDescription, ModelInfo
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

_MODELS, _IMAGE = "models", "image"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What changes about a model. ``tiles``: physical tile of each logical one; ``programmed_at_s``: device time."""

    name: str
    version: int
    image_sha256: bytes
    active: bool
    tiles: tuple[int, ...]
    program_generation: int
    programmed_at_s: float
    programmed_at_unix_s: float
    statistics_generation: int = 0
    recalibrations: int = 0
    refused: int = 0
    last_committed_age_s: float = -1.0
    last_agreement: float = -1.0
    median_factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """An input of a model, for :func:`pcmedge_emulator.inputs.check_tensors`."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass
class Tally:
    """Samples answered since the device started; the only thing about a model that changes in place."""

    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    samples: int = 0

    def add(self, samples: int) -> None:
        with self.lock:
            self.samples += samples


@dataclass(frozen=True, kw_only=True)
class Model:
    """A resident image as it answers now; immutable and replaced whole, so that a request sees one consistent set.

    ``previous``: the compensation a rollback returns to. ``buffer``: the application's samples, if there are any.
    """

    record: Record
    image: ChipImage
    loaded: Any
    compensation: Arrays
    previous: Arrays | None = None
    buffer: Arrays | None = None
    inferences: Tally = field(default_factory=Tally)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return tuple(
            InputSpec(
                name=spec.name,
                dtype=np.dtype(numpy_dtype(spec.datatype)),
                shape=tuple(None if size < 0 else size for size in spec.shape),
            )
            for spec in self.image.manifest.model.inputs
        )

    def samples(self) -> Arrays:
        """The calibration buffer in use."""
        return self.image.calibration_buffer() if self.buffer is None else self.buffer

    def describe_buffer(self) -> BufferDescription:
        samples = self.samples()
        ordered = [np.ascontiguousarray(samples[spec.name]) for spec in self.inputs if spec.name in samples]
        kind = {"stored": "image", "synthetic": "synthetic"}.get(self.image.manifest.calibration_buffer.kind, "none")
        return BufferDescription(
            source=kind if self.buffer is None else "application",
            samples=len(ordered[0]) if ordered else 0,
            bytes=sum(array.nbytes for array in ordered),
            has_reference_statistics=False,
            sha256=digest(*ordered) if ordered else b"",
        )

    def info(self, age_s: float) -> ModelInfo:
        record = self.record
        return ModelInfo(
            name=record.name,
            version=record.version,
            image_sha256=record.image_sha256,
            active=record.active,
            tiles=len(record.tiles),
            program_generation=record.program_generation,
            statistics_generation=record.statistics_generation,
            programmed_at_unix_s=record.programmed_at_unix_s,
            age_s=age_s,
            size_bytes=self.image.size,
        )


def digest(*arrays: Any) -> bytes:
    """SHA-256 over the bytes of arrays, one after the other."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(array.data)
    return found.digest()


def write(transaction: Transaction, model: Model) -> None:
    """A model's record and its changing arrays."""
    name = model.record.name
    transaction.put(_MODELS, name, codec.encode(model.record))
    for part, arrays in (
        ("compensation", model.compensation),
        ("previous", model.previous),
        ("buffer", model.buffer),
    ):
        if arrays is None:
            transaction.delete(part, name)
        else:
            transaction.put(part, name, codec.pack(arrays))


def write_image(transaction: Transaction, model: Model) -> None:
    """The image of a new programming."""
    transaction.put_content(model.record.program_generation, _IMAGE, model.image.to_bytes())


def delete(transaction: Transaction, model: Model) -> None:
    for part in (_MODELS, "compensation", "previous", "buffer"):
        transaction.delete(part, model.record.name)


def read(store: Store) -> Sequence[tuple[Record, ChipImage, Mapping[str, Arrays]]]:
    """(record, image, arrays by part) of every model in the store."""
    found = []
    for name, data in store.items(_MODELS).items():
        record = codec.decode(data, Record)
        image = ChipImage.from_bytes(store.contents(record.program_generation)[_IMAGE])
        arrays: dict[str, Arrays] = {}
        for part in ("compensation", "previous", "buffer"):
            packed = store.get(part, name)
            if packed is not None:
                arrays[part] = codec.unpack(packed)
        found.append((record, image, arrays))
    return found
