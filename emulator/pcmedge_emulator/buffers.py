"""Verbs on the calibration buffer: the few inputs a recalibration measures on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import InputValueError

from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.outcomes import BufferDescription, Mutation
from pcmedge_emulator.resident import Buffer, Resident
from pcmedge_emulator.state import State

LARGEST_BUFFER_BYTES = 256 * 2**20
"""An application's calibration buffer is refused beyond this."""

Inputs = Mapping[str, NDArray[Any]]


def buffer_in_use(resident: Resident) -> tuple[Inputs, bool]:
    """(the buffer recalibration measures on, whether digital statistics of exactly it exist)."""
    if resident.buffer is not None:
        return resident.buffer.samples, False
    manifest = resident.programmed.image.manifest
    if manifest.calibration_buffer.kind not in ("stored", "synthetic"):
        return {}, False
    reference = resident.programmed.program.reference_statistics
    complete = set(reference) >= set(resident.programmed.program.statistics)
    has_reference = manifest.calibration_buffer.has_reference_statistics and complete
    return resident.programmed.image.calibration_buffer(), has_reference


def describe_buffer(resident: Resident) -> BufferDescription:
    samples, has_reference = buffer_in_use(resident)
    kind = resident.programmed.image.manifest.calibration_buffer.kind
    source = {"stored": "image", "synthetic": "synthetic"}.get(kind, "none")
    digest = hashlib.sha256()
    for spec in resident.programmed.program.inputs:
        if spec.name in samples:
            digest.update(np.ascontiguousarray(samples[spec.name]).data)
    return BufferDescription(
        source="application" if resident.buffer is not None else source,
        samples=sample_count(samples),
        bytes=sum(array.nbytes for array in samples.values()),
        has_reference_statistics=has_reference,
        sha256=digest.digest() if samples else b"",
    )


def set_buffer(state: State, name: str, samples: Inputs, append: bool, mutation: Mutation) -> BufferDescription:
    """Replaces or appends; the samples are checked as an inference's inputs are."""
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        arrays = {key: np.asarray(values) for key, values in samples.items()}
        checked, _ = check_inputs(resident.programmed.program, arrays)
        if append:
            present = buffer_in_use(resident)[0]
            checked = {
                key: np.concatenate([present[key], values]) if present else values for key, values in checked.items()
            }
        size = sum(values.nbytes for values in checked.values())
        if size > LARGEST_BUFFER_BYTES:
            raise InputValueError(
                f"A calibration buffer has at most {LARGEST_BUFFER_BYTES} bytes, this one would have {size}. "
                "Keep fewer samples: some tens do.",
                bytes=size,
            )
        buffer = Buffer(samples={key: values.copy() for key, values in checked.items()})
        changed = replace(resident, buffer=buffer)
        outcome = describe_buffer(changed)
        message = f"The calibration buffer of '{name}' has {outcome.samples} samples of the application."
        state.commit(
            lambda transaction: state.write_resident(transaction, changed),
            events=[state.event("buffer-changed", message, name, {"samples": str(outcome.samples)})],
            remember=(mutation, "append-buffer" if append else "replace-buffer", outcome),
        )
        state.swap(name, lambda current: replace(current, buffer=buffer))
        return outcome
