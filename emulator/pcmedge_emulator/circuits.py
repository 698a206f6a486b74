"""How a chip reads its tiles: its technology, and the engine, converters, noise and arithmetic it was asked to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pcmedge.errors import InputValueError

from pcmedge_emulator.arguments import one_of, whole
from pcmedge_emulator.crossbar.faults import NO_FAULTS, TileFaults
from pcmedge_emulator.engine import Precision, available_cores, default_threads
from pcmedge_emulator.physics.technology import Technology

EngineKind = Literal["fast", "reference"]
Converters = Literal["profile", "ideal"]
ReadNoise = Literal["off", "additive", "input-dependent"]

MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Circuits:
    """How the chip reads its tiles: the same for every resident image. ``faults``: by physical tile."""

    technology: Technology
    engine: EngineKind = "fast"
    converters: Converters = "profile"
    read_noise: ReadNoise = "additive"
    precision: Precision = "exact"
    threads: int = 1
    faults: Mapping[int, TileFaults] = field(default_factory=dict, compare=False, repr=False)

    @property
    def noisy(self) -> bool:
        """Whether a matrix-vector product draws noise of its own."""
        return self.read_noise != "off" and self.technology.short_term_noise > 0.0

    def faults_of(self, physical: int) -> TileFaults:
        return self.faults.get(physical, NO_FAULTS)


def circuits_of(
    *, engine: str, converters: str, read_noise: str, precision: str, threads: int | None
) -> Callable[[Technology], Circuits]:
    """What was asked for, once the technology is known. ``threads`` None: half of the processors, at most 8.

    InputTypeError, InputValueError for what there is not, and for turbo where there is none.
    """
    engines: tuple[EngineKind, ...] = ("fast", "reference")
    conversions: tuple[Converters, ...] = ("profile", "ideal")
    noises: tuple[ReadNoise, ...] = ("additive", "off", "input-dependent")
    chosen, conversion = one_of("engine", engine, engines), one_of("converters", converters, conversions)
    noise = one_of("read_noise", read_noise, noises)
    arithmetic = _checked_precision(precision, chosen, conversion)
    at_once = default_threads(available_cores()) if threads is None else whole("threads", threads, 1, MOST_THREADS)

    def circuits(technology: Technology) -> Circuits:
        return Circuits(
            technology=technology,
            engine=chosen,
            converters=conversion,
            read_noise=noise,
            precision=arithmetic,
            threads=at_once,
        )

    return circuits


def _checked_precision(precision: str, engine: EngineKind, converters: Converters) -> Precision:
    precisions: tuple[Precision, ...] = ("exact", "turbo")
    chosen = one_of("precision", precision, precisions)
    if chosen == "turbo" and (engine != "fast" or converters == "ideal"):
        raise InputValueError(
            f"precision 'turbo' multiplies converter codes in the fast engine; expected engine 'fast' and converters "
            f"'profile', found {engine!r} and {converters!r}. Leave precision at 'exact'."
        )
    return chosen
