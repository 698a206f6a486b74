"""docs/device-contract.md says everything a client may rely on: reasons with their status and class, capabilities."""

from __future__ import annotations

import re
from pathlib import Path

from pcmedge.errors import Error
from pcmedge_emulator.capabilities import CAPABILITIES, LAB_CAPABILITIES, TURBO_CAPABILITY

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "device-contract.md").read_text(encoding="utf-8")


def kinds(root: type[Error] = Error) -> list[type[Error]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def test_every_reason_is_in_the_table_with_its_status_and_class() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| `(\w+)` \| .+ \|$", PAGE, re.MULTILINE))
    defined = {(kind.reason, kind.status, kind.__name__) for kind in kinds()[1:] if kind.__module__ == "pcmedge.errors"}
    assert rows == defined


def test_every_capability_is_in_the_table() -> None:
    table = PAGE.split("## Capabilities")[1].split("## ")[0]
    documented: set[str] = set()
    for line in table.splitlines():
        cells = line.split("|")
        if len(cells) > 2:
            documented |= set(re.findall(r"`([a-z.-]+)`", cells[1]))
    assert documented == {*CAPABILITIES, *LAB_CAPABILITIES, TURBO_CAPABILITY, "lab.temperature"}


def test_rules_are_numbered_without_gaps() -> None:
    rules = PAGE.split("## Rules")[1].split("## Reasons")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20
