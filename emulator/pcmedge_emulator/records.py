"""The small, changing records of a device: what it is, what is resident, and the compensation in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge_emulator import codec
from pcmedge_emulator.calibration.policy import Policy
from pcmedge_emulator.engine.state import Parameters
from pcmedge_emulator.injected import Fault


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """The device itself. ``profile`` is a serialised ChipProfile, empty until one is adopted.

    ``program_generation`` and ``statistics_generation`` are the highest ever given out, ``reads`` counts the read-noise
    realisations recalibrations have used, ``boots`` the starts. ``faults`` are those of the silicon,
    ``faults_injected`` how many ever were; ``retired`` the physical tiles a diagnosis found unfit to be programmed.
    ``comes_with`` is what was asked for when the device was made (:mod:`pcmedge_emulator.born`), empty for what its
    profile expects; ``born``: those are among ``faults``.
    """

    serial: str
    seed: int
    technology: str
    profile: bytes = b""
    program_generation: int = 0
    statistics_generation: int = 0
    reads: int = 0
    boots: int = 0
    faults: tuple[Fault, ...] = ()
    faults_injected: int = 0
    retired: tuple[int, ...] = ()
    comes_with: str = ""
    born: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """One resident image. ``physical`` is the physical tile of each logical tile; ages are device-clock seconds.

    ``last_run_age_s`` is the age at the last recalibration, committed or refused, ``last_check_age_s`` that at the last
    look of a DRIFT policy, ``factor_at_last_run`` the median drift factor then, ``last_self_test_age_s`` that of the
    policy's last self-test; ``last_committed_age_s``, ``last_agreement`` and ``agreement_as_programmed`` are negative
    if there was none. ``in_vain`` counts recalibrations for self-tests since one passed; ``failing``: the
    policy's last self-test did not pass, and the journal says so.
    """

    name: str
    version: int
    image_sha256: bytes
    active: bool
    physical: tuple[int, ...]
    program_generation: int
    statistics_generation: int = 0
    programmed_at_s: float
    programmed_at_unix_s: float
    policy: Policy
    last_run_age_s: float = 0.0
    last_check_age_s: float = 0.0
    factor_at_last_run: float = 1.0
    last_committed_age_s: float = -1.0
    last_agreement: float = -1.0
    median_factor: float = 1.0
    recalibrations: int = 0
    refused: int = 0
    last_self_test_age_s: float = 0.0
    agreement_as_programmed: float = -1.0
    in_vain: int = 0
    failing: bool = False

    @property
    def agreement_floor(self) -> float:
        """The share of reference inputs that is to agree. Unit: 1."""
        return self.policy.agreement_floor(self.agreement_as_programmed)


@dataclass(frozen=True, kw_only=True)
class SnapshotRecord:
    created_unix_s: float
    device_time_s: float


def pack_parameters(current: Parameters, previous: Parameters | None) -> bytes:
    """Both sets of compensation as bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    for when, parameters in (("current", current), ("previous", previous)):
        if parameters is None:
            continue
        arrays[f"{when}\n"] = np.zeros(0)
        for tile, factor in parameters.drift_factors.items():
            arrays[f"{when}\nfactor\n{tile}"] = np.asarray(factor, dtype=np.float32)
        for node, (mean, variance) in parameters.statistics.items():
            arrays[f"{when}\nmean\n{node}"] = mean
            arrays[f"{when}\nvariance\n{node}"] = variance
    return codec.pack(arrays)


def _parameters(arrays: Mapping[str, NDArray[Any]], when: str) -> Parameters:
    factors: dict[int, float | NDArray[np.float32]] = {}
    means: dict[str, NDArray[np.float32]] = {}
    variances: dict[str, NDArray[np.float32]] = {}
    for name, array in arrays.items():
        belongs, _, rest = name.partition("\n")
        what, _, key = rest.partition("\n")
        if belongs == when and what == "factor":
            factors[int(key)] = float(array) if array.ndim == 0 else array
        elif belongs == when and what == "mean":
            means[key] = array
        elif belongs == when and what == "variance":
            variances[key] = array
    return Parameters(drift_factors=factors, statistics={node: (means[node], variances[node]) for node in means})


def unpack_parameters(data: bytes) -> tuple[Parameters, Parameters | None]:
    """(current, previous) as :func:`pack_parameters` wrote them."""
    arrays = codec.unpack(data)
    return _parameters(arrays, "current"), _parameters(arrays, "previous") if "previous\n" in arrays else None
