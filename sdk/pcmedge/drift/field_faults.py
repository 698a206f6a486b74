"""Faults that appear while a chip is in the field: at given ages, or at rates per year."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcmedge.device.given_faults import faults_from, read_document
from pcmedge.device.results import Fault
from pcmedge.durations import UNITS_S, format_duration, parse_duration
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge.image.fault_rates import KINDS, FaultRates, parse_rates, rates_from


@dataclass(frozen=True, kw_only=True)
class FieldFaults:
    """``per_year``: what appears in a year of 365 days, on every tile of the chip, used or not. ``at``: rates that
    appear at once, by age in seconds. ``listed``: single faults, with the age at which each appears.
    """

    per_year: FaultRates = field(default_factory=FaultRates)
    at: tuple[tuple[float, FaultRates], ...] = ()
    listed: tuple[tuple[float, Fault], ...] = ()

    def __str__(self) -> str:
        """What :func:`field_faults` reads, single faults as their number; "none" without any."""
        parts = [f"{kind}={rate!r}/y" for kind, rate in self.per_year.by_kind().items()]
        for at_s, rates in self.at:
            when = f"@{format_duration(at_s)}" if at_s else ""
            parts += [f"{kind}={rate!r}{when}" for kind, rate in rates.by_kind().items()]
        return ",".join([*parts, *([f"{len(self.listed)} listed"] if self.listed else [])]) or "none"

    def rates(self, after_s: float, until_s: float) -> tuple[FaultRates, ...]:
        """What appears at random after one age and up to another; a chip's life begins after -1."""
        growing = self.per_year.times((until_s - max(0.0, after_s)) / UNITS_S["y"])
        return tuple(each for each in (growing, *(r for at_s, r in self.at if after_s < at_s <= until_s)) if each)

    def faults(self, after_s: float, until_s: float) -> tuple[Fault, ...]:
        """The single faults that appear after one age and up to another."""
        return tuple(fault for at_s, fault in self.listed if after_s < at_s <= until_s)


def field_faults(given: str | os.PathLike[str] | FieldFaults) -> FieldFaults:
    """From ``KIND=RATE/y`` (per year), ``KIND=RATE@AGE`` and ``KIND=RATE`` (from the start), comma-separated, or a JSON
    file: ``{"per_year": {KIND: RATE}, "at": {AGE: {KIND: RATE}}, "faults": [{"kind": ..., "tile": ..., "at": AGE}]}``.

    Raises FileMissingError, InputTypeError, InputValueError.
    """
    if isinstance(given, FieldFaults):
        return given
    if isinstance(given, str) and not given.endswith(".json"):
        return _from_text(given)
    if isinstance(given, str | os.PathLike):
        return _from_document(read_document(Path(given)), Path(given))
    raise InputTypeError(f"expected faults as text or the path of a .json file, found {given!r}", argument="faults")


def _from_text(text: str) -> FieldFaults:
    growing: list[str] = []
    at: dict[float, list[str]] = {}
    for part in () if text.strip() == "none" else text.split(","):
        what, sign, age = part.partition("@")
        if not sign and what.strip().endswith("/y"):
            growing.append(what.strip().removesuffix("/y"))
        else:
            at.setdefault(parse_duration(age) if sign else 0.0, []).append(what)
    return FieldFaults(
        per_year=parse_rates(",".join(growing) or "none"),
        at=tuple((at_s, parse_rates(",".join(at[at_s]))) for at_s in sorted(at)),
    )


def _from_document(document: Any, path: Path) -> FieldFaults:
    parts = {"per_year": dict, "at": dict, "faults": list}
    if not isinstance(document, dict) or any(
        name not in parts or not isinstance(value, parts[name]) for name, value in document.items()
    ):
        raise InputValueError(
            f"{path}: expected an object with per_year (rates by kind), at (rates by kind, by age) and faults (a "
            f"list), found {document!r}. Kinds are {', '.join(KINDS)}",
            path=path,
        )
    return FieldFaults(
        per_year=rates_from(document.get("per_year", {})),
        at=_at(document.get("at", {}), path),
        listed=_listed(document.get("faults", ()), path),
    )


def _at(by_age: Mapping[str, Any], path: Path) -> tuple[tuple[float, FaultRates], ...]:
    found = []
    for age, rates in by_age.items():
        if not isinstance(rates, Mapping):
            raise InputValueError(f"{path}: at {age}: expected rates by kind, found {rates!r}", path=path)
        found.append((parse_duration(age), rates_from(rates)))
    return tuple(sorted(found, key=lambda pair: pair[0]))


def _listed(listed: Sequence[Any], path: Path) -> tuple[tuple[float, Fault], ...]:
    found: list[tuple[float, Fault]] = []
    for each in listed:
        rest = dict(each) if isinstance(each, dict) else {}
        at_s = parse_duration(rest.pop("at", 0.0))
        found += [(at_s, fault) for fault in faults_from([rest], f"{path}: ")]
    return tuple(sorted(found, key=lambda pair: pair[0]))
