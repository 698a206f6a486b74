"""The faults of a chip however they are given: rates, a list of faults, text, or a JSON file of either."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pcmedge.device.results import Fault
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError
from pcmedge.image.fault_rates import FaultRates, parse_rates, rates_from

Given = str | os.PathLike[str] | Mapping[str, float] | FaultRates | Sequence[Fault]
"""``"dead-column=0.1,stuck-at-random=0.001"`` or ``"none"``; a .json file; rates by kind; or a list of faults."""

Found = FaultRates | tuple[Fault, ...]


def given_faults(given: Given) -> Found:
    """Rates or faults. A file holds a JSON object of rates by kind, or a list of faults with the fields of ``Fault``
    (also as ``{"faults": [...]}``, as ``pcmedge lab faults list --json`` prints them).

    Raises FileMissingError, InputTypeError, InputValueError.
    """
    if isinstance(given, FaultRates):
        return given
    if isinstance(given, str) and not given.endswith(".json"):
        return parse_rates(given)
    if isinstance(given, str | os.PathLike):
        return _from_document(read_document(Path(given)), f"{given}: ")
    if isinstance(given, Mapping):
        return rates_from(given)
    if isinstance(given, Sequence):
        listed = tuple(each for each in given if isinstance(each, Fault))
        if len(listed) == len(given):
            return listed
    raise InputTypeError(
        "faults are given as text (KIND=RATE,...), the path of a .json file, rates by kind, or a list of "
        f"pcmedge.device.Fault; found {given!r}",
        argument="faults",
    )


def read_document(path: Path) -> Any:
    """The JSON of a file. FileMissingError, InputValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise FileMissingError(f"cannot read the faults in {path}: {problem.strerror}", path=path) from problem
    except ValueError as problem:
        raise InputValueError(f"the faults in {path} are not JSON: {problem}", path=path) from problem


def _from_document(document: Any, where: str) -> Found:
    listed = document.get("faults") if isinstance(document, dict) and "faults" in document else document
    if isinstance(listed, list):
        return faults_from(listed, where)
    if isinstance(document, dict):
        return rates_from(document)
    raise InputValueError(f"{where}expected an object of rates by kind, or a list of faults; found {document!r}")


def faults_from(listed: Iterable[Any], where: str = "") -> tuple[Fault, ...]:
    """Faults from objects with the fields of ``Fault``; ``number`` is the device's and is left out. InputValueError."""
    kinds = {field.name: type(field.default) for field in fields(Fault) if field.name not in ("kind", "tile", "number")}
    kinds |= {"kind": str, "tile": int}
    found = []
    for each in listed:
        wanted = {name: value for name, value in each.items() if name != "number"} if isinstance(each, dict) else {}
        right = all(_is(value, kinds.get(name)) for name, value in wanted.items())
        if not ({"kind", "tile"} <= wanted.keys() and right):
            raise InputValueError(
                f"{where}a fault is an object with kind and tile, and may have {', '.join(list(kinds)[:-2])}; found "
                f"{each!r}"
            )
        found.append(Fault(**wanted))
    return tuple(found)


def _is(value: Any, kind: type | None) -> bool:
    if kind is None or (isinstance(value, bool) and kind is not bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)
