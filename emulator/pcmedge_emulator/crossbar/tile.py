"""One crossbar tile: every weight is a differential pair of devices, programmed once and read at any age."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputShapeError, InputTypeError
from pcmedge.image.targets import FULL_SCALE, Targets, full_scale

from pcmedge_emulator.crossbar.faults import NO_FAULTS, TileFaults
from pcmedge_emulator.physics.drift import drift, sample_drift_exponents
from pcmedge_emulator.physics.programming import ProgramAndVerify, program, program_and_verify
from pcmedge_emulator.physics.read_noise import read, short_term_sigma
from pcmedge_emulator.physics.technology import Technology

Array = npt.NDArray[np.float32]

TARGET_FULL_SCALE = FULL_SCALE
"""The stored int16 target code of a weight at g = 1."""


@dataclass(frozen=True, eq=False)
class TileDevices:
    """The non-volatile state of a tile: what programming left behind, for both devices of every pair.

    ``g_plus`` and ``g_minus`` are the programmed conductances in microsiemens, ``nu_plus`` and ``nu_minus`` the drift
    exponents; all float32 [groups, rows, columns]. ``g_max_microsiemens`` is the conductance that stands for weight 1.
    """

    g_plus: Array
    g_minus: Array
    nu_plus: Array
    nu_minus: Array
    g_max_microsiemens: float

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.g_plus, self.g_minus, self.nu_plus, self.nu_minus)}
        if len(shapes) != 1 or self.g_plus.ndim != 3:
            raise InputShapeError(f"a tile's four arrays must share one shape [groups, rows, columns], found {shapes}")


@dataclass(frozen=True, kw_only=True)
class TileProgramming:
    """How well a tile was programmed."""

    devices: int
    #: Devices within the margin over devices programmed; single programming, which does not look, reports 1.
    converged_fraction: float
    #: Root mean square of G - G_target over all devices, microsiemens.
    rms_error_microsiemens: float


def target_conductances(target: Targets, g_max_microsiemens: float) -> tuple[Array, Array]:
    """(G+, G-) targets in microsiemens for stored targets q: G+ = max(q, 0) g_max / s, G- = max(-q, 0) g_max / s.

    ``target`` [groups, rows, columns], int16 with s = 32767 or float32 with s = 1; both results float32 of that shape.
    The unused device is at RESET, 0.
    """
    if target.dtype not in (np.int16, np.float32) or target.ndim != 3:
        raise InputTypeError(
            f"a tile's target must be int16 or float32 [groups, rows, columns], found {target.dtype} "
            f"{list(target.shape)}"
        )
    signed = target.astype(np.float32)
    signed *= np.float32(g_max_microsiemens / full_scale(target.dtype))
    zero = np.float32(0)
    return np.maximum(signed, zero), np.maximum(np.negative(signed, out=signed), zero, out=signed)


def program_tile(
    targets: Targets,
    g_max_microsiemens: float,
    technology: Technology,
    rng: np.random.Generator,
    program_and_verify: ProgramAndVerify | None = None,
    faults: TileFaults = NO_FAULTS,
) -> tuple[TileDevices, TileProgramming]:
    """Program both devices of every pair and draw their drift exponents.

    ``targets`` [groups, rows, columns] as stored in the image, int16 or float32; ``rng`` the tile's own programming
    stream. Drift exponents come from a child stream, so that they are the same devices however they are programmed.
    ``program_and_verify`` asks for the iterative loop instead of single programming. ``faults`` of the tile: its stuck
    devices take no programming. What is returned is what they would hold; the report is of what they do hold, and a
    stuck device outside the loop's margin has not converged.
    """
    scaled = technology.at_g_max(g_max_microsiemens)
    programming_rng, drift_rng = rng.spawn(2)
    g: list[Array] = []
    nu: list[Array] = []
    wanted = target_conductances(targets, g_max_microsiemens)
    accepted: list[npt.NDArray[np.bool_] | None] = []
    for target in wanted:
        if program_and_verify is None:
            programmed, within = program(target, scaled, programming_rng), None
        else:
            programmed, within = _verified(target, scaled, programming_rng, program_and_verify)
        accepted.append(within)
        g.append(programmed)
        nu.append(sample_drift_exponents(target, scaled, drift_rng))
    margin = math.inf
    if program_and_verify is not None:
        asked = program_and_verify.margin_microsiemens
        margin = scaled.verify_margin_microsiemens if asked is None else asked
    held = faults.hold(g[0], g[1], g_max_microsiemens)
    report = _report(wanted, held, accepted, faults.stuck(targets.shape), margin)
    return TileDevices(g[0], g[1], nu[0], nu[1], float(g_max_microsiemens)), report


def _report(
    targets: tuple[Array, Array],
    held: tuple[Array, Array],
    accepted: list[npt.NDArray[np.bool_] | None],
    stuck: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    margin_microsiemens: float,
) -> TileProgramming:
    """What the devices hold against their targets. ``accepted``: those the loop took; None without one."""
    squared_error, converged = 0.0, 0
    for wanted, found, within, immovable in zip(targets, held, accepted, stuck, strict=True):
        difference = found - wanted
        squared_error += float(np.dot(difference.reshape(-1), difference.reshape(-1)))
        if within is not None:
            within = np.where(immovable, np.abs(difference) <= margin_microsiemens, within)
        converged += wanted.size if within is None else int(np.count_nonzero(within))
    devices = targets[0].size + targets[1].size
    return TileProgramming(
        devices=devices,
        converged_fraction=converged / devices if devices else 1.0,
        rms_error_microsiemens=float(np.sqrt(squared_error / devices)) if devices else 0.0,
    )


def _verified(
    wanted: Array, technology: Technology, rng: np.random.Generator, options: ProgramAndVerify
) -> tuple[Array, npt.NDArray[np.bool_]]:
    return program_and_verify(
        wanted,
        technology,
        rng,
        margin_microsiemens=options.margin_microsiemens,
        max_iterations=options.max_iterations,
    )


def conductances(
    devices: TileDevices, age_s: float, technology: Technology, rng: np.random.Generator | None
) -> tuple[Array, Array]:
    """(G+, G-) in microsiemens at this age, drifted, with one realisation of the accumulated 1/f read noise.

    Float32 [groups, rows, columns]. ``rng`` is the stream of this purpose and moment; None leaves the read noise out.
    """
    scaled = technology.at_g_max(devices.g_max_microsiemens)
    result: list[Array] = []
    for g_programmed, nu in ((devices.g_plus, devices.nu_plus), (devices.g_minus, devices.nu_minus)):
        drifted = drift(g_programmed, nu, age_s, scaled.t0_s)
        result.append(drifted if rng is None else read(drifted, g_programmed, age_s, scaled, rng))
    return result[0], result[1]


def net(g_plus: Array, g_minus: Array, g_max_microsiemens: float) -> Array:
    """The signed weight a pair stands for, (G+ - G-) / g_max; unit 1, float32, shape of the arguments."""
    result = np.subtract(g_plus, g_minus)
    result *= np.float32(1 / g_max_microsiemens)
    return result


def total(g_plus: Array, g_minus: Array, g_max_microsiemens: float) -> Array:
    """What of a pair carries current, and so makes noise, (G+ + G-) / g_max; unit 1, float32."""
    result = np.add(g_plus, g_minus)
    result *= np.float32(1 / g_max_microsiemens)
    return result


def column_noise_sigma(
    g_plus: Array,
    g_minus: Array,
    g_max_microsiemens: float,
    dac_levels: int,
    dac_mean_square: float | Array,
    technology: Technology,
) -> Array:
    """Additive short-term noise of one matrix-vector product per column, in DAC codes; float32 [groups * columns].

    Conductances [groups, rows, columns] in microsiemens at the age of the product. ``dac_levels`` is the largest DAC
    code, ``dac_mean_square`` the image's mean of (code / largest code)^2, or that of each row. See
    :func:`pcmedge_emulator.physics.read_noise.short_term_sigma`.
    """
    sigma = short_term_sigma(total(g_plus, g_minus, g_max_microsiemens), dac_levels, dac_mean_square, technology)
    return sigma.reshape(-1)
