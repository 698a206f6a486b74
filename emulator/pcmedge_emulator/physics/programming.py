"""Programming: from target conductances to the conductances the devices really take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

from pcmedge_emulator.physics.read_noise import accumulated_read_noise_share
from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]


def programming_noise_sigma(g_target: npt.ArrayLike, technology: Technology) -> Array:
    """Standard deviation of programming, sigma(g) = (c0 + c1 g + c2 g^2 + ...) * g_max / g_max_reference.

    g_target in microsiemens, any shape; the result has the same shape and unit. sigma(0) is not 0: a device left at
    RESET is noisy too (0.263 microsiemens for pcm-90nm).
    Source: Nandakumar et al. 2019, coefficients as in aihwkit; see :mod:`pcmedge_emulator.physics.technology`.
    """
    relative = np.asarray(g_target, dtype=np.float32) / np.float32(technology.g_max_microsiemens)
    sigma = technology.programming_sigma(relative)
    sigma *= np.float32(technology.g_max_microsiemens / technology.g_max_reference_microsiemens)
    return np.maximum(sigma, np.float32(0), out=sigma)


def program(g_target: npt.ArrayLike, technology: Technology, rng: np.random.Generator) -> Array:
    """Programmed conductances, G_P = max(0, G_T + sigma(G_T) xi) with one xi ~ N(0, 1) per device.

    g_target in microsiemens, any shape; the result has the same shape and unit.
    Source: Nandakumar et al. 2019; aihwkit ``PCMLikeNoiseModel``.
    """
    target = np.asarray(g_target, dtype=np.float32)
    programmed = programming_noise_sigma(target, technology)
    programmed *= rng.standard_normal(target.shape, dtype=np.float32)
    programmed += target
    return np.maximum(programmed, np.float32(0), out=programmed)


MOST_ITERATIONS = 1000
"""Of program-and-verify: published loops take tens. A tile is programmed in one go, and cancelling waits for it."""


@dataclass(frozen=True, kw_only=True)
class ProgramAndVerify:
    """Options of iterative program-and-verify; None is the technology's default.

    >>> ProgramAndVerify(margin_microsiemens=0.5, max_iterations=20)
    ProgramAndVerify(margin_microsiemens=0.5, max_iterations=20)
    """

    margin_microsiemens: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        margin, iterations = self.margin_microsiemens, self.max_iterations
        if margin is not None and not (math.isfinite(margin) and margin > 0):
            raise InputValueError(
                f"the program-and-verify margin must be a finite number of microsiemens above 0, found {margin!r}",
                margin_microsiemens=margin,
            )
        if iterations is not None and not 1 <= iterations <= MOST_ITERATIONS:
            raise InputValueError(
                f"program-and-verify takes 1 to {MOST_ITERATIONS} iterations, found {iterations!r}; read noise bounds "
                "what more of them could gain",
                max_iterations=iterations,
            )


def program_and_verify(
    g_target: npt.ArrayLike,
    technology: Technology,
    rng: np.random.Generator,
    *,
    margin_microsiemens: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Program, read, and program again every device whose reading misses the target by more than the margin.

    g_target in microsiemens, any shape. Returns (programmed conductances, converged), both of that shape; ``converged``
    says whether the last reading was within the margin. A device that never converges keeps its last attempt.

    Each attempt is a fresh single programming (:func:`program`); each verifying read has 1/f noise accumulated up to
    ``technology.verify_delay_s`` after the pulse, so the precision is bounded by read noise however tight the margin.
    Source: the loop is Joshi et al. 2020 (margin and cap unpublished; 30 iterations as Le Gallo et al. 2023); that read
    noise bounds it, Nandakumar et al., IEDM 2020. docs/physics.md tells what is assumed.
    """
    options = ProgramAndVerify(margin_microsiemens=margin_microsiemens, max_iterations=max_iterations)
    margin = np.float32(options.margin_microsiemens or technology.verify_margin_microsiemens)
    target = np.asarray(g_target, dtype=np.float32)
    flat_target = target.reshape(-1)
    programmed = np.empty_like(flat_target)
    converged = np.zeros(flat_target.shape, dtype=np.bool_)
    pending = np.arange(flat_target.size)
    for _ in range(options.max_iterations or technology.verify_max_iterations):
        wanted = flat_target[pending]
        attempt = program(wanted, technology, rng)
        programmed[pending] = attempt
        reading = rng.standard_normal(attempt.shape, dtype=np.float32)
        reading *= accumulated_read_noise_share(attempt, technology.verify_delay_s, technology)
        reading += np.float32(1)
        reading *= attempt
        within = np.abs(np.maximum(reading, np.float32(0)) - wanted) <= margin
        converged[pending] = within
        pending = pending[~within]
        if pending.size == 0:
            break
    return programmed.reshape(target.shape), converged.reshape(target.shape)
