"""The table of promises: each check of the suite with its number, its sentence and the capabilities it needs.

Numbers are those of docs/device-contract.md: check ``R7.3`` is the third way in which rule 7 is tested. They are
stable: a check that goes leaves its number unused. ``tests/test_conformance_docs.py`` compares the page with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.conformance.bench import Bench

Check = Callable[["Bench"], None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One promise. ``needs``: capabilities without which it does not apply. ``changes``: it changes the device.

    ``restarts``: it needs a way to restart the device.
    """

    number: str
    text: str
    area: str
    needs: tuple[str, ...]
    changes: bool
    restarts: bool
    check: Check

    @property
    def order(self) -> tuple[int, int]:
        return _order(self.number)


def _order(number: str) -> tuple[int, int]:
    rule, _, part = number.removeprefix("R").partition(".")
    return int(rule), int(part or 0)


_RULES: dict[str, Rule] = {}


def rule(number: str, text: str, *needs: str, changes: bool = True, restarts: bool = False) -> Callable[[Check], Check]:
    """Registers a check under its number.

    A check returns if the device keeps the promise, and raises :class:`~pcmedge.conformance.expecting.Broken` or
    :class:`~pcmedge.conformance.expecting.NotApplicable`.
    """

    def register(check: Check) -> Check:
        if number in _RULES or not re.fullmatch(r"R[1-9]\d*\.[1-9]\d*", number):
            raise ValueError(f"the number {number} of {check.__qualname__} is taken, or none")
        area = check.__module__.rpartition(".")[2]
        _RULES[number] = Rule(
            number=number, text=text, area=area, needs=needs, changes=changes, restarts=restarts, check=check
        )
        return check

    return register


def all_rules() -> tuple[Rule, ...]:
    """Every check, by number; those that restart the device last, so that a device that stays away spoils no other."""
    from pcmedge.conformance import areas

    areas.load()
    return tuple(sorted(_RULES.values(), key=lambda found: (found.restarts, found.order)))


def chosen_rules(numbers: tuple[str, ...]) -> tuple[Rule, ...]:
    """The checks of rules such as ``R12`` and single ones such as ``R12.2``; all of them for none.

    InputValueError for a number that no check has.
    """
    rules = all_rules()
    if not numbers:
        return rules
    chosen = []
    for number in numbers:
        wanted = number.upper() if number.upper().startswith("R") else f"R{number}"
        found = [each for each in rules if each.number == wanted or each.number.startswith(f"{wanted}.")]
        if not found:
            known = sorted({each.order[0] for each in rules})
            raise InputValueError(
                f"no check has the number {number!r}; expected R and the number of a rule of the device contract, such "
                f"as R12, or of one check, such as R12.2. Rules with checks: {', '.join(f'R{n}' for n in known)}",
                rule=number,
            )
        chosen += found
    return tuple(each for each in rules if each in chosen)
