"""Statistical physics of phase-change memory (PCM) devices: programming, drift, read noise.

Pure functions on float32 arrays: no state, no clock, no file. Conductances are in microsiemens, times in seconds. Every
coefficient lives in a printable :class:`Technology`; docs/physics.md tells where each comes from.
"""

from pcmedge_emulator.physics.drift import (
    drift,
    drift_exponent_mean,
    drift_exponent_std,
    sample_drift_exponents,
)
from pcmedge_emulator.physics.faults import failed_devices, stuck_conductances
from pcmedge_emulator.physics.programming import (
    ProgramAndVerify,
    program,
    program_and_verify,
    programming_noise_sigma,
)
from pcmedge_emulator.physics.random import stream
from pcmedge_emulator.physics.read_noise import (
    accumulated_read_noise_sigma,
    input_dependent_sigma,
    read,
    short_term_sigma,
)
from pcmedge_emulator.physics.technology import TECHNOLOGIES, Technology, get_technology

__all__ = [
    "TECHNOLOGIES",
    "ProgramAndVerify",
    "Technology",
    "accumulated_read_noise_sigma",
    "drift",
    "drift_exponent_mean",
    "drift_exponent_std",
    "failed_devices",
    "get_technology",
    "input_dependent_sigma",
    "program",
    "program_and_verify",
    "programming_noise_sigma",
    "read",
    "sample_drift_exponents",
    "short_term_sigma",
    "stream",
    "stuck_conductances",
]
