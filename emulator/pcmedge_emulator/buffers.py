"""Verbs on the calibration buffer: the few inputs a recalibration measures on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.errors import DeviceStateError, InputShapeError, InputValueError

from pcmedge_emulator import stored_models
from pcmedge_emulator.calibration.adabs import sample_count
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.outcomes import BufferDescription, Mutation
from pcmedge_emulator.resident import Buffer, Resident
from pcmedge_emulator.state import State

LARGEST_BUFFER_BYTES = 256 * 2**20
"""An application's calibration buffer is refused beyond this."""

Inputs = Mapping[str, NDArray[Any]]
Statistics = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def buffer_in_use(resident: Resident) -> tuple[Inputs, Statistics | None]:
    """(the buffer recalibration measures on, digital statistics of exactly it if they exist)."""
    if resident.buffer is not None:
        return resident.buffer.samples, resident.buffer.statistics
    manifest = resident.programmed.image.manifest
    if manifest.calibration_buffer.kind not in ("stored", "synthetic"):
        return {}, None
    reference = resident.programmed.program.reference_statistics
    complete = set(reference) >= set(resident.programmed.program.statistics)
    has_reference = manifest.calibration_buffer.has_reference_statistics and complete
    return resident.programmed.image.calibration_buffer(), reference if has_reference else None


def describe_buffer(resident: Resident) -> BufferDescription:
    samples, reference = buffer_in_use(resident)
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
        has_reference_statistics=reference is not None,
        sha256=digest.digest() if samples else b"",
    )


def set_buffer(
    state: State,
    name: str,
    samples: Inputs,
    append: bool,
    mutation: Mutation,
    statistics: Statistics | None = None,
    image_sha256: bytes = b"",
) -> BufferDescription:
    """Replaces or appends; the samples are checked as an inference's inputs are.

    ``statistics``: digital ones of exactly these samples, measured on the image of ``image_sha256`` (empty: not said).
    """
    with state.busy(""):
        resident = state.resident(name)
        state.check(mutation, resident)
        arrays = {key: np.asarray(values) for key, values in samples.items()}
        checked: Inputs
        checked, count = check_inputs(resident.programmed.program, arrays)
        reference = None if statistics is None else _checked(resident, statistics, image_sha256)
        if append:
            checked, reference = _appended(resident, checked, reference, count)
        size = sum(values.nbytes for values in checked.values())
        if size > LARGEST_BUFFER_BYTES:
            raise InputValueError(
                f"A calibration buffer has at most {LARGEST_BUFFER_BYTES} bytes, this one would have {size}. "
                "Keep fewer samples: some tens do.",
                bytes=size,
            )
        buffer = Buffer(samples={key: values.copy() for key, values in checked.items()}, statistics=reference)
        changed = replace(resident, buffer=buffer)
        outcome = describe_buffer(changed)
        paired = "with" if outcome.has_reference_statistics else "without"
        message = (
            f"The calibration buffer of '{name}' has {outcome.samples} samples of the application, {paired} digital "
            "statistics."
        )
        details = {"samples": str(outcome.samples), "has_reference_statistics": str(reference is not None).lower()}
        state.commit(
            lambda transaction: stored_models.write(transaction, changed),
            events=[state.event("buffer-changed", message, name, details)],
            remember=(mutation, "append-buffer" if append else "replace-buffer", outcome),
        )
        state.swap(name, lambda current: replace(current, buffer=buffer))
        return outcome


def _checked(resident: Resident, statistics: Statistics, image_sha256: bytes) -> Statistics | None:
    """Copies of statistics that can be those of this image; None if it has no batch norm to have any."""
    name, norms = resident.record.name, resident.programmed.program.statistics
    if image_sha256 and image_sha256 != resident.record.image_sha256:
        raise InputValueError(
            f"The statistics are those of the image {image_sha256.hex()[:12]}, but '{name}' was programmed from "
            f"{resident.record.image_sha256.hex()[:12]}. Measure them on the image that is on the device.",
            expected=resident.record.image_sha256.hex(),
            found=image_sha256.hex(),
        )
    if missing := sorted(set(norms) - set(statistics)):
        raise InputValueError(
            f"Expected statistics of every batch norm of '{name}'; missing: {_listed(missing)}.", missing=missing[0]
        )
    if unknown := sorted(set(statistics) - set(norms)):
        raise InputValueError(f"'{name}' has no batch norm {_listed(unknown)}; leave it out.", node=unknown[0])
    checked = {}
    for node, norm in norms.items():
        with np.errstate(over="ignore"):
            mean, variance = (np.array(values, np.float32) for values in statistics[node])
        if mean.shape != norm.mean.shape or variance.shape != norm.mean.shape:
            raise InputShapeError(
                f"Statistics of {node!r}: expected {norm.mean.size} means and variances, one per channel, found "
                f"{mean.size} and {variance.size}.",
                node=node,
                expected=norm.mean.size,
            )
        if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
            raise InputValueError(
                f"Statistics of {node!r}: expected finite means and finite variances >= 0 in single precision.",
                node=node,
            )
        checked[node] = (mean, variance)
    return checked or None


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _appended(
    resident: Resident, samples: Inputs, statistics: Statistics | None, count: int
) -> tuple[Inputs, Statistics | None]:
    """The buffer at hand with these samples behind it, and the statistics of both together if both have some."""
    present, known = buffer_in_use(resident)
    if not present:
        return samples, statistics
    if statistics is not None and known is None:
        raise DeviceStateError(
            f"The buffer of '{resident.record.name}' has no digital statistics, so those of the samples to append lead "
            "nowhere. Replace the whole buffer with statistics, or append without them.",
            model=resident.record.name,
        )
    joined = {key: np.concatenate([present[key], values]) for key, values in samples.items()}
    if statistics is None or known is None:
        return joined, None
    return joined, combined(known, sample_count(present), statistics, count)


def combined(first: Statistics, first_count: int, second: Statistics, second_count: int) -> Statistics:
    """Mean and population variance of two sets together, exactly (Chan et al. 1979), in float64.

    Every sample has as many values per channel as any other, so sets weigh by their samples.
    """
    share = second_count / (first_count + second_count)
    together = {}
    for node, (mean, variance) in first.items():
        mean_a, var_a = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
        mean_b, var_b = (np.asarray(values, np.float64) for values in second[node])
        delta = mean_b - mean_a
        total = (1 - share) * var_a + share * var_b + share * (1 - share) * np.square(delta)
        together[node] = ((mean_a + share * delta).astype(np.float32), total.astype(np.float32))
    return together
