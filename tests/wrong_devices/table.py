"""What the suite made of the devices, as a page and as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wrong_devices.first_sight import CLOSED_BY, DID_NOT_SHOW, OTHER_RULE, WITH_ITS_CHECK, at_first

NAME = "wrong-devices"
Row = Mapping[str, Any]

_PAGE = """\
# Wrong devices

{devices} devices that break [the device contract](../device-contract.md), one fault each, before `pcmedge conformance`.
{seen} of them were written from the contract by somebody who had not seen the suite, and committed before it was
read; the others were made with the checks of their rules. They are in `tests/wrong_devices`. A device is caught if a
check of a rule that it breaks fails.

```sh
python -m tests.wrong_devices --output docs/results
```

`tests/test_wrong_devices.py` is the short form: each device with one check, and the device without a fault with all of
those.

## Result

* **At first sight** {first} of {seen} were caught, put to the rules they break. {other} more were caught by a check
  of another rule, the fault of {unseen} could not be seen (mistakes in the devices), and {holes} passed: holes of the
  suite, closed since by {checks} checks ({numbers}).
* **Now** {caught} of {devices} are caught. {whole} of these runs were of the whole suite, the others of the rules the
  device breaks.
* {about}

## Device by device

Checks in bold belong to a rule the device breaks; the others fail along with them.

| device | its fault | breaks | caught at first | failed checks |
|---|---|---|---|---|"""


def stored(folder: Path) -> list[dict[str, Any]]:
    """The rows of a table that was written before; none if there is none."""
    file = folder / f"{NAME}.json"
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["devices"] if file.exists() else []
    return found


def write(folder: Path, rows: Sequence[Row], about: str) -> None:
    data = {"about": about, "devices": list(rows)}
    (folder / f"{NAME}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(page(rows, about), encoding="utf-8")


def page(rows: Sequence[Row], about: str) -> str:
    wrong = [row for row in rows if row["breaks"]]
    caught = sum(bool(row["caught"]) for row in wrong)
    whole = sum(bool(row["whole"]) for row in wrong)
    closed = _ordered(set(CLOSED_BY.values()))
    seen = len(wrong) - len(WITH_ITS_CHECK)
    heading = _PAGE.format(
        devices=len(wrong),
        seen=seen,
        first=seen - len(CLOSED_BY) - len(OTHER_RULE) - len(DID_NOT_SHOW),
        other=len(OTHER_RULE),
        unseen=len(DID_NOT_SHOW),
        holes=len(CLOSED_BY),
        checks=len(closed),
        numbers=", ".join(closed),
        caught=caught,
        whole=whole,
        about=about,
    )
    lines = [heading]
    for row in rows:
        lines.append(
            f"| {row['device']} | {row['fault']} | {', '.join(row['breaks']) or 'nothing'} | "
            f"{at_first(row['device']) if row['breaks'] else ''} | {_failed(row)} |"
        )
    return "\n".join(lines) + "\n"


def _ordered(numbers: set[str]) -> list[str]:
    return sorted(numbers, key=lambda number: [int(part) for part in number.removeprefix("R").split(".")])


def _failed(row: Row) -> str:
    """Those of rules it breaks in bold; of the others so many as fit."""
    others = [number for number in row["failed"] if number not in row["by"]]
    shown = [f"**{number}**" for number in _ordered(set(row["by"]))] + others[:6]
    return ", ".join(shown) + (f" and {len(others) - 6} more" if len(others) > 6 else "") or "none"
