"""Holding some of the training pictures out, the same ones on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge.errors import InputTypeError, InputValueError

Indices = NDArray[np.int64]


def stratified_split(labels: ArrayLike, held_out: int, *, seed: int = 0) -> tuple[Indices, Indices]:
    """Indices (kept, held out), each ascending, with every class in both parts in its share of the whole.

    ``held_out``: how many samples are held out, exactly. A class gets the whole part of its share; what is left goes
    one by one to the largest remainders (equal ones: the lower label first). Within a class those whose SHA-256 of
    "seed/index" is smallest are held out, so that no library's random generator has a say: the same labels, number
    and seed give the same split everywhere. Raises InputTypeError, InputValueError.
    """
    truth = np.asarray(labels)
    if truth.ndim != 1 or truth.dtype.kind not in "iu":
        raise InputTypeError(f"labels must be integers of shape (samples,), found {truth.dtype} {truth.shape}.")
    if isinstance(held_out, bool) or not isinstance(held_out, (int, np.integer)):
        raise InputTypeError(f"held_out is a number of samples, found {held_out!r}.")
    if not 0 <= held_out <= len(truth):
        raise InputValueError(f"held_out must be from 0 to {len(truth)} (all samples), found {held_out}.")
    chosen = [np.empty(0, dtype=np.int64)]
    for label, count in _quotas(truth, int(held_out)).items():
        members = np.flatnonzero(truth == label).tolist()
        members.sort(key=lambda index: hashlib.sha256(f"{seed}/{index}".encode()).digest())
        chosen.append(np.array(members[:count], dtype=np.int64))
    out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(truth), dtype=np.int64), out, assume_unique=True), out


def _quotas(truth: NDArray[np.integer], held_out: int) -> dict[int, int]:
    """How many of each class are held out; exact integer arithmetic."""
    labels, counts = np.unique(truth, return_counts=True)
    shares = {
        int(label): divmod(int(count) * held_out, len(truth)) for label, count in zip(labels, counts, strict=True)
    }
    quotas = {label: whole for label, (whole, _) in shares.items()}
    left = held_out - sum(quotas.values())
    for label in sorted(shares, key=lambda each: (-shares[each][1], each))[:left]:
        quotas[label] += 1
    return quotas
